"""The videos of a store, or their moments, that are nearest to a query. The store is read once, piece
by piece, so it may be larger than memory, and the result is exact."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from reelbank.data.similarity.nearest import cosines_with
from reelbank.data.similarity.unit import to_unit_length
from reelbank.data.similarity.vectors import Vectors, moment_vectors, video_means
from reelbank.data.store.reader import Store


@dataclass(frozen=True)
class Hit:
    """A video, or a moment of one. number: of the video in `store.video_ids`; similarity: the cosine
    with the query, -1 to 1; time_seconds: of the moment, None for a whole video."""

    number: int
    similarity: float
    time_seconds: float | None = None


@dataclass(frozen=True)
class Found:
    """The hits, the nearest first. compared: how many videos were compared; left_out: how many videos
    of the data set the store has no features of."""

    hits: tuple[Hit, ...]
    compared: int
    left_out: int


def find(
    store: Store, vector: np.ndarray, *, count: int, moments: bool = False, without: int = -1
) -> Found:
    """The `count` videos, or moments, nearest to a vector (D,) float32 of length 1. Of equal ones, the
    first in the store comes first.

    A moment is a row that is nearer than the row before it in its video, and not less near than the
    row after it: neighbouring rows show the same. without: number of a video that is left out.
    Raises InputError as `video_vectors`.
    """
    cosines, videos, times_seconds = np.empty(0), np.empty(0, np.int64), np.empty(0)
    compared = 0
    for piece in moment_vectors(store) if moments else _video_pieces(store):
        is_candidate = piece.videos != without
        compared += len(np.unique(piece.videos[is_candidate]))
        of_piece = cosines_with(vector, piece.values)
        if moments:
            is_candidate &= _are_peaks(of_piece, piece.videos)
        cosines = np.concatenate([cosines, of_piece[is_candidate]])
        videos = np.concatenate([videos, piece.videos[is_candidate]])
        times_seconds = np.concatenate([times_seconds, piece.times_seconds[is_candidate]])
        best = np.argsort(-cosines, kind="stable")[:count]  # stable: of equal ones, the first
        cosines, videos, times_seconds = cosines[best], videos[best], times_seconds[best]
    columns = zip(videos.tolist(), cosines.tolist(), times_seconds.tolist(), strict=True)
    hits = [Hit(video, cosine, time if moments else None) for video, cosine, time in columns]
    others = len(store) - (without >= 0)
    return Found(tuple(hits), compared, len(store.failures) + others - compared)


def _video_pieces(store: Store) -> Iterator[Vectors]:
    for numbers, means in video_means(store):
        to_unit_length(means)
        yield Vectors(means, numbers, np.full(len(numbers), np.nan))


def _are_peaks(cosines: np.ndarray, videos: np.ndarray) -> np.ndarray:
    """(R,) bool: which rows are moments. videos: (R,), whose rows these are; a piece has all rows of
    its videos."""
    follows = videos[1:] == videos[:-1]
    is_peak = np.ones(len(cosines), bool)
    is_peak[1:] &= ~follows | (cosines[1:] > cosines[:-1])
    is_peak[:-1] &= ~follows | (cosines[:-1] >= cosines[1:])
    return is_peak
