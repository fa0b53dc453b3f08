"""The tables of `sweep` in the report."""

import csv
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reelbank.data.console import print_lines
from reelbank.data.files import UnreadableFile, open_regular
from reelbank.data.text_files import csv_rows
from reelbank.fusion.report.view import Block, Cell, Column, Number, Section, Table, Text

_FIGURES = ("runs", "validation", "test", "seconds")
_SHARES = ("validation", "test")
_NOT_SHOWN = ("chosen", "dataset", "names")
_REQUIRED = {"chosen", "dataset", "validation", "test", "names"}


@dataclass(frozen=True)
class Sweep:
    """The table of one sweep, with the file's name and the file's rows by column."""

    name: str
    rows: Sequence[Mapping[str, str]]


def read_sweeps(bank: str | Path, datasets: Sequence[str]) -> list[Sweep]:
    """The tables of the bank's sweeps on these data sets, the newest first. Other CSV files are
    left out. A note on stderr names each file that cannot be read."""
    sweeps = []
    for path in sorted(Path(bank, "sweeps").glob("*.csv"), key=lambda path: -path.lstat().st_mtime):
        try:
            with open_regular(path) as file:
                rows = _records(file.read().decode("utf-8", "replace"))
        except (UnreadableFile, FileNotFoundError, csv.Error) as error:
            print_lines(f"note: {path.name} is left out of the report: {error}", file=sys.stderr)
            continue
        if rows and rows[0].keys() >= _REQUIRED and rows[0]["dataset"] in datasets:
            sweeps.append(Sweep(path.name, rows))
    return sweeps


def _records(text: str) -> list[dict[str, str]]:
    headings, *rows = [*csv_rows(text)] or [[]]
    empty = dict.fromkeys(headings, "")
    return [empty | dict(zip(headings, row, strict=False)) for row in rows if row]


def sweep_section(sweeps: Sequence[Sweep]) -> Section | None:
    """A table for each sweep, with a row for each combination of options. The combination that was
    chosen by its validation figure is marked."""
    blocks: list[Block] = [_table(sweep) for sweep in sweeps]
    return Section("Sweeps", blocks) if blocks else None


def _table(sweep: Sweep) -> Table:
    keys = [
        key for key in sweep.rows[0] if key not in _NOT_SHOWN and not key.endswith("_deviation")
    ]
    columns = [
        Column(f"{key.capitalize()} %" if key in _SHARES else key, number=key in _FIGURES)
        for key in keys
    ]
    rows = [[_cell(row, key) for key in keys] for row in sweep.rows]
    choice = (
        "The marked row was chosen on validation data only"
        if sweep.rows[0]["chosen"]
        else "No row was chosen because not every run has a validation part"
    )
    return Table(
        columns, rows, f"{sweep.name}. {choice}; mean ± standard deviation over splits and seeds."
    )


def _cell(row: Mapping[str, str], key: str) -> Cell:
    text, deviation = row.get(key) or "–", row.get(f"{key}_deviation")
    if deviation:
        text = f"{row[key]} ± {deviation}"
    if key not in _FIGURES:
        return Text(text)
    best = bool(row["chosen"]) and key == "validation"
    return Number(_number(row.get(key) or ""), text, best=best)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
