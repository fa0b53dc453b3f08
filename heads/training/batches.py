"""Features in memory. They are loaded once onto the device and indexed there batch by batch,
without loader processes.

`streaming.Streamed` has the same members and reads from the store instead.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reelbank.data.store.rows import all_finite, check_finite
from reelbank.heads.training.sequences import Table

CHUNK_BYTES = 1 << 25
_CHECKED_NUMBERS = 1 << 16  # that are checked at once, which fit into the processor's cache


@dataclass(frozen=True)
class RowReading:
    """The reductions of rows as they are read. average_crops: whether rows with separate crops (R,
    crops, *row) are averaged over them; pool: whether feature maps (..., C, h, w) are averaged over
    space, for heads that take vectors."""

    average_crops: bool = False
    pool: bool = False

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Reduce rows (R, ...) to (R, ...). The result is float16 if a mean was taken."""
        axes = (1,) * self.average_crops + (-2, -1) * self.pool
        if not axes:
            return values
        shape = values[:1].mean(axes, dtype=np.float32).shape[1:]
        means = np.empty((len(values), *shape), np.float16)
        # Rows are averaged one by one because a whole store as float32 would not fit in memory.
        for row, mean in zip(values, means, strict=True):
            mean[...] = row[None].mean(axes, dtype=np.float32)[0]
        return means


@dataclass(frozen=True)
class Loaded:
    """The rows of V videos. ids: V video ids; values: (R, *row) or, with crops taken one by one,
    (R, crops, *row); offsets: (V + 1,) int64, where each video's rows begin in it."""

    ids: tuple[str, ...]
    values: Tensor
    offsets: Tensor
    crops: bool = False

    def __reduce__(
        self,
    ) -> tuple[Callable[..., Loaded], tuple[tuple[str, ...], np.ndarray, np.ndarray, bool]]:
        return _unpickled, (self.ids, *self._arrays, self.crops)

    @functools.cached_property
    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Values and offsets as numpy arrays, which joblib maps into its workers' memory. Cached,
        because joblib writes each new array object to a file, and all runs must share one file."""
        return self.values.cpu().numpy(), self.offsets.cpu().numpy()

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of a row as a head is given it."""
        return tuple(self.values.shape[1 + self.crops :])

    def to(self, device: torch.device) -> Loaded:
        return Loaded(self.ids, self.values.to(device), self.offsets.to(device), self.crops)

    def batches(self, table: Table, groups: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """For each group of sequence numbers, x (N, T, *row) float32 and lengths (N,) int64. T is
        the length of the longest sequence, and shorter sequences are padded with zeros."""
        for numbers in groups:
            lengths = table.lengths[numbers]
            steps = table.rows.shape[1] if table.uniform else int(lengths.max())
            rows = (
                table.rows[numbers, :steps] + self.offsets[table.video[numbers]][:, None]
            )  # (N, T)
            x = self._taken(rows, table.crop[numbers][:, None]).float()  # (N, T, *row)
            if not table.uniform:
                ended = torch.arange(steps, device=x.device) >= lengths[:, None]  # (N, T)
                x[ended] = 0.0
            yield x, lengths

    def video_means(self, row_counts: Sequence[int]) -> np.ndarray:
        """(V, D) float32: each video's mean over its first rows, as many as `row_counts` says,
        over crops and, of maps, over space."""
        begins = self.offsets[:-1].tolist()
        values = (
            self.values[begin : begin + count]
            for begin, count in zip(begins, row_counts, strict=True)
        )
        arrays = (rows.cpu().numpy() for rows in values)
        return means_of_videos(arrays, len(self.ids), self.row_shape)

    def row_chunks(self, table: Table, numbers: Tensor) -> Iterator[np.ndarray]:
        """All rows of these sequences as a head is given them (including repeats), in order, in
        pieces (R', *row)."""
        for chunk in in_chunks(numbers, table.lengths, self.row_shape):
            lengths = table.lengths[chunk]
            valid = (
                torch.arange(table.rows.shape[1], device=lengths.device) < lengths[:, None]
            )  # (N, K)
            rows = (table.rows[chunk] + self.offsets[table.video[chunk]][:, None])[valid]  # (R',)
            crop = table.crop[chunk].repeat_interleave(lengths)  # (R',)
            yield self._taken(rows, crop).cpu().numpy()

    def _taken(self, rows: Tensor, crop: Tensor) -> Tensor:
        """The values of rows of any shape, and with `crops` of one crop of each."""
        if self.crops:
            return self.values[rows, crop]
        # index_select copies row by row: on the CPU in a half to a quarter of the time of indexing.
        return self.values.index_select(0, rows.flatten()).unflatten(0, rows.shape)


def means_of_videos(
    videos: Iterable[np.ndarray], count: int, row_shape: Sequence[int]
) -> np.ndarray:
    """(V, D) float32, of V = `count` videos: the mean of each video's rows, (R, [crops,] *row), over all axes but that of
    the features."""
    means = np.empty((count, row_shape[0]), np.float32)
    for rows, mean in zip(videos, means, strict=True):
        axes = [axis for axis in range(rows.ndim) if axis != rows.ndim - len(row_shape)]
        mean[...] = rows.mean(tuple(axes), dtype=np.float32)
    return means


def _unpickled(
    ids: tuple[str, ...], values: np.ndarray, offsets: np.ndarray, crops: bool
) -> Loaded:
    return Loaded(ids, torch.from_numpy(values), torch.from_numpy(offsets), crops)


def loaded(
    ids: tuple[str, ...], values: np.ndarray, offsets: np.ndarray, crops: bool = False
) -> Loaded:
    """From a store's arrays: values (R, *row), with `crops` (R, crops, *row); offsets (V + 1,).
    Raises InputError for values that are not finite."""
    step = max(1, _CHECKED_NUMBERS // max(1, math.prod(values.shape[1:])))
    for first in range(0, len(values), step):
        if not all_finite(values[first : first + step]):
            for name, begin, end in zip(ids, offsets[:-1], offsets[1:], strict=True):
                check_finite(name, values[begin:end])
    return Loaded(ids, torch.from_numpy(values), torch.from_numpy(offsets), crops)


def in_chunks(numbers: Tensor, lengths: Tensor, row_shape: tuple[int, ...]) -> Iterator[Tensor]:
    """Sequence numbers in consecutive chunks whose rows have at most CHUNK_BYTES as float32. A
    chunk has at least one sequence. lengths: (S,), the lengths of all sequences.

    Statistics are summed chunk by chunk, so equal chunks give equal sums wherever the rows come
    from.
    """
    first = total = 0
    most_rows = CHUNK_BYTES // (4 * int(np.prod(row_shape)))
    for at, length in enumerate(lengths[numbers].tolist()):
        if total and total + length > most_rows:
            yield numbers[first:at]
            first, total = at, 0
        total += length
    if first < len(numbers):
        yield numbers[first:]
