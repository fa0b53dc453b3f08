"""Metrics compared with values by hand, scikit-learn and scipy."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score

from reelbank.data.errors import InputError
from reelbank.data.scores.table import Scores
from reelbank.fusion.metrics import (
    accuracy,
    category_accuracies,
    class_accuracies,
    confusion,
    hits,
    mean_and_deviation,
    mean_share,
    share,
)

# true:      a          b          a          c          ?          b
# predicted: a          a          c          c          b          b
LOGITS = [[3, 1, 0], [2, 1, 0], [1, 0, 2], [0, 1, 5], [0, 9, 0], [0, 4, 3]]
TABLE = Scores(tuple("uvwxyz"), [0, 1, 0, 2, -1, 1], ("a", "b", "c"), LOGITS)


def test_accuracies_by_hand() -> None:
    assert accuracy(TABLE).value == 3 / 5
    assert accuracy(TABLE).videos == 5
    assert hits(TABLE, 2).tolist() == [True, True, True, True, True]
    assert hits(TABLE, 1).tolist() == [True, False, False, True, True]
    assert accuracy(TABLE, 3).value == accuracy(TABLE, 5).value == 1.0
    assert confusion(TABLE).tolist() == [[1, 0, 1], [1, 1, 0], [0, 0, 1]]
    assert class_accuracies(confusion(TABLE)).tolist() == [0.5, 0.5, 1.0]


def test_a_class_without_videos_has_no_accuracy() -> None:
    assert np.isnan(class_accuracies(np.array([[2, 0], [0, 0]]))).tolist() == [False, True]


def test_categories_need_the_fine_class_right() -> None:
    """u (a) right, v (b as a) wrong although a is of the same category, w (a) wrong, z (b) right; y
    has no label."""
    found = category_accuracies(
        TABLE, {"ab": ["a", "b"], "c and unseen": ["c", "d"], "none": ["e"]}
    )
    assert {name: (right.value, right.videos) for name, right in found.items()} == {
        "ab": (0.5, 4),
        "c and unseen": (1.0, 1),
    }


def test_ties_do_not_count_as_hits() -> None:
    """A model that gives every class the same score is at chance, not at 100 %: the first class
    wins, as in argmax."""
    table = Scores(tuple("abcd"), [0, 1, 2, 3], tuple("wxyz"), np.zeros((4, 4)))
    assert [accuracy(table, k).value for k in (1, 2, 3)] == [0.25, 0.5, 0.75]


def test_no_label_at_all_is_refused() -> None:
    with pytest.raises(InputError, match="the scores of 1 video have no label"):
        accuracy(Scores(("a",), [-1], ("x", "y"), [[0, 1]]))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 12))
def test_against_scikit_learn(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    labels, logits = (
        rng.integers(classes, size=50),
        rng.normal(size=(50, classes)).astype(np.float32),
    )
    table = Scores(tuple(map(str, range(50))), labels, tuple(map(str, range(classes))), logits)
    for k in (1, 2):
        assert accuracy(table, k).value == pytest.approx(
            top_k_accuracy_score(labels, logits, k=k, labels=range(classes))
        )
    balanced = balanced_accuracy_score(labels, logits.argmax(1))
    assert np.nanmean(class_accuracies(confusion(table))) == pytest.approx(balanced)


@pytest.mark.parametrize(
    ("right", "videos"), [(0, 1), (1, 1), (0, 70), (70, 70), (55, 70), (3541, 3734)]
)
def test_intervals_are_wilsons(right: int, videos: int) -> None:
    expected = binomtest(right, videos).proportion_ci(0.95, method="wilson")
    found = share(right / videos, videos)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_no_video_has_no_interval() -> None:
    with pytest.raises(InputError, match="at least one video"):
        share(0.5, 0)


def test_mean_and_deviation_over_runs() -> None:
    assert mean_and_deviation([0.5, 0.7, 0.6]) == pytest.approx((0.6, 0.1))
    mean, deviation = mean_and_deviation([0.5])
    assert mean == 0.5
    assert math.isnan(deviation)


def test_runs_on_the_same_videos_do_not_narrow_the_interval() -> None:
    assert mean_share([0.5, 0.7, 0.6], 100) == share(0.6, 100)
