"""Picture functions and selections that decode processes of tests import, in a module that imports
nothing slow."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from reelbank.data.video.functions import Numbered, UnfitPicture


def few(frames: int) -> np.ndarray:
    return np.array([40, 0, 7])


@dataclass(frozen=True)
class Sums:
    """A picture function of the tests: the sum of each picture, (1,) int64. does: what else it does
    at picture 3."""

    does: str = ""

    def needed(self, frames: int) -> np.ndarray:
        return np.arange(frames)

    def begin(self, frames: int) -> "Sums":
        if self.does == "refuse to begin":
            raise UnfitPicture("too short")
        return self

    def see(self, number: int, picture: np.ndarray) -> Iterator[Numbered]:
        if number == 3 and self.does == "be killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 3 and self.does == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if number == 3 and self.does == "sleep":
            time.sleep(1e6)
        if number == 3 and self.does == "fail":
            raise ValueError("no picture\nhere")
        if number == 3 and self.does == "refuse":
            raise UnfitPicture("too plain")
        if number == 3 and self.does == "compute":
            begin = time.process_time()
            while time.process_time() - begin < 1.5:
                pass
        yield Numbered(number, np.array([picture.sum()]))

    def end(self) -> Iterator[Numbered]:
        return iter(())
