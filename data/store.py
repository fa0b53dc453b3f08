"""Feature stores: one checked HDF5 file when finished, a folder of parts beside it until then (docs/store.md).

No file is ever changed once it has its name: parts and the finished file are written under temporary names, synced, read
back and renamed. So a kill at any moment loses at most the open part.
"""

import contextlib
import itertools
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from reelbank.data import feature_file, parts
from reelbank.data.errors import InputError
from reelbank.data.feature_file import FeatureFile, checksum
from reelbank.data.index import PART_NAMES, Index, check_id, identity, make_about
from reelbank.data.recipe import canonical

__all__ = ["Store", "StoreWriter", "identity"]

_READ_BYTES = 1 << 20  # small enough that a checksum finds in the cache what was just read
_PART_BYTES = 1 << 28  # a part is gathered in memory: feature maps close it before their number does


class Store:
    """Reads a finished store, an unfinished one, and anything in between: V videos, R rows in all.
    `video_ids`, `labels` (class names), `groups` (V,), `parts` (V, S) of "", "train", "test", `sources` (V,) dicts,
    `rows` (V,) int64, `checksums` (V,) uint64 of the features' bytes, `row_shape`, `dtype` float16, `failures` {id: {"reason",
    "bytes"}}, `recipe`, `dataset`, `identity`, `finished`, and `damaged`: parts left out and why.
    """

    dtype = np.dtype("<f2")

    def __init__(self, path: Path, catalog: parts.Catalog) -> None:
        self.path, self._catalog = path, catalog
        about = catalog.files[-1].index.about
        self.identity: str = about["identity"]
        self.recipe: dict[str, Any] = about["recipe"]
        self.written: dict[str, Any] = about["written"]
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
        rows = {id(file): np.diff(file.index.offsets).tolist() for file in catalog.files}
        self.rows = np.array([rows[id(file)][number] for file, number in found], np.int64)
        self.checksums = np.array([file.index.checksums[number] for file, number in found], np.uint64)
        self.row_shape: tuple[int, ...] = next((f.index.row_shape for f in catalog.files if f.index.video_ids), (0,))

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
        """One video's rows (K, ...) float16 and their times (K,) float64 in seconds. Raises InputError for an unknown id
        or damaged bytes."""
        values, _, times_seconds = self.load([video_id])
        return values, times_seconds

    def times_seconds(self, video_id: str) -> np.ndarray:
        """The times of one video's rows, (K,) float64 in seconds, without reading its features."""
        file, number = self._catalog.where[video_id]
        return file.index.times_seconds[file.index.offsets[number] : file.index.offsets[number + 1]]

    def load(self, video_ids: Sequence[str] | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Features of many videos end to end, in the order given (default: the store's): values (R, ...) float16, offsets
        (V + 1,) int64, times (R,) float64 in seconds. Every video's checksum is checked. Raises InputError."""
        wanted = self.video_ids if video_ids is None else list(video_ids)
        unknown = [video_id for video_id in wanted if video_id not in self._number]
        if unknown:
            raise InputError(
                f"{self.path}: holds no video {unknown[0]!r} ({len(unknown)} of the {len(wanted)} wanted are missing)"
            )
        numbers = np.array([self._number[video_id] for video_id in wanted], np.int64)
        offsets = np.concatenate([[0], np.cumsum(self.rows[numbers])]).astype(np.int64)  # (V + 1,)
        values = np.empty((int(offsets[-1]), *self.row_shape), self.dtype)  # (R, ...)
        times_seconds = np.empty(int(offsets[-1]), np.float64)  # (R,)
        at = 0
        found = [self._catalog.where[video_id] for video_id in wanted]
        for file, group in itertools.groupby(found, key=lambda place: place[0]):
            stored, in_file = file.index.offsets, [number for _, number in group]
            try:
                with file.reading() as read:
                    for first, last in _runs(in_file, stored, _READ_BYTES // values[:1].nbytes):
                        end = at + int(stored[last] - stored[first])
                        read(first, last, values[at:end])
                        times_seconds[at:end] = file.index.times_seconds[stored[first] : stored[last]]
                        at = end
            except FileNotFoundError:
                raise InputError(f"{file.path}: was merged into the finished store meanwhile; open the store again") from None
        return values, offsets, times_seconds

    def verify(self) -> list[str]:
        """Reads every byte: one line for each damaged video or part; none when all is well."""
        return [*self.damaged.values(), *(line for file in self._catalog.files for line in file.damage())]


class StoreWriter:
    """Writes a store; not for use from two threads at once.

    `done` {id: source bytes} and `failed` {id: {"reason", "bytes"}} tell what is committed. Any number of writers may work
    on one store under different `shard` names. A part closes after `part_videos` or `part_seconds`, looked at when a video
    is added. `compression` ("gzip" or "lzf") saves disk and costs time. Raises InputError when another writer has this
    shard, the store has another recipe, or the folder cannot be written.
    """

    def __init__(
        self,
        path: Path | str,
        recipe: dict[str, Any],
        dataset: dict[str, Any],
        part_videos: int = 64,
        part_seconds: float = 30.0,
        shard: str = "",
        compression: str = "",
    ) -> None:
        parts.check_shard(shard)
        if compression not in feature_file.COMPRESSIONS:
            raise InputError(f"compression {compression!r}: choose from gzip, lzf, or none")
        self.path = parts.final_path(path)
        self.recipe, self.dataset = json.loads(canonical(recipe)), json.loads(canonical(dataset))
        self.identity = identity(self.recipe, self.dataset["name"])
        self._folder, self._shard, self._compression = parts.parts_folder(self.path), shard, compression
        self._part_videos, self._part_seconds = part_videos, part_seconds
        self._open: dict[str, tuple[dict[str, Any], np.ndarray, np.ndarray]] = {}
        self._open_failures: dict[str, dict[str, Any]] = {}
        self._open_bytes, self._open_since = 0, 0.0
        self._lock: int | None = self._take_lock()
        try:
            parts.sweep(self._folder, shard)
            self._catalog = parts.scan(self.path, whole=True)
            self._check_recipe()
        except BaseException:
            self._release()
            raise
        self._refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _take_lock(self) -> int:
        try:
            fd = parts.lock(parts.shard_lock(self._folder, self._shard), wait=False)
        except OSError as error:
            raise InputError(f"{self._folder}: cannot be written ({error.strerror}); choose another BANK") from None
        if fd is None:
            raise InputError(f"{self.path}: another extraction of this store is running; wait for it, or end it")
        return fd

    def _check_recipe(self) -> None:
        for file in self._catalog.files[:1]:
            if file.index.about["identity"] != self.identity:
                lines = parts.recipe_differences({"dataset": self.dataset, "recipe": self.recipe}, file.index.about)
                raise InputError(f"{self.path}: is a store of another recipe ({'; '.join(lines)}); choose another name")

    def _refresh(self) -> None:
        self.done: dict[str, int] = {video_id: self._catalog.source_bytes(video_id) for video_id in self._catalog.where}
        self.failed: dict[str, dict[str, Any]] = self._catalog.failures

    def add(self, meta: dict[str, Any], values: np.ndarray, times_seconds: np.ndarray) -> None:
        """Add a video's rows (K, ...), stored as float16, with their times (K,) in seconds; the arrays are copied.

        Raises InputError naming the video when a value is not finite in float16, or shapes do not fit.
        """
        self._check_meta(meta)
        name = meta["id"]
        given = np.asarray(values)
        if given.dtype.kind not in "fiu" or given.ndim < 2 or not given.size:
            raise InputError(f"{name}: features must be numbers of shape (K, ...), not {given.dtype} {given.shape}")
        with np.errstate(over="ignore"):
            stored = np.array(given, "<f2", order="C")  # (K, ...)
        if not np.isfinite(stored).all():
            why = "exceed what float16 holds (65504)" if np.isfinite(given).all() else "hold NaN or infinity"
            raise InputError(f"{name}: its features {why}; they are not stored")
        times = np.array(times_seconds, "<f8")  # (K,)
        if times.shape != stored.shape[:1] or not np.isfinite(times).all():
            raise InputError(f"{name}: {len(stored)} rows need as many finite times, not {times.shape}")
        row_shape = self._row_shape()
        if row_shape and stored.shape[1:] != row_shape:
            raise InputError(f"{name}: rows of shape {stored.shape[1:]} in a store of rows {row_shape}")
        self._begin()
        self._open_failures.pop(name, None)
        self._open[name] = (json.loads(canonical(meta)), stored, times)
        self._open_bytes += stored.nbytes
        self._flush_if_due()

    def fail(self, meta: dict[str, Any], reason: str) -> None:
        """Record that a video gives no features, and why."""
        check_id(meta["id"])
        self._begin()
        if meta["id"] not in self._open:
            bytes_ = int(meta.get("source", {}).get("bytes", 0))
            self._open_failures[meta["id"]] = {"reason": " ".join(reason.split()), "bytes": bytes_}
        self._flush_if_due()

    def _check_meta(self, meta: dict[str, Any]) -> None:
        check_id(meta["id"])
        if meta["label"] and meta["label"] not in self.dataset["classes"]:
            raise InputError(f"{meta['id']}: its class {meta['label']!r} is not one of the data set's")
        if len(meta["parts"]) != len(self.dataset["splits"]) or not set(meta["parts"]) <= set(PART_NAMES):
            raise InputError(f"{meta['id']}: parts {meta['parts']} must be train, test or '' for each split")

    def _row_shape(self) -> tuple[int, ...] | None:
        for _, values, _ in self._open.values():
            return values.shape[1:]
        return next((file.index.row_shape for file in self._catalog.files if file.index.video_ids), None)

    def _begin(self) -> None:
        if not self._open and not self._open_failures:
            self._open_since = time.monotonic()

    def _flush_if_due(self) -> None:
        waited_seconds = time.monotonic() - self._open_since
        many = len(self._open) + len(self._open_failures) >= self._part_videos
        if many or waited_seconds >= self._part_seconds or self._open_bytes >= _PART_BYTES:
            self.flush()

    def flush(self) -> None:
        """Commit the open part: once this returns, its videos survive kills and power cuts. Raises InputError when it cannot
        be written; then the open part is lost, and nothing else."""
        gathered, failures = list(self._open.values()), self._open_failures
        self._open, self._open_failures, self._open_bytes = {}, {}, 0
        if not gathered and not failures:
            return
        metas = [meta for meta, _, _ in gathered]
        index = Index(
            video_ids=[meta["id"] for meta in metas],
            labels=[meta["label"] for meta in metas],
            groups=[meta["group"] for meta in metas],
            parts=[meta["parts"] for meta in metas],
            offsets=np.cumsum([0, *(len(values) for _, values, _ in gathered)]),
            times_seconds=np.concatenate([np.empty(0), *(times for _, _, times in gathered)]),
            checksums=np.array([checksum(values) for _, values, _ in gathered], np.uint64),
            row_shape=gathered[0][1].shape[1:] if gathered else (0,),
            about=make_about(self.recipe, self.dataset, [meta.get("source", {}) for meta in metas], failures),
        )
        part = parts.part_name(self._folder, self._shard, time.time_ns())
        self._commit(index, (values for _, values, _ in gathered), part)
        self._catalog.append(FeatureFile(part))
        self._refresh()

    def _commit(self, index: Index, videos: Iterable[np.ndarray], name: Path) -> None:
        temporary = parts.temporary_name(self._folder, self._shard)
        try:
            feature_file.write(temporary, index, videos, self._compression)
            temporary.replace(name)
            parts.sync_folder(name.parent)
            parts.sync_folder(self._folder)
        except OSError as error:
            raise InputError(
                f"{name}: cannot be written ({error.strerror}); what was committed before is safe: free space and run again"
            ) from None

    def finish(self, videos: list[dict[str, Any]]) -> bool:
        """Commit, and when every video of the list is there or failed, merge all into the one finished file, then remove the
        parts. Labels, groups and parts of the list replace older ones; videos beyond the list stay. Returns whether the
        store is finished now. Raises InputError for a full disk, a damaged video, a folder's group in both parts of a split;
        nothing is lost then."""
        self.flush()
        for meta in videos:
            self._check_meta(meta)
        with parts.merging(self._folder):
            self._rescan()
            known = self._catalog.where.keys() | self._catalog.failures.keys()
            if not known.issuperset(meta["id"] for meta in videos):
                return False
            index, places = self._merged(videos)
            final = self._catalog.final
            if final is None or not _same(index, final.index):
                self._commit(index, _read_all(places), self.path)
            for name in [*(file.path for file in self._catalog.parts), *self._catalog.damaged]:
                name.unlink(missing_ok=True)
            parts.sync_folder(self._folder)
            self._rescan()
        return True

    def _rescan(self) -> None:
        self._catalog.close()
        self._catalog = parts.scan(self.path, whole=True)
        self._check_recipe()
        self._refresh()

    def _merged(self, videos: list[dict[str, Any]]) -> tuple[Index, list[tuple[FeatureFile, int]]]:
        catalog = self._catalog
        dataset = parts.combine_datasets(catalog.dataset(), self.dataset) if catalog.files else self.dataset
        listed = {meta["id"]: meta for meta in videos}
        first = catalog.final.index.video_ids if catalog.final else [v for v in listed if v in catalog.where]
        ids = list(dict.fromkeys([*first, *(v for v in listed if v in catalog.where), *catalog.where]))
        places = [catalog.where[video_id] for video_id in ids]
        rows = [int(file.index.offsets[n + 1] - file.index.offsets[n]) for file, n in places]
        times = (file.index.times_seconds[file.index.offsets[n] : file.index.offsets[n + 1]] for file, n in places)
        old_parts = [catalog.parts_of(video_id, dataset["splits"]) for video_id in ids]
        index = Index(
            video_ids=ids,
            labels=[listed[v]["label"] if v in listed else f.index.labels[n] for v, (f, n) in zip(ids, places, strict=True)],
            groups=[listed[v]["group"] if v in listed else f.index.groups[n] for v, (f, n) in zip(ids, places, strict=True)],
            parts=[self._new_parts(listed.get(v), old, dataset["splits"]) for v, old in zip(ids, old_parts, strict=True)],
            offsets=np.cumsum([0, *rows]),
            times_seconds=np.concatenate([np.empty(0), *times]),
            checksums=np.array([file.index.checksums[n] for file, n in places], np.uint64),
            row_shape=places[0][0].index.row_shape if places else (0,),
            about=make_about(self.recipe, dataset, [file.index.about["sources"][n] for file, n in places], catalog.failures),
        )
        parts.check_groups(self.path, index)
        return index, places

    def _new_parts(self, meta: dict[str, Any] | None, old: list[str], splits: list[str]) -> list[str]:
        if meta is None:
            return old
        given = dict(zip(self.dataset["splits"], meta["parts"], strict=True))
        return [given.get(split, part) for split, part in zip(splits, old, strict=True)]

    def close(self) -> None:
        """Commit the open part and let the store go."""
        if self._lock is None:
            return
        try:
            self.flush()
        finally:
            self._catalog.close()
            self._release()

    def _release(self) -> None:
        assert self._lock is not None
        parts.sweep(self._folder, self._shard)
        parts.shard_lock(self._folder, self._shard).unlink(missing_ok=True)
        os.close(self._lock)
        self._lock = None
        with contextlib.suppress(OSError):  # not empty: parts, or another writer's lock
            self._folder.rmdir()


def _runs(numbers: list[int], offsets: np.ndarray, most_rows: int) -> Iterator[tuple[int, int]]:
    """The numbers as ranges (first, last + 1) of at most `most_rows` rows, or of one video: each is one read."""
    first = last = numbers[0]
    for number in numbers:
        if number != last or (number > first and offsets[number + 1] - offsets[first] > most_rows):
            yield first, last
            first = number
        last = number + 1
    yield first, last


def _same(one: Index, other: Index) -> bool:
    abouts = [{key: value for key, value in index.about.items() if key != "written"} for index in (one, other)]
    lists = [(index.video_ids, index.labels, index.groups, index.parts) for index in (one, other)]
    arrays = ("offsets", "times_seconds", "checksums")
    return (
        abouts[0] == abouts[1]
        and lists[0] == lists[1]
        and all(np.array_equal(getattr(one, a), getattr(other, a)) for a in arrays)
    )


def _read_all(places: list[tuple[FeatureFile, int]]) -> Iterator[np.ndarray]:
    for file, group in itertools.groupby(places, key=lambda place: place[0]):
        with file.reading() as read:
            for _, number in group:
                rows = int(file.index.offsets[number + 1] - file.index.offsets[number])
                values = np.empty((rows, *file.index.row_shape), "<f2")  # (K, ...)
                read(number, number + 1, values)
                yield values
