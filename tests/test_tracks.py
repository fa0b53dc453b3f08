"""Clips and features of one stream of a video: which clips are computed, and what is stored."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelbank.data.video.sampling import Rows
from reelbank.extract.pipeline.tracks import Track


@settings(max_examples=100, deadline=None)
@given(
    rows=st.integers(1, 12),
    items=st.integers(1, 3),
    frames=st.integers(1, 30),
    is_ascending=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_each_clip_is_computed_once_and_its_features_reach_all_of_its_rows(
    rows, items, frames, is_ascending, seed
):
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, frames, rows)
    views = rng.integers(0, 2, rows).astype(np.uint8)
    if is_ascending:
        starts, views = np.arange(rows) * 2, np.zeros(rows, np.uint8)
        frames = 2 * rows + items
    grid = (starts[:, None] + np.arange(items)) % frames  # looped, as in short videos
    track = Track()
    track.start(Rows(grid, views), fields=False)
    shown, expected = [], np.column_stack([grid[:, 0] + 100 * views, views]).astype(np.float16)
    for number in range(frames):
        clips = track.ready(number)
        assert all(clip.last == number == clip.numbers.max() for clip in clips if items == 1)
        assert all(clip.first == clip.numbers.min() for clip in clips)
        shown += clips
        if clips:
            features = [[clip.numbers[0] + 100 * clip.view, clip.view] for clip in clips]
            track.put([clip.rows for clip in clips], [np.array(features, np.float32)])
    assert len({(clip.numbers[0], clip.view) for clip in shown}) == len(shown)
    assert track.missing == 0
    assert np.array_equal(track.result().values[0], expected)


def test_features_are_rounded_to_float16_as_by_numpy():
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = np.sort(halves[np.isfinite(halves)]).astype(np.float32)
    between = (finite[1:] + finite[:-1]) / 2  # ties, which are rounded to even
    near = np.concatenate([np.nextafter(between, np.float32(sign * np.inf)) for sign in (1, -1)])
    features = np.concatenate([finite, between, near])[None]
    track = Track()
    track.start(Rows(np.zeros((1, 1), np.int64), np.zeros(1, np.uint8)), fields=False)
    track.put([np.array([0])], [features])
    expected = features.astype(np.float16)
    assert np.array_equal(track.result().values[0].view(np.uint16), expected.view(np.uint16))
    assert track.result().largest == [65504.0]


@pytest.mark.parametrize("feature", [np.nan, 65520.0, -np.inf])
def test_features_that_float16_cannot_hold_are_told_by_the_largest(feature):
    track = Track()
    track.start(Rows(np.zeros((1, 1), np.int64), np.zeros(1, np.uint8)), fields=False)
    track.put([np.array([0])], [np.array([[1.0, feature, 2.0]], np.float32)])
    result = track.result()
    assert not np.isfinite(result.values[0]).all()
    np.testing.assert_equal(result.largest, [np.abs(feature)])
