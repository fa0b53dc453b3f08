"""The grid of clips that the streams of an extraction share."""

import dataclasses
from collections.abc import Sequence

from reelbank.data.errors import InputError
from reelbank.data.ranges import MOST_ROWS
from reelbank.data.video.sampling import Sampling
from reelbank.data.video.timeline import Ticks
from reelbank.extract.lengths import Length, read_length, seconds_text, whole_ticks
from reelbank.extract.options import ExtractOptions

_ROUNDING = 1e-6  # of a product of a rate and a time


def common_grid(options: ExtractOptions, usual_stride: int, clips: Sequence[Length]) -> Sampling:
    """The clips of pictures of a stream whose clips have a single one.

    usual_stride: if STRIDE is empty; clips: the lengths of the clips of all streams of pictures.
    Raises InputError for lengths that cannot be combined.
    """
    stride = read_length("STRIDE", options.stride, MOST_ROWS)
    grid = read_length("GRID", options.grid, 10_000)
    ticks = None
    if options.is_timed:
        ticks = Ticks(fps=options.fps or 0.0)
    if ticks and ticks.fps:
        clips = [_in_ticks(clip, ticks.fps) for clip in clips]
        grid, stride = _in_ticks(grid, ticks.fps), _stride_in_ticks(stride, ticks.fps)
    longest = max((clip.frames for clip in clips), default=0) or 1
    longest_seconds = max((clip.seconds for clip in clips), default=0.0)
    if longest > 1 and (longest_seconds or grid.seconds):
        seconds = seconds_text(longest_seconds or grid.seconds)
        raise InputError(
            f"clips of {seconds} cannot be combined with clips of {longest} frames, because the "
            "frame rate of each video decides which are longer; give FPS, or give CLIP and GRID in "
            "seconds for all streams"
        )
    if grid.frames and longest_seconds:
        raise InputError(
            f"GRID={options.grid}: the clips are given in seconds; give GRID in seconds too, or give "
            "FPS"
        )
    if options.window and clips and options.window < max(longest, grid.frames):
        raise InputError(
            f"WINDOW={options.window}: must be at least the length of the longest clip, "
            f"{max(longest, grid.frames)} frames"
        )
    is_short = grid.frames and grid.frames < longest
    if is_short or (grid.seconds and grid.seconds < longest_seconds):
        shown = seconds_text(longest_seconds) if longest_seconds else f"{longest} frames"
        raise InputError(
            f"GRID={options.grid}: must be at least the length of the longest clip, {shown}"
        )
    if ticks:
        ticks = dataclasses.replace(
            ticks,
            stride_seconds=stride.seconds,
            grid_seconds=max(grid.seconds, longest_seconds),
        )
    return Sampling(
        stride_frames=0 if stride.seconds else stride.frames or usual_stride,
        steps=options.t or None,
        sampling=options.sampling,
        grid_frames=grid.frames or longest,
        ticks=ticks,
    )


def with_clip(ticks: Ticks | None, clip_seconds: float) -> Ticks | None:
    """For a stream with clips of this length."""
    return dataclasses.replace(ticks, clip_seconds=clip_seconds) if ticks else None


def _in_ticks(length: Length, fps: float) -> Length:
    return Length(whole_ticks(length.seconds, fps)) if length.seconds else length


def _stride_in_ticks(stride: Length, fps: float) -> Length:
    """In ticks if it is a whole number of them, so that the same clips always have one recipe."""
    exact = stride.seconds * fps
    if not stride.seconds:
        return stride
    if exact < 1 - _ROUNDING:
        raise InputError(
            f"STRIDE={seconds_text(stride.seconds)}: must be at least the time from one frame to the "
            f"next with FPS={fps:g}, {1 / fps:.3g} s"
        )
    is_whole = abs(exact - round(exact)) <= _ROUNDING
    return Length(round(exact)) if is_whole else stride
