"""The state of one stream of one video: clips that wait for pictures, and features that are
computed."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from reelbank.data.video import clips
from reelbank.data.video.sampling import Rows, Sampling
from reelbank.extract.pipeline.boxes import Box, boxes


@dataclass(frozen=True)
class Result:
    """The features of one stream of a video, or the reason why there are none.

    values: per node (K, ...) of the extraction's type, or uint8 for pixels
    times_seconds: (K,), the centres of the clips
    views: (K,) uint8, 0 for clean rows
    largest: per node, the largest absolute feature
    reason: "" if there are features
    by_machine: the machine caused the failure, not the file
    """

    values: list[np.ndarray]
    times_seconds: np.ndarray
    views: np.ndarray
    largest: list[float]
    reason: str = ""
    by_machine: bool = False


class Clip(NamedTuple):  # a video has many of them, and a tuple is made quickly
    numbers: np.ndarray  # (s,) of pictures, or flow fields
    first: int  # of the numbers, the lowest one
    last: int  # the highest one
    rows: np.ndarray  # rows with this clip: short videos repeat clips, which are computed once
    view: int


@dataclass
class Track:
    """Clips and features of one stream of a video. dtype: of the stored features; missing: number
    of clips whose features are not computed yet."""

    dtype: np.dtype = np.dtype(np.float16)
    waiting: deque[Clip] = field(default_factory=deque)
    missing: int = 0
    reason: str = ""
    by_machine: bool = False
    grid: np.ndarray = field(default_factory=lambda: np.empty((0, 1), np.int64))  # (K, s)
    views: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint8))  # (K,)
    seconds: list[float] | np.ndarray = field(default_factory=list)  # (K,)
    values: list[np.ndarray] = field(default_factory=list)  # per node (K, ...)
    # Features of further rows, (n, ...) per node: used while the number of rows is unknown.
    appended: list[list[np.ndarray]] = field(default_factory=list)
    fields: bool = False
    on_timeline: np.ndarray | None = None  # (K,) seconds, for clips that are measured in time
    largest: list[float] = field(default_factory=list)

    def start(self, rows_of_video: Rows, *, fields: bool) -> None:
        """Set the rows. fields: whether they are made of flow fields."""
        grid, views = rows_of_video.numbers, rows_of_video.views  # (K, s), (K,)
        self.grid, self.views, self.fields = grid, views, fields
        self.on_timeline = rows_of_video.seconds
        # Equal clips are computed once. Sorted by their first picture, the clips become complete in
        # the order of the queue.
        lowest, highest = grid.min(1), grid.max(1)
        if (lowest[1:] > lowest[:-1]).all():  # already distinct and sorted
            chosen, rows = np.arange(len(grid)), list(np.arange(len(grid))[:, None])
        else:
            # On a timeline, clips that begin with the same picture may go on with others.
            begins = grid[:, 0] if self.on_timeline is None else grid
            marked = np.column_stack([lowest, views, begins])
            _, chosen, inverse = np.unique(marked, axis=0, return_index=True, return_inverse=True)
            inverse = inverse.ravel()
            order = np.argsort(inverse, kind="stable")
            rows = np.split(order, np.searchsorted(inverse[order], np.arange(1, len(chosen))))
        of_clips = (lowest[chosen].tolist(), highest[chosen].tolist(), rows, views[chosen].tolist())
        self.waiting.extend(map(Clip, grid[chosen], *of_clips))
        self.missing = len(self.waiting)

    def ready(self, last_number: int) -> list[Clip]:
        """Remove the clips that need no picture (or field) after this one, and return them."""
        clips_ready: list[Clip] = []
        while self.waiting and self.waiting[0].last <= last_number:
            clips_ready.append(self.waiting.popleft())
        return clips_ready

    def append(self, times_seconds: Sequence[float]) -> list[np.ndarray]:
        """Add rows to a stream whose number of rows is unknown. Returns their numbers, as `rows` of
        `put`."""
        assert isinstance(self.seconds, list)
        first = len(self.seconds)
        self.seconds += times_seconds
        self.missing += len(times_seconds)
        return list(np.arange(first, len(self.seconds))[:, None])

    def put(self, rows: Sequence[np.ndarray], arrays: list[np.ndarray]) -> None:
        """Store the features of n clips, (n, ...) per node. rows: of each clip."""
        if self.reason:  # the stream failed while the clips were computed
            return
        self.missing -= len(rows)
        self.largest = self.largest or [0.0] * len(arrays)
        for node, array in enumerate(arrays):
            if array.dtype != np.uint8:
                largest = max(array.max(), -array.min())  # NaN if there is one
                # np.maximum, unlike max, keeps NaN.
                self.largest[node] = float(np.maximum(self.largest[node], largest))
        arrays = [
            array if array.dtype == np.uint8 else _rounded(array, self.dtype) for array in arrays
        ]
        if not len(self.grid):
            self.appended.append(arrays)
            return
        if not self.values:
            self.values = [
                np.empty((len(self.grid), *array.shape[1:]), array.dtype) for array in arrays
            ]
        places = np.concatenate(rows)
        if len(places) > len(rows):  # some clips have several rows
            clip_of_place = np.repeat(np.arange(len(rows)), [len(of_clip) for of_clip in rows])
            arrays = [array[clip_of_place] for array in arrays]
        for value, array in zip(self.values, arrays, strict=True):
            value[places] = array

    def times(self, seconds: Mapping[int, float]) -> None:
        """Set the times of the rows, from the times of all pictures by number, or of a timeline."""
        if self.on_timeline is not None:
            self.seconds = self.on_timeline
            return
        last = max(seconds)
        ends = np.column_stack([self.grid[:, 0], np.minimum(self.grid[:, -1] + self.fields, last)])
        of_ends = np.array([seconds[number] for number in ends.ravel().tolist()], np.float64)
        self.seconds = clips.clip_times(of_ends.reshape(ends.shape))

    def fill(self, rows: np.ndarray, seconds: np.ndarray) -> None:
        """Set all rows (K, D) and their times (K,) at once."""
        self.seconds, self.views = seconds, np.zeros(len(rows), np.uint8)
        self.largest = [float(np.abs(rows).max())]
        with np.errstate(over="ignore"):
            self.values = [rows.astype(self.dtype)]

    def fail(self, reason: str, *, by_machine: bool = False) -> None:
        """Give up this stream, and ignore features that are still being computed."""
        self.reason, self.by_machine, self.missing = reason, by_machine, 0
        self.waiting.clear()

    def result(self) -> Result:
        """The features; to be called when none are missing."""
        if self.reason:
            return Result(
                values=[],
                times_seconds=np.empty(0),
                views=np.empty(0, np.uint8),
                largest=[],
                reason=self.reason,
                by_machine=self.by_machine,
            )
        if self.appended:
            self.values = [np.concatenate(node) for node in zip(*self.appended, strict=True)]
            self.views = np.zeros(len(self.seconds), np.uint8)
        return Result(self.values, np.asarray(self.seconds, np.float64), self.views, self.largest)


def _rounded(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The array as `dtype`; what is too large becomes infinite."""
    if array.dtype == np.float32 and dtype == np.float16:
        return torch.from_numpy(array).half().numpy()  # the bits of numpy, in a tenth of its time
    with np.errstate(over="ignore"):
        return array.astype(dtype)


def place_of_view(sampling: Sampling, view: int, crop: int = 0) -> tuple[float, float, bool]:
    """The position of a view's crop, (down, right) in [0, 1), and whether it is mirrored. All clips
    of a video have the same one. crop: number of the crop, where a view has several."""
    rng = _crop_rng(sampling, view, crop)
    down, right = rng.random(2).tolist()
    return down, right, bool(rng.random() < 0.5)


def box_of_view(
    sampling: Sampling,
    view: int,
    crop: int,
    *,
    picture_px: tuple[int, int],
    crop_px: tuple[int, int],
) -> Box:
    """The box of a view's crop with JITTER: one of TSN's sizes and places, mirrored or not. All
    clips of a video have the same one; crop: as in `place_of_view`."""
    rng = _crop_rng(sampling, view, crop)
    (box,) = boxes(rng, 1, picture_px, crop_px, jitter=True, flip=True)
    return box


def _crop_rng(sampling: Sampling, view: int, crop: int) -> np.random.Generator:
    name = f"crop{crop}" if crop else "crop"
    return clips.view_rng(sampling.seed, f"{sampling.video_id}\0{name}", view)
