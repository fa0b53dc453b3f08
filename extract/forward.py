"""The network's forward pass as asked: precision, and compiled where that pays and agrees with eager."""

import shutil
from collections.abc import Callable

import torch

from reelbank.data.errors import InputError
from reelbank.extract.networks import Network, Pixels

COMPILE_FROM_INPUTS = 20_000  # compiling costs half a minute or more
PRECISIONS = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}


class Forward:
    """Network inputs (B, ...) on the device -> tuple of (B, ...), one per node. `inputs`: how many there will be in all."""

    def __init__(self, network: Network, precision: str, compile: str, device: torch.device, inputs: int) -> None:
        self.module, self.device = network.module.to(device), device
        self.dtype = PRECISIONS[precision]
        able = device.type == "cuda" or bool(shutil.which("g++") or shutil.which("clang++"))
        compiling = compile == "1" or (compile == "auto" and inputs >= COMPILE_FROM_INPUTS and able)
        compiling = compiling and not isinstance(self.module, Pixels)
        self.compiled: Callable | None = torch.compile(self.module) if compiling else None
        self.checked = False

    def __call__(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.inference_mode(), torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
            try:
                if self.compiled is None:
                    return self.module(inputs)
                if not self.checked:
                    self.checked = True
                    return self._check(inputs)
                return self.compiled(inputs)
            except torch.OutOfMemoryError as error:
                raise InputError(f"BATCH: {len(inputs)} network inputs do not fit the GPU's memory; give fewer") from error

    def _check(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The first batch both ways; compiled code that differs, or does not compile, is not used."""
        eager = self.module(inputs)
        assert self.compiled is not None
        try:
            compiled = self.compiled(inputs)
        except Exception as error:  # noqa: BLE001 - the compiler and its backends raise anything
            print(f"torch.compile failed ({str(error).strip().splitlines()[0]}); going on without it")
            self.compiled = None
            return eager
        off = max(((a - b).norm() / b.norm().clamp_min(1e-12)).item() for a, b in zip(compiled, eager, strict=True))
        if not off < (1e-4 if self.dtype is None else 1e-2):
            print(f"torch.compile gives features {off:.1e} off; going on without it")
            self.compiled = None
        return eager
