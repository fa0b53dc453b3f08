"""Vectors of length 1, of which a product is a cosine."""

from collections.abc import Sequence

import numpy as np

_AT_ONCE = 1 << 16  # vectors


def to_unit_length(vectors: np.ndarray) -> None:
    """Divide each row of (V, D) float32 by its length, in place. A row of zeros stays as it is."""
    for first in range(0, len(vectors), _AT_ONCE):
        rows = vectors[first : first + _AT_ONCE]
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        rows /= np.maximum(lengths, np.finfo(np.float32).tiny)


def centre(vectors: np.ndarray, fitted: Sequence[int] | np.ndarray) -> None:
    """Subtract the mean of the vectors `fitted` from each of (V, D) float32 vectors of length 1, and
    make their length 1 again, in place. What all videos of a data set have in common then no longer
    makes them similar."""
    total = np.zeros(vectors.shape[1])
    numbers = np.asarray(fitted, np.int64)
    for first in range(0, len(numbers), _AT_ONCE):
        total += vectors[numbers[first : first + _AT_ONCE]].sum(axis=0, dtype=np.float64)
    vectors -= (total / max(1, len(numbers))).astype(np.float32)
    to_unit_length(vectors)
