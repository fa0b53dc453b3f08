"""Average precision of multi-label scores: how well each class's videos are ranked before the others."""

from typing import NamedTuple

import numpy as np


class MeanPrecision(NamedTuple):
    """Mean average precision in [0, 1] over the classes that have a positive; how many these are, and how many have none."""

    value: float
    counted: int
    without: int


class Ranking:
    """Scores (V, C) sorted once, so that average precisions over many weightings of the videos cost little.

    labels: (V, C) of 0 and 1; logits: (V, C).
    """

    def __init__(self, labels: np.ndarray, logits: np.ndarray) -> None:
        self._order = np.argsort(-logits, axis=0, kind="stable")  # (V, C), highest first
        ranked = np.take_along_axis(logits, self._order, axis=0)
        self._positive = np.take_along_axis(labels, self._order, axis=0) > 0
        videos = len(logits)
        is_last = np.ones_like(ranked, dtype=bool)  # of a run of equal scores, which are one threshold
        is_last[:-1] = ranked[:-1] != ranked[1:]
        places = np.where(is_last, np.arange(videos)[:, None], videos)
        self._threshold = np.minimum.accumulate(places[::-1], axis=0)[::-1]  # (V, C): where each score's run ends

    def average_precisions(self, weights: np.ndarray | None = None) -> np.ndarray:
        """sum_n (R_n - R_{n-1}) P_n over thresholds of each class, (C,) float64, nan for a class without a positive.
        weights: (V,), how often each video counts (default: once)."""
        weights = np.ones(len(self._order)) if weights is None else weights
        ranked = weights[self._order]  # (V, C)
        found = ranked * self._positive
        precision = np.cumsum(found, axis=0) / np.maximum(np.cumsum(ranked, axis=0), np.finfo(float).tiny)
        total = found.sum(axis=0)
        gained = (found * np.take_along_axis(precision, self._threshold, axis=0)).sum(axis=0)
        return np.divide(gained, total, out=np.full(len(total), np.nan), where=total > 0)


def mean_average_precision(labels: np.ndarray, logits: np.ndarray) -> MeanPrecision:
    """Over the classes with a positive; classes without are left out and counted. Without any the value is nan."""
    precisions = Ranking(labels, logits).average_precisions()
    known = np.isfinite(precisions)
    value = float(precisions[known].mean()) if known.any() else float("nan")
    return MeanPrecision(value, int(known.sum()), int((~known).sum()))
