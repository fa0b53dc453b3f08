"""Maximum pooling of clips on a CPU, one axis after the other."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Triple = tuple[int, int, int]
Padding = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]  # before and after each axis


def same_padding(sizes: Triple, kernel: Triple, stride: Triple) -> Padding:
    """The padding with which ceil(size / stride) windows fit on each axis; an odd element is added
    at the end, as in TensorFlow. Kernels are at least as large as their stride."""
    sides = []
    for size, window, step in zip(sizes, kernel, stride, strict=True):
        total = (-(-size // step) - 1) * step + window - size
        sides.append((total // 2, total - total // 2))
    first, second, third = sides
    return first, second, third


def max_pool3d(
    x: Tensor, kernel: Triple, stride: Triple, padding: Padding, *, zeros: bool = False
) -> Tensor:
    """The maximum of each window of (N, C, t, h, w), the same numbers as those of
    `torch.nn.functional.max_pool3d`, for inference.

    zeros: whether the padding counts as zeros; otherwise it counts as minus infinity. Maxima along
    one axis after the other need 2 + 2 + 2 comparisons of whole tensors for a window of 3 x 3 x 3,
    in place of 26 comparisons per element: a fifth of the time in I3D.
    """
    # The last axis of the memory (time) comes last, when the maps are already smaller.
    for axis in (3, 4, 2):
        window, step, sides = kernel[axis - 2], stride[axis - 2], padding[axis - 2]
        if window > 1 or step > 1:
            x = _along(x, axis, window, step, sides, zeros=zeros)
    return x


@dataclass(frozen=True)
class _Tap:
    """One element of every window: the element `start` + i * step in window `first` + i, for
    `count` windows; in the other windows it lies in the padding."""

    start: int
    first: int
    count: int


def _tap(offset: int, size: int, step: int, windows: int) -> _Tap:
    """The tap at `offset` (negative in the padding) from the start of the first window."""
    first = max(0, -(offset // step))
    behind = min(windows, -((offset - size) // step))
    return _Tap(offset + first * step, first, max(0, behind - first))


def _along(
    x: Tensor, axis: int, window: int, step: int, sides: tuple[int, int], *, zeros: bool
) -> Tensor:
    """Maxima along one axis. sides: the padding before and after it."""
    size, (before, after) = x.shape[axis], sides
    windows = (before + size + after - window) // step + 1
    taps = [_tap(offset - before, size, step, windows) for offset in range(window)]
    taps.sort(key=lambda tap: -tap.count)
    if taps[0].count < windows:  # a map that is smaller than the window
        widths = [0, 0] * (4 - axis) + [before, after]
        x = F.pad(x, widths, value=0.0 if zeros else -torch.inf)
        return _along(x, axis, window, step, (0, 0), zeros=zeros)
    maxima, is_own = _values(x, axis, taps[0], step), False
    for tap in taps[1:]:
        values = _values(x, axis, tap, step)
        if tap.count == windows:
            maxima = torch.maximum(maxima, values)
            is_own = True
            continue
        if not is_own:
            maxima, is_own = maxima.clone(), True
        part = maxima.narrow(axis, tap.first, tap.count)
        torch.maximum(part, values, out=part)
        if zeros:
            behind = tap.first + tap.count
            maxima.narrow(axis, 0, tap.first).clamp_min_(0.0)
            maxima.narrow(axis, behind, windows - behind).clamp_min_(0.0)
    return maxima


def _values(x: Tensor, axis: int, tap: _Tap, step: int) -> Tensor:
    """The elements of a tap, a view of x."""
    index = [slice(None)] * x.ndim
    index[axis] = slice(tap.start, tap.start + (tap.count - 1) * step + 1, step)
    return x[tuple(index)]
