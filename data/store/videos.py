"""What an open store says about some of its videos, read when it is used."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from reelbank.data.store.file.columns import LazySequence, Taken
from reelbank.data.store.reader import Store
from reelbank.data.store.records import StoredVideo


class StoredVideos(LazySequence[StoredVideo]):
    """V videos of a store. Each is made when it is used, because a million would take a gigabyte.

    ids, labels, groups, parts, sources: (V,), as in StoredVideo. They may be columns that are read
    from the open store; pickling reads all of them.
    """

    def __init__(
        self,
        ids: Sequence[str],
        labels: Sequence[str],
        groups: Sequence[str],
        parts: Sequence[Sequence[str]],
        sources: Sequence[Mapping[str, Any]],
    ) -> None:
        self.ids, self.labels, self.groups = ids, labels, groups
        self.parts, self.sources = parts, sources

    @classmethod
    def of(cls, store: Store, numbers: np.ndarray) -> Self:
        """Some videos of an open store, in this order. numbers: (V,) int64, positions in
        `store.video_ids`."""
        return cls(
            _taken(store.video_ids, numbers),
            _taken(store.labels, numbers),
            _taken(store.groups, numbers),
            Taken([(store.parts, numbers)]),
            Taken([(store.sources, numbers)]),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def items(self, first: int, last: int) -> list[StoredVideo]:
        return list(map(StoredVideo, *(column[first:last] for column in self._columns)))

    @property
    def _columns(self) -> tuple[Sequence[Any], ...]:
        return self.ids, self.labels, self.groups, self.parts, self.sources

    def __reduce__(self) -> tuple[type[Self], tuple[list[Any], ...]]:
        return type(self), tuple(map(list, self._columns))


def _taken(texts: Sequence[str], numbers: np.ndarray) -> Sequence[str]:
    """Some of these texts; all of them without a copy."""
    if np.array_equal(numbers, np.arange(len(texts))):
        return texts
    return [texts[number] for number in numbers.tolist()]
