"""How good scores are: accuracies with intervals, confusion, mean and deviation over runs. Nothing is read or written.

Videos without a label (-1) take no part in any of these; `labelled` says which do. Scores of several labels a video have a
mean average precision in place of an accuracy: `figure` and `class_figures` are of either kind, those named by accuracy or
confusion of single labels alone, those by precision of several.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from sklearn.metrics import confusion_matrix

from reelbank.data import precision
from reelbank.data.errors import InputError
from reelbank.data.precision import MeanPrecision, Ranking
from reelbank.data.scores import Scores

Z_95 = 1.959963984540054  # the normal distribution's 97.5 % point
RESAMPLES = 400  # of the videos, for the interval of a mean average precision


class Share(NamedTuple):
    """An accuracy, or mean average precision, in [0, 1], the ends of its 95 % interval, and the number of videos behind it."""

    value: float
    low: float
    high: float
    videos: int


def labelled(scores: Scores) -> np.ndarray:
    """Which videos have a label, (V,) bool. Raises InputError when none has one: there is nothing to judge by."""
    known = scores.labels >= 0
    if not known.any():
        raise InputError(f"scores: none of {len(known)} videos has a label, so there is no accuracy")
    return known


def hits(scores: Scores, k: int = 1) -> np.ndarray:
    """Whether the true class is among the k best of each labelled video, (V',) bool.

    Of equal scores the class that comes first counts as the better one (as argmax has it), so k = 1 is argmax's answer.
    """
    known = labelled(scores)
    logits, labels = scores.logits[known], scores.labels[known]  # (V', C), (V',)
    true = np.take_along_axis(logits, labels[:, None], axis=1)  # (V', 1)
    earlier = np.arange(logits.shape[1]) < labels[:, None]  # (V', C)
    better = (logits > true) | ((logits == true) & earlier)
    return better.sum(axis=1) < k


def accuracy(scores: Scores, k: int = 1) -> Share:
    """Top-k accuracy over the labelled videos, with its Wilson interval."""
    right = hits(scores, k)
    return share(float(right.mean()), len(right))


def average_precisions(scores: Scores) -> np.ndarray:
    """Average precision of each class, (C,) float64, nan for a class without a positive; a video without any class is a
    negative of all."""
    return precision.average_precisions(scores.labels, scores.logits)


def mean_average_precision(scores: Scores) -> MeanPrecision:
    """Mean of `average_precisions` over the classes that have a positive. Raises InputError when none has one."""
    found = precision.mean_average_precision(scores.labels, scores.logits)
    if not found.counted:
        raise InputError(f"scores: none of {len(scores.labels)} videos has a label, so there is no average precision")
    return found


def map_share(scores: Scores) -> Share:
    """Mean average precision, with a bootstrap's 95 % interval over videos: the value ± 1.96 standard deviations of it over
    400 seeded resamples. Raises InputError when no class has a positive.

    Not the resamples' percentiles: a positive drawn twice stands beside itself in the ranking, which raises every resample's
    precision, so that with as few positives as Charades' classes have all of them may lie above the value itself.
    """
    value, videos = mean_average_precision(scores).value, len(scores.labels)
    ranking, rng, chances = Ranking(scores.labels, scores.logits), np.random.default_rng(0), np.full(videos, 1 / videos)
    draws = (rng.multinomial(videos, chances).astype(np.int32) for _ in range(RESAMPLES))  # (V,) each: how often a video counts
    half = Z_95 * float(np.nanstd([ranking.mean_average_precision(draw).value for draw in draws], ddof=1))
    return Share(value, max(0.0, value - half), min(1.0, value + half), videos)


def figure(scores: Scores) -> Share:
    """What a model is judged by: top-1 accuracy, or of several labels a video mean average precision."""
    return map_share(scores) if scores.multilabel else accuracy(scores)


def class_figures(scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    """Each class's accuracy, or average precision, (C,) float64, nan where it has no video; and its number of videos (C,)."""
    if scores.multilabel:
        return average_precisions(scores), scores.labels.sum(axis=0, dtype=np.int64)
    matrix = confusion(scores)
    return class_accuracies(matrix), matrix.sum(axis=1)


def share(value: float, videos: int) -> Share:
    """`value` with the 95 % interval of Wilson (1927) for that many videos taken as independent.

    Videos of one group are not independent, so the true interval is somewhat wider. Raises InputError for no videos.
    """
    if videos < 1:
        raise InputError("an accuracy needs at least one video")
    z2 = Z_95**2
    centre = (value + z2 / (2 * videos)) / (1 + z2 / videos)
    half = Z_95 / (1 + z2 / videos) * math.sqrt(value * (1 - value) / videos + z2 / (4 * videos**2))
    return Share(value, max(0.0, centre - half), min(1.0, centre + half), videos)


def confusion(scores: Scores) -> np.ndarray:
    """Counts (C, C) int64: row = true class, column = predicted class."""
    known = labelled(scores)
    predicted = scores.logits[known].argmax(axis=1)
    return confusion_matrix(scores.labels[known], predicted, labels=np.arange(len(scores.classes)))


def class_accuracies(matrix: np.ndarray) -> np.ndarray:
    """Accuracy of each class from a confusion matrix, (C,) float64; nan for a class without videos."""
    videos = matrix.sum(axis=1)
    return np.divide(matrix.diagonal(), videos, out=np.full(len(matrix), np.nan), where=videos > 0)


def category_accuracies(scores: Scores, coarse: Mapping[str, Sequence[str]]) -> dict[str, Share]:
    """Top-1 accuracy over the videos of each coarse category: the fine class must be right, as in the Res-LSTM paper's
    Table 3. Categories without a test video are absent; classes in no category count in none."""
    right, names = hits(scores), np.array(scores.classes)[scores.labels[labelled(scores)]]
    found = {}
    for category, classes in coarse.items():
        of_category = right[np.isin(names, list(classes))]
        if len(of_category):
            found[category] = share(float(of_category.mean()), len(of_category))
    return found


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (n - 1) over runs; the deviation of a single run is nan."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def mean_share(values: Sequence[float], distinct_videos: int) -> Share:
    """The mean of several runs' accuracies. Runs that judge the same video again add no videos: the interval counts each
    video once."""
    return share(float(np.mean(values)), distinct_videos)
