"""The classes with the highest scores, and whether the true class is among them."""

import numpy as np

from reelbank.data.scores.top_k import best_classes, in_top_k


def test_of_equal_scores_the_first_class_is_the_higher_one() -> None:
    scores = np.array([[0.0, 2, 2, 1], [5, 5, 5, 5]])
    np.testing.assert_array_equal(best_classes(scores, 3), [[1, 2, 3], [0, 1, 2]])


def test_both_agree_on_every_class_and_k() -> None:
    rng = np.random.default_rng(0)
    logits = rng.integers(4, size=(60, 7)).astype(np.float32)  # with many ties
    labels = rng.integers(7, size=60)
    for k in range(1, 9):
        listed = (best_classes(logits, k) == labels[:, None]).any(axis=1)
        np.testing.assert_array_equal(in_top_k(logits, labels, k), listed)
