"""Metrics of scores: accuracies with intervals, confusion matrices, mean and deviation over runs.
This module does not read or write files.

Videos without a label (-1) are left out of all metrics. `labelled` says which videos have a label.
`figure` and `class_figures` take any table of scores. Functions named after accuracy or confusion
are for single-label data, those named after precision for multi-label data.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from reelbank.data.console import counted
from reelbank.data.errors import InputError
from reelbank.data.scores import average_precision as precision
from reelbank.data.scores.average_precision import MeanPrecision, Ranking
from reelbank.data.scores.table import Scores
from reelbank.data.scores.top_k import in_top_k
from reelbank.fusion.bootstrap import MAP_RESAMPLES, resample_blocks

Z_95 = 1.959963984540054  # the normal distribution's 97.5 % point


class Share(NamedTuple):
    """An accuracy, or mean average precision, in [0, 1], the ends of its 95 % interval, and the
    number of videos it was measured on."""

    value: float
    low: float
    high: float
    videos: int


class Labelled(Protocol):
    """Anything with labels as those of `Scores`."""

    @property
    def labels(self) -> np.ndarray: ...


def labelled(scores: Labelled) -> np.ndarray:
    """Whether each video has a label, (V,) bool. Raises InputError when none has one."""
    has_label = scores.labels >= 0
    if not has_label.any():
        raise InputError(
            f"the scores of {counted(len(has_label), 'video')} have no label, so accuracy is "
            "undefined; give scores of labelled videos"
        )
    return has_label


def hits(scores: Scores, k: int = 1) -> np.ndarray:
    """Whether the true class is among the k highest scores of each labelled video, (V',) bool. Of
    two equal scores, that of the earlier class counts as higher."""
    has_label = labelled(scores)
    return in_top_k(scores.logits[has_label], scores.labels[has_label], k)


def accuracy(scores: Scores, k: int = 1) -> Share:
    """Top-k accuracy over the labelled videos, with its Wilson interval."""
    right = hits(scores, k)
    return share(float(right.mean()), len(right))


def average_precisions(scores: Scores) -> np.ndarray:
    """Average precision of each class, (C,) float64, nan for a class without a positive. A video
    without any class is a negative for all classes."""
    return precision.average_precisions(scores.labels, scores.logits)


def mean_average_precision(scores: Scores) -> MeanPrecision:
    """Mean of `average_precisions` over the classes that have a positive. Raises InputError when
    none has one."""
    mean = precision.mean_average_precision(scores.labels, scores.logits)
    if not mean.counted:
        raise InputError(
            f"the scores of {counted(len(scores.labels), 'video')} have no label, so average "
            "precision is undefined; give scores of labelled videos"
        )
    return mean


def map_share(scores: Scores) -> Share:
    """Mean average precision, with its bootstrap interval over videos (`normal_interval`). Raises
    InputError when no class has a positive."""
    value, videos = mean_average_precision(scores).value, len(scores.labels)
    blocks = resample_blocks([""] * videos, MAP_RESAMPLES)
    counts = itertools.chain.from_iterable(blocks)
    return normal_interval(value, resampled_map(scores, counts), videos)


def resampled_map(scores: Scores, counts: Iterable[np.ndarray]) -> np.ndarray:
    """Mean average precision in each resample, (R,) float64. counts: R times (V,), the number of
    times that each video counts."""
    ranking = Ranking(scores.labels, scores.logits)
    return np.array([ranking.mean_average_precision(draw).value for draw in counts])


def normal_interval(value: float, resampled: np.ndarray, videos: int) -> Share:
    """A mean average precision with its 95 % bootstrap interval: the value ± 1.96 standard
    deviations of the resampled values.

    Percentiles of the resamples are not used because they are biased. A positive that is drawn
    twice appears twice in the ranking, which raises the precision of every resample. With as few
    positives as the classes of Charades have, all resamples can lie above the value.
    """
    half = Z_95 * float(np.nanstd(resampled, ddof=1))
    return Share(value, max(0.0, value - half), min(1.0, value + half), videos)


def figure(scores: Scores) -> Share:
    """The metric that models are ranked by, which is top-1 accuracy, or mean average precision for
    multi-label data."""
    return map_share(scores) if scores.multilabel else accuracy(scores)


class ClassFigures(NamedTuple):
    """The accuracy or average precision of each class, (C,) float64, nan for a class without
    videos, and the number of its videos (C,)."""

    values: np.ndarray
    videos: np.ndarray


def class_figures(scores: Scores) -> ClassFigures:
    """The figure of each class."""
    if scores.multilabel:
        return ClassFigures(average_precisions(scores), scores.labels.sum(axis=0, dtype=np.int64))
    matrix = confusion(scores)
    return ClassFigures(class_accuracies(matrix), matrix.sum(axis=1))


def share(value: float, videos: int) -> Share:
    """`value` with the 95 % interval of Wilson (1927) for this number of independent videos.

    Videos of one group are not independent, so the true interval is somewhat wider. Raises
    InputError for 0 videos.
    """
    if videos < 1:
        raise InputError("an accuracy needs at least one video")
    return shares(np.array([value]), np.array([videos]))[0]


def shares(values: np.ndarray, videos: np.ndarray) -> list[Share]:
    """`share` of each of n values, (n,) float64, on their numbers of videos, (n,) int64."""
    z2 = Z_95**2
    centre = (values + z2 / (2 * videos)) / (1 + z2 / videos)
    spread = np.sqrt(values * (1 - values) / videos + z2 / (4 * videos**2))
    half = Z_95 / (1 + z2 / videos) * spread
    columns = (values, np.maximum(0.0, centre - half), np.minimum(1.0, centre + half), videos)
    return [Share(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def confusion(scores: Scores) -> np.ndarray:
    """Confusion matrix of counts, (C, C) int64. Rows are true classes, columns are predicted
    classes."""
    has_label = labelled(scores)
    predicted = scores.logits[has_label].argmax(axis=1)
    return confusion_counts(scores.labels[has_label], predicted, len(scores.classes))


def confusion_counts(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """`confusion` from the true and the predicted class number of each video, (V,) each."""
    cells = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return cells.reshape(classes, classes).astype(np.int64)


def class_accuracies(matrix: np.ndarray) -> np.ndarray:
    """Accuracy of each class from a confusion matrix, (C,) float64; nan for a class without
    videos."""
    videos = matrix.sum(axis=1)
    return np.divide(matrix.diagonal(), videos, out=np.full(len(matrix), np.nan), where=videos > 0)


def category_accuracies(scores: Scores, coarse: Mapping[str, Sequence[str]]) -> dict[str, Share]:
    """Top-1 accuracy over the videos of each coarse category. The fine class must be correct, as in
    Table 3 of the Res-LSTM paper. Categories without a test video are absent, and classes without a
    category are ignored."""
    labels = scores.labels[labelled(scores)]
    return category_shares(hits(scores), labels, scores.classes, coarse)


def category_shares(
    right: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    coarse: Mapping[str, Sequence[str]],
) -> dict[str, Share]:
    """`category_accuracies` from whether each video is classified correctly, (V,) bool, and its
    class number, (V,)."""
    accuracies = {}
    for category, members in coarse.items():
        is_member = np.isin(np.array(classes), list(members))  # (C,)
        of_category = right[is_member[labels]]
        if len(of_category):
            accuracies[category] = share(float(of_category.mean()), len(of_category))
    return accuracies


class MeanDeviation(NamedTuple):
    """Mean and sample standard deviation (n - 1) over runs. The deviation of a single run is
    nan."""

    mean: float
    deviation: float


def mean_and_deviation(values: Sequence[float]) -> MeanDeviation:
    """Over runs."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return MeanDeviation(float(np.mean(values)), deviation)


def mean_share(values: Sequence[float], distinct_videos: int) -> Share:
    """The mean accuracy of several runs. The interval counts each video once, because further runs
    on the same videos do not make it narrower."""
    return share(float(np.mean(values)), distinct_videos)
