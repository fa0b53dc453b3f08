"""The length of a file according to its container's header."""

from pathlib import Path
from typing import BinaryIO

from reelbank.data.video.containers import mp4


def declared_bytes(path: Path) -> int:
    """The length of the file according to its header (AVI, MP4/MOV, Matroska/WebM), 0 if
    unknown."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(4096)
        if start[:4] == b"RIFF":
            return _riff_end(file, size)
        if start[4:8] in mp4.BRANDS:
            return mp4.boxes(path).end
        segment = start.find(b"\x18\x53\x80\x67")
        if start[:4] == b"\x1a\x45\xdf\xa3" and 0 < segment < len(start) - 12:
            first = start[segment + 4]
            # EBML number: the leading zeros of the first byte tell how many bytes follow, and each
            # byte of the number has 7 bits of the value. All ones means that the length is unknown.
            width = 9 - first.bit_length()
            unknown = (1 << 7 * width) - 1
            value = int.from_bytes(start[segment + 4 : segment + 4 + width]) & unknown
            return 0 if value == unknown else segment + 4 + width + value
    return 0


def _riff_end(file: BinaryIO, size: int) -> int:
    """The end of the last RIFF chunk: an AVI of more than a gibibyte has several."""
    end = 0
    while end < size:
        file.seek(end)
        head = file.read(8)
        if head[:4] != b"RIFF" or len(head) < 8:
            break
        length = int.from_bytes(head[4:], "little")
        if length == 0xFFFFFFFF:  # written to a pipe: the length is unknown
            return 0
        end += 8 + length
    return end
