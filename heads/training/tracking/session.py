"""Sends the figures of one run to a tracker. If the tracker fails, the run is trained without it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from reelbank.data.console import printable, shortened
from reelbank.heads.recipe import RunRecipe
from reelbank.heads.runs.metrics import RunMetrics
from reelbank.heads.training.fit import EpochRecord
from reelbank.heads.training.options import TrainOptions
from reelbank.heads.training.tracking.registry import tracker_type
from reelbank.heads.training.tracking.types import Option, TrackedRun, Tracker

_LONGEST_OPTION = 200  # characters; the classes of a large data set are longer


def check_tracker(options: TrainOptions) -> None:
    """Raises InputError if the package of the tracker is not installed. With CLUSTER, each worker
    checks it."""
    if options.track and not options.cluster:
        tracker_type(options.track)


class Tracking:
    """A run in a tracker, or in none.

    notes: why the tracker failed, if it did. A tracker may write to a server or a full disk, and a
    run takes hours: so a failure of any kind ends the tracking, and never the training.
    """

    def __init__(self, tracker: str, folder: Path, recipe: RunRecipe) -> None:
        """tracker: a key of TRACKERS, or "" for none. Raises InputError if its package is not
        installed."""
        self.notes: list[str] = []
        self._name = tracker
        self._tracker: Tracker | None = None
        if tracker:
            kind, run = tracker_type(tracker), TrackedRun(folder.name, folder, run_options(recipe))
            self._try(lambda: self._begin(kind, run))

    def _begin(self, kind: type[Tracker], run: TrackedRun) -> None:
        self._tracker = kind(run)

    def epoch(self, past: EpochRecord, prefix: str = "") -> None:
        """Log an epoch. prefix: of the names of its figures."""
        figures = {
            "loss/training": past.train_loss,
            "loss/validation": past.validation_loss,
            "accuracy/training": past.train_accuracy,
            "accuracy/validation": past.validation_accuracy,
            "learning_rate": past.lr,
        }
        known = {f"{prefix}{name}": value for name, value in figures.items() if value is not None}
        self._call(lambda tracker: tracker.log(past.epoch, known))

    def finish(self, metrics: RunMetrics) -> None:
        """Log the final figures, and end the run in the tracker."""
        self._call(lambda tracker: tracker.finish(final_figures(metrics)))
        self._tracker = None

    def stop(self) -> None:
        """End the run in the tracker if it was not finished."""
        self._call(lambda tracker: tracker.stop())
        self._tracker = None

    def _call(self, work: Callable[[Tracker], None]) -> None:
        tracker = self._tracker
        if tracker:
            self._try(lambda: work(tracker))

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - a tracker raises anything, and must not end the run
            self._tracker = None
            reason = shortened(" ".join(f"{type(error).__name__}: {error}".split()), 300)
            self.notes.append(
                f"TRACK={self._name} failed, so not all figures of this run were sent ({reason})"
            )
            tqdm.write(printable(f"note: {self.notes[-1]}; training continues"))


def final_figures(metrics: RunMetrics) -> dict[str, float]:
    """The results of a run on its parts, such as "test/top1": in [0, 1]."""
    figures: dict[str, float] = {}
    for part, of_part in metrics.parts.items():
        for name in ("top1", "top5", "map"):
            value = getattr(of_part, name, None)
            if value is not None:
                figures[f"{part}/{name}"] = value
    if metrics.best_epoch is not None:
        figures["best_epoch"] = metrics.best_epoch
    return figures


def run_options(recipe: RunRecipe) -> dict[str, Option]:
    """The recipe of a run as one level, such as "training.lr". Lists become text."""
    return dict(_flattened(recipe.to_json(), ""))


def _flattened(document: Mapping[str, Any], prefix: str) -> list[tuple[str, Option]]:
    options: list[tuple[str, Option]] = []
    for name, value in document.items():
        if isinstance(value, Mapping):
            options += _flattened(value, f"{prefix}{name}.")
        elif isinstance(value, bool | int | float | str):
            options.append((f"{prefix}{name}", value))
        elif value is not None:
            options.append((f"{prefix}{name}", _as_text(value)))
    return options


def _as_text(items: Sequence[Any]) -> str:
    """The items, separated by spaces, up to a length."""
    text = " ".join(map(str, items))
    return text if len(text) <= _LONGEST_OPTION else f"{text[:_LONGEST_OPTION]}..."
