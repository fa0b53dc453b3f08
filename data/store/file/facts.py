"""What has to be known about a file so that its videos can be merged into another one, without reading
anything twice."""

from dataclasses import dataclass

import numpy as np

from reelbank.data.store.file.columns import (
    LazySequence,
    distinct_items,
    encoded,
    item_hashes,
    text_width,
)
from reelbank.data.store.file.index import Index
from reelbank.data.store.versions import Versions


@dataclass(frozen=True)
class Facts:
    """Sizes of a file with V videos.

    hashes: (V,) uint64, xxh3 of each id. rows, source_bytes: (V,) int64, how many rows each video has,
    and how many bytes the facts about its video file. id_bytes, label_bytes, group_bytes: of the
    longest text that there is room for. versions: what the videos were made with.
    """

    hashes: np.ndarray
    rows: np.ndarray
    source_bytes: np.ndarray
    id_bytes: int
    label_bytes: int
    group_bytes: int
    versions: tuple[Versions, ...]


def facts_of(index: Index, hashes: np.ndarray | None = None) -> Facts:
    """The facts of a file. hashes: of its ids, if they are known. Raises DamagedFile."""
    sources = index.sources
    if isinstance(sources, LazySequence):
        source_bytes = sources.lengths()
    else:
        source_bytes = np.fromiter((len(encoded(each)) for each in sources), np.int64, len(sources))
    return Facts(
        hashes=item_hashes(index.video_ids) if hashes is None else hashes,
        rows=np.diff(np.asarray(index.offsets)),
        source_bytes=source_bytes,
        id_bytes=text_width(index.video_ids),
        label_bytes=text_width(index.labels),
        group_bytes=text_width(index.groups),
        versions=tuple(distinct_items(index.versions)),
    )
