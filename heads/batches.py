"""Feature sequences in memory: loaded once, on the device, indexed there batch by batch; no loader processes.

`streaming.Streamed` has the same members and reads from the store instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from reelbank.data.clips import sigma
from reelbank.data.errors import InputError

CHUNK_BYTES = 1 << 25


@dataclass(frozen=True)
class Sequences:
    """The rows of V videos, and which of them make each of S sequences: the V videos' clean rows, then the augmented views.

    ids: V video ids; values: (R, *row); rows: (S, K) int64 into values, padded with 0 to the longest; lengths: (S,) int64;
    times_seconds: (V,) float64, the mean time of each video's clean rows; video: (S,) int64, which video each sequence
    is of, the first V being 0 .. V - 1.
    """

    ids: tuple[str, ...]
    values: Tensor
    rows: Tensor
    lengths: Tensor
    times_seconds: np.ndarray
    video: Tensor

    @property
    def longest_bytes(self) -> int:
        """Bytes of the longest sequence as a head is given it, float32."""
        return int(self.lengths.max()) * self.values[0].numel() * 4

    def to(self, device: torch.device) -> Sequences:
        moved = {name: getattr(self, name).to(device) for name in ("values", "rows", "lengths", "video")}
        return replace(self, **moved)

    def batch(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, T, *row) float32, zeros after each sequence's end, T the longest of these; lengths (N,) int64."""
        lengths = self.lengths[numbers]
        steps = int(lengths.max())
        x = self.values[self.rows[numbers, :steps]].float()  # (N, T) rows -> (N, T, *row)
        ended = torch.arange(steps, device=x.device) >= lengths[:, None]  # (N, T)
        x[ended] = 0.0
        return x, lengths

    def batches(self, groups: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """`batch` of each group of sequence numbers in turn."""
        return map(self.batch, groups)

    def row_chunks(self, numbers: Tensor) -> Iterator[np.ndarray]:
        """All rows of these sequences as a head is given them (repeats included), in order, in pieces (R', *row)."""
        for some in in_chunks(numbers, self.lengths, self.values[0].numel()):
            valid = torch.arange(self.rows.shape[1], device=self.rows.device) < self.lengths[some][:, None]  # (N, K)
            yield self.values[self.rows[some][valid]].cpu().numpy()


def sequences(
    ids: tuple[str, ...],
    values: np.ndarray,
    offsets: np.ndarray,
    times_seconds: np.ndarray,
    views: np.ndarray | None = None,
    steps: int | None = None,
    crops_kept: bool = False,
) -> Sequences:
    """From a store's arrays: values (R, *row) or, `crops_kept`, (R, crops, *row); offsets (V+1,); times_seconds (R,); views
    (R,) uint8, 0 for clean rows (None: all are).

    Crops are averaged. `steps` (T) takes T rows of each sequence by sigma(t); None takes all. Raises InputError for values
    that are not finite.
    """
    if crops_kept:
        values = mean_of_crops(values)
    if views is None:
        views = np.zeros(len(values), np.uint8)
    bounds = list(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True))
    taken = taken_rows([views[first:last] for first, last in bounds], steps)
    lengths = np.array([len(own) for _, own in taken], np.int64)
    rows = np.zeros((len(taken), lengths.max(initial=1)), np.int64)
    for number, (video, own) in enumerate(taken):
        rows[number, : len(own)] = own + bounds[video][0]
        check_finite(ids[video], values[rows[number, : len(own)]])
    times = np.array([times_seconds[rows[video, : lengths[video]]].mean() for video in range(len(ids))])
    video_of = torch.tensor([video for video, _ in taken], dtype=torch.int64)
    return Sequences(ids, torch.from_numpy(values), torch.from_numpy(rows), torch.from_numpy(lengths), times, video_of)


def taken_rows(views: Iterable[np.ndarray], steps: int | None) -> list[tuple[int, np.ndarray]]:
    """For each sequence its video and the rows of that video it takes, (K,) or, with `steps`, (T,) int64: first the clean rows
    of every video, then every further view. views: for each video (K,) uint8."""
    clean: list[tuple[int, np.ndarray]] = []
    further: list[tuple[int, np.ndarray]] = []
    for video, own in enumerate(views):
        for view in np.unique(own).tolist():
            rows = np.flatnonzero(own == view)
            rows = rows[sigma(len(rows), steps)] if steps else rows
            (further if view else clean).append((video, rows))
    return clean + further


def mean_of_crops(values: np.ndarray) -> np.ndarray:
    """(R, crops, *row) -> (R, *row), float16 from float16 or uint8."""
    averaged = np.empty((len(values), *values.shape[2:]), np.float16 if values.dtype == np.uint8 else values.dtype)
    for row, mean in zip(values, averaged, strict=True):
        mean[...] = row.mean(0, dtype=np.float32)
    return averaged


def check_finite(video_id: str, values: np.ndarray) -> None:
    """Raises InputError naming the video when a value is not finite."""
    if not np.isfinite(values).all():
        raise InputError(f"video {video_id} has features that are not finite; extract it again")


def in_chunks(numbers: Tensor, lengths: Tensor, row_values: int) -> Iterator[Tensor]:
    """Sequence numbers in runs whose rows of `row_values` values each have at most CHUNK_BYTES as float32, or of one sequence;
    lengths: (S,) of all sequences.

    Statistics are summed chunk by chunk, so equal chunks give equal sums wherever the rows come from.
    """
    first = total = 0
    most_rows = CHUNK_BYTES // (4 * row_values)
    for at, length in enumerate(lengths[numbers].tolist()):
        if total and total + length > most_rows:
            yield numbers[first:at]
            first, total = at, 0
        total += length
    if first < len(numbers):
        yield numbers[first:]
