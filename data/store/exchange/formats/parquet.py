"""Parquet files for pandas and Hugging Face's datasets: one line per clean row, with its time and the
label of its video. One file, or a folder with one file for each part of the split.

The recipe and the data set are JSON in the file's metadata, with the key `reelbank`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from reelbank.data.store.exchange.about import about_text
from reelbank.data.store.exchange.arrow import parquet_packages
from reelbank.data.store.exchange.formats.types import Export, ExportFormat, Written
from reelbank.data.store.exchange.formats.videos import ExportedVideo, exported_videos
from reelbank.data.store.exchange.parquet_source import METADATA
from reelbank.data.store.reader import Store

if TYPE_CHECKING:
    import pyarrow as pa

# Of the features in a row group, which a reader holds in memory as a whole. datasets recommends
# about 100 MB; a group has at least one video.
GROUP_BYTES = 1 << 26
REST = "rest"  # the file of the videos that are in no part, which datasets does not load
_COMPRESSION = "zstd"


@dataclass(frozen=True)
class _Columns:
    """What is written for each row. split_number: of the split whose parts are the column `part`."""

    store: Store
    split_number: int

    @property
    def part_columns(self) -> dict[str, int]:
        """The columns of parts, and the number of the split of each: `part` of the chosen split, and of
        several splits a column for each."""
        splits = self.store.dataset.splits
        if not splits:
            return {}
        each = {f"part_{name}": number for number, name in enumerate(splits)}
        return {"part": self.split_number, **(each if len(splits) > 1 else {})}

    def schema(self) -> pa.Schema:
        """The types of the columns, and the metadata."""
        pa, _ = parquet_packages()
        # Few tools read float16, and float32 can hold each of its numbers.
        vector = pa.uint8() if self.store.dtype == np.uint8 else pa.float32()
        for size in reversed(self.store.row_shape):
            vector = pa.list_(vector, size)
        label = ("labels", pa.list_(pa.string())) if self.is_multilabel else ("label", pa.string())
        fields = [
            ("id", pa.string()),
            label,
            *((name, pa.string()) for name in self.part_columns),
            ("group", pa.string()),
            ("fps", pa.float64()),
            ("time_seconds", pa.float64()),
            ("features", vector),
        ]
        return pa.schema(fields, metadata={METADATA: about_text(self.store)})

    @property
    def is_multilabel(self) -> bool:
        return self.store.dataset.multilabel

    def table(self, videos: Sequence[ExportedVideo], schema: pa.Schema) -> pa.Table:
        """The rows of some videos. A text that is unknown is null."""
        pa, _ = parquet_packages()
        values, offsets, times_seconds = self.store.load([video.id for video in videos])
        counts = np.diff(offsets)
        of_row = np.repeat(np.arange(len(videos)), counts)
        texts: dict[str, list[Any]] = {"id": [video.id for video in videos]}
        if self.is_multilabel:
            texts["labels"] = [self.store.dataset.label_names(video.label) for video in videos]
        else:
            texts["label"] = [video.label or None for video in videos]
        for name, number in self.part_columns.items():
            texts[name] = [video.parts[number] or None for video in videos]
        texts["group"] = [video.group or None for video in videos]
        texts["fps"] = [video.fps or None for video in videos]
        columns = {
            name: pa.array(column, schema.field(name).type).take(pa.array(of_row))
            for name, column in texts.items()
        }
        columns["time_seconds"] = pa.array(times_seconds)
        columns["features"] = _nested(values)
        return pa.table(columns, schema)


def _nested(values: np.ndarray) -> pa.Array:
    """(R, ...) as fixed-size lists."""
    pa, _ = parquet_packages()
    dtype = values.dtype if values.dtype == np.uint8 else np.float32
    array = pa.array(np.ascontiguousarray(values, dtype).reshape(-1))
    for size in reversed(values.shape[1:]):
        array = pa.FixedSizeListArray.from_arrays(array, size)
    return array


def _groups(store: Store) -> Iterator[list[ExportedVideo]]:
    """The videos of each row group."""
    row_bytes = math.prod(store.row_shape) * 4
    videos: list[ExportedVideo] = []
    size_bytes = 0
    for video, rows in zip(exported_videos(store), store.rows.tolist(), strict=True):
        if videos and size_bytes + rows * row_bytes > GROUP_BYTES:
            yield videos
            videos, size_bytes = [], 0
        videos.append(video)
        size_bytes += rows * row_bytes
    if videos:
        yield videos


def _columns_of(export: Export) -> _Columns:
    split, splits = export.options.split, export.store.dataset.splits
    return _Columns(export.store, splits.index(split) if split else 0)


def _write_file(export: Export) -> Written:
    _, parquet = parquet_packages()
    columns = _columns_of(export)
    schema = columns.schema()
    with parquet.ParquetWriter(export.path, schema, compression=_COMPRESSION) as writer:
        for videos in _groups(export.store):
            writer.write_table(columns.table(videos, schema), row_group_size=1 << 30)
    return Written()


def _write_folder(export: Export) -> Written:
    _, parquet = parquet_packages()
    columns = _columns_of(export)
    schema = columns.schema()
    export.path.mkdir()
    writers: dict[str, Any] = {}
    with ExitStack() as closing:
        for videos in _groups(export.store):
            for name, of_part in _by_part(videos, columns).items():
                if name not in writers:
                    path = export.path / f"{name}.parquet"
                    writer = parquet.ParquetWriter(path, schema, compression=_COMPRESSION)
                    writers[name] = closing.enter_context(writer)
                writers[name].write_table(columns.table(of_part, schema), row_group_size=1 << 30)
    if REST not in writers:
        return Written()
    return Written([f"{REST}.parquet contains the videos that are not in a part of the split"])


def _by_part(videos: Sequence[ExportedVideo], columns: _Columns) -> dict[str, list[ExportedVideo]]:
    number = columns.part_columns.get("part")
    by_part: dict[str, list[ExportedVideo]] = {}
    for video in videos:
        part = video.parts[number] if number is not None else "train"
        by_part.setdefault(part or REST, []).append(video)
    return by_part


PARQUET = ExportFormat("a .parquet file", _write_file, endings=(".parquet",))
DATASETS = ExportFormat("a folder of .parquet files", _write_folder)
