"""The index of a file's packets, if it proves which frames can be decoded without those before
them."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import av
import numpy as np

from reelbank.data.video.access.av1 import Av1
from reelbank.data.video.access.bits import PacketFile, UnprovenError
from reelbank.data.video.access.h264 import H264
from reelbank.data.video.access.hevc import Hevc
from reelbank.data.video.access.looks import DISPOSABLE, LEADING, START
from reelbank.data.video.access.tables import Table
from reelbank.data.video.access.vp9 import Vp9

# By FFmpeg's name of the codec.
_CODECS: dict[str, type[H264 | Hevc | Vp9 | Av1]] = {
    "h264": H264,
    "hevc": Hevc,
    "vp9": Vp9,
    "av1": Av1,
}
# Formats in which a packet has the time stamp of its picture, by FFmpeg's name. In AVI a time stamp
# counts packets.
_FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "mpegts")
# FFmpeg's demuxer seeks by presentation time in Matroska, and by decoding time in the others.
_BY_PRESENTATION = "matroska,webm"
# A picture is decoded at most this many packets before one that is displayed earlier (ISO/IEC
# 14496-10: a decoder stores 16 pictures).
_MOST_REORDERED = 16


@dataclass(frozen=True, eq=False)
class PacketIndex:
    """The packets of a video track in order of decoding; each is one frame.

    display: number of the packet's frame in order of display. packet_of: the packet of each frame,
    in order of display. is_disposable: no other frame needs it. starts: the packets that decoding
    can begin with, ascending; the first is 0. All (packets,) int64 or bool, starts (n,) int64.
    is_listed: from the tables of an MP4 file's header, the packets were not read.
    """

    table: Table
    display: np.ndarray
    packet_of: np.ndarray
    is_disposable: np.ndarray
    starts: np.ndarray
    is_listed: bool = False


@dataclass
class Collector:
    """Collects the packets of a track for its index. `codec` is None once the index is not
    proven."""

    format_name: str
    reorder_depth: int  # number of pictures that the decoder keeps to reorder them
    codec: H264 | Hevc | Vp9 | Av1 | None
    looks: list[int] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    seek_stamps: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, container: av.container.InputContainer, stream: av.VideoStream) -> "Collector":
        """For a track whose packets have not been read yet."""
        codec = _codec(container, stream)
        return cls(container.format.name, stream.codec_context.reorder_depth, codec)

    def add(self, packet: "av.Packet[av.VideoStream]") -> None:
        """Note the next packet, which is not empty."""
        if self.codec is None:
            return
        stamp, position = packet.pts, packet.pos
        seek_stamp = stamp if self.format_name == _BY_PRESENTATION else packet.dts
        is_plain = not (
            packet.is_discard or packet.is_corrupt or packet.has_sidedata("new_extradata")
        )
        if stamp is None or seek_stamp is None or position is None or not is_plain:
            self.codec = None
            return
        try:
            self.looks.append(self.codec.look(bytes(packet)))
        except (UnprovenError, IndexError):  # IndexError: a header is cut off
            self.codec = None
            return
        self.stamps.append(stamp)
        self.positions.append(position)
        self.sizes.append(packet.size)
        self.seek_stamps.append(seek_stamp)

    def index(self) -> PacketIndex | None:
        """The index of all packets, None if it is not proven."""
        if self.codec is None or not self.looks:
            return None
        table = Table(*(np.array(numbers, np.int64) for numbers in self._columns()))
        looks = np.array(self.looks, np.int64)
        return _proven(self.codec, looks, table, self.reorder_depth)

    def _columns(self) -> tuple[list[int], ...]:
        return self.stamps, self.seek_stamps, self.positions, self.sizes


def index_of_table(
    path: Path, container: av.container.InputContainer, stream: av.VideoStream, table: Table
) -> PacketIndex | None:
    """The index of all packets of an MP4 file, of which only the headers are read; None if it is
    not proven. Raises OSError."""
    codec = _codec(container, stream)
    if not isinstance(codec, H264 | Hevc):
        return None
    with path.open("rb", buffering=0) as file:
        try:
            looks = codec.look_all(PacketFile(file, table.positions, table.sizes))
        except (UnprovenError, IndexError):
            return None
    index = _proven(codec, looks, table, stream.codec_context.reorder_depth)
    return index and replace(index, is_listed=True)


def _codec(
    container: av.container.InputContainer, stream: av.VideoStream
) -> H264 | Hevc | Vp9 | Av1 | None:
    """What looks at the packets of a track; None if there is no rule for it."""
    context = stream.codec_context
    name = context.codec.canonical_name
    if container.format.name not in _FORMATS or name not in _CODECS:
        return None
    try:
        return _CODECS[name](context.extradata or b"")
    except (UnprovenError, IndexError):  # IndexError: a header is cut off
        return None


def _proven(
    codec: H264 | Hevc | Vp9 | Av1, looks: np.ndarray, table: Table, reorder_depth: int
) -> PacketIndex | None:
    """The index, if the time stamps prove it. looks: of the packets, (packets,) int64."""
    starts = np.flatnonzero(looks & START)
    packet_of = np.argsort(table.stamps, kind="stable")
    display = np.empty_like(packet_of)
    display[packet_of] = np.arange(len(packet_of))
    is_proven = (
        np.all(np.diff(table.stamps[packet_of]) > 0)
        and _are_starts(starts, display, is_leading=(looks & LEADING) > 0)
        and _reordered(display) <= reorder_depth
        and codec.is_complete(looks)
    )
    if not is_proven:
        return None
    return PacketIndex(table, display, packet_of, (looks & DISPOSABLE) > 0, starts)


def _are_starts(starts: np.ndarray, display: np.ndarray, is_leading: np.ndarray) -> bool:
    """Whether the time stamps agree with the starts: all frames before one in order of decoding are
    displayed before it, and those after it are displayed after it, except leading ones, which are
    displayed after the start before."""
    if not len(starts) or starts[0] != 0:
        return False
    group = np.searchsorted(starts, np.arange(len(display)), "right") - 1
    if not np.array_equal(display < display[starts][group], is_leading):
        return False
    if np.any(np.maximum.accumulate(display)[starts[1:] - 1] >= display[starts[1:]]):
        return False
    leading_group = group[is_leading]
    return bool(
        np.all(leading_group > 0)
        and np.all(display[is_leading] > display[starts][leading_group - 1])
    )


def _reordered(display: np.ndarray) -> int:
    """The largest number of frames that are decoded before a frame and displayed after it. The
    decoder must keep that many; if it kept fewer, it would drop frames."""
    if np.max(np.abs(display - np.arange(len(display)))) > _MOST_REORDERED:
        return _MOST_REORDERED + 1
    later = np.zeros(len(display), np.int64)
    for distance in range(1, min(2 * _MOST_REORDERED, len(display) - 1) + 1):
        later[distance:] += display[:-distance] > display[distance:]
    return int(later.max())
