"""The nearest of very many vectors, found with an index of usearch, a graph of near vectors (HNSW:
Malkov and Yashunin, 2018). An index finds nearly all of the nearest; comparing all pairs of a
million vectors would take hours."""

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.similarity.nearest import Nearest, Pairs, exact_cosines, ranked

MOST_COMPARED = 100_000  # vectors, of which all pairs are compared
INSTALL = "pip install 'reelbank[search]'"
_SPARE = 64  # candidates more than asked for: the vector itself, and for the exact order
_EXPANSION = 128  # candidates that usearch keeps while it looks; more find more of the nearest
_AT_ONCE = 1 << 14  # vectors


def probably_nearest(
    vectors: np.ndarray, videos: Sequence[int] | np.ndarray, *, count: int
) -> Nearest:
    """Of each of the vectors `videos` the nearest `count` of all other `vectors`, (V, D) float32 of
    length 1. The candidates come from an index and are ranked exactly; a few of the nearest may be missing.
    Raises InputError if usearch is not installed."""
    index = filled_index(vectors)
    queries = np.asarray(videos, np.int64)
    found = Nearest.none(len(queries), count)
    for first in range(0, len(queries), _AT_ONCE):
        rows = slice(first, first + _AT_ONCE)
        candidates = index_candidates(index, vectors[queries[rows]], count + _SPARE)
        is_other = (candidates >= 0) & (candidates != queries[rows][:, None])
        of_query, place = np.nonzero(is_other)
        pairs = Pairs(of_query, candidates[of_query, place])
        cosines = exact_cosines(vectors[queries[rows]], vectors, pairs)
        best = ranked(Nearest.none(len(candidates), count), pairs, cosines)
        found.numbers[rows], found.cosines[rows] = best.numbers, best.cosines
    return found


def filled_index(vectors: np.ndarray) -> Any:
    """A usearch index of (V, D) float32 vectors, whose keys are their numbers. Raises InputError if
    usearch is not installed."""
    index = _index_type()(
        ndim=vectors.shape[1], metric="ip", dtype="f16", expansion_search=_EXPANSION
    )
    for first in range(0, len(vectors), _AT_ONCE):
        part = vectors[first : first + _AT_ONCE]
        # One thread: with several, the graph depends on which of them is faster.
        index.add(np.arange(first, first + len(part), dtype=np.uint64), part, threads=1)
    return index


def index_candidates(index: Any, queries: np.ndarray, count: int) -> np.ndarray:
    """(Q, k) int64: numbers of vectors that are probably the nearest to (Q, D) queries, -1 where
    there are fewer."""
    matches = index.search(queries, min(count, len(index)), threads=1)
    keys: np.ndarray = np.atleast_2d(matches.keys).astype(np.int64)
    if len(queries) > 1:  # matches of one query have no counts; all of them are keys
        keys[np.arange(keys.shape[1]) >= matches.counts[:, None]] = -1
    return keys


def _index_type() -> Any:
    try:
        return importlib.import_module("usearch.index").Index
    except ModuleNotFoundError:
        raise InputError(
            f"more than {MOST_COMPARED:,} videos need the package usearch; install it with: {INSTALL}"
        ) from None
