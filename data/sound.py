"""Sound of a file, decoded without its pictures: mono, 16 kHz, cut into VGGish's examples of 0.975 s, one every 0.96 s.

VGGish (Hershey et al. 2017, `vggish_input.py`) takes the mean over channels; FFmpeg's own downmix weighs them otherwise, so
channels are kept through resampling and averaged here. How many examples there are is known only at the end: decoded sound
waits in memory up to 64 MiB (17 minutes), then on disk, so that nothing is decoded twice and hours of it fit. A small file can
claim much sound: what has fewer than 1,000 samples a second is refused, so that a sample becomes 16 at most, and so is what
lasts longer than a day (5.1 GiB).
"""

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import av
import numpy as np

from reelbank.data.opening import DecodeError, audio_stream, check_whole, open_container

RATE_HZ = 16_000
EXAMPLE_SAMPLES = 15_600  # 96 windows of 25 ms every 10 ms
HOP_SAMPLES = 15_360  # 0.96 s

_SILENCE = 1e-4  # below three steps of 16 bits: the dither of an empty track, not a sound
_LEAST_RATE_HZ = 1000  # telephones have 8000
_LONGEST_SECONDS = 24 * 3600
_MEMORY_BYTES = 64 << 20
_SAMPLE_BYTES = 4


@dataclass(frozen=True)
class SoundInfo:
    """What was found of sound; JSON-able through dataclasses.asdict.

    state: "none" no sound track, "silent" no sample of the track reaches 1e-4, "short" fewer samples than one example,
    "heard" all others; a track without any sample is short. seconds: length of the sound, within the span if there is one;
    peak: the largest absolute sample, full scale 1.0; examples: how many there are.
    """

    state: str
    seconds: float
    peak: float
    examples: int


def example_count(samples: int) -> int:
    """0 for fewer than 15600 samples, else 1 + floor((n - 15600) / 15360): no example is filled up with silence."""
    return 0 if samples < EXAMPLE_SAMPLES else 1 + (samples - EXAMPLE_SAMPLES) // HOP_SAMPLES


def read_sound(
    path: str | Path,
    select: Callable[[int], np.ndarray],
    chunk_examples: int = 32,
    alive: Callable[[], None] = lambda: None,
    span_seconds: tuple[float, float] | None = None,
) -> Iterator[tuple[Any, ...]]:
    """Read a file's sound as messages; `select` gets the example count, if there are any, and returns 0-based numbers:

    ("sound", numbers (n,) int64, times_seconds (n,) float64, waves (n, 15600) float32)
                                each wanted example once, ascending; n <= chunk_examples. Example i is the samples
                                [15360 i, 15360 i + 15600); its time is its centre on the file's clock, as pictures' times are
    ("sound done", SoundInfo)   the last one

    FFmpeg's best track is taken. A track that begins late is placed by its first time stamp; gaps within it are closed.
    span_seconds: only samples with start <= time < end, and examples are counted from the first of these.
    Silent tracks give their examples as well. `alive` is called for every packet and example.
    Raises DecodeError if the track cannot be read whole, is longer than a day or has under 1000 samples a second, ValueError if
    `select` wants an example that is not there, OSError if the file cannot be read at all.
    """
    path = Path(path)
    if path.is_dir():  # a folder of numbered images
        yield "sound done", SoundInfo("none", 0.0, 0.0, 0)
        return
    with tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES) as spool:
        samples, peak, origin_seconds = 0, 0.0, 0.0
        with open_container(path) as container:
            stream = audio_stream(container)
            if stream is None:
                yield "sound done", SoundInfo("none", 0.0, 0.0, 0)
                return
            for time_seconds, wave in _in_span(_decoded(path, container, stream, alive), span_seconds):
                origin_seconds = origin_seconds if samples else time_seconds
                samples += len(wave)
                if samples > _LONGEST_SECONDS * RATE_HZ:
                    raise DecodeError(f"its sound is longer than {_LONGEST_SECONDS / 3600:.0f} hours")
                peak = max(peak, float(np.abs(wave).max()))
                spool.write(wave.tobytes())
        count = example_count(samples)
        yield from _examples(spool, select, count, chunk_examples, origin_seconds, alive)
        state = "silent" if samples and peak < _SILENCE else "heard" if count else "short"
        yield "sound done", SoundInfo(state, samples / RATE_HZ, peak, count)


def _examples(
    spool: IO[bytes],
    select: Callable[[int], np.ndarray],
    count: int,
    chunk_examples: int,
    origin_seconds: float,
    alive: Callable[[], None],
) -> Iterator[tuple[Any, ...]]:
    wanted = np.unique(np.asarray(select(count), dtype=np.int64)) if count else np.empty(0, dtype=np.int64)
    if len(wanted) and not 0 <= wanted[0] <= wanted[-1] < count:
        raise ValueError(f"select asked for examples {wanted[0]} to {wanted[-1]} of {count}")
    for begin in range(0, len(wanted), chunk_examples):
        numbers = wanted[begin : begin + chunk_examples]
        waves = np.empty((len(numbers), EXAMPLE_SAMPLES), dtype=np.float32)
        for number, wave in zip(numbers, waves, strict=True):
            alive()
            spool.seek(int(number) * HOP_SAMPLES * _SAMPLE_BYTES)
            wave[:] = np.frombuffer(spool.read(EXAMPLE_SAMPLES * _SAMPLE_BYTES), dtype=np.float32)
        yield "sound", numbers, origin_seconds + (numbers * HOP_SAMPLES + EXAMPLE_SAMPLES / 2) / RATE_HZ, waves


_Piece = tuple[float, np.ndarray]  # time of the first sample on the file's clock, in seconds; (samples,) float32 mono


def _in_span(pieces: Iterator[_Piece], span_seconds: tuple[float, float] | None) -> Iterator[_Piece]:
    """The samples with start <= time < end; reading stops behind them. A microsecond is forgiven, as with pictures."""
    start, end = span_seconds or (-math.inf, math.inf)
    for time_seconds, wave in pieces:
        if time_seconds >= end - 1e-6:
            return
        first, behind = (
            0 if limit == -math.inf else len(wave) if limit == math.inf else math.ceil((limit - 1e-6 - time_seconds) * RATE_HZ)
            for limit in (start, end)
        )
        first = max(0, first)
        if wave[first:behind].size:
            yield time_seconds + first / RATE_HZ, wave[first:behind]


def _decoded(
    path: Path, container: av.container.InputContainer, stream: av.AudioStream, alive: Callable[[], None]
) -> Iterator[_Piece]:
    """The whole track, piece after piece; times run on from the first piece's, sample by sample."""
    begin_seconds, samples = 0.0, 0
    packets = _Packets()
    mono = _Mono()
    try:
        for frame in _frames(container, stream, packets, alive):
            if not mono.begun and frame.pts is not None and frame.time_base:
                begin_seconds = float(frame.pts * frame.time_base) - (container.start_time or 0) / 1e6
            for wave in mono.take(frame):
                yield begin_seconds + samples / RATE_HZ, wave
                samples += len(wave)
        for wave in mono.rest():
            yield begin_seconds + samples / RATE_HZ, wave
            samples += len(wave)
    except av.error.FFmpegError as error:
        raise DecodeError(f"sound damaged after {samples / RATE_HZ:.2f} s: {error.strerror}") from None
    # Plain samples may be cut anywhere: where the length is unknown, a last packet is so.
    check_whole(path, packets.last_is_cut and not _is_plain(stream), packets.count, stream.frames)


def _is_plain(stream: av.AudioStream) -> bool:
    return stream.codec_context.name.startswith("pcm_")


@dataclass
class _Packets:
    """What was read of a track, for the check that it is whole."""

    count: int = 0
    last_is_cut: bool = False


def _frames(
    container: av.container.InputContainer, stream: av.AudioStream, packets: _Packets, alive: Callable[[], None]
) -> Iterator[av.AudioFrame]:
    """The track's frames, the last one without the padding behind the track's end. Each is held back until the next one is
    there, for only the last packet tells where the track ends."""
    held: av.AudioFrame | None = None
    end: int | None = None
    for packet in container.demux(stream):
        alive()
        if packet.size:
            packets.count += 1
            packets.last_is_cut = packet.is_corrupt
            end = _end_of_packet(container, stream, packet)
        for frame in packet.decode():
            if held is not None:
                yield held
            held = frame
    if held is not None:
        last = _until(held, end)
        if last is not None:
            yield last


def _end_of_packet(
    container: av.container.InputContainer, stream: av.AudioStream, packet: "av.Packet[av.AudioStream]"
) -> int | None:
    """Where the sound of a track ends if this is its last packet, in units of the stream's time base; None where the frames
    themselves say it.

    Coded sound comes in frames of one size (AAC 1,024 samples), so the last one is filled up. MP4 and QuickTime files tell
    the true end by the last packet's duration or by an edit list, which is the stream's duration for FFmpeg. FFmpeg 9 (PyAV
    19) drops what is behind it in most files, FFmpeg 8 (PyAV 18) in none. Of all other containers both drop the same.

    FFmpeg 9 takes the stream's duration for the end even of a track that begins late. So of coded sound that begins late by
    less than a frame, as much is lost at its end; what FFmpeg 9 has dropped cannot be had back, so it is dropped here too. Of
    plain samples (PCM) it drops nothing.
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
    """The frame's samples before `end`, in units of its time base; None where there are none."""
    if end is None or frame.pts is None or not frame.time_base:
        return frame
    samples = round((end - frame.pts) * frame.time_base * frame.sample_rate)
    if samples >= frame.samples:
        return frame
    if samples <= 0:
        return None
    values: Any = frame.to_ndarray()  # (channels, samples), or (1, samples * channels) where channels take turns
    kept = samples if frame.format.is_planar else samples * frame.layout.nb_channels
    cut = av.AudioFrame.from_ndarray(np.ascontiguousarray(values[:, :kept]), frame.format.name, frame.layout.name)
    cut.sample_rate, cut.pts, cut.time_base = frame.sample_rate, frame.pts, frame.time_base
    return cut


class _Mono:
    """Frames of any format, rate and layout -> mono float32 at 16 kHz; a change in mid-stream begins anew."""

    def __init__(self) -> None:
        self.begun = False
        self.source: tuple[str, int, str, int] | None = None
        self.resampler: av.AudioResampler | None = None

    def take(self, frame: av.AudioFrame) -> Iterator[np.ndarray]:
        if frame.sample_rate < _LEAST_RATE_HZ:
            count = "1 sample" if frame.sample_rate == 1 else f"{frame.sample_rate} samples"
            raise DecodeError(f"its sound has {count} a second, fewer than {_LEAST_RATE_HZ:,}")
        self.begun = True
        source = (frame.format.name, frame.sample_rate, frame.layout.name, frame.layout.nb_channels)
        if source != self.source:
            yield from self.rest()
            self.source, self.resampler = source, av.AudioResampler("fltp", frame.layout, RATE_HZ)
        assert self.resampler is not None
        frame.pts = None  # gaps are closed
        yield from self._means(self.resampler.resample(frame))

    def rest(self) -> Iterator[np.ndarray]:
        """What the resampler still holds."""
        if self.resampler is not None:
            yield from self._means(self.resampler.resample(None))
            self.resampler = None

    @staticmethod
    def _means(frames: list[av.AudioFrame]) -> Iterator[np.ndarray]:
        for frame in frames:
            wave = frame.to_ndarray().mean(axis=0)  # (channels, samples) -> (samples,)
            if not np.isfinite(wave).all():
                raise DecodeError("its sound holds samples that are no numbers")
            if len(wave):
                yield wave
