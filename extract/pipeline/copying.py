"""Copies between the memory of the computer, decoded pictures and network inputs, by few
operations: on a GPU each operation costs time, however small it is."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import numpy as np
import torch
from torch import Tensor

from reelbank.data.video.messages import Frames, Lent
from reelbank.data.video.process.ring import Ring


def on_device(array: np.ndarray, device: torch.device) -> Tensor:
    """The array as a tensor; on a GPU a copy, for which this process does not wait."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type != "cuda":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def own_copy(tensor: Tensor, *, lent: Tensor) -> Tensor:
    """The tensor, or a copy if it lies in the memory of `lent` on the CPU, which is lent for a short
    time. On a GPU nothing is lent."""
    if tensor.is_cuda or tensor.untyped_storage().data_ptr() != lent.untyped_storage().data_ptr():
        return tensor
    return tensor.clone()


@contextmanager
def lent_on_device(array: np.ndarray, message: Lent, device: torch.device) -> Iterator[Tensor]:
    """The array of a message on the device, released at the end of the block or, on a GPU, as soon
    as it is copied."""
    values = torch.from_numpy(array)
    if device.type != "cuda":
        yield values
        message.release()
        return
    if message.loan is not None and message.loan.is_pinned:
        values = values.to(device, non_blocking=True)
        copied = torch.cuda.Event()
        copied.record(torch.cuda.current_stream(device))
        message.release(copied)
    else:
        pinned = values.pin_memory()
        message.release()
        values = pinned.to(device, non_blocking=True)
    yield values


@contextmanager
def frames_on_device(message: Frames, device: torch.device) -> Iterator[Tensor]:
    """The pictures of a message on the device, (n, 3, H, W), released as by `lent_on_device`."""
    with lent_on_device(message.pixels, message, device) as pixels:
        yield pixels.movedim(-1, 1)


@contextmanager
def pinned(rings: Sequence[Ring], device: torch.device) -> Iterator[None]:
    """Pin the buffers of decode processes within the block, so that a GPU copies from them while
    this process goes on. Buffers that cannot be pinned stay as they are."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.init()
    runtime = torch.cuda.cudart()
    with torch.cuda.device(device):
        for ring in rings:
            failed = runtime.cudaHostRegister(ring.address, ring.memory_bytes, 0)
            ring.is_pinned = not int(failed)
            if not ring.is_pinned:
                with suppress(RuntimeError):
                    torch.zeros(1, device=device)  # takes the error, which torch would report later
    try:
        yield
    finally:
        with suppress(RuntimeError), torch.cuda.device(device):  # an earlier error ends the run
            for ring in rings:
                while ring.copying:
                    ring.wait_for_copy()
                if ring.is_pinned:
                    ring.is_pinned = False
                    runtime.cudaHostUnregister(ring.address)


def copy_crops(
    inputs: Tensor, pictures: Tensor, frames: np.ndarray, corners: Sequence[tuple[int, int]]
) -> None:
    """Copy crops of the pictures of clips into network inputs.

    inputs: (B, m, k, s, C, h, w), of any strides; pictures: (m, n, C, H, W): m versions of n
    pictures, such as mirrored ones; frames: (B, s) int64, which of the n pictures each clip
    consists of; corners: (top, left) of the k crops, which lie within the pictures.
    """
    height, width = inputs.shape[-2:]
    grid = _grid(corners)
    for some, shown in _shown(inputs, pictures, frames):
        if grid:
            (top, left), (down, right) = grid
            area = shown[..., top : top + down + height, left : left + right + width]
            cut = area.unfold(-2, height, down).unfold(-2, width, right)  # (b, m, s, C, 2, 2, h, w)
            some[:, :, :4].unflatten(2, (2, 2)).copy_(cut.movedim((4, 5), (2, 3)))
        for crop in range(4 if grid else 0, len(corners)):
            top, left = corners[crop]
            some[:, :, crop] = shown[..., top : top + height, left : left + width]


def _grid(corners: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """If the first four corners are those of a rectangle, which one copy can cut out: the first
    one, and (down, right), its sides."""
    if len(corners) < 4:
        return None
    (top, left), (bottom, right) = corners[0], corners[3]
    is_grid = list(corners[:4]) == [(top, left), (top, right), (bottom, left), (bottom, right)]
    if not is_grid or bottom <= top or right <= left:
        return None
    return (top, left), (bottom - top, right - left)


def _shown(inputs: Tensor, pictures: Tensor, frames: np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
    """Parts of inputs, (b, m, k, s, C, h, w), with the pictures that they show, (b, m, s, C, H,
    W)."""
    bounds = np.flatnonzero(np.diff(frames.ravel()) != 1) + 1
    if not len(bounds):  # successive pictures
        first = int(frames[0, 0])
        shown = pictures[:, first : first + frames.size]
        yield inputs, shown.unflatten(1, frames.shape).transpose(0, 1)
    elif pictures.is_cuda:
        shown = pictures.index_select(1, on_device(frames.ravel(), pictures.device))
        yield inputs, shown.unflatten(1, frames.shape).transpose(0, 1)
    else:  # on the CPU, without another copy of whole pictures
        axis, along = (0, 0) if frames.shape[1] == 1 else (1, 3)
        if len(frames) > 1 and axis:
            for clip in range(len(frames)):
                yield from _shown(inputs[clip : clip + 1], pictures, frames[clip : clip + 1])
            return
        for run in np.split(np.arange(frames.size), bounds):
            start, stop = int(run[0]), int(run[-1]) + 1
            part = inputs.narrow(along, start, stop - start)
            yield from _shown(part, pictures, frames.take(range(start, stop), axis))
