"""Reads the boxes of an MP4, QuickTime or 3GP file: the end of its last box, and whether its two
time scales agree.

An edit list has the time scale of the film (mvhd), a track has another one (mdhd). If one of the
two is wrong, the list seems to end after a fraction of the frames, and FFmpeg would drop the
others. Boxes: ISO/IEC 14496-12.
"""

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

# The first box of a file has one of these types.
BRANDS = (
    b"ftyp",
    b"moov",
    b"mdat",
    b"wide",
    b"free",
    b"skip",
    b"styp",
    b"pnot",
)
# Types of boxes at the top level of a file. Bytes after the last box that do not begin with one of
# them do not belong to the video (a mark of a download program, for example).
_TOP_LEVEL = {
    *BRANDS,
    b"moof",
    b"mfra",
    b"sidx",
    b"ssix",
    b"prft",
    b"uuid",
    b"meta",
    b"meco",
    b"udta",
    b"emsg",
    b"pdin",
    b"bloc",
}
_BRANCHES = (b"trak", b"mdia", b"minf", b"stbl")
_ENDING_BYTES = 8  # QuickTime files may end a list of boxes with this many zero bytes
_LONGEST_HEADER_BYTES = 64 << 20  # a larger moov is not read
_MOST_BOXES = 100_000
_BLOCK_BYTES = 1 << 20
# Time scales of a film (units per second) that programs write.
_FILM_SCALES = (
    600,
    1000,
    10_000,
    90_000,
    1_000_000,
)


@dataclass(frozen=True)
class Boxes:
    """end: the byte after the last box, according to the lengths of the boxes (beyond the end of
    the file if a box is cut off; 0 if the last box extends to the end of the file). fault: a fault
    in the fragments or the index, "" if there is none."""

    end: int
    fault: str


def boxes(path: Path) -> Boxes:
    """Walk the boxes at the top level of a file. Raises OSError."""
    size = path.stat().st_size
    end = 0
    kinds: list[bytes] = []
    with path.open("rb") as file:
        while end + 8 <= size and len(kinds) < _MOST_BOXES:
            file.seek(end)
            length, kind = _head(file.read(16))
            if kind not in _TOP_LEVEL or 0 < length < 8:
                break
            kinds.append(kind)
            if not length:
                return Boxes(0, "")
            end += length
        fault = ""
        if b"moof" in kinds and end < size and _loses_fragments(file, end, size):
            fault = f"no fragment can be read from byte {end:,} of {size:,} on"
        if kinds and kinds[-1] == b"moof" and end == size:
            fault = "its last fragment holds no frames"
    if b"moov" in kinds and not _is_whole(_moov(path)):
        fault = "its index (moov) is damaged"
    return Boxes(end, fault)


def _loses_fragments(file: BinaryIO, end: int, size: int) -> bool:
    """Whether fragments are lost at a break in the structure: another fragment, or only zeros,
    follow it. The number of fragments is not stored, so nothing else shows a loss."""
    file.seek(end)
    before, zeros = b"", True
    while block := file.read(_BLOCK_BYTES):
        if b"moof" in before + block:
            return True
        zeros = zeros and not any(block)
        before = block[-3:]
    return zeros and size - end > 0.02 * size


class _Head(NamedTuple):
    """Length and type of a box; length 0: to the end of the file."""

    length: int
    kind: bytes


def _head(start: bytes) -> _Head:
    """The head of a box, from its first 16 bytes."""
    start = start.ljust(16, b"\0")
    length = struct.unpack(">I", start[:4])[0]
    if length == 1:  # the length needs 64 bits and follows the type
        length = struct.unpack(">Q", start[8:])[0]
    return _Head(length, start[4:8])


@dataclass(frozen=True)
class Track:
    """A track according to the header. scale, film_scale: time scales (units per second) of the
    track and of the film. deltas: duration of a frame in units -> number of such frames. edits:
    durations of the edits that show frames, in units of the film. samples: number of frames.
    delays: (number of frames, units from decoding to presentation) of successive frames, (n, 2)
    int64; None if they are not of this form. descriptions: number of descriptions of the coded
    pictures."""

    scale: int
    film_scale: int
    deltas: dict[int, int]
    edits: tuple[int, ...]
    samples: int
    delays: np.ndarray | None
    descriptions: int

    @property
    def units(self) -> int:
        """The length of the track."""
        return sum(count * delta for delta, count in self.deltas.items())

    @property
    def shows_all(self) -> bool:
        """Whether no edit hides a frame."""
        shown_seconds = sum(self.edits) / (self.film_scale or 1)
        return not self.edits or (
            len(self.edits) == 1
            and shown_seconds * self.scale >= self.units - max(self.deltas, default=0)
        )


@dataclass(frozen=True)
class Clock:
    """The time scale of a track whose header contradicts itself: the claimed one, and the one that
    the rest of the file implies (the same if the film's time scale is the wrong one)."""

    claimed: int
    right: int


def contradiction(track: Track, codec_fps: float) -> Clock | None:
    """The correct time scale, if a track's time scale and its edit list contradict each other; None
    if they do not. codec_fps: frame rate in the coded pictures, 0.0 if unknown.

    A time scale counts as wrong only if the list has a single edit that would show the whole track
    with another scale, and one of these holds:
    - The rate of the coded pictures differs by a factor of four or more, and fits the other scale.
    - Less than a tenth of the track is shown, and the other scale is one that programs write.
    """
    units = track.units
    if (
        not (track.scale and track.film_scale and units)
        or len(track.edits) != 1
        or not track.edits[0]
    ):
        return None
    (edit,) = track.edits
    usual = max(track.deltas, key=lambda delta: track.deltas[delta]) or 1
    right = round(units * track.film_scale / edit)
    if (
        codec_fps
        and right
        and not 1 / 4 < codec_fps * usual / track.scale < 4
        and 0.5 < codec_fps * usual / right < 2
    ):
        return Clock(track.scale, right)
    film_scale = edit * track.scale / units
    is_usual = any(abs(film_scale / scale - 1) < 0.002 for scale in _FILM_SCALES)
    if is_usual and edit / track.film_scale < 0.1 * units / track.scale:
        return Clock(track.scale, track.scale)
    return None


def read_track(path: Path, number: int) -> Track | None:
    """The track with the id `number`; None if the header does not describe it. Raises OSError."""
    moov = _moov(path)
    for trak in _inside(moov, b"trak"):
        tkhd, media = _first(trak, b"tkhd"), _first(trak, b"mdia")
        if _number(tkhd, 20 if tkhd[:1] == b"\1" else 12) == number:
            table = _first(_first(media, b"minf"), b"stbl")
            return Track(
                scale=_scale(_first(media, b"mdhd")),
                film_scale=_scale(_first(moov, b"mvhd")),
                deltas=_deltas(_first(table, b"stts")),
                edits=_edits(_first(_first(trak, b"edts"), b"elst")),
                samples=_number(_first(table, b"stsz"), 8),
                delays=_delays(_first(table, b"ctts")),
                descriptions=_number(_first(table, b"stsd"), 4),
            )
    return None


def _moov(path: Path) -> bytes:
    size = path.stat().st_size
    end = 0
    with path.open("rb") as file:
        for _ in range(_MOST_BOXES):
            file.seek(end)
            start = file.read(16)
            length, kind = _head(start)
            head_bytes = 16 if start[:4] == b"\0\0\0\1" else 8
            if kind == b"moov" and head_bytes <= length <= _LONGEST_HEADER_BYTES:
                file.seek(end + head_bytes)
                return file.read(length - head_bytes)
            end += length
            if kind not in _TOP_LEVEL or length < 8 or end >= size:
                break
    return b""


def _inside(box: bytes, kind: bytes) -> Iterator[bytes]:
    """The contents of the boxes of type `kind` directly inside `box`, the contents of another
    one."""
    at = 0
    while at + 8 <= len(box):
        head = _head(box[at : at + 16])
        if head.length < 8:
            return
        if head.kind == kind:
            yield box[at + 8 : at + head.length]
        at += head.length


def _is_whole(box: bytes) -> bool:
    """Whether the contents of a box consist of boxes with valid types and lengths, and so do the
    contents of those that lead to the tables of a track."""
    at = 0
    while at + 8 <= len(box):
        length, kind = _head(box[at : at + 16])
        # Types consist of printable ASCII characters, and 0xA9 in QuickTime.
        is_type = all(32 <= byte < 127 or byte == 0xA9 for byte in kind)
        if not is_type or not 8 <= length <= len(box) - at:
            return not any(box[at:]) and len(box) - at <= _ENDING_BYTES
        if kind in _BRANCHES and not _is_whole(box[at + 8 : at + length]):
            return False
        at += length
    return not any(box[at:])


def _first(box: bytes, kind: bytes) -> bytes:
    return next(_inside(box, kind), b"")


def _number(box: bytes, at: int) -> int:
    """The 32-bit number at a position of a box's contents, 0 if it is cut off."""
    return int.from_bytes(box[at : at + 4]) if len(box) >= at + 4 else 0


def _scale(header: bytes) -> int:
    """The time scale (units per second) of an mvhd or mdhd."""
    return _number(header, 20 if header[:1] == b"\1" else 12)


def _deltas(stts: bytes) -> dict[int, int]:
    deltas: Counter[int] = Counter()
    if len(stts) > 8:
        for count, delta in struct.iter_unpack(">II", stts[8 : len(stts) // 8 * 8]):
            deltas[delta] += count
    return deltas


def _delays(ctts: bytes) -> np.ndarray | None:
    pairs = np.frombuffer(ctts[8 : max(8, len(ctts) // 8 * 8)], ">i4").reshape(-1, 2)
    # Files with delays below 0 are shifted by FFmpeg.
    if len(pairs) != _number(ctts, 4) or np.any(pairs < 0):
        return None
    return pairs.astype(np.int64)


def _edits(elst: bytes) -> tuple[int, ...]:
    form = ">Qqi" if elst[:1] == b"\1" else ">Iii"
    step = struct.calcsize(form)
    if len(elst) <= 8:
        return ()
    edits = struct.iter_unpack(form, elst[8 : 8 + (len(elst) - 8) // step * step])
    # A start of -1 is an empty edit, a pause.
    return tuple(duration for duration, start, _ in edits if start >= 0)
