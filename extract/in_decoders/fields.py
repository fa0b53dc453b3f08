"""Optical flow fields, computed in decode processes with OpenCV's methods."""

from collections.abc import Iterator
from dataclasses import dataclass

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
    one, (2, H, W) float32 pixels, for every field of the samplings.

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
        numbers = [sampling.rows(frames).numbers.ravel() for sampling in self.samplings]
        return _Fields(self, frames, set(np.concatenate(numbers).tolist()))


@dataclass(frozen=True)
class _Last:
    """A picture that may begin the next pair. grey: (H, W) uint8, resized."""

    number: int
    grey: np.ndarray


class _Fields:
    """The fields of one video."""

    def __init__(self, function: FlowFields, frames: int, numbers: set[int]) -> None:
        self._function, self._frames, self._numbers = function, frames, numbers
        self._last: _Last | None = None

    def see(self, number: int, picture: np.ndarray) -> Iterator[Numbered]:
        last, resized = self._last, resize_picture(picture, self._function.resize)
        grey = cv2.cvtColor(resized, cv2.COLOR_RGB2GRAY)
        self._last = _Last(number, grey)
        if last is None or number != last.number + 1 or last.number not in self._numbers:
            return
        if grey.shape != last.grey.shape:  # the picture size changes within the video
            size_px = (last.grey.shape[0], last.grey.shape[1])
            grey = cv2.cvtColor(resize_picture(resized, Resize(size_px)), cv2.COLOR_RGB2GRAY)
        yield self._field(last, grey)

    def end(self) -> Iterator[Numbered]:
        if self._frames == 1 and self._last:  # a video of one picture pairs it with itself
            yield self._field(self._last, self._last.grey)

    def _field(self, first: _Last, second: np.ndarray) -> Numbered:
        field = opencv_flow(self._function.method, first.grey, second)  # (H, W, 2)
        return Numbered(first.number, field.transpose(2, 0, 1))
