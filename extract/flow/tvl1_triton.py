"""TV-L1 optical flow on a GPU with fused Triton kernels.

tvl1.py is the reference: it computes the same flow with torch's own operations, of which an inner
iteration takes 36 that move 568 bytes per pixel. Here an inner iteration is two kernels that move
84 bytes per pixel (tvl1_kernels.py), and the host does not wait for an iteration: each item has a
flag on the device, and the kernels skip items that have stopped.

The kernels repeat the operations of tvl1.py in the same order and with the same roundings, except
that the length of a gradient is a rounded root of a rounded sum. Their flow is within 0.02 px of
the reference on average, and for most pictures equal to the last bits.

Triton is part of torch's CUDA wheel. It compiles the kernels when they are first used, which takes
some seconds, and keeps them in its cache folder. The speed on a GPU has not been measured yet. To
compare, time `tvl1` and `fused_tvl1` with the same pictures on a GPU, as benchmarks/tvl1.py does.

Without a GPU, Triton's interpreter can run the kernels on the CPU, very slowly, for tests: set
TRITON_INTERPRET=1 before this process imports triton.
"""

import contextlib
import functools
import importlib.util
import math
import os
from collections import Counter
from typing import Any

import torch
from torch import Tensor

from reelbank.data.console import print_lines
from reelbank.extract.flow.tvl1 import Tvl1, coarse_to_fine, enough, grey_floats, tvl1
from reelbank.extract.flow.warp import with_slopes

TOLERANCE_PX = 0.02  # largest mean difference from the reference
# Stores do not record which implementation computed the flow, so the kernels are used only if they
# compute the same flow up to rounding. A grey level of stored flow is 0.16 px. In few iterations,
# roundings amount to 0.00001 px.
_CHECKED_PX = 0.001
# Number of launches of each kernel since the process began. Every launch is counted.
LAUNCHES: Counter[str] = Counter()
# Pixels of one program. A program has 128 threads, and the kernels of the second kind need many
# registers per pixel.
_ITERATION_BLOCK, _WINDOW_BLOCK = 512, 256
_WARPS_OF_THREADS = 4
# After so many inner iterations, the host asks whether any item continues.
_ASKED_ITERATIONS = 10


def tvl1_on_device(first: Tensor, second: Tensor, parameters: Tvl1 = Tvl1()) -> Tensor:  # noqa: B008 - frozen
    """`fused_tvl1` on a GPU that can run the kernels, otherwise `tvl1`; both take and return the
    same. If a GPU cannot run them, one line is printed that says why."""
    device = first.device
    if device.type == "cuda" and first.numel() and _is_fused(device):
        return fused_tvl1(first, second, parameters)
    return tvl1(first, second, parameters)


def fused_tvl1(first: Tensor, second: Tensor, parameters: Tvl1 = Tvl1()) -> Tensor:  # noqa: B008 - frozen
    """The flow of `tvl1`, computed with the Triton kernels.

    first, second: as for `tvl1`, on a GPU; on the CPU only under TRITON_INTERPRET=1

    Raises ImportError without triton, and ValueError for pictures that `tvl1` rejects and for
    pictures on a CPU without the interpreter.
    """
    if first.device.type == "cpu" and not _is_interpreted():
        raise ValueError(
            "pictures must be on a GPU, or TRITON_INTERPRET=1 must be set (got pictures on the CPU)"
        )
    with torch.inference_mode(), _made_current(first.device):
        a, b = grey_floats(first, second)
        if not a.numel():
            return a.new_zeros(len(a), 2, *a.shape[1:])
        return coarse_to_fine(
            a, b, parameters, lambda pictures, flow: _Scale(pictures, flow, parameters).solved()
        )


@functools.cache
def why_not_fused(device: torch.device) -> str:
    """Why a GPU cannot run the kernels, or "" if it can. The kernels are compiled, run, and compared
    with the reference on two small pairs of pictures, once per process and device."""
    if importlib.util.find_spec("triton") is None:
        return "the package triton, which is part of torch's CUDA wheel, is not installed"
    if _is_interpreted():
        return "TRITON_INTERPRET is set, with which Triton computes on the CPU"
    parameters = Tvl1(scales=2, warps=2, outer_iterations=2, inner_iterations=4)
    first, second = (pictures.to(device) for pictures in _small_pictures())
    try:
        flow = fused_tvl1(first, second, parameters)
    except Exception as error:  # noqa: BLE001 - the compiler and the driver raise anything
        lines = str(error).strip().splitlines() or [""]
        return f"Triton cannot run them here ({type(error).__name__}: {lines[0]})"
    difference = (flow - tvl1(first, second, parameters)).abs().max().item()
    if not difference <= _CHECKED_PX:
        return f"on this GPU their flow differs from that of torch by {difference:.2g} px"
    return ""


@functools.cache
def _is_fused(device: torch.device) -> bool:
    reason = why_not_fused(device)
    if reason:
        print_lines(
            f"note: TV-L1 on {device} runs without its Triton kernels, which is slower: {reason}",
            flush=True,
        )
    return not reason


def _is_interpreted() -> bool:
    """Whether Triton's interpreter is switched on."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "on", "yes", "y")


def _made_current(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Triton launches on the current device, which need not be that of the pictures."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def _small_pictures() -> tuple[Tensor, Tensor]:
    """Two pairs of uint8 pictures (2, 24, 40): one with motion, one without."""
    y, x = torch.arange(24.0).view(-1, 1), torch.arange(40.0)
    first, second = (
        (127 + 60 * torch.sin((x + dx) / 3) * torch.cos(y / 4) + 50 * torch.sin((x + dx - y) / 5))
        for dx in (0.0, 1.0)
    )
    return torch.stack((first, first)).to(torch.uint8), torch.stack((second, first)).to(torch.uint8)


def _launch(kernel: Any, pixels: int, planes: int, block: int, /, **arguments: Any) -> None:
    """Run a kernel on planes of pixels, in programs of `block` pixels. All launches happen here."""
    kernel[(math.ceil(pixels / block), planes)](
        **arguments, BLOCK=block, num_warps=_WARPS_OF_THREADS, enable_fp_fusion=False
    )
    LAUNCHES[kernel.fn.__name__] += 1


class _Scale:
    """One pyramid level of n items. tvl1_kernels.py describes the arrays."""

    def __init__(self, pictures: Tensor, flow: Tensor, of: Tvl1) -> None:
        n, _, h, w = pictures.shape
        size, new = h * w, pictures.new_empty
        self.of, self.n, self.h, self.w, self.size = of, n, h, w, size
        self.first, self.planes = pictures[:, 0].contiguous(), with_slopes(pictures[:, 1])
        # Two flows, because the median filter cannot work in place: the flow and its next memory.
        self.flow = flow.contiguous()
        self.other_flow = torch.empty_like(self.flow)
        self.dual, self.terms = pictures.new_zeros(n, 2, 2, size), new(n, 3, size)
        # An iteration reads the first flags and writes the second ones.
        self.live, self.live_after = new(n, dtype=torch.int32), new(n, dtype=torch.int32)
        blocks = math.ceil(size / _ITERATION_BLOCK)
        self.moved = new(n, blocks, dtype=torch.float64)
        self.enough = enough(of, h, w)

    def solved(self) -> Tensor:
        """The flow of this level, (n, 2, h, w)."""
        for _ in range(self.of.warps):
            self._linearise()
            self._iterate()
        return self.flow

    def _iterate(self) -> None:
        """Outer and inner iterations until all items have stopped. The host asks only now and then,
        and it reads an answer only after it has launched the iterations that follow the question.
        So the GPU always has work, and at most 20 iterations are launched in vain."""
        of, answer = self.of, None
        for outer in range(of.outer_iterations):
            if of.median_px:
                self._filter()
            for inner in range(1, of.inner_iterations + 1):
                self._step()
                if (outer * of.inner_iterations + inner) % _ASKED_ITERATIONS == 0:
                    if answer is not None and not answer.any():
                        return
                    answer = _Answer(self.live)

    def _linearise(self) -> None:
        _launch(
            _kernels().linearise,
            self.size,
            self.n,
            _WINDOW_BLOCK,
            flow=self.flow,
            first=self.first,
            planes=self.planes,
            terms=self.terms,
            live=self.live,
            w=self.w,
            h=self.h,
        )

    def _filter(self) -> None:
        _launch(
            _kernels().median,
            self.size,
            2 * self.n,
            _WINDOW_BLOCK,
            flow=self.flow,
            filtered=self.other_flow,
            live=self.live,
            w=self.w,
            h=self.h,
        )
        self.flow, self.other_flow = self.other_flow, self.flow

    def _step(self) -> None:
        """One inner iteration."""
        of, kernels = self.of, _kernels()
        _launch(
            kernels.primal,
            self.size,
            self.n,
            _ITERATION_BLOCK,
            flow=self.flow,
            dual=self.dual,
            terms=self.terms,
            live=self.live,
            moved=self.moved,
            w=self.w,
            size=self.size,
            theta=of.theta,
            limit=of.lambda_ * of.theta,
        )
        _launch(
            kernels.dual_step,
            self.size,
            self.n,
            _ITERATION_BLOCK,
            flow=self.flow,
            dual=self.dual,
            live=self.live,
            live_after=self.live_after,
            moved=self.moved,
            w=self.w,
            size=self.size,
            ratio=of.tau / of.theta,
            enough=self.enough,
        )
        self.live, self.live_after = self.live_after, self.live


class _Answer:
    """Whether any item continues: a copy of the flags that the GPU makes when it gets there."""

    def __init__(self, live: Tensor) -> None:
        self.live = live.to("cpu", non_blocking=True)
        self.copied: torch.cuda.Event | None = None
        if live.device.type == "cuda":
            self.copied = torch.cuda.Event(blocking=True)  # the waiting thread sleeps
            self.copied.record()

    def any(self) -> bool:
        if self.copied is not None:
            self.copied.synchronize()
        return bool(self.live.any())


@functools.cache
def _kernels() -> Any:
    # Imported when it is needed: triton may be missing, and its import takes time.
    from reelbank.extract.flow import tvl1_kernels

    return tvl1_kernels
