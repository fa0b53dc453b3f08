"""The tables of `sweep` in the report."""

import csv
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from reelbank.fusion.tables import table, td, th

_FIGURES = ("runs", "validation", "test", "seconds")


def read_sweeps(bank: str | Path, datasets: Sequence[str]) -> dict[str, list[dict[str, str]]]:
    """The tables of the bank's sweeps on these data sets, by file name, the newest first. A file that is no such table is left
    out."""
    found = {}
    for path in sorted(Path(bank, "sweeps").glob("*.csv"), key=lambda path: -path.stat().st_mtime):
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            rows = list(csv.DictReader(file))
        if rows and {"chosen", "dataset", "validation", "test", "names"} <= rows[0].keys() and rows[0]["dataset"] in datasets:
            found[path.name] = rows
    return found


def sweep_section(sweeps: Mapping[str, Sequence[Mapping[str, str]]]) -> list[str]:
    """A table of each sweep: a row for each combination of options, the one chosen on validation marked."""
    made = []
    for name, rows in sweeps.items():
        keys = [key for key in rows[0] if key not in ("chosen", "dataset", "names") and not key.endswith("_deviation")]
        heads = "".join(th(f"{key.capitalize()} %" if key in ("validation", "test") else key, key in _FIGURES) for key in keys)
        lines = []
        for row in rows:
            cells = []
            for key in keys:
                text, spread = row.get(key) or "–", row.get(f"{key}_deviation") or ""
                shown = f"{text} ± {spread}" if spread else text
                best = "best" if row["chosen"] and key == "validation" else ""
                cells.append(td(_number(text), shown, best) if key in _FIGURES else f"<td>{escape(shown)}</td>")
            lines.append(f"<tr>{''.join(cells)}</tr>")
        chosen = (
            "The marked row was chosen, on validation alone" if rows[0]["chosen"] else "Nothing was chosen: no validation part"
        )
        made.append(table(heads, lines, f"{escape(name)}. {chosen}; mean ± deviation over splits and seeds."))
    return ["<section><h2>Sweeps</h2>", *made, "</section>"] if made else []


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
