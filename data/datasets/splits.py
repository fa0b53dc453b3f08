"""Divides the training videos into a training and a validation part, by whole groups."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain

import numpy as np

from reelbank.data.errors import InputError


def cut_validation(
    ids: Sequence[str], labels: Sequence[str], groups: Sequence[str], fraction: float, seed: int
) -> set[str]:
    """Ids of about `fraction` of the videos of each class, in whole groups; a video with group ''
    is its own group.

    Groups are tried in an order drawn with `seed`, and taken if that brings the classes closer to
    their share. Every class of two or more groups keeps a group in the training part, and gets one
    in the validation part if the other classes of its groups allow it. The result does not depend
    on the order of the videos. Raises InputError unless 0 <= fraction < 1.
    """
    if not 0 <= fraction < 1:
        raise InputError(f"the validation fraction must be at least 0 and below 1 (got {fraction})")
    members: dict[tuple[str, str], list[str]] = defaultdict(list)
    counts: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    rows = sorted(zip(ids, labels, groups, strict=True))
    for video_id, label, group in rows:
        key = (group, "" if group else video_id)
        members[key].append(video_id)
        counts[key][label] += 1
    left: dict[str, int] = defaultdict(int)  # groups of a class in training
    missing: dict[str, float] = defaultdict(float)  # videos that a class still needs in validation
    for shares in counts.values():
        for label, count in shares.items():
            left[label] += 1
            missing[label] += fraction * count
    if fraction == 0:
        return set()
    several = {label for label, number in left.items() if number > 1}
    keys = sorted(members)
    order = [keys[i] for i in np.random.default_rng(seed).permutation(len(keys))]
    validation_keys: list[tuple[str, str]] = []
    reached: set[str] = set()

    def gain(key: tuple[str, str]) -> float:
        return sum(
            abs(missing[label]) - abs(missing[label] - count)
            for label, count in counts[key].items()
        )

    def free(key: tuple[str, str]) -> bool:
        return all(left[label] > 1 for label in counts[key])

    def take(key: tuple[str, str]) -> None:
        validation_keys.append(key)
        for label, count in counts[key].items():
            left[label] -= 1
            missing[label] -= count
            reached.add(label)

    for key in order:
        if free(key) and gain(key) > 0:
            take(key)
    for label in sorted(several):
        if label not in reached:
            candidates = [key for key in order if label in counts[key] and free(key)]
            if candidates:
                take(max(candidates, key=gain))  # of equal gains, the first in the drawn order
    return set(chain.from_iterable(members[key] for key in validation_keys))
