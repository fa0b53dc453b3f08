"""Resize uint8 pictures on any device with the integer arithmetic of torch's CPU code, so that a
GPU gives the same bytes, by few operations.

torch resizes uint8 pictures on the CPU as Pillow-SIMD does: weights of 16 bits, first along the
width, rounded to uint8, then along the height (aten/src/ATen/native/cpu/UpSampleKernel.cpp,
`_compute_index_ranges_int16_weights`). torch has no such code for GPUs; there, torchvision
resizes in float32, and about one pixel in ten differs by a grey level.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from reelbank.extract.pipeline.copying import on_device

_MOST_BITS = 22  # of a weight's fraction
_FLOAT32_BITS = 24  # float32 holds whole numbers of this many bits
# Old pixels, weighted, that are in memory at the same time. Pictures of 8K have ten times as many.
_MOST_BYTES = 256 << 20
_TAPS = {"bilinear": 2, "bicubic": 4}  # pixels that a filter reads where it does not shrink


@dataclass(frozen=True)
class _Axis:
    """How one side is resized. indices: (taps, new side) int64, and weights: (taps, new side, 1),
    the old pixels that each new pixel is a weighted sum of. half: (taps, 1, 1), a half, which is
    added before a sum is cut off to a whole number. overshoots: whether sums may leave the range of
    grey levels.

    Weights and half are multiples of 2 ** -bits. Their type, float32 or float64, holds each sum
    exactly, so that the order of additions does not matter.
    """

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
        if interpolation == "nearest":
            pictures = pictures.index_select(dim, _nearest(old_px, new_px, pictures.device))
        else:
            pictures = _along(
                pictures, dim, _axis(old_px, new_px, interpolation, antialias, pictures.device)
            )
    return pictures


def _along(pictures: Tensor, dim: int, axis: _Axis) -> Tensor:
    taps, new_px = axis.indices.shape
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
    make = _antialiased if antialias else _plain
    firsts, weights = make(old_px, new_px, _TAPS[interpolation], _kernel(interpolation, antialias))
    largest, bits = weights.max(), 0
    while bits < _MOST_BITS and int(0.5 + largest * (1 << (bits + 1))) < 1 << 15:
        bits += 1
    scaled = weights * (1 << bits)
    # (new_px, taps)
    whole = np.trunc(np.where(scaled < 0, scaled - 0.5, scaled + 0.5)).astype(np.int32)
    # Indices beyond the picture have weight 0, so they may be clipped.
    indices = np.minimum(firsts[:, None] + np.arange(weights.shape[1]), old_px - 1)
    used = whole.any(0)
    half = np.zeros((used.sum(), 1, 1), np.int64)
    half[0] = 1 << (bits - 1)
    most = 255 * np.abs(whole).sum(1).max() + half.max()  # in units of 2 ** -bits
    dtype = np.float32 if most < 1 << _FLOAT32_BITS else np.float64
    return _Axis(
        on_device(indices.T[used], device),
        on_device(np.ldexp(whole.T[used, :, None].astype(dtype), -bits), device),
        on_device(np.ldexp(half.astype(dtype), -bits), device),
        overshoots=bool((whole < 0).any() or 255 * whole.sum(1).max() + half.max() >= 256 << bits),
    )


def _antialiased(
    old_px: int, new_px: int, taps: int, kernel: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """First pixel (new_px,) and weights (new_px, taps'), float64: a filter as wide as a new pixel,
    cut off at the edges."""
    scale = old_px / new_px
    stretch = max(scale, 1.0)
    support = taps / 2 * stretch
    centres = scale * (np.arange(new_px) + 0.5)
    firsts = np.maximum((centres - support + 0.5).astype(np.int64), 0)
    ends = np.minimum((centres + support + 0.5).astype(np.int64), old_px)
    offsets = np.arange(math.ceil(support) * 2 + 1)
    weights = kernel((offsets + firsts[:, None] - centres[:, None] + 0.5) * (1.0 / stretch))
    weights[offsets >= (ends - firsts)[:, None]] = 0.0
    total = np.zeros(new_px)
    for column in weights.T:  # in the order in which torch adds them, for equal rounding
        total += column
    return firsts, weights / total[:, None]


def _plain(
    old_px: int, new_px: int, taps: int, kernel: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The same without antialiasing: always `taps` pixels. Pixels beyond the edge repeat the
    edge."""
    places = (old_px / new_px) * (np.arange(new_px) + 0.5) - 0.5
    places = np.maximum(places, 0.0) if taps == 2 else places
    left = np.minimum(np.floor(places).astype(np.int64), old_px - 1)
    between = np.clip(places - left, 0.0, 1.0)
    half = taps // 2
    firsts = np.maximum(left - half + 1, 0)
    weights = np.zeros((new_px, taps))
    rows = np.arange(new_px)
    for tap in range(taps):
        pixel = np.clip(left - half + 1 + tap, 0, old_px - 1)
        weights[rows, pixel - firsts] += kernel(tap + 1 - half - between)
    return firsts, weights


def _kernel(interpolation: str, antialias: bool) -> Callable[[np.ndarray], np.ndarray]:
    if interpolation == "bilinear":
        return _linear
    # Pillow's kernel with antialiasing, OpenCV's without.
    sharpness = -0.5 if antialias else -0.75
    return functools.partial(_cubic, sharpness=sharpness)


def _linear(x: np.ndarray) -> np.ndarray:
    return np.maximum(1.0 - np.abs(x), 0.0)


def _cubic(x: np.ndarray, sharpness: float) -> np.ndarray:
    """R. Keys, "Cubic convolution interpolation for digital image processing", 1981; -0.5 as
    Pillow, -0.75 as OpenCV."""
    x, a = np.abs(x), sharpness
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


@functools.lru_cache(maxsize=64)
def _nearest(old_px: int, new_px: int, device: torch.device) -> Tensor:
    """The old pixel that each new pixel copies, (new_px,). torch chooses it on the CPU, because its
    rule rounds in float32."""
    pixels = torch.arange(old_px, dtype=torch.float32)[None, None]
    return on_device(F.interpolate(pixels, new_px, mode="nearest")[0, 0].long().numpy(), device)
