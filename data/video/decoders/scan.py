"""The scan of a video: facts about its frames from its packets, without decoding.

It costs a tenth of decoding, and gives the number of frames for the selection.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from reelbank.data.video import images as frames_folder
from reelbank.data.video.access.index import Collector, PacketIndex, index_of_table
from reelbank.data.video.access.tables import read_table
from reelbank.data.video.containers import mp4, structure
from reelbank.data.video.limits import Guard
from reelbank.data.video.opening import (
    DecodeError,
    check_whole,
    errors,
    open_container,
    video_stream,
)
from reelbank.data.video.timeline import UNKNOWN_FPS

# The header of an MPEG picture is near the beginning of its packet, after the headers of the
# sequence and of the group of pictures.
_MPEG_HEADER_BYTES = 512
_MPEG_PLACES = 1000  # temporal_reference has 10 bits and counts to 1023
# The header of an AVI chunk: each frame takes at least this much, so a larger number of frames in
# the file's header cannot be true.
_SMALLEST_CHUNK_BYTES = 8
# One frame an hour (slides) up to the fastest cameras; rates outside come from wrong time bases.
_PLAUSIBLE_FPS = (1 / 3600, 10_000.0)


@dataclass(frozen=True)
class Scan:
    """The result of a scan.

    frames: number of packets that should give a frame. seconds: their times in order of display,
    None if the times make no sense. missing: packets that the file promises and does not contain;
    if not `is_exact`, estimated from its duration. fault: a fault in the structure of the file that
    can lose frames. ignore_edits: the edit list is wrong and hides frames. index: the packets, if
    they prove which frames can be decoded without those before them. end_seconds: when the last
    frame ends, according to the file; 0.0 if unknown.
    """

    frames: int
    seconds: np.ndarray | None
    fps: float
    audio: bool
    time_base: float
    origin_seconds: float
    missing: int = 0
    is_exact: bool = True
    fault: str = ""
    remark: str = ""
    ignore_edits: bool = False
    index: PacketIndex | None = None
    end_seconds: float = 0.0


class _Place(NamedTuple):
    """Whether a group of pictures begins with this picture, and its number in the group, in order
    of display."""

    begins_group: bool
    number: int


@dataclass
class _Packets:
    """The packets of a video track, in their order in the file.

    stamps, order: presentation and decoding times of the packets whose frame is displayed. whole:
    number of packets that are not empty. places: for MPEG-1 and MPEG-2 video, the place of each
    picture in its group of pictures.
    """

    stamps: list[int | None] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    whole: int = 0
    corrupt: int = 0
    last_is_corrupt: bool = False
    places: list[_Place] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    index: PacketIndex | None = None
    last_stamp: int = -1  # the latest presentation time, and how long its frame is displayed
    last_duration: int = 0

    def note_last(self, packet: "av.Packet[av.VideoStream]") -> None:
        """Keep the duration of the packet whose frame is displayed last."""
        if packet.pts is not None and packet.pts > self.last_stamp:
            self.last_stamp, self.last_duration = packet.pts, packet.duration or 0


def scan_file(path: Path, guard: Guard, *, by_tables: bool = True) -> Scan:
    """The scan of a video file. by_tables: trust the tables of an MP4 file's header. Raises
    DecodeError if it cannot be read completely."""
    picture_px = guard.limits.picture_px
    with av.logging.Capture() as log:
        container = open_container(path, picture_px)
    with container:
        stream = video_stream(container, picture_px)
        guard.picture(stream.width, stream.height)
        is_mp4 = "mp4" in container.format.name.split(",")
        track = mp4.read_track(path, stream.id) if is_mp4 else None
        clock = (
            mp4.contradiction(track, float(stream.codec_context.framerate or 0)) if track else None
        )
        if not clock:
            guard.alive()
            packets = _listed_packets(path, container, stream, track) if by_tables else None
            packets = packets or _read_packets(container, stream, guard)
            if not is_mp4:
                packets.complaints[:0] = errors(log, container.format.name)
            return _scan_of(path, container, stream, packets, track)
    with open_container(path, picture_px, ignore_edits=True) as container:
        stream = video_stream(container, picture_px)
        packets = _read_packets(container, stream, guard)
        scan = _scan_of(path, container, stream, packets, track)
        claimed_fps = float(stream.average_rate or 0)
    first = min((stamp for stamp in packets.stamps if stamp is not None), default=0)
    time_base = 1 / clock.right
    scales = (
        f"track of {clock.claimed:,} units a second, taken for {clock.right:,}"
        if clock.right != clock.claimed
        else "film"
    )
    return replace(
        scan,
        seconds=_clock(packets.stamps, packets.order, time_base, first * time_base),
        fps=claimed_fps * clock.right / clock.claimed,
        time_base=time_base,
        origin_seconds=first * time_base,
        remark=f"its header's time scales contradict each other ({scales}), so its edit list is not followed",
        ignore_edits=True,
        index=None,
        end_seconds=0.0,
    )


def _listed_packets(
    path: Path,
    container: av.container.InputContainer,
    stream: av.VideoStream,
    track: mp4.Track | None,
) -> _Packets | None:
    """The packets from the tables of an MP4 file, if these suffice to seek in it. This takes a
    third of the time for reading the packets."""
    table = read_table(stream, track, path.stat().st_size)
    if table is None:
        return None
    index = index_of_table(path, container, stream, table)
    if index is None:
        return None
    stamps, order = table.stamps.tolist(), table.seek_stamps.tolist()
    return _Packets(stamps, order, whole=len(table.sizes), index=index)


def _read_packets(
    container: av.container.InputContainer, stream: av.VideoStream, guard: Guard
) -> _Packets:
    packets = _Packets()
    is_mpeg = stream.codec_context.name in ("mpeg1video", "mpeg2video")
    collector = Collector.of(container, stream)
    with av.logging.Capture() as log:
        try:
            for packet in container.demux(stream):
                guard.passed(len(packets.stamps) / UNKNOWN_FPS)
                if not packet.size:
                    continue
                packets.whole += 1
                packets.last_is_corrupt = packet.is_corrupt
                packets.corrupt += packet.is_corrupt
                if is_mpeg and (place := _place_in_group(packet)):
                    packets.places.append(place)
                collector.add(packet)
                # A discarded packet is needed to decode others, but its frame is not displayed.
                if not packet.is_discard:
                    packets.stamps.append(packet.pts)
                    packets.note_last(packet)
                    if packet.dts is not None:
                        packets.order.append(packet.dts)
        except av.error.FFmpegError as error:
            raise DecodeError(
                f"damaged after {len(packets.stamps)} packets: {error.strerror}"
            ) from None
        except IndexError:  # from PyAV, if a track begins in a damaged part of the file
            raise DecodeError("damaged: its tracks are not those that its header lists") from None
    packets.complaints = errors(log, container.format.name)
    packets.index = collector.index()
    return packets


def _scan_of(
    path: Path,
    container: av.container.InputContainer,
    stream: av.VideoStream,
    packets: _Packets,
    track: mp4.Track | None,
) -> Scan:
    frames = len(packets.stamps)
    check_whole(path, last_is_cut=packets.last_is_corrupt, packets=frames, promised=stream.frames)
    origin = (container.start_time or 0) / 1e6
    time_base = float(stream.time_base or 0)
    seconds = _clock(packets.stamps, packets.order, time_base, origin)
    rate = _true_rate(
        seconds,
        claimed=float(stream.average_rate or 0),
        coded=float(stream.codec_context.framerate or 0),
    )
    fault = structure.fault(path, container.format.name, packets.complaints, packets.corrupt)
    missing, is_exact = 0, True
    if track and track.shows_all:
        missing = track.samples - packets.whole
    elif (
        fault
        and container.format.name == "avi"
        and stream.frames <= path.stat().st_size // _SMALLEST_CHUNK_BYTES
    ):
        missing = stream.frames - packets.whole
        if missing <= 0 and stream.frames:
            fault = ""  # no frame is missing: the structure breaks off after the last one
    elif fault:
        duration = (
            float((stream.duration or 0) * (stream.time_base or 0))
            or (container.duration or 0) / 1e6
        )
        missing, is_exact = round(duration * rate.fps - 1e-3) - packets.whole, False
    gaps = 0
    if packets.places:
        gaps = max(_skipped(packets.order, rate.fps * time_base), _left_out(packets.places))
    if gaps > missing:
        missing, is_exact = gaps, False
    # Damage is found by decoding, so a file that seems damaged is decoded in order.
    is_whole = not (fault or missing or packets.complaints) and rate.seconds is not None
    end, remark = 0.0, rate.remark
    if is_whole and rate.seconds is not None and len(rate.seconds):
        end = _end_seconds(stream, packets, origin)
        shown_seconds = end - float(rate.seconds[-1])
        if shown_seconds > 1 / _PLAUSIBLE_FPS[0]:
            # A few bytes can claim a year, which clips in time would fill with rows.
            claim = f"its header claims that its last frame is shown for {shown_seconds:,.0f} s"
            remark = "; ".join(filter(None, [remark, claim]))
            end = 0.0
    return Scan(
        frames=frames,
        seconds=rate.seconds,
        fps=rate.fps,
        audio=bool(container.streams.audio),
        time_base=time_base,
        origin_seconds=origin,
        missing=max(0, missing),
        is_exact=is_exact,
        fault=fault,
        remark=remark,
        index=packets.index if is_whole and not rate.remark else None,
        end_seconds=end,
    )


def _end_seconds(stream: av.VideoStream, packets: _Packets, origin_seconds: float) -> float:
    """When the last frame ends, according to the header of the file or its last packet; 0.0 if
    unknown."""
    end = packets.last_stamp + packets.last_duration if packets.last_duration else 0
    if stream.duration:
        end = (stream.start_time or 0) + stream.duration
    return end * float(stream.time_base or 0) - origin_seconds if end else 0.0


class _Rate(NamedTuple):
    """The frame rate, the times of the frames (None if they cannot be true), and a remark on values
    in the file that cannot be true, "" if there are none."""

    fps: float
    seconds: np.ndarray | None
    remark: str


def _true_rate(seconds: np.ndarray | None, *, claimed: float, coded: float) -> _Rate:
    """The most plausible frame rate. seconds: times of the frames. claimed: rate in the header,
    coded: rate in the coded pictures; 0.0 if unknown."""
    measured = steady = 0.0
    if seconds is not None and len(seconds) > 1 and seconds[-1] > seconds[0]:
        measured = float((len(seconds) - 1) / (seconds[-1] - seconds[0]))
        steady = float(1 / np.median(np.diff(seconds)))
    if seconds is not None and measured and not (_is_plausible(measured) and _is_plausible(steady)):
        fps = next(rate for rate in (claimed, coded, UNKNOWN_FPS) if _is_plausible(rate))
        return _Rate(
            fps,
            None,
            f"its time stamps stand for {steady:.6g} frames a second, taken for {fps:.6g}",
        )
    if claimed and not (_is_plausible(claimed) and 0.5 < claimed / (measured or claimed) < 2):
        fps = next(rate for rate in (measured, coded, UNKNOWN_FPS) if _is_plausible(rate))
        return _Rate(
            fps,
            seconds,
            f"its header claims {claimed:.6g} frames a second, its time stamps {fps:.6g}",
        )
    return _Rate(claimed or measured, seconds, "")


def _is_plausible(fps: float) -> bool:
    return _PLAUSIBLE_FPS[0] <= fps <= _PLAUSIBLE_FPS[1]


def _place_in_group(packet: "av.Packet[av.VideoStream]") -> _Place | None:
    """The place of the picture in a packet of MPEG-1 or MPEG-2 video; its number is the
    temporal_reference (ISO/IEC 13818-2, 6.3.9)."""
    start = bytes(memoryview(packet)[:_MPEG_HEADER_BYTES])
    at = start.find(b"\0\0\1\0")
    if not 0 <= at <= len(start) - 6:
        return None
    return _Place(b"\0\0\1\xb8" in start[:at], start[at + 4] << 2 | start[at + 5] >> 6)


def _left_out(places: list[_Place]) -> int:
    """The number of empty places within the groups of pictures; a picture of two fields has one
    place. A group with more pictures than places that can be distinguished is ignored."""
    missing = 0
    group: list[int] = []
    for place in [
        *places,
        _Place(begins_group=True, number=0),
    ]:  # the added one ends the last group
        if place.begins_group:
            if group and len(group) < _MPEG_PLACES:
                missing += max(group) - min(group) + 1 - len(set(group))
            group = [place.number]
        elif len(group) < _MPEG_PLACES:
            group.append(place.number)
    return missing


def _skipped(order: list[int], frames_per_unit: float) -> int:
    """The number of missing pictures at a steady rate, from the decoding times of the others.

    A picture may be shown for three fields (telecine), so a gap of less than two frames does not
    count. If a gap comes from one wrong time, two other pictures overlap and cancel it.
    """
    steps = np.diff(order) * frames_per_unit
    gaps, overlaps = np.round(steps[steps > 1.9] - 1), np.round(1 - steps[steps < 0.5])
    return max(0, int(gaps.sum() - overlaps.sum())) if len(order) > 1 else 0


def frame_seconds(scan: Scan, stamps: list[int | None]) -> np.ndarray | None:
    """Times of decoded frames with these time stamps, as in `Scan.seconds`."""
    return _clock(stamps, [], scan.time_base, scan.origin_seconds)


def _clock(
    stamps: list[int | None], order: list[int], time_base: float, origin_seconds: float
) -> np.ndarray | None:
    """Presentation times in seconds, ascending, (frames,) float64; None unless all frames have
    different times and decoding times never decrease. In AVI files the numbers are those of packets
    instead of pictures; in sorted order they are the same."""
    present = np.array([s for s in stamps if s is not None], dtype=np.int64)
    if (
        len(present) < len(stamps)
        or len(np.unique(present)) < len(present)
        or np.any(np.diff(order) < 0)
    ):
        return None
    return np.sort(present) * time_base - origin_seconds


def scan_images(folder: Path, fps: float) -> Scan:
    """The scan of a folder of images. fps: frame rate, 0.0 if unknown."""
    frames = len(frames_folder.images(folder))
    time_base = 1 / (fps or frames_folder.ASSUMED_FPS)
    return Scan(
        frames,
        seconds=np.arange(frames) * time_base,
        fps=fps,
        audio=False,
        time_base=time_base,
        origin_seconds=0.0,
    )
