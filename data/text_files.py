"""Reads text files of users, and reads and writes CSV files.

Some editors and spreadsheets write a byte order mark before UTF-8, and some write UTF-16. A
spreadsheet executes a cell that begins with =, +, - or @ as a formula, so such a text is written
with a leading apostrophe, which is removed when the file is read.
"""

import codecs
import contextlib
import csv
import functools
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelbank.data.errors import InputError
from reelbank.data.files import replacing

MOST_BYTES = 1 << 30  # a list of millions of videos is smaller; larger files would fill the memory
_OTHER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",  # before UTF-16, whose marks begin like these
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_FORMULA_STARTS = frozenset("'=+-@\t\r\n")
_PLAIN = re.compile(r"[\w/.][\w/. -]*+")  # a text that is written as it is
_FORMULA = re.compile(r"'*[=+\-@\t\r\n].", re.DOTALL)  # a single character is not a formula


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file, without its byte order mark. Raises OSError if it cannot be read,
    InputError for another encoding and for more than MOST_BYTES."""
    with Path(path).open("rb") as file:
        return decoded(file.read(MOST_BYTES + 1), path)


def decoded(data: bytes, path: str | Path) -> str:
    """The text of a UTF-8 file from its bytes. Raises InputError as `read_text` does; `path` is for
    the message."""
    if len(data) > MOST_BYTES:
        raise InputError(
            f"{path}: must be at most {MOST_BYTES >> 30} GiB, the limit for lists and tables "
            "of videos"
        )
    for mark, encoding in _OTHER_MARKS.items():
        if data.startswith(mark):
            raise InputError(f"{path}: must be UTF-8 text (got {encoding}); save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        place = f"byte 0x{data[error.start]:02x} in line {line}"
        raise InputError(f"{path}: must be UTF-8 text (got {place}); save it as UTF-8") from None


def csv_cell(value: Any) -> Any:
    """A cell that a spreadsheet does not execute: a text that begins like a formula gets a leading
    apostrophe. Numbers are unchanged."""
    if not isinstance(value, str) or value[:1] not in _FORMULA_STARTS:
        return value
    return f"'{value}" if _FORMULA.match(value) and not _is_number(value) else value


def csv_field(text: str) -> str:
    """A text as SafeWriter writes it in a row of several cells."""
    if _PLAIN.fullmatch(text):
        return text
    return _row_text([text]).removesuffix(",")


def csv_text(cell: str) -> str:
    """The text of a cell that `csv_cell` made."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def readings(cell: str) -> tuple[str, ...]:
    """The names that a cell of a user's CSV may mean, the most likely one first: without and with
    the apostrophe of `csv_cell`, and with and without surrounding spaces, which may belong to the
    name."""
    return tuple(dict.fromkeys((csv_text(cell), cell, csv_text(cell.strip()), cell.strip())))


class SafeWriter:
    """Writes rows of a CSV; every cell passes through `csv_cell`."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._writer = csv.writer(file)

    def writerow(self, row: Iterable[Any]) -> None:
        """Write one row."""
        self._writer.writerow(map(csv_cell, row))

    def writerows(self, rows: Iterable[Iterable[Any]]) -> None:
        """Write several rows."""
        self._writer.writerows(map(csv_cell, row) for row in rows)

    def write_numbers(self, rows: Iterable[tuple[tuple[str, ...], Sequence[float | int]]]) -> None:
        """Write rows of some texts and then numbers; a number that is nan is an empty cell. Numbers
        need no quotes."""
        for texts, numbers in rows:
            self._file.write(_fields_text(texts) + _numbers_text(*numbers))

    def write_rows(self, text: str) -> None:
        """Write rows that `csv_columns.rows_text` has made."""
        self._file.write(text)

    def after(self, cells: Iterable[Any]) -> "SafeWriter":
        """A writer of rows that all begin with these cells, which are formatted only once."""
        return SafeWriter(_Prefixed(self._file, _row_text(cells)))

    def write_records(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Write the keys of the first record as header, and a row for each record; missing values
        are empty."""
        if not records:
            return
        self.writerow(records[0])
        self.writerows([record.get(key, "") for key in records[0]] for record in records)


@functools.lru_cache(maxsize=1 << 12)  # the classes of one run are those of the next
def _fields_text(texts: tuple[str, ...]) -> str:
    """The beginning of a row: texts, up to the comma before the next cell."""
    return "".join(f"{csv_field(each)}," for each in texts)


# Figures of classes are shares of few videos, so the same numbers recur in many rows. typed: 1 and
# 1.0 are equal, but written differently.
@functools.lru_cache(maxsize=1 << 14, typed=True)
def _numbers_text(*numbers: float | int) -> str:
    """The end of a row: numbers, with an empty cell for nan, the only number that differs from
    itself. -0.0 is written as 0.0, because they are equal, so one text is kept for both."""
    cells = ["" if number != number else str(number + 0) for number in numbers]
    return f"{','.join(cells)}\r\n"


def _row_text(cells: Iterable[Any]) -> str:
    """The beginning of a row, up to the comma before the next cell."""
    text = io.StringIO()
    SafeWriter(text).writerow((*cells, ""))
    return text.getvalue().removesuffix("\r\n")


@dataclass(frozen=True)
class _Prefixed:
    """A file in which every row, which csv.writer writes at once, gets a prefix."""

    file: Any
    prefix: str

    def write(self, text: str) -> int:
        return int(self.file.write(self.prefix + text))


@contextlib.contextmanager
def csv_file(path: Path, errors: str = "replace") -> Iterator[SafeWriter]:
    """Opens a CSV file in UTF-8 for writing. It replaces `path` when the block ends without an
    error. errors: as for `open` ("replace": text that cannot be encoded becomes a question
    mark)."""
    with (
        replacing(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors=errors) as file,
    ):
        yield SafeWriter(file)


def write_exact_csv(path: Path, rows: Iterable[Iterable[str | float]]) -> None:
    """Write a new CSV file in UTF-8 for programs that join it with files by name. Its cells do not
    get the apostrophes of `csv_file`, which protect people who open a file in a spreadsheet."""
    with path.open("w", newline="", encoding="utf-8", errors="replace") as file:
        csv.writer(file).writerows(rows)


def csv_rows(text: str, *, strict: bool = False) -> Iterator[list[str]]:
    """The rows of a CSV's text; every cell passes through `csv_text`. Raises csv.Error."""
    for row in csv.reader(io.StringIO(text, newline=""), strict=strict):
        yield [csv_text(cell) for cell in row]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text == text.strip()
