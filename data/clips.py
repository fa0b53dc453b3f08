"""Which frames make which clip: pure arithmetic on frame counts, no video in sight.

All indices here are 0-based (the papers count from 1). A clip is `clip_frames` (s) consecutive frames, clips begin every
`stride_frames` (r) frames; an image network sees clips of one frame.
"""

from dataclasses import dataclass

import numpy as np

from reelbank.data.errors import InputError


def _check_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise InputError(f"{name} must be at least 1, not {value}")


def clip_count(frames: int, clip_frames: int = 1, stride_frames: int = 1) -> int:
    """K_v = floor((l_v - s) / r) + 1, never less than 1 (Res-LSTM paper, 3.1: floor(l_v / r) - 1, the same when s = 2r)."""
    _check_positive(frames=frames, clip_frames=clip_frames, stride_frames=stride_frames)
    return max(1, (frames - clip_frames) // stride_frames + 1)


def clip_starts(frames: int, clip_frames: int = 1, stride_frames: int = 1) -> np.ndarray:
    """First frame of each clip of the whole grid, (K,) int64."""
    return np.arange(clip_count(frames, clip_frames, stride_frames), dtype=np.int64) * stride_frames


def sigma(clips: int, steps: int) -> np.ndarray:
    """sigma(t) = 1 + floor((t - 1)(K_v - 1) / (T - 1)) (Res-LSTM paper, 3.1), 0-based here: (T,) int64 in [0, K).

    T = 1 takes the middle clip; K < T repeats clips by the same formula. Integer arithmetic: no rounding of halves.
    """
    _check_positive(clips=clips, T=steps)
    if steps == 1:
        return np.array([(clips - 1) // 2], dtype=np.int64)
    return np.arange(steps, dtype=np.int64) * (clips - 1) // (steps - 1)


def segments(clips: int, steps: int) -> np.ndarray:
    """Centre clip of each of T equal segments, as TSN samples at test time: floor((t + 1/2) K / T), (T,) int64 in [0, K)."""
    _check_positive(clips=clips, T=steps)
    return (2 * np.arange(steps, dtype=np.int64) + 1) * clips // (2 * steps)


SAMPLINGS = {"sigma": sigma, "segments": segments}


def clip_grid(
    frames: int, clip_frames: int = 1, stride_frames: int = 1, steps: int | None = None, sampling: str = "sigma"
) -> np.ndarray:
    """Frame numbers of every clip to extract, (K, s) int64, or (T, s) when `steps` (T) is given.

    A video shorter than one clip is looped: frame i of the clip is frame i mod l_v of the video.
    """
    starts = clip_starts(frames, clip_frames, stride_frames)  # (K,)
    if steps is not None:
        starts = starts[SAMPLINGS[sampling](len(starts), steps)]  # (T,)
    return (starts[:, None] + np.arange(clip_frames, dtype=np.int64)) % frames  # (K, s)


@dataclass(frozen=True)
class Sampling:
    """Which clips of a video become rows. Calling it with the frame count is the selection that decode processes are sent,
    so it lives here, where importing it is cheap."""

    clip_frames: int = 1
    stride_frames: int = 1
    steps: int | None = None  # T; None takes every clip
    sampling: str = "sigma"

    def __call__(self, frames: int) -> np.ndarray:
        """Frame numbers of the clips, (K, s) int64."""
        return clip_grid(frames, self.clip_frames, self.stride_frames, self.steps, self.sampling)


def clip_times(frame_times_seconds: np.ndarray) -> np.ndarray:
    """Centre of each clip: the mean of its first and last frame's time. (K, s) float64 -> (K,) float64, seconds."""
    return (frame_times_seconds[:, 0] + frame_times_seconds[:, -1]) / 2
