"""The nearest of many vectors by their cosine.

Vectors have length 1, so the cosine of two is their product. Products are made in float32, tile by
tile, because those of all pairs would not fit in memory. The products of those that may be among
the nearest are made again in float64, one by one. So the result does not depend on the tiles, and
equal vectors are ordered by their numbers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

# that are compared at once; larger tiles take more memory, and were not faster
_BLOCK_QUERIES, _TILE_CANDIDATES = 512, 1 << 12
_FIRST_TILE = 1 << 10  # small, because its best decide which of the others are looked at
_SPARE = 16  # candidates, more than asked for, of which the exact product is made
_ROUNDING = 1e-5  # at most, of the float32 product of two vectors of length 1
_PAIRS_AT_ONCE = 1 << 13


@dataclass(frozen=True)
class Nearest:
    """The nearest candidates of each of Q queries, the nearest first.

    numbers: (Q, k) int64, of candidates, -1 where there are fewer than k; cosines: (Q, k) float64,
    -1 where there is none. Of equal cosines, the earlier candidate comes first.
    """

    numbers: np.ndarray
    cosines: np.ndarray

    @classmethod
    def none(cls, queries: int, count: int) -> "Nearest":
        """Of queries that were not compared yet."""
        return cls(np.full((queries, count), -1, np.int64), np.full((queries, count), -1.0))


class Search:
    """The nearest of candidates that come piece by piece, such as those of a store that is larger
    than memory. `found` has those of all pieces so far; a candidate's number is its position in all
    of them."""

    def __init__(
        self,
        vectors: np.ndarray,
        count: int,
        *,
        numbers: np.ndarray | None = None,
        groups: np.ndarray | None = None,
    ) -> None:
        """vectors: (V, D) float32, of length 1; numbers: (Q,) int64, those that are queries, by
        default all; groups: (Q,) int64, the queries' groups, whose members are not compared."""
        self._vectors, self._count = vectors, count
        self._numbers = np.arange(len(vectors)) if numbers is None else numbers
        self._groups = groups
        self._compared = 0
        self.found = Nearest.none(len(self._numbers), count)

    def compare(self, candidates: np.ndarray, groups: np.ndarray | None = None) -> None:
        """Compare with more candidates, (n, D) float32 of length 1. groups: (n,) int64, theirs."""
        for columns in _tiles(len(candidates), first=0 if self._compared else _FIRST_TILE):
            of_columns = None if groups is None else groups[columns]
            for first in range(0, len(self._numbers), _BLOCK_QUERIES):
                rows = slice(first, first + _BLOCK_QUERIES)
                self._compare_block(rows, candidates[columns], of_columns)
            self._compared += len(candidates[columns])

    def _compare_block(
        self, rows: slice, candidates: np.ndarray, groups: np.ndarray | None
    ) -> None:
        queries = self._vectors[self._numbers[rows]]
        products = queries @ candidates.T  # (q, n)
        if groups is not None and self._groups is not None:
            products[self._groups[rows][:, None] == groups] = -np.inf
        found = Nearest(self.found.numbers[rows], self.found.cosines[rows])
        lowest = np.where(found.numbers[:, -1] < 0, -np.inf, found.cosines[:, -1] - _ROUNDING)
        # Most tiles contain nothing nearer to most queries, which argmax finds in one fast pass.
        highest = products[np.arange(len(products)), products.argmax(axis=1)]
        changed = np.flatnonzero(highest >= lowest.astype(np.float32))
        if not len(changed):
            return
        before = Nearest(found.numbers[changed], found.cosines[changed])
        pairs = _likely(products[changed], lowest[changed].astype(np.float32), self._count + _SPARE)
        cosines = exact_cosines(queries[changed], candidates, pairs)
        after = ranked(before, Pairs(pairs.queries, pairs.candidates + self._compared), cosines)
        found.numbers[changed], found.cosines[changed] = after.numbers, after.cosines


@dataclass(frozen=True)
class Pairs:
    """P pairs of a query and a candidate. queries, candidates: (P,) int64, their numbers."""

    queries: np.ndarray
    candidates: np.ndarray


def nearest(
    vectors: np.ndarray,
    videos: Sequence[int] | np.ndarray,
    among: Sequence[int] | np.ndarray,
    groups: np.ndarray | None = None,
    *,
    count: int = 1,
) -> Nearest:
    """Of each of the vectors `videos` the nearest `count` of the vectors `among`; the result has the
    numbers of vectors. vectors: (V, D) float32, of length 1; groups: (V,) int64; with them, only
    vectors of different groups are compared."""
    numbers, others = np.asarray(videos, np.int64), np.asarray(among, np.int64)
    search = Search(
        vectors, count, numbers=numbers, groups=None if groups is None else groups[numbers]
    )
    # Tile by tile, because a copy of all these vectors may not fit in memory.
    for columns in _tiles(len(others), first=_FIRST_TILE):
        search.compare(
            vectors[others[columns]], None if groups is None else groups[others[columns]]
        )
    found = search.found
    is_found = found.numbers >= 0
    found.numbers[is_found] = others[found.numbers[is_found]]
    return found


def exact_cosines(queries: np.ndarray, candidates: np.ndarray, pairs: Pairs) -> np.ndarray:
    """(P,) float64: the products of vectors of length 1, each with float64 rounding."""
    cosines = np.empty(len(pairs.queries))
    for first in range(0, len(cosines), _PAIRS_AT_ONCE):
        part = slice(first, first + _PAIRS_AT_ONCE)
        products = queries[pairs.queries[part]].astype(np.float64)
        products *= candidates[pairs.candidates[part]]
        cosines[part] = products.sum(1)
    return np.clip(cosines, -1.0, 1.0)  # the vectors are rounded, and may be a little too long


def cosines_with(vector: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """(V,) float64: the products of one vector (D,) with each of (V, D), all of length 1, with float64
    rounding."""
    cosines = np.empty(len(vectors))
    wide = vector.astype(np.float64)
    for first in range(0, len(vectors), _PAIRS_AT_ONCE):
        part = slice(first, first + _PAIRS_AT_ONCE)
        cosines[part] = (vectors[part] * wide).sum(1)
    return np.clip(cosines, -1.0, 1.0)  # the vectors are rounded, and may be a little too long


def _tiles(candidates: int, *, first: int) -> Iterator[slice]:
    """Ranges of candidates; the first one has `first` candidates if that is not 0."""
    begin = 0
    while begin < candidates:
        end = begin + (_TILE_CANDIDATES if begin or not first else first)
        yield slice(begin, end)
        begin = end


def _likely(products: np.ndarray, lowest: np.ndarray, count: int) -> Pairs:
    """The pairs whose product, (q, n), is above `lowest`, (q,) float32; of each query the best
    `count`."""
    is_likely = (products >= lowest[:, None]) & (products > -np.inf)
    columns = products.shape[1]
    if columns > count and is_likely.sum(1).max(initial=0) > count:
        best = np.partition(products, columns - count, axis=1)[:, columns - count]
        is_likely &= products >= best[:, None]
    queries, candidates = np.nonzero(is_likely)
    order = np.lexsort((candidates, -products[queries, candidates], queries))
    kept = order[_ranks(queries) < count]  # `queries` ascends, and so it does in this order
    return Pairs(queries[kept], candidates[kept])


def ranked(before: Nearest, pairs: Pairs, cosines: np.ndarray) -> Nearest:
    """The nearest of those before and of these pairs, whose candidates come later."""
    rows, count = before.numbers.shape
    is_found = before.numbers.ravel() >= 0
    query = np.concatenate([np.repeat(np.arange(rows), count)[is_found], pairs.queries])
    number = np.concatenate([before.numbers.ravel()[is_found], pairs.candidates])
    cosine = np.concatenate([before.cosines.ravel()[is_found], cosines])
    order = np.lexsort((number, -cosine, query))
    query, number, cosine = query[order], number[order], cosine[order]
    rank = _ranks(query)
    is_kept = rank < count
    after = Nearest.none(rows, count)
    after.numbers[query[is_kept], rank[is_kept]] = number[is_kept]
    after.cosines[query[is_kept], rank[is_kept]] = cosine[is_kept]
    return after


def _ranks(ascending: np.ndarray) -> np.ndarray:
    """(P,): how many equal numbers come before each of these ascending ones."""
    return np.arange(len(ascending)) - np.searchsorted(ascending, ascending)
