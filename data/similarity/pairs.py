"""Pairs of similar vectors among many. Each pair is compared once.

Vectors have length 1, so the cosine of two is their product. Products are made in float32, tile by
tile, because those of all pairs would not fit in memory. Those that decide about a pair, or about
the order of the pairs, are made again in float64, so the result does not depend on the tiles.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from reelbank.data.similarity.nearest import Nearest, Pairs, exact_cosines

_TILE = 2048  # vectors that are compared with as many others at once
_IS_LATER = np.tri(_TILE, dtype=bool)  # of a vector and itself or an earlier one in a tile
_ROUNDING = 1e-5  # of a float32 product of two vectors of length 1


@dataclass(frozen=True)
class SimilarPairs:
    """P pairs of vectors. first, second: (P,) int64, numbers of vectors, first < second; cosines:
    (P,) float64."""

    first: np.ndarray
    second: np.ndarray
    cosines: np.ndarray

    def __len__(self) -> int:
        return len(self.cosines)

    def where(self, chosen: np.ndarray) -> "SimilarPairs":
        """The pairs that a mask, or an array of positions, chooses."""
        return SimilarPairs(self.first[chosen], self.second[chosen], self.cosines[chosen])


def pairs_above(vectors: np.ndarray, floor: Callable[[], float]) -> Iterator[SimilarPairs]:
    """All pairs of vectors (V, D) float32 whose cosine is above `floor()`, in pieces. The cosines
    have float32 rounding.

    floor: called for each tile, so that a caller who needs only the most similar pairs can raise it.
    """
    for top in range(0, len(vectors), _TILE):
        rows = vectors[top : top + _TILE]
        for left in range(top, len(vectors), _TILE):
            columns = vectors[left : left + _TILE]
            lowest = floor()
            products = rows @ columns.T
            if left == top:
                products[_IS_LATER[: len(rows), : len(rows)]] = -np.inf
            # Most rows have no similar vector in a tile, and their maximum is found faster than the
            # places of all high products.
            likely = np.flatnonzero(products.max(axis=1) > lowest - _ROUNDING)
            row, column = np.nonzero(products[likely] > lowest - _ROUNDING)
            row = likely[row]
            pairs = SimilarPairs(row + top, column + left, products[row, column].astype(np.float64))
            yield pairs.where(_is_above(vectors, pairs, lowest))


def _is_above(vectors: np.ndarray, pairs: SimilarPairs, lowest: float) -> np.ndarray:
    """(P,) bool: whether the cosine is above `lowest`, with float64 rounding."""
    is_above = pairs.cosines > lowest
    close = np.flatnonzero(np.abs(pairs.cosines - lowest) <= _ROUNDING)
    is_above[close] = _with_exact_cosines(vectors, pairs.where(close)).cosines > lowest
    return is_above


def _with_exact_cosines(vectors: np.ndarray, pairs: SimilarPairs) -> SimilarPairs:
    exact = exact_cosines(vectors, vectors, Pairs(pairs.first, pairs.second))
    return SimilarPairs(pairs.first, pairs.second, exact)


class MostSimilar:
    """The `most` most similar of the pairs that were added. vectors: (V, D) float32, of length 1.

    If the cosines of more than `most` pairs differ by less than float32 rounding, any of them may
    be kept.
    """

    def __init__(self, vectors: np.ndarray, most: int) -> None:
        self.floor = -np.inf  # pairs with a lower cosine are not kept
        self._vectors, self._most = vectors, most
        self._pieces: list[SimilarPairs] = []
        self._count = 0

    def add(self, pairs: SimilarPairs) -> None:
        """Add pairs, whose cosines may have float32 rounding."""
        self._pieces.append(pairs)
        self._count += len(pairs)
        if self._count > 4 * self._most:
            # More than `most`, because the order may change when the cosines are made exact.
            kept = _best(_joined(self._pieces), 2 * self._most)
            self._pieces, self._count = [kept], len(kept)
            self.floor = float(kept.cosines.min())

    def pairs(self) -> SimilarPairs:
        """The most similar first, then by the numbers of the vectors, with exact cosines."""
        kept = _with_exact_cosines(self._vectors, _joined(self._pieces))
        order = np.lexsort((kept.second, kept.first, -kept.cosines))
        return kept.where(order[: self._most])


def _joined(pieces: list[SimilarPairs]) -> SimilarPairs:
    return SimilarPairs(
        np.concatenate([np.empty(0, np.int64), *(piece.first for piece in pieces)]),
        np.concatenate([np.empty(0, np.int64), *(piece.second for piece in pieces)]),
        np.concatenate([np.empty(0), *(piece.cosines for piece in pieces)]),
    )


def _best(pairs: SimilarPairs, count: int) -> SimilarPairs:
    """The `count` pairs with the highest cosines, in any order."""
    return pairs.where(np.argpartition(-pairs.cosines, count)[:count])


def pairs_of_neighbours(found: Nearest, lowest: float) -> SimilarPairs:
    """The pairs of each vector with the nearest ones that were found for it, (V, k), whose cosine is
    above `lowest`; each pair once."""
    row, place = np.nonzero(found.cosines > lowest)
    other = found.numbers[row, place]
    first, second = np.minimum(row, other), np.maximum(row, other)
    _, kept = np.unique(first * len(found.numbers) + second, return_index=True)
    return SimilarPairs(first[kept], second[kept], found.cosines[row[kept], place[kept]])
