"""Which clips of a video become rows: the selections that decode processes are sent, so importing them is cheap."""

from dataclasses import dataclass

import numpy as np

from reelbank.data import clips

SAMPLINGS = (*clips.SAMPLINGS, "adaptive")


@dataclass(frozen=True)
class Sampling:
    """Clips of pictures, or of flow fields (field k leads from picture k to picture k + 1), of one video.

    Streams extracted together share one grid of clips, `grid_frames` long (0: as long as the own clip): each takes the
    middle of it, so that their rows align. `windows` windows of `window_frames` frames have `steps` rows each. `starts`: the
    frames that adaptive sampling chose. `views` augmented views of a training video follow its clean rows, drawn from `seed`
    and `video_id`: a random clip of each segment, sigma over a random window, or, where every clip is taken, the same ones.
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
        """Pictures that one clip needs."""
        return self.clip_frames + self.fields

    def rows(self, frames: int) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the pictures (or fields) of every row, (R, s) int64, and the row's view, (R,) uint8: 0 is clean."""
        spans = [(0, frames)]
        if self.windows:
            spans = [(int(first), int(count)) for first, count in clips.windows(frames, self.window_frames, self.windows)]
        views_and_spans = [(view, number) for view in range(self.views + 1) for number in range(len(spans))]
        grids = [self._starts(spans[number][1], view, number) + spans[number][0] for view, number in views_and_spans]
        starts = np.concatenate(grids)  # (R,)
        views = np.repeat(np.arange(self.views + 1, dtype=np.uint8), [len(starts) // (self.views + 1)] * (self.views + 1))
        middle = ((self.grid_frames or self.own_frames) - self.own_frames) // 2
        numbers = (starts + middle)[:, None] + np.arange(self.clip_frames, dtype=np.int64)  # (R, s)
        return numbers % max(1, frames - self.fields), views  # a video shorter than a clip is looped

    def _starts(self, frames: int, view: int, window: int) -> np.ndarray:
        """First frame of each clip of the grid in one span of frames, (T,) int64."""
        grid = clips.clip_starts(frames, self.grid_frames or self.own_frames, self.stride_frames)  # (K,)
        if self.starts:
            return np.minimum(np.array(self.starts, np.int64), grid[-1])
        if self.sampling == "adaptive":
            raise ValueError("its flow's lengths are not known; see the store of the stream magnitude")
        if self.steps is None:
            return grid
        if view == 0:
            return grid[clips.SAMPLINGS[self.sampling](len(grid), self.steps)]
        rng = clips.view_rng(self.seed, f"{self.video_id}\0{window}" if window else self.video_id, view)
        if self.sampling == "segments":
            return grid[clips.jittered_segments(len(grid), self.steps, rng)]
        first, count = clips.random_window(len(grid), rng)
        return grid[first + clips.sigma(count, self.steps)]

    def needed(self, frames: int) -> np.ndarray:
        """The pictures' numbers that all rows need, ascending, each once."""
        numbers = np.unique(self.rows(frames)[0])
        return np.union1d(numbers, np.minimum(numbers + 1, frames - 1)) if self.fields else numbers


@dataclass(frozen=True)
class Followed(Sampling):
    """Every picture, for points that are followed through them: `most` of the trajectories become rows, drawn from `seed`."""

    most: int = 0


@dataclass(frozen=True)
class Needed:
    """The pictures that several streams need together: what a decode process is asked for. All distinct, ascending."""

    samplings: tuple[Sampling, ...]

    def __call__(self, frames: int) -> np.ndarray:
        return np.unique(np.concatenate([sampling.needed(frames) for sampling in self.samplings]))


@dataclass(frozen=True)
class Examples:
    """Which examples of a sound track become rows: all, or T of them by sigma where there are more."""

    steps: int | None = None

    def __call__(self, examples: int) -> np.ndarray:
        if self.steps is None or examples <= self.steps:
            return np.arange(examples, dtype=np.int64)
        return clips.sigma(examples, self.steps)
