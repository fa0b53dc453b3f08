"""Bootstrap resampling of videos, or of whole groups of videos."""

from collections.abc import Iterator, Sequence

import numpy as np

MAP_RESAMPLES = 400  # for mean average precision, whose resamples are expensive
RESAMPLES = 2000  # for accuracies
_BLOCK_NUMBERS = 1 << 22  # of a block, which takes 50 MB while it is drawn


def resample_blocks(groups: Sequence[str], resamples: int, seed: int = 0) -> Iterator[np.ndarray]:
    """The number of times that each of V videos counts in each resample, in blocks (R, V) int32 of
    some resamples each, because all of them together may not fit in memory.

    Each resample draws as many groups as the data has, with replacement, and takes all videos of
    each drawn group (Efron and Tibshirani 1993, ch. 8). groups: the group of each video; a video
    with group "" forms a separate group.
    """
    keys = [("", str(row)) if group == "" else (group, "") for row, group in enumerate(groups)]
    number_of = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    columns = [number_of[key] for key in keys]
    count = len(number_of)
    chances = np.full(count, 1 / count)
    generator = np.random.default_rng(seed)
    step = max(1, _BLOCK_NUMBERS // max(1, len(columns)))
    for first in range(0, resamples, step):
        # The draws do not depend on the size of the blocks.
        size = min(step, resamples - first)
        of_groups = generator.multinomial(count, chances, size=size)  # (R, G)
        yield of_groups.astype(np.int32)[:, columns]
