"""Neighbouring videos of a feature file, which are read together."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from reelbank.data.store.file.format import READ_BYTES, runs
from reelbank.data.store.file.index import Rows


@dataclass(frozen=True)
class Stretch:
    """Neighbouring videos in a file, from number `first` on, whose rows are to be loaded."""

    first: int
    rows: Rows
    with_views: bool

    @functools.cached_property
    def is_kept(self) -> np.ndarray | None:
        """Which of the rows are loaded, (r,) bool; None if all are."""
        if self.with_views or not self.rows.views.any():
            return None
        return self.rows.views == 0

    @property
    def counts(self) -> np.ndarray:
        """(n,) int64, how many rows of each video are loaded."""
        return np.diff(self.rows.offsets) if self.is_kept is None else self.rows.clean

    def split(self, most_rows: int) -> Iterator["Stretch"]:
        """The same videos in stretches of at most `most_rows` stored rows, or of one video."""
        offsets = self.rows.offsets
        for first, last in runs(self.first, offsets, most_rows):
            low, high = first - self.first, last - self.first
            begin, end = (offsets[[low, high]] - offsets[0]).tolist()
            rows = Rows(
                offsets[low : high + 1],
                self.rows.times_seconds[begin:end],
                self.rows.views[begin:end],
            )
            yield Stretch(first, rows, self.with_views)

    def read(self, read: Callable[[int, int, np.ndarray], None], values: np.ndarray) -> None:
        """Fill `values` with the rows that are loaded."""
        offsets = self.rows.offsets
        most_rows = READ_BYTES // max(1, values[:1].nbytes)
        start = 0
        for first, last in runs(self.first, offsets, most_rows):
            low, high = offsets[[first - self.first, last - self.first]] - offsets[0]
            if self.is_kept is None:
                read(first, last, values[low:high])
                continue
            # A checksum covers all rows of its video, so all are read.
            is_kept = self.is_kept[low:high]
            end = start + int(is_kept.sum())
            all_values = np.empty((len(is_kept), *values.shape[1:]), values.dtype)
            read(first, last, all_values)
            np.compress(is_kept, all_values, axis=0, out=values[start:end])
            start = end
