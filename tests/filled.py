"""Weights and inputs computed by a fixed rule, so that other code and ours can use the same values
without a file of them. tests/references/<net>.json contains the names and shapes of the public
code's state dict (where it is public) and that network's output when it is filled by this rule and
given this input."""

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

REFERENCES = Path(__file__).parent / "references"


def filled(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """A state dict: each entry from a generator seeded by its name's CRC-32, of a size that keeps
    activations alive."""
    return {name: _entry(name, shapes[name]) for name in sorted(shapes)}


def _entry(name: str, shape: list[int]) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    values = np.random.RandomState(zlib.crc32(name.encode())).uniform(
        -1, 1, shape
    )  # the same in all versions of numpy
    if len(shape) > 1:
        values *= np.sqrt(6 / np.prod(shape[1:]))  # variance 2 / fan-in
    elif name.endswith(("running_var", "weight")):  # of batch norm: about 1
        values = 1 + values / 2
    else:
        values *= 0.1
    return torch.from_numpy(values).float()


def pixels(*shape: int) -> Tensor:
    """An input, uniform in [-1, 1)."""
    return torch.from_numpy(np.random.RandomState(0).uniform(-1, 1, shape)).float()


def sample(values: Tensor) -> list[float]:
    """32 evenly taken values, and the norm of all."""
    flat = values.detach().double().flatten()
    return [*flat[np.linspace(0, len(flat) - 1, 32).astype(int)].tolist(), flat.norm().item()]


def reference(net: str) -> dict:
    return json.loads((REFERENCES / f"{net}.json").read_text())
