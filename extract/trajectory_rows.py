"""From a video's pictures to the rows of the stream idt: some of its trajectories, chosen at random."""

from concurrent.futures import Executor, Future

import numpy as np

from reelbank.data.opencv import cv2
from reelbank.extract.idt import SIZE, Trajectories


class Reservoir:
    """Keeps `most` of all the rows that it is given, each as likely as any other: those with the smallest random keys.

    The n-th row's key depends on the seed and on n alone, so a video gives the same rows whatever it is called and whichever
    videos are extracted beside it. No more than twice `most` rows are held, and those of one call.
    """

    def __init__(self, most: int, seed: int) -> None:
        self.most, self._keys_of = most, np.random.default_rng(seed)
        self._keys, self._rows, self._numbers = np.empty(0), np.empty((0, 0), np.float32), np.empty(0, np.int64)
        self._new: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # keys, rows, numbers
        self._held = 0

    def add(self, rows: np.ndarray, number: int) -> None:
        """rows (n, D) float32, all with this number, not smaller than the last one's."""
        keys = self._keys_of.random(len(rows))
        self._new.append((keys, rows, np.full(len(rows), number, np.int64)))
        self._held += len(rows)
        if self._held > 2 * self.most:
            self._choose()

    def kept(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows that are kept, (K, D) float32 in the order they came, and their numbers, (K,) int64."""
        self._choose()
        return self._rows, self._numbers

    def _choose(self) -> None:
        if not self._new:
            return
        held = [(self._keys, self._rows, self._numbers)] if len(self._keys) else []
        keys, rows, numbers = (np.concatenate(arrays) for arrays in zip(*held, *self._new, strict=True))
        if len(keys) > self.most:
            chosen = np.sort(np.argpartition(keys, self.most)[: self.most])
            keys, rows, numbers = keys[chosen], rows[chosen], numbers[chosen]
        self._keys, self._rows, self._numbers = keys, rows, numbers
        self._new, self._held = [], len(keys)


class VideoTrajectories:
    """One video's trajectories on their way to rows. A chunk of pictures is worked on in another thread while the next one is
    decoded, or another video's is worked on; no more than two chunks are held."""

    def __init__(self, most: int, seed: int, threads: Executor) -> None:
        self._trajectories, self._reservoir, self._threads = Trajectories(), Reservoir(most, seed), threads
        self._shape: tuple[int, ...] = ()
        self._last: Future[None] | None = None

    def see(self, pictures: np.ndarray) -> None:
        """pictures (n, H, W, 3) uint8 RGB, the next ones."""
        self._wait()
        self._last = self._threads.submit(self._follow, pictures)

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Descriptors (K, 426) float32, K at most `most`, and the frame in each trajectory's middle, (K,) int64, ascending."""
        self._wait()
        descriptors, middles = self._reservoir.kept()
        return (descriptors, middles) if len(middles) else (np.empty((0, SIZE), np.float32), middles)

    def _wait(self) -> None:
        if self._last:
            self._last.result()

    def _follow(self, pictures: np.ndarray) -> None:
        for picture in pictures:
            grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
            self._shape = self._shape or grey.shape
            if grey.shape != self._shape:  # the picture's size changes within the video: all take the first one's
                grey = cv2.resize(grey, self._shape[::-1], interpolation=cv2.INTER_AREA)
            for paths in self._trajectories.add(grey):
                self._reservoir.add(paths.descriptors, paths.middle)
