"""Copy the crops of many clips into network inputs: by one indexing operation on a GPU, where each
operation costs time, and by slices on the CPU, which copy whole lines."""

import functools
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

# (top, left) of each crop in pixels: one tuple for all clips, or one for each clip.
Corners = tuple[tuple[tuple[int, int], ...], ...]


def gather(inputs: Tensor, pictures: Tensor, frames: np.ndarray, corners: Corners) -> None:
    """Fill `inputs` with crops.

    inputs: (B, crops, s, C, h, w), of any strides; pictures: (n, C, H, W) of the same type and
    device; frames: (B, crops, s) int64, the picture of each item, or (B, 1, s) if all crops show
    the same pictures; corners: of crops that lie within the pictures.
    """
    copy = gather_by_index if pictures.is_cuda else gather_by_slices
    copy(inputs, pictures, frames, corners)


def gather_by_index(inputs: Tensor, pictures: Tensor, frames: np.ndarray, corners: Corners) -> None:
    """`gather` by one indexing operation."""
    channels, height, width = inputs.shape[3:]
    pixels = _pixels(corners, channels, (height, width), pictures.device)
    which = on_device(frames, pictures.device)[..., None, None, None]  # (B, crops or 1, s, 1, 1, 1)
    inputs.copy_(pictures[which, *pixels])


def gather_by_slices(
    inputs: Tensor, pictures: Tensor, frames: np.ndarray, corners: Corners
) -> None:
    """`gather` by slices: one for each crop and run of successive pictures."""
    if inputs.shape[2] == 1 and len(corners) == 1:
        # Clips of one picture: treated as one clip, so that a run may contain several of them.
        inputs, frames = inputs.transpose(0, 2), frames.transpose(2, 1, 0)
    height, width = inputs.shape[-2:]
    for number, clip in enumerate(inputs):
        runs = [list(_runs(of_crop)) for of_crop in frames[number]]
        for crop, (top, left) in enumerate(corners[number % len(corners)]):
            shown = pictures[..., top : top + height, left : left + width]
            for first, run in runs[crop % len(runs)]:
                clip[crop, run] = shown[first : first + run.stop - run.start]


def _runs(frames: np.ndarray) -> Iterator[tuple[int, slice]]:
    """The runs of successive numbers in (s,): the first number, and the positions."""
    bounds = [0, *(np.flatnonzero(np.diff(frames) != 1) + 1).tolist(), len(frames)]
    for start, stop in zip(bounds, bounds[1:], strict=False):
        yield int(frames[start]), slice(start, stop)


# The same for all videos of one size, except for augmented views.
@functools.lru_cache(maxsize=64)
def _pixels(
    corners: Corners, channels: int, size_px: tuple[int, int], device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of channels, rows and columns, which together broadcast to (B or 1, crops, 1, C, h,
    w)."""
    tops, lefts = np.moveaxis(np.array(corners, np.int64), 2, 0)[..., None]  # (B or 1, crops, 1)
    rows = on_device(tops + np.arange(size_px[0]), device)
    columns = on_device(lefts + np.arange(size_px[1]), device)
    return (
        on_device(np.arange(channels), device)[:, None, None],
        rows[:, :, None, None, :, None],
        columns[:, :, None, None, None, :],
    )


def on_device(array: np.ndarray, device: torch.device) -> Tensor:
    """The array as a tensor; on a GPU a copy, for which this process does not wait."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type != "cuda":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)
