"""Bootstrap resampling of videos, or of whole groups of videos."""

from collections.abc import Sequence

import numpy as np

MAP_RESAMPLES = 400  # for mean average precision, whose resamples are expensive
RESAMPLES = 2000  # for accuracies


def resample_counts(groups: Sequence[str], resamples: int, seed: int = 0) -> np.ndarray:
    """The number of times that each of V videos counts in each resample, (resamples, V) int32.

    Each resample draws as many groups as the data has, with replacement, and takes all videos of
    each drawn group (Efron and Tibshirani 1993, ch. 8). groups: the group of each video; a video
    with group "" forms a separate group.
    """
    keys = [("", str(row)) if group == "" else (group, "") for row, group in enumerate(groups)]
    number_of = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    count = len(number_of)
    chances = np.full(count, 1 / count)
    of_groups = np.random.default_rng(seed).multinomial(count, chances, size=resamples)  # (R, G)
    return of_groups.astype(np.int32)[:, [number_of[key] for key in keys]]
