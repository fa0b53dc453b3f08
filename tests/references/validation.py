"""`cut_validation` as it is described, with dictionaries: the reference for the one on arrays."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain

import numpy as np


def reference_cut(
    ids: Sequence[str], labels: Sequence[str], groups: Sequence[str], fraction: float, seed: int
) -> set[str]:
    members: dict[tuple[str, str], list[str]] = defaultdict(list)
    counts: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for video_id, label, group in sorted(zip(ids, labels, groups, strict=True)):
        key = (group, "" if group else video_id)
        members[key].append(video_id)
        counts[key][label] += 1
    left: dict[str, int] = defaultdict(int)
    missing: dict[str, float] = defaultdict(float)
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
        return sum(
            abs(missing[label]) - abs(missing[label] - count)
            for label, count in counts[key].items()
        )

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
    for label in sorted(several - reached):
        candidates = [key for key in order if label in counts[key] and free(key)]
        if label not in reached and candidates:
            take(max(candidates, key=gain))
    return set(chain.from_iterable(members[key] for key in taken))
