"""Columns of videos that are in several files, for a file that they are merged into: read when they are
written."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from reelbank.data.store.file.columns import (
    CHUNK,
    LazyNumbers,
    LazySequence,
    encoded_items,
    text_width,
)
from reelbank.data.store.file.index import Index, Rows
from reelbank.data.store.merging.files import File
from reelbank.data.store.merging.pieces import Pieces
from reelbank.data.store.merging.plan import Request
from reelbank.data.store.records import StoredVideo
from reelbank.data.store.versions import Versions

T = TypeVar("T")


def neighbours(numbers: np.ndarray) -> Iterator[tuple[int, int]]:
    """Numbers of videos in one file, (n,), as ranges (first, last + 1) of neighbours."""
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    bounds = [0, *breaks.tolist(), len(numbers)]
    for low, high in zip(bounds, bounds[1:], strict=False):
        yield int(numbers[low]), int(numbers[high - 1]) + 1


def _places(pieces: Pieces, first: int, last: int) -> Iterator[tuple[File, int, int]]:
    """The videos `first` to `last` - 1: a file, and the first and last + 1 of neighbours in it."""
    for file, numbers in pieces.part(first, last).runs():
        for low, high in neighbours(numbers):
            yield file, low, high


class Merged(LazySequence[T]):
    """(V,) what the files say about each video. column: of a file. Nothing of the files is kept."""

    def __init__(self, pieces: Pieces, column: Callable[[Index], Sequence[T]]) -> None:
        self.pieces, self._column = pieces, column

    def __len__(self) -> int:
        return len(self.pieces)

    def items(self, first: int, last: int) -> list[T]:
        items: list[T] = []
        for file, low, high in _places(self.pieces, first, last):
            items += self._column(file.index)[low:high]
        return items

    def encoded(self, first: int, last: int) -> list[bytes]:
        texts: list[bytes] = []
        for file, low, high in _places(self.pieces, first, last):
            texts += encoded_items(self._column(file.index), low, high)
        return texts


class MergedIds(Merged[str]):
    """The ids. Their hashes are known."""

    def __init__(self, pieces: Pieces) -> None:
        super().__init__(pieces, lambda index: index.video_ids)

    @property
    def width(self) -> int:
        """Bytes of the longest id that there is room for."""
        return max([1, *(file.facts.id_bytes for file in self.pieces.used_files())])

    def hashes(self) -> np.ndarray:
        return self.pieces.hashes()


class MergedSources(Merged[Any]):
    """The facts about the video files. Their lengths are known."""

    def __init__(self, pieces: Pieces) -> None:
        super().__init__(pieces, lambda index: index.sources)

    def lengths(self) -> np.ndarray:
        return self.pieces.gathered(lambda file: file.facts.source_bytes)


class MergedVersions(Merged[Versions]):
    """The versions. Those of each file are known."""

    def __init__(self, pieces: Pieces) -> None:
        super().__init__(pieces, lambda index: index.versions)

    def distinct(self) -> list[Versions]:
        versions: dict[Versions, None] = {}
        for file in self.pieces.used_files():
            versions |= dict.fromkeys(file.facts.versions)
        return list(versions)


class MergedNumbers(LazyNumbers):
    """(V,) one number of each video."""

    def __init__(self, pieces: Pieces, column: Callable[[Index], Any]) -> None:
        self._pieces, self._column = pieces, column

    def __len__(self) -> int:
        return len(self._pieces)

    def read(self, first: int, last: int) -> np.ndarray:
        videos = _places(self._pieces, first, last)
        values = [np.asarray(self._column(file.index)[low:high]) for file, low, high in videos]
        return np.concatenate(values) if values else np.empty(0)


class MergedRows:
    """What is known about the rows of all videos: their times and views, which are read together.
    offsets: (V + 1,) int64, the first row of each video."""

    def __init__(self, pieces: Pieces, offsets: np.ndarray) -> None:
        self._pieces, self.offsets = pieces, offsets
        self._range, self._rows = (0, 0), list[Rows]()

    def of_videos(self, first: int, last: int) -> list[Rows]:
        """Those of the videos `first` to `last` - 1. The last ones are kept."""
        if self._range != (first, last):
            places = _places(self._pieces, first, last)
            self._rows = [file.index.rows(low, high) for file, low, high in places]
            self._range = (first, last)
        return self._rows

    def column(self, name: str) -> "_RowColumn":
        """`times_seconds` or `views` of all rows."""
        return _RowColumn(self, name)


class _RowColumn(LazyNumbers):
    """(R,) one number of each row."""

    def __init__(self, rows: MergedRows, name: str) -> None:
        self._rows, self._name = rows, name

    def __len__(self) -> int:
        return int(self._rows.offsets[-1])

    def read(self, first: int, last: int) -> np.ndarray:
        offsets = self._rows.offsets
        low = int(np.searchsorted(offsets, first, side="right")) - 1
        high = int(np.searchsorted(offsets, last))
        values = [getattr(each, self._name) for each in self._rows.of_videos(low, high)]
        start = int(offsets[low])
        return np.concatenate(values)[first - start : last - start] if values else np.empty(0)


class Described:
    """The videos with the labels, groups and parts that the store is to hold. chunks: of videos, first
    and last + 1, that are read at once."""

    def __init__(self, pieces: Pieces, request: Request, chunks: Sequence[tuple[int, int]]) -> None:
        self.pieces, self.request, self.chunks = pieces, request, chunks
        self._columns = (
            Merged(pieces, lambda index: index.video_ids),
            Merged(pieces, lambda index: index.labels),
            Merged(pieces, lambda index: index.groups),
            Merged(pieces, lambda index: _Parts(index, request.about.dataset.splits)),
        )
        self._range, self._videos = (0, 0), list[StoredVideo]()

    def videos(self, first: int, last: int) -> list[StoredVideo]:
        """The videos `first` to `last` - 1."""
        if self._range != (first, last):
            columns = (column.items(first, last) for column in self._columns)
            self._videos = list(map(self.request.described, map(StoredVideo, *columns)))
            self._range = (first, last)
        return self._videos

    @functools.cached_property
    def widths(self) -> dict[str, int]:
        """Bytes of the longest label and of the longest group, both from one pass over the videos."""
        widths = {"label": 1, "group": 1}
        for first, last in self.chunks:
            videos = self.videos(first, last)
            for name, width in widths.items():
                own = text_width([getattr(video, name) for video in videos])
                widths[name] = max(width, own)
        return widths

    def column(self, name: str, stored_bytes: Callable[[File], int] | None = None) -> "_Field":
        """One field of all videos. stored_bytes: the longest text that a file has room for."""
        return _Field(self, name, stored_bytes)


class _Field(LazySequence[Any]):
    """One field of described videos."""

    def __init__(
        self, described: Described, name: str, stored_bytes: Callable[[File], int] | None
    ) -> None:
        self._described, self._name, self._stored_bytes = described, name, stored_bytes

    def __len__(self) -> int:
        return len(self._described.pieces)

    def items(self, first: int, last: int) -> list[Any]:
        return [getattr(video, self._name) for video in self._described.videos(first, last)]

    @property
    def width(self) -> int:
        """Bytes of the longest text; of many videos, of the longest that there is room for."""
        if len(self) <= CHUNK:
            return self._described.widths[self._name]
        assert self._stored_bytes
        stored = map(self._stored_bytes, self._described.pieces.used_files())
        listed = {getattr(video, self._name) for video in self._described.request.listed.values()}
        return max([text_width(list(listed)), *stored])


class _Parts(LazySequence[Sequence[str]]):
    """The part of each video of a file in each of `splits`, "" if the file does not know the split."""

    def __init__(self, index: Index, splits: Sequence[str]) -> None:
        self._parts = index.parts
        own = {split: number for number, split in enumerate(index.about.dataset.splits)}
        self._numbers = [own.get(split) for split in splits]

    def __len__(self) -> int:
        return len(self._parts)

    def items(self, first: int, last: int) -> list[Sequence[str]]:
        return [
            ["" if number is None else own[number] for number in self._numbers]
            for own in self._parts[first:last]
        ]
