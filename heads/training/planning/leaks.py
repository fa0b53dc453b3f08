"""Test and validation videos that are not independent of the training videos: copies, and groups
that lie in several parts. Training continues; `train` and the report say what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set

import numpy as np

from reelbank.data.console import counted, some
from reelbank.data.datasets import folder
from reelbank.data.datasets.registry import is_of_dataset
from reelbank.data.datasets.types import PARTS
from reelbank.data.positions import positions
from reelbank.data.store.copies import Copy, near_copies, same_files
from reelbank.data.store.reader import Store
from reelbank.data.store.videos import StoredVideos
from reelbank.heads.training.planning.parts import VideoFacts

MOST_NAMED = 5


def divided_groups(store: Store, split: str) -> list[str]:
    """Lines on the groups that have test videos and videos that a head learns from or is chosen on,
    and on those that have videos for both.

    Groups of a folder that its CSV divides are stored as unknown, so for folders they are guessed
    from the names again.
    """
    number = store.dataset.splits.index(split)
    groups, origin = store.groups, ""
    if is_of_dataset(store.dataset.name, folder.NAME) and not all(groups):
        labels = dict(zip(store.video_ids, store.labels, strict=True))
        guessed = folder.guess_groups(labels)
        named = zip(store.video_ids, groups, strict=True)
        groups = [group or guessed[name] for name, group in named]
        origin = " (guessed from file names)"
    by_part = {part: Counter[str]() for part in (*PARTS, "")}  # videos of each group
    for group, parts in zip(groups, store.parts, strict=True):
        by_part[parts[number]][group] += 1
    lines = []
    for part, earlier_part in (("test", "train"), ("test", "validation"), ("validation", "train")):
        counts = by_part[part]
        divided = sorted(group for group in counts if group and by_part[earlier_part][group])
        if divided:
            videos = sum(counts[group] for group in divided)
            earlier_name = "training" if earlier_part == "train" else earlier_part
            lines.append(
                f"split {split}: the {part} part contains {counted(videos, 'video')} from groups of "
                f"related videos that are also in the {earlier_name} part. Groups{origin}: "
                f"{some(divided, MOST_NAMED)}"
            )
    return lines


def split_notes(store: Store, split: str, videos: Mapping[str, VideoFacts]) -> list[str]:
    """A line on a split that was drawn at random, and on videos of a folder whose groups are unknown.
    videos: those of the split, by id."""
    is_drawn = store.listing is not None and store.listing.is_drawn
    unknown = sum(not facts.group for facts in videos.values())
    if not unknown:
        drawn = f"split {split} was drawn at random; no group of related videos is divided"
        return [drawn] if is_drawn else []
    if not is_drawn and not is_of_dataset(store.dataset.name, folder.NAME):
        return []
    drawn = " was drawn at random, and" if is_drawn else ":"
    return [
        f"split {split}{drawn} the groups of {unknown:,} of its {len(videos):,} videos are unknown. If "
        "related videos, such as clips of one recording, are in different parts, the results are too "
        "high; docs/datasets.md describes how to state groups and the split"
    ]


def copied_videos(
    videos: StoredVideos, means: np.ndarray, ids: Mapping[str, Sequence[str]], split: str
) -> list[str]:
    """Lines on the test videos that are copies of training or validation videos, and on the validation
    videos that are copies of training videos.

    videos: V; means: (V, D) float32, their mean features, overwritten; ids: of the parts of the split.
    """
    numbers = {part: positions(names, videos.ids) for part, names in ids.items()}
    learned = np.concatenate([numbers["train"], numbers["validation"]])
    files = {
        "test": same_files(videos.ids, videos.sources, numbers["test"], learned),
        "validation": same_files(
            videos.ids, videos.sources, numbers["validation"], numbers["train"]
        ),
    }
    found = near_copies(
        videos.ids,
        means,
        videos.groups,
        train=numbers["train"],
        validation=numbers["validation"],
        test=numbers["test"],
    )
    near = {"test": found.copies, "validation": found.of_validation}
    of_validation = set(ids["validation"])
    lines = []
    for part in ("test", "validation"):
        if files[part]:
            lines.append(
                f"split {split}: the {part} part contains {counted(len(files[part]), 'video')} with the "
                f"same bytes as {_originals(files[part], of_validation)}: {_pairs(files[part], '=')}"
            )
        same = {copy.video for copy in files[part]}
        copies = [copy for copy in near[part] if copy.video not in same]
        if copies:
            lines.append(
                f"split {split}: the {part} part contains {counted(len(copies), 'video')} with nearly "
                f"the same features as {_originals(copies, of_validation)} (cosine similarity above "
                f"{found.threshold:.3f}): {_pairs(copies, '~')}"
            )
    return lines


def _originals(copies: Sequence[Copy], of_validation: Set[str]) -> str:
    parts = {copy.original in of_validation for copy in copies}
    if parts == {True}:
        return "a validation video"
    return "a training or validation video" if True in parts else "a training video"


def _pairs(copies: Sequence[Copy], sign: str) -> str:
    return some([f"{copy.video} {sign} {copy.original}" for copy in copies], MOST_NAMED)
