"""Computes which frames belong to which clip, from frame counts; no video is read.

All indices in this module are 0-based (the papers count from 1). A clip is `clip_frames` (s)
consecutive frames, clips begin every `stride_frames` (r) frames; an image network sees clips of one
frame.
"""

import hashlib
import math
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from reelbank.data.errors import InputError

# Tolerance for products of rates and times.
ROUNDING_TICKS = 1e-6


def _check_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise InputError(f"{name} must be at least 1 (got {value})")


def clip_count(frames: int, clip_frames: int = 1, stride_frames: int = 1) -> int:
    """K_v = floor((l_v - s) / r) + 1, never less than 1 (Res-LSTM paper, 3.1: floor(l_v / r) - 1,
    the same when s = 2r)."""
    _check_positive(frames=frames, clip_frames=clip_frames, stride_frames=stride_frames)
    return max(1, (frames - clip_frames) // stride_frames + 1)


def clip_starts(frames: int, clip_frames: int = 1, stride_frames: int = 1) -> np.ndarray:
    """First frame of each clip of the whole grid, (K,) int64."""
    return np.arange(clip_count(frames, clip_frames, stride_frames), dtype=np.int64) * stride_frames


def spaced_starts(ticks: int, clip_ticks: int, stride_ticks: float) -> np.ndarray:
    """Where each clip of a grid begins whose stride need not be a whole number of ticks: clip k after
    exactly k strides. (K,) float64, K at least 1; for a whole number, `clip_starts`."""
    _check_positive(ticks=ticks, clip_ticks=clip_ticks)
    count = math.floor(max(0, ticks - clip_ticks) / stride_ticks + ROUNDING_TICKS) + 1
    return np.arange(count) * stride_ticks


def sigma(clips: int, steps: int) -> np.ndarray:
    """sigma(t) = 1 + floor((t - 1)(K_v - 1) / (T - 1)) (Res-LSTM paper, 3.1), 0-based here: (T,)
    int64 in [0, K).

    T = 1 takes the middle clip; K < T repeats clips by the same formula. Integer arithmetic: no
    rounding of halves.
    """
    _check_positive(clips=clips, T=steps)
    if steps == 1:
        return np.array([(clips - 1) // 2], dtype=np.int64)
    return np.arange(steps, dtype=np.int64) * (clips - 1) // (steps - 1)


def segments(clips: int, steps: int, position: int = 0, positions: int = 1) -> np.ndarray:
    """One clip of each of T equal segments: floor((t + (p + 1/2) / P) K / T), (T,) int64 in [0, K).

    With one position this is the centre of each segment, as TSN samples at test time. Position p of
    P is the clip at fraction (p + 1/2) / P of each segment (Relational LSTM paper, 5.2: four groups
    from four positions with equal spacing).
    """
    _check_positive(clips=clips, T=steps, positions=positions)
    return (
        (2 * positions * np.arange(steps, dtype=np.int64) + 2 * position + 1)
        * clips
        // (2 * positions * steps)
    )


SAMPLINGS = {"sigma": sigma, "segments": segments}


def clip_grid(
    frames: int,
    clip_frames: int = 1,
    stride_frames: int = 1,
    steps: int | None = None,
    sampling: str = "sigma",
) -> np.ndarray:
    """Frame numbers of every clip to extract, (K, s) int64, or (T, s) when `steps` (T) is given.

    A video shorter than one clip is looped: frame i of the clip is frame i mod l_v of the video.
    """
    starts = clip_starts(frames, clip_frames, stride_frames)  # (K,)
    if steps is not None:
        starts = starts[SAMPLINGS[sampling](len(starts), steps)]  # (T,)
    return (starts[:, None] + np.arange(clip_frames, dtype=np.int64)) % frames  # (K, s)


def clip_times(frame_times_seconds: np.ndarray) -> np.ndarray:
    """Centre of each clip: the mean of its first and last frame's time. (K, s) float64 -> (K,)
    float64, seconds."""
    return (frame_times_seconds[:, 0] + frame_times_seconds[:, -1]) / 2


def jittered_segments(clips: int, steps: int, rng: np.random.Generator) -> np.ndarray:
    """A random clip of each of T equal segments, as TSN samples in training: floor((t + u) K / T)
    with u in [0, 1) drawn separately for each t (`segments` uses u = 1/2). (T,) int64 in [0, K),
    ascending. Every clip has the same probability, also if K < T and clips repeat."""
    _check_positive(clips=clips, T=steps)
    # In units of 1/T clip, so that all arithmetic is on integers.
    offsets = np.arange(steps, dtype=np.int64) * clips + rng.integers(clips, size=steps)
    return offsets // steps


class Window(NamedTuple):
    """`length` consecutive clips from clip `first`."""

    first: int
    length: int


def random_window(clips: int, rng: np.random.Generator) -> Window:
    """A window of l_t <= l_v clips (Res-LSTM paper, 3.1). The paper gives no lower limit; here the
    window contains at least half of the clips, rounded up."""
    _check_positive(clips=clips)
    length = int(rng.integers((clips + 1) // 2, clips + 1))
    return Window(int(rng.integers(clips - length + 1)), length)


def windows(frames: int, window_frames: int, count: int) -> np.ndarray:
    """First frame and length of `count` windows, (count, 2) int64. Their beginnings are spread by
    sigma over the positions at which a window can begin (Charades: 10 windows of 256 frames). For a
    video that is shorter than a window, each window is the whole video, so that every video has the
    same number of rows."""
    _check_positive(frames=frames, window_frames=window_frames)
    length = min(window_frames, frames)
    return np.stack(
        [sigma(frames - length + 1, count), np.full(count, length, dtype=np.int64)], axis=1
    )


def sliding_windows(rows: int, window_rows: int, stride_rows: int, most: int = 0) -> np.ndarray:
    """Rows of windows that begin every `stride_rows` rows, (windows, window_rows) int64 (MRRN
    paper, 4.2: windows of 30 frames every 8 frames, at most 20 per video). A video with fewer rows
    than a window is looped. If there are more than `most` windows, `most` of them are taken, spread
    by sigma; 0 means no limit."""
    starts = clip_starts(rows, window_rows, stride_rows)
    if most and len(starts) > most:
        starts = starts[sigma(len(starts), most)]
    return (starts[:, None] + np.arange(window_rows, dtype=np.int64)) % rows


def view_rng(seed: int, video_id: str, view: int) -> np.random.Generator:
    """The random generator of one augmented view of one video. It is seeded with a SHA-256 of seed,
    video and view, so it does not depend on the machine or on the order of the videos."""
    digest = hashlib.sha256(f"{seed}\0{view}\0{video_id}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))


def adaptive_starts(
    magnitude_px: np.ndarray,
    fps: float,
    *,
    most_steps: int = 180,
    most_seconds: float = 36.0,
    every: int = 5,
    stretch_seconds: float = 1.0,
) -> np.ndarray:
    """Adaptive sampling (multi-stream paper, IV.F): more frames where there is more motion. (T,) int64 frame
    numbers, ascending, distinct.

    magnitude_px: (F - 1,) mean flow length between frames k and k + 1. The first 36 s have n
    frames, of which T = min(180, ceil(n / 5)) are taken. The number of frames from each second is
    proportional to its mean magnitude (a shorter last second is weighted by its length), rounded by
    largest remainder, and limited to the frames that it has. Within a second they are spread
    evenly. Without any motion they are spread evenly over the whole video. A magnitude that is not
    finite counts as 0, an unknown frame rate (0, NaN) as 25.
    """
    _check_positive(most_steps=most_steps, every=every)
    if not (most_seconds > 0 and stretch_seconds > 0):
        raise InputError(
            f"most_seconds and stretch_seconds must be above 0 (got {most_seconds} and "
            f"{stretch_seconds})"
        )
    fps = fps if 0 < fps < math.inf else 25.0
    frames = min(len(magnitude_px) + 1, math.ceil(fps * most_seconds))
    steps = min(most_steps, -(-frames // every))
    # The last frame has no successor; it gets the magnitude of the frame before it.
    moving = np.append(magnitude_px, magnitude_px[-1:])[:frames].astype(np.float64)
    moving = np.where(np.isfinite(moving), moving, 0.0).clip(0)
    if not moving.any():
        return segments(frames, steps)
    stretch = np.floor(np.arange(frames) / (fps * stretch_seconds))
    # First frame of each stretch. A stretch that is shorter than a frame contains none and is
    # skipped.
    firsts = np.flatnonzero(np.diff(stretch, prepend=-1.0))
    bounds = [*firsts.tolist(), frames]
    moving /= moving.max()  # so that the sums of huge numbers stay finite
    weights = [math.fsum(moving[first:end]) for first, end in pairwise(bounds)]
    counts = _allot(steps, weights, [end - first for first, end in pairwise(bounds)])
    chosen = []
    for (first, end), count in zip(pairwise(bounds), counts, strict=True):
        if count:
            chosen.append(first + segments(end - first, count))
    return np.concatenate(chosen)


def _allot(total: int, weights: list[float], most: list[int]) -> list[int]:
    """Divide `total` into integer shares proportional to `weights`, each at most its `most`; a
    surplus is divided among the others in the same proportion. Shares are rounded by largest
    remainder, in exact fractions; of equal remainders the earlier one gets more. A weight of 0 gets
    a share only when all others have reached their `most`."""
    shares = [0] * len(weights)
    exact = [Fraction(weight) for weight in weights]
    while total:
        left = [i for i in range(len(exact)) if shares[i] < most[i] and exact[i] > 0]
        if (
            not left
        ):  # every weight above 0 has reached its limit: weight the others by their limits
            exact = [Fraction(limit) for limit in most]
            continue
        weight = sum(exact[i] for i in left)
        exact_shares = {i: total * exact[i] / weight for i in left}
        full = [i for i in left if exact_shares[i] > most[i]]
        if not full:
            for i in left:
                shares[i] = math.floor(exact_shares[i])
            over = total - sum(shares[i] for i in left)
            for i in sorted(left, key=lambda i: shares[i] - exact_shares[i])[:over]:
                shares[i] += 1
            break
        for i in full:
            shares[i] = most[i]
        total -= sum(most[i] for i in full)
    return shares
