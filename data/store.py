"""Feature stores: one checked HDF5 file when finished, a folder of parts beside it until then (docs/store.md).

No file is ever changed once it has its name: parts and the finished file are written under temporary names, synced, read
back and renamed. So a kill at any moment loses at most the open part.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from reelbank.data import parts
from reelbank.data.errors import InputError
from reelbank.data.index import DTYPES, identity
from reelbank.data.store_writer import StoreWriter

__all__ = ["Store", "StoreWriter", "identity"]

_READ_BYTES = 1 << 20  # small enough that a checksum finds in the cache what was just read


class Store:
    """Reads a finished store, an unfinished one, and anything in between: V videos, R rows in all. Any number of threads may
    read at once; a finished store is opened and checked once, then each video is one read.

    `video_ids`, `labels` (class names; of a multi-label data set joined by ";"), `groups` (V,), `parts` (V, S) of "", "train",
    "test", `sources` (V,) dicts, `rows` (V,) int64 clean ones, `all_rows` (V,) int64 with those of augmented views,
    `has_views`, `checksums` (V,) uint64 of the bytes of all rows, `row_shape`, `dtype` float16 or uint8, `failures` {id:
    {"reason", "bytes"}}, `recipe`, `dataset`, `identity`, `finished`, `cost` {"seconds", "device", "streams"} (the
    wall time of all passes that wrote it, None where it does not say), `versions` (V,) what each video was made with, and
    `damaged`: parts left out and why.
    """

    def __init__(self, path: Path, catalog: parts.Catalog) -> None:
        self.path, self._catalog = path, catalog
        about = catalog.files[-1].index.about
        self.identity: str = about["identity"]
        self.recipe: dict[str, Any] = about["recipe"]
        self.written: dict[str, Any] = about["written"]
        self.cost: dict[str, Any] = catalog.cost()
        self.dataset = catalog.dataset()
        self.finished = catalog.finished
        self.failures = catalog.failures
        self.damaged = {str(name): reason for name, reason in catalog.damaged.items()}
        self.video_ids = list(catalog.where)
        self._number = {video_id: number for number, video_id in enumerate(self.video_ids)}
        found = list(catalog.where.values())
        self.labels = [file.index.labels[number] for file, number in found]
        self.groups = [file.index.groups[number] for file, number in found]
        self.parts = [catalog.parts_of(video_id, self.dataset["splits"]) for video_id in self.video_ids]
        self.sources = [file.index.about["sources"][number] for file, number in found]
        self.versions = [file.index.versions[number] for file, number in found]
        clean = {id(file): file.index.clean_rows.tolist() for file in catalog.files}
        stored = {id(file): np.diff(file.index.offsets).tolist() for file in catalog.files}
        self.rows = np.array([clean[id(file)][number] for file, number in found], np.int64)
        self.all_rows = np.array([stored[id(file)][number] for file, number in found], np.int64)
        self.has_views = bool((self.all_rows > self.rows).any())
        self.checksums = np.array([file.index.checksums[number] for file, number in found], np.uint64)
        kinds = ((file.index.row_shape, file.index.dtype) for file in catalog.files if file.index.video_ids)
        self.row_shape: tuple[int, ...]
        self.dtype: np.dtype[Any]
        self.row_shape, self.dtype = next(kinds, ((0,), DTYPES[0]))

    @classmethod
    def open(cls, path: Path | str) -> "Store":
        """Open the store at `path` (the .h5 file, there or not yet, or the .parts folder). Raises InputError."""
        path = parts.final_path(path)
        catalog = parts.scan(path)
        if not catalog.files:
            damage = f" but damaged parts ({'; '.join(catalog.damaged.values())})" if catalog.damaged else ""
            state = "unfinished, nothing committed yet" if parts.begun(path) else f"no store is there{damage}"
            raise InputError(f"{path}: {state}; 'make extract' makes it")
        return cls(path, catalog)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what was read stays."""
        self._catalog.close()

    @property
    def size_bytes(self) -> int:
        """Bytes on disk, parts included."""
        return sum(file.size_bytes for file in self._catalog.files)

    def features(self, video_id: str) -> tuple[np.ndarray, np.ndarray]:
        """One video's clean rows (K, ...) and their times (K,) float64 in seconds. Raises InputError for an unknown id or
        damaged bytes."""
        values, _, times_seconds = self.load([video_id])
        return values, times_seconds

    def times_seconds(self, video_id: str) -> np.ndarray:
        """The times of one video's clean rows, (K,) float64 in seconds, without reading its features."""
        file, number = self._catalog.where[video_id]
        first = int(file.index.offsets[number])
        return file.index.times_seconds[first : first + int(file.index.clean_rows[number])]

    def views(self, video_id: str) -> np.ndarray:
        """The view of each of one video's rows, (K,) uint8, 0 for a clean one, without reading its features."""
        file, number = self._catalog.where[video_id]
        return file.index.views[file.index.offsets[number] : file.index.offsets[number + 1]]

    def load(self, video_ids: Sequence[str] | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Clean rows of many videos end to end, in the order given (default: the store's): values (R, ...), offsets (V + 1,)
        int64, times (R,) float64 in seconds. Every video's checksum is checked. Raises InputError."""
        values, offsets, times_seconds, _ = self._load(video_ids, with_views=False)
        return values, offsets, times_seconds

    def load_views(self, video_ids: Sequence[str] | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """As `load`, with the rows of augmented views: each video's clean rows, then view 1's, 2's ...; and last `views` (R,)
        uint8, 0 for a clean row, n for one of the n-th view."""
        return self._load(video_ids, with_views=True)

    def _load(self, video_ids: Sequence[str] | None, with_views: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        wanted = self.video_ids if video_ids is None else list(video_ids)
        unknown = [video_id for video_id in wanted if video_id not in self._number]
        if unknown:
            raise InputError(
                f"{self.path}: holds no video {unknown[0]!r} ({len(unknown)} of the {len(wanted)} wanted are missing)"
            )
        numbers = np.array([self._number[video_id] for video_id in wanted], np.int64)
        rows = (self.all_rows if with_views else self.rows)[numbers]
        offsets = np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)  # (V + 1,)
        values = np.empty((int(offsets[-1]), *self.row_shape), self.dtype)  # (R, ...)
        times_seconds = np.empty(int(offsets[-1]), np.float64)  # (R,)
        views = np.empty(int(offsets[-1]), np.uint8)  # (R,)
        at = 0
        found = [self._catalog.where[video_id] for video_id in wanted]
        for file, group in itertools.groupby(found, key=lambda place: place[0]):
            index, in_file = file.index, [number for _, number in group]
            try:
                with file.reading() as read:
                    for first, last in _runs(in_file, index.offsets, _READ_BYTES // values[:1].nbytes):
                        stored = slice(int(index.offsets[first]), int(index.offsets[last]))
                        kept = None if with_views or not index.has_views else index.views[stored] == 0
                        end = at + (stored.stop - stored.start if kept is None else int(kept.sum()))
                        if kept is None or kept.all():
                            kept = slice(None)
                            read(first, last, values[at:end])
                        else:  # a checksum is of all rows of its video
                            everything = np.empty((len(kept), *self.row_shape), self.dtype)
                            read(first, last, everything)
                            np.compress(kept, everything, axis=0, out=values[at:end])
                        times_seconds[at:end] = index.times_seconds[stored][kept]
                        views[at:end] = index.views[stored][kept]
                        at = end
            except FileNotFoundError:
                raise InputError(f"{file.path}: was merged into the finished store meanwhile; open the store again") from None
        return values, offsets, times_seconds, views

    def verify(self) -> list[str]:
        """Reads every byte: one line for each damaged video or part; none when all is well."""
        return [*self.damaged.values(), *(line for file in self._catalog.files for line in file.damage())]


def _runs(numbers: list[int], offsets: np.ndarray, most_rows: int) -> Iterator[tuple[int, int]]:
    """The numbers as ranges (first, last + 1) of at most `most_rows` rows, or of one video: each is one read."""
    first = last = numbers[0]
    for number in numbers:
        if number != last or (number > first and offsets[number + 1] - offsets[first] > most_rows):
            yield first, last
            first = number
        last = number + 1
    yield first, last
