"""Learning curves: charts of the values of each epoch in a run's history.csv."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reelbank.data.errors import InputError
from reelbank.fusion.evaluation.contests import Contest
from reelbank.fusion.evaluation.experiments import Entry, Group
from reelbank.fusion.report.drawings import line_charts
from reelbank.fusion.report.view import (
    Block,
    Chart,
    Charts,
    Drawing,
    Heading,
    Key,
    Legend,
    Section,
    note,
)

History = list[dict[str, float]]  # for each epoch, the columns that have a value


@dataclass(frozen=True)
class Curves:
    """One measure over the epochs for all runs of a model. measure: "loss" or "accuracy"; caption:
    the label of the axis; rows: the numbers, with headings in the first row."""

    measure: str
    caption: str
    drawing: Drawing
    rows: Sequence[Sequence[object]]


def curves_section(contest: Contest, letters: Sequence[str]) -> Section | None:
    """The section, or None if no run has a history. Raises InputError when a history is damaged."""
    blocks: list[Block] = []
    for letter, group in zip(letters, contest.groups, strict=True):
        if curves := learning_curves(group):
            blocks.append(Heading(f"{letter}\N{EN SPACE}{group.label}", group.detail))
            blocks.append(Charts([Chart(each.caption, each.drawing) for each in curves]))
    if not blocks:
        return None
    about = note("Each line is one run. A ring marks the epoch whose weights were kept.")
    keys = [Key("var(--second)", "training"), Key("var(--accent)", "validation")]
    return Section("Learning curves", [about, Legend(keys), *blocks])


def learning_curves(group: Group) -> list[Curves]:
    """The loss and the accuracy of all runs of a group over the epochs, if the histories contain
    them. Raises InputError when a history is damaged."""
    axes = {"loss": "cross-entropy loss", "accuracy": "accuracy, %"}
    captions = {"loss": "Cross-entropy loss", "accuracy": "Accuracy, %"}
    if group.multilabel:
        axes["loss"], captions["loss"] = "binary cross-entropy loss", "Binary cross-entropy loss"
        # the mAP of the training part is not computed during training
        axes["accuracy"] = (
            "mAP (validation) and share of videos whose top class is correct (training), %"
        )
        captions["accuracy"] = axes["accuracy"]
    histories = [(entry, read_history(entry.path)) for entry in group.entries]
    drawn = []
    for measure, axis in axes.items():
        lines = _lines(histories, measure)
        rows: list[Sequence[object]] = [("run", "part", "epoch", measure)]
        for line in lines:
            rows += [(line.run, line.part, *point) for point in line.points]
        if len(rows) > 1:
            kept = _kept(histories, f"validation_{measure}")
            drawing = line_charts.curves(lines, kept, axis=axis, as_percent=measure == "accuracy")
            drawn.append(Curves(measure, captions[measure], drawing, rows))
    return drawn


def _points(history: History, column: str) -> list[line_charts.Point]:
    return [(epoch["epoch"], epoch[column]) for epoch in history if column in epoch]


def _lines(histories: Sequence[tuple[Entry, History]], measure: str) -> list[line_charts.Line]:
    lines = []
    for entry, history in histories:
        for part in ("train", "validation"):
            lines.append(line_charts.Line(entry.name, part, _points(history, f"{part}_{measure}")))
    return lines


def _kept(histories: Sequence[tuple[Entry, History]], column: str) -> list[line_charts.Point]:
    """The points of the epochs whose weights were kept."""
    kept = []
    for entry, history in histories:
        best = entry.metrics.best_epoch
        kept += [point for point in _points(history, column) if point[0] == best]
    return kept


def read_history(folder: Path) -> History:
    """The epochs of a run from history.csv, without empty cells, or [] if the folder does not
    contain this file. Raises InputError when it is damaged."""
    path = folder / "history.csv"
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [
                {key: float(value) for key, value in row.items() if value}
                for row in csv.DictReader(file)
            ]
    except (TypeError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}; train the run again") from None
    if any("epoch" not in row or not all(map(math.isfinite, row.values())) for row in rows):
        raise InputError(
            f"{path} cannot be read: a row has no epoch, or a value that is not a finite number; "
            "train the run again"
        )
    return rows
