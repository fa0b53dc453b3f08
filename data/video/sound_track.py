"""The decoded sound of one track, as mono float32 at the rate that a network reads.

VGGish (Hershey et al. 2017, `vggish_input.py`) takes the mean over channels. FFmpeg's own downmix
weights them differently, so channels are kept through resampling and averaged here.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np

from reelbank.data.video.limits import Guard
from reelbank.data.video.opening import DecodeError, check_whole, errors

RATE_HZ = 16_000  # the usual rate
# Telephones have 8000. A lower rate would let a small file claim hours of sound.
_LEAST_RATE_HZ = 1000
# PyAV reads beyond the list of planes of a frame with 8 or more, which kills the process.
_MOST_PLANES = 7
# Recordings and broadcasts end where the sender stopped, possibly within a frame; their length is
# not stored. The same is true of MP3 and AAC files without a container.
_STREAMS = frozenset({"aac", "flv", "mp3", "mpeg", "mpegts"})


@dataclass(frozen=True, slots=True)
class Piece:
    """seconds: time of the first sample on the file's clock. wave: (samples,) float32 mono."""

    seconds: float
    wave: np.ndarray


def decoded_sound(
    path: Path,
    container: av.container.InputContainer,
    stream: av.AudioStream,
    packets: "Packets",
    guard: Guard,
    *,
    rate_hz: int = RATE_HZ,
) -> Iterator[Piece]:
    """The whole track in pieces. The first piece is placed by its time stamp, the others follow
    without gaps. packets: is filled. Raises DecodeError if the track cannot be read completely."""
    begin_seconds, samples = 0.0, 0
    mono = _Mono(rate_hz)
    try:
        for frame in _frames(container, stream, packets, guard.alive):
            guard.passed(samples / rate_hz)
            if not mono.begun and frame.pts is not None and frame.time_base:
                begin_seconds = (
                    float(frame.pts * frame.time_base) - (container.start_time or 0) / 1e6
                )
            for wave in mono.take(frame):
                yield Piece(begin_seconds + samples / rate_hz, wave)
                samples += len(wave)
        for wave in mono.flush():
            yield Piece(begin_seconds + samples / rate_hz, wave)
            samples += len(wave)
    except av.error.FFmpegError as error:
        raise DecodeError(
            f"sound damaged after {samples / rate_hz:.2f} s: {error.strerror}"
        ) from None
    # Uncompressed samples (PCM) may be cut at any place, so a cut last packet is not damage.
    check_whole(
        path,
        last_is_cut=packets.last_is_cut and not _is_plain(stream),
        packets=packets.count,
        promised=stream.frames,
    )


def _is_plain(stream: av.AudioStream) -> bool:
    return stream.codec_context.name.startswith("pcm_")


@dataclass
class Packets:
    """The packets of a track that were read, to check whether the track is complete."""

    count: int = 0
    incomplete: int = 0  # before the last one
    last_is_cut: bool = False
    complaints: list[str] = field(default_factory=list)


def _frames(
    container: av.container.InputContainer,
    stream: av.AudioStream,
    packets: Packets,
    alive: Callable[[], None],
) -> Iterator[av.AudioFrame]:
    """The frames of a track, the last one without the padding after the end of the track.

    Each frame is held back until the next one is decoded, because only the last packet tells where
    the track ends. If a stream stops within a frame, the frames before that one are returned.
    """
    previous: av.AudioFrame | None = None
    end: int | None = None
    pack = _Packing()
    # The error of the previous packet. It means damage unless that packet was the last of a stream.
    failure: av.error.FFmpegError | None = None
    for packet in _demuxed(container, stream, packets.complaints):
        alive()
        if packet.size:
            if failure:
                raise failure
            packets.count += 1
            packets.incomplete += packets.last_is_cut
            packets.last_is_cut = packet.is_corrupt
            end = _end_of_packet(container, stream, packet)
        try:
            frames = packet.decode()
        except av.error.InvalidDataError as error:
            if container.format.name not in _STREAMS:
                raise
            failure, packets.last_is_cut = error, False
            continue
        for frame in map(pack, frames):
            if previous is not None:
                yield previous
            previous = frame
    if previous is not None:
        last = _until(previous, end)
        if last is not None:
            yield last


def _demuxed(
    container: av.container.InputContainer, stream: av.AudioStream, complaints: list[str]
) -> Iterator["av.Packet[av.AudioStream]"]:
    """The packets of a track; errors that FFmpeg's demuxer reports are added to `complaints`."""
    capture = av.logging.Capture()
    demuxer = container.demux(stream)
    while True:
        with capture as log:
            packet = next(demuxer, None)
        if log:
            complaints += errors(log, container.format.name)
            log.clear()
        if packet is None:
            return
        yield packet


def _end_of_packet(
    container: av.container.InputContainer,
    stream: av.AudioStream,
    packet: "av.Packet[av.AudioStream]",
) -> int | None:
    """The end of the sound if this is the last packet of its track, in units of the stream's time
    base; None if the frames themselves end there.

    Compressed sound has frames of a fixed size (AAC: 1,024 samples), so the last frame is padded.
    MP4 and QuickTime files store the true end as the duration of the last packet or in an edit
    list, which FFmpeg converts to the stream's duration. FFmpeg 9 (PyAV 19) drops the padding in
    most of these files, FFmpeg 8 (PyAV 18) in none. In all other containers both drop the same
    samples.

    FFmpeg 9 takes the stream's duration as the end even if the track begins late. Compressed sound
    that begins late by less than a frame therefore loses the same time at its end. Samples that
    FFmpeg 9 drops cannot be restored, so they are dropped here with FFmpeg 8 as well. FFmpeg 9
    drops no uncompressed samples (PCM).
    """
    if "mp4" not in container.format.name.split(",") or packet.pts is None or not packet.duration:
        return None
    if _is_plain(stream):
        return (stream.start_time or 0) + stream.duration if stream.duration else None
    end = packet.pts + packet.duration
    if stream.duration and packet.pts < stream.duration < end:
        return stream.duration
    return end


def _until(frame: av.AudioFrame, end: int | None) -> av.AudioFrame | None:
    """The samples of a frame before `end`, in units of its time base; None if there are none."""
    if end is None or frame.pts is None or not frame.time_base:
        return frame
    samples = round((end - frame.pts) * frame.time_base * frame.sample_rate)
    if samples >= frame.samples:
        return frame
    if samples <= 0:
        return None
    # (channels, samples), or (1, samples * channels) if the channels are interleaved
    values: Any = frame.to_ndarray()
    columns = samples if frame.format.is_planar else samples * frame.layout.nb_channels
    cut = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(values[:, :columns]), frame.format.name, frame.layout.name
    )
    cut.sample_rate, cut.pts, cut.time_base = frame.sample_rate, frame.pts, frame.time_base
    return cut


class _Packing:
    """Turns frames with more planes than PyAV can read into frames of one plane with interleaved
    channels and the same samples."""

    def __init__(self) -> None:
        self.resampler: av.AudioResampler | None = None
        self.source: tuple[str, str, int] | None = None

    def __call__(self, frame: av.AudioFrame) -> av.AudioFrame:
        if not frame.format.is_planar or frame.layout.nb_channels <= _MOST_PLANES:
            return frame
        source = (frame.format.name, frame.layout.name, frame.sample_rate)
        if source != self.source:
            self.source = source
            self.resampler = av.AudioResampler(
                frame.format.packed.name, frame.layout, frame.sample_rate
            )
        assert self.resampler is not None
        (packed,) = self.resampler.resample(
            frame
        )  # at an unchanged rate each frame gives one frame
        return packed


class _Mono:
    """Converts frames of any format, rate and layout to mono float32 at one rate. If these change
    within a track, a new resampler is used."""

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz, self.begun = rate_hz, False
        self.source: tuple[str, int, str, int] | None = None
        self.resampler: av.AudioResampler | None = None

    def take(self, frame: av.AudioFrame) -> Iterator[np.ndarray]:
        """The samples that are available after this frame, as arrays (samples,) float32."""
        if frame.sample_rate < _LEAST_RATE_HZ:
            count = "1 sample" if frame.sample_rate == 1 else f"{frame.sample_rate} samples"
            raise DecodeError(
                f"its sound has {count} per second; at least {_LEAST_RATE_HZ:,} are needed"
            )
        self.begun = True
        source = (frame.format.name, frame.sample_rate, frame.layout.name, frame.layout.nb_channels)
        if source != self.source:
            yield from self.flush()
            self.source, self.resampler = (
                source,
                av.AudioResampler("flt", frame.layout, self.rate_hz),
            )
        assert self.resampler is not None
        frame.pts = None  # samples follow each other without gaps, whatever their time stamps
        yield from self._means(self.resampler.resample(frame))

    def flush(self) -> Iterator[np.ndarray]:
        """The samples that the resampler still holds."""
        if self.resampler is not None:
            yield from self._means(self.resampler.resample(None))
            self.resampler = None

    @staticmethod
    def _means(frames: list[av.AudioFrame]) -> Iterator[np.ndarray]:
        for frame in frames:
            by_sample = frame.to_ndarray().reshape(frame.samples, frame.layout.nb_channels)
            # (channels, samples) -> (samples,)
            wave = np.ascontiguousarray(by_sample.T).mean(axis=0)
            if not np.isfinite(wave).all():
                raise DecodeError("its sound contains samples that are not numbers")
            if len(wave):
                yield wave
