"""Learning curves: what history.csv of a run's folder says, epoch by epoch, and its charts."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from reelbank.data.errors import InputError
from reelbank.fusion import figures
from reelbank.fusion.entries import Group


class Chart(NamedTuple):
    """One measure over epochs: "loss" or "accuracy", what the axis is, the drawing, and its numbers, headings first."""

    measure: str
    caption: str
    svg: str
    rows: list[Sequence[object]]


def learning_charts(group: Group) -> list[Chart]:
    """Loss and accuracy of all of a group's runs over epochs; [] where none has a history. Raises InputError when one is
    damaged."""
    histories = [(entry, history) for entry in group.entries if (history := read_history(entry.path))]
    units = {"loss": "cross-entropy loss", "accuracy": "accuracy, %"}
    if group.multilabel:  # of the training part there is no mAP while a head trains
        units = {"loss": "binary cross-entropy loss", "accuracy": "mAP (validation), first class right (training), %"}
    charts = []
    for measure, unit in units.items() if histories else ():
        lines, kept = [], []
        rows: list[Sequence[object]] = [("run", "part", "epoch", measure)]
        for entry, history in histories:
            for side in ("train", "validation"):
                points = [(past["epoch"], past[f"{side}_{measure}"]) for past in history if f"{side}_{measure}" in past]
                lines.append((side, f"{entry.name}, {side}", points))
                rows += [(entry.name, side, *point) for point in points]
                if side == "validation":
                    kept += [point for point in points if point[0] == entry.metrics.get("best_epoch")]
        caption = unit if unit.startswith("mAP") else unit.capitalize()
        if len(rows) == 1:
            continue
        charts.append(Chart(measure, caption, figures.curves(lines, kept, unit, measure == "accuracy"), rows))
    return charts


def read_history(folder: Path) -> list[dict[str, float]]:
    """A run's epochs from history.csv, empty cells left out; [] for what has no history. Raises InputError when damaged."""
    path = folder / "history.csv"
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
    except (TypeError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    if any("epoch" not in row or not all(map(math.isfinite, row.values())) for row in rows):
        raise InputError(f"{path} cannot be read: a row without its epoch, or with a value that is no number")
    return rows
