"""The most likely classes of each video."""

from typing import NamedTuple

import numpy as np

from reelbank.data.scores.table import Scores
from reelbank.data.scores.top_k import best_classes, blocks_of_rows


class Likeliest(NamedTuple):
    """The k most likely classes of each video, (V, k) int64, and their probabilities (V, k)
    float64, the most likely first; of equal scores, the first class."""

    numbers: np.ndarray
    chances: np.ndarray


def likeliest(scores: Scores, k: int) -> Likeliest:
    """The k most likely classes, at least one and at most C, with their `probabilities`. Those of all
    classes are not all in memory. Where probabilities are equal because of rounding, such as several
    of 1.0, the scores decide."""
    k = min(k, len(scores.classes))
    found = Likeliest(
        np.empty((len(scores.logits), k), np.int64), np.empty((len(scores.logits), k))
    )
    for rows in blocks_of_rows(scores.logits):
        logits = scores.logits[rows]
        best = found.numbers[rows] = best_classes(logits, k)
        if scores.multilabel:
            best_logits = np.take_along_axis(logits, best, axis=1).astype(np.float64)
            found.chances[rows] = np.exp(-np.logaddexp(0, -best_logits))
        else:
            found.chances[rows] = _softmax_of(logits, best)
    return found


def _softmax_of(logits: np.ndarray, best: np.ndarray) -> np.ndarray:
    """The softmax over all C classes of some of them: logits (V, C), numbers (V, k) of the highest
    ones first -> (V, k) float64. The sums are of float32, so the relative error is below 1e-6."""
    of_best = np.take_along_axis(logits, best, axis=1)  # (V, k)
    with np.errstate(over="ignore"):  # of a difference that becomes -inf, whose exponential is 0
        ratios = logits - of_best[:, :1]
    np.exp(ratios, out=ratios)  # float64 takes three times as long
    sums = ratios @ np.ones(logits.shape[1], ratios.dtype)  # (V,)
    return np.exp(of_best.astype(np.float64) - of_best[:, :1]) / sums[:, None]
