"""Average precision of multi-label scores: how well each class's videos are ranked above the
others."""

from typing import NamedTuple

import numpy as np


class MeanPrecision(NamedTuple):
    """Mean average precision in [0, 1] over the classes with a positive video; counted: how many
    these are; without: how many classes have none."""

    value: float
    counted: int
    without: int


class Ranking:
    """Scores (V, C), sorted once so that average precisions with many weightings of the videos are
    cheap.

    labels: (V, C) of 0 and 1; logits: (V, C).
    """

    def __init__(self, labels: np.ndarray, logits: np.ndarray) -> None:
        self._order = np.argsort(-logits.T, axis=1, kind="stable")  # (C, V), highest first
        ranked = np.take_along_axis(logits.T, self._order, axis=1)
        self._positive = np.take_along_axis(labels.T, self._order, axis=1) > 0
        classes, videos = ranked.shape
        is_last = np.ones_like(
            ranked, dtype=bool
        )  # the last of a run of equal scores, which share a threshold
        is_last[:, :-1] = ranked[:, :-1] != ranked[:, 1:]
        places = np.where(is_last, np.arange(videos), videos)
        threshold = np.minimum.accumulate(places[:, ::-1], axis=1)[
            :, ::-1
        ]  # (C, V): where each score's run ends
        # Precision is needed only at the P positives, which are few. For each: its class, its place
        # and its threshold's place; places are positions in flattened (C, V) arrays.
        self._class, place = np.nonzero(self._positive)
        self._place, self._end = (
            self._class * videos + place,
            self._class * videos + threshold[self._class, place],
        )

    def average_precisions(self, weights: np.ndarray | None = None) -> np.ndarray:
        """sum_n (R_n - R_{n-1}) P_n over the thresholds of each class, (C,) float64, as scikit-learn's
        average_precision_score; nan for a class without a positive. weights: (V,), how
        often each video counts (default: once)."""
        classes, videos = self._order.shape
        ranked = (np.ones(videos) if weights is None else weights)[self._order]  # (C, V)
        # (P,): videos down to the threshold, and positives among them
        videos_above = np.cumsum(ranked, axis=1).ravel()[self._end]
        positives_above = np.cumsum(ranked * self._positive, axis=1).ravel()[self._end]
        gained = ranked.ravel()[self._place]
        total = np.bincount(self._class, gained, classes)
        summed = np.bincount(
            self._class,
            gained * positives_above / np.maximum(videos_above, np.finfo(float).tiny),
            classes,
        )
        return np.divide(summed, total, out=np.full(classes, np.nan), where=total > 0)

    def mean_average_precision(self, weights: np.ndarray | None = None) -> MeanPrecision:
        """The mean over the classes with a positive; nan if no class has one."""
        precisions = self.average_precisions(weights)
        has_positive = np.isfinite(precisions)
        value = float(precisions[has_positive].mean()) if has_positive.any() else float("nan")
        return MeanPrecision(value, int(has_positive.sum()), int((~has_positive).sum()))


def average_precisions(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Each class's average precision; equal scores share a threshold, as in scikit-learn. labels
    (V, C) of 0 and 1, logits (V, C) -> (C,) float64, nan for a class without a positive."""
    return Ranking(labels, logits).average_precisions()


def mean_average_precision(labels: np.ndarray, logits: np.ndarray) -> MeanPrecision:
    """The mean over the classes with a positive; nan if no class has one."""
    return Ranking(labels, logits).mean_average_precision()
