"""The index of a feature file as the columns that are written."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import h5py
import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.store.file.about import to_text
from reelbank.data.store.file.columns import CHUNK, encoded, encoded_items, text_width
from reelbank.data.store.file.index import READ_PART_NAMES, Index
from reelbank.data.store.file.keys import key_tables

_CODE_OF_PART = {part: code for code, part in enumerate(READ_PART_NAMES)}


class Column(NamedTuple):
    """A column that is to be written. chunks: its entries in arrays, so that a large column is never
    in memory as a whole."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    chunks: Callable[[], Iterator[np.ndarray]]


def columns(index: Index) -> dict[str, Column]:
    """The file's datasets by name, all but the features. Raises InputError for text that is not
    valid UTF-8."""
    try:
        return _columns(index)
    except UnicodeEncodeError as error:
        raise InputError(f"{error.object!r} is not valid UTF-8; rename the file") from None


def _columns(index: Index) -> dict[str, Column]:
    videos, failures = len(index), index.failures
    failure_ids = list(failures)
    failure_texts = [encoded(failures[video_id].to_json()) for video_id in failure_ids]
    ids = (*_chunks(index.video_ids), [encoded(video_id) for video_id in failure_ids])
    key_hashes, key_numbers = key_tables(
        (each for chunk in ids for each in chunk), videos + len(failure_ids)
    )
    code_of = {versions: code for code, versions in enumerate(dict.fromkeys(index.versions))}
    version_codes = np.fromiter(map(code_of.__getitem__, index.versions), np.uint32, videos)
    sources, source_offsets = _json_columns(index.sources)
    about = to_text(index.about, list(code_of)).encode()
    return {
        "about": _whole(np.frombuffer(about, np.uint8)),
        "offsets": _numbers(index.offsets, "<i8"),
        "times_seconds": _numbers(index.times_seconds, "<f8"),
        "views": _numbers(index.views, "|u1"),
        "video_ids": _texts(index.video_ids),
        "labels": _texts(index.labels),
        "groups": _texts(index.groups),
        "parts": _parts(index),
        "checksums": _numbers(index.checksums, "<u8"),
        "versions": _numbers(version_codes, "<u4"),
        "sources": sources,
        "source_offsets": source_offsets,
        "failure_ids": _texts(failure_ids),
        "failures": _whole(np.frombuffer(b"".join(failure_texts), np.uint8)),
        "failure_offsets": _whole(np.cumsum([0, *map(len, failure_texts)], dtype="<i8")),
        "key_hashes": _numbers(key_hashes, "<u8"),
        "key_numbers": _numbers(key_numbers, "<u4"),
    }


def _whole(values: np.ndarray) -> Column:
    return Column(values.dtype, values.shape, lambda: iter([values]))


def _numbers(values: Any, dtype: str) -> Column:
    """values: an array or a column."""
    size = 1 << 16

    def chunks() -> Iterator[np.ndarray]:
        for first in range(0, len(values), size):
            yield np.asarray(values[first : first + size]).astype(dtype, copy=False)

    return Column(np.dtype(dtype), (len(values),), chunks)


def _texts(texts: Sequence[str]) -> Column:
    width = text_width(texts)
    dtype = h5py.string_dtype("utf-8", width)

    def chunks() -> Iterator[np.ndarray]:
        for chunk in _chunks(texts):
            yield np.array(chunk, f"S{width}").astype(dtype)

    return Column(dtype, (len(texts),), chunks)


def _parts(index: Index) -> Column:
    splits = len(index.about.dataset.splits)

    def chunks() -> Iterator[np.ndarray]:
        for first in range(0, len(index), CHUNK):
            of_videos = index.parts[first : first + CHUNK]
            codes = [[_CODE_OF_PART[part] for part in parts] for parts in of_videos]
            yield np.array(codes, np.uint8).reshape(len(codes), splits)

    return Column(np.dtype(np.uint8), (len(index), splits), chunks)


def _json_columns(items: Sequence[Any]) -> tuple[Column, Column]:
    """The texts, one after the other, and the offsets of each, (V + 1,)."""
    kept = list(_chunks(items)) if len(items) <= CHUNK else None
    lengths = [
        np.fromiter(map(len, chunk), np.int64, len(chunk)) for chunk in kept or _chunks(items)
    ]
    offsets = np.cumsum(np.concatenate([[0], *lengths]), dtype="<i8")

    def chunks() -> Iterator[np.ndarray]:
        for chunk in kept or _chunks(items):
            yield np.frombuffer(b"".join(chunk), np.uint8)

    return Column(np.dtype(np.uint8), (int(offsets[-1]),), chunks), _numbers(offsets, "<i8")


def _chunks(items: Sequence[Any]) -> Iterator[list[bytes]]:
    """The items as a file keeps them, some at a time."""
    for first in range(0, len(items), CHUNK):
        yield encoded_items(items, first, min(len(items), first + CHUNK))
