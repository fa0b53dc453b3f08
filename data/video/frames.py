"""Decodes selected frames of videos, each once and in order: files with PyAV, OpenCV or decord,
folders of images with Pillow.

A video is read twice. A scan of its packets, which decodes nothing and costs a tenth of decoding,
gives the number of frames for the selection. Then every frame is decoded in sequence, and only the
selected ones are converted to RGB. If decoding finds another number of frames than the packets
promised (a packet that only repeats the previous picture gives no frame), the selection is made
again with the true number. There is no seeking by time stamps, and at most one chunk of frames is
in memory. Measurements: docs/decoding.md.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import av
import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.video import images as frames_folder
from reelbank.data.video.decoders.damage import Trouble, with_damage
from reelbank.data.video.decoders.others import read_checked
from reelbank.data.video.decoders.pyav import Frame, Reader, read_images, read_pyav
from reelbank.data.video.decoders.scan import (
    UNKNOWN_FPS,
    Scan,
    frame_seconds,
    scan_file,
    scan_images,
)
from reelbank.data.video.functions import PictureFunction
from reelbank.data.video.limits import Guard, Limits
from reelbank.data.video.messages import (
    Done,
    Frames,
    PictureMessage,
    Restart,
    Start,
    VideoInfo,
)
from reelbank.data.video.opening import DecodeError, open_container, video_stream
from reelbank.data.video.process.ring import FrameMemory

DECODERS = ("auto", "pyav", "opencv", "decord")

# The second reading has the true number of frames; a third one helps if the file changes meanwhile.
_MOST_READINGS = 3
# Tolerance when times are compared with the limits of a span: both are rounded.
_ROUNDING_SECONDS = 1e-6


@dataclass(frozen=True)
class Reading:
    """What to read of a video; picklable if its selections are.

    select: as for `decode`; None to read no pictures. sound: as `select` of `sound.read_sound`;
    None to read no sound. span_seconds: read pictures and sound only within [start, end) on the
    file's clock. image_fps: frame rate of a folder of images, 0 if unknown. functions: computed
    from the pictures that they need, whether or not `select` chooses these.
    """

    select: Callable[[int], np.ndarray] | None
    decoder: str = "auto"
    sound: Callable[[int], np.ndarray] | None = None
    span_seconds: tuple[float, float] | None = None
    image_fps: float = 0.0
    functions: Sequence[PictureFunction] = ()


def decode(
    path: str | Path,
    select: Callable[[int], np.ndarray],
    decoder: str = "auto",
    *,
    chunk_frames: int = 32,
    alive: Callable[[], None] = lambda: None,
    span_seconds: tuple[float, float] | None = None,
    limits: Limits | None = None,
    admit: Callable[[int], None] = lambda pixels: None,
    image_fps: float = 0.0,
    memory: FrameMemory | None = None,
    clock: Callable[[], float] = time.process_time,
) -> Iterator[PictureMessage]:
    """Read the frames of a video that `select` chooses, as messages (see `messages`).

    select: gets the number of frames and returns 0-based frame numbers, of any shape and order and
    with repeats; each frame is given once. chunk_frames: maximum number of frames in a message.
    alive: called for every packet and frame, selected or not. span_seconds: treat the frames with
    start <= time < end as the whole video; count, numbers (from 0), size and duration refer to
    these frames, times to the file, and frames after the span are not read. admit: called with the
    number of pixels of a picture that is larger than all before; returns when there is room for it.
    image_fps: frame rate of a folder of numbered images, 0 if unknown; then image n is taken to be
    displayed at n / 25 s. memory: where the pixels are written (default: new arrays). clock: the
    processor time that counts for `limits`.

    Pictures are rotated and mirrored according to the file's metadata; a pixel aspect ratio is not
    applied. Times count from the start of the file, with sound and pictures on one clock, and never
    decrease; they are number / fps if the file's own times make no sense.

    Raises DecodeError if the video cannot be read completely or exceeds `limits`, InputError for an
    unknown or missing decoder, ValueError if `select` returns a number that is not a frame's,
    OSError if the file cannot be read at all.
    """
    read = _reader(decoder)
    path = Path(path)
    guard = Guard(limits or Limits(), alive, admit, clock=clock)
    if path.is_dir():
        scan, read, decoder = scan_images(path, image_fps), read_images, "pillow"
    else:
        scan = scan_file(path, guard)
    total, clock = scan.frames, scan.seconds
    if not total:
        raise DecodeError("its video track contains no frames")
    for _ in range(_MOST_READINGS):
        chunk = _Chunk(memory or FrameMemory(), chunk_frames)
        attempt = _Attempt(scan, total, clock, span_seconds, chunk)
        yield Start(attempt.count)
        attempt.choose(select)
        yield from attempt.selected(read(path, scan, attempt.trouble, guard), guard)
        if not attempt.stamps:
            raise DecodeError("no frame of its video track can be decoded")
        if attempt.is_right:
            yield Done(attempt.info(DECODERS[1] if decoder == "auto" else decoder))
            return
        yield Restart()
        total, clock = len(attempt.stamps), frame_seconds(scan, attempt.stamps)
    raise DecodeError("it has a different number of frames each time it is decoded")


class _Attempt:
    """One reading of a video's pictures, with the number of frames that the packets or the previous
    reading promised."""

    def __init__(
        self,
        scan: Scan,
        total: int,
        clock: np.ndarray | None,
        span_seconds: tuple[float, float] | None,
        chunk: "_Chunk",
    ) -> None:
        self.scan, self.total, self.clock = scan, total, clock
        self.is_span = span_seconds is not None
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

    def choose(self, select: Callable[[int], np.ndarray]) -> None:
        """Make the selection. Raises ValueError."""
        self.is_selected[self.first + _checked(select(self.count), self.count)] = True

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
            if number == self.first:
                self.size = frame.to_rgb().shape[1::-1]
            if number < self.total and self.is_selected[number]:
                picture = frame.to_rgb()  # (H, W, 3)
                if self.chunk.is_full_for(picture):
                    yield self.chunk.take(self.first, self.seconds)
                self.chunk.add(number, picture, self.is_selected)
        self.is_right = self.ended_early or len(self.stamps) == self.total
        if self.is_right and self.chunk.numbers:
            yield self.chunk.take(self.first, self.seconds)

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
            _info(self.scan, self.seconds[self.first : self.end], self.size, decoder),
            self.scan,
            mended=len(mended) or min(self.trouble.unstamped, self.count),
            lost=lost,
            is_span=self.is_span,
        )


class _Chunk:
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


def _reader(decoder: str) -> Reader:
    """The reader of a decoder. "auto" is PyAV: it is correct on every file that was tried, and the
    fastest of the correct decoders (docs/decoding.md)."""
    if decoder not in DECODERS:
        raise InputError(f"DECODER={decoder}: choose from {', '.join(DECODERS)}")
    if decoder in DECODERS[2:]:
        return partial(read_checked, decoder)
    return read_pyav


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


def _info(scan: Scan, seconds: np.ndarray, size: tuple[int, int], decoder: str) -> VideoInfo:
    duration = float(seconds[-1] - seconds[0]) + 1 / (scan.fps or UNKNOWN_FPS)
    return VideoInfo(
        len(seconds), scan.fps, *size, decoder, duration, scan.audio, remark=scan.remark
    )


def probe(path: str | Path, image_fps: float = 0.0, limits: Limits | None = None) -> VideoInfo:
    """The facts in the file's header, without decoding: an estimate for plans.

    `frames` is 0 if the header does not tell; `frames`, `width` and `height` are 0 if the file has
    only sound. Raises DecodeError or OSError as `decode` does.
    """
    path = Path(path)
    guard = Guard(limits or Limits())
    if path.is_dir():
        scan = scan_images(path, image_fps)
        assert scan.seconds is not None
        first = frames_folder.read_image(frames_folder.images(path)[0], guard.picture)
        return _info(scan, scan.seconds, first.shape[1::-1], "header")
    with open_container(path, guard.limits.picture_px) as container:
        audio = bool(container.streams.audio)
        container_seconds = (container.duration or 0) / 1e6
        try:
            stream = video_stream(container, guard.limits.picture_px)
            guard.picture(stream.width, stream.height)
        except DecodeError:
            if not audio:
                raise
            return VideoInfo(
                frames=0,
                fps=0.0,
                width=0,
                height=0,
                decoder="header",
                duration_seconds=container_seconds,
                audio=audio,
            )
        fps = float(stream.average_rate or 0)
        seconds = container_seconds
        if stream.duration:
            seconds = stream.duration * float(stream.time_base or 0)
        # If number of frames and duration contradict each other, the duration is more often right.
        expected = round(seconds * fps)
        frames = expected
        if 0 < stream.frames <= 2 * expected + 2 or not expected:
            frames = stream.frames
        return VideoInfo(
            frames=frames,
            fps=fps,
            width=stream.width,
            height=stream.height,
            decoder="header",
            duration_seconds=seconds,
            audio=audio,
        )


SAMPLE_FRAMES = 8


def write_sample(path: Path) -> Path:
    """Write a small video of SAMPLE_FRAMES frames that every decoder can read: if one cannot read
    it, the decoder itself does not work."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, width=64, height=64, pix_fmt="yuv420p")
        for number in range(SAMPLE_FRAMES):
            picture = np.full((64, 64, 3), 20 * number, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path
