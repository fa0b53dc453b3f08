"""Writing a feature store: parts while it grows, one file when every video is there (docs/store.md)."""

import contextlib
import itertools
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from reelbank.data import feature_file, parts
from reelbank.data.errors import InputError
from reelbank.data.feature_file import FeatureFile, checksum
from reelbank.data.index import DTYPES, PART_NAMES, Index, are_views, check_classes, check_id, identity, label_names, make_about
from reelbank.data.made import Made, Versions
from reelbank.data.recipe import canonical

_PART_BYTES = 1 << 28  # a part is gathered in memory: feature maps close it before their number does


class _Video(NamedTuple):
    meta: dict[str, Any]
    values: np.ndarray  # (K, ...) float16 or uint8
    times_seconds: np.ndarray  # (K,) float64
    views: np.ndarray  # (K,) uint8


class StoreWriter:
    """Writes a store; not for use from two threads at once.

    `done` {id: source bytes} and `failed` {id: {"reason", "bytes"}} tell what is committed. Any number of writers may work
    on one store under different `shard` names. A part closes after `part_videos` or `part_seconds`, looked at when a video
    is added. `compression` ("gzip" or "lzf") saves disk and costs time. `made` says for people on what, for what and with
    which versions the features are computed; with the seconds that a writer was open it is what a store has cost.
    Raises InputError when another writer has this shard, the store has another recipe, or the folder cannot be written.
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
        made: Made | None = None,
    ) -> None:
        parts.check_shard(shard)
        if compression not in feature_file.COMPRESSIONS:
            raise InputError(f"compression {compression!r}: choose from gzip, lzf, or none")
        self.path = parts.final_path(path)
        self.recipe, self.dataset = json.loads(canonical(recipe)), json.loads(canonical(dataset))
        check_classes(self.dataset)
        self.identity = identity(self.recipe, self.dataset["name"])
        self._folder, self._shard, self._compression = parts.parts_folder(self.path), shard, compression
        self._part_videos, self._part_seconds = part_videos, part_seconds
        self._open: dict[str, _Video] = {}
        self._open_failures: dict[str, dict[str, Any]] = {}
        self._open_bytes, self._open_since = 0, 0.0
        self._made, self._paid_until = made or Made(), time.monotonic()
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
            parts.check_labelling(self.path, file.index.about["dataset"], self.dataset)

    def _refresh(self) -> None:
        self.done: dict[str, int] = {video_id: self._catalog.source_bytes(video_id) for video_id in self._catalog.where}
        self.failed: dict[str, dict[str, Any]] = self._catalog.failures

    def versions(self) -> Counter[Versions]:
        """What the committed videos were made with, and how many with each."""
        return Counter(file.index.versions[number] for file, number in self._catalog.where.values())

    def add(self, meta: dict[str, Any], values: np.ndarray, times_seconds: np.ndarray, views: np.ndarray | None = None) -> None:
        """Add a video's rows (K, ...), stored as uint8 when they are uint8 and else as float16, with their times (K,) in
        seconds; the arrays are copied. `views` (K,): 0 for a clean row, n for the n-th augmented view; the clean rows
        first, then view by view (default: all clean).

        Raises InputError naming the video when a value is not finite in float16, shapes do not fit, or the store's other
        rows are of another shape or type.
        """
        self._check_meta(meta)
        name = meta["id"]
        given = np.asarray(values)
        if given.dtype.kind not in "fiu" or given.ndim < 2 or not given.size:
            raise InputError(f"{name}: features must be numbers of shape (K, ...), not {given.dtype} {given.shape}")
        with np.errstate(over="ignore"):
            stored = np.array(given, given.dtype if given.dtype == np.uint8 else "<f2", order="C")  # (K, ...)
        if not np.isfinite(stored).all():
            why = "exceed what float16 holds (65504)" if np.isfinite(given).all() else "hold NaN or infinity"
            raise InputError(f"{name}: its features {why}; they are not stored")
        times = np.array(times_seconds, "<f8")  # (K,)
        if times.shape != stored.shape[:1] or not np.isfinite(times).all():
            raise InputError(f"{name}: {len(stored)} rows need as many finite times, not {times.shape}")
        of_view = np.zeros(len(stored), np.uint8) if views is None else np.array(views)  # (K,)
        is_view_list = (
            of_view.shape == stored.shape[:1] and of_view.dtype.kind in "iu" and 0 <= of_view.min() <= of_view.max() < 256
        )
        if not is_view_list or not are_views(of_view, np.array([0, len(stored)])):
            raise InputError(f"{name}: views {of_view.tolist()} of {len(stored)} rows: clean rows (0) first, then 1, 2, ...")
        kind, kept = self._row_kind(), (stored.shape[1:], stored.dtype)
        if kind and kept != kind:
            raise InputError(f"{name}: rows of shape {kept[0]} {kept[1]} in a store of rows {kind[0]} {kind[1]}")
        self._begin()
        self._open_failures.pop(name, None)
        self._open[name] = _Video(json.loads(canonical(meta)), stored, times, of_view.astype(np.uint8))
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
        for name in label_names(meta["label"], self.dataset):
            if name not in self.dataset["classes"]:
                raise InputError(f"{meta['id']}: its class {name!r} is not one of the data set's")
        if len(meta["parts"]) != len(self.dataset["splits"]) or not set(meta["parts"]) <= set(PART_NAMES):
            raise InputError(f"{meta['id']}: parts {meta['parts']} must be train, test or '' for each split")

    def _row_kind(self) -> tuple[tuple[int, ...], np.dtype[Any]] | None:
        for video in self._open.values():
            return video.values.shape[1:], video.values.dtype
        return next(((f.index.row_shape, f.index.dtype) for f in self._catalog.files if f.index.video_ids), None)

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
        metas = [video.meta for video in gathered]
        now = time.monotonic()
        said = {"device": self._made.device, "streams": self._made.streams}
        cost = {"seconds": round(now - self._paid_until, 3), **{key: text for key, text in said.items() if text}}
        self._paid_until = now
        index = Index(
            video_ids=[meta["id"] for meta in metas],
            labels=[meta["label"] for meta in metas],
            groups=[meta["group"] for meta in metas],
            parts=[meta["parts"] for meta in metas],
            offsets=np.cumsum([0, *(len(video.values) for video in gathered)]),
            times_seconds=np.concatenate([np.empty(0), *(video.times_seconds for video in gathered)]),
            views=np.concatenate([np.empty(0, np.uint8), *(video.views for video in gathered)]),
            checksums=np.array([checksum(video.values) for video in gathered], np.uint64),
            row_shape=gathered[0].values.shape[1:] if gathered else (0,),
            dtype=gathered[0].values.dtype if gathered else DTYPES[0],
            about=make_about(
                self.recipe,
                self.dataset,
                [meta.get("source", {}) for meta in metas],
                failures,
                cost=cost,
                versions=[self._made.versions] * len(metas),
            ),
        )
        part = parts.part_name(self._folder, self._shard, time.time_ns())
        self._commit(index, (video.values for video in gathered), part)
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
        spans = [(file.index, slice(file.index.offsets[n], file.index.offsets[n + 1])) for file, n in places]
        old_parts = [catalog.parts_of(video_id, dataset["splits"]) for video_id in ids]
        index = Index(
            video_ids=ids,
            labels=[listed[v]["label"] if v in listed else f.index.labels[n] for v, (f, n) in zip(ids, places, strict=True)],
            groups=[listed[v]["group"] if v in listed else f.index.groups[n] for v, (f, n) in zip(ids, places, strict=True)],
            parts=[self._new_parts(listed.get(v), old, dataset["splits"]) for v, old in zip(ids, old_parts, strict=True)],
            offsets=np.cumsum([0, *(span.stop - span.start for _, span in spans)]),
            times_seconds=np.concatenate([np.empty(0), *(old.times_seconds[span] for old, span in spans)]),
            views=np.concatenate([np.empty(0, np.uint8), *(old.views[span] for old, span in spans)]),
            checksums=np.array([file.index.checksums[n] for file, n in places], np.uint64),
            row_shape=places[0][0].index.row_shape if places else (0,),
            dtype=places[0][0].index.dtype if places else DTYPES[0],
            about=make_about(
                self.recipe,
                dataset,
                [file.index.about["sources"][n] for file, n in places],
                catalog.failures,
                cost=catalog.cost(),
                versions=[file.index.versions[n] for file, n in places],
            ),
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


def _same(one: Index, other: Index) -> bool:
    abouts = [{key: value for key, value in index.about.items() if key != "written"} for index in (one, other)]
    lists = [(index.video_ids, index.labels, index.groups, index.parts) for index in (one, other)]
    arrays = ("offsets", "times_seconds", "views", "checksums")
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
                values = np.empty((rows, *file.index.row_shape), file.index.dtype)  # (K, ...)
                read(number, number + 1, values)
                yield values
