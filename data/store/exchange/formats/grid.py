"""The grid of frames on which the rows of a store lie, for tools that compute times from a stride."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.store.reader import Store

# How far a row may be from the grid: Matroska rounds times to milliseconds, and frame rates vary a
# little. A tenth of this would refuse many real videos.
_MOST_SECONDS, _MOST_STEPS = 1.5e-3, 0.05
_USUAL_FPS = 30  # of a grid of equal times, if the frame rates of the videos differ
_ROUNDING_FRAMES = 0.05


@dataclass(frozen=True)
class RowGrid:
    """Row i of video v is centred at (i * stride_frames + offset_frames) / fps[v] seconds.

    fps: (V,) of the grid, which need not be that of the file. equal_fps: whether it is the same for
    all videos.
    """

    stride_frames: float
    offset_frames: float
    fps: np.ndarray

    @property
    def equal_fps(self) -> bool:
        return len(set(self.fps.tolist())) == 1

    def times_seconds(self, number: int, rows: int) -> np.ndarray:
        """(rows,) the centres of the rows of video `number`."""
        return (np.arange(rows) * self.stride_frames + self.offset_frames) / self.fps[number]

    def __str__(self) -> str:
        rate = f"{self.fps[0]:g} fps" if self.equal_fps else "the frame rate of each video"
        return (
            f"stride {self.stride_frames:g} frames, offset {self.offset_frames:g} frames (num_frames "
            f"{2 * self.offset_frames:g}), {rate}"
        )


def row_grid(store: Store, rates: Sequence[float]) -> RowGrid:
    """The grid on which the clean rows of all videos lie. rates: (V,) frames per second of the files,
    0.0 if unknown. Raises InputError for a store whose rows are not on one."""
    times = [seconds.copy() for seconds in store.times_of(store.video_ids)]
    firsts = np.array([seconds[0] for seconds in times])  # (V,)
    spans = [(seconds[-1] - seconds[0]) / max(1, len(seconds) - 1) for seconds in times]
    is_long = np.array([len(seconds) > 1 for seconds in times])
    steps = np.array(spans)[is_long]
    if not len(steps) or steps.min() <= 0:
        raise InputError(
            f"{store.path}: the format needs the time between two rows, but no video has several rows "
            "at ascending times; extract with T=0, which takes all clips"
        )
    fps, stride = _rates(steps, np.array(rates), is_long)
    offset = _tidy(float(np.median(firsts * fps)), 0.5)
    grid = RowGrid(stride, offset, fps)
    for number, seconds in enumerate(times):
        expected = grid.times_seconds(number, len(seconds))
        most = max(_MOST_SECONDS, _MOST_STEPS * stride / fps[number])
        wrong = np.flatnonzero(np.abs(seconds - expected) > most)
        if len(wrong):
            row = int(wrong[0])
            raise InputError(
                f"{store.path}: the rows must be at equal steps from the beginning of the video, the "
                f"same in all videos, but row {row} of {store.video_ids[number]} is at "
                f"{seconds[row]:.3f} s instead of {expected[row]:.3f} s; extract with T=0 and a fixed "
                "STRIDE, for videos of several or variable frame rates also with FPS"
            )
    return grid


def _rates(steps: np.ndarray, rates: np.ndarray, is_long: np.ndarray) -> tuple[np.ndarray, float]:
    """Frames per second of the grid of each video (V,), and its stride in frames. steps: seconds
    between the rows of each video with several."""
    strides = steps * rates[is_long]
    has_equal_steps = np.ptp(steps) <= _MOST_STEPS * np.median(steps)
    stride = _tidy(float(np.median(strides)), 1.0)
    has_stride = bool((rates > 0).all()) and np.ptp(strides) <= _MOST_STEPS * stride
    if has_stride and (stride.is_integer() or not has_equal_steps):
        return rates, stride
    step = float(np.median(steps))
    stride = float(max(1, round(step * _USUAL_FPS)))
    return np.full(len(rates), round(stride / step, 6)), stride


def _tidy(value: float, unit: float) -> float:
    """The nearest multiple of `unit`, unless the difference is more than rounding."""
    nearest = round(value / unit) * unit
    return nearest if abs(value - nearest) <= _ROUNDING_FRAMES * max(1.0, unit) else value
