"""Reading of the official lists of data sets: CSV files with a header, and JSON files."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from reelbank.data.console import some
from reelbank.data.errors import InputError
from reelbank.data.text_files import read_text


class ListRow(NamedTuple):
    """A row of a CSV list. line: where it ends; where: file and line, for messages; cells: by the
    name of the column, without space around them."""

    line: int
    where: str
    cells: dict[str, str]


def csv_list(path: Path, text: str, columns: Sequence[str]) -> Iterator[ListRow]:
    """The rows of the CSV file `path`, whose content is `text`. columns: those that must exist once.
    Raises InputError with the line."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        absent = [name for name in columns if names.count(name) != 1]
        if absent:
            raise InputError(
                f"{path}, line 1: the header must contain the column '{absent[0]}' exactly once (got "
                f"the columns {some(names, 12) or '(none)'})"
            )
        for cells in reader:
            where = f"{path}, line {reader.line_num}"
            if not cells:
                continue
            if len(cells) != len(names):
                raise InputError(
                    f"{where}: expected {len(names)} cells, one per column (got {len(cells)})"
                )
            row = dict(zip(names, (cell.strip() for cell in cells), strict=True))
            yield ListRow(reader.line_num, where, row)
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}") from None


def list_text(path: Path, expected: str = "") -> str:
    """The text of a list. expected: the files that the folder must contain, for messages. Raises
    InputError."""
    try:
        return read_text(path)
    except FileNotFoundError:
        contents = f"; the folder must contain {expected}" if expected else ""
        raise InputError(f"LISTS: {path} is missing{contents}") from None
    except OSError as error:
        raise InputError(f"LISTS: {path} cannot be read: {error}") from None


def json_list(path: Path, expected: str = "") -> Any:
    """The content of a JSON file; expected: as of `list_text`. Raises InputError."""
    text = list_text(path, expected)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not valid JSON ({error})") from None
