"""One vector for each video of a store, or for each of its rows. The store may be larger than memory.

The vector of a video is the mean of its clean rows; crops, and the positions of feature maps, are
averaged too. Cosines are compared later, so vectors have length 1.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.similarity.unit import to_unit_length
from reelbank.data.store.reader import Piece, Store
from reelbank.data.store.rows import check_finite


@dataclass(frozen=True)
class Vectors:
    """N vectors of a store with V videos.

    values: (N, D) float32, each of length 1 (0 for a vector of zeros). videos: (N,) int64, the
    number of each vector's video in `store.video_ids`. times_seconds: (N,) float64, of the rows; NaN
    for the vector of a whole video.
    """

    values: np.ndarray
    videos: np.ndarray
    times_seconds: np.ndarray

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class VideoVectors(Vectors):
    """One vector for each video. left_out: how many videos of the data set have none, because their
    extraction failed, or the store has no rows of them."""

    left_out: int = 0


def video_vectors(store: Store) -> VideoVectors:
    """One vector for each video of an open store, in the order of the store.

    Raises InputError for rows of which it is not known where their features are (`check_rows`), and
    for features that are not finite.
    """
    values = np.empty((len(store), vector_length(store)), np.float32)
    videos = np.empty(len(store), np.int64)
    count = 0
    for numbers, means in video_means(store):
        end = count + len(numbers)
        values[count:end], videos[count:end] = means, numbers
        count = end
    values = values[:count]
    to_unit_length(values)
    left_out = len(store.failures) + len(store) - count
    return VideoVectors(values, videos[:count], np.full(count, np.nan), left_out)


def moment_vectors(store: Store) -> Iterator[Vectors]:
    """One vector for each clean row of an open store, in its order, in pieces that fit in memory.
    Raises InputError as `video_vectors`."""
    for piece in _pieces(store):
        values = _row_vectors(store, piece)
        to_unit_length(values)
        numbers = np.arange(piece.first, piece.first + len(piece.offsets) - 1)
        videos = np.repeat(numbers, np.diff(piece.offsets))
        yield Vectors(values, videos, piece.times_seconds)


def video_means(store: Store) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The mean of the clean rows of each video that has any, in the order of the store: pieces of
    numbers of videos (n,) int64 and means (n, D) float32. Raises InputError as `video_vectors`."""
    for piece in _pieces(store):
        rows = _row_vectors(store, piece)
        counts = np.diff(piece.offsets)
        has_rows = counts > 0
        numbers = piece.first + np.flatnonzero(has_rows)
        if len(numbers) == len(rows):  # one row each, which is its own mean
            yield numbers, rows
            continue
        starts = piece.offsets[:-1][has_rows]
        yield numbers, np.add.reduceat(rows, starts, axis=0) / counts[has_rows, None].astype("f4")


def mean_vector(rows: np.ndarray, crop_axes: int = 0) -> np.ndarray:
    """The vector of one video that is not in a store: (D,) float32 of length 1, the mean of its
    rows (K, ...). crop_axes: 1 if the rows have separate crops."""
    means = _pooled(rows, crop_axes).mean(0, keepdims=True)
    to_unit_length(means)
    return means[0]


def row_vectors(rows: np.ndarray, crop_axes: int = 0) -> np.ndarray:
    """The vectors of the rows (K, ...) of a video that is not in a store: (K, D) float32, each of
    length 1."""
    vectors = _pooled(rows, crop_axes)
    to_unit_length(vectors)
    return vectors


def crop_axes(store: Store) -> int:
    """1 if each row of the store has separate crops, which are its first axis, or 0."""
    return int(bool(store.recipe.get("crops_kept")))


def vector_length(store: Store) -> int:
    """D: a row is (D,), (crops, D), (D, H, W) or (crops, D, H, W)."""
    return store.row_shape[crop_axes(store)]


def check_rows(store: Store) -> None:
    """Raises InputError for rows of which it is not known on which axis their D numbers are."""
    axes = len(store.row_shape) - crop_axes(store)
    if axes < 1 or axes == 2:
        crops = "with" if crop_axes(store) else "without"
        raise InputError(
            f"{store.path}: rows must be vectors or feature maps, or those of several crops (got rows "
            f"{store.row_shape} in a store {crops} kept crops); import the features of crops with CROPS="
        )


def check_features(store: Store) -> None:
    """As `check_rows`, and raises InputError for a store of pictures."""
    check_rows(store)
    if store.dtype == np.uint8:
        raise InputError(f"{store.path}: contains pictures; give a store of features")


def _pieces(store: Store) -> Iterator[Piece]:
    check_features(store)
    return store.pieces()


def _row_vectors(store: Store, piece: Piece) -> np.ndarray:
    """(R, D) float32 of the rows of a piece. Raises InputError if they are not finite."""
    rows = _pooled(piece.values, crop_axes(store))
    if not np.isfinite(rows).all():
        ends = zip(piece.offsets[:-1], piece.offsets[1:], strict=True)
        for number, (begin, end) in enumerate(ends, piece.first):
            check_finite(store.ids_when_used[number], rows[begin:end])
    return rows


def _pooled(rows: np.ndarray, axes_of_crops: int) -> np.ndarray:
    """(R, ...) -> (R, D) float32, a new array."""
    features_first = np.moveaxis(rows, 1 + axes_of_crops, 1)  # (R, D, ...)
    if features_first.ndim == 2:
        return features_first.astype(np.float32)
    positions = math.prod(features_first.shape[2:])
    return features_first.reshape(*features_first.shape[:2], positions).mean(2, dtype=np.float32)
