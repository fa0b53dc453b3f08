"""The contents of a finished file that videos of several files are merged into."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from reelbank.data.store.catalog import Catalog
from reelbank.data.store.file.about import VideoFacts, written_now
from reelbank.data.store.file.columns import CHUNK
from reelbank.data.store.file.format import READ_BYTES, runs
from reelbank.data.store.file.header import DamagedFile
from reelbank.data.store.file.index import DTYPES, Index
from reelbank.data.store.merging.files import PartFile
from reelbank.data.store.merging.ids import ids_digest, joint_digest, recorded_ids
from reelbank.data.store.merging.merged import (
    Described,
    Merged,
    MergedIds,
    MergedNumbers,
    MergedRows,
    MergedSources,
    MergedVersions,
    neighbours,
)
from reelbank.data.store.merging.pieces import Pieces
from reelbank.data.store.merging.plan import Output, Request
from reelbank.data.store.parts import more_number


class DamagedPart(DamagedFile):
    """A part whose features are damaged, which was found while it was merged."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(reason)
        self.path = path


def merged_index(
    catalog: Catalog, request: Request, output: Output, ids: Mapping[str, str]
) -> Index:
    """The index of a finished file. ids: as of `ids_written`. Columns are read when they are written:
    each file once, if they are written some videos at a time. Raises DamagedFile if a file does not
    find its videos by their ids."""
    pieces, kind = output.pieces, catalog.row_kind
    described = Described(pieces, request, pieces.chunks(catalog.kept_parts.most))
    offsets = np.zeros(len(pieces) + 1, np.int64)
    np.cumsum(pieces.rows(), out=offsets[1:])
    rows = MergedRows(pieces, offsets)
    written = {**request.about.written, **written_now(output.cost)}
    written |= {"overrides": output.overrides, **ids}
    if output.replaces:
        written["replaces"] = list(output.replaces)
    return Index(
        video_ids=MergedIds(pieces),
        labels=described.column("label", lambda file: file.facts.label_bytes),
        groups=described.column("group", lambda file: file.facts.group_bytes),
        parts=described.column("parts"),
        offsets=offsets,
        times_seconds=rows.column("times_seconds"),
        views=rows.column("views"),
        checksums=MergedNumbers(pieces, lambda index: index.checksums),
        row_shape=kind.shape if kind and len(pieces) else (0,),
        dtype=kind.dtype if kind and len(pieces) else DTYPES[0],
        about=replace(request.about, written=written),
        facts=VideoFacts(
            sources=MergedSources(pieces),
            versions=MergedVersions(pieces),
            failures=output.failures,
        ),
        chunks=described.chunks,
    )


def ids_written(catalog: Catalog, outputs: Sequence[Output]) -> list[dict[str, str]]:
    """What each of these files says about the ids in it, and about those in the files before it when
    all are written. Raises RuntimeError if a video comes twice in a file, and DamagedFile if a file
    does not find its videos by their ids."""
    own = [
        ids_digest(output.pieces.hashes(), Merged(output.pieces, lambda index: index.video_ids))
        for output in outputs
    ]
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


def read_all(pieces: Pieces) -> Iterator[np.ndarray]:
    """Each video's rows (K, ...), views included. Raises DamagedPart, and DamagedFile for a finished
    file."""
    for file, numbers in pieces.runs():
        try:
            with file.reading() as read:
                for first, last in neighbours(numbers):
                    yield from _read(file.index, read, first, last)
        except DamagedFile as error:
            if isinstance(file, PartFile):
                raise DamagedPart(file.path, str(error)) from None
            raise


def _read(
    index: Index, read: Callable[[int, int, np.ndarray], None], first: int, last: int
) -> Iterator[np.ndarray]:
    """The rows of the neighbours `first` to `last` - 1; small videos are read together."""
    row_bytes = index.dtype.itemsize * int(np.prod(index.row_shape))
    for begin in range(first, last, CHUNK):
        end = min(last, begin + CHUNK)
        offsets = index.offsets[begin : end + 1]
        most_rows = READ_BYTES // max(1, row_bytes)
        for low, high in runs(begin, offsets, most_rows):
            bounds = (offsets[low - begin : high - begin + 1] - offsets[low - begin]).tolist()
            values = np.empty((bounds[-1], *index.row_shape), index.dtype)
            read(low, high, values)
            for start, stop in zip(bounds, bounds[1:], strict=False):
                yield values[start:stop]
