"""Which finished files of a store are merged, so that adding videos costs what is added and not what
is stored (docs/store.md)."""

import itertools
from collections.abc import Sequence

import numpy as np

SMALL_BYTES = 1 << 20  # files of class 0: merging them costs hardly more than opening them
FACTOR = 8  # between the limits of two neighbouring classes
MOST_FILES = 8  # of a class; class 0 has one
LARGEST_BYTES = 1 << 32  # of a merged file
# Of files that are larger than half of LARGEST_BYTES: merging two of them would exceed it.
FULL = 5


def size_class(size_bytes: int) -> int:
    """0 for a file of at most SMALL_BYTES; a file of each further class may be FACTOR times as large
    as one of the class before. FULL for files that are never merged again."""
    if size_bytes > LARGEST_BYTES // 2:
        return FULL
    number, limit = 0, SMALL_BYTES
    while size_bytes > limit:
        number, limit = number + 1, limit * FACTOR
    return number


def files_to_merge(sizes_bytes: Sequence[int], new_bytes: int) -> int:
    """How many of the newest files of a store are merged with a new file.

    sizes_bytes: of the store's files, oldest first. Smaller files are merged with a larger new one,
    and all files of a class if there would be more than MOST_FILES. So the classes of the files never
    increase from the oldest to the newest, every merge moves the merged files to a higher class, and
    a byte is merged at most once per class.
    """
    count, total = 0, new_bytes
    while True:
        own = size_class(total)
        older = [size_class(size) for size in reversed(sizes_bytes[: len(sizes_bytes) - count])]
        smaller = _leading(older, [number for number in range(FULL + 1) if number < own])
        equal = _leading(older[smaller:], [own])
        is_crowded = own < FULL and equal + 1 > (MOST_FILES if own else 1)
        merged = smaller + (equal if is_crowded else 0)
        if not merged:
            return count
        end = len(sizes_bytes) - count
        total += sum(sizes_bytes[end - merged : end])
        count += merged


def _leading(classes: Sequence[int], wanted: Sequence[int]) -> int:
    """How many of the first classes are among the wanted ones."""
    return sum(1 for _ in itertools.takewhile(lambda number: number in wanted, classes))


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
