"""Decodes selected frames of videos, each once and in order: files with PyAV, OpenCV or decord,
folders of images with Pillow.

A video is read twice. A scan of its packets, which decodes nothing and costs a tenth of decoding,
gives the number of frames for the selection. Then every frame is decoded in sequence, and only the
selected ones are converted to RGB. If decoding finds another number of frames than the packets
promised (a packet that only repeats the previous picture gives no frame), the selection is made
again with the true number. At most one chunk of frames is in memory.

If the scan proves which frames can be decoded without those before them, and this saves much time
(long videos), only the frames that the selection needs are decoded. If anything then is not as the
scan promised, the video is read in sequence. Measurements: docs/decoding.md.
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
from reelbank.data.video.decoders.attempt import Attempt, Chunk, video_info
from reelbank.data.video.decoders.others import read_checked
from reelbank.data.video.decoders.pyav import Reader, read_images, read_pyav
from reelbank.data.video.decoders.scan import frame_seconds, scan_file, scan_images
from reelbank.data.video.decoders.seeking import UnlikeIndexError, read_runs
from reelbank.data.video.functions import PictureFunction
from reelbank.data.video.limits import Guard, Limits
from reelbank.data.video.messages import (
    Done,
    PictureMessage,
    Restart,
    Start,
    VideoInfo,
)
from reelbank.data.video.opening import DecodeError, open_container, video_stream
from reelbank.data.video.process.ring import FrameMemory
from reelbank.data.video.sampling import USUAL_WINDOWS, SoundWindows
from reelbank.data.video.timeline import FrameCount

DECODERS = ("auto", "pyav", "opencv", "decord")

# The second reading has the true number of frames; a third one helps if the file changes meanwhile.
_MOST_READINGS = 3
# Seeking is used only if at least this many frames need not be decoded: 10 s of video, 0.1 to 1
# core-second. It saves nothing in short clips, and the frames that are left out are not checked for
# damage.
LEAST_SKIPPED_FRAMES = 250
# How a video that was read by seeking is marked in `VideoInfo.decoder`.
_BY_SEEKING = "pyav, seeking"


@dataclass(frozen=True)
class Reading:
    """What to read of a video; picklable if its selections are.

    select: as for `decode`; None to read no pictures. sound: as `select` of `sound.read_sound`;
    None to read no sound. sound_windows: its examples. span_seconds: read pictures and sound only within [start, end) on the
    file's clock. image_fps: frame rate of a folder of images, 0 if unknown. functions: computed
    from the pictures that they need, whether or not `select` chooses these.
    """

    select: Callable[[FrameCount], np.ndarray] | None
    decoder: str = "auto"
    sound: Callable[[int], np.ndarray] | None = None
    span_seconds: tuple[float, float] | None = None
    image_fps: float = 0.0
    functions: Sequence[PictureFunction] = ()
    sound_windows: SoundWindows = USUAL_WINDOWS


def decode(
    path: str | Path,
    select: Callable[[FrameCount], np.ndarray],
    decoder: str = "auto",
    *,
    chunk_frames: int = 32,
    alive: Callable[[], None] = lambda: None,
    span_seconds: tuple[float, float] | None = None,
    limits: Limits | None = None,
    admit: Callable[[int], None] = lambda pixels: None,
    image_fps: float = 0.0,
    memory: FrameMemory | None = None,
    processor_seconds: Callable[[], float] = time.process_time,
    least_skipped_frames: int = LEAST_SKIPPED_FRAMES,
) -> Iterator[PictureMessage]:
    """Read the frames of a video that `select` chooses, as messages (see `messages`).

    select: gets the number of frames, an int that also has their times (see `FrameCount`), and
    returns 0-based frame numbers, of any shape and order and with repeats; each frame is given
    once. chunk_frames: maximum number of frames in a message.
    alive: called for every packet and frame, selected or not. span_seconds: treat the frames with
    start <= time < end as the whole video; count, numbers (from 0), size and duration refer to
    these frames, times to the file, and frames after the span are not read. admit: called with the
    number of pixels of a picture that is larger than all before; returns when there is room for it.
    image_fps: frame rate of a folder of numbered images, 0 if unknown; then image n is taken to be
    displayed at n / 25 s. memory: where the pixels are written (default: new arrays).
    processor_seconds: the processor time that counts for `limits`.
    least_skipped_frames: seek, where this is proven to be right, if at least this many frames of
    the file need not be decoded (decoders auto and pyav).

    Pictures are rotated and mirrored according to the file's metadata; a pixel aspect ratio is not
    applied. Times count from the start of the file, with sound and pictures on one clock, and never
    decrease; they are number / fps if the file's own times make no sense.

    Raises DecodeError if the video cannot be read completely or exceeds `limits`, InputError for an
    unknown or missing decoder, ValueError if `select` returns a number that is not a frame's,
    OSError if the file cannot be read at all.
    """
    read = _reader(decoder)
    path = Path(path)
    guard = Guard(limits or Limits(), alive, admit, clock=processor_seconds)
    if path.is_dir():
        scan, read, decoder = scan_images(path, image_fps), read_images, "pillow"
    else:
        scan = scan_file(path, guard)
    total, clock = scan.frames, scan.seconds
    if not total:
        raise DecodeError("its video track contains no frames")
    may_seek = read is read_pyav
    for _ in range(_MOST_READINGS):
        chunk = Chunk(memory or FrameMemory(), chunk_frames)
        attempt = Attempt(scan, total, clock, span_seconds, chunk)
        yield Start(attempt.frame_count)
        attempt.choose(select)
        runs = attempt.runs(least_skipped_frames) if may_seek else []
        if runs and scan.index:
            try:
                yield from attempt.found(read_runs(path, scan.index, runs, guard), guard)
            except UnlikeIndexError:
                may_seek = False
                yield Restart()
                scan = scan_file(path, guard, by_tables=False)
                total, clock = scan.frames, scan.seconds
                continue
            yield Done(attempt.info(_BY_SEEKING))
            return
        yield from attempt.selected(read(path, scan, attempt.trouble, guard), guard)
        if not attempt.stamps:
            raise DecodeError("no frame of its video track can be decoded")
        if attempt.is_right:
            yield Done(attempt.info(DECODERS[1] if decoder == "auto" else decoder))
            return
        yield Restart()
        if attempt.is_unlike_tables():
            scan = scan_file(path, guard, by_tables=False)
            total, clock = scan.frames, scan.seconds
            continue
        total, clock = len(attempt.stamps), frame_seconds(scan, attempt.stamps)
    raise DecodeError("it has a different number of frames each time it is decoded")


def _reader(decoder: str) -> Reader:
    """The reader of a decoder. "auto" is PyAV: it is correct on every file that was tried, and the
    fastest of the correct decoders (docs/decoding.md)."""
    if decoder not in DECODERS:
        raise InputError(f"DECODER={decoder}: choose from {', '.join(DECODERS)}")
    if decoder in DECODERS[2:]:
        return partial(read_checked, decoder)
    return read_pyav


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
        return video_info(scan, scan.seconds, first.shape[1::-1], "header")
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
