"""Reading feature stores: one checked HDF5 file if finished, a folder of parts next to it until then
(docs/store.md).

No file is ever changed once it has its name: parts and the finished file are written under
temporary names, synced to disk, read back and renamed. So a kill at any moment loses at most the
open part.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np

from reelbank.data.console import counted
from reelbank.data.errors import InputError
from reelbank.data.positions import positions
from reelbank.data.store.catalog import Catalog, Place, by_file, scan
from reelbank.data.store.file.columns import CHUNK, Taken
from reelbank.data.store.file.header import DamagedFile
from reelbank.data.store.file.index import DTYPES, Index
from reelbank.data.store.file.stretches import Stretch
from reelbank.data.store.merging.files import File
from reelbank.data.store.parts import begun, final_path
from reelbank.data.store.records import Failure
from reelbank.data.store.versions import Versions

T = TypeVar("T")
_MANY = 1024  # videos
_PIECE_BYTES = 1 << 24  # of rows, small next to what is made of them


@dataclass(frozen=True)
class Piece:
    """Some neighbouring videos of a store with their clean rows.

    first: the number of the first one in `store.video_ids`. values: (R, ...), the rows of all, one
    video after another; offsets: (n + 1,) int64, where each video's rows begin in it.
    times_seconds: (R,) float64, of the rows.
    """

    first: int
    values: np.ndarray
    offsets: np.ndarray
    times_seconds: np.ndarray


class Store:
    """A feature store that is open for reading. It contains the features of V videos.

    The features of a video are a sequence of rows, one for each clip. Rows without augmentation are
    called clean rows; a store can also contain the rows of augmented views. The store may be
    unfinished. `len(store)`, `video_id in store`, `store[video_id]` (the clean rows of a video) and
    iteration over the video ids are supported. Several threads may read at the same time. If a
    store is pickled, it is opened again by its path.

    Attributes with V entries, one for each video:
    `video_ids`; `labels` (class names, separated by ";" in a multi-label data set); `groups`;
    `parts` ("train", "validation", "test" or "" for each split); `sources` (facts about the video file);
    `versions` (package versions with which the features were computed); `rows` (int64, number of
    clean rows); `all_rows` (int64, number of rows including augmented views); `checksums` (uint64,
    of the bytes of all rows).

    Attributes of the store:
    `path`; `recipe`; `dataset` (a DatasetDescription); `identity` (hash of recipe and data set);
    `finished`; `row_shape`; `dtype` (float16 or uint8); `has_views`; `failures` (maps the id of a
    video without features to a Failure); `cost` (a Cost); `written` (package versions and time of
    the last change); `listing` (a DatasetListing, or None if the store does not record it);
    `weights` (a tuple of PublishedWeights with which the features were computed, if recorded);
    `damaged` (maps files of the store that were left out to the reason).
    """

    def __init__(self, path: Path, catalog: Catalog) -> None:
        self.path, self._catalog = path, catalog
        about = catalog.files[-1].index.about
        self.identity, self.recipe, self.written = about.identity, about.recipe, about.written
        self.cost = catalog.cost()
        self.dataset, self.listing = catalog.dataset(), catalog.listing
        self.weights = catalog.weights
        self.damaged = {str(part): reason for part, reason in catalog.damaged.items()}
        self.row_shape: tuple[int, ...] = (0,)
        self.dtype: np.dtype[Any] = DTYPES[0]
        for file in catalog.files:
            if len(file.index):
                self.row_shape, self.dtype = file.index.row_shape, file.index.dtype
                break

    @functools.cached_property
    def finished(self) -> bool:
        """Whether all videos have been extracted, and the store will not change any more."""
        return self._catalog.finished

    @functools.cached_property
    def failures(self) -> Mapping[str, Failure]:
        """Videos without features: id -> Failure."""
        return self._catalog.failures

    @functools.cached_property
    def _pieces(self) -> list[tuple[Index, np.ndarray]]:
        """The indexes of the files, and the numbers of the store's videos in them, in order."""
        return [
            (file.index, np.asarray(numbers, np.int64)) for file, numbers in self._catalog.current()
        ]

    def _of_videos(self, column: Callable[[Index], Sequence[T]]) -> Sequence[T]:
        """(V,) what the files say about each video, read when it is used."""
        return Taken([(column(index), numbers) for index, numbers in self._pieces])

    def _numbers_of_videos(
        self, column: Callable[[Index], np.ndarray], dtype: np.dtype[Any] | type
    ) -> np.ndarray:
        """(V,) one number of each video."""
        columns = {id(index): column(index) for index, _ in self._pieces}
        return np.concatenate(
            [np.empty(0, dtype), *(columns[id(index)][numbers] for index, numbers in self._pieces)]
        )

    @functools.cached_property
    def video_ids(self) -> list[str]:
        """(V,) the ids."""
        video_ids = list(self._of_videos(lambda index: index.video_ids))
        if len(set(video_ids)) < len(video_ids):
            raise DamagedFile(f"{self.path}: /video_ids must be unique")
        return video_ids

    @property
    def ids_when_used(self) -> Sequence[str]:
        """(V,) the ids, each of which is read when it is used. They are not known to be unique."""
        return self._of_videos(lambda index: index.video_ids)

    @functools.cached_property
    def labels(self) -> list[str]:
        """(V,) class names, separated by ";" in a multi-label data set."""
        return list(self._of_videos(lambda index: index.labels))

    @functools.cached_property
    def groups(self) -> list[str]:
        """(V,) the recordings that the videos were cut from, "" if unknown."""
        return list(self._of_videos(lambda index: index.groups))

    @functools.cached_property
    def parts(self) -> list[list[str]]:
        """(V, splits) "train", "validation", "test" or ""."""
        splits = self.dataset.splits
        parts: list[list[str]] = []
        for index, numbers in self._pieces:
            own_splits = index.about.dataset.splits
            order = [own_splits.index(split) if split in own_splits else -1 for split in splits]
            of_code: dict[tuple[str, ...], list[str]] = {}  # few, which the videos share
            for own_parts in map(tuple, Taken([(index.parts, numbers)])):
                if own_parts not in of_code:
                    of_code[own_parts] = [own_parts[at] if at >= 0 else "" for at in order]
                parts.append(of_code[own_parts])
        return parts

    @functools.cached_property
    def sources(self) -> Sequence[Mapping[str, Any]]:
        """(V,) facts about the video files. They are read when they are used."""
        return self._of_videos(lambda index: index.sources)

    @functools.cached_property
    def versions(self) -> list[Versions]:
        """(V,) package versions with which the features were computed."""
        return list(self._of_videos(lambda index: index.versions))

    @functools.cached_property
    def rows(self) -> np.ndarray:
        """(V,) int64, number of clean rows."""
        return self._numbers_of_videos(lambda index: index.clean_rows, np.int64)

    @functools.cached_property
    def all_rows(self) -> np.ndarray:
        """(V,) int64, number of rows including augmented views."""
        return self._numbers_of_videos(lambda index: np.diff(np.asarray(index.offsets)), np.int64)

    @functools.cached_property
    def checksums(self) -> np.ndarray:
        """(V,) uint64, of the bytes of all rows."""
        return self._numbers_of_videos(lambda index: np.asarray(index.checksums), np.uint64)

    @functools.cached_property
    def has_views(self) -> bool:
        """Whether any video has rows of augmented views."""
        return any(file.index.has_views for file in self._catalog.files) and bool(
            (self.all_rows > self.rows).any()
        )

    @classmethod
    def open(cls, path: Path | str) -> "Store":
        """Open the store at `path`, which is the .h5 file, or the .parts folder of an unfinished
        store. For an unfinished store, the path of the future .h5 file can also be given. Raises
        InputError if the store does not exist, contains no videos yet, or is damaged."""
        path = final_path(path)
        catalog = scan(path)
        if catalog.files:
            return cls(path, catalog)
        state = "this store does not exist; make it with 'reelbank extract'"
        if begun(path):
            state = "this store contains no videos yet; continue it with 'reelbank extract'"
        elif catalog.damaged:
            reasons = "; ".join(catalog.damaged.values())
            state = f"all parts of this store are damaged ({reasons}); run 'reelbank extract' again"
        raise InputError(f"{path}: {state}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files of the store. Arrays that were read before can still be used."""
        self._catalog.close()

    def __reduce__(self) -> tuple[Callable[[str, str], "Store"], tuple[str, str]]:
        # Open files cannot be pickled: another process opens the store for itself.
        return _reopen, (str(self.path.absolute()), self.identity)

    def __repr__(self) -> str:
        state = "finished" if self.finished else "unfinished"
        shape = " x ".join(map(str, self.row_shape))
        rows = f"{self.rows.sum():,} rows of {shape} {self.dtype}"
        return f"<Store {self.path.name}: {counted(len(self), 'video')}, {rows}, {state}>"

    def __len__(self) -> int:
        """Number of videos."""
        return len(self._catalog)

    def __contains__(self, video_id: object) -> bool:
        return isinstance(video_id, str) and self._catalog.find(video_id) is not None

    def __iter__(self) -> Iterator[str]:
        """The video ids, in the order of `video_ids`."""
        return iter(self._of_videos(lambda index: index.video_ids))

    def __getitem__(self, video_id: str) -> np.ndarray:
        """The clean rows of a video, (K, ...), as returned by `features`."""
        return self.features(video_id)[0]

    @property
    def size_bytes(self) -> int:
        """Size of the store on disk in bytes."""
        return sum(file.size_bytes for file in self._catalog.files)

    @property
    def files_bytes(self) -> dict[Path, int]:
        """The finished files of the store, oldest first, and their sizes in bytes."""
        return {file.path: file.size_bytes for file in self._catalog.finished_files}

    def features(self, video_id: str) -> tuple[np.ndarray, np.ndarray]:
        """The clean rows of a video, (K, ...), and their times in seconds, (K,) float64. Raises
        InputError for an unknown id or damaged data."""
        values, _, times_seconds = self.load([video_id])
        return values, times_seconds

    def times_seconds(self, video_id: str) -> np.ndarray:
        """The times of a video's clean rows in seconds, (K,) float64. The features are not read."""
        file, number = self._place(video_id)
        rows = file.index.rows(number, number + 1)
        return rows.times_seconds[: int(rows.clean[0])].copy()

    def times_of(self, video_ids: Sequence[str]) -> Iterator[np.ndarray]:
        """`times_seconds` of several videos. The features are not read. Raises InputError for an
        unknown id."""
        for _, stretch in self._stretches(video_ids, with_views=False):
            rows = stretch.rows
            firsts = (rows.offsets[:-1] - rows.offsets[0]).tolist()
            for first, count in zip(firsts, rows.clean.tolist(), strict=True):
                yield rows.times_seconds[first : first + count]

    def row_steps_seconds(self) -> np.ndarray:
        """The mean time between the clean rows of each video that has at least two of them, in
        seconds, (n,) float64. The features are not read."""
        steps = [np.empty(0)]
        for _, stretch in self._stretches(None, with_views=False):
            rows = stretch.rows
            count = rows.clean
            firsts = rows.offsets[:-1] - rows.offsets[0]
            several = count > 1
            spans = rows.times_seconds[firsts + count - 1] - rows.times_seconds[firsts]
            steps.append(spans[several] / (count[several] - 1))
        return np.concatenate(steps)

    def views(self, video_id: str) -> np.ndarray:
        """For each row of a video the number of its augmented view, or 0 for a clean row, (K,)
        uint8. The features are not read."""
        file, number = self._place(video_id)
        return file.index.rows(number, number + 1).views.copy()

    def _place(self, video_id: str) -> Place:
        place = self._catalog.find(video_id)
        if place is None:
            raise KeyError(video_id)
        return place

    def load(
        self, video_ids: Sequence[str] | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read the clean rows of several videos (by default, of all videos of the store).

        Returns the rows of all videos one after another, (R, ...); the offsets, (V + 1,) int64; and
        the times of the rows in seconds, (R,) float64. The rows of video i are
        `rows[offsets[i]:offsets[i + 1]]`. The checksum of every video is verified. Raises
        InputError for an unknown id or damaged data.
        """
        values, offsets, times_seconds, _ = self._load(video_ids, with_views=False)
        return values, offsets, times_seconds

    def load_views(
        self, video_ids: Sequence[str] | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Like `load`, but with the rows of augmented views. The clean rows of each video come first,
        followed by the rows of view 1, view 2 and so on. A fourth array, (R,) uint8, contains the
        number of the view of each row, or 0 for a clean row."""
        return self._load(video_ids, with_views=True)

    def _load(
        self, video_ids: Sequence[str] | None, with_views: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        stretches = list(self._stretches(video_ids, with_views=with_views))
        counts = [np.zeros(1, np.int64), *(stretch.counts for _, stretch in stretches)]
        offsets = np.cumsum(np.concatenate(counts))  # (V + 1,)
        values = np.empty((int(offsets[-1]), *self.row_shape), self.dtype)  # (R, ...)
        times_seconds = np.empty(int(offsets[-1]), np.float64)  # (R,)
        views = np.empty(int(offsets[-1]), np.uint8)  # (R,)
        start = 0
        for file, of_file in itertools.groupby(stretches, key=lambda pair: pair[0]):
            with file.reading() as read:
                for _, stretch in of_file:
                    end = start + int(stretch.counts.sum())
                    stretch.read(read, values[start:end])
                    kept = slice(None) if stretch.is_kept is None else stretch.is_kept
                    times_seconds[start:end] = stretch.rows.times_seconds[kept]
                    views[start:end] = stretch.rows.views[kept]
                    start = end
        return values, offsets, times_seconds, views

    def pieces(self) -> Iterator[Piece]:
        """The clean rows of all videos in the order of `video_ids`, a few megabytes (or one video) at
        a time. The checksum of every video is verified. Raises InputError for damaged data."""
        most_rows = _PIECE_BYTES // max(1, math.prod(self.row_shape) * self.dtype.itemsize)
        first = 0
        for file, whole in self._stretches(None, with_views=False):
            for stretch in whole.split(most_rows):
                offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(stretch.counts)])
                values = np.empty((int(offsets[-1]), *self.row_shape), self.dtype)
                with file.reading() as read:
                    stretch.read(read, values)
                kept = slice(None) if stretch.is_kept is None else stretch.is_kept
                yield Piece(first, values, offsets, stretch.rows.times_seconds[kept])
                first += len(offsets) - 1

    def _stretches(
        self, video_ids: Sequence[str] | None, *, with_views: bool
    ) -> Iterator[tuple[File, Stretch]]:
        """These videos, in order, as files and neighbours in them. Raises InputError for an unknown
        id."""
        groups = self._catalog.current() if video_ids is None else self._by_file(video_ids)
        for file, numbers in groups:
            in_file = np.asarray(numbers, np.int64)
            for stretch in np.split(in_file, np.flatnonzero(np.diff(in_file) != 1) + 1):
                for first in range(int(stretch[0]), int(stretch[-1]) + 1, CHUNK):
                    last = min(int(stretch[-1]) + 1, first + CHUNK)
                    yield file, Stretch(first, file.index.rows(first, last), with_views)

    def _by_file(self, video_ids: Sequence[str]) -> Iterable[tuple[File, Sequence[int]]]:
        """These videos, in order, as a file and the numbers of neighbours in it. Raises InputError
        for an unknown id."""
        files = self._catalog.files
        if len(video_ids) < _MANY or len(files) > 1:
            return by_file(self._places(video_ids))
        # Mostly they are neighbours. Ids that were read before are compared without being read again.
        in_file = vars(self).get("video_ids", files[0].index.video_ids)
        first = files[0].index.find(video_ids[0])
        if first is not None:
            last = min(first + len(video_ids), len(in_file))
            if in_file[first:last] == list(video_ids):
                return [(files[0], range(first, last))]
        # Looking up each of many would take longer than reading all ids.
        found = positions(video_ids, self.video_ids, absent=-1)
        if (found < 0).any():
            self._places(video_ids)  # raises InputError
        return [(files[0], found.tolist())]

    def _places(self, video_ids: Sequence[str]) -> list[Place]:
        places = [self._catalog.find(video_id) for video_id in video_ids]
        unknown = [
            video_id for video_id, place in zip(video_ids, places, strict=True) if place is None
        ]
        if unknown:
            raise InputError(
                f"{self.path}: does not contain {len(unknown)} of the {len(places)} requested "
                f"videos, such as {unknown[0]!r}"
            )
        return [place for place in places if place]

    def verify(self) -> list[str]:
        """Check all data of the store. Returns a line of text for each damaged file of the store, and
        for each video that is damaged or contains NaN or infinity. The list is empty if the store
        is intact."""
        lines = list(self.damaged.values())
        for file in self._catalog.files:
            lines += file.damage(with_values=True)
        return lines


def _reopen(path: str, identity: str) -> Store:
    """The store at `path` in another process. Raises InputError when it is another one by now."""
    store = Store.open(path)
    if store.identity != identity:
        store.close()
        raise InputError(
            f"{path}: another store has replaced this one (expected hash {identity[:8]}, got "
            f"{store.identity[:8]}); open the store again"
        )
    return store
