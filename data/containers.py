"""What a video container's own header says of its length, read without a decoder."""

import struct
from pathlib import Path


def declared_bytes(path: Path) -> int:
    """How long the file says it should be (AVI, MP4/MOV, Matroska/WebM), 0 when it does not say."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(4096)
        if start[:4] == b"RIFF":
            size_after = struct.unpack("<I", start[4:8])[0]
            return 0 if size_after == 0xFFFFFFFF else size_after + 8  # all ones: written to a pipe, length unknown
        if start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            end = 0
            while end < size:  # box after box
                file.seek(end)
                box = file.read(16).ljust(16, b"\0")
                length = struct.unpack(">I", box[:4])[0]
                length = struct.unpack(">Q", box[8:])[0] if length == 1 else length
                if length < 8:  # 0: to the end of the file
                    return 0
                end += length
            return end
        segment = start.find(b"\x18\x53\x80\x67")
        if start[:4] == b"\x1a\x45\xdf\xa3" and 0 < segment < len(start) - 12:
            first = start[segment + 4]
            width = 9 - first.bit_length()  # leading zeros of the first byte count the bytes that follow
            value = int.from_bytes(start[segment + 4 : segment + 4 + width]) & ((1 << 7 * width) - 1)
            return 0 if value == (1 << 7 * width) - 1 else segment + 4 + width + value
    return 0
