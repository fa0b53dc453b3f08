"""The results of a finished run, which are stored in metrics.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

PARTS = ("train", "validation", "test")
# Keys of metrics.json in addition to the parts: of trained runs, then of fused runs and SVMs.
_FACTS = ("best_epoch", "epochs", "training_seconds", "notes", "leaks", "sequences", "seconds")
_FACTS_OF_JOINED = ("c", "cross_validation", "members")


@dataclass(frozen=True)
class PartMetrics:
    """The results on one part of the split. Accuracies and precisions are in [0, 1].

    videos: number of labelled videos, None if it is not recorded. top1, top5: accuracies for
    single-label data. map: mean average precision for multi-label data, None if no class has a
    positive video. classes_counted, classes_without: number of classes with and without a positive
    video, None for single-label data. low, high: 95 % interval of the main result, None for trained
    runs.
    """

    videos: int | None
    top1: float | None = None
    top5: float | None = None
    map: float | None = None
    classes_counted: int | None = None
    classes_without: int | None = None
    low: float | None = None
    high: float | None = None

    @property
    def is_multilabel(self) -> bool:
        return self.classes_counted is not None

    @property
    def figure(self) -> float | None:
        """The main result: top-1 accuracy, or mean average precision for multi-label data."""
        return self.map if self.is_multilabel else self.top1

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> PartMetrics:
        """Raises TypeError for a damaged document."""
        names = tuple(field.name for field in fields(cls))
        if "map" in document:  # runs of earlier versions may not record the number of classes
            document = {"classes_counted": 0, **document}
        return cls(**{name: _number(document.get(name)) for name in names})

    def to_json(self) -> dict[str, Any]:
        of_kind = ("map", "classes_counted", "classes_without")
        names = ("videos", *(of_kind if self.is_multilabel else ("top1", "top5")))
        if self.low is not None:
            names += ("low", "high")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class MemberMetrics:
    """One of the runs that were combined by a fusion or an SVM. weight: its weight in the fusion,
    None for an SVM. top1, map: its own result on the test part."""

    run: str
    weight: float | None = None
    top1: float | None = None
    map: float | None = None

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> MemberMetrics:
        """Raises KeyError or TypeError for a damaged document."""
        numbers = {name: _number(document.get(name)) for name in ("weight", "top1", "map")}
        return cls(str(document["run"]), **numbers)

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class RunMetrics:
    """The results of a run. Values that a run does not record are None or empty. If a run is not
    finished, all of them are.

    parts: the results on "train", "validation" and "test", None for a part without videos. A fused
    run or an SVM has only the parts that were scored. best_epoch, epochs, training_seconds,
    seconds, notes: about the training. leaks: lines of text about test and
    validation videos that are copies of training videos. sequences: number of sequences in each part. c, cross_validation:
    for an SVM, the value of C, and the accuracy for each value of C. members: the runs that were
    combined by a fusion or an SVM.
    """

    parts: Mapping[str, PartMetrics | None] = field(default_factory=dict)
    best_epoch: int | None = None
    epochs: int | None = None
    training_seconds: float | None = None
    notes: tuple[str, ...] | None = None
    leaks: tuple[str, ...] | None = None
    sequences: Mapping[str, int] | None = None
    seconds: float | None = None
    c: float | None = None
    cross_validation: Mapping[str, float] | None = None
    members: tuple[MemberMetrics, ...] | None = None

    @property
    def train(self) -> PartMetrics | None:
        return self.parts.get("train")

    @property
    def validation(self) -> PartMetrics | None:
        return self.parts.get("validation")

    @property
    def test(self) -> PartMetrics | None:
        return self.parts.get("test")

    @property
    def measure(self) -> str:
        """The name of the main result: "top-1", "mAP", or "-" if the run is not finished."""
        measured = [part for part in self.parts.values() if part]
        if not measured:
            return "-"
        return "mAP" if measured[0].is_multilabel else "top-1"

    def figure(self, part: str) -> float | None:
        """The main result on a part, None if there is none."""
        metrics = self.parts.get(part)
        return metrics.figure if metrics else None

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> RunMetrics:
        """Raises KeyError, TypeError or ValueError for a damaged document."""
        parts = {
            name: PartMetrics.from_json(document[name]) if document[name] else None
            for name in PARTS
            if name in document
        }
        numbers = ("best_epoch", "epochs", "training_seconds", "seconds", "c")
        values: dict[str, Any] = {name: _number(document.get(name)) for name in numbers}
        for name in ("sequences", "cross_validation"):
            if name in document:
                values[name] = {key: _number(value) for key, value in document[name].items()}
        for name in ("notes", "leaks"):
            if name in document:
                values[name] = tuple(map(str, document[name]))
        if "members" in document:
            values["members"] = tuple(map(MemberMetrics.from_json, document["members"]))
        return cls(parts, **values)

    def to_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            name: part.to_json() if part else None for name, part in self.parts.items()
        }
        for name in (*_FACTS, *_FACTS_OF_JOINED):
            if (value := getattr(self, name)) is not None:
                document[name] = _plain(value)
        return document


def _number(value: Any) -> Any:
    """A number or None. Raises TypeError for anything else."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise TypeError(f"{value!r} is not a number")
    return value


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [item.to_json() if isinstance(item, MemberMetrics) else item for item in value]
    return value
