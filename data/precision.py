"""Average precision of multi-label scores: how well each class's videos are ranked before the others."""

from typing import NamedTuple

import numpy as np
from sklearn.metrics import average_precision_score


class MeanPrecision(NamedTuple):
    """Mean average precision in [0, 1] over the classes that have a positive; how many these are, and how many have none."""

    value: float
    counted: int
    without: int


def average_precisions(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Each class's average precision, sum_n (R_n - R_{n-1}) P_n over thresholds, equal scores being one threshold
    (scikit-learn's). labels (V, C) of 0 and 1, logits (V, C) -> (C,) float64, nan for a class without a positive."""
    found = np.full(labels.shape[1], np.nan)
    for number in np.flatnonzero(labels.any(axis=0)):
        found[number] = average_precision_score(labels[:, number], logits[:, number])
    return found


def mean_average_precision(labels: np.ndarray, logits: np.ndarray) -> MeanPrecision:
    """Over the classes with a positive; classes without are left out and counted. Without any the value is nan."""
    precisions = average_precisions(labels, logits)
    known = np.isfinite(precisions)
    value = float(precisions[known].mean()) if known.any() else float("nan")
    return MeanPrecision(value, int(known.sum()), int((~known).sum()))
