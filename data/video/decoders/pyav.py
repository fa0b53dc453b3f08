"""Reads every frame of a video in order with PyAV, or of a folder of images with Pillow."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from reelbank.data.video import images as frames_folder
from reelbank.data.video.decoders.damage import Trouble
from reelbank.data.video.decoders.scan import Scan
from reelbank.data.video.limits import Guard
from reelbank.data.video.opening import (
    DecodeError,
    errors,
    is_too_large,
    open_container,
    too_large,
    video_stream,
)

# (a, b, c, d): a pixel at (x, y) is displayed at (a x + c y, b x + d y), up to a shift.
_Matrix = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, before it is known whether it is selected.

    stamp: its time stamp. is_mended: the decoder had to mend it. to_rgb: returns its pixels as
    displayed, (H, W, 3) uint8 RGB.
    """

    stamp: int | None
    is_mended: bool
    to_rgb: Callable[[], np.ndarray]


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """A frame of PyAV; `to_rgb` as in Frame."""

    av_frame: av.VideoFrame
    to_rgb: Callable[[], np.ndarray]


Reader = Callable[[Path, Scan, Trouble, Guard], Iterator[Frame]]


def read_images(folder: Path, scan: Scan, trouble: Trouble, guard: Guard) -> Iterator[Frame]:
    """The images of a folder; the stamp is the number."""
    for number, path in enumerate(frames_folder.images(folder)):
        to_rgb = partial(frames_folder.read_image, path, guard.picture)
        yield Frame(number, is_mended=False, to_rgb=to_rgb)


def read_pyav(path: Path, scan: Scan, trouble: Trouble, guard: Guard) -> Iterator[Frame]:
    """The frames of a file."""
    for decoded in decoded_frames(path, scan, trouble, guard):
        yield Frame(decoded.av_frame.pts, decoded.av_frame.is_corrupt, decoded.to_rgb)


def decoded_frames(
    path: Path, scan: Scan, trouble: Trouble, guard: Guard
) -> Iterator[DecodedFrame]:
    """The frames of a file from PyAV. Packets for which the decoder reports an error are added to
    `trouble`. Raises DecodeError if the file cannot be decoded to its end."""
    converter = Converter()
    done = 0
    # Whether the first key frame was decoded. Packets before it refer to pictures that were cut
    # off, so errors for them are not damage.
    begun = False
    picture_px = guard.limits.picture_px
    with open_container(path, picture_px, ignore_edits=scan.ignore_edits) as container:
        stream = video_stream(container, picture_px)
        name = stream.codec_context.codec.name
        # Entered again for each packet instead of once: another video may be read between two
        # packets, and its messages must not be captured here.
        capture = av.logging.Capture()
        try:
            for packet in container.demux(stream):
                with capture as log:
                    frames = packet.decode()
                if log:
                    if begun and errors(log, name):
                        trouble.add(packet.pts)
                    log.clear()
                for frame in frames:
                    guard.picture(frame.width, frame.height)  # the size may change within a file
                    begun = begun or bool(frame.key_frame)
                    yield DecodedFrame(frame, converter.to_rgb(frame))
                    done += 1
        except av.error.FFmpegError as error:
            if is_too_large(error):
                raise too_large(picture_px) from None
            raise DecodeError(
                f"damaged after {done} of {scan.frames} frames: {error.strerror}"
            ) from None


class Converter:
    """Converts the frames of one video, in order, to RGB as displayed."""

    def __init__(self) -> None:
        # One for all frames: it keeps its conversion tables, whose computation costs more than
        # their use.
        self._reformatter = VideoReformatter()
        self._rotation: int | None = None
        self._matrix: _Matrix = (1, 0, 0, 1)

    def to_rgb(self, frame: av.VideoFrame) -> Callable[[], np.ndarray]:
        """The function that returns the frame's pixels, (H, W, 3) uint8."""
        # Reading side data makes the frame a reference cycle, which costs time: read it only when
        # the rotation changes.
        if frame.rotation != self._rotation:
            self._rotation, self._matrix = frame.rotation, _display_matrix(frame)
        return partial(_rgb, self._reformatter, self._matrix, frame)


def _rgb(reformatter: VideoReformatter, matrix: _Matrix, frame: av.VideoFrame) -> np.ndarray:
    return _as_displayed(
        matrix, reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
    )


def _display_matrix(frame: av.VideoFrame) -> _Matrix:
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return 1, 0, 0, 1
    m = struct.unpack("=9i", bytes(data))
    return m[0], m[1], m[3], m[4]


def _as_displayed(matrix: _Matrix, picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) as coded -> as displayed: quarter turns and mirrors. Other angles are rounded to
    the nearest quarter turn."""
    a, b, c, d = matrix
    if abs(a) < abs(b):
        picture, a, d = picture.transpose(1, 0, 2), c, b
    return picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
