"""One stream of one video on its way through: which clips still wait for pictures, and the features that came back."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from reelbank.data import clips
from reelbank.data.sampling import Sampling


@dataclass(frozen=True)
class Result:
    """values: per node (K, ...) of the extraction's type, or uint8 for pixels; times_seconds (K,); views (K,) uint8, 0 for
    clean rows; largest: per node the largest absolute feature. Where there are no features, `reason` says why."""

    values: list[np.ndarray]
    times_seconds: np.ndarray
    views: np.ndarray
    largest: list[float]
    reason: str = ""


@dataclass(frozen=True)
class Clip:
    numbers: np.ndarray  # (s,) of pictures, or flow fields
    rows: np.ndarray  # the rows that this clip fills: K < T repeats clips, computed once
    view: int


@dataclass
class Track:
    """`missing` counts clips whose features have not come back; `dtype` is what these are kept as."""

    dtype: np.dtype = np.dtype(np.float16)
    waiting: deque[Clip] = field(default_factory=deque)
    missing: int = 0
    reason: str = ""
    grid: np.ndarray = field(default_factory=lambda: np.empty((0, 1), np.int64))  # (K, s)
    views: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint8))  # (K,)
    seconds: list[float] | np.ndarray = field(default_factory=list)  # (K,)
    pictures: tuple = ()  # which of the video's pictures it looks at
    values: list[np.ndarray] = field(default_factory=list)  # per node (K, ...)
    appended: list[list[np.ndarray]] = field(default_factory=list)  # the same row by row, where their number is not known yet
    fields: bool = False
    largest: list[float] = field(default_factory=list)

    def start(self, grid: np.ndarray, views: np.ndarray, fields: bool) -> None:
        """The rows are known: grid (K, s), views (K,)."""
        self.grid, self.views, self.fields = grid, views, fields
        marked = np.column_stack([grid.min(1), views, grid[:, 0]])  # in order of what they wait for
        distinct, first, inverse = np.unique(marked, axis=0, return_index=True, return_inverse=True)
        inverse = inverse.ravel()
        order = np.argsort(inverse, kind="stable")
        bounds = np.searchsorted(inverse[order], np.arange(len(distinct) + 1))
        for i, at in enumerate(first.tolist()):
            self.waiting.append(Clip(grid[at], order[bounds[i] : bounds[i + 1]], int(views[at])))
        self.missing = len(self.waiting)

    def append(self, time_seconds: float) -> np.ndarray:
        """One more row, of which nothing was known before; returns its number as `rows`."""
        assert isinstance(self.seconds, list)
        self.seconds.append(time_seconds)
        self.missing += 1
        return np.array([len(self.seconds) - 1])

    def put(self, rows: np.ndarray, arrays: list[np.ndarray]) -> None:
        """One clip's features, (...) per node."""
        if self.reason:  # it has failed meanwhile: nobody waits for them
            return
        self.missing -= 1
        self.largest = self.largest or [0.0] * len(arrays)
        for node, array in enumerate(arrays):
            if array.dtype != np.uint8:
                self.largest[node] = float(np.maximum(self.largest[node], np.abs(array).max()))  # NaN stays
        with np.errstate(over="ignore"):
            arrays = [array if array.dtype == np.uint8 else array.astype(self.dtype) for array in arrays]
        if not len(self.grid):
            self.appended.append(arrays)
            return
        if not self.values:
            self.values = [np.empty((len(self.grid), *array.shape), array.dtype) for array in arrays]
        for value, array in zip(self.values, arrays, strict=True):
            value[rows] = array

    def times(self, seconds: Mapping[int, float]) -> None:
        """Centres of the clips, from the times of all pictures by number."""
        last = max(seconds)
        ends = np.column_stack([self.grid[:, 0], np.minimum(self.grid[:, -1] + self.fields, last)])
        self.seconds = clips.clip_times(np.vectorize(seconds.__getitem__, otypes=[float])(ends))

    def fill(self, rows: np.ndarray, seconds: np.ndarray) -> None:
        """All rows at once, (K, D), and their times (K,), where nothing was known of them before."""
        self.seconds, self.views = seconds, np.zeros(len(rows), np.uint8)
        self.largest = [float(np.abs(rows).max())]
        with np.errstate(over="ignore"):
            self.values = [rows.astype(self.dtype)]

    def fail(self, reason: str) -> None:
        """No features of this stream; those on their way are not waited for."""
        self.reason, self.missing = reason, 0
        self.waiting.clear()

    def result(self) -> Result:
        if self.reason:
            return Result([], np.empty(0), np.empty(0, np.uint8), [], self.reason)
        if self.appended:
            self.values = [np.stack(node) for node in zip(*self.appended, strict=True)]
            self.views = np.zeros(len(self.appended), np.uint8)
        return Result(self.values, np.asarray(self.seconds, np.float64), self.views, self.largest)


def place_of_view(sampling: Sampling, view: int) -> tuple[float, float, bool]:
    """Where a view's crop lies, (down, right) in [0, 1), and whether it is mirrored: one place for the whole video."""
    rng = clips.view_rng(sampling.seed, f"{sampling.video_id}\0crop", view)
    down, right = rng.random(2).tolist()
    return down, right, bool(rng.random() < 0.5)
