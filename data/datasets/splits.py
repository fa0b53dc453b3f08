"""Divides the training videos into a training and a validation part, by whole groups."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reelbank.data.errors import InputError


def cut_validation(
    ids: Sequence[str], labels: Sequence[str], groups: Sequence[str], fraction: float, seed: int
) -> set[str]:
    """Ids of about `fraction` of the videos of each class, in whole groups; a video with group ''
    is its own group. The ids are unique.

    Groups are tried in an order drawn with `seed`, and taken if that brings the classes closer to
    their share. Every class of two or more groups keeps a group in the training part, and gets one
    in the validation part if the other classes of its groups allow it. The result does not depend
    on the order of the videos. Raises InputError unless 0 <= fraction < 1, and ValueError for lists
    of different lengths.
    """
    if not len(ids) == len(labels) == len(groups):
        raise ValueError(
            f"ids, labels and groups must have the same length (got {len(ids)}, {len(labels)} and "
            f"{len(groups)})"
        )
    if not 0 <= fraction < 1:
        raise InputError(f"the validation fraction must be at least 0 and below 1 (got {fraction})")
    if fraction == 0:
        return set()
    rows = sorted(range(len(ids)), key=ids.__getitem__)
    groups_of_rows = _numbered([groups[row] for row in rows])
    taken = _Cut([labels[row] for row in rows], groups_of_rows.numbers, fraction).taken(
        groups_of_rows.ascending[np.random.default_rng(seed).permutation(groups_of_rows.count)]
    )
    is_taken = taken[groups_of_rows.numbers]  # (V,)
    return {ids[row] for row, is_held in zip(rows, is_taken.tolist(), strict=True) if is_held}


@dataclass(frozen=True)
class _Groups:
    """G groups of V videos. numbers: (V,) int64, in the order of their first videos; ascending:
    (G,) int64, the groups of one unnamed video first, then the others by name."""

    numbers: np.ndarray
    ascending: np.ndarray

    @property
    def count(self) -> int:
        """G."""
        return len(self.ascending)


def _numbered(groups: Sequence[str]) -> _Groups:
    number_of: dict[str, int] = {}
    numbers, count = np.empty(len(groups), np.int64), 0
    alone = []
    for row, group in enumerate(groups):
        number = number_of.setdefault(group, count) if group else count
        if not group:
            alone.append(number)
        numbers[row] = number
        count += number == count
    named = [number_of[group] for group in sorted(number_of)]
    return _Groups(numbers, np.array([*alone, *named], np.int64))


class _Cut:
    """The choice of groups. labels, groups: (V,) the label and the number of the group of each
    video."""

    def __init__(self, labels: Sequence[str], groups: np.ndarray, fraction: float) -> None:
        self._names = sorted(set(labels))
        code_of = {name: code for code, name in enumerate(self._names)}
        codes = np.fromiter(map(code_of.__getitem__, labels), np.int64, len(labels))  # (V,)
        classes = max(1, len(self._names))
        # The number of videos of each class in each group, in the order in which they come.
        pairs, firsts, counts = np.unique(
            groups * classes + codes, return_index=True, return_counts=True
        )
        order = np.lexsort((firsts, pairs // classes))
        of_groups, of_classes, counts = (
            column[order] for column in (pairs // classes, pairs % classes, counts)
        )
        self._group_count = int(groups.max(initial=-1)) + 1
        starts = np.searchsorted(of_groups, np.arange(self._group_count + 1))
        # Indexing a memoryview makes one number: lists of all would take 32 bytes for each.
        self._starts, self._classes = starts.data, of_classes.data
        self._counts = counts.data
        self._groups_of_pairs, self._classes_of_pairs = of_groups, of_classes
        # groups of a class in training, and videos that it still needs in validation
        self._left: list[int] = np.bincount(of_classes, minlength=classes).tolist()
        self._missing: list[float] = np.bincount(
            of_classes, weights=fraction * counts, minlength=classes
        ).tolist()

    def taken(self, order: np.ndarray) -> np.ndarray:
        """Which groups are taken, (G,) bool. order: (G,) in which they are tried."""
        several = [code for code, number in enumerate(self._left) if number > 1]
        taken = np.zeros(self._group_count, bool)
        reached: set[int] = set()

        def take(group: int) -> None:
            taken[group] = True
            for code, count in self._videos_of(group):
                self._left[code] -= 1
                self._missing[code] -= count
                reached.add(code)

        for group in order.data:
            if self._is_free(group) and self._gain(group) > 0:
                take(group)
        place_of = np.empty(len(order), np.int64)
        place_of[order] = np.arange(len(order))
        for code in several:
            if code in reached:
                continue
            with_class = self._groups_of_pairs[self._classes_of_pairs == code]
            in_order = with_class[np.argsort(place_of[with_class])].tolist()
            candidates = [group for group in in_order if self._is_free(group)]
            if candidates:
                take(max(candidates, key=self._gain))  # of equal gains, the first in the order
        return taken

    def _videos_of(self, group: int) -> list[tuple[int, int]]:
        """The classes of a group, and their numbers of videos."""
        pairs = range(self._starts[group], self._starts[group + 1])
        return [(self._classes[pair], self._counts[pair]) for pair in pairs]

    def _gain(self, group: int) -> float:
        missing = self._missing
        return sum(
            abs(missing[code]) - abs(missing[code] - count)
            for code, count in self._videos_of(group)
        )

    def _is_free(self, group: int) -> bool:
        return all(self._left[code] > 1 for code, _ in self._videos_of(group))
