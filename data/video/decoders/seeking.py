"""Reads selected frames of a video with PyAV by seeking, where the index of its packets proves that
they are the same frames as in order."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np

from reelbank.data.video.access.index import PacketIndex
from reelbank.data.video.access.plan import Run
from reelbank.data.video.decoders.pyav import Converter, Frame
from reelbank.data.video.limits import Guard
from reelbank.data.video.opening import errors, open_container, video_stream

# A shorter way to the next run is passed by reading its packets without decoding them.
_LEAST_SEEK_PACKETS = 64


class UnlikeIndexError(Exception):
    """Something is not as the index of the packets promised, or the decoder reported an error: read
    the file in order."""


def read_runs(
    path: Path, index: PacketIndex, runs: Sequence[Run], guard: Guard
) -> Iterator[tuple[int, Frame]]:
    """The frames of runs, each with its number in order of display, ascending. Raises
    UnlikeIndexError."""
    converter = Converter()
    with open_container(path, guard.limits.picture_px) as container:
        stream = video_stream(container, guard.limits.picture_px)
        packets = _Packets(container, stream, index, guard)
        try:
            for run in runs:
                packets.go_to(run.start)
                for number, frame in _read_run(packets, index, run):
                    guard.picture(frame.width, frame.height)
                    yield (
                        number,
                        Frame(frame.pts, is_mended=False, to_rgb=converter.to_rgb(frame)),
                    )
        except av.error.FFmpegError as error:
            raise UnlikeIndexError from error


class _Packets:
    """The packets of a track. at: number of the next one."""

    def __init__(
        self,
        container: av.container.InputContainer,
        stream: av.VideoStream,
        index: PacketIndex,
        guard: Guard,
    ) -> None:
        self.container, self.stream, self.index, self.guard = container, stream, index, guard
        self.at = 0
        self._packets = container.demux(stream)

    def go_to(self, start: int) -> None:
        """Make `start` the next packet, and empty the decoder."""
        index = self.index
        if 0 <= start - self.at < _LEAST_SEEK_PACKETS:
            self.stream.codec_context.flush_buffers()
            while self.at < start:
                self.next()
            return
        self.container.seek(int(index.table.seek_stamps[start]), stream=self.stream)
        self._packets = self.container.demux(self.stream)
        # The container may begin at an earlier packet.
        for packet in self._packets:
            self.guard.alive()
            if (
                packet.size
                and packet.pos is not None
                and packet.pos >= index.table.positions[start]
            ):
                self._check(packet, start)
                self.at = start
                self._packets = _with_first(packet, self._packets)
                return
        raise UnlikeIndexError

    def next(self) -> "av.Packet[av.VideoStream]":
        """The next packet. Raises UnlikeIndexError if it is not the one of the index."""
        for packet in self._packets:
            self.guard.alive()
            if packet.size:
                self._check(packet, self.at)
                self.at += 1
                return packet
        raise UnlikeIndexError

    def _check(self, packet: "av.Packet[av.VideoStream]", number: int) -> None:
        table = self.index.table
        if (
            packet.pts != table.stamps[number]
            or packet.pos != table.positions[number]
            or packet.size != table.sizes[number]
            or packet.is_corrupt
            or packet.is_discard
        ):
            raise UnlikeIndexError


def _with_first(
    first: "av.Packet[av.VideoStream]", others: "Iterator[av.Packet[av.VideoStream]]"
) -> "Iterator[av.Packet[av.VideoStream]]":
    yield first
    yield from others


def _read_run(
    packets: _Packets, index: PacketIndex, run: Run
) -> Iterator[tuple[int, av.VideoFrame]]:
    """The frames of a run with their numbers. The decoder must give one for each packet."""
    stream = packets.stream
    expected = iter(np.sort(index.display[run.decoded]).tolist())
    is_decoded = np.zeros(run.end - run.start, dtype=bool)
    is_decoded[run.decoded - run.start] = True
    capture = av.logging.Capture()

    def checked(frame: av.VideoFrame) -> tuple[int, av.VideoFrame]:
        number = next(expected, -1)
        if number < 0 or frame.is_corrupt:
            raise UnlikeIndexError
        if frame.pts != index.table.stamps[index.packet_of[number]]:
            raise UnlikeIndexError
        return number, frame

    name = stream.codec_context.codec.name
    for is_needed in [*is_decoded.tolist(), None]:
        # None: the end of the run, at which the decoder returns the frames that it still keeps.
        packet = packets.next() if is_needed is not None else None
        if is_needed is False:
            continue
        with capture as log:
            frames = stream.codec_context.decode(packet)
        if log and errors(log, name):
            raise UnlikeIndexError
        log.clear()
        for frame in frames:
            yield checked(frame)
    if next(expected, -1) >= 0:
        raise UnlikeIndexError
