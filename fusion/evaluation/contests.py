"""Experiments that can be compared with each other, and their mean figures over splits and
seeds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reelbank.fusion.evaluation.experiments import Entry, Group, grouped
from reelbank.fusion.evaluation.significance import bootstrap_share
from reelbank.fusion.metrics import Share, mean_and_deviation, mean_share


@dataclass(frozen=True)
class Contest:
    """Experiments on the same data set, classes and kind of labels. groups: the experiments, the
    one with the highest mean figure first."""

    dataset: str
    classes: tuple[str, ...]
    coarse: dict[str, list[str]]
    groups: tuple[Group, ...]
    multilabel: bool = False

    @property
    def measure(self) -> str:
        """The figure that models are ranked by."""
        return "mAP" if self.multilabel else "top-1"

    @property
    def chance(self) -> float:
        """The expected figure of guessing. It is 1 / C for single-label data. For multi-label data,
        it is the mean over classes of the share of videos that have the class, which equals the
        mean average precision of constant scores."""
        if not self.multilabel:
            return 1 / len(self.classes)
        labels = self.groups[0].entries[0].table.outline.labels
        return float(labels[:, labels.any(axis=0)].mean())

    @property
    def title(self) -> str:
        kind = ", multi-label" if self.multilabel else ""
        return f"{self.dataset or 'unnamed data set'}, {len(self.classes)} classes{kind}"


def contests(entries: Sequence[Entry]) -> list[Contest]:
    """The entries as experiments, separated by data set and classes. The best experiment of each
    contest comes first."""
    separated: dict[tuple[str, tuple[str, ...], bool], list[Entry]] = {}
    for entry in entries:
        outline = entry.table.outline
        key = (entry.fact("dataset"), outline.classes, outline.multilabel)
        separated.setdefault(key, []).append(entry)
    contests_found = []
    for (dataset, classes, multilabel), members in separated.items():
        groups = sorted(grouped(members), key=lambda group: -mean_figure(group).value)
        coarse = max((entry.coarse for entry in members), key=len)
        if multilabel or len(coarse) < 2:  # only accuracies are split by category
            coarse = {}
        contests_found.append(Contest(dataset, classes, coarse, tuple(groups), multilabel))
    return contests_found


@dataclass(frozen=True)
class MeanFigure:
    """An experiment's mean figure in [0, 1] over its runs, the ends of its 95 % interval, the
    number of distinct videos, and the sample standard deviation over runs (nan for one run)."""

    value: float
    low: float
    high: float
    videos: int
    deviation: float

    @property
    def share(self) -> Share:
        return Share(self.value, self.low, self.high, self.videos)


def mean_figure(group: Group, k: int = 1, interval: str = "wilson") -> MeanFigure:
    """Mean top-k accuracy of the group's runs, or mean average precision of multi-label data.

    interval: one of INTERVALS. Wilson's formula applies to accuracies. The interval of mean average
    precision is then the mean of the runs' own intervals, because several seeds on the same videos
    do not narrow it.
    """
    shares = [entry.figure if k == 1 else entry.table.accuracy(k) for entry in group.entries]
    values = [share.value for share in shares]
    if interval != "wilson":
        mean = bootstrap_share([entry.scores for entry in group.entries], interval, k)
    elif group.multilabel:
        value, low, high = (
            float(np.mean([getattr(share, end) for share in shares]))
            for end in ("value", "low", "high")
        )
        mean = Share(value, low, high, group.videos)
    else:
        mean = mean_share(values, group.videos)
    return MeanFigure(*mean, deviation=mean_and_deviation(values)[1])


def counted_classes(group: Group) -> str:
    """The number of classes with a positive, over which mean average precision is computed. If the
    runs differ, it is a range, such as "5 to 7"."""
    labels = [entry.table.outline.labels for entry in group.entries]
    counts = sorted({int(table.any(axis=0).sum()) for table in labels})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def category_means(group: Group, coarse: Mapping[str, list[str]]) -> dict[str, float]:
    """The mean accuracy over runs of each coarse category. A category without a video in any run is
    absent."""
    by_category: dict[str, list[float]] = {}
    for entry in group.entries if coarse else ():
        for category, figure in entry.table.category_accuracies(coarse).items():
            by_category.setdefault(category, []).append(figure.value)
    return {category: mean_and_deviation(values)[0] for category, values in by_category.items()}


def class_means(group: Group) -> np.ndarray:
    """The mean over runs of each class's accuracy or average precision, (C,) float64. A run without
    a video of a class is not counted for that class. The value is nan if no run has a video of the
    class."""
    figures = np.array([entry.table.class_figures.values for entry in group.entries])  # (runs, C)
    counted = np.isfinite(figures).sum(axis=0)
    return np.divide(
        np.nansum(figures, axis=0), counted, out=np.full(len(counted), np.nan), where=counted > 0
    )


def videos_of_classes(entries: Iterable[Entry]) -> list[int]:
    """The number of distinct videos of each class over all entries, which have the same classes."""
    outlines = [entry.table.outline for entry in entries]
    # Entries on the same videos share their ids and labels.
    distinct = {(id(outline.video_ids), id(outline.labels)): outline for outline in outlines}
    videos: list[set[str]] = [set() for _ in outlines[0].classes]
    for outline in distinct.values():
        ids = outline.video_ids
        if outline.multilabel:
            rows, numbers = np.nonzero(outline.labels)
        else:
            rows = np.flatnonzero(outline.labels >= 0)
            numbers = outline.labels[rows]
        for row, number in zip(rows.tolist(), numbers.tolist(), strict=True):
            videos[number].add(ids[row])
    return [len(of_class) for of_class in videos]


def confusions(group: Group) -> np.ndarray:
    """The sum of the runs' confusion matrices, (C, C) int64. Rows are true classes, columns are
    predicted classes."""
    first, *others = group.entries
    counts = first.table.confusion()
    for entry in others:
        counts += entry.table.confusion()
    return counts


@dataclass(frozen=True)
class MeanCalibration:
    """The means over runs of the expected calibration error, the negative log likelihood and the
    Brier score."""

    ece: float
    nll: float
    brier: float


def mean_calibration(group: Group) -> MeanCalibration:
    """The mean of `significance.calibration` over the group's runs."""
    of_runs = [entry.table.calibration for entry in group.entries]
    ece, nll, brier = np.mean([(run.ece, run.nll, run.brier) for run in of_runs], axis=0).tolist()
    return MeanCalibration(ece, nll, brier)
