"""Clip arithmetic against hand-computed values, and its properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelbank.data.clips import clip_count, clip_grid, clip_starts, clip_times, segments, sigma
from reelbank.data.errors import InputError


@pytest.mark.parametrize(
    ("frames", "clip_frames", "stride_frames", "clips"),
    [
        (164, 16, 8, 19),  # floor((164 - 16) / 8) + 1 = 18 + 1; the paper's floor(164 / 8) - 1 = 19
        (16, 16, 8, 1),
        (24, 16, 8, 2),
        (23, 16, 8, 1),
        (5, 16, 8, 1),  # shorter than a clip: looped
        (100, 1, 1, 100),
        (100, 1, 10, 10),  # every tenth frame: 0, 10 ... 90
        (101, 1, 10, 11),
        (30, 30, 8, 1),
        (60, 30, 8, 4),  # 0, 8, 16, 24
    ],
)
def test_clip_count(frames, clip_frames, stride_frames, clips):
    assert clip_count(frames, clip_frames, stride_frames) == clips
    assert len(clip_starts(frames, clip_frames, stride_frames)) == clips


@given(frames=st.integers(16, 10_000), half=st.integers(1, 64))
def test_clip_count_is_the_papers_when_clips_are_two_strides_long(frames, half):
    if frames >= 2 * half:
        assert clip_count(frames, 2 * half, half) == frames // half - 1


@pytest.mark.parametrize(
    ("clips", "steps", "one_based"),
    [
        (19, 5, [1, 5, 10, 14, 19]),  # 1 + floor((t - 1) 18 / 4): 0, 4.5, 9, 13.5, 18
        (10, 4, [1, 4, 7, 10]),
        (3, 7, [1, 1, 1, 2, 2, 2, 3]),  # K < T repeats: 1 + floor((t - 1) 2 / 6)
        (1, 4, [1, 1, 1, 1]),
        (25, 25, list(range(1, 26))),
        (9, 1, [5]),  # T = 1: the middle clip
        (10, 1, [5]),
    ],
)
def test_sigma_by_hand(clips, steps, one_based):
    assert (sigma(clips, steps) + 1).tolist() == one_based


@given(clips=st.integers(1, 10_000), steps=st.integers(2, 400))
def test_sigma_properties(clips, steps):
    found = sigma(clips, steps)
    assert found[0] == 0 and found[-1] == clips - 1
    assert (np.diff(found) >= 0).all()
    # the paper's real-valued formula, in exact integers
    assert found.tolist() == [t * (clips - 1) // (steps - 1) for t in range(steps)]


def test_segments_by_hand():
    assert segments(12, 3).tolist() == [2, 6, 10]  # segments of 4: centres
    assert segments(10, 3).tolist() == [1, 5, 8]  # floor(10/6), floor(30/6), floor(50/6)
    assert segments(2, 4).tolist() == [0, 0, 1, 1]


@given(frames=st.integers(1, 500), clip=st.integers(1, 40), stride=st.integers(1, 20), steps=st.none() | st.integers(1, 40))
def test_grid_stays_inside_the_video_and_clips_are_consecutive(frames, clip, stride, steps):
    grid = clip_grid(frames, clip, stride, steps)
    assert grid.shape == (steps or clip_count(frames, clip, stride), clip)
    assert grid.min() >= 0 and grid.max() < frames
    assert ((np.diff(grid, axis=1) == 1) | (np.diff(grid, axis=1) == 1 - frames)).all()


def test_short_video_is_looped():
    assert clip_grid(3, 8, 4).tolist() == [[0, 1, 2, 0, 1, 2, 0, 1]]


def test_clip_times_are_centres():
    assert clip_times(np.array([[0.0, 0.1, 0.2], [0.4, 0.5, 0.8]])).tolist() == pytest.approx([0.1, 0.6])


@pytest.mark.parametrize("values", [{"frames": 0}, {"frames": 5, "clip_frames": 0}, {"frames": 5, "stride_frames": 0}])
def test_nonsense_is_refused_by_name(values):
    with pytest.raises(InputError, match="must be at least 1"):
        clip_count(**values)
