"""Reading feature stores: one checked HDF5 file if finished, a folder of parts next to it until then
(docs/store.md).

No file is ever changed once it has its name: parts and the finished file are written under
temporary names, synced to disk, read back and renamed. So a kill at any moment loses at most the
open part.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from reelbank.data.console import counted
from reelbank.data.errors import InputError
from reelbank.data.store.catalog import Catalog, by_file, scan
from reelbank.data.store.file.index import DTYPES, Index
from reelbank.data.store.parts import begun, final_path

_READ_BYTES = 1 << 20  # small enough that the checksum finds in the cache what was just read


class Store:
    """A feature store that is open for reading. It contains the features of V videos.

    The features of a video are a sequence of rows, one for each clip. Rows without augmentation are
    called clean rows; a store can also contain the rows of augmented views. The store may be
    unfinished. `len(store)`, `video_id in store`, `store[video_id]` (the clean rows of a video) and
    iteration over the video ids are supported. Several threads may read at the same time. If a
    store is pickled, it is opened again by its path.

    Attributes with V entries, one for each video:
    `video_ids`; `labels` (class names, separated by ";" in a multi-label data set); `groups`;
    `parts` ("train", "test" or "" for each split); `sources` (facts about the video file);
    `versions` (package versions with which the features were computed); `rows` (int64, number of
    clean rows); `all_rows` (int64, number of rows including augmented views); `checksums` (uint64,
    of the bytes of all rows).

    Attributes of the store:
    `path`; `recipe`; `dataset` (a DatasetDescription); `identity` (hash of recipe and data set);
    `finished`; `row_shape`; `dtype` (float16 or uint8); `has_views`; `failures` (maps the id of a
    video without features to a Failure); `cost` (a Cost); `written` (package versions and time of
    the last change); `damaged` (maps files of the store that were left out to the reason).
    """

    def __init__(self, path: Path, catalog: Catalog) -> None:
        self.path, self._catalog = path, catalog
        about = catalog.files[-1].index.about
        self.identity, self.recipe, self.written = about.identity, about.recipe, about.written
        self.cost = catalog.cost()
        self.dataset = catalog.dataset()
        self.finished = catalog.finished
        self.failures = catalog.failures
        self.damaged = {str(part): reason for part, reason in catalog.damaged.items()}
        self.video_ids = list(catalog.where)
        self._number = {video_id: number for number, video_id in enumerate(self.video_ids)}
        places = [(place.file.index, place.number) for place in catalog.where.values()]
        self.labels = [index.labels[number] for index, number in places]
        self.groups = [index.groups[number] for index, number in places]
        self.parts = [
            catalog.parts_of(video_id, self.dataset.splits) for video_id in self.video_ids
        ]
        self.sources = [index.source(number) for index, number in places]
        self.versions = [index.version(number) for index, number in places]
        # numpy is slow at single elements, of which there may be a million.
        clean = {id(file.index): file.index.clean_rows.tolist() for file in catalog.files}
        stored = {id(file.index): np.diff(file.index.offsets).tolist() for file in catalog.files}
        self.rows = np.array([clean[id(index)][number] for index, number in places], np.int64)
        self.all_rows = np.array([stored[id(index)][number] for index, number in places], np.int64)
        self.has_views = bool((self.all_rows > self.rows).any())
        self.checksums = np.array([index.checksums[number] for index, number in places], np.uint64)
        self.row_shape: tuple[int, ...] = (0,)
        self.dtype: np.dtype[Any] = DTYPES[0]
        for file in catalog.files:
            if file.index.video_ids:
                self.row_shape, self.dtype = file.index.row_shape, file.index.dtype
                break

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
        return len(self.video_ids)

    def __contains__(self, video_id: object) -> bool:
        return video_id in self._number

    def __iter__(self) -> Iterator[str]:
        """The video ids, in the order of `video_ids`."""
        return iter(self.video_ids)

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
        file, number = self._catalog.where[video_id]
        first = int(file.index.offsets[number])
        return file.index.times_seconds[first : first + int(file.index.clean_rows[number])]

    def views(self, video_id: str) -> np.ndarray:
        """For each row of a video the number of its augmented view, or 0 for a clean row, (K,)
        uint8. The features are not read."""
        file, number = self._catalog.where[video_id]
        return file.index.views[file.index.offsets[number] : file.index.offsets[number + 1]]

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
        ids = self.video_ids if video_ids is None else list(video_ids)
        unknown = [video_id for video_id in ids if video_id not in self._number]
        if unknown:
            raise InputError(
                f"{self.path}: does not contain {len(unknown)} of the {len(ids)} requested "
                f"videos, such as {unknown[0]!r}"
            )
        numbers = np.array([self._number[video_id] for video_id in ids], np.int64)
        rows = (self.all_rows if with_views else self.rows)[numbers]
        offsets = np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)  # (V + 1,)
        values = np.empty((int(offsets[-1]), *self.row_shape), self.dtype)  # (R, ...)
        times_seconds = np.empty(int(offsets[-1]), np.float64)  # (R,)
        views = np.empty(int(offsets[-1]), np.uint8)  # (R,)
        most_rows = _READ_BYTES // max(1, values[:1].nbytes)
        start = 0
        for file, in_file in by_file(self._catalog.where[video_id] for video_id in ids):
            index = file.index
            try:
                with file.reading() as read:
                    for first, last in _ranges(in_file, index.offsets, most_rows):
                        stored = slice(int(index.offsets[first]), int(index.offsets[last]))
                        is_kept = _kept_rows(index, stored, with_views=with_views)
                        if is_kept is None:
                            end = start + stored.stop - stored.start
                            read(first, last, values[start:end])
                            kept: slice | np.ndarray = slice(None)
                        else:  # a checksum covers all rows of its video, so all are read
                            kept = is_kept
                            end = start + int(is_kept.sum())
                            all_values = np.empty((len(is_kept), *self.row_shape), self.dtype)
                            read(first, last, all_values)
                            np.compress(is_kept, all_values, axis=0, out=values[start:end])
                        times_seconds[start:end] = index.times_seconds[stored][kept]
                        views[start:end] = index.views[stored][kept]
                        start = end
            except FileNotFoundError:
                raise InputError(
                    f"{file.path}: another process merged this file into the finished store; open "
                    "the store again"
                ) from None
        return values, offsets, times_seconds, views

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


def _kept_rows(index: Index, stored: slice, *, with_views: bool) -> np.ndarray | None:
    """Which of a range of rows are clean, (R',) bool; None if all of them are to be returned."""
    if with_views or not index.has_views:
        return None
    is_clean = index.views[stored] == 0
    return None if is_clean.all() else is_clean


def _ranges(numbers: list[int], offsets: np.ndarray, most_rows: int) -> Iterator[tuple[int, int]]:
    """Numbers of videos as ranges (first, last + 1) of neighbours, each of which is one read: of at
    most `most_rows` rows, or of one video."""
    first = last = numbers[0]
    for number in numbers:
        if number != last or (number > first and offsets[number + 1] - offsets[first] > most_rows):
            yield first, last
            first = number
        last = number + 1
    yield first, last
