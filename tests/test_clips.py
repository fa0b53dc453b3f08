"""Clip arithmetic compared with values by hand, and its properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelbank.data.errors import InputError
from reelbank.data.video.clips import (
    adaptive_starts,
    clip_count,
    clip_grid,
    clip_starts,
    clip_times,
    jittered_segments,
    random_window,
    segments,
    sigma,
    view_rng,
    windows,
)


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


@given(
    frames=st.integers(1, 500),
    clip=st.integers(1, 40),
    stride=st.integers(1, 20),
    steps=st.none() | st.integers(1, 40),
)
def test_grid_stays_inside_the_video_and_clips_are_consecutive(frames, clip, stride, steps):
    grid = clip_grid(frames, clip, stride, steps)
    assert grid.shape == (steps or clip_count(frames, clip, stride), clip)
    assert grid.min() >= 0 and grid.max() < frames
    assert ((np.diff(grid, axis=1) == 1) | (np.diff(grid, axis=1) == 1 - frames)).all()


def test_short_video_is_looped():
    assert clip_grid(3, 8, 4).tolist() == [[0, 1, 2, 0, 1, 2, 0, 1]]


def test_clip_times_are_centres():
    assert clip_times(np.array([[0.0, 0.1, 0.2], [0.4, 0.5, 0.8]])).tolist() == pytest.approx(
        [0.1, 0.6]
    )


@pytest.mark.parametrize(
    "values", [{"frames": 0}, {"frames": 5, "clip_frames": 0}, {"frames": 5, "stride_frames": 0}]
)
def test_nonsense_is_refused_by_name(values):
    with pytest.raises(InputError, match="must be at least 1"):
        clip_count(**values)


def rates(*per_second: float, fps: int = 10) -> np.ndarray:
    """(F - 1,) magnitudes: each second of `fps` frames moves evenly."""
    return np.repeat(np.array(per_second), fps)[:-1]


def test_adaptive_steps_follow_the_motion_by_hand():
    # 4 s at 10 Hz: T = ceil(40 / 5) = 8; speeds 1 : 2 : 0 : 1 give 2, 4, 0, 2 steps, each the
    # centre of its share of the second
    starts = adaptive_starts(rates(1, 2, 0, 1), fps=10)
    assert starts.dtype == np.int64
    assert starts.tolist() == [2, 7, 11, 13, 16, 18, 32, 37]


def test_adaptive_rounding_is_by_largest_remainder_and_ties_go_to_the_earlier():
    # 3 s at 5 Hz, T = 3: shares 3 * (2, 3, 3) / 8 = .75 1.125 1.125: floors 0 1 1, the one over to
    # .75
    assert adaptive_starts(rates(2, 3, 3, fps=5), fps=5).tolist() == [2, 7, 12]
    # T = 4 of 4 s: shares 4 * (3, 3, 1, 1) / 8 = 1.5 1.5 .5 .5: floors 1 1 0 0, and the two over go
    # to the first two
    assert adaptive_starts(rates(3, 3, 1, 1, fps=5), fps=5).tolist() == [1, 3, 6, 8]


def test_a_second_never_gives_more_than_its_frames():
    # T = 20: shares 20 * (8, 1, 1) / 10 = 16 2 2, but a second has 10 frames: the other ten steps
    # go 5 and 5
    starts = adaptive_starts(rates(8, 1, 1, fps=10), fps=10, every=1, most_steps=20)
    assert starts.tolist() == [*range(10), 11, 13, 15, 17, 19, 21, 23, 25, 27, 29]
    # all motion in one second of 4: it is taken whole, what is left falls evenly on the still rest
    still_rest = adaptive_starts(rates(0, 7, 0, 0, fps=4), fps=4, every=1, most_steps=7)
    assert still_rest.tolist() == [2, 4, 5, 6, 7, 10, 14]


def test_adaptive_limits_of_the_paper():
    moving = np.random.default_rng(0).gamma(1, 2, 3000)
    starts = adaptive_starts(moving, fps=25)
    assert len(starts) == 180 and starts.max() < 36 * 25  # one in five of the first 36 s at 25 Hz
    assert (
        starts.tolist() == adaptive_starts(moving[:899], fps=25).tolist()
    )  # what comes later does not matter
    assert (
        starts.tolist()
        == adaptive_starts(moving, fps=0).tolist()
        == adaptive_starts(moving, fps=float("nan")).tolist()
    )
    assert len(adaptive_starts(moving, fps=60)) == 180  # 2160 frames would give 432
    assert len(adaptive_starts(moving[:123], fps=25)) == 25  # ceil(124 / 5)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, -1.0])
def test_a_still_video_is_sampled_evenly(value):
    assert adaptive_starts(np.full(19, value), fps=10).tolist() == [2, 7, 12, 17]


def test_one_frame_and_two():
    assert adaptive_starts(np.zeros(0), fps=25).tolist() == [0]
    assert adaptive_starts(np.ones(1), fps=25, every=1).tolist() == [0, 1]


def test_adaptive_refuses_nonsense():
    with pytest.raises(InputError, match="every must be at least 1"):
        adaptive_starts(np.ones(3), fps=25, every=0)
    with pytest.raises(InputError, match="stretch_seconds must be above 0"):
        adaptive_starts(np.ones(3), fps=25, stretch_seconds=0.0)


MAGNITUDES = st.lists(
    st.floats(0, 1e300) | st.sampled_from([0.0, np.nan, np.inf, 5e-324, 1.0]), max_size=120
)


@given(
    magnitude=MAGNITUDES,
    fps=st.floats(0.2, 60),
    most=st.integers(1, 40),
    seconds=st.floats(0.1, 20),
    every=st.integers(1, 7),
    stretch=st.floats(0.05, 5),
)
def test_adaptive_properties(magnitude, fps, most, seconds, every, stretch):
    values = np.array(magnitude)
    limits = {
        "most_steps": most,
        "most_seconds": seconds,
        "every": every,
        "stretch_seconds": stretch,
    }
    starts = adaptive_starts(values, fps, **limits)
    frames = min(len(magnitude) + 1, int(np.ceil(seconds * fps)))
    assert len(starts) == min(most, -(-frames // every))
    assert (np.diff(starts) > 0).all()
    assert starts[0] >= 0 and starts[-1] < frames
    assert starts.tolist() == adaptive_starts(values.copy(), fps, **limits).tolist()


@given(speeds=st.lists(st.floats(0.5, 2), min_size=2, max_size=20))
def test_adaptive_counts_are_within_one_of_the_proportion(speeds):
    # 20 frames a second and one step in five: the fastest share is at most 4 * 4 < 20 steps, so
    # that no second is full
    starts = adaptive_starts(rates(*speeds, fps=20), fps=20)
    counts = np.bincount(starts // 20, minlength=len(speeds))
    shares = len(starts) * np.array(speeds) / sum(speeds)
    assert (np.abs(counts - shares) < 1 + 1e-9).all()


@given(clips=st.integers(1, 300), steps=st.integers(1, 60), seed=st.integers(0, 9))
def test_jitter_stays_in_its_segment(clips, steps, seed):
    found = jittered_segments(clips, steps, np.random.default_rng(seed))
    assert found.shape == (steps,) and found.dtype == np.int64
    # clip c covers [c, c + 1), segment t covers [t K / T, (t + 1) K / T): they overlap
    t = np.arange(steps)
    assert ((found + 1) * steps > t * clips).all() and (found * steps < (t + 1) * clips).all()
    assert found.max() < clips and (np.diff(found) >= 0).all()


def test_jitter_takes_every_clip_equally_often():
    rng = np.random.default_rng(0)
    drawn = np.concatenate([jittered_segments(10, 4, rng) for _ in range(5000)])
    assert np.bincount(drawn, minlength=10) / 5000 == pytest.approx(np.full(10, 0.4), abs=0.03)
    assert set(jittered_segments(12, 3, rng) // 4) == {
        0,
        1,
        2,
    }  # whole segments of four: one of each


@given(clips=st.integers(1, 300), seed=st.integers(0, 99))
def test_random_window_is_half_of_the_clips_or_more(clips, seed):
    first, count = random_window(clips, np.random.default_rng(seed))
    assert first >= 0 and first + count <= clips and 2 * count >= clips


def test_random_windows_vary_in_both_ends():
    rng = np.random.default_rng(1)
    drawn = {random_window(5, rng) for _ in range(500)}
    assert drawn == {(first, count) for count in (3, 4, 5) for first in range(5 - count + 1)}


def test_windows_by_hand():
    # 10 windows of 256 of 760 frames: first frames floor(t * 504 / 9) = 56 t
    assert windows(760, 256, 10).tolist() == [[56 * t, 256] for t in range(10)]
    assert windows(100, 256, 3).tolist() == [[0, 100]] * 3  # shorter: all of it, as often
    assert windows(300, 256, 1).tolist() == [[22, 256]]  # the middle
    assert windows(256, 256, 2).dtype == np.int64


def test_views_are_the_same_anywhere():
    # pinned: a store's views must not change with the machine, the order or the next version
    assert view_rng(0, "YoYo/v_YoYo_g01_c01", 1).integers(1000, size=4).tolist() == [
        308,
        545,
        768,
        249,
    ]
    assert view_rng(0, "a", 1).random() == view_rng(0, "a", 1).random()
    keys = [(0, "a", 1), (0, "a", 2), (1, "a", 1), (0, "a1", 1), (0, "1a", 1), (0, "a", 11)]
    assert len({view_rng(*key).random() for key in keys}) == len(keys)
