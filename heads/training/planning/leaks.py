"""Test videos that are not independent of the training videos: copies, and groups that lie in both
parts. Training continues; `train` and the report say what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from reelbank.data.console import counted, some
from reelbank.data.datasets import folder
from reelbank.data.datasets.registry import is_of_dataset
from reelbank.data.positions import positions
from reelbank.data.store.copies import Copy, near_copies, same_files
from reelbank.data.store.reader import Store
from reelbank.data.store.videos import StoredVideos

MOST_NAMED = 5


def divided_groups(store: Store, split: str) -> list[str]:
    """A line on the groups that have videos in both train and test of a split.

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
    in_train: set[str] = set()
    tests: Counter[str] = Counter()
    for group, parts in zip(groups, store.parts, strict=True):
        if parts[number] == "train":
            in_train.add(group)
        elif parts[number] == "test":
            tests[group] += 1
    divided = sorted(group for group in tests if group and group in in_train)
    if not divided:
        return []
    videos = sum(tests[group] for group in divided)
    return [
        f"split {split}: the test part contains {counted(videos, 'video')} from groups of "
        f"related videos that are also in the training part. Groups{origin}: "
        f"{some(divided, MOST_NAMED)}"
    ]


def copied_tests(
    videos: StoredVideos, means: np.ndarray, ids: Mapping[str, Sequence[str]], split: str
) -> list[str]:
    """Lines on the test videos that are copies of training or validation videos.

    videos: V; means: (V, D) float32, their mean features; ids: of the parts of the split.
    """
    numbers = {part: positions(names, videos.ids) for part, names in ids.items()}
    learned = np.concatenate([numbers["train"], numbers["validation"]])
    tests = numbers["test"]
    files = same_files(videos.ids, videos.sources, tests, learned)
    same = {copy.video for copy in files}
    lines = []
    if files:
        lines.append(
            f"split {split}: the test part contains {counted(len(files), 'video')} with "
            f"the same bytes as a training video: {_pairs(files, '=')}"
        )
    near = near_copies(
        videos.ids,
        means,
        videos.groups,
        train=learned,
        test=[number for number in tests.tolist() if videos.ids[number] not in same],
    )
    if near.copies:
        lines.append(
            f"split {split}: the test part contains {counted(len(near.copies), 'video')} "
            "with nearly the same features as a training video (cosine similarity above "
            f"{near.threshold:.3f}): {_pairs(near.copies, '~')}"
        )
    return lines


def _pairs(copies: Sequence[Copy], sign: str) -> str:
    return some([f"{copy.video} {sign} {copy.original}" for copy in copies], MOST_NAMED)
