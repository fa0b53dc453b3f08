"""Resize uint8 pictures on any device with the integer arithmetic of torch's CPU code (see
`in_decoders.filters`), so that a GPU gives the same bytes, by few operations.

torch has no such code for GPUs; there, torchvision resizes in float32, and about one pixel in ten
differs by a grey level.
"""

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reelbank.extract.in_decoders.filters import filter_of
from reelbank.extract.pipeline.copying import on_device

# Old pixels, weighted, that are in memory at the same time. Pictures of 8K have ten times as many.
_MOST_BYTES = 256 << 20


@dataclass(frozen=True)
class _Axis:
    """A Filter on a device. indices: (taps, new side) int64; weights: (taps, new side, 1); half:
    (taps, 1, 1), which is a half for the first tap only."""

    indices: Tensor
    weights: Tensor
    half: Tensor
    overshoots: bool


def resize_exactly(
    pictures: Tensor, size_px: tuple[int, int], interpolation: str, antialias: bool
) -> Tensor:
    """(..., H, W) uint8 -> (..., *size_px) uint8, equal to `torch.nn.functional.interpolate` of
    uint8 on the CPU.

    interpolation: "bilinear", "bicubic" or "nearest", which is never antialiased.
    """
    for dim, new_px in ((-1, size_px[1]), (-2, size_px[0])):
        old_px = pictures.shape[dim]
        if old_px == new_px:
            continue
        axis = _axis(old_px, new_px, interpolation, antialias, pictures.device)
        pictures = _along(pictures, dim, axis)
    return pictures


def _along(pictures: Tensor, dim: int, axis: _Axis) -> Tensor:
    taps, new_px = axis.indices.shape
    if taps == 1:  # copies of pixels
        return pictures.index_select(dim, axis.indices[0])
    tap_bytes = pictures.numel() // pictures.shape[dim] * new_px * axis.weights.itemsize
    together = max(1, _MOST_BYTES // max(1, tap_bytes))
    sums: Tensor | None = None
    for first in range(0, taps, together):
        some = slice(first, first + together)
        indices = axis.indices[some]
        picked = pictures.index_select(dim, indices.flatten()).unflatten(dim, indices.shape)
        half, weights = axis.half[some], axis.weights[some]
        if dim == -1:
            half, weights = half[..., 0], weights[..., 0]
        share = torch.addcmul(half, picked, weights).sum(dim - 1)
        sums = share if sums is None else sums.add_(share)
    assert sums is not None
    if axis.overshoots:
        sums.clamp_(0, 255)
    return sums.to(torch.uint8)


@functools.lru_cache(maxsize=64)  # of the sizes that a data set's videos have
def _axis(
    old_px: int, new_px: int, interpolation: str, antialias: bool, device: torch.device
) -> _Axis:
    of_side = filter_of(old_px, new_px, interpolation, antialias)
    weights = of_side.weights.T[..., None]
    half = np.zeros((len(weights), 1, 1), weights.dtype)
    half[0] = of_side.half
    return _Axis(
        on_device(of_side.indices.T, device),
        on_device(weights, device),
        on_device(half, device),
        of_side.overshoots,
    )
