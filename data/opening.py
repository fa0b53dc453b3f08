"""Opening video and sound files with PyAV: only what is one, only that file, and why it cannot be opened."""

import stat
from pathlib import Path
from typing import Any

import av

from reelbank.data.containers import declared_bytes

# They make FFmpeg open further files or addresses, or draw any text as a picture: nothing a stranger's file should do.
_REFUSED_FORMATS = {"applehttp", "concat", "dash", "hls", "image2", "imf", "rtp", "rtsp", "sap", "sdp", "tty"}
_OPEN_OPTIONS = {"format_whitelist": ",".join(sorted(av.formats_available - _REFUSED_FORMATS)), "protocol_whitelist": "file"}
# PyAV 18 refuses a file whose metadata are not UTF-8 unless it is told otherwise. PyAV 19 has no such option: it keeps bytes
# that are not UTF-8 as surrogates, so metadata must be cleaned before they are printed or stored. Nothing here reads any.
_METADATA_OPTIONS: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}


class DecodeError(Exception):
    """This video cannot be decoded; the message is the reason, one line, without the path."""


def open_container(path: Path) -> av.container.InputContainer:
    """Raises DecodeError for what is no video or sound, OSError for a file that cannot be read at all."""
    av.logging.set_level(av.logging.PANIC)  # what matters comes as an exception
    status = path.stat()  # OSError, here and below: vanished, not allowed, a failing disk
    if not stat.S_ISREG(status.st_mode):
        raise DecodeError("a folder, not a file" if stat.S_ISDIR(status.st_mode) else "not a regular file")
    with path.open("rb") as file:
        start = file.read(4096)
    if not start:
        raise DecodeError("empty file (0 bytes)")
    try:
        # "file:" and the absolute path, since names may look like options, patterns or addresses
        return av.open(f"file:{path.absolute()}", options=dict(_OPEN_OPTIONS), **_METADATA_OPTIONS)
    except av.error.FFmpegError as error:
        raise DecodeError(_why_not_opened(path, start, error)) from None


def _why_not_opened(path: Path, start: bytes, error: Exception) -> str:
    size, declared = path.stat().st_size, declared_bytes(path)
    if declared > size:
        return f"truncated: {size} of {declared} bytes are there"
    if start[4:8] == b"ftyp":
        return "truncated or damaged: its index (moov) is missing"
    if not any(start):
        return "not a video file (nothing but zero bytes)"
    if all(byte >= 32 or byte in b"\t\n\r\f" for byte in start):
        return "not a video file (text or a playlist)"
    if isinstance(error, av.error.InvalidDataError):
        return "not a video file, or its header is damaged"
    return f"cannot be opened: {getattr(error, 'strerror', error)}"


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """FFmpeg's best video stream; an attached picture (cover art) only when nothing else is there. Raises DecodeError."""
    moving = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    best = container.streams.best("video")
    if not isinstance(best, av.VideoStream) or best.codec_context is None:
        if container.streams.video:
            raise DecodeError("its video codec is not known to this FFmpeg")
        raise DecodeError("no video track (audio only)" if container.streams.audio else "no video track")
    if best not in moving and moving:
        best = max(moving, key=lambda s: s.width * s.height)
    best.codec_context.thread_count = 1  # one worker process per core is faster than threads inside each
    return best


def audio_stream(container: av.container.InputContainer) -> av.AudioStream | None:
    """FFmpeg's best sound track, None without one. Raises DecodeError when its codec is not known."""
    best = container.streams.best("audio")
    if isinstance(best, av.AudioStream) and best.codec_context is not None:
        best.codec_context.thread_count = 1
        return best
    if container.streams.audio:
        raise DecodeError("its audio codec is not known to this FFmpeg")
    return None


def check_whole(path: Path, last_is_cut: bool, packets: int, promised: int) -> None:
    """Raises DecodeError when the file ends before its header says it should and a stream's `packets` are fewer than the
    `promised` ones (0 when it promises none), or when its last packet is cut off."""
    size, declared = path.stat().st_size, declared_bytes(path)
    if last_is_cut or (declared > size and not 0 < promised <= packets):
        there = f"{size} of {declared} bytes are there" if declared > size else "its last packet is cut off"
        raise DecodeError(f"truncated: {there}")
