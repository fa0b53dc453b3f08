"""Finds where the structure of a video file (chunks, boxes, packs or pages) is broken, by following
its headers.

If a header is missing, a demuxer searches for the next one and continues without a message; the
data between them is lost. Therefore the chain of headers is followed here. Nothing is decoded, and
of most files only the headers are read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np

from reelbank.data.video.containers import mp4

_BLOCK_PACKETS = 1 << 14  # packets of a transport stream that are read at once
_PACKET_BYTES = (
    188,
    192,
    204,
)  # plain; with a time stamp before it (M2TS); with a checksum after it
_SMALL_BYTES = 8 << 20  # smaller files are read at once, which is faster than seeking
_STUFFING_BYTES = 64  # up to this many zeros between packs of a program stream are not damage
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_LONGEST_GIF_BYTES = 256 << 20


@dataclass(frozen=True)
class Break:
    """The first position at which the structure is broken: no valid header follows, or (is_end) the
    file ends too early."""

    at: int
    is_end: bool = False


def fault(path: Path, format_name: str, complaints: Sequence[str], incomplete: int) -> str:
    """The fault in a file's structure as text, "" if there is none. format_name: FFmpeg's name of
    the format. complaints: errors that its demuxer reported; they matter for formats that are not
    followed here (mainly Matroska). incomplete: number of packets that the demuxer marks as
    incomplete. Raises OSError."""
    broken = _break(path, format_name)
    if broken:
        return broken
    if complaints:
        return f"FFmpeg cannot follow it ({complaints[0][:120]})"
    return f"{incomplete:,} of its packets are incomplete" if incomplete else ""


def _break(path: Path, format_name: str) -> str:
    if "mp4" in format_name.split(","):
        return mp4.boxes(path).fault
    follow = _FOLLOWED.get(format_name)
    if follow is None:
        return ""
    size = path.stat().st_size
    with path.open("rb", buffering=0) as file:
        broken = follow(BytesIO(file.read()) if size <= _SMALL_BYTES else file, size)
    if broken is None:
        return ""
    if broken.is_end:
        return "it ends too early"
    return f"its structure breaks off at byte {broken.at:,} of {size:,}"


def _avi(file: BinaryIO, size: int) -> Break | None:
    """Chunks of "RIFF AVI " and of the "RIFF AVIX" that follow it; bytes after these do not belong
    to the video."""
    at = 0
    while at + 12 <= size:
        file.seek(at)
        head = file.read(12)
        if head[:4] != b"RIFF":
            return None
        length = int.from_bytes(head[4:8], "little")
        end = min(size, at + 8 + length)
        if length in (0, 0xFFFFFFFF):  # unknown, because the file was written to a pipe
            end = size
        at += 12
        while at + 8 <= end:
            file.seek(at)
            head = file.read(12)
            kind, length = head[:4], int.from_bytes(head[4:8], "little")
            if not all(32 <= byte < 127 for byte in kind):
                return Break(at)
            is_open = kind == b"LIST" and head[8:] in (
                b"movi",
                b"rec ",
            )  # its contents are chunks, too
            at += 12 if is_open else 8 + length + length % 2
        if at > end + 1:
            return Break(at, is_end=True)
        at = end + end % 2
    return None


def _transport_stream(file: BinaryIO, size: int) -> Break | None:
    """Every packet begins with 0x47."""
    start = np.frombuffer(file.read(64 << 10), np.uint8)
    for packet_bytes in _PACKET_BYTES:
        for first in range(packet_bytes):
            if len(start) > first and (start[first::packet_bytes][:8] == 0x47).all():
                break
        else:
            continue
        break
    else:
        return None
    at = first
    file.seek(at)
    while block := file.read(_BLOCK_PACKETS * packet_bytes):
        wrong = np.flatnonzero(np.frombuffer(block, np.uint8)[::packet_bytes] != 0x47)
        if len(wrong):
            return Break(at + int(wrong[0]) * packet_bytes)
        at += len(block)
    # After the last packet its checksum or the next time stamp may be missing.
    complete = (0, _PACKET_BYTES[0])
    return None if (size - first) % packet_bytes in complete else Break(size, is_end=True)


def _program_stream(file: BinaryIO, size: int) -> Break | None:
    """Packs and packets, each with its length (ISO/IEC 11172-1, 13818-1)."""
    at = stuffing = 0
    while at < size:
        file.seek(at)
        head = file.read(max(14, _STUFFING_BYTES))
        if head[:3] != b"\0\0\1":
            zeros = len(head) - len(head.lstrip(b"\0"))
            stuffing += max(0, zeros - 2)
            if zeros < 3 and head.strip(b"\0") or stuffing > _STUFFING_BYTES:
                return Break(at)
            at += max(1, zeros - 2)
            continue
        stuffing = 0
        kind, length = head[3], int.from_bytes(head[4:6])
        if kind == 0xBA:
            at += 14 + (head[13:14] or b"\0")[0] % 8 if head[4:5] >= b"\x40" else 12
        elif kind == 0xB9:
            at += 4
        elif kind > 0xBA and length:
            at += 6 + length
        else:
            return Break(at)
    return Break(at, is_end=True) if at > size else None


def _flash(file: BinaryIO, size: int) -> Break | None:
    """Tags, each followed by its length."""
    at = int.from_bytes(file.read(9)[5:9]) + 4
    while at + 11 <= size:
        file.seek(at)
        head = file.read(11)
        length = 11 + int.from_bytes(head[1:4])
        file.seek(at + length)
        footer = file.read(4)
        is_length = len(footer) < 4 or int.from_bytes(footer) in (length, 0)
        # 8: sound, 9: video, 18: script data
        if head[0] & 0x1F not in (8, 9, 18) or not is_length:
            return Break(at)
        at += length + 4
    return None if at == size else Break(at, is_end=True)


def _windows_media(file: BinaryIO, size: int) -> Break | None:
    """Packets of one size; the header has their number, and none begins with a zero byte."""
    header = file.read(1 << 20)
    properties = header.find(_ASF_PROPERTIES)
    begin = int.from_bytes(header[16:24], "little") + 50
    packet_bytes = int.from_bytes(header[properties + 92 : properties + 96], "little")
    packets = int.from_bytes(header[begin - 10 : begin - 2], "little")
    if properties < 0 or not packet_bytes or begin > len(header):
        return None
    for at in range(begin, min(begin + packets * packet_bytes, size), packet_bytes):
        file.seek(at)
        if file.read(1) == b"\0":
            return Break(at)
    return Break(size, is_end=True) if begin + packets * packet_bytes > size else None


def _ogg(file: BinaryIO, size: int) -> Break | None:
    """Pages, each with the lengths of its segments."""
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(27 + 255)
        if head[:4] != b"OggS":
            return Break(at)
        segments = head[26] if len(head) > 26 else 0
        at += 27 + segments + sum(head[27 : 27 + segments])
    return Break(at, is_end=True) if at > size else None


def _gif(file: BinaryIO, size: int) -> Break | None:
    """Blocks up to the trailer; bytes after it do not belong to the video."""
    if size > _LONGEST_GIF_BYTES:
        return None
    data = file.read()

    def table_bytes(flags: int) -> int:
        return 3 << (flags % 8 + 1) if flags & 0x80 else 0

    at = 13 + table_bytes(data[10] if size > 10 else 0)
    while at < size and data[at] != 0x3B:
        if data[at] == 0x21:
            at += 2
        elif data[at] == 0x2C and at + 9 < size:
            at += 11 + table_bytes(data[at + 9])
        else:
            return Break(at)
        while at < size and data[at]:
            at += 1 + data[at]
        at += 1
    return Break(at, is_end=True) if at > size else None


_FOLLOWED: dict[str, Callable[[BinaryIO, int], Break | None]] = {
    "avi": _avi,
    "mpegts": _transport_stream,
    "mpeg": _program_stream,
    "flv": _flash,
    "asf": _windows_media,
    "ogg": _ogg,
    "gif": _gif,
}
