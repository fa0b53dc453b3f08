"""Rows of a CSV file from columns of numpy, for files of millions of rows. This takes half of
the time of formatting each row."""

import string
from collections.abc import Sequence

import numpy as np

from reelbank.data.text_files import csv_field

_LONGEST = 256  # characters; all texts of a column take the bytes of the longest one
_PLAIN = f"{string.ascii_letters}{string.digits}_/. -".encode()  # what is written as it is


def fits_column(texts: Sequence[str]) -> bool:
    """Whether `text_column` can hold the texts: they are short, and contain no NUL, with which numpy
    fills up bytes."""
    return max(map(len, texts), default=0) <= _LONGEST and "\0" not in "".join(texts)


def text_column(texts: Sequence[str]) -> np.ndarray:
    """`csv_field` of each of n texts that `fits_column` allows, (n,) UTF-8 bytes. What cannot be
    encoded becomes a question mark."""
    lines = "\n".join(texts).encode("utf-8", "replace")
    # Most files contain only texts that are written as they are. All are examined at once.
    framed = b"\n%b\n" % lines
    has_plain_starts = not any(start in framed for start in (b"\n\n", b"\n ", b"\n-"))
    if has_plain_starts and lines.translate(None, _PLAIN) == b"\n" * (len(texts) - 1):
        return np.array(lines.split(b"\n"), np.bytes_)
    return np.array([csv_field(text).encode("utf-8", "replace") for text in texts], np.bytes_)


def probability_column(values: np.ndarray) -> np.ndarray:
    """Finite numbers from 0 to 1, (n,), as bytes with six decimals, (n,). A number that is half-way
    between two of these may be rounded up or down."""
    left = np.rint(values * 10**6).astype(np.int32)
    texts = np.empty((len(values), 8), np.uint8)
    texts[:, 1] = ord(".")
    for place in (7, 6, 5, 4, 3, 2, 0):
        rest = left // 10
        texts[:, place] = ord("0") + left - 10 * rest
        left = rest
    return texts.view("S8")[:, 0]


def rows_text(columns: Sequence[np.ndarray]) -> str:
    """The text of n rows with at least two columns, each (n,) bytes."""
    row_bytes = sum(column.itemsize + 1 for column in columns) + 1
    rows = np.empty((len(columns[0]), row_bytes), np.uint8)
    begin = 0
    for column in columns:
        end = begin + column.itemsize
        rows[:, begin:end] = column[:, None].view(np.uint8)
        rows[:, end] = ord(",")
        begin = end + 1
    rows[:, -2:] = tuple(b"\r\n")
    return rows.tobytes().translate(None, b"\0").decode()
