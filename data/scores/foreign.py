"""The scores that a file of another tool holds, and conversions of the values that it may hold."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from reelbank.data.scores.safe_pickle import Refused

_UNEQUAL_ROWS = "its videos do not all have the same number of scores"
_NOT_WHOLE_NUMBERS = "its labels are not whole numbers"


@dataclass(frozen=True)
class ForeignScores:
    """The scores of V videos in a file of another tool.

    form: the file's format, for messages. scores: (V, C) float64, of any scale. names, classes,
    groups, parts: () if the file does not have them. labels: (V,) class numbers, -1 if unknown;
    None if the file has none. sorts: whether tools of this format save the rows in the order of the
    sorted video names.
    """

    form: str
    scores: np.ndarray
    names: tuple[str, ...] = ()
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    sorts: bool = False
    parts: tuple[str, ...] = ()


def as_matrix(rows: Any) -> np.ndarray:
    """An array, or a list of rows, as finite scores (V, C) float64. Raises Refused."""
    if isinstance(rows, np.ndarray):
        matrix = as_floats(rows if rows.size else np.zeros(0))
    else:
        vectors = [as_floats(row).reshape(-1) for row in rows]
        if len({len(vector) for vector in vectors}) > 1:
            raise Refused(_UNEQUAL_ROWS)
        matrix = np.array(vectors)
    if matrix.ndim != 2 or not matrix.size:
        raise Refused("it contains no scores")
    is_finite = np.isfinite(matrix).all(axis=1)  # (V,)
    if not is_finite.all():
        raise Refused(f"a score of video {int(is_finite.argmin()) + 1} is NaN or infinite")
    return matrix


def as_floats(value: Any) -> np.ndarray:
    """Numbers of any shape as float64. Raises Refused."""
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):
        raise Refused(_UNEQUAL_ROWS) from None
    if array.dtype.kind not in "fiub":
        raise Refused(f"its scores must be numbers (got type {array.dtype})")
    return array.astype(np.float64)


def as_labels(values: Any) -> np.ndarray:
    """Class numbers as (V,) int64. Raises Refused."""
    try:
        labels = np.asarray(values).reshape(-1)
        if labels.dtype.kind not in "iu":
            raise Refused(_NOT_WHOLE_NUMBERS)
        return labels.astype(np.int64)
    except (ValueError, TypeError):
        raise Refused(_NOT_WHOLE_NUMBERS) from None


def single_label(value: Any) -> int:
    """The class number of one result; -1 if it has none or more than one. Raises Refused."""
    try:
        numbers = np.asarray(-1 if value is None else value).reshape(-1)
    except ValueError:
        raise Refused(_NOT_WHOLE_NUMBERS) from None
    return int(as_labels(numbers)[0]) if len(numbers) == 1 else -1


def as_texts(values: Any) -> tuple[str, ...]:
    """An array or list of str or bytes as a tuple of str. Raises Refused."""
    listed = values.reshape(-1).tolist() if isinstance(values, np.ndarray) else values
    texts = [
        value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
        for value in listed
    ]
    for text in texts:
        if not isinstance(text, str):
            raise Refused(f"its names must be strings (got {type(text).__name__})")
    return tuple(texts)
