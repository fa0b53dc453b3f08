"""The classes with the highest scores. Among equal scores the first class ranks higher, as in
argmax."""

from collections.abc import Iterator

import numpy as np

# Numbers of one block of rows. Blocks of this size stay in the processor's cache, and their memory
# is reused instead of being returned to the system.
_BLOCK_NUMBERS = 1 << 16
_MOST_PASSES = 8  # k for which k searches of the highest score are faster than sorting all


def best_classes(scores: np.ndarray, k: int) -> np.ndarray:
    """The numbers of the k classes with the highest scores, highest first: (V, C) -> (V, k)
    int64. The scores must be finite."""
    if k > _MOST_PASSES or k >= scores.shape[1]:
        return np.argsort(-scores, axis=1, kind="stable")[:, :k]
    left = scores.astype(scores.dtype if scores.dtype.kind == "f" else np.float64, order="C")
    flat, firsts = left.reshape(-1), np.arange(0, left.size, left.shape[1])
    best = np.empty((len(scores), k), np.int64)
    for place in range(k):
        best[:, place] = left.argmax(axis=1)
        flat[firsts + best[:, place]] = -np.inf  # faster than np.put_along_axis
    return best


def in_top_k(logits: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Whether each video's true class is among its k highest scores, (V,) bool. logits: (V, C);
    labels: (V,) class numbers. Scores are not sorted."""
    return places_of_true(logits, labels) < k


def places_of_true(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The number of classes that rank above each video's true class, (V,) int32. logits: (V, C);
    labels: (V,) class numbers."""
    places = np.empty(len(logits), np.int32)
    for rows in blocks_of_rows(logits):
        block, block_labels = logits[rows], labels[rows, None]
        true = np.take_along_axis(block, block_labels, axis=1)  # (V', 1)
        at_least = _true_in_each_row(block >= true) - 1  # the true class equals itself
        # Where no other class has as high a score, the true class is the first, without a tie.
        others = np.flatnonzero(at_least)
        higher = _true_in_each_row(block[others] > true[others])
        ties = np.flatnonzero(at_least[others] > higher)
        if len(ties):
            tied = others[ties]
            is_earlier = np.arange(block.shape[1]) < block_labels[tied]
            higher[ties] += _true_in_each_row((block[tied] == true[tied]) & is_earlier)
        places[rows] = 0
        places[rows][others] = higher
    return places


def _true_in_each_row(values: np.ndarray) -> np.ndarray:
    """The number of true values of each row, (V', C) bool -> (V',) int32. A matrix product counts in
    half the time of np.count_nonzero; float32 is exact up to 2^24."""
    if values.shape[1] >= 1 << 24:
        return np.count_nonzero(values, axis=1).astype(np.int32)
    return (values.astype(np.float32) @ np.ones(values.shape[1], np.float32)).astype(np.int32)


def blocks_of_rows(matrix: np.ndarray) -> Iterator[slice]:
    """The rows of a matrix (V, C) as slices of a few rows each, so that intermediate results take
    little memory."""
    step = max(1, _BLOCK_NUMBERS // max(1, matrix.shape[1]))
    for first in range(0, len(matrix), step):
        yield slice(first, min(first + step, len(matrix)))
