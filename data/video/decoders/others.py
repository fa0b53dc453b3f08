"""OpenCV and decord as decoders, checked frame by frame against PyAV."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.video.decoders.damage import Trouble
from reelbank.data.video.decoders.pyav import DecodedFrame, Frame, decoded_frames
from reelbank.data.video.decoders.scan import Scan
from reelbank.data.video.limits import Guard
from reelbank.data.video.opening import DecodeError, plain_container


def read_checked(
    name: str, path: Path, scan: Scan, trouble: Trouble, guard: Guard
) -> Iterator[Frame]:
    """The frames of a file from another decoder, which runs in step with PyAV. Raises DecodeError
    if it finds another number of frames, or another picture for a selected frame."""
    others = {"opencv": _read_opencv, "decord": _read_decord}[name](path)
    right = decoded_frames(path, scan, trouble, guard)
    for number, decoded in enumerate(right):
        other = next(others, None)
        if other is None:
            count = number + 1 + sum(1 for _ in right)
            raise DecodeError(
                f"{name} finds {number} frames, but PyAV finds {count}; use DECODER=auto"
            )
        frame = decoded.av_frame
        to_rgb = partial(_checked, name, number, decoded, other)
        yield Frame(frame.pts, frame.is_corrupt, to_rgb)
    if next(others, None) is not None:
        raise DecodeError(f"{name} finds more frames than PyAV; use DECODER=auto")


def _checked(
    name: str, number: int, decoded: DecodedFrame, other: Callable[[], np.ndarray]
) -> np.ndarray:
    """The picture of the other decoder. Raises DecodeError if the picture of PyAV differs."""
    right, picture = decoded.to_rgb(), other()
    if picture.shape != right.shape:
        raise DecodeError(
            f"{name} decodes frame {number} with shape {picture.shape} instead of "
            f"{right.shape} (H, W, 3); use DECODER=auto"
        )
    # Pictures of the same frame are equal, or differ by a grey level if more than 8 bits are
    # rounded; neighbouring frames differ by more.
    bits = max(component.bits for component in decoded.av_frame.format.components)
    allowed = 0.5 if bits <= 8 else 2.0
    difference = float(np.mean(np.maximum(picture, right) - np.minimum(picture, right)))
    if difference > allowed:
        raise DecodeError(
            f"{name} decodes frame {number} wrongly ({difference:.1f} grey levels off); use "
            "DECODER=auto"
        )
    return picture


def _read_opencv(path: Path) -> Iterator[Callable[[], np.ndarray]]:
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    from reelbank.data.video.opencv import cv2  # imported here: loading it is slow

    # OpenCV passes these options to FFmpeg. They prevent that a file makes FFmpeg open other files.
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = (
        f"format_whitelist;{plain_container(path)}|protocol_whitelist;file"
    )
    capture = cv2.VideoCapture(
        f"file:{path.absolute()}", cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1]
    )

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
        raise InputError(
            f"DECODER=decord: {error}; install decord (x86-64 only) with 'pip install "
            "decord', or use DECODER=auto"
        ) from None
    decord.logging.set_level(decord.logging.QUIET)
    os.environ.setdefault("DECORD_DUPLICATE_WARNING_THRESHOLD", "1.0")
    plain_container(path)  # decord would follow the references in a playlist
    try:
        video = decord.VideoReader(f"file:{path.absolute()}", num_threads=1)
        for _ in range(len(video)):
            yield video.next().asnumpy
    except (decord.DECORDError, RuntimeError) as error:
        raise DecodeError(
            f"decord cannot read it ({_last_line(error)}); use DECODER=auto"
        ) from None


def _last_line(error: Exception) -> str:
    """The message of an error of decord; it stands between a path in brackets and a stack trace."""
    message = str(error).split("Stack trace")[0].strip().splitlines()[0]
    return message.rsplit("]", 1)[-1].strip() or "no reason given"
