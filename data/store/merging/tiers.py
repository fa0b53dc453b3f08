"""Which finished files of a store are merged, so that adding videos costs what is added and not what
is stored (docs/store.md)."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np

SMALL_BYTES = 1 << 20  # files of class 0: merging them costs hardly more than opening them
FACTOR = 8  # between the limits of two neighbouring classes
MOST_FILES = 8  # of a class; class 0 has one
LARGEST_BYTES = 1 << 32  # of a merged file
FULL = 100  # the class of files that are never merged again


def size_class(size_bytes: int, largest_bytes: int = LARGEST_BYTES) -> int:
    """0 for a file of at most SMALL_BYTES; a file of each further class may be FACTOR times as large
    as one of the class before. FULL for more than half of `largest_bytes`: merging two such files
    would exceed it."""
    if size_bytes > largest_bytes // 2:
        return FULL
    number, limit = 0, SMALL_BYTES
    while size_bytes > limit:
        number, limit = number + 1, limit * FACTOR
    return number


def files_to_merge(
    sizes_bytes: Sequence[int], new_bytes: int, largest_bytes: int = LARGEST_BYTES
) -> int:
    """How many of the newest files of a store are merged with a new file.

    sizes_bytes: of the store's files, oldest first. Smaller files are merged with a larger new one,
    and all files of a class if there would be more than MOST_FILES. So the classes of the files never
    increase from the oldest to the newest, every merge moves the merged files to a higher class, and
    a byte is merged at most once per class.
    """
    classes = [size_class(size, largest_bytes) for size in sizes_bytes]
    count, total = 0, new_bytes
    while True:
        own = size_class(total, largest_bytes)
        older = classes[: len(classes) - count][::-1]
        smaller = _leading(older, own.__gt__)
        equal = _leading(older[smaller:], own.__eq__)
        is_crowded = own < FULL and equal + 1 > (MOST_FILES if own else 1)
        merged = smaller + (equal if is_crowded else 0)
        if not merged:
            return count
        end = len(sizes_bytes) - count
        total += sum(sizes_bytes[end - merged : end])
        count += merged


def _leading(classes: Sequence[int], fits: Callable[[int], bool]) -> int:
    """How many of the first classes fit."""
    return sum(1 for _ in itertools.takewhile(fits, classes))


def output_bounds(sizes_bytes: np.ndarray, largest_bytes: int = LARGEST_BYTES) -> list[int]:
    """Divide videos among files of at most `largest_bytes`; a single video may be larger.

    sizes_bytes: (V,) of each video, in order. Returns the number of the first video of each file, and
    V at the end; [0, 0] without videos.
    """
    ends = np.cumsum(sizes_bytes, dtype=np.int64)
    bounds = [0]
    while bounds[-1] < len(ends):
        before = int(ends[bounds[-1] - 1]) if bounds[-1] else 0
        end = int(np.searchsorted(ends, before + largest_bytes, side="right"))
        bounds.append(max(end, bounds[-1] + 1))
    return bounds if len(bounds) > 1 else [0, 0]
