"""Which clips of a video become rows. Decode processes receive these selections, so this module
imports nothing slow."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from reelbank.data.video import clips

SAMPLINGS = (*clips.SAMPLINGS, "adaptive")


class Rows(NamedTuple):
    """The rows of one video. numbers: of the pictures (or fields) of every row, (R, s) int64.
    views: the view of each row, (R,) uint8; 0 is the clean one."""

    numbers: np.ndarray
    views: np.ndarray


@dataclass(frozen=True)
class Sampling:
    """The clips of pictures, or of flow fields (field k leads from picture k to picture k + 1), of
    one video.

    Streams that are extracted together share one grid of clips of `grid_frames` frames (0: the
    length of the stream's own clip). Each stream takes the middle of a grid clip, so that their
    rows align. Each of `windows` windows of `window_frames` frames has `steps` rows. `starts`:
    frames chosen by adaptive sampling. `views` augmented views of a training video follow its clean
    rows, drawn with `seed` and `video_id`: a random clip of each segment, or sigma over a random
    window. If every clip is taken, a view has the same clips as the clean rows.
    """

    clip_frames: int = 1
    stride_frames: int = 1
    steps: int | None = None  # T; None takes every clip
    sampling: str = "sigma"
    fields: bool = False
    grid_frames: int = 0
    windows: int = 0
    window_frames: int = 0
    starts: tuple[int, ...] = ()
    views: int = 0
    seed: int = 0
    video_id: str = ""

    @property
    def own_frames(self) -> int:
        """Number of pictures that one clip of this stream needs."""
        return self.clip_frames + self.fields

    def rows(self, frames: int) -> Rows:
        """The rows of a video with this number of frames."""
        spans = [(0, frames)]
        if self.windows:
            spans = [
                (int(first), int(count))
                for first, count in clips.windows(frames, self.window_frames, self.windows)
            ]
        grids = []
        for view in range(self.views + 1):
            for number, (first, count) in enumerate(spans):
                grids.append(first + self._starts(count, view, number))
        starts = np.concatenate(grids)  # (R,)
        views = np.repeat(
            np.arange(self.views + 1, dtype=np.uint8),
            [len(starts) // (self.views + 1)] * (self.views + 1),
        )
        middle = ((self.grid_frames or self.own_frames) - self.own_frames) // 2
        numbers = (starts + middle)[:, None] + np.arange(self.clip_frames, dtype=np.int64)  # (R, s)
        # A video shorter than a clip is looped.
        return Rows(numbers % max(1, frames - self.fields), views)

    def _starts(self, frames: int, view: int, span: int) -> np.ndarray:
        """First frame of each clip of the grid in one span of frames, (T,) int64."""
        grid = clips.clip_starts(
            frames, self.grid_frames or self.own_frames, self.stride_frames
        )  # (K,)
        if self.starts:
            return np.minimum(np.array(self.starts, np.int64), grid[-1])
        if self.sampling == "adaptive":
            raise ValueError(
                "the lengths of its optical flow are not known; see the store of the stream "
                "magnitude"
            )
        if self.steps is None:
            return grid
        if view == 0:
            return grid[clips.SAMPLINGS[self.sampling](len(grid), self.steps)]
        span_id = f"{self.video_id}\0{span}" if span else self.video_id
        rng = clips.view_rng(self.seed, span_id, view)
        if self.sampling == "segments":
            return grid[clips.jittered_segments(len(grid), self.steps, rng)]
        window = clips.random_window(len(grid), rng)
        return grid[window.first + clips.sigma(window.length, self.steps)]

    def needed(self, frames: int) -> np.ndarray:
        """Numbers of the pictures that all rows need together, ascending, each once."""
        numbers = np.unique(self.rows(frames).numbers)
        return np.union1d(numbers, np.minimum(numbers + 1, frames - 1)) if self.fields else numbers


@dataclass(frozen=True)
class Followed(Sampling):
    """Every picture, so that points can be tracked. `most` of the trajectories become rows, drawn
    with `seed`."""

    most: int = 0


@dataclass(frozen=True)
class Needed:
    """The pictures that several streams need together, ascending, each once. The selection that a
    decode process receives."""

    samplings: tuple[Sampling, ...]

    def __call__(self, frames: int) -> np.ndarray:
        return np.unique(np.concatenate([sampling.needed(frames) for sampling in self.samplings]))


@dataclass(frozen=True)
class SoundWindows:
    """The examples into which a sound track is cut: `window_samples` every `hop_samples`, mono, at
    `rate_hz`. The usual values are those of VGGish: 0.975 s every 0.96 s.

    least_samples: of the last example, if it may be shorter than a window, because the network pads
    it itself; 0 if every example is a whole window.
    """

    rate_hz: int = 16_000
    window_samples: int = 15_600  # 96 windows of 25 ms every 10 ms
    hop_samples: int = 15_360
    least_samples: int = 0

    def count(self, samples: int) -> int:
        """The number of examples of a track with this number of samples."""
        if self.least_samples == 0:
            if samples < self.window_samples:
                return 0
            return 1 + (samples - self.window_samples) // self.hop_samples
        if samples < self.least_samples:
            return 0
        # A last example that is less than half a window is left out, unless it is the only one.
        return max(1, 1 + (samples - self.window_samples // 2) // self.hop_samples)

    def length(self, number: int, samples: int) -> int:
        """The number of samples of an example."""
        return min(self.window_samples, samples - number * self.hop_samples)


USUAL_WINDOWS = SoundWindows()


@dataclass(frozen=True)
class Examples:
    """Which examples of a sound track become rows: all, or `steps` (T) of them, chosen by sigma, if
    there are more. sound_windows: how the track is cut into examples."""

    steps: int | None = None
    sound_windows: SoundWindows = USUAL_WINDOWS

    def __call__(self, examples: int) -> np.ndarray:
        if self.steps is None or examples <= self.steps:
            return np.arange(examples, dtype=np.int64)
        return clips.sigma(examples, self.steps)
