"""The contents of a finished file that videos of several files are merged into."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from reelbank.data.store.catalog import Catalog
from reelbank.data.store.file.about import VideoFacts, written_now
from reelbank.data.store.file.header import DamagedFile
from reelbank.data.store.file.index import DTYPES, Index
from reelbank.data.store.merging.files import PartFile, Place
from reelbank.data.store.merging.pieces import Pieces
from reelbank.data.store.merging.plan import Output, Request, stored_at


class DamagedPart(DamagedFile):
    """A part whose features are damaged, which was found while it was merged."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(reason)
        self.path = path


def merged_index(catalog: Catalog, request: Request, output: Output) -> Index:
    """The index of a finished file."""
    splits = request.about.dataset.splits
    places: list[Place] = []
    for file, numbers in output.pieces.runs():
        places += [Place(file, number) for number in numbers.tolist()]
    ids = [place.file.index.video_id(place.number) for place in places]
    described = [
        request.described(stored_at(place, video_id, splits))
        for place, video_id in zip(places, ids, strict=True)
    ]
    spans = [(place.file.index, place.file.index.rows_of(place.number)) for place in places]
    written = written_now(output.cost) | {"overrides": output.overrides}
    if output.replaces:
        written["replaces"] = list(output.replaces)
    kind = catalog.row_kind
    return Index(
        video_ids=ids,
        labels=[video.label for video in described],
        groups=[video.group for video in described],
        parts=[video.parts for video in described],
        offsets=np.cumsum([0, *(span.stop - span.start for _, span in spans)]),
        times_seconds=np.concatenate(
            [np.empty(0), *(index.times_seconds[span] for index, span in spans)]
        ),
        views=np.concatenate(
            [np.empty(0, np.uint8), *(index.views[span] for index, span in spans)]
        ),
        checksums=np.array(
            [place.file.index.checksums[place.number] for place in places], np.uint64
        ),
        row_shape=kind.shape if kind and places else (0,),
        dtype=kind.dtype if kind and places else DTYPES[0],
        about=replace(request.about, written=written),
        facts=VideoFacts(
            sources=[place.file.index.source(place.number) for place in places],
            versions=[place.file.index.version(place.number) for place in places],
            failures=output.failures,
        ),
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
