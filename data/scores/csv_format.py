"""The CSV form of scores: `video_id,label[,group][,part],<class>,<class>...`, a line per video."""

import csv
import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reelbank.data.scores.foreign import ForeignScores, as_matrix
from reelbank.data.scores.held_out import recorded_parts
from reelbank.data.scores.safe_pickle import Refused
from reelbank.data.scores.table import PARTS, Scores
from reelbank.data.text_files import MOST_BYTES, SafeWriter, csv_rows, decoded


@dataclass(frozen=True)
class _Columns:
    """Which columns a table has before those of its classes."""

    has_groups: bool
    has_parts: bool

    @property
    def first_class(self) -> int:
        """The number of the first class's column."""
        return 2 + self.has_groups + self.has_parts


def _columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> _Columns:
    has_groups = header[2:3] == ["group"]
    number = 3 if has_groups else 2
    # "part" is the name of a class if the column holds anything but names of parts.
    has_parts = header[number : number + 1] == ["part"] and all(
        set(row[number : number + 1]) <= set(PARTS) for row in rows
    )
    return _Columns(has_groups, has_parts)


def read_csv(path: Path) -> ForeignScores:
    """Read a .csv or .csv.gz. Raises Refused."""
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        try:
            text = decoded(file.read(MOST_BYTES + 1), path)
            header, *rows = [row for row in csv_rows(text) if row]
        except (ValueError, csv.Error, EOFError, OSError, zlib.error) as error:
            raise Refused(f"it is not a CSV table ({error})") from None
    columns = _columns(header, rows)
    first = columns.first_class
    if header[:2] != ["video_id", "label"] or len(header) <= first:
        raise Refused(
            "its first line must be video_id,label,group,<class>,<class>... (group may be left out)"
        )
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise Refused(
                f"line {number} must have as many fields as the first line, {len(header)} "
                f"(got {len(row)})"
            )
    classes = tuple(header[first:])
    unknown = sorted({row[1] for row in rows} - {"", *classes})
    if unknown:
        raise Refused(f"the label {unknown[0]!r} is not one of the classes in its first line")
    labels = np.array([classes.index(row[1]) if row[1] else -1 for row in rows], np.int64)
    groups = tuple(row[2] for row in rows) if columns.has_groups else ()
    parts = tuple(row[first - 1] for row in rows) if columns.has_parts else ()
    try:
        scores = np.array([row[first:] for row in rows], dtype=np.float64)
    except ValueError as error:
        raise Refused(f"its scores are not numbers ({error})") from None
    return ForeignScores(
        form="CSV",
        scores=as_matrix(scores),
        names=tuple(row[0] for row in rows),
        labels=labels,
        classes=classes,
        groups=groups if any(groups) else (),
        parts=parts,
    )


def write_csv(scores: Scores, writer: SafeWriter) -> None:
    """Write a table with one label per video.

    The column `group` is always written, because a class may have that name; the column `part` only
    if parts are recorded.
    """
    parts = recorded_parts(scores)
    writer.writerow(("video_id", "label", "group", *(["part"] if parts else []), *scores.classes))
    for row, name in enumerate(scores.video_ids):
        label = scores.classes[scores.labels[row]] if scores.labels[row] >= 0 else ""
        group = scores.groups[row] if scores.groups else ""
        part = [parts[row]] if parts else []
        writer.writerow((name, label, group, *part, *(str(value) for value in scores.logits[row])))
