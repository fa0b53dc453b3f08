"""The videos that the command duplicates compares: those of one split, and what is known of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reelbank.data.datasets.types import PARTS
from reelbank.data.errors import InputError
from reelbank.data.similarity.unit import centre
from reelbank.data.similarity.vectors import video_vectors
from reelbank.data.store.copies import group_numbers
from reelbank.data.store.reader import Store

# In messages; "" if there is no split.
PART_NAMES = {"train": "training", "validation": "validation", "test": "test", "": "all"}


@dataclass(frozen=True)
class ComparedVideos:
    """N videos of a split.

    ids, labels, groups: (N,), of labels and groups "" if unknown. parts: (N,) int8, index in
    `part_names`, which are PARTS, or only "" if the data set has no split. group_numbers: (N,) int64,
    equal for videos of the same group, negative and different if the group is unknown. split: its
    name, "" if there is none. left_out: videos of the store that are not in the split, or of which
    it has no rows.
    """

    ids: Sequence[str]
    labels: Sequence[str]
    groups: Sequence[str]
    parts: np.ndarray
    part_names: tuple[str, ...]
    group_numbers: np.ndarray
    split: str
    left_out: int

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def fitted(self) -> np.ndarray:
        """The numbers of the training videos; of all videos if there are none."""
        training = np.flatnonzero(self.parts == 0)
        return training if len(training) else np.arange(len(self))

    @property
    def has_unknown_groups(self) -> bool:
        return bool((self.group_numbers < 0).any())

    def part(self, number: int) -> str:
        """The part of a video: one of PARTS, or ""."""
        return self.part_names[self.parts[number]]

    def count(self, part: str) -> int:
        """How many videos are in a part."""
        return int((self.parts == self.part_names.index(part)).sum())


def compared_videos(store: Store, split: str) -> tuple[ComparedVideos, np.ndarray]:
    """The videos of a split of an open store (by default, of the first one), and their vectors,
    (N, D) float32 of length 1, centred on the training videos. Raises InputError for an unknown split, if
    there is nothing to compare, and as `video_vectors`."""
    split = _chosen_split(store, split)
    found = video_vectors(store)
    vectors, numbers = found.values, found.videos
    part_names: tuple[str, ...] = PARTS if split else ("",)
    parts = np.zeros(len(numbers), np.int8)
    if split:
        column, of_videos = store.dataset.splits.index(split), store.parts
        code_of = {part: code for code, part in enumerate(PARTS)}
        parts[:] = [code_of.get(of_videos[number][column], -1) for number in numbers.tolist()]
    if (parts < 0).any():
        is_used = parts >= 0
        vectors, numbers, parts = vectors[is_used], numbers[is_used], parts[is_used]
    if len(numbers) < 2:
        where = f"SPLIT={split}: " if split else ""
        raise InputError(
            f"{where}{store.path} has {len(numbers)} videos to compare; at least 2 are needed. "
            "'reelbank inspect' shows the videos of each split"
        )
    groups = [store.groups[number] for number in numbers.tolist()]
    videos = ComparedVideos(
        ids=[store.video_ids[number] for number in numbers.tolist()],
        labels=[store.labels[number] for number in numbers.tolist()],
        groups=groups,
        parts=parts,
        part_names=part_names,
        group_numbers=group_numbers(groups),
        split=split,
        left_out=len(store) - len(numbers),
    )
    centre(vectors, videos.fitted)
    return videos, vectors


def _chosen_split(store: Store, split: str) -> str:
    splits = store.dataset.splits
    if not split:
        return splits[0] if splits else ""
    if split not in splits:
        known = f"it has {', '.join(splits)}" if splits else "it has no split; leave SPLIT out"
        raise InputError(f"SPLIT={split}: {store.dataset.name} does not have this split; {known}")
    return split
