"""Compute the rows of the stream idt from a video's pictures: a random choice of its
trajectories."""

import numpy as np

from reelbank.data.video.opencv import cv2
from reelbank.extract.trajectories.idt import SIZE, Trajectories


class Reservoir:
    """Reservoir sampling: keeps `most` of all rows with equal probability, namely those with the
    smallest random keys.

    The key of the n-th row depends only on the seed and on n, so the rows of a video depend neither
    on its name nor on the other videos of the extraction. Memory holds at most twice `most` rows,
    plus those of one call.
    """

    def __init__(self, most: int, seed: int) -> None:
        self.most, self._keys_of = most, np.random.default_rng(seed)
        self._keys = np.empty(0)
        self._rows = np.empty((0, 0), np.float32)
        self._numbers = np.empty(0, np.int64)
        self._new: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # keys, rows, numbers
        self._held = 0

    def add(self, rows: np.ndarray, number: int) -> None:
        """Add rows (n, D) float32 that all have this number. Numbers must not decrease."""
        keys = self._keys_of.random(len(rows))
        self._new.append((keys, rows, np.full(len(rows), number, np.int64)))
        self._held += len(rows)
        if self._held > 2 * self.most:
            self._choose()

    def kept(self) -> tuple[np.ndarray, np.ndarray]:
        """The kept rows, (K, D) float32 in the order in which they were added, and their numbers,
        (K,) int64."""
        self._choose()
        return self._rows, self._numbers

    def _choose(self) -> None:
        if not self._new:
            return
        kept = [(self._keys, self._rows, self._numbers)] if len(self._keys) else []
        keys, rows, numbers = (
            np.concatenate(arrays) for arrays in zip(*kept, *self._new, strict=True)
        )
        if len(keys) > self.most:
            chosen = np.sort(np.argpartition(keys, self.most)[: self.most])
            keys, rows, numbers = keys[chosen], rows[chosen], numbers[chosen]
        self._keys, self._rows, self._numbers = keys, rows, numbers
        self._new, self._held = [], len(keys)


class VideoTrajectories:
    """Computes the rows of one video."""

    def __init__(self, most: int, seed: int) -> None:
        self._trajectories = Trajectories()
        self._reservoir = Reservoir(most, seed)
        self._shape: tuple[int, ...] = ()

    def see(self, picture: np.ndarray) -> None:
        """Process the next picture, (H, W, 3) uint8 RGB."""
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        self._shape = self._shape or grey.shape
        # If the picture size changes within the video, the first size is used for all pictures.
        if grey.shape != self._shape:
            grey = cv2.resize(grey, self._shape[::-1], interpolation=cv2.INTER_AREA)
        for paths in self._trajectories.add(grey):
            self._reservoir.add(paths.descriptors, paths.middle)

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """At most `most` descriptors, (K, 426) float32, and the number of the frame in the middle
        of each trajectory, (K,) int64, ascending."""
        descriptors, middles = self._reservoir.kept()
        if not len(middles):
            descriptors = np.empty((0, SIZE), np.float32)
        return descriptors, middles
