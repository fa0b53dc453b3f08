"""The forward pass of a network, with the chosen precision, and compiled if that is worthwhile and
gives the same features."""

import contextlib
import shutil
import warnings
from collections.abc import Callable, Iterator

import torch

from reelbank.data.console import print_lines
from reelbank.data.errors import InputError
from reelbank.extract.networks.build import Network
from reelbank.extract.networks.module import Pixels

# Compilation takes half a minute or more, which pays off only for large jobs.
COMPILE_FROM_INPUTS = 20_000
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


class Forward:
    """Network inputs (B, ...) on the device -> tuple of (B, ...), one per node. inputs: the
    expected number of inputs of the whole job."""

    def __init__(
        self, network: Network, precision: str, compile: str, device: torch.device, inputs: int
    ) -> None:
        self.module, self.device = network.module.to(device), device
        check_precision(precision, device)
        self.dtype = PRECISIONS[precision]
        self.precision, self.rounding = (
            precision,
            _tf32 if precision == "tf32" else contextlib.nullcontext,
        )
        able = device.type == "cuda" or bool(shutil.which("g++") or shutil.which("clang++"))
        compiling = compile == "1" or (compile == "auto" and inputs >= COMPILE_FROM_INPUTS and able)
        compiling = compiling and not isinstance(self.module, Pixels)
        self.compiled: Callable | None = torch.compile(self.module) if compiling else None
        self.checked = False

    def __call__(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        autocast = torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None)
        with torch.inference_mode(), self.rounding(), autocast:
            if self.compiled is None:
                return self.module(inputs)
            if not self.checked:
                self.checked = True
                return self._check(inputs)
            return self.compiled(inputs)

    def _check(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run the first batch compiled and in eager mode. Compiled code is dropped if it fails or
        its features differ."""
        eager = self.module(inputs)
        assert self.compiled is not None
        try:
            compiled = self.compiled(inputs)
        except Exception as error:  # noqa: BLE001 - the compiler and its backends raise anything
            print_lines(
                f"torch.compile failed ({str(error).strip().splitlines()[0]}); the network "
                "runs without it"
            )
            self.compiled = None
            return eager
        off = max(
            ((a - b).norm() / b.norm().clamp_min(1e-12)).item()
            for a, b in zip(compiled, eager, strict=True)
        )
        if not off < (1e-4 if self.precision == "fp32" else 1e-2):
            print_lines(f"torch.compile changes features by {off:.1e}; the network runs without it")
            self.compiled = None
        return eager
