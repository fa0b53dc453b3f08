"""The contents of a finished file that videos of several files are merged into."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from reelbank.data.store.catalog import Catalog
from reelbank.data.store.file.about import VideoFacts, written_now
from reelbank.data.store.file.columns import LazySequence, Taken
from reelbank.data.store.file.header import DamagedFile
from reelbank.data.store.file.index import DTYPES, Index
from reelbank.data.store.merging.files import PartFile
from reelbank.data.store.merging.ids import ids_digest, joint_digest, recorded_ids
from reelbank.data.store.merging.pieces import Pieces
from reelbank.data.store.merging.plan import Output, Request
from reelbank.data.store.parts import more_number
from reelbank.data.store.records import StoredVideo

T = TypeVar("T")


class DamagedPart(DamagedFile):
    """A part whose features are damaged, which was found while it was merged."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(reason)
        self.path = path


def merged_index(
    catalog: Catalog, request: Request, output: Output, ids: Mapping[str, str]
) -> Index:
    """The index of a finished file. ids: as of `ids_written`. Long columns are read when they are
    written. Raises DamagedFile if a file does not find its videos by their ids."""
    pieces, kind = output.pieces, catalog.row_kind
    # A table that hides a video would make two of it.
    for file in {id(file): file for file, _ in pieces.runs()}.values():
        file.check_keys()
    video_ids = pieces.video_ids()
    described = described_videos(request, pieces, video_ids)
    offsets, times_seconds, views, checksums = _numbers(pieces)
    written = written_now(output.cost) | {"overrides": output.overrides, **ids}
    if output.replaces:
        written["replaces"] = list(output.replaces)
    return Index(
        video_ids=video_ids,
        labels=[video.label for video in described],
        groups=[video.group for video in described],
        parts=[video.parts for video in described],
        offsets=offsets,
        times_seconds=times_seconds,
        views=views,
        checksums=checksums,
        row_shape=kind.shape if kind and len(pieces) else (0,),
        dtype=kind.dtype if kind and len(pieces) else DTYPES[0],
        about=replace(request.about, written=written),
        facts=VideoFacts(
            sources=_taken(pieces, lambda index: index.sources),
            versions=_taken(pieces, lambda index: index.versions),
            failures=output.failures,
        ),
    )


def ids_written(catalog: Catalog, outputs: Sequence[Output]) -> list[dict[str, str]]:
    """What each of these files says about the ids in it, and about those in the files before it when
    all are written. Raises RuntimeError if a video comes twice in a file."""
    own = [ids_digest(output.pieces.video_ids()) for output in outputs]
    numbers = [0 if output.is_final else output.number for output in outputs]
    replaced = {name for output in outputs for name in output.replaces}
    after = dict(zip(numbers, own, strict=True))
    for file in catalog.finished_files:
        number = 0 if file is catalog.final else more_number(file.path)
        if file.path.name not in replaced:
            after.setdefault(number, recorded_ids(file))
    return [
        {
            "ids": digest,
            "earlier_ids": joint_digest(after[each] for each in sorted(after) if each < number),
        }
        for number, digest in zip(numbers, own, strict=True)
    ]


def _taken(pieces: Pieces, column: Callable[[Index], Sequence[T]]) -> LazySequence[T]:
    return Taken([(column(file.index), numbers) for file, numbers in pieces.runs()])


def described_videos(
    request: Request, pieces: Pieces, video_ids: Sequence[str]
) -> list[StoredVideo]:
    """The videos with their labels, groups and parts."""
    splits = request.about.dataset.splits
    labels = _taken(pieces, lambda index: index.labels)
    groups = _taken(pieces, lambda index: index.groups)
    parts = _taken(pieces, lambda index: _Parts(index, splits))
    stored = map(StoredVideo, video_ids, labels, groups, parts)
    return list(map(request.described, stored))


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


def _numbers(pieces: Pieces) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """offsets, times_seconds, views and checksums of a merged file, as in Index."""
    counts: list[np.ndarray] = [np.zeros(1, np.int64)]
    times: list[np.ndarray] = [np.empty(0, np.float64)]
    views: list[np.ndarray] = [np.empty(0, np.uint8)]
    checksums: list[np.ndarray] = [np.empty(0, np.uint64)]
    for file, numbers in pieces.runs():
        index = file.index
        breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
        for run in np.split(numbers, breaks):  # neighbours are read at once
            first, last = int(run[0]), int(run[-1]) + 1
            rows = index.rows(first, last)
            counts.append(np.diff(rows.offsets))
            times.append(rows.times_seconds)
            views.append(rows.views)
            checksums.append(np.asarray(index.checksums[first:last], np.uint64))
    return (
        np.cumsum(np.concatenate(counts)),
        np.concatenate(times),
        np.concatenate(views),
        np.concatenate(checksums),
    )


def read_all(pieces: Pieces) -> Iterator[np.ndarray]:
    """Each video's rows (K, ...), views included. Raises DamagedPart, and DamagedFile for a finished
    file."""
    for file, numbers in pieces.runs():
        index = file.index
        with file.reading() as read:
            for number in numbers.tolist():
                span = index.rows_of(number)
                values = np.empty((span.stop - span.start, *index.row_shape), index.dtype)
                try:
                    read(number, number + 1, values)
                except DamagedFile as error:
                    if isinstance(file, PartFile):
                        raise DamagedPart(file.path, str(error)) from None
                    raise
                yield values
