"""Writes feature stores. An unfinished store is a folder of parts; when all videos are extracted,
the parts are merged into one file (docs/store.md)."""

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.identity import canonical
from reelbank.data.store.catalog import check_labelling, scan, tell_damaged_part
from reelbank.data.store.file.about import (
    About,
    VideoFacts,
    check_ids,
    recipe_differences,
    written_now,
)
from reelbank.data.store.file.format import COMPRESSIONS, FeatureFile
from reelbank.data.store.file.header import DamagedFile
from reelbank.data.store.merge import DamagedPart
from reelbank.data.store.merging.committing import commit, settle
from reelbank.data.store.merging.files import OPEN_PARTS
from reelbank.data.store.merging.groups import check_groups
from reelbank.data.store.merging.plan import Request, planned
from reelbank.data.store.merging.tiers import LARGEST_BYTES
from reelbank.data.store.parts import (
    PartNames,
    check_no_link,
    check_numbers,
    check_shard,
    merging,
    parts_folder,
    remove_leftovers,
    shard_lock,
    temporary_name,
)
from reelbank.data.store.records import (
    Cost,
    DatasetDescription,
    DatasetListing,
    Failure,
    StoredVideo,
)
from reelbank.data.store.rows import (
    VideoRows,
    as_stored,
    check_views,
    labelling_fault,
    part_index,
    times_fault,
)
from reelbank.data.store.stored import StoredFeatures
from reelbank.data.store.versions import Made
from reelbank.data.store.weights import weights_to_json
from reelbank.data.system.locks import Lock, holder, lock
from reelbank.data.video.sources import SourceFile

_PART_BYTES = 1 << 28  # a part is kept in memory: feature maps close it before their number does

_LOCK_ATTEMPTS, _LOCK_PAUSE_SECONDS = 20, 0.05  # of a shard: a second in all


class StoreWriter(StoredFeatures):
    """Writes a feature store. Videos are collected in memory and saved together as a part.

    part_videos, part_seconds: a part is saved after this number of videos or seconds, which is
    checked when a video is added. shard: several writers may write one store at the same time if
    they have different names of shards. compression: "gzip" or "lzf" needs less disk space but more
    time. largest_file_bytes: `finish` divides a larger store among several files of about this size,
    and merges no files into a larger one. open_parts: how many parts keep their indexes in memory.
    made: device, streams, package versions and published weights with which the
    features are computed. They are recorded for information, together with the time for which the
    writer was open. listing: of the data set, which the files record.

    The mappings `done` (id -> size of the video file in bytes), `sources` (id -> SourceFile) and
    `failed` (id -> Failure) describe the videos that are already saved. They are views, which read
    a video's facts when it is looked up.

    Raises InputError if another writer uses this shard, if the store has another recipe, or if the
    folder cannot be written. A writer must not be used by two threads at the same time.
    """

    def __init__(
        self,
        path: Path | str,
        recipe: Mapping[str, Any],
        dataset: DatasetDescription,
        *,
        part_videos: int = 128,
        part_seconds: float = 30.0,
        shard: str = "",
        compression: str = "",
        largest_file_bytes: int = LARGEST_BYTES,
        open_parts: int = OPEN_PARTS,
        made: Made | None = None,
        listing: DatasetListing | None = None,
    ) -> None:
        check_shard(shard)
        if compression not in COMPRESSIONS:
            raise InputError(f"compression {compression!r}: choose from gzip, lzf, or none")
        dataset.check_classes()
        super().__init__(path, recipe, dataset)
        self.listing, self._classes = listing, frozenset(dataset.classes)
        check_no_link(self.path)
        self._folder = parts_folder(self.path)
        self._shard, self._compression = shard, compression
        self._largest_file_bytes, self._open_parts = largest_file_bytes, open_parts
        self._names = PartNames(self._folder, shard)
        self._part_videos, self._part_seconds = part_videos, part_seconds
        self._open: dict[str, VideoRows] = {}
        self._open_failures: dict[str, Failure] = {}
        self._open_bytes, self._open_since = 0, 0.0
        self._made, self._paid_until = made or Made(), time.monotonic()
        self.weights = self._made.weights
        self._lock: Lock | None = self._take_lock()
        try:
            remove_leftovers(self._folder, shard)
            check_numbers(self._folder)
            self._catalog = scan(
                self.path, whole=True, with_facts=True, open_parts=self._open_parts
            )
            self._check_recipe()
        except BaseException:
            self._release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _take_lock(self) -> Lock:
        path = shard_lock(self._folder, self._shard)
        try:
            taken = lock(path, wait=False)
            # Another writer that looks for leftovers holds the lock for a moment.
            for _ in range(_LOCK_ATTEMPTS):
                if taken is not None:
                    break
                time.sleep(_LOCK_PAUSE_SECONDS)
                taken = lock(path, wait=False)
        except OSError as error:
            raise InputError(
                f"{self._folder}: cannot be written ({error.strerror}); choose another BANK"
            ) from None
        if taken is None:
            raise InputError(
                f"{self.path}: another extraction into this store is running{holder(path)}; wait "
                "until it has finished, or stop it"
            )
        return taken

    def _check_recipe(self) -> None:
        for file in self._catalog.files[:1]:
            about = file.index.about
            if about.identity != self.identity:
                lines = recipe_differences(self.recipe, self.dataset.name, about)
                raise InputError(
                    f"{self.path}: the recipe of the new features differs from the recipe of this "
                    f"store ({'; '.join(lines)}); choose another name for the new store"
                )
            check_labelling(self.path, about.dataset, self.dataset)

    def add(
        self,
        video: StoredVideo,
        values: np.ndarray,
        times_seconds: np.ndarray,
        views: np.ndarray | None = None,
    ) -> None:
        """Add the features of a video. The arrays are copied.

        values: the rows, (K, ...), one for each clip. They are stored as uint8 if they are uint8,
        and otherwise as float16. times_seconds: (K,), the times of the rows. views: (K,), 0 for a
        row without augmentation and n for a row of the n-th augmented view. Rows without
        augmentation come first, followed by view 1, view 2 and so on. By default, no row is
        augmented.

        Raises InputError, with the id of the video, if a value is not finite in float16, if the
        arrays have different lengths, or if the other rows of the store have another shape or type.
        """
        self._check_video(video)
        stored = as_stored(video.id, values)  # (K, ...)
        times = np.array(times_seconds, "<f8")  # (K,)
        if times.shape != stored.shape[:1]:
            raise InputError(
                f"{video.id}: must have one time for each of its {len(stored)} rows "
                f"(got times of shape {times.shape})"
            )
        if reason := times_fault(times):
            raise InputError(f"{video.id}: {reason}")
        of_view = np.zeros(len(stored), np.uint8) if views is None else np.array(views)  # (K,)
        check_views(video.id, of_view, rows=len(stored))
        row_kind, own_kind = self._row_kind(), (stored.shape[1:], stored.dtype)
        if row_kind and own_kind != row_kind:
            raise InputError(
                f"{video.id}: rows must be {row_kind[0]} {row_kind[1]} like the other rows of "
                f"the store (got {own_kind[0]} {own_kind[1]})"
            )
        self._begin()
        self._open_failures.pop(video.id, None)
        as_json = replace(video, source=json.loads(canonical(video.source)))
        self._open[video.id] = VideoRows(as_json, stored, times, of_view.astype(np.uint8))
        self._open_bytes += stored.nbytes
        self._flush_if_due()

    def fail(self, video: StoredVideo, reason: str, *, by_machine: bool = False) -> None:
        """Record why a video has no features. by_machine: whether the machine caused the failure, and
        not the video. The store is then not finished until the video has been read."""
        check_ids([video.id])
        self._begin()
        if video.id not in self._open:
            source = SourceFile.of({"bytes": 0, **video.source})
            text = " ".join(reason.split())
            self._open_failures[video.id] = Failure.of(text, source, by_machine=by_machine)
        self._flush_if_due()

    def _check_video(self, video: StoredVideo) -> None:
        check_ids([video.id])
        if reason := labelling_fault(self.dataset, self._classes, video.label, video.parts):
            raise InputError(f"{video.id}: {reason}")

    def _row_kind(self) -> tuple[tuple[int, ...], np.dtype[Any]] | None:
        """Shape and type of the store's rows, None while it has no videos."""
        for rows in self._open.values():
            return rows.values.shape[1:], rows.values.dtype
        kind = self._catalog.row_kind
        return (kind.shape, kind.dtype) if kind else None

    def _begin(self) -> None:
        if not self._open and not self._open_failures:
            self._open_since = time.monotonic()

    def _flush_if_due(self) -> None:
        waited_seconds = time.monotonic() - self._open_since
        is_full = len(self._open) + len(self._open_failures) >= self._part_videos
        if is_full or waited_seconds >= self._part_seconds or self._open_bytes >= _PART_BYTES:
            self.flush()

    def flush(self) -> None:
        """Save all videos that were added. Saved videos are not lost if the process is killed or the
        power fails. Raises InputError if they cannot be written. In this case only the videos that
        were added since the last part are lost."""
        rows, failures, rows_bytes = self._open, self._open_failures, self._open_bytes
        self._open, self._open_failures, self._open_bytes = {}, {}, 0
        try:
            self._write_part(list(rows.values()), failures)
        except KeyboardInterrupt:  # not lost: `close` commits it
            self._open, self._open_failures, self._open_bytes = rows, failures, rows_bytes
            raise

    def _write_part(self, part: Sequence[VideoRows], failures: Mapping[str, Failure]) -> None:
        if not part and not failures:
            return
        now = time.monotonic()
        cost = Cost(round(now - self._paid_until, 3), self._made.device, self._made.streams)
        self._paid_until = now
        videos = [rows.video for rows in part]
        written = written_now(cost) | (self.listing.to_json() if self.listing else {})
        written |= weights_to_json(self.weights)
        about = About(self.recipe, self.dataset, written)
        facts = VideoFacts(
            sources=[video.source for video in videos],
            versions=[self._made.versions] * len(videos),
            failures=failures,
        )
        index = part_index(part, about, facts)
        path = self._names.new()
        assert self._lock
        temporary = temporary_name(self._folder, self._shard)
        values = (rows.values for rows in part)
        commit(index, values, (temporary, path), self._lock, compression=self._compression)
        self._names.committed()
        self._catalog.append(FeatureFile(path))

    def finish(self, videos: Sequence[StoredVideo]) -> bool:
        """Save all videos that were added. If every video of `videos` now has features or a recorded
        failure, merge all parts into the finished file and remove the parts.

        The labels, groups and parts in `videos` replace earlier ones. Videos of the store that are
        not in `videos` are kept. Returns whether the store is finished now. Raises InputError if
        the disk is full, a video is damaged, or a group of a random split would be in both the
        training and the test part. In these cases no data is lost.
        """
        self.flush()
        for video in videos:
            self._check_video(video)
        listed = {video.id: video for video in videos}
        with merging(self._folder) as merge_lock:
            if not self._catalog.is_up_to_date(self.path):
                self.reread()
            while self._has_settled(listed):
                try:
                    self._merge(listed, merge_lock)
                except DamagedFile as error:
                    damaged = self._damaged_parts(error)
                    if not damaged:  # a finished file is
                        raise
                    for reason in damaged.values():  # its videos are extracted again
                        tell_damaged_part(reason)
                    self._reread({**self._catalog.damaged, **damaged})
                    continue
                return True
        return False

    def _damaged_parts(self, error: DamagedFile) -> dict[Path, str]:
        """The parts whose damage ended a merge, and what is wrong with them."""
        if isinstance(error, DamagedPart):
            return {error.path: str(error)}
        of_parts = ((part.path, part.damage()) for part in self._catalog.parts)
        return {path: lines[0] for path, lines in of_parts if lines}

    def _merge(self, listed: Mapping[str, StoredVideo], held: Lock) -> None:
        """Write the finished files that the parts call for, and remove what they replace. Raises
        DamagedPart; nothing is lost then."""
        request = Request(self._combined(), self.dataset, listed)
        outputs = planned(self._catalog, request, largest_bytes=self._largest_file_bytes)
        if outputs:
            check_groups(self.path, self._catalog, request)
        settle(self.path, self._catalog, request, outputs, held=held, compression=self._compression)
        self.reread()

    def reread(self) -> None:
        """Read again which videos are committed: other writers of the store may have added some."""
        self._reread({})

    def _reread(self, known_damage: Mapping[Path, str]) -> None:
        self._catalog.close()
        self._catalog = scan(
            self.path, with_facts=True, known_damage=known_damage, open_parts=self._open_parts
        )
        self._check_recipe()

    def close(self) -> None:
        """Save all videos that were added, and release the store for other processes."""
        if self._lock is None:
            return
        try:
            self.flush()
        finally:
            self._catalog.close()
            self._release()

    def _release(self) -> None:
        assert self._lock is not None
        if self._lock.is_held():  # otherwise they are those of the new owner
            remove_leftovers(self._folder, self._shard)
        self._lock.release()
        self._lock = None
        with contextlib.suppress(OSError):  # not empty: parts, or another writer's lock
            self._folder.rmdir()
