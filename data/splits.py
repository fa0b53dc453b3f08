"""Cutting a part off a set of videos by whole groups: validation from training, and the split of a plain folder."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from reelbank.data.errors import InputError


def cut_validation(ids: Sequence[str], labels: Sequence[str], groups: Sequence[str], fraction: float, seed: int) -> set[str]:
    """Ids of about `fraction` of each class's videos, taken by whole groups; a video with group '' is its own group.

    Groups are tried in an order drawn from `seed` and taken when that brings the classes nearer to their share. Every class of
    two or more groups keeps a group on this side, and gets one on the other where its groups' other classes allow. The result
    does not depend on the order of the videos. Raises InputError unless 0 <= fraction < 1.
    """
    if not 0 <= fraction < 1:
        raise InputError(f"the fraction to cut must be at least 0 and below 1, not {fraction}")
    members: dict[tuple[str, str], list[str]] = defaultdict(list)
    counts: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    rows = sorted(zip(ids, labels, groups, strict=True))
    for video_id, label, group in rows:
        key = (group, "" if group else video_id)
        members[key].append(video_id)
        counts[key][label] += 1
    left: dict[str, int] = defaultdict(int)  # groups a class still has on this side
    missing: dict[str, float] = defaultdict(float)  # videos a class still wants on the other side
    for shares in counts.values():
        for label, count in shares.items():
            left[label] += 1
            missing[label] += fraction * count
    if fraction == 0:
        return set()
    several = {label for label, number in left.items() if number > 1}
    keys = sorted(members)
    order = [keys[i] for i in np.random.default_rng(seed).permutation(len(keys))]
    taken: list[tuple[str, str]] = []
    reached: set[str] = set()

    def gain(key: tuple[str, str]) -> float:
        return sum(abs(missing[label]) - abs(missing[label] - count) for label, count in counts[key].items())

    def free(key: tuple[str, str]) -> bool:
        return all(left[label] > 1 for label in counts[key])

    def take(key: tuple[str, str]) -> None:
        taken.append(key)
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
                take(max(candidates, key=gain))  # the first of equals in the drawn order
    return {video_id for key in taken for video_id in members[key]}
