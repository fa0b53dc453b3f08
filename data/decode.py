"""Frames of videos: the right ones, each once, in order. Files come through PyAV, OpenCV or decord, folders of images Pillow.

A video is read twice: a scan of its packets (nothing decoded, a tenth of the cost) gives the frame count that the selection
is made with; then every frame is decoded in sequence and only the wanted ones become RGB. When decoding finds another count
than the packets promised (a packet that says "as before" gives no frame), the selection is made again with the true one.
Nothing seeks by time stamps, and no more than one chunk of frames is held. What was measured: docs/decoding.md.
"""

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from reelbank.data import frames_folder
from reelbank.data.errors import InputError
from reelbank.data.opening import DecodeError, check_whole, open_container, video_stream

DECODERS = ("auto", "pyav", "opencv", "decord")

_CHUNK_BYTES = 16 << 20  # large pictures travel in chunks of fewer frames
_UNKNOWN_FPS = 25.0  # what FFmpeg itself assumes of a bare stream
# One frame, before it is known whether it is wanted: its time stamp, whether it had to be mended, and how to get it as
# (H, W, 3) uint8 RGB, as displayed.
_Frame = tuple[int | None, bool, Callable[[], np.ndarray]]
_DecodedFrame = tuple[av.VideoFrame, Callable[[], np.ndarray]]


@dataclass(frozen=True)
class VideoInfo:
    """What was found in a video; JSON-able through dataclasses.asdict.

    frames: the true count, as decoding in sequence finds it (from `probe`: the file's own claim); fps: average, 0.0 when
    unknown; width, height: pixels as displayed, of the first frame; decoder: which one read it; audio: has it a sound track;
    damaged_frames: frames that the decoder had to mend.
    """

    frames: int
    fps: float
    width: int
    height: int
    decoder: str
    duration_seconds: float
    audio: bool
    damaged_frames: int = 0


@dataclass(frozen=True)
class Reading:
    """What is wanted of a video; picklable when its selections are.

    select: which frames, as in `decode`; None for no picture at all. sound: which examples, as `select` in `sound.read_sound`;
    None for no sound. span_seconds: only what lies in [start, end) of the file's clock, picture and sound.
    """

    select: Callable[[int], np.ndarray] | None
    decoder: str = "auto"
    sound: Callable[[int], np.ndarray] | None = None
    span_seconds: tuple[float, float] | None = None


def decode(
    path: str | Path,
    select: Callable[[int], np.ndarray],
    decoder: str = "auto",
    chunk_frames: int = 32,
    alive: Callable[[], None] = lambda: None,
    span_seconds: tuple[float, float] | None = None,
) -> Iterator[tuple[Any, ...]]:
    """Read a video as messages; `select` gets the frame count and returns 0-based frame numbers, any shape, order, repeats:

    ("start", frames)                           the count that the selection is made with
    ("frames", numbers (n,) int64, times_seconds (n,) float64, pixels (n, H, W, 3) uint8 RGB)
                                                each wanted frame once, ascending; n <= chunk_frames, one size within a chunk
    ("restart",)                                the count was wrong: drop what came so far, another ("start", ...) follows
    ("done", VideoInfo)                         the last one

    Pictures are turned and mirrored as the file's metadata says; a pixel aspect ratio is not applied. Times count from the
    start of the file (sound and picture on one clock) and never decrease; where the file's own make no sense, number / fps.
    span_seconds: the video is then the frames with start <= time < end alone; count, numbers (from 0), size and duration are
    theirs, times the file's, and what comes after is not read. A folder of numbered images is a video of 25 frames a second.
    `alive` is called for every packet and frame, wanted or not.
    Raises DecodeError if the video cannot be read whole, InputError for an unknown or missing decoder, ValueError if
    `select` wants a frame that is not there, OSError if the file cannot be read at all.
    """
    read = _reader(decoder)
    path = Path(path)
    if path.is_dir():
        scan, read, decoder = _scan_images(path), _read_images, "pillow"
    else:
        scan = _scan(path, alive)
    total, seconds = scan.frames, scan.seconds
    if not total:
        raise DecodeError("its video track holds no frames")
    for _ in range(3):  # the second reading has the true count; the third is for luck with a file that is being changed
        clock, seconds = seconds, np.arange(total) / (scan.fps or _UNKNOWN_FPS) if seconds is None else seconds
        first, end = _in_span(seconds, span_seconds)
        yield "start", end - first
        wanted = np.zeros(total, dtype=bool)
        wanted[first + _checked(select(end - first), end - first)] = True
        stamps: list[int | None] = []
        damaged, size = 0, (0, 0)
        numbers: list[int] = []
        pixels = np.empty((0, 0, 0, 3), dtype=np.uint8)  # room for a chunk; len(numbers) frames of it are filled
        right = False
        for number, (stamp, mended, to_rgb) in enumerate(read(path, scan.frames)):
            alive()
            # Behind the span: if all frames before came at the times that the packets promised, none was lost on the way.
            right = number == end < total and _came_at(_seconds(scan, stamps), clock, end)
            if right:
                break
            stamps.append(stamp)
            damaged += mended and first <= number < end
            size = to_rgb().shape[1::-1] if number == first else size
            if number < total and wanted[number]:
                picture = to_rgb()  # (H, W, 3)
                if numbers and (len(numbers) == len(pixels) or pixels.shape[1:] != picture.shape):
                    yield "frames", np.array(numbers) - first, seconds[numbers], pixels[: len(numbers)]
                    numbers = []
                if not numbers:
                    room = max(1, min(chunk_frames, _CHUNK_BYTES // picture.nbytes, int(wanted[number:].sum())))
                    pixels = np.empty((room, *picture.shape), dtype=np.uint8)  # a new one: the last is the consumer's
                pixels[len(numbers)] = picture
                numbers.append(number)
        if not stamps:
            raise DecodeError("no frame of its video track can be decoded")
        if right or len(stamps) == total:
            if numbers:
                yield "frames", np.array(numbers) - first, seconds[numbers], pixels[: len(numbers)]
            yield "done", _info(scan, seconds[first:end], size, DECODERS[1] if decoder == "auto" else decoder, damaged)
            return
        yield ("restart",)
        total, seconds = len(stamps), _seconds(scan, stamps)
    raise DecodeError("each reading of it finds another number of frames")


def _came_at(seconds: np.ndarray | None, clock: np.ndarray | None, end: int) -> bool:
    return seconds is not None and clock is not None and np.array_equal(seconds, clock[:end])


def _in_span(seconds: np.ndarray, span_seconds: tuple[float, float] | None) -> tuple[int, int]:
    """First frame inside and first behind; a microsecond is forgiven, since times are rounded."""
    if span_seconds is None:
        return 0, len(seconds)
    first, end = np.searchsorted(seconds, np.subtract(span_seconds, 1e-6)).tolist()
    if first >= end:
        raise DecodeError(f"no frame between {span_seconds[0]:.2f} and {span_seconds[1]:.2f} s")
    return first, end


def probe(path: str | Path) -> VideoInfo:
    """What the file claims of itself, without decoding: an estimate for plans (frames is 0 when the file does not say; it
    is 0, as width and height are, when only sound can be had of the file).

    Raises DecodeError or OSError as `decode` does.
    """
    path = Path(path)
    if path.is_dir():
        scan = _scan_images(path)
        assert scan.seconds is not None
        return _info(scan, scan.seconds, frames_folder.read_image(frames_folder.images(path)[0]).shape[1::-1], "header", 0)
    with open_container(path) as container:
        audio = bool(container.streams.audio)
        try:
            stream = video_stream(container)
        except DecodeError:
            if not audio:
                raise
            return VideoInfo(0, 0.0, 0, 0, "header", (container.duration or 0) / 1e6, audio)
        fps = float(stream.average_rate or 0)
        seconds = stream.duration * float(stream.time_base or 0) if stream.duration else (container.duration or 0) / 1e6
        expected = round(seconds * fps)
        frames = stream.frames if 0 < stream.frames <= 2 * expected + 2 or not expected else expected
        return VideoInfo(frames, fps, stream.width, stream.height, "header", seconds, audio)


SAMPLE_FRAMES = 8


def write_sample(path: Path) -> Path:
    """Write a small video that every decoder reads, SAMPLE_FRAMES frames: what cannot read this is itself broken."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, width=64, height=64, pix_fmt="yuv420p")
        for number in range(SAMPLE_FRAMES):
            picture = np.full((64, 64, 3), 20 * number, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def _checked(numbers: np.ndarray, frames: int) -> np.ndarray:
    numbers = np.asarray(numbers, dtype=np.int64).ravel()
    if len(numbers) and not 0 <= numbers.min() <= numbers.max() < frames:
        raise ValueError(f"select asked for frames {numbers.min()} to {numbers.max()} of {frames}")
    return numbers


# ---- the scan: packets without decoding


@dataclass(frozen=True)
class _Scan:
    """frames: packets that should give one; seconds: their times in order of display, None when they make no sense."""

    frames: int
    seconds: np.ndarray | None
    fps: float
    audio: bool
    time_base: float
    origin_seconds: float


def _scan(path: Path, alive: Callable[[], None]) -> _Scan:
    with open_container(path) as container:
        stream = video_stream(container)
        stamps: list[int | None] = []
        order: list[int] = []
        cut = False
        try:
            for packet in container.demux(stream):
                alive()
                cut = packet.is_corrupt if packet.size else cut
                if packet.size and not packet.is_discard:  # discarded: decoded for others' sake, never shown
                    stamps.append(packet.pts)
                    order += [] if packet.dts is None else [packet.dts]
        except av.error.FFmpegError as error:
            raise DecodeError(f"damaged after {len(stamps)} packets: {error.strerror}") from None
        check_whole(path, cut, len(stamps), stream.frames)
        origin = (container.start_time or 0) / 1e6
        time_base = float(stream.time_base or 0)
        seconds = _clock(stamps, order, time_base, origin)
        fps = float(stream.average_rate or 0)
        if not fps and seconds is not None and len(seconds) > 1:
            fps = float((len(seconds) - 1) / (seconds[-1] - seconds[0]))
        return _Scan(len(stamps), seconds, fps, bool(container.streams.audio), time_base, origin)


def _seconds(scan: _Scan, stamps: list[int | None]) -> np.ndarray | None:
    return _clock(stamps, [], scan.time_base, scan.origin_seconds)


def _clock(stamps: list[int | None], order: list[int], time_base: float, origin_seconds: float) -> np.ndarray | None:
    """Presentation times in seconds, ascending, (frames,) float64; None unless each frame has a time of its own and
    decoding order never jumps back. AVI numbers packets, not pictures, but sorted they are the pictures' places."""
    known = np.array([s for s in stamps if s is not None], dtype=np.int64)
    if len(known) < len(stamps) or len(np.unique(known)) < len(known) or np.any(np.diff(order) < 0):
        return None
    return np.sort(known) * time_base - origin_seconds


def _scan_images(folder: Path) -> _Scan:
    """fps is unknown, 0.0; frame n is taken to be shown at n / 25."""
    frames = len(frames_folder.images(folder))
    return _Scan(frames, np.arange(frames) * (1 / _UNKNOWN_FPS), 0.0, False, 1 / _UNKNOWN_FPS, 0.0)


def _info(scan: _Scan, seconds: np.ndarray, size: tuple[int, int], decoder: str, damaged: int) -> VideoInfo:
    duration = float(seconds[-1] - seconds[0]) + 1 / (scan.fps or _UNKNOWN_FPS)
    return VideoInfo(len(seconds), scan.fps, *size, decoder, duration, scan.audio, damaged)


# ---- pictures


_Matrix = tuple[int, int, int, int]  # (a, b, c, d): a pixel at (x, y) is shown at (a x + c y, b x + d y), up to a shift


def _display_matrix(frame: av.VideoFrame) -> _Matrix:
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return 1, 0, 0, 1
    m = struct.unpack("=9i", bytes(data))
    return m[0], m[1], m[3], m[4]


def _as_displayed(matrix: _Matrix, picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) as coded -> as displayed: quarter turns and mirrors; other angles go to the nearest quarter."""
    a, b, c, d = matrix
    if abs(a) < abs(b):
        picture, a, d = picture.transpose(1, 0, 2), c, b
    return picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


# ---- readers: every frame of the file in order, each with PyAV's own and a way to get its pixels


def _reader(decoder: str) -> Callable[[Path, int], Iterator[_Frame]]:
    """auto is PyAV: right on every file tried, and the fastest of those that are (docs/decoding.md)."""
    if decoder not in DECODERS:
        raise InputError(f"DECODER={decoder}: choose from {', '.join(DECODERS)}")
    return {"opencv": partial(_read_beside, "opencv"), "decord": partial(_read_beside, "decord")}.get(decoder, _read_pyav)


def _read_images(folder: Path, expected: int) -> Iterator[_Frame]:
    for number, path in enumerate(frames_folder.images(folder)):
        yield number, False, partial(frames_folder.read_image, path)


def _read_pyav(path: Path, expected: int) -> Iterator[_Frame]:
    return ((frame.pts, frame.is_corrupt, to_rgb) for frame, to_rgb in _decoded(path, expected))


def _decoded(path: Path, expected: int) -> Iterator[_DecodedFrame]:
    reformatter = VideoReformatter()  # keeps its tables from frame to frame; making them costs more than using them
    rotation: int | None = None
    matrix: _Matrix = (1, 0, 0, 1)
    done = 0
    with open_container(path) as container:
        try:
            for frame in container.decode(video_stream(container)):
                if frame.rotation != rotation:  # side data makes a frame a reference cycle: look at it once, not at each
                    rotation, matrix = frame.rotation, _display_matrix(frame)
                yield frame, partial(_rgb, reformatter, matrix, frame)
                done += 1
        except av.error.FFmpegError as error:
            raise DecodeError(f"damaged after {done} of {expected} frames: {error.strerror}") from None


def _rgb(reformatter: VideoReformatter, matrix: _Matrix, frame: av.VideoFrame) -> np.ndarray:
    return _as_displayed(matrix, reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray())


def _read_beside(name: str, path: Path, expected: int) -> Iterator[_Frame]:
    """Another decoder in step with PyAV, which judges it: as many frames, and every wanted one the same picture."""
    others = {"opencv": _read_opencv, "decord": _read_decord}[name](path)
    right = _decoded(path, expected)
    for number, (frame, to_rgb) in enumerate(right):
        other = next(others, None)
        if other is None:
            count = number + 1 + sum(1 for _ in right)
            raise DecodeError(f"{name} finds {number} frames, PyAV {count}; use DECODER=auto")
        yield frame.pts, frame.is_corrupt, partial(_judged, name, number, frame, to_rgb, other)
    if next(others, None) is not None:
        raise DecodeError(f"{name} finds more frames than PyAV; use DECODER=auto")


def _judged(
    name: str, number: int, frame: av.VideoFrame, to_rgb: Callable[[], np.ndarray], other: Callable[[], np.ndarray]
) -> np.ndarray:
    right, picture = to_rgb(), other()
    if picture.shape != right.shape:
        raise DecodeError(f"{name} gives frame {number} as {picture.shape}, not {right.shape} (H, W, 3); use DECODER=auto")
    # The same frame differs by nothing, by a grey level where more than 8 bits are rounded; a neighbour by more.
    allowed = 0.5 if max(c.bits for c in frame.format.components) <= 8 else 2.0
    difference = float(np.mean(np.maximum(picture, right) - np.minimum(picture, right)))
    if difference > allowed:
        raise DecodeError(f"{name} gives a wrong frame {number} ({difference:.1f} grey levels off); use DECODER=auto")
    return picture


def _read_opencv(path: Path) -> Iterator[Callable[[], np.ndarray]]:
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    from reelbank.data.opencv import cv2  # takes a while to load: only where it is wanted

    capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])

    def retrieve() -> np.ndarray:
        return cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB)

    try:
        while capture.grab():
            yield retrieve
    finally:
        capture.release()


def _read_decord(path: Path) -> Iterator[Callable[[], np.ndarray]]:
    try:
        import decord
    except ImportError as error:
        raise InputError(f"DECODER=decord: {error}; pip install decord (x86-64 only), or DECODER=auto") from None
    decord.logging.set_level(decord.logging.QUIET)
    os.environ.setdefault("DECORD_DUPLICATE_WARNING_THRESHOLD", "1.0")
    try:
        video = decord.VideoReader(str(path.absolute()), num_threads=1)
        for _ in range(len(video)):
            yield video.next().asnumpy
    except (decord.DECORDError, RuntimeError) as error:
        raise DecodeError(f"decord cannot read it ({_last_line(error)}); use DECODER=auto") from None


def _last_line(error: Exception) -> str:
    """decord's errors end in a stack trace; what it says stands before, after the path in brackets."""
    said = str(error).split("Stack trace")[0].strip().splitlines()[0]
    return said.rsplit("]", 1)[-1].strip() or "no reason given"
