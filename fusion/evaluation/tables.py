"""Score tables that stay in their files. In memory are only the tables that were used last, and of
the others what a model answered, which does not grow with the number of classes."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from reelbank.data.scores.joining import with_classes
from reelbank.data.scores.table import Scores
from reelbank.data.scores.top_k import blocks_of_rows, places_of_true
from reelbank.fusion.evaluation.significance import Calibration, calibration_of
from reelbank.fusion.metrics import (
    ClassFigures,
    Share,
    category_shares,
    class_accuracies,
    class_figures,
    confusion_counts,
    figure,
    labelled,
    share,
)

Shared = TypeVar("Shared", bound=Hashable)

# Tables of this size together stay in memory; the two that were used last stay in any case, because
# comparisons go back and forth between two.
_KEPT_BYTES = 64 << 20
_KEPT_TABLES = 2


@dataclass(frozen=True)
class Outline:
    """A score table without its scores; the fields are those of `Scores`."""

    video_ids: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    about: Mapping[str, Any]
    has_groups: bool

    @property
    def multilabel(self) -> bool:
        """Whether a video can have any number of classes (multi-label data)."""
        return self.labels.ndim == 2


@dataclass(frozen=True)
class Answers:
    """A model's answers to the V' labelled videos of a table (single-label data).

    places: (V',) int32, the number of classes that rank above the true class; predicted: (V',)
    int32, the class with the highest score.
    """

    places: np.ndarray
    predicted: np.ndarray


class Tables:
    """The tables of one selection. What several of them have in common is in memory once."""

    def __init__(self) -> None:
        self._recent: OrderedDict[Table, Scores] = OrderedDict()
        self._recent_bytes = 0
        self._shared: dict[Hashable, Any] = {}

    def table(self, scores: Scores, read: Callable[[], Scores]) -> "Table":
        """A table that has just been read, and can be read again with `read`."""
        labels = scores.labels
        outline = Outline(
            video_ids=self._once(scores.video_ids),
            labels=self._shared.setdefault((labels.shape, labels.tobytes()), labels),
            classes=self._once(scores.classes),
            about=scores.about,
            has_groups=bool(scores.groups),
        )
        table = Table(read, outline, self)
        self._keep(table, scores)
        return table

    def scores(self, table: "Table") -> Scores:
        """The scores of a table, from memory or from its file."""
        if table in self._recent:
            self._recent.move_to_end(table)
        else:
            self._keep(table, table.read())
        return self._recent[table]

    def _once(self, value: Shared) -> Shared:
        return self._shared.setdefault(value, value)

    def _keep(self, table: "Table", scores: Scores) -> None:
        self._recent[table] = scores
        self._recent_bytes += scores.logits.nbytes
        while len(self._recent) > _KEPT_TABLES and self._recent_bytes > _KEPT_BYTES:
            _, dropped = self._recent.popitem(last=False)
            self._recent_bytes -= dropped.logits.nbytes


@dataclass(frozen=True, eq=False)
class Table:
    """A score table that is read when it is used. read: reads it; siblings: the tables of the same
    selection."""

    read: Callable[[], Scores]
    outline: Outline
    siblings: Tables

    @property
    def scores(self) -> Scores:
        """The whole table. It may be large, so it should not be kept."""
        return self.siblings.scores(self)

    def with_classes(self, classes: Sequence[str]) -> "Table":
        """The table with its classes in this order. Raises InputError for other classes."""
        if self.outline.classes == tuple(classes):
            return self
        return self.siblings.table(
            with_classes(self.scores, classes), lambda: with_classes(self.scores, classes)
        )

    @cached_property
    def figure(self) -> Share:
        """Top-1 accuracy, or mean average precision (computing its interval takes half a
        second)."""
        return figure(self.scores) if self.outline.multilabel else self.accuracy(1)

    @cached_property
    def labels(self) -> np.ndarray:
        """The class numbers of the labelled videos, (V',) int64. Raises InputError if there is
        none."""
        has_label = labelled(self.outline)
        return self.outline.labels if has_label.all() else self.outline.labels[has_label]

    @cached_property
    def evaluated_ids(self) -> tuple[str, ...]:
        """The ids of the labelled videos; of all videos for multi-label data."""
        ids = self.outline.video_ids
        if self.outline.multilabel or len(self.labels) == len(ids):
            return ids
        return tuple(ids[row] for row in np.flatnonzero(self.outline.labels >= 0))

    @cached_property
    def answers(self) -> Answers:
        """What the model answers. Raises InputError if no video has a label."""
        logits, labels = self._labelled_logits(), self.labels
        predicted = np.empty(len(logits), np.int32)
        for rows in blocks_of_rows(logits):
            predicted[rows] = logits[rows].argmax(axis=1)
        return Answers(places_of_true(logits, labels), predicted)

    @cached_property
    def calibration(self) -> Calibration:
        """How well confidence matches accuracy (single-label data)."""
        return calibration_of(self._labelled_logits(), self.labels, self.answers.predicted)

    def _labelled_logits(self) -> np.ndarray:
        """The logits of the labelled videos, (V', C)."""
        logits = self.scores.logits
        return logits if len(self.labels) == len(logits) else logits[self.outline.labels >= 0]

    def accuracy(self, k: int) -> Share:
        """Top-k accuracy over the labelled videos, with its Wilson interval."""
        right = self.answers.places < k
        return share(float(right.mean()), len(right))

    def confusion(self) -> np.ndarray:
        """The confusion matrix, (C, C) int64; see `metrics.confusion`."""
        return confusion_counts(self.labels, self.answers.predicted, len(self.outline.classes))

    @cached_property
    def class_figures(self) -> ClassFigures:
        """The figure of each class."""
        if self.outline.multilabel:
            return class_figures(self.scores)
        matrix = self.confusion()
        return ClassFigures(class_accuracies(matrix), matrix.sum(axis=1))

    def category_accuracies(self, coarse: Mapping[str, Sequence[str]]) -> dict[str, Share]:
        """Top-1 accuracy over the videos of each coarse category; see
        `metrics.category_accuracies`."""
        right = self.answers.places < 1
        return category_shares(right, self.labels, self.outline.classes, coarse)

    def judge(self) -> None:
        """Compute what an evaluation needs, while the table is in memory."""
        _ = self.figure, self.class_figures
        if not self.outline.multilabel:
            _ = self.calibration
