"""The most likely classes of each video."""

from typing import NamedTuple

import numpy as np

from reelbank.data.scores.table import Scores, softmax_parts
from reelbank.data.scores.top_k import best_classes, blocks_of_rows


class Likeliest(NamedTuple):
    """The k most likely classes of each video, (V, k) int64, and their probabilities (V, k)
    float64, the most likely first; of equal probabilities, the first class."""

    numbers: np.ndarray
    chances: np.ndarray


def likeliest(scores: Scores, k: int) -> Likeliest:
    """The k (at most C) most likely classes, from `probabilities`, which are not all in memory."""
    k = min(k, len(scores.classes))
    found = Likeliest(
        np.empty((len(scores.logits), k), np.int64), np.empty((len(scores.logits), k))
    )
    for rows in blocks_of_rows(scores.logits):
        logits = scores.logits[rows]
        if scores.multilabel:
            chances = np.exp(-np.logaddexp(0, -logits.astype(np.float64)))
        else:
            chances, sums = softmax_parts(logits)
            chances /= sums[:, None]
        found.numbers[rows] = best_classes(chances, k)
        found.chances[rows] = np.take_along_axis(chances, found.numbers[rows], axis=1)
    return found
