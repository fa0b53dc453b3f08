"""Resize single pictures in a decode process, with the bytes that torch's CPU code gives."""

import functools
from typing import TYPE_CHECKING

import numpy as np

from reelbank.data.video.opencv import cv2
from reelbank.extract.in_decoders.filters import filter_of, resized_px
from reelbank.extract.networks.preprocessing import Resize

if TYPE_CHECKING:
    from scipy import sparse

_BLOCK_NUMBERS = 384  # of each row, so that the sums stay in the processor's cache


def resize_picture(picture: np.ndarray, how: Resize) -> np.ndarray:
    """(H, W, 3) uint8 -> (H', W', 3) uint8, equal to `pipeline.crops.resize`; the same array if the
    size stays. how: without a border."""
    assert how.fill is None
    height, width = picture.shape[:2]
    new_height, new_width = resized_px(height, width, how)
    if new_width != width:
        columns = cv2.transpose(picture).reshape(width, -1)  # (W, H * 3)
        columns = _resized_rows(columns, new_width, how)
        picture = cv2.transpose(columns.reshape(new_width, height, 3))
    if new_height != height:
        rows = _resized_rows(picture.reshape(height, -1), new_height, how)
        picture = rows.reshape(new_height, new_width, 3)
    return picture


def _resized_rows(rows: np.ndarray, count: int, how: Resize) -> np.ndarray:
    """(n, m) uint8 -> (count, m) uint8: weighted sums of rows."""
    key = (len(rows), count, how.interpolation, how.antialias)
    of_side, weights = filter_of(*key), _weights(*key)
    resized = np.empty((count, rows.shape[1]), np.uint8)
    for begin in range(0, rows.shape[1], _BLOCK_NUMBERS):
        span = slice(begin, begin + _BLOCK_NUMBERS)
        sums = weights @ rows[:, span].astype(weights.dtype)
        sums += weights.dtype.type(of_side.half)
        if of_side.overshoots:
            sums.clip(0, 255, out=sums)
        resized[:, span] = sums
    return resized


@functools.lru_cache(maxsize=64)  # of the sizes that a data set's videos have
def _weights(old_px: int, new_px: int, interpolation: str, antialias: bool) -> "sparse.csr_array":
    """The weights of a filter, (new_px, old_px)."""
    from scipy import sparse  # slow, and many pictures keep their size

    of_side = filter_of(old_px, new_px, interpolation, antialias)
    taps = of_side.indices.shape[1]
    ends = np.arange(new_px + 1) * taps
    return sparse.csr_array(
        (of_side.weights.ravel(), of_side.indices.ravel(), ends), shape=(new_px, old_px)
    )
