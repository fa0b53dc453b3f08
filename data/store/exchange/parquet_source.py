"""Parquet files with one line per row of features, as `export FORMAT=parquet` writes them, or another
tool: the columns `id` and `features`, and optionally `time_seconds` and `fps`. Labels are read only
from our own exports, because there the metadata names the classes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.files import check_regular
from reelbank.data.store.exchange.about import ExportAbout, parse_export_about
from reelbank.data.store.exchange.arrow import parquet_packages
from reelbank.data.store.exchange.source import Recorded, Rows, Source
from reelbank.data.store.file.hdf5_checks import MOST_EXPANSION, UnsafeFile
from reelbank.data.store.records import StoredVideo

if TYPE_CHECKING:
    import pyarrow as pa

METADATA = b"reelbank"
ID, FEATURES, TIMES, FPS = "id", "features", "time_seconds", "fps"
_OF_VIDEOS = (ID, TIMES, FPS, "label", "labels", "group")
_BATCH_BYTES = 1 << 24  # of features that are read at once
_BATCH_ROWS = 1 << 16  # of the other columns


@dataclass(frozen=True)
class _Video:
    """Where a video's rows are in a file, and what its first line says. times_seconds: (K,), None if
    the file has no times."""

    file: int
    first: int
    last: int
    line: dict[str, Any]
    times_seconds: np.ndarray | None


@contextlib.contextmanager
def parquet_source(paths: Sequence[Path]) -> Iterator[Source]:
    """The videos of these files. Raises InputError for a file that cannot be read, or whose columns
    are other ones."""
    parquet = parquet_packages().parquet
    with contextlib.ExitStack() as closing:
        files = []
        for path in paths:
            check_regular(path)
            with _explained(path):
                opened = parquet.ParquetFile(path)
                files.append(_Features(path, closing.enter_context(opened)))
        videos: list[_Video] = []
        ids: set[str] = set()
        for number, file in enumerate(files):
            videos += file.videos(number, ids)
        timed = all(video.times_seconds is not None for video in videos)

        def read(number: int) -> Rows:
            video = videos[number]
            values = files[video.file].rows(video.first, video.last)
            return Rows(values, video.times_seconds if timed else None, _rate(video.line.get(FPS)))

        yield Source(
            "parquet",
            [(video.line[ID],) for video in videos],
            read,
            timed=timed,
            rated=any(_rate(video.line.get(FPS)) for video in videos),
            recorded=_recorded(files, videos),
        )


class _Features:
    """An open Parquet file. Its rows are read one after the other, in batches, because a file of
    another tool may be one row group."""

    def __init__(self, path: Path, file: Any) -> None:
        self.path, self._file = path, file
        names = file.schema_arrow.names
        for name in (ID, FEATURES):
            if names.count(name) != 1:
                raise InputError(
                    f"FILE={path}: must have the columns {ID} and {FEATURES} (got "
                    f"{', '.join(names[:8])}); rename its columns"
                )
        self._batches: Iterator[Any] | None = None
        # The rows that were read last, and the number of the first of them.
        self._read: np.ndarray = np.empty(0)
        self._start = 0

    @property
    def about(self) -> ExportAbout | None:
        """The recipe and data set of an export; None for a file of another tool."""
        text = (self._file.schema_arrow.metadata or {}).get(METADATA)
        return parse_export_about(text) if text is not None else None

    def videos(self, number: int, ids: set[str]) -> list[_Video]:
        """The videos of this file, whose number is given. The features are not read. ids: of all videos
        until now, to which those of the file are added. Raises InputError for a video whose rows do
        not follow each other."""
        names = self._file.schema_arrow.names
        columns = [name for name in names if name in _OF_VIDEOS or name.startswith("part")]
        pa = parquet_packages().arrow
        firsts: list[int] = []  # the first row of each video
        lines: list[dict[str, Any]] = []
        times: list[np.ndarray] = []
        rows, last_id = 0, None
        with _explained(self.path):
            self._check_size()
            for batch in self._file.iter_batches(_BATCH_ROWS, columns=columns):
                if not batch.num_rows:
                    continue
                starts, batch_ids = _starts(batch.column(ID), last_id)
                of_batch = batch.take(pa.array(starts, pa.int64())).to_pylist()
                for line in of_batch:
                    self._add_id(line[ID], ids)
                firsts += [rows + start for start in starts]
                lines += of_batch
                rows, last_id = rows + len(batch_ids), batch_ids[-1].as_py()
                if TIMES in names:
                    times.append(_numbers(batch.column(TIMES)))
        all_times = np.concatenate([np.empty(0), *times])
        ends = [*firsts[1:], rows]
        return [
            _Video(number, first, end, line, all_times[first:end] if TIMES in names else None)
            for first, end, line in zip(firsts, ends, lines, strict=True)
        ]

    def _add_id(self, video_id: str, ids: set[str]) -> None:
        if video_id in ids:
            raise InputError(
                f"FILE={self.path}: the rows of a video must follow each other, but those of "
                f"{video_id!r} do not; sort the table by {ID} and time"
            )
        ids.add(video_id)

    def _check_size(self) -> int:
        """The bytes of a row of features. Raises ValueError if the rows that the file declares cannot
        be in it."""
        rows, file_bytes = self._file.metadata.num_rows, self.path.stat().st_size
        if rows > MOST_EXPANSION * file_bytes:
            raise ValueError(f"it declares {rows} rows, but has {file_bytes} bytes")
        first = next(self._file.iter_batches(1, columns=[FEATURES]), None)
        row_bytes = max(1, dense(first.column(0)).nbytes) if first is not None else 1
        if rows * row_bytes > MOST_EXPANSION * file_bytes:
            raise ValueError(
                f"it declares {rows * row_bytes} bytes of features, but has {file_bytes}"
            )
        return row_bytes

    def rows(self, first: int, last: int) -> np.ndarray:
        """The rows `first` to `last` - 1. Raises InputError if they cannot be read."""
        with _explained(self.path):
            if first < self._start:
                self._restart()
            while self._start + len(self._read) < last:
                dropped = min(max(0, first - self._start), len(self._read))
                batch = self._next()
                self._start += dropped
                kept = self._read[dropped:]
                self._read = np.concatenate([kept, batch]) if len(kept) else batch
            return self._read[first - self._start : last - self._start]

    def _restart(self) -> None:
        self._batches, self._read, self._start = None, np.empty(0), 0

    def _next(self) -> np.ndarray:
        if self._batches is None:
            size = max(1, _BATCH_BYTES // self._check_size())
            self._batches = self._file.iter_batches(size, columns=[FEATURES])
        return dense(next(self._batches).column(0))


def dense(array: pa.Array) -> np.ndarray:
    """Lists of equal lengths as an array, (R, ...). Raises ValueError for others."""
    pa = parquet_packages().arrow
    shape = [len(array)]
    while pa.types.is_nested(array.type):
        kind = array.type
        if pa.types.is_fixed_size_list(kind):
            size = kind.list_size
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            lengths = set(array.value_lengths().to_pylist())
            size = max((length or 0 for length in lengths), default=0)
            if len(lengths) > 1:
                raise ValueError(f"the column {FEATURES} must have vectors of one length")
        else:
            raise ValueError(f"the column {FEATURES} must have lists of numbers (got {kind})")
        if array.null_count:
            raise ValueError(f"the column {FEATURES} must not have missing values")
        array, shape = array.flatten(), [*shape, size]
    is_number = pa.types.is_floating(array.type) or pa.types.is_integer(array.type)
    if len(shape) == 1 or not is_number or array.null_count:
        raise ValueError(f"the column {FEATURES} must have lists of numbers (got {array.type})")
    return array.to_numpy(zero_copy_only=False).reshape(shape)


def _rate(value: object) -> float:
    is_rate = isinstance(value, int | float) and 0 < value < math.inf
    return float(value) if is_rate else 0.0  # type: ignore[arg-type]


def _starts(ids: pa.Array, last_id: str | None) -> tuple[list[int], pa.Array]:
    """The rows of a batch at which another video begins, and the ids as texts. last_id: of the row
    before the batch. Raises ValueError for ids that are not texts."""
    pa = parquet_packages().arrow
    if pa.types.is_dictionary(ids.type):
        ids = ids.dictionary_decode()
    is_text = pa.types.is_string(ids.type) or pa.types.is_large_string(ids.type)
    if not is_text or ids.null_count:
        raise ValueError(f"the column {ID} must be text without missing values (got {ids.type})")
    numbers = ids.dictionary_encode().indices.to_numpy()
    starts = [0] if ids[0].as_py() != last_id else []
    return [*starts, *(np.flatnonzero(np.diff(numbers)) + 1).tolist()], ids


def _numbers(column: pa.Array) -> np.ndarray:
    """(R,) float64, NaN for missing values. Raises pyarrow's errors for other types."""
    return column.cast(parquet_packages().arrow.float64()).to_numpy(zero_copy_only=False)


def _recorded(files: Sequence[_Features], videos: Sequence[_Video]) -> Recorded | None:
    """The data set and labels of an export. Raises InputError for metadata that cannot be used, and
    for columns that are missing."""
    try:
        abouts = [file.about for file in files]
    except UnsafeFile as error:
        raise InputError(f"FILE={files[0].path}: {error}") from None
    about = abouts[0]
    if about is None or any(other != about for other in abouts):
        return None
    dataset = about.dataset
    part_columns = [f"part_{name}" for name in dataset.splits]
    if len(part_columns) == 1:
        part_columns = ["part"]
    label_column = "labels" if dataset.multilabel else "label"
    stored = []
    for video in videos:
        line, path = video.line, files[video.file].path
        missing = [name for name in (label_column, "group", *part_columns) if name not in line]
        if missing:
            raise InputError(
                f"FILE={path}: the column {missing[0]} of the export is missing; "
                "keep it, or give CSV=<file with the columns path,label,split>"
            )
        labels = line[label_column] if dataset.multilabel else [line[label_column]]
        if not isinstance(labels, list | None):
            raise InputError(
                f"FILE={path}: the column {label_column} must be lists of texts (got "
                f"{type(labels).__name__})"
            )
        names = [_text(label, label_column, path) for label in labels or ()]
        stored.append(
            StoredVideo(
                id=line[ID],
                label=";".join(names),
                group=_text(line["group"], "group", path),
                parts=[_text(line[name], name, path) for name in part_columns],
                source={"bytes": 0},
            )
        )
    return Recorded(dataset, stored, about.recipe)


def _text(value: object, column: str, path: Path) -> str:
    """A text of our own export, "" for null. Raises InputError for anything else."""
    if value is not None and not isinstance(value, str):
        raise InputError(
            f"FILE={path}: the column {column} must be text (got {type(value).__name__})"
        )
    return value or ""


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns what pyarrow raises for a damaged or unexpected file into an InputError."""
    pa = parquet_packages().arrow
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, TypeError, StopIteration) as error:
        raise InputError(
            f"FILE={path}: cannot be read as Parquet ({' '.join(str(error).split())})"
        ) from None
