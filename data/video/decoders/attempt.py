"""One attempt to read the selected frames of a video, in order or by seeking."""

import math
from collections.abc import Callable, Iterator

import numpy as np

from reelbank.data.video.access.plan import Run, plan
from reelbank.data.video.decoders.damage import Trouble, with_damage
from reelbank.data.video.decoders.pyav import Frame
from reelbank.data.video.decoders.scan import Scan, frame_seconds
from reelbank.data.video.limits import Guard
from reelbank.data.video.messages import Frames, VideoInfo
from reelbank.data.video.opening import DecodeError
from reelbank.data.video.process.ring import FrameMemory
from reelbank.data.video.timeline import UNKNOWN_FPS, FrameCount

# Tolerance when times are compared with the limits of a span: both are rounded.
_ROUNDING_SECONDS = 1e-6


class Attempt:
    """One reading of a video's pictures, with the number of frames that the packets or the previous
    reading promised."""

    def __init__(
        self,
        scan: Scan,
        total: int,
        clock: np.ndarray | None,
        span_seconds: tuple[float, float] | None,
        chunk: "Chunk",
    ) -> None:
        self.scan, self.total, self.clock = scan, total, clock
        self.span_seconds = span_seconds
        self.seconds = np.arange(total) / (scan.fps or UNKNOWN_FPS) if clock is None else clock
        self.first, self.end = _in_span(self.seconds, span_seconds)
        self.is_selected = np.zeros(total, dtype=bool)
        self.chunk = chunk
        # Found while reading.
        self.stamps: list[int | None] = []
        self.trouble = Trouble()
        self.mended: list[int] = []
        self.size = (0, 0)  # width and height of the first frame
        self.ended_early = False  # after the span
        self.is_right = False  # the promised number of frames was the true one

    @property
    def count(self) -> int:
        """The number of frames, within the span if there is one."""
        return self.end - self.first

    @property
    def frame_count(self) -> FrameCount:
        """The same, with the times of the frames."""
        last = float(self.seconds[-1])
        end = last + 1 / (self.scan.fps or UNKNOWN_FPS)
        # Some headers state an end at the beginning of the last frame.
        shortest = float(np.diff(self.seconds).min(initial=math.inf))
        if self.scan.end_seconds - last > (shortest / 2 if shortest < math.inf else 0.0):
            end = self.scan.end_seconds
        if self.end < self.total:
            end = float(self.seconds[self.end])
        if self.span_seconds is not None:
            end = min(end, self.span_seconds[1])
        return FrameCount(self.seconds[self.first : self.end], end)

    def choose(self, select: Callable[[FrameCount], np.ndarray]) -> None:
        """Make the selection. Raises ValueError."""
        self.is_selected[self.first + _checked(select(self.frame_count), self.count)] = True

    def selected(self, frames: Iterator[Frame], guard: Guard) -> Iterator[Frames]:
        """The selected ones among the frames of a reader. Sets `is_right`."""
        for number, frame in enumerate(frames):
            guard.frame(self.scan.fps)
            if number == self.end < self.total and self._came_in_time():
                self.ended_early = True
                break
            self.stamps.append(frame.stamp)
            if frame.is_mended:
                self.mended.append(number)
            yield from self._take(number, frame)
        self.is_right = self.ended_early or (
            len(self.stamps) == self.total and not self.is_unlike_tables()
        )
        if self.is_right and self.chunk.numbers:
            yield self.chunk.take(self.first, self.seconds)

    def is_unlike_tables(self) -> bool:
        """Whether the decoded frames have other times than the tables of the header claim; if the
        packets were read, their times are right."""
        index = self.scan.index
        if index is None or not index.is_listed:
            return False
        if not len(self.stamps) == self.total == len(index.display):
            return False  # frames are lost: their times are taken from the others
        stamps = [-1 if stamp is None else stamp for stamp in self.stamps]
        return not np.array_equal(np.sort(stamps), index.table.stamps[index.packet_of])

    def runs(self, least_skipped_frames: int) -> list[Run]:
        """The runs of packets that contain the selected frames; none if the video must be read in
        order, or if fewer than `least_skipped_frames` frames would be left out."""
        index = self.scan.index
        if index is None or self.total != len(index.display):
            return []
        is_wanted = self.is_selected.copy()
        is_wanted[self.first] = True  # for its size
        runs = plan(index, np.flatnonzero(is_wanted))
        skipped = self.total - sum(len(run.decoded) for run in runs)
        return runs if skipped >= least_skipped_frames else []

    def found(self, frames: Iterator[tuple[int, Frame]], guard: Guard) -> Iterator[Frames]:
        """The selected ones among numbered frames. The frames that are left out count as decoded
        for the limit of the time."""
        done = 0
        for number, frame in frames:
            guard.frame(self.scan.fps, number + 1 - done)
            done = number + 1
            yield from self._take(number, frame)
        if self.chunk.numbers:
            yield self.chunk.take(self.first, self.seconds)

    def _take(self, number: int, frame: Frame) -> Iterator[Frames]:
        """Keep a frame if it is selected; the messages that it completes."""
        if number == self.first:
            self.size = frame.to_rgb().shape[1::-1]
        if number < self.total and self.is_selected[number]:
            picture = frame.to_rgb()  # (H, W, 3)
            if self.chunk.is_full_for(picture):
                yield self.chunk.take(self.first, self.seconds)
            self.chunk.add(number, picture, self.is_selected)

    def _came_in_time(self) -> bool:
        """Whether all frames so far have the times that the packets promised. Then none of them was
        lost, and their numbers are right without reading the rest of the file."""
        seconds = frame_seconds(self.scan, self.stamps)
        if seconds is None or self.clock is None:
            return False
        return np.array_equal(seconds, self.clock[: self.end])

    def info(self, decoder: str) -> VideoInfo:
        """The facts of the video, with its damage."""
        decoded = self.trouble.stamps.intersection(self.stamps)
        mended = {number for number in self.mended if self.first <= number < self.end}
        for number in range(self.first, min(self.end, len(self.stamps))):
            if self.stamps[number] in decoded:
                mended.add(number)
        # Frames after a span are not read, so it is not known whether any of them is lost.
        lost = 0 if self.ended_early else len(self.trouble.stamps) - len(decoded)
        return with_damage(
            video_info(self.scan, self.seconds[self.first : self.end], self.size, decoder),
            self.scan,
            mended=len(mended) or min(self.trouble.unstamped, self.count),
            lost=lost,
            is_span=self.span_seconds is not None,
        )


class Chunk:
    """Selected pictures of one size that are sent together."""

    def __init__(self, memory: FrameMemory, most_frames: int) -> None:
        self.memory, self.most_frames = memory, most_frames
        self.numbers: list[int] = []
        # Room for a chunk, of which len(numbers) frames are filled.
        self.pixels = np.empty((0, 0, 0, 3), dtype=np.uint8)

    def is_full_for(self, picture: np.ndarray) -> bool:
        """Whether the chunk must be sent before this picture is added."""
        if not self.numbers:
            return False
        return len(self.numbers) == len(self.pixels) or self.pixels.shape[1:] != picture.shape

    def add(self, number: int, picture: np.ndarray, is_selected: np.ndarray) -> None:
        """picture: (H, W, 3) uint8; is_selected: (frames,) bool."""
        if not self.numbers:
            # Chunks of large pictures have fewer frames.
            most = min(self.most_frames, self.memory.most_bytes // picture.nbytes)
            room = max(1, min(most, int(is_selected[number:].sum())))
            self.pixels = self.memory.chunk((room, *picture.shape))
        self.pixels[len(self.numbers)] = picture
        self.numbers.append(number)

    def take(self, first: int, seconds: np.ndarray) -> Frames:
        """The message; the next picture begins a new chunk. first: number of the frame that counts
        as 0; seconds: times of all frames."""
        numbers = np.array(self.numbers)
        self.numbers = []
        return Frames(numbers - first, seconds[numbers], self.pixels[: len(numbers)])


def _in_span(seconds: np.ndarray, span_seconds: tuple[float, float] | None) -> tuple[int, int]:
    """The first frame in the span, and the first one after it."""
    if span_seconds is None:
        return 0, len(seconds)
    first, end = np.searchsorted(seconds, np.subtract(span_seconds, _ROUNDING_SECONDS)).tolist()
    if first >= end:
        raise DecodeError(f"no frame between {span_seconds[0]:.2f} and {span_seconds[1]:.2f} s")
    return first, end


def _checked(numbers: np.ndarray, frames: int) -> np.ndarray:
    numbers = np.asarray(numbers, dtype=np.int64).ravel()
    if len(numbers) and not 0 <= numbers.min() <= numbers.max() < frames:
        raise ValueError(
            f"`select` must return frame numbers from 0 to {frames - 1} "
            f"(got {numbers.min()} to {numbers.max()})"
        )
    return numbers


def video_info(scan: Scan, seconds: np.ndarray, size: tuple[int, int], decoder: str) -> VideoInfo:
    """The facts of the frames with these times, without damage."""
    duration = float(seconds[-1] - seconds[0]) + 1 / (scan.fps or UNKNOWN_FPS)
    return VideoInfo(
        len(seconds), scan.fps, *size, decoder, duration, scan.audio, remark=scan.remark
    )
