"""Trajectories of a video, followed in a decode process."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from reelbank.data.video.functions import Numbered, UnfitPicture
from reelbank.data.video.sampling import Followed
from reelbank.extract.in_decoders.resize import resize_picture
from reelbank.extract.networks.preprocessing import Resize
from reelbank.extract.trajectories.idt import TRACK_FRAMES
from reelbank.extract.trajectories.rows import VideoTrajectories

NO_TRAJECTORY = (
    f"nothing in it moves by itself for {TRACK_FRAMES} frames, so it has no trajectories"
)


@dataclass(frozen=True)
class TrajectoryRows:
    """A picture function (data.video.functions). Its results are rows, (426,) float32, with the
    number of the picture in the middle of each trajectory."""

    followed: Followed
    resize: Resize

    def needed(self, frames: int) -> np.ndarray:
        """Numbers of the pictures: all."""
        return self.followed.needed(frames)

    def begin(self, frames: int) -> "_Trajectories":
        """Begin a video."""
        return _Trajectories(self, frames)


class _Trajectories:
    """The trajectories of one video."""

    def __init__(self, function: TrajectoryRows, frames: int) -> None:
        self._resize, self._frames = function.resize, frames
        self._trajectories = VideoTrajectories(function.followed.most, function.followed.seed)

    def see(self, number: int, picture: np.ndarray) -> Iterator[Numbered]:
        self._trajectories.see(resize_picture(picture, self._resize))
        return iter(())

    def end(self) -> Iterator[Numbered]:
        rows, middles = self._trajectories.rows()
        if len(rows):
            return map(Numbered, middles.tolist(), rows)
        if self._frames > TRACK_FRAMES:
            raise UnfitPicture(NO_TRAJECTORY)
        raise UnfitPicture(f"has {self._frames} frames, but a trajectory needs {TRACK_FRAMES + 1}")
