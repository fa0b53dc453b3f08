"""The forward pass of a network, with the chosen precision, and compiled if that is worthwhile and
gives the same features."""

import contextlib
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reelbank.data.console import print_lines
from reelbank.data.errors import InputError
from reelbank.data.system.allocator import keep_freed_memory
from reelbank.extract.networks.build import Network
from reelbank.extract.networks.fused import is_mostly_fused
from reelbank.extract.networks.module import Pixels, relative_difference

# Compilation takes half a minute or more, which pays off only for large jobs.
COMPILE_FROM_INPUTS = 20_000
# Difference between compiled and eager features, relative to their norm, that the order of fp32
# sums explains. Errors in compiled code are much larger.
LARGEST_ERROR = 1e-4
TRIALS = 3  # batches that are timed with and without the compiler; the fastest of each counts
NOISE_INPUTS = 8  # number of inputs from which the rounding error of a precision is measured
PRECISIONS = {"fp32": None, "tf32": None, "fp16": torch.float16, "bf16": torch.bfloat16}


def allow_tf32(allowed: bool) -> None:
    """Set whether an NVIDIA GPU may round the factors of fp32 products to the 10 bits of TF32.
    torch allows it by default in convolutions and recurrent layers, but not in matrix products."""
    with warnings.catch_warnings():
        # torch 2.9 recommends newer flags that its compiler does not support yet.
        warnings.simplefilter("ignore")
        torch.backends.cudnn.allow_tf32 = allowed
        torch.backends.cuda.matmul.allow_tf32 = allowed


def check_precision(precision: str, device: torch.device) -> None:
    """Raises InputError for a precision that the device does not have."""
    if precision != "tf32":
        return
    if device.type != "cuda":
        raise InputError(
            "PRECISION=tf32: needs an NVIDIA GPU (got DEVICE=cpu); give PRECISION=fp32, or "
            "DEVICE=cuda"
        )
    if torch.cuda.get_device_capability(device) < (8, 0):
        name = torch.cuda.get_device_name(device)
        raise InputError(
            f"PRECISION=tf32: needs a GPU of compute capability 8.0 or more (got {name}); "
            "give PRECISION=fp32"
        )


@contextlib.contextmanager
def _tf32() -> Iterator[None]:
    allow_tf32(True)
    try:
        yield
    finally:
        allow_tf32(False)


@dataclass(frozen=True)
class Comparison:
    """Relative differences between the features of a batch, the largest of all nodes. difference:
    between compiled and eager mode; rounding: between eager mode and fp32."""

    difference: float
    rounding: float

    @property
    def is_equal(self) -> bool:
        """Whether compiled and eager features are equal at their precision. Each of them may differ
        from fp32 by its rounding error, and compiled code rounds at other places. False for NaN."""
        return self.difference < LARGEST_ERROR + 2 * self.rounding


def compare(
    compiled: Sequence[Tensor], eager: Sequence[Tensor], fp32: Sequence[Tensor]
) -> Comparison:
    """Compare features (B, ...) of each node. fp32: those of the first n <= B inputs, eager."""
    first = [features[: len(exact)] for features, exact in zip(eager, fp32, strict=True)]
    return Comparison(relative_difference(compiled, eager), relative_difference(first, fp32))


class Forward:
    """Network inputs (B, ...) on the device -> tuple of (B, ...), one per node. inputs: the
    expected number of inputs of the whole job."""

    def __init__(
        self, network: Network, precision: str, compile: str, device: torch.device, inputs: int
    ) -> None:
        check_precision(precision, device)
        self.module, self.device = network.module.to(device), device
        if device.type == "cpu":
            keep_freed_memory()
            if precision == "fp32":
                self.module = network.cpu_module
        self.dtype = PRECISIONS[precision]
        self.precision, self.rounding = (
            precision,
            _tf32 if precision == "tf32" else contextlib.nullcontext,
        )
        compiling = compile == "1" or (compile == "auto" and self._may_pay(inputs))
        compiling = compiling and not isinstance(self.module, Pixels)
        self.compiled: Callable | None = torch.compile(network.module) if compiling else None
        self.checked = False
        # A GPU computes while this process goes on, so its batches are not timed.
        self.is_on_trial = compiling and compile == "auto" and device.type == "cpu"
        self.seconds: dict[bool, list[float]] = {True: [], False: []}  # by whether it is compiled

    def _may_pay(self, inputs: int) -> bool:
        """Whether compiling may make up for its time. On a CPU, fused convolutions are faster than
        compiled ones (docs/performance.md)."""
        if inputs < COMPILE_FROM_INPUTS:
            return False
        if self.device.type == "cuda":
            return True
        able = bool(shutil.which("g++") or shutil.which("clang++"))
        return able and not is_mostly_fused(self.module)

    def __call__(self, inputs: Tensor) -> tuple[Tensor, ...]:
        with torch.inference_mode():
            if self.compiled is None:
                return self._rounded(self.module, inputs)
            if not self.checked:
                self.checked = True
                return self._check(inputs)
            if self.is_on_trial:
                return self._try(inputs)
            return self._rounded(self.compiled, inputs)

    def _try(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Run and time batches with and without the compiler in turn, and then keep what was
        faster."""
        assert self.compiled is not None
        is_compiled = len(self.seconds[True]) <= len(self.seconds[False])
        started = time.perf_counter()
        features = self._rounded(self.compiled if is_compiled else self.module, inputs)
        self.seconds[is_compiled].append(time.perf_counter() - started)
        if len(self.seconds[False]) == TRIALS:
            self.is_on_trial = False
            if min(self.seconds[True]) >= min(self.seconds[False]):
                self.compiled = None
        return features

    def _rounded(self, module: Callable, inputs: Tensor) -> tuple[Tensor, ...]:
        """The features with the chosen precision."""
        with self.rounding():
            if self.dtype is None:
                return module(inputs)
            with torch.autocast(self.device.type, self.dtype):
                return module(inputs)

    def _check(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Run the first batch compiled and in eager mode. Compiled code is dropped if it fails or
        its features differ by more than the precision explains."""
        eager = self._rounded(self.module, inputs)
        assert self.compiled is not None
        try:
            compiled = self._rounded(self.compiled, inputs)
        except Exception as error:  # noqa: BLE001 - the compiler and its backends raise anything
            print_lines(
                f"torch.compile failed ({str(error).strip().splitlines()[0]}); the network "
                "runs without it"
            )
            self.compiled = None
            return eager
        first = tuple(features[:NOISE_INPUTS] for features in eager)
        fp32 = first if self.precision == "fp32" else self.module(inputs[:NOISE_INPUTS])
        comparison = compare(compiled, eager, fp32)
        if not comparison.is_equal:
            also = ""
            if self.precision != "fp32":
                also = f" ({self.precision} itself changes them by {comparison.rounding:.1e})"
            print_lines(
                f"torch.compile changes features by {comparison.difference:.1e}{also}; the network "
                "runs without it"
            )
            self.compiled = None
        return eager
