"""The index of a feature file: everything in it except the features."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reelbank.data.store.file.about import About, VideoFacts
from reelbank.data.store.file.columns import CHUNK, LazyNumbers, Numbers
from reelbank.data.store.file.keys import Keys
from reelbank.data.store.records import Failure
from reelbank.data.store.versions import Versions

DTYPES = (np.dtype("<f2"), np.dtype("u1"))  # of features: numbers, or pictures and flow maps
EARLIER_PART_NAMES = ("", "train", "test")  # codes 0, 1, 2 of /parts, in format versions 1 and 2
PART_NAMES = (*EARLIER_PART_NAMES, "validation")  # code 3


@dataclass(frozen=True)
class Rows:
    """What is known about the rows of some neighbouring videos: n videos, r rows.

    offsets: (n + 1,) int64, the first row of each video in its file. times_seconds: (r,) float64.
    views: (r,) uint8.
    """

    offsets: np.ndarray
    times_seconds: np.ndarray
    views: np.ndarray

    @functools.cached_property
    def clean(self) -> np.ndarray:
        """(n,) int64: how many rows of each video are clean; they are its first."""
        if not self.views.any():
            return np.diff(self.offsets)
        starts = self.offsets[:-1] - self.offsets[0]
        return np.add.reduceat(self.views == 0, starts, dtype=np.int64)


@dataclass(frozen=True)
class Index:
    """Everything in a feature file except the features: V videos, R rows in total, S splits.

    A video has a number, its position in the file: 0 to V - 1. What is known about one video is
    read by its number (`label(number)`), and its number is found by its id (`find`). The index of
    an open file is read when it is used, so lists and arrays may be columns, which only behave like
    lists and arrays. A column that is used raises DamagedFile if it is damaged or impossible,
    UnreadableFile if the disk fails, and InputError if the file is gone.

    video_ids, labels, groups: (V,), see StoredVideo. parts: (V, S) of PART_NAMES. offsets: (V + 1,)
    int64, first row of each video. times_seconds: (R,) float64. views: (R,) uint8, 0 for a clean
    row, n for a row of the n-th augmented view. checksums: (V,) uint64, xxh3 of the bytes of each
    video's rows. dtype: of the rows, one of DTYPES. facts: sources, versions and failures. keys:
    the table of a file for finding ids. chunks: the videos, first and last + 1, that are best read at
    once; CHUNK at a time if it is empty.
    """

    video_ids: Sequence[str]
    labels: Sequence[str]
    groups: Sequence[str]
    parts: Sequence[Sequence[str]]
    offsets: np.ndarray | LazyNumbers
    times_seconds: np.ndarray | LazyNumbers
    views: np.ndarray | LazyNumbers
    checksums: np.ndarray | LazyNumbers
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    about: About
    facts: VideoFacts
    keys: Keys | None = None
    chunks: Sequence[tuple[int, int]] = ()

    def __len__(self) -> int:
        """Number of videos."""
        return len(self.video_ids)

    @functools.cached_property
    def _number_of(self) -> dict[str, int]:
        return {video_id: number for number, video_id in enumerate(self.video_ids)}

    def find(self, video_id: str) -> int | None:
        """The number of a video in this file; None if the file does not have it."""
        return self.keys.find(video_id) if self.keys else self._number_of.get(video_id)

    def find_failure(self, video_id: str) -> Failure | None:
        """Why a video has no features; None if the file records no failure of it."""
        return self.facts.failures.get(video_id)

    @property
    def failures(self) -> Mapping[str, Failure]:
        """Why videos have no features, by id."""
        return self.facts.failures

    def video_id(self, number: int) -> str:
        """The id of a video."""
        return self.video_ids[number]

    def label(self, number: int) -> str:
        """The label of a video, see StoredVideo."""
        return self.labels[number]

    def group(self, number: int) -> str:
        """The group of a video, "" if it is unknown."""
        return self.groups[number]

    def parts_of(self, number: int) -> tuple[str, ...]:
        """The part of a video in each of the file's splits."""
        return tuple(self.parts[number])

    def source(self, number: int) -> Mapping[str, Any]:
        """Facts about the file of a video."""
        return self.facts.sources[number]

    def version(self, number: int) -> Versions:
        """What a video was made with; empty if the file does not say."""
        return self.facts.versions[number]

    @property
    def sources(self) -> Sequence[Mapping[str, Any]]:
        """(V,) facts about the video files."""
        return self.facts.sources

    @property
    def versions(self) -> Sequence[Versions]:
        """(V,) what each video was made with; empty ones if the file does not say."""
        return self.facts.versions

    @property
    def row_count(self) -> int:
        """R, the number of rows of all videos."""
        return len(self.times_seconds)

    def rows_of(self, number: int) -> slice:
        """The rows of a video, views included."""
        first, last = self.offsets[number : number + 2].tolist()
        return slice(first, last)

    def rows(self, first: int, last: int) -> Rows:
        """What is known about the rows of the videos `first` to `last` - 1, at least one."""
        offsets = self.offsets[first : last + 1]
        stored = slice(int(offsets[0]), int(offsets[-1]))
        views = self.views[stored]
        if isinstance(self.views, Numbers):
            is_valid = are_views(views, offsets - offsets[0])
            self.views.file.require(is_valid, "/views does not fit the features")
        return Rows(offsets, self.times_seconds[stored], views)

    def all_rows(self) -> Iterator[Rows]:
        """`rows` of all videos, for CHUNK videos at a time."""
        for first in range(0, len(self), CHUNK):
            yield self.rows(first, min(len(self), first + CHUNK))

    @functools.cached_property
    def has_views(self) -> bool:
        """Whether any row belongs to an augmented view."""
        if isinstance(self.views, LazyNumbers):
            return any(bool(chunk.any()) for chunk in self.views.chunks())
        return bool(self.views.any())

    @functools.cached_property
    def clean_rows(self) -> np.ndarray:
        """(V,) int64: how many of each video's rows are clean; they are its first."""
        if not self.has_views:
            return np.diff(np.asarray(self.offsets))
        return np.concatenate([np.empty(0, np.int64), *(rows.clean for rows in self.all_rows())])


def are_views(views: np.ndarray, offsets: np.ndarray) -> bool:
    """Whether `views` (R,) are those of whole videos: each begins with clean rows (0), then has
    view 1, 2, ... in order, with none left out."""
    if not views.any():
        return True
    steps = np.diff(views.astype(np.int16), prepend=0)  # (R,)
    firsts = offsets[:-1]
    steps[firsts] = 0
    return not views[firsts].any() and bool(((steps == 0) | (steps == 1)).all())
