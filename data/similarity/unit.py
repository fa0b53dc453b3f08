"""Vectors of length 1, of which a product is a cosine."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

_AT_ONCE = 1 << 16  # vectors
_BLOCK_FEATURES = 16  # that are normalised at once


def to_unit_length(vectors: np.ndarray) -> None:
    """Divide each row of (V, D) float32 by its length, in place. A row of zeros stays as it is."""
    for first in range(0, len(vectors), _AT_ONCE):
        rows = vectors[first : first + _AT_ONCE]
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        rows /= np.maximum(lengths, np.finfo(np.float32).tiny)


def unit_vectors(means: np.ndarray, fitted: Sequence[int] | np.ndarray) -> np.ndarray:
    """(V, D) float32 -> the same shape, z-normalised with mean and deviation of the rows `fitted`,
    then of length 1 (0 for a row that is the mean)."""
    vectors = np.empty(means.shape, np.float32)
    # A few features at a time, because copies of all would take several times their memory.
    for block in _blocks(means.shape[1]):
        features = means[:, block]  # (V, n)
        of_fitted = np.ascontiguousarray(features[fitted])  # its order decides how numpy sums
        deviation = of_fitted.std(0)
        deviation[deviation == 0] = np.inf  # such a feature distinguishes no videos
        vectors[:, block] = (features - of_fitted.mean(0)) / deviation
    to_unit_length(vectors)
    return vectors


def _blocks(features: int) -> Iterator[slice]:
    """The columns of a matrix as slices of a few. None has one column but that of a matrix with one:
    numpy sums a single column in another order."""
    firsts = list(range(0, max(1, features - 1), _BLOCK_FEATURES))
    for first, last in itertools.pairwise([*firsts, features]):
        yield slice(first, last)
