"""Merging all files of a store into the one finished file."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from reelbank.data.store.catalog import Catalog, Place, by_file, check_groups, lasting
from reelbank.data.store.file.about import About, VideoFacts, written_now
from reelbank.data.store.file.index import DTYPES, Index
from reelbank.data.store.records import DatasetDescription, StoredVideo


def merged_index(
    path: Path,
    catalog: Catalog,
    about: About,
    own_dataset: DatasetDescription,
    videos: Sequence[StoredVideo],
) -> tuple[Index, list[Place]]:
    """The index of the finished file, and where each of its videos is now.

    path: of the finished file, for messages. about: the recipe and the combined data set; what has
    been written is filled in here. own_dataset: describes `videos`, whose labels, groups
    and parts replace older ones. Videos that are not listed stay. Raises InputError if a group would
    be in both parts of a split.
    """
    listed = {video.id: video for video in videos}
    in_list_order = [video_id for video_id in listed if video_id in catalog.where]
    in_final = catalog.final.index.video_ids if catalog.final else []
    ids = list(dict.fromkeys([*in_final, *in_list_order, *catalog.where]))
    places = [catalog.where[video_id] for video_id in ids]
    indexes = [place.file.index for place in places]
    spans = [
        slice(int(index.offsets[place.number]), int(index.offsets[place.number + 1]))
        for index, place in zip(indexes, places, strict=True)
    ]
    rows = list(zip(indexes, spans, strict=True))
    splits = about.dataset.splits
    described = [
        _described(listed.get(video_id), own_dataset, splits, _stored(catalog, video_id, splits))
        for video_id in ids
    ]
    index = Index(
        video_ids=ids,
        labels=[video.label for video in described],
        groups=[video.group for video in described],
        parts=[video.parts for video in described],
        offsets=np.cumsum([0, *(span.stop - span.start for span in spans)]),
        times_seconds=np.concatenate(
            [np.empty(0), *(old.times_seconds[span] for old, span in rows)]
        ),
        views=np.concatenate([np.empty(0, np.uint8), *(old.views[span] for old, span in rows)]),
        checksums=np.array(
            [place.file.index.checksums[place.number] for place in places], np.uint64
        ),
        row_shape=indexes[0].row_shape if places else (0,),
        dtype=indexes[0].dtype if places else DTYPES[0],
        about=replace(about, written=written_now(catalog.cost())),
        facts=VideoFacts(
            sources=[place.file.index.source(place.number) for place in places],
            versions=[place.file.index.version(place.number) for place in places],
            failures=lasting(catalog.failures),
        ),
    )
    check_groups(path, index)
    return index, places


def _stored(catalog: Catalog, video_id: str, splits: Sequence[str]) -> StoredVideo:
    """What the files say of a video, its parts in these splits."""
    index, number = catalog.where[video_id].file.index, catalog.where[video_id].number
    parts = tuple(catalog.parts_of(video_id, splits))
    return StoredVideo(video_id, index.labels[number], index.groups[number], parts)


def _described(
    video: StoredVideo | None,
    own_dataset: DatasetDescription,
    splits: Sequence[str],
    stored: StoredVideo,
) -> StoredVideo:
    """The stored video with label, group and parts of the list's, which may not know all splits."""
    if video is None:
        return stored
    new_parts = dict(zip(own_dataset.splits, video.parts, strict=True))
    parts = tuple(
        new_parts.get(split, old) for split, old in zip(splits, stored.parts, strict=True)
    )
    return replace(stored, label=video.label, group=video.group, parts=parts)


def is_same(first: Index, second: Index) -> bool:
    """Whether two indexes differ in nothing but who wrote them."""
    abouts = [replace(index.about, written={}) for index in (first, second)]
    facts = [
        (list(index.sources), list(index.versions), dict(index.failures))
        for index in (first, second)
    ]
    tables = [
        (index.video_ids, index.labels, index.groups, [list(parts) for parts in index.parts])
        for index in (first, second)
    ]
    arrays = ("offsets", "times_seconds", "views", "checksums")
    return (
        abouts[0] == abouts[1]
        and facts[0] == facts[1]
        and tables[0] == tables[1]
        and all(np.array_equal(getattr(first, name), getattr(second, name)) for name in arrays)
    )


def read_all(places: Sequence[Place]) -> Iterator[np.ndarray]:
    """Each video's rows (K, ...), views included."""
    for file, numbers in by_file(places):
        with file.reading() as read:
            for number in numbers:
                rows = int(file.index.offsets[number + 1] - file.index.offsets[number])
                values = np.empty((rows, *file.index.row_shape), file.index.dtype)  # (K, ...)
                read(number, number + 1, values)
                yield values
