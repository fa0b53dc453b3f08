"""Groups of related videos that are proposed because the videos are similar.

Similar videos need not be from the same recording, so a person has to check them. The groups are
written as a CSV file that the data set `folder` reads (docs/datasets.md).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reelbank.data.datasets import folder
from reelbank.data.datasets.registry import is_of_dataset
from reelbank.data.datasets.types import PARTS
from reelbank.data.errors import InputError
from reelbank.data.options import check_ending
from reelbank.data.similarity.components import Components
from reelbank.data.similarity.duplicates.options import DuplicatesOptions
from reelbank.data.similarity.duplicates.videos import ComparedVideos
from reelbank.data.store.reader import Store
from reelbank.data.text_files import csv_file

_WEIGHT = {part: weight for weight, part in enumerate(("", *PARTS))}  # the highest part is kept


@dataclass(frozen=True)
class ProposedVideo:
    """A line of the CSV. part: of the split, "" if it is not used."""

    id: str
    label: str
    part: str
    group: str


@dataclass(frozen=True)
class Proposal:
    """Proposed groups for all videos of a store.

    videos: all of them. groups: name -> ids, of the groups that would be new or larger than before.
    dropped: how many videos would be in no part of the split, because their group has videos in a
    part that is kept (a test video before a validation video before a training video). has_split:
    whether the split is stated; a split that was drawn is drawn again with the new groups.
    without_features: videos of the data set that the store does not have.
    """

    videos: Sequence[ProposedVideo]
    groups: dict[str, tuple[str, ...]]
    dropped: int
    has_split: bool
    without_features: int

    def write(self, path: Path) -> None:
        """Write the CSV."""
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = ("path", "label", *(["split"] if self.has_split else []), "group")
        with csv_file(path) as writer:
            writer.writerow(columns)
            for video in self.videos:
                part = [video.part] if self.has_split else []
                writer.writerow((video.id, video.label, *part, video.group))


def check_groups_option(store: Store, options: DuplicatesOptions) -> None:
    """Raises InputError for GROUPS with options or a data set for which it has no meaning."""
    if not options.groups:
        return
    check_ending("GROUPS", options.groups, [".csv"])
    if Path(options.groups).exists():
        raise InputError(
            f"GROUPS={options.groups}: this file already exists, and may contain your corrections; "
            "give a new name"
        )
    if options.threshold is None and options.count is not None:
        raise InputError(
            f"GROUPS={options.groups} proposes groups of all videos above a threshold, but COUNT="
            f"{options.count} lists pairs without a threshold; omit COUNT, or also give THRESHOLD"
        )
    if not takes_groups(store):
        raise InputError(
            f"GROUPS={options.groups} writes a CSV file for DATASET={folder.NAME}, but {store.path} is a "
            f"store of the data set {store.dataset.name}, which defines its groups itself; omit GROUPS"
        )


def takes_groups(store: Store) -> bool:
    """Whether the groups of the store's data set can be given in a CSV."""
    return is_of_dataset(store.dataset.name, folder.NAME)


def first_components(videos: ComparedVideos) -> np.ndarray:
    """(N,) int64, for `Components`: videos of the same group are connected."""
    numbers = np.arange(len(videos))
    first_of: dict[int, int] = {}
    for number, group in enumerate(videos.group_numbers.tolist()):
        if group >= 0:
            numbers[number] = first_of.setdefault(group, number)
    return numbers


def proposal_of(store: Store, videos: ComparedVideos, components: Components) -> Proposal:
    """The groups that the components of the compared videos give."""
    members: dict[int, list[int]] = {}
    for video, component in enumerate(components.numbers.tolist()):
        members.setdefault(component, []).append(video)
    group_of = dict(zip(store.video_ids, store.groups, strict=True))
    part_of = dict.fromkeys(store.video_ids, "")
    part_of |= {name: videos.part(number) for number, name in enumerate(videos.ids)}
    stated_parts = dict(part_of)
    groups: dict[str, tuple[str, ...]] = {}
    for numbers in members.values():
        if len({videos.groups[number] or number for number in numbers}) < 2:
            continue  # one video, or one group as it is
        ids = tuple(videos.ids[number] for number in numbers)
        name = _name([videos.groups[number] for number in numbers], ids[0])
        groups[name] = ids
        kept = max((part_of[video_id] for video_id in ids), key=_WEIGHT.__getitem__)
        for video_id in ids:
            group_of[video_id] = name
            part_of[video_id] = kept if part_of[video_id] == kept else ""
    listing = store.listing
    has_split = bool(videos.split) and not (listing is not None and listing.is_drawn)
    described = [
        ProposedVideo(name, label, part_of[name], group_of[name])
        for name, label in zip(store.video_ids, store.labels, strict=True)
    ]
    dropped = sum(part_of[name] != part for name, part in stated_parts.items())
    return Proposal(
        videos=described,
        groups=groups,
        dropped=dropped if has_split else 0,
        has_split=has_split,
        without_features=len(store.failures),
    )


def _name(groups: Sequence[str], first_id: str) -> str:
    """The name of the known group that has most of the videos, or a new one."""
    known = Counter(group for group in groups if group)
    return known.most_common(1)[0][0] if known else f"similar to {first_id}"
