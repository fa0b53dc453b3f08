"""What an open store says about some of its videos, read when it is used."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reelbank.data.store.file.columns import LazySequence, Taken
from reelbank.data.store.reader import Store
from reelbank.data.store.records import StoredVideo


class StoredVideos(LazySequence[StoredVideo]):
    """Some videos of a store, in the given order. Each is made when it is used, because those of a
    million videos would take a gigabyte. Pickling gives a list of all.

    ids, labels, groups, parts, sources: (V,), without the rest of each video.
    """

    def __init__(self, store: Store, numbers: np.ndarray) -> None:
        """numbers: (V,) int64, positions in `store.video_ids`."""
        self.ids = _taken(store.video_ids, numbers)
        self.labels = _taken(store.labels, numbers)
        self.groups = _taken(store.groups, numbers)
        self.parts: Sequence[Sequence[str]] = Taken([(store.parts, numbers)])
        self.sources: Sequence[Mapping[str, Any]] = Taken([(store.sources, numbers)])
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def items(self, first: int, last: int) -> list[StoredVideo]:
        columns = (self.ids, self.labels, self.groups, self.parts, self.sources)
        return list(map(StoredVideo, *(column[first:last] for column in columns)))

    def __reduce__(self) -> tuple[type[list[StoredVideo]], tuple[list[StoredVideo]]]:
        return list, (list(self),)


def _taken(texts: Sequence[str], numbers: np.ndarray) -> Sequence[str]:
    """Some of these texts; all of them without a copy."""
    if np.array_equal(numbers, np.arange(len(texts))):
        return texts
    return [texts[number] for number in numbers.tolist()]
