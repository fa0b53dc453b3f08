"""A CSV file that lists videos: their paths, labels, groups and parts of the split."""

import csv
import io
import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from reelbank.data.console import some
from reelbank.data.datasets.types import PARTS
from reelbank.data.errors import InputError
from reelbank.data.text_files import csv_text, read_text, readings

# The names of the parts, in lower case.
PART_OF_NAME = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
_SEPARATORS = (",", ";", "\t")
_LONGEST_HEADER = 1 << 16  # letters; csv refuses a cell of more than 131,072


class Listing(NamedTuple):
    """A CSV of videos. rows: (number of the line, column -> cell). columns: their names."""

    rows: list[tuple[int, dict[str, str]]]
    columns: list[str]


def read_video_table(table: Path) -> Listing:
    """Read a CSV of videos, whose cells are separated by commas, semicolons or tabs. Names of columns
    are in lower case; cells of `split` are "train", "validation", "test" or "". Spaces around cells
    are removed, except in `path`, for `readings`. Raises InputError with line and column."""
    try:
        text = read_text(table)
    except OSError as error:
        raise InputError(f"CSV={table} cannot be read: {error}") from None
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text), strict=True)
    try:
        columns = _columns(next(reader, []))
        if "path" not in columns:
            raise InputError(
                f"{table}, line 1: the column 'path' is missing; expected path,label,split (got "
                f"{some(columns, 6) or 'none'})"
            )
        twice = [name for name, times in Counter(columns).items() if times > 1]
        if twice:
            raise InputError(
                f"{table}, line 1: the column '{twice[0]}' occurs twice; remove one of them"
            )
        rows = []
        for cells in reader:
            if any(cell.strip() for cell in cells):
                line = reader.line_num
                rows.append((line, _row(cells, columns, f"{table}, line {line}")))
    except csv.Error as error:
        raise InputError(f"{table}, line {reader.line_num}: {error}") from None
    if not rows:
        raise InputError(f"{table}: contains no rows below the header; expected one row per video")
    return Listing(rows, columns)


def _separator(text: str) -> str:
    """The character between cells: the first with which the header has a column `path`."""
    header = text[:_LONGEST_HEADER].partition("\n")[0].rstrip("\r")
    for separator in _SEPARATORS:
        if "path" in _columns(next(csv.reader([header], delimiter=separator), [])):
            return separator
    return _SEPARATORS[0]


def _columns(cells: list[str]) -> list[str]:
    return [name.strip().lower() for name in cells]


def _row(cells: list[str], columns: list[str], where: str) -> dict[str, str]:
    """The cells by column. Raises InputError; `where` is the file and line for its message."""
    if len(cells) != len(columns):
        column = f"number {len(columns) + 1}"
        if len(cells) < len(columns):
            column = columns[len(cells)]
        raise InputError(
            f"{where}, column {column}: expected {len(columns)} cells, one per column (got "
            f"{len(cells)})"
        )
    row = {name: csv_text(cell.strip()) for name, cell in zip(columns, cells, strict=True)}
    # Unchanged: a name may begin or end with spaces, see `readings`.
    row["path"] = cells[columns.index("path")]
    if not row["path"].strip():
        raise InputError(f"{where}, column path: must not be empty")
    if part := row.get("split", ""):
        if part.lower() not in PART_OF_NAME:
            raise InputError(
                f"{where}, column split: must be {', '.join(PARTS)} or empty (got '{part}')"
            )
        row["split"] = PART_OF_NAME[part.lower()]
    return row


class Places(NamedTuple):
    """Where the videos of a table may be. root: the folder of the videos; table_folder: the folder of
    the table; paths: id -> path, by_path: path -> id of the videos that were found."""

    root: Path
    table_folder: Path
    paths: dict[str, Path]
    by_path: dict[Path, str]


def find_listed(cell: str, places: Places) -> str | None:
    """The id that a cell of the column `path` names: as a path relative to ROOT or to the folder of
    the CSV, or as an id. A file without a video's ending is accepted if the cell contains its full
    name; it is added to `places` under that name."""
    for text in readings(cell):
        video_id = _named(text, places)
        if video_id is not None:
            return video_id
    return None


def _named(text: str, places: Places) -> str | None:
    for base in (places.root, places.table_folder):
        path = Path(os.path.normpath(base / text))
        if path in places.by_path:
            return places.by_path[path]
        if path.is_file() and places.root in path.parents:
            video_id = places.by_path[path] = path.relative_to(places.root).as_posix()
            places.paths[video_id] = path
            return video_id
    text = text.removeprefix("./")
    return text if text in places.paths else None
