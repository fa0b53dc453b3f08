"""Which clips of a video become rows. Decode processes receive these selections, so this module
imports nothing slow."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from reelbank.data.ranges import LEAST_GRID_TICKS
from reelbank.data.video import clips
from reelbank.data.video.timeline import (
    UNKNOWN_FPS,
    FrameCount,
    Ticks,
    Timeline,
    check_ticks,
    timeline,
)

SAMPLINGS = (*clips.SAMPLINGS, "adaptive")


class Rows(NamedTuple):
    """The rows of one video. numbers: of the pictures (or fields) of every row, (R, s) int64.
    views: the view of each row, (R,) uint8; 0 is the clean one.

    For clips that are measured in time: seconds: the centre of each row's clip on the common grid,
    (R,) float64. pictures: for fields, the pictures between which they lie, (fields + 1,) int64:
    field k leads from pictures[k] to pictures[k + 1]. Otherwise None: the time of a row follows from
    those of its pictures, and field k leads from picture k to picture k + 1.
    """

    numbers: np.ndarray
    views: np.ndarray
    seconds: np.ndarray | None = None
    pictures: np.ndarray | None = None


class _Lengths(NamedTuple):
    """Lengths of one video's clips, in frames or ticks. own: of this stream's clip; grid: of the
    clips of the common grid; stride: between their beginnings; offsets: of the pictures (or fields)
    of a clip from its beginning, (s,) int64."""

    own: int
    grid: int
    stride: float
    offsets: np.ndarray


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

    `ticks`: clips are measured in time. Everything above then counts ticks instead of frames.
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
    ticks: Ticks | None = None

    @property
    def own_frames(self) -> int:
        """Number of pictures that one clip of this stream needs."""
        return self.clip_frames + self.fields

    def rows(self, frames: int) -> Rows:
        """The rows of a video with this number of frames. With `ticks`, it must be a FrameCount,
        and TooManyTicks is raised for a video that is too long."""
        if self.ticks is None:
            lengths = self._lengths()
            starts, views, _ = self._starts(frames, lengths)
            return Rows(self._numbers(frames, starts, lengths), views)
        assert isinstance(frames, FrameCount)
        line = timeline(frames, self.ticks.fps)
        lengths = self._lengths(line)
        starts, views, span_ticks = self._starts(line.ticks, lengths)
        # The same for all streams, also for those whose clips have no picture in the very middle.
        seconds = line.seconds(starts + (min(lengths.grid, span_ticks) - 1) / 2)
        numbers = self._numbers(line.ticks, starts, lengths)
        if self.fields:
            # A single picture is paired with itself.
            pictures = line.pictures if line.ticks > 1 else line.pictures.repeat(2)
            return Rows(numbers, views, seconds, pictures)
        return Rows(line.pictures[numbers], views, seconds)

    def _lengths(self, line: Timeline | None = None) -> _Lengths:
        """line: for clips that are measured in time."""
        own, grid = self.own_frames, self.grid_frames or self.own_frames
        stride: float = self.stride_frames
        offsets = np.arange(self.clip_frames, dtype=np.int64)
        ticks = self.ticks
        if line is not None and ticks is not None:
            if ticks.clip_seconds:
                own = max(1 + self.fields, line.in_ticks(ticks.clip_seconds))
                offsets = clips.segments(own - self.fields, self.clip_frames)
            if ticks.grid_seconds:
                grid = max(LEAST_GRID_TICKS, line.in_ticks(ticks.grid_seconds))
            grid = max(own, grid)
            if ticks.stride_seconds:
                stride = ticks.stride_seconds * line.fps
        return _Lengths(own, grid, stride, offsets)

    def _numbers(self, frames: int, starts: np.ndarray, lengths: _Lengths) -> np.ndarray:
        """Numbers of the pictures, or fields, of clips of the grid that begin at `starts` (R,), or
        at the last tick before."""
        if starts.dtype != np.int64:
            starts = np.floor(starts + clips.ROUNDING_TICKS).astype(np.int64)
        middle = max(0, lengths.grid - lengths.own) // 2
        numbers = (starts + middle)[:, None] + lengths.offsets  # (R, s)
        # A video shorter than a clip is looped.
        return numbers % max(1, frames - self.fields)

    def _starts(self, frames: int, lengths: _Lengths) -> tuple[np.ndarray, np.ndarray, int]:
        """Beginning and view of the clips of all rows, (R,), and the length of a window, or of the
        video. The beginnings are float64 if the stride is not a whole number, otherwise int64."""
        spans = [(0, frames)]
        if self.windows:
            spans = [
                (int(first), int(count))
                for first, count in clips.windows(frames, self.window_frames, self.windows)
            ]
        grids = []
        for view in range(self.views + 1):
            for number, (first, count) in enumerate(spans):
                grids.append(first + self._starts_of_span(count, view, number, lengths))
        starts = np.concatenate(grids)  # (R,)
        views = np.repeat(
            np.arange(self.views + 1, dtype=np.uint8),
            [len(starts) // (self.views + 1)] * (self.views + 1),
        )
        return starts, views, spans[0][1]

    def _starts_of_span(self, frames: int, view: int, span: int, lengths: _Lengths) -> np.ndarray:
        """Beginning of each clip of the grid in one span of frames, (T,)."""
        if isinstance(lengths.stride, int):
            grid = clips.clip_starts(frames, lengths.grid, lengths.stride)  # (K,)
        else:
            grid = clips.spaced_starts(frames, lengths.grid, lengths.stride)  # (K,)
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
        rows = Rows(*self.rows(frames))  # the class of a user may give a plain tuple
        numbers = np.unique(rows.numbers)
        if not self.fields:
            return numbers
        if rows.pictures is not None:
            return np.unique(rows.pictures[np.union1d(numbers, numbers + 1)])
        return np.union1d(numbers, np.minimum(numbers + 1, frames - 1))


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
        """frames: a FrameCount if clips are measured in time."""
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
    sound_windows: SoundWindows = field(default=USUAL_WINDOWS, kw_only=True)

    def __call__(self, examples: int) -> np.ndarray:
        if self.steps is None or examples <= self.steps:
            return np.arange(examples, dtype=np.int64)
        return clips.sigma(examples, self.steps)


@dataclass(frozen=True)
class TimedExamples(Examples):
    """Examples of a sound track whose centres are those of the clips of a grid that is measured in
    time. grid: for pictures; `steps` is its own."""

    grid: Sampling = Sampling(ticks=Ticks())

    @property
    def windows(self) -> int:
        return self.grid.windows

    def centres(
        self, frames: FrameCount | None, begin_seconds: float, end_seconds: float
    ) -> np.ndarray:
        """Their times on the file's clock, (R,) float64. frames: the pictures of the file; None if
        it has none: then the grid is laid over the sound, from begin_seconds to end_seconds. Raises
        TooManyTicks."""
        if frames is None:
            assert self.grid.ticks is not None
            fps = self.grid.ticks.fps or UNKNOWN_FPS
            check_ticks(end_seconds - begin_seconds, fps)
            count = max(1, math.floor((end_seconds - begin_seconds) * fps))
            frames = FrameCount.steady(count, fps, begin_seconds)
        seconds = self.grid.rows(frames).seconds
        assert seconds is not None
        return seconds
