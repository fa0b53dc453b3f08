"""The index of a feature file as the columns that are written."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import h5py
import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.store.file.about import to_text
from reelbank.data.store.file.columns import (
    CHUNK,
    LazySequence,
    distinct_items,
    encoded,
    encoded_items,
    item_hashes,
    text_width,
)
from reelbank.data.store.file.index import PART_NAMES, Index
from reelbank.data.store.file.keys import key_tables
from reelbank.data.store.versions import Versions

_CODE_OF_PART = {part: code for code, part in enumerate(PART_NAMES)}


class Column(NamedTuple):
    """A column that is to be written.

    A column with entries of the videos is made some videos at a time, so that all such columns can be
    written in one pass over the videos: `of_videos` gives the entries of the videos `first` to
    `last` - 1. Another column is `whole`.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    of_videos: Callable[[int, int], np.ndarray] | None = None
    whole: np.ndarray | None = None
    videos: int = 0

    def chunks(self) -> Iterator[np.ndarray]:
        """All entries, in arrays."""
        if self.of_videos is None:
            assert self.whole is not None
            yield self.whole
            return
        for first, last in video_chunks(self.videos):
            yield self.of_videos(first, last)


def video_chunks(videos: int) -> Iterator[tuple[int, int]]:
    """The numbers of the videos, first and last + 1, that are written at once."""
    for first in range(0, videos, CHUNK):
        yield first, min(videos, first + CHUNK)


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
    hashes = np.concatenate([item_hashes(index.video_ids), item_hashes(failure_ids)])
    key_hashes, key_numbers = key_tables(hashes)
    made = distinct_items(index.versions)
    about = to_text(index.about, made).encode()
    sources, source_offsets = _json_columns(index.sources)
    offsets = np.asarray(index.offsets, "<i8")

    def rows(values: Any, dtype: str) -> Column:
        def of_videos(first: int, last: int) -> np.ndarray:
            return np.asarray(values[int(offsets[first]) : int(offsets[last])], dtype)

        return Column(np.dtype(dtype), (len(values),), of_videos, videos=videos)

    return {
        "about": _whole(np.frombuffer(about, np.uint8)),
        "offsets": _whole(offsets),
        "times_seconds": rows(index.times_seconds, "<f8"),
        "views": rows(index.views, "|u1"),
        "video_ids": _texts(index.video_ids),
        "labels": _texts(index.labels),
        "groups": _texts(index.groups),
        "parts": _parts(index),
        "checksums": _numbers(index.checksums, "<u8"),
        "versions": _versions(index, made),
        "sources": sources,
        "source_offsets": _whole(source_offsets),
        "failure_ids": _whole(_fixed_length(list(map(encoded, failure_ids)))),
        "failures": _whole(np.frombuffer(b"".join(failure_texts), np.uint8)),
        "failure_offsets": _whole(np.cumsum([0, *map(len, failure_texts)], dtype="<i8")),
        "key_hashes": _whole(key_hashes.astype("<u8", copy=False)),
        "key_numbers": _whole(key_numbers.astype("<u4", copy=False)),
    }


def _whole(values: np.ndarray) -> Column:
    return Column(values.dtype, values.shape, whole=values)


def _numbers(values: Any, dtype: str) -> Column:
    """values: an array or a column, with one number of each video."""

    def of_videos(first: int, last: int) -> np.ndarray:
        return np.asarray(values[first:last], dtype)

    return Column(np.dtype(dtype), (len(values),), of_videos, videos=len(values))


def _text_type(width: int) -> np.dtype[Any]:
    return h5py.string_dtype("utf-8", width)


def _fixed_length(texts: Sequence[bytes]) -> np.ndarray:
    width = max([1, *map(len, texts)])
    return np.array(texts, f"S{width}").astype(_text_type(width))


def _texts(texts: Sequence[str]) -> Column:
    width = text_width(texts)
    dtype = _text_type(width)

    def of_videos(first: int, last: int) -> np.ndarray:
        return np.array(encoded_items(texts, first, last), f"S{width}").astype(dtype)

    return Column(dtype, (len(texts),), of_videos, videos=len(texts))


def _parts(index: Index) -> Column:
    splits = len(index.about.dataset.splits)

    def of_videos(first: int, last: int) -> np.ndarray:
        codes = [[_CODE_OF_PART[part] for part in parts] for parts in index.parts[first:last]]
        return np.array(codes, np.uint8).reshape(len(codes), splits)

    return Column(np.dtype(np.uint8), (len(index), splits), of_videos, videos=len(index))


def _versions(index: Index, made: Sequence[Versions]) -> Column:
    code_of = {versions: code for code, versions in enumerate(made)}

    def of_videos(first: int, last: int) -> np.ndarray:
        chunk = index.versions[first:last]
        # Most videos share one object, whose hash takes longer than all else here.
        by_identity = {
            id(each): code_of[each] for each in {id(each): each for each in chunk}.values()
        }
        return np.fromiter((by_identity[id(each)] for each in chunk), "<u4", len(chunk))

    return Column(np.dtype("<u4"), (len(index),), of_videos, videos=len(index))


def _json_columns(items: Sequence[Any]) -> tuple[Column, np.ndarray]:
    """The texts, one after the other, and the offsets of each, (V + 1,)."""
    texts: Sequence[bytes] = ()
    if isinstance(items, LazySequence):
        lengths = items.lengths()
    else:
        texts = list(map(encoded, items)) if len(items) <= CHUNK else ()  # or they are made again
        lengths = np.fromiter(map(len, texts or map(encoded, items)), np.int64, len(items))
    offsets = np.zeros(len(lengths) + 1, "<i8")
    np.cumsum(lengths, out=offsets[1:])

    def of_videos(first: int, last: int) -> np.ndarray:
        of_chunk = texts[first:last] if texts else encoded_items(items, first, last)
        return np.frombuffer(b"".join(of_chunk), np.uint8)

    shape = (int(offsets[-1]),)
    return Column(np.dtype(np.uint8), shape, of_videos, videos=len(items)), offsets
