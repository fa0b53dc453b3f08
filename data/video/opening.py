"""Opens video and sound files with PyAV, and explains why a file cannot be opened. Files that a
file refers to are never opened."""

import logging
import re
import stat
from pathlib import Path
from typing import Any

import av

from reelbank.data.video.containers.lengths import declared_bytes
from reelbank.data.video.options import PICTURE_PX

# With these formats FFmpeg opens other files or network addresses, or draws any text as a picture.
# An untrusted file must not cause that.
_REFUSED_FORMATS = {
    "applehttp",
    "avisynth",
    "concat",
    "dash",
    "dvdvideo",
    "hls",
    "image2",
    "imf",
    "lavfi",
    "mlv",
    "rtp",
}
_REFUSED_FORMATS |= {"rtsp", "sap", "sdp", "tty", "vapoursynth", "vobsub", "webm_dash_manifest"}
_OPEN_OPTIONS = {
    "format_whitelist": ",".join(sorted(av.formats_available - _REFUSED_FORMATS)),
    "protocol_whitelist": "file",
}
# PyAV 18 rejects a file whose metadata are not UTF-8 unless this option is set. PyAV 19 does not
# have the option: it keeps bytes that are not UTF-8 as surrogates, so metadata must be cleaned
# before they are printed or stored. This package does not read metadata.
_METADATA_OPTIONS: dict[str, Any] = (
    {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
)

# First bytes of files of the usual containers, by the name of FFmpeg's demuxer. No playlist
# ("#EXTM3U", "ffconcat", "# VobSub", also after an ID3 tag) begins with any of these.
_BEGINNINGS = {
    name: re.compile(beginning, re.DOTALL)
    for name, beginning in {
        "asf": rb"\x30\x26\xb2\x75",
        "avi": rb"RIFF....AVI",
        "dv": rb"\x1f\x07\x00",
        "flv": rb"FLV",
        "gif": rb"GIF8",
        "h264": rb"\x00\x00\x00?\x01",
        "hevc": rb"\x00\x00\x00?\x01",
        "ivf": rb"DKIF",
        "m4v": rb"\x00\x00\x01",
        "matroska,webm": rb"\x1a\x45\xdf\xa3",
        "mjpeg": rb"\xff\xd8\xff",
        "mov,mp4,m4a,3gp,3g2,mj2": rb"....(ftyp|moov|mdat|wide|free|skip|pnot|styp|jP  )",
        "mpeg": rb"\x00\x00\x01\xba",
        # The second form: in .m2ts files a time stamp of 4 bytes precedes each packet.
        "mpegts": rb"\x47|....\x47",
        "mpegvideo": rb"\x00\x00\x01\xb3",
        "mxf": rb"\x06\x0e\x2b\x34",
        "nut": rb"nut/multimedia container",
        "ogg": rb"OggS",
        "rm": rb"\.RMF",
        "yuv4mpegpipe": rb"YUV4MPEG2",
    }.items()
}
# FFmpeg's max_pixels counts rows after padding to a multiple of 64 pixels. Its limit is therefore
# set higher by the padding of 65,536 rows. It only protects memory; `limits.Guard` checks the exact
# size.
_FILLED_UP_PX = 64 * 65_536
_PROBED_BYTES = 1 << 20  # FFmpeg reads at most this much to recognise the format of a file


class DecodeError(Exception):
    """The video cannot be decoded. The message is the reason: one line, without the path."""


def too_large(picture_px: int, size: str = "") -> DecodeError:
    """The error for a video whose pictures exceed the limit."""
    return DecodeError(
        f"its pictures{size} have more than PICTURE_MPX={picture_px / 1e6:g} million pixels"
    )


def is_too_large(error: av.error.FFmpegError) -> bool:
    """Whether FFmpeg refused a picture because of `max_pixels`."""
    return bool(error.log) and "exceeds specified max pixel count" in str(error.log[-1])


# FFmpeg's messages are used to find damage (`errors`); they are not printed.
logging.getLogger("libav").addHandler(logging.NullHandler())
# Messages that also occur for undamaged files, at a cut between two key frames.
_HARMLESS = ("mmco: unref short failure", "co located POCs unavailable")


def open_container(
    path: Path, picture_px: int = PICTURE_PX, *, ignore_edits: bool = False
) -> av.container.InputContainer:
    """Open a file. ignore_edits: include the parts that an MP4's edit list hides. FFmpeg decodes
    some pictures to recognise a file, but none of more than `picture_px` pixels. Raises DecodeError
    if the file is neither video nor sound, OSError if it cannot be read at all."""
    av.logging.set_level(av.logging.ERROR)
    # By default PyAV drops a repeated message, but each packet with a message counts as damaged.
    av.logging.set_skip_repeated(False)
    # May raise OSError, as may `open` below: a deleted file, no permission, a failing disk.
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise DecodeError(
            "a folder, not a file" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        )
    with path.open("rb") as file:
        start = file.read(4096)
    if not start:
        raise DecodeError("empty file (0 bytes)")
    try:
        options = _OPEN_OPTIONS | _decoder_options(picture_px)
        if ignore_edits:
            options["ignore_editlist"] = "1"
        # "file:" and the absolute path, because a name may look like an option, pattern or address
        return av.open(f"file:{path.absolute()}", options=options, **_METADATA_OPTIONS)
    except av.error.FFmpegError as error:
        raise DecodeError(_why_not_opened(path, start, error)) from None


def _decoder_options(picture_px: int) -> dict[str, str]:
    return {"max_pixels": str(picture_px + _FILLED_UP_PX)}


def plain_container(path: Path) -> str:
    """The name of FFmpeg's demuxer for this file, which must be that of a plain container.

    For decoders that contain their own FFmpeg: an older version may open a file as a playlist that
    this version does not. Raises DecodeError for a file of another format or one that another
    version may take for another format, and as `open_container` does.
    """
    with open_container(path) as container:
        name = container.format.name
    with path.open("rb") as file:
        start = file.read(_PROBED_BYTES)
    if name not in _BEGINNINGS:
        raise DecodeError(f"files of the format '{name}' need DECODER=auto")
    if not _BEGINNINGS[name].match(start):
        raise DecodeError(f"it does not begin like a file of the format '{name}'; use DECODER=auto")
    # FFmpeg takes any file with such a line for the description of a network stream (SDP).
    if b"c=IN IP" in start:
        raise DecodeError(
            "it contains text that FFmpeg may take for a network address; use DECODER=auto"
        )
    return name


def errors(log: list[tuple[int, str, str]], speaker: str) -> list[str]:
    """The errors that FFmpeg's demuxer or decoder of the name `speaker` reported, from the messages
    of `av.logging.Capture()`."""
    complaints = [
        text.strip() for level, name, text in log if level <= av.logging.ERROR and name == speaker
    ]
    return [text for text in complaints if not text.startswith(_HARMLESS)]


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
    # The whitelists of _OPEN_OPTIONS cause these two errors.
    if isinstance(error, av.error.ArgumentError | av.error.PermissionError):
        return "not a video file, or in a format that refers to other files"
    if isinstance(error, av.error.InvalidDataError):
        return "not a video file, or its header is damaged"
    return f"cannot be opened: {getattr(error, 'strerror', error)}"


def video_stream(
    container: av.container.InputContainer, picture_px: int = PICTURE_PX
) -> av.VideoStream:
    """FFmpeg's best video stream; an attached picture (cover art) only if there is no other one.
    Its decoder refuses pictures of more than `picture_px` pixels. Raises DecodeError."""
    moving = [
        s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic
    ]
    best = container.streams.best("video")
    if not isinstance(best, av.VideoStream) or best.codec_context is None:
        if container.streams.video:
            raise DecodeError("this FFmpeg does not support its video codec")
        raise DecodeError(
            "no video track (audio only)" if container.streams.audio else "no video track"
        )
    if best not in moving and moving:
        best = max(moving, key=lambda s: s.width * s.height)
    best.codec_context.options = _decoder_options(picture_px)
    # One worker process per core is faster than several threads in each process.
    best.codec_context.thread_count = 1
    return best


def audio_stream(container: av.container.InputContainer) -> av.AudioStream | None:
    """FFmpeg's best sound track, None without one. Raises DecodeError if its codec is unknown."""
    best = container.streams.best("audio")
    if isinstance(best, av.AudioStream) and best.codec_context is not None:
        best.codec_context.thread_count = 1
        return best
    if container.streams.audio:
        raise DecodeError("this FFmpeg does not support its audio codec")
    return None


def check_whole(path: Path, *, last_is_cut: bool, packets: int, promised: int) -> None:
    """Raises DecodeError if the last packet of a stream is cut off, or if the file is shorter than
    its header says and contains fewer `packets` than `promised` (0: unknown)."""
    size, declared = path.stat().st_size, declared_bytes(path)
    if last_is_cut or (declared > size and not 0 < promised <= packets):
        detail = (
            f"{size} of {declared} bytes are there"
            if declared > size
            else "its last packet is cut off"
        )
        raise DecodeError(f"truncated: {detail}")
