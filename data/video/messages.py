"""The messages of a decoder about one video.

If the sound is read, the first messages are any number of Sound, then SoundDone or SoundFailed. The
pictures follow: Start, any number of Frames, possibly Restart and another Start, and finally Done
or Failed. If picture functions are computed (see `functions`), Times, Computed and NotComputed come
with the Frames.
"""

from dataclasses import dataclass

import numpy as np

from reelbank.data.video.process.ring import Copying, Loan
from reelbank.data.video.timeline import FrameCount


@dataclass(frozen=True)
class VideoInfo:
    """Facts about a video's pictures. Stores keep it as JSON (dataclasses.asdict).

    frames: the true count, found by decoding all frames (from `probe`: the count in the file's
    header). fps: average frame rate, 0.0 if unknown. width, height: pixels of the first frame as
    displayed. decoder: the decoder that read the video. audio: whether there is a sound track.
    damaged_frames: frames that the decoder had to mend. promised_frames: `frames` plus the lost
    frames, as far as the file tells (from `probe` 0: unknown). damage: description of the damage in
    one line, "" if none was noticed. remark: which values of the header cannot be true and what was
    assumed instead, "" if there are none.
    """

    frames: int
    fps: float
    width: int
    height: int
    decoder: str
    duration_seconds: float
    audio: bool
    damaged_frames: int = 0
    promised_frames: int = 0
    damage: str = ""
    remark: str = ""


@dataclass(frozen=True)
class SoundInfo:
    """Facts about a file's sound. Stores keep it as JSON (dataclasses.asdict).

    state: "none" without a sound track, "silent" if no sample of the track reaches 1e-4, "short" if
    there are fewer samples than one example has, "heard" otherwise; a track without samples is
    short. seconds: length of the sound, within the span if there is one. peak: the largest absolute
    sample, full scale 1.0. examples: number of examples. damage: description of the damage in one
    line, "" if none was noticed.
    """

    state: str
    seconds: float
    peak: float
    examples: int
    damage: str = ""


@dataclass(frozen=True)
class Start:
    """The pictures begin. Frames are selected with this number of frames, and with their times."""

    frames: FrameCount


@dataclass(frozen=True)
class Restart:
    """The number of frames was wrong: discard the frames received so far; another Start follows."""


class Lent:
    """A message with an array whose memory may be lent, as by a DecodePool. Then the array may be
    used until `release`, which must be called soon: the decoder waits for the memory."""

    loan: Loan | None

    def release(self, copying: Copying | None = None) -> None:
        """Give the memory back; the array must not be read any more. copying: a copy that is still
        being made; the memory is given back when it is complete."""
        if self.loan is not None:
            self.loan.end(copying)


@dataclass(frozen=True, eq=False)
class Frames(Lent):
    """Selected frames of one size, ascending, each once.

    numbers: (n,) int64, counted from 0. seconds: (n,) float64. pixels: (n, H, W, 3) uint8 RGB.
    loan: of the memory of `pixels`, if it is lent.
    """

    numbers: np.ndarray
    seconds: np.ndarray
    pixels: np.ndarray
    loan: Loan | None = None


@dataclass(frozen=True, eq=False)
class Times:
    """The times of frames that were decoded for picture functions, whether or not their pixels
    follow.

    numbers: (n,) int64, ascending, counted from 0. seconds: (n,) float64.
    """

    numbers: np.ndarray
    seconds: np.ndarray


@dataclass(frozen=True, eq=False)
class Computed(Lent):
    """Results of one picture function, of one shape, in the order of their numbers.

    function: its place among those of the Reading. numbers: (n,) int64. values: (n, ...). loan: of
    the memory of `values`, if it is lent.
    """

    function: int
    numbers: np.ndarray
    values: np.ndarray
    loan: Loan | None = None


@dataclass(frozen=True)
class NotComputed:
    """A picture function cannot be computed for this video; the rest of the video is not affected.
    No Computed of this function follows."""

    function: int
    reason: str


@dataclass(frozen=True)
class Done:
    """The video was read to its end."""

    info: VideoInfo


@dataclass(frozen=True)
class Failed:
    """The video cannot be decoded. by_machine: the cause is the machine, so a later try may
    succeed."""

    reason: str
    by_machine: bool = False


@dataclass(frozen=True, eq=False)
class Sound:
    """Selected examples of sound, ascending, each once.

    numbers: (n,) int64, counted from 0; example i is usually the samples [15360 i, 15360 i +
    15600), see `sampling.SoundWindows`. seconds: (n,) float64, the centres of the examples, on the
    same clock as the pictures. waves: (n, 15600) float32, or another number of samples.
    """

    numbers: np.ndarray
    seconds: np.ndarray
    waves: np.ndarray


@dataclass(frozen=True)
class SoundRestart:
    """The pictures have other times than those by which the examples of the sound were chosen:
    discard the examples received so far; others and another SoundDone or SoundFailed follow, before
    the pictures are Done."""


@dataclass(frozen=True)
class SoundDone:
    """The sound was read to its end."""

    info: SoundInfo


@dataclass(frozen=True)
class SoundFailed:
    """The sound cannot be decoded; the pictures follow. by_machine: as for Failed."""

    reason: str
    by_machine: bool = False


PictureMessage = Start | Restart | Frames | Times | Computed | NotComputed | Done
SoundMessage = Sound | SoundRestart | SoundDone
Message = PictureMessage | SoundMessage | Failed | SoundFailed
