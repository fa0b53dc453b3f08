"""The sound of a file at times that follow from its pictures."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from reelbank.data.video.frames import Reading
from reelbank.data.video.messages import (
    PictureMessage,
    SoundMessage,
    SoundRestart,
    Start,
)
from reelbank.data.video.opening import DecodeError
from reelbank.data.video.sampling import TimedExamples
from reelbank.data.video.timeline import FrameCount

# From the beginning and the end of the sound, in seconds: the centres of its examples, (n,) float64.
Centres = Callable[[float, float], np.ndarray]


class TimedSound:
    """The sound of one video, which is read before the pictures.

    If the examples are chosen by time, the times of the pictures are needed. They follow from the
    packets, and may turn out to be wrong when the pictures are decoded (see `frames.decode`). Then
    the examples are chosen again. If no pictures are decoded, those that the packets do not prove
    are decoded for their times.

    read: reads the sound, with the centres of its examples if they are chosen by time. count: the
    messages about the pictures, without pictures. true_frames: to be set to those of the decoder.
    """

    def __init__(
        self,
        read: Callable[[Path, Reading, Centres | None], Iterator[SoundMessage]],
        count: Callable[[Path, Reading], Generator[PictureMessage]],
        path: Path,
        reading: Reading,
    ) -> None:
        self._read, self._count = read, count
        self._path, self._reading = path, reading
        self._frames: FrameCount | None = None
        self.true_frames: FrameCount | None = None

    def messages(self) -> Iterator[SoundMessage]:
        """The messages of the sound. Raises as `read_sound` does. The pictures are counted only if
        there is sound."""
        yield from self._read(self._path, self._reading, self._centres(self._counted))

    @property
    def is_wrong(self) -> bool:
        """Whether the examples were chosen by wrong times."""
        frames, true_frames = self._frames, self.true_frames
        if frames is None or true_frames is None:
            return False
        return frames.end_seconds != true_frames.end_seconds or not np.array_equal(
            frames.seconds, true_frames.seconds
        )

    def messages_again(self) -> Iterator[SoundMessage]:
        """The messages with examples at the right times."""
        yield SoundRestart()
        centres = self._centres(lambda: self.true_frames)
        yield from self._read(self._path, self._reading, centres)

    def _centres(self, pictures: Callable[[], FrameCount | None]) -> Centres | None:
        """pictures: of the file, asked for when the examples are chosen."""
        sound = self._reading.sound
        if not isinstance(sound, TimedExamples):
            return None

        def centres(begin_seconds: float, end_seconds: float) -> np.ndarray:
            self._frames = pictures()
            return sound.centres(self._frames, begin_seconds, end_seconds)

        return centres

    def _counted(self) -> FrameCount | None:
        """The pictures; None if the file has none, or if they cannot be read."""
        has_pictures = self._reading.select is not None or bool(self._reading.functions)
        frames = None
        counting = self._count(self._path, replace(self._reading, decoder="auto"))
        # Without pictures, or with damaged ones, which is reported when they are decoded.
        with closing(counting), suppress(DecodeError):
            for message in counting:
                if isinstance(message, Start):
                    frames = message.frames
                    if has_pictures:  # these will tell whether it is right
                        break
        return frames
