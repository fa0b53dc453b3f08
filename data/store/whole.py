"""Writes a finished store with one row for each video at once, without parts."""

import contextlib
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.files import disk_remedy, replacing, sync_folder
from reelbank.data.store.file.about import About, VideoFacts, check_ids, written_now
from reelbank.data.store.file.columns import CHUNK, item_hashes
from reelbank.data.store.file.format import checksum, write
from reelbank.data.store.file.index import Index
from reelbank.data.store.merging.groups import GroupParts
from reelbank.data.store.merging.ids import ids_digest, joint_digest
from reelbank.data.store.records import Cost, DatasetDescription
from reelbank.data.store.rows import as_stored, labelling_fault, times_fault
from reelbank.data.store.versions import current_versions
from reelbank.data.store.videos import StoredVideos

_KEPT_BYTES = 1 << 26  # of rows in memory; more are put into a file until the store is written


def write_whole(
    path: Path,
    recipe: dict[str, Any],
    dataset: DatasetDescription,
    videos: StoredVideos,
    *,
    pieces: Iterable[np.ndarray],
    times_seconds: np.ndarray,
) -> None:
    """Write the finished store of one row (1, D) for each video to `path`, in place of an old file.

    pieces: the rows (n, D) float16 of one range of videos after another; times_seconds: (V,)
    float64, of the rows. The videos are read while they are written. Raises InputError for rows or
    times that are not finite, for a class or a part that the data set does not have, for a group
    that would be in both train and test of a drawn split, and if the file cannot be written. An
    error of `pieces` is raised as it is.
    """
    began = time.monotonic()
    dataset.check_classes()
    times = np.asarray(times_seconds, "<f8")
    if times.shape != (len(videos),):
        raise InputError(
            f"{path}: must have one time for each of its {len(videos)} rows (got times of shape "
            f"{times.shape})"
        )
    if reason := times_fault(times):
        raise InputError(f"{path}: {reason}")
    _check_videos(path, dataset, videos)
    with tempfile.SpooledTemporaryFile(_KEPT_BYTES, dir=str(path.parent)) as kept:
        checksums, dimensions = _keep(path, kept, pieces, videos)
        count = len(videos)
        written = written_now(Cost(round(time.monotonic() - began, 3))) | {"overrides": 0}
        written |= {
            "ids": ids_digest(item_hashes(videos.ids), videos.ids),
            "earlier_ids": joint_digest([]),
        }
        index = Index(
            video_ids=videos.ids,
            labels=videos.labels,
            groups=videos.groups,
            parts=videos.parts,
            offsets=np.arange(count + 1),
            times_seconds=times,
            views=np.zeros(count, np.uint8),
            checksums=checksums,
            row_shape=(dimensions,),
            dtype=np.dtype("<f2"),
            about=About(recipe, dataset, written),
            facts=VideoFacts(videos.sources, [current_versions()] * count, failures={}),
        )
        with _told_if_unwritable(path):
            with replacing(path) as temporary:
                temporary.unlink()  # a store is only written to a new file
                write(temporary, index, _rows_of(kept, count, dimensions))
            sync_folder(path.parent)


@contextlib.contextmanager
def _told_if_unwritable(path: Path) -> Iterator[None]:
    """Raises InputError in place of an OSError of writing."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror or error}); {disk_remedy(error)} and run the "
            "command again"
        ) from None


def _check_videos(path: Path, dataset: DatasetDescription, videos: StoredVideos) -> None:
    parts_of_groups, classes = GroupParts(path, dataset), frozenset(dataset.classes)
    for first in range(0, len(videos), CHUNK):
        chunk = slice(first, first + CHUNK)
        check_ids(videos.ids[chunk])
        labels, groups = videos.labels[chunk], videos.groups[chunk]
        parts = list(map(tuple, videos.parts[chunk]))
        # What many videos have in common is checked once, and one of them is named.
        of_kinds = dict(zip(zip(labels, parts, strict=True), videos.ids[chunk], strict=True))
        for (label, of_video), video_id in of_kinds.items():
            if reason := labelling_fault(dataset, classes, label, of_video):
                raise InputError(f"{video_id}: {reason}")
        for group, of_video in zip(groups, parts, strict=True):
            parts_of_groups.check(group, of_video)


def _keep(
    path: Path, kept: IO[bytes], pieces: Iterable[np.ndarray], videos: StoredVideos
) -> tuple[np.ndarray, int]:
    """Put the rows into the file `kept`. Returns their checksums, (V,) uint64, and D."""
    checksums = np.empty(len(videos), np.uint64)
    number = dimensions = 0
    for piece in pieces:
        is_first = not dimensions
        if piece.ndim != 2 or not piece.shape[1] or not (is_first or piece.shape[1] == dimensions):
            raise ValueError(
                f"rows must have the shape (n, {dimensions or 'D'}) (got {piece.shape})"
            )
        dimensions = piece.shape[1]
        rows = np.ascontiguousarray(piece, "<f2")  # (n, D)
        for row, is_finite in zip(rows, np.isfinite(rows).all(axis=1).tolist(), strict=True):
            if not is_finite:
                as_stored(videos.ids[number], row[None])  # raises InputError
            checksums[number] = checksum(row)
            number += 1
        with _told_if_unwritable(path):
            kept.write(rows.data)
    if number != len(videos):
        raise ValueError(f"{len(videos)} videos need as many rows (got {number})")
    return checksums, dimensions


def _rows_of(kept: IO[bytes], count: int, dimensions: int) -> Iterator[np.ndarray]:
    """Each row again, (1, D) float16."""
    kept.seek(0)
    row_bytes = 2 * dimensions
    at_once = max(1, (1 << 20) // max(1, row_bytes))
    for first in range(0, count, at_once):
        rows = min(at_once, count - first)
        data = np.frombuffer(kept.read(rows * row_bytes), "<f2")
        yield from data.reshape(rows, 1, dimensions)
