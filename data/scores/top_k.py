"""The classes with the highest scores. Among equal scores the first class ranks higher, as in
argmax."""

import numpy as np


def best_classes(scores: np.ndarray, k: int) -> np.ndarray:
    """The numbers of the k classes with the highest scores, highest first: (V, C) -> (V, k)
    int64."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def in_top_k(logits: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Whether each video's true class is among its k highest scores, (V,) bool. logits: (V, C);
    labels: (V,) class numbers. Scores are not sorted."""
    true = np.take_along_axis(logits, labels[:, None], axis=1)  # (V, 1)
    earlier = np.arange(logits.shape[1]) < labels[:, None]  # (V, C)
    higher = (logits > true) | ((logits == true) & earlier)
    return higher.sum(axis=1) < k
