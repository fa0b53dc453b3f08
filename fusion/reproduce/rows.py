"""The rows of a reproduction's tables. Each row contains a published number, our number, and how
ours was made."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reelbank.data.errors import InputError
from reelbank.fusion.evaluation.experiments import Group
from reelbank.fusion.reproduce.comparable import (
    data_description,
    is_comparable,
    is_papers_data,
    is_setting,
    members_of_cell,
    not_as_published,
    weights_description,
    whole_data_needed,
)
from reelbank.fusion.reproduce.measure import (
    Ours,
    experiments_of_cell,
    measured,
)
from reelbank.fusion.reproduce.plan import METRICS, Cell, against, cells, is_detection
from reelbank.fusion.reproduce.work import Work

# The columns of printed tables. The columns of the CSV are the keys of TableRow.record().
COLUMNS = (
    "row",
    "column",
    "paper's data",
    "published",
    "ours",
    "95 %",
    "difference",
    "our data",
    "weights",
)
SHARES = ("accuracy_percent", "map_percent", "error_rate")  # a figure may show them as curves
PRINTED = COLUMNS[:7]  # on a terminal


@dataclass(frozen=True)
class TableRow:
    """One published number and our number as text. ours: "not run" and the reason if there is no
    number; not_as_published: how our options differ from those of the recipe."""

    source: str
    title: str
    row: str
    column: str
    papers_data: str
    published: str
    unit: str
    ours: str = ""
    interval: str = ""
    difference: str = ""
    our_data: str = ""
    weights: str = ""
    not_as_published: str = ""
    runs: str = ""

    @property
    def table(self) -> str:
        """The title of its table."""
        return f"{self.source}: {self.title}"

    def record(self) -> dict[str, str]:
        """The row of tables.csv."""
        return {
            "source": self.source,
            "title": self.title,
            "row": self.row,
            "column": self.column,
            "paper's data": self.papers_data,
            "published": self.published,
            "unit": self.unit,
            "ours": self.ours,
            "95 %": self.interval,
            "difference": self.difference,
            "our data": self.our_data,
            "weights": self.weights,
            "not as published": self.not_as_published,
            "runs": self.runs,
        }

    def cells(self, columns: Sequence[str] = COLUMNS) -> list[str]:
        """The texts of these columns."""
        record = self.record()
        return [record[column] for column in columns]


def by_table(rows: Sequence[TableRow]) -> dict[str, list[TableRow]]:
    """The rows by the title of their table."""
    tables: dict[str, list[TableRow]] = {}
    for row in rows:
        tables.setdefault(row.table, []).append(row)
    return tables


def table_rows(work: Work, experiments: Mapping[str, Group]) -> list[TableRow]:
    """One row for each published number, also for those that are not run."""
    return [_row(work, cell, experiments) for cell in cells(work.recipe, work.options.only)]


def _row(work: Work, cell: Cell, experiments: Mapping[str, Group]) -> TableRow:
    facts: dict[str, Any] = {
        "source": cell.source,
        "title": str(work.recipe["tables"][cell.table].get("title", cell.table)),
        "row": cell.row,
        "column": cell.column,
        "papers_data": " ".join(filter(None, (cell.dataset, _split_text(cell.split)))),
        "published": cell.published or _without_number(cell),
        "unit": METRICS[cell.metric].unit,
    }
    if not cell.ours:
        return TableRow(**facts, ours="not run")
    if cell not in work.cells:
        return TableRow(**facts, ours=f"not run: {_why_left_out(work, cell)}")
    try:
        ours = measured(work, cell, experiments)
    except InputError as error:
        return TableRow(**facts, ours=f"not run: {error}")
    runs: list[str] = []
    if is_detection(cell.ours):
        runs = [path.name for path in work.runs_of(members_of_cell(work, cell))]
    else:
        for experiment in experiments_of_cell(work, cell, experiments).values():
            runs += [entry.name for entry in experiment.entries]
    return TableRow(
        **facts,
        ours=_number(ours.value, cell),
        interval=_interval(ours, cell),
        difference=_difference(work, cell, ours, experiments),
        our_data="; ".join(data_description(work, cell, experiments)),
        weights="; ".join(weights_description(work, cell)),
        not_as_published="; ".join(not_as_published(work, cell)),
        runs=" ".join(runs),
    )


def _without_number(cell: Cell) -> str:
    is_curve = cell.source.startswith("Fig.") and cell.metric in SHARES
    return "a curve" if is_curve else "not stated"


def _why_left_out(work: Work, cell: Cell) -> str:
    is_map = cell.metric == "map_percent"
    if is_map != work.dataset.multilabel and cell.metric in ("map_percent", "accuracy_percent"):
        kind = "single-label data" if work.dataset.multilabel else "multi-label data"
        return f"the published number is for {kind}"
    if number := against(cell.ours):
        return whole_data_needed(number)
    return "the published number is for another data set"


def _split_text(split: str) -> str:
    return f"split {split}" if split.isdecimal() else f"({split})"


_PLACES = {"error_rate": 3, "auc": 3, "count": 0}


def _places(cell: Cell) -> int:
    return _PLACES.get(cell.metric, 2)


def _number(value: float, cell: Cell) -> str:
    return f"{value:g}" if cell.metric == "fusion_weight" else f"{value:,.{_places(cell)}f}"


def _interval(ours: Ours, cell: Cell) -> str:
    if not math.isfinite(ours.low):
        return ""
    return f"{_number(ours.low, cell)} to {_number(ours.high, cell)}"


def _difference(work: Work, cell: Cell, ours: Ours, experiments: Mapping[str, Group]) -> str:
    """Our number minus the published number if both are of the same data."""
    if not cell.published:
        return ""
    if is_papers_data(work) and is_comparable(work, cell, experiments):
        return f"{ours.value - float(cell.published.replace(',', '')):+.{_places(cell)}f}"
    return "" if is_setting(cell) else "not comparable"
