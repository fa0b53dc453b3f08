"""Optical flow fields, computed in decode processes with OpenCV's methods."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from reelbank.data.video.functions import Numbered
from reelbank.data.video.opencv import cv2
from reelbank.data.video.sampling import Needed, Sampling
from reelbank.extract.flow.opencv import opencv_flow
from reelbank.extract.in_decoders.resize import resize_picture
from reelbank.extract.networks.preprocessing import Resize


@dataclass(frozen=True)
class FlowFields:
    """A picture function (data.video.functions). Result k is the flow from picture k to the next
    one, or between those of the ticks k and k + 1, (2, H, W) float32 pixels, for every field of the
    samplings.

    method: "dis" or "farneback"; resize: of the pictures that the flow is computed from
    """

    method: str
    resize: Resize
    samplings: tuple[Sampling, ...]

    def needed(self, frames: int) -> np.ndarray:
        """Numbers of the pictures."""
        return Needed(self.samplings)(frames)

    def begin(self, frames: int) -> "_Fields":
        """Begin a video."""
        rows = [sampling.rows(frames) for sampling in self.samplings]
        numbers = np.unique(np.concatenate([of_sampling.numbers.ravel() for of_sampling in rows]))
        pictures = rows[0].pictures
        if pictures is None:
            pairs = zip(numbers.tolist(), numbers.tolist(), (numbers + 1).tolist(), strict=True)
            return _Fields(self, frames, [_Pair(*pair) for pair in pairs])
        ends = (pictures[numbers].tolist(), pictures[numbers + 1].tolist())
        # None of these is made of the only picture of a video and a following one.
        return _Fields(
            self, 0, [_Pair(*pair) for pair in zip(numbers.tolist(), *ends, strict=True)]
        )


class _Pair(NamedTuple):
    """A field, and the pictures between which it lies."""

    number: int
    first: int
    second: int


@dataclass(frozen=True)
class _Last:
    """A picture that may begin the next pair. grey: (H, W) uint8, resized."""

    number: int
    grey: np.ndarray


class _Fields:
    """The fields of one video."""

    def __init__(self, function: FlowFields, frames: int, pairs: Sequence[_Pair]) -> None:
        self._function, self._frames = function, frames
        self._ending: dict[int, list[_Pair]] = {}  # by their second picture, ascending
        for pair in pairs:
            self._ending.setdefault(pair.second, []).append(pair)
        self._last: _Last | None = None

    def see(self, number: int, picture: np.ndarray) -> Iterator[Numbered]:
        last, resized = self._last, resize_picture(picture, self._function.resize)
        grey = cv2.cvtColor(resized, cv2.COLOR_RGB2GRAY)
        self._last = _Last(number, grey)
        for pair in self._ending.get(number, ()):
            if pair.first == number:  # on screen at two ticks of a timeline
                yield self._field(pair.number, grey, grey)
            elif last is not None and pair.first == last.number:
                second = grey
                if grey.shape != last.grey.shape:  # the picture size changes within the video
                    size_px = (last.grey.shape[0], last.grey.shape[1])
                    second = cv2.cvtColor(
                        resize_picture(resized, Resize(size_px)), cv2.COLOR_RGB2GRAY
                    )
                yield self._field(pair.number, last.grey, second)

    def end(self) -> Iterator[Numbered]:
        if self._frames == 1 and self._last:  # a video of one picture pairs it with itself
            yield self._field(self._last.number, self._last.grey, self._last.grey)

    def _field(self, number: int, first: np.ndarray, second: np.ndarray) -> Numbered:
        field = opencv_flow(self._function.method, first, second)  # (H, W, 2)
        return Numbered(number, field.transpose(2, 0, 1))
