"""How torch resizes uint8 pictures on the CPU: the new size, and which old pixels each new pixel is
a weighted sum of.

torch resizes uint8 pictures on the CPU as Pillow-SIMD does: weights of 16 bits, first along the
width, rounded to uint8, then along the height (aten/src/ATen/native/cpu/UpSampleKernel.cpp,
`_compute_index_ranges_int16_weights`). This module does not import torch, because decode processes
use it.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from reelbank.data.video.functions import UnfitPicture
from reelbank.extract.networks.preprocessing import Resize

# The whole picture is resized to the given short side, so a very narrow one would need gigabytes.
MAX_ASPECT = 32
_MOST_BITS = 22  # of a weight's fraction
_FLOAT32_BITS = 24  # float32 holds whole numbers of this many bits
_TAPS = {"bilinear": 2, "bicubic": 4}  # pixels that a filter reads where it does not shrink


def resized_px(height: int, width: int, how: Resize) -> tuple[int, int]:
    """Height and width after a resize, rounded as torchvision does, or with a border as timm does;
    without the border. Raises UnfitPicture for a picture whose long side is more than MAX_ASPECT
    times its short side."""
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise UnfitPicture(
            f"a picture of {width} x {height} is more than {MAX_ASPECT} times as long as wide"
        )
    if isinstance(how.size_px, int):
        if width <= height:
            return int(how.size_px * height / width), how.size_px
        return how.size_px, int(how.size_px * width / height)
    if how.fill is None:
        return how.size_px
    shrunk = max(height / how.size_px[0], width / how.size_px[1])
    return max(1, round(height / shrunk)), max(1, round(width / shrunk))


@dataclass(frozen=True, eq=False)
class Filter:
    """How one side is resized. indices: (new side, taps) int64, and weights: (new side, taps), the
    old pixels that each new pixel is a weighted sum of. half: a half, which is added before a sum is
    cut off to a whole number. overshoots: whether sums may leave the range of grey levels.

    Weights and half are multiples of 2 ** -bits. Their type, float32 or float64, holds each sum
    exactly, so that the order of additions does not matter.
    """

    indices: np.ndarray
    weights: np.ndarray
    half: float
    overshoots: bool


@functools.lru_cache(maxsize=64)  # of the sizes that a data set's videos have
def filter_of(old_px: int, new_px: int, interpolation: str, antialias: bool) -> Filter:
    """interpolation: "bilinear", "bicubic" or "nearest", which is never antialiased."""
    if interpolation == "nearest":
        return Filter(
            _nearest(old_px, new_px)[:, None], np.ones((new_px, 1), np.float32), 0.0, False
        )
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
    half = 1 << (bits - 1)
    most = 255 * np.abs(whole).sum(1).max() + half  # in units of 2 ** -bits
    dtype = np.float32 if most < 1 << _FLOAT32_BITS else np.float64
    return Filter(
        indices[:, used],
        np.ldexp(whole[:, used].astype(dtype), -bits),
        math.ldexp(half, -bits),
        overshoots=bool((whole < 0).any() or 255 * whole.sum(1).max() + half >= 256 << bits),
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


def _nearest(old_px: int, new_px: int) -> np.ndarray:
    """The old pixel that each new pixel copies, (new_px,). torch's rule rounds in float32."""
    scale = np.float32(old_px) / np.float32(new_px)
    places = np.arange(new_px, dtype=np.float32) * scale
    return np.minimum(places.astype(np.int64), old_px - 1)
