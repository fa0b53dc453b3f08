"""Equal steps of time (ticks) in a video, and the picture that is on screen at each of them. Decode
processes use this module, so it imports nothing slow."""

import math
from dataclasses import dataclass

import numpy as np

UNKNOWN_FPS = 25.0  # FFmpeg assumes the same for a stream without a container
# Matroska and FLV round time stamps to milliseconds, so a frame may seem to come this much after
# its tick.
_ROUNDING_SECONDS = 1.5e-3
# A file of a few bytes can claim that one of its frames is shown for a year.
_MOST_TICKS = 10_000_000


class TooManyTicks(ValueError):
    """A video's times are too far apart."""


class FrameCount(int):
    """The number of a video's frames, for selections that choose by number, with their times for
    those that choose by time.

    seconds: (frames,) float64, ascending, on the file's clock. end_seconds: when the last one
    ends.
    """

    seconds: np.ndarray
    end_seconds: float

    def __new__(cls, seconds: np.ndarray, end_seconds: float) -> "FrameCount":
        count = super().__new__(cls, len(seconds))
        count.seconds, count.end_seconds = seconds, end_seconds
        return count

    def __reduce__(self) -> "tuple[type[FrameCount], tuple[np.ndarray, float]]":
        return FrameCount, (self.seconds, self.end_seconds)

    @classmethod
    def steady(cls, frames: int, fps: float, first_seconds: float = 0.0) -> "FrameCount":
        """For a constant frame rate."""
        seconds = first_seconds + np.arange(frames) / fps
        return cls(seconds, first_seconds + frames / fps)


@dataclass(frozen=True)
class Ticks:
    """Clips that are measured in time.

    fps: ticks per second; 0 for each video's own average frame rate. stride_seconds: from the
    beginning of a clip to that of the next one; 0 if it is given in ticks. clip_seconds,
    grid_seconds: length of a stream's clip, over which its pictures are spread evenly, and of the
    longest clip of all streams; 0 if they are given in ticks.
    """

    fps: float = 0.0
    stride_seconds: float = 0.0
    clip_seconds: float = 0.0
    grid_seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class Timeline:
    """The ticks of one video. pictures: number of the frame on screen at each tick, (ticks,) int64,
    ascending."""

    first_seconds: float
    fps: float
    pictures: np.ndarray

    @property
    def ticks(self) -> int:
        return len(self.pictures)

    def seconds(self, ticks: np.ndarray) -> np.ndarray:
        """Times of ticks, of any shape, or between two of them; float64."""
        return self.first_seconds + ticks / self.fps

    def in_ticks(self, seconds: float) -> int:
        """The number of ticks of a span of time, at least 1."""
        return max(1, math.floor(seconds * self.fps + 0.5))


def timeline(frames: FrameCount, fps: float = 0.0) -> Timeline:
    """The ticks of a video: tick j is at the time of the first frame + j / fps, from the first frame
    until the last one ends. fps: 0 for the average rate of the frames.

    At a constant frame rate and with this rate as `fps`, tick j is frame j. Raises TooManyTicks.
    """
    seconds = frames.seconds
    first, last = float(seconds[0]), float(seconds[-1])
    if not fps:
        shown = frames.end_seconds - first  # a single frame is one tick
        fps = (len(seconds) - 1) / (last - first) if last > first else 1 / shown
    rounding = min(_ROUNDING_SECONDS, 0.25 / fps)
    count = (frames.end_seconds - first - rounding) * fps
    if not count <= _MOST_TICKS:
        raise TooManyTicks(
            f"its {frames.end_seconds - first:,.0f} s would be more than {_MOST_TICKS:,} frames of "
            f"a timeline of {fps:g} frames per second"
        )
    ticks = np.arange(max(1, math.ceil(count)))
    after = np.searchsorted(seconds, first + ticks / fps + rounding, "right")
    return Timeline(first, fps, after - 1)
