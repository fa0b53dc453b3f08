"""Decodes the sound of a file, without its pictures: mono, cut into examples, usually those of
VGGish at 16 kHz: 0.975 s, one every 0.96 s.

The number of examples is known only at the end. Until then decoded sound is kept in memory up to
64 MiB (17 minutes at 16 kHz), and beyond that on disk, so that nothing is decoded twice. A small file can
claim hours of sound. Therefore sound with fewer than 1,000 samples per second is rejected, so that
resampling to 16 kHz makes at most 16 samples of one, and so is sound longer than a day (5.1 GiB).
"""

import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from reelbank.data.video.containers import structure
from reelbank.data.video.limits import Guard, Limits
from reelbank.data.video.messages import Sound, SoundDone, SoundInfo, SoundMessage
from reelbank.data.video.opening import DecodeError, audio_stream, open_container
from reelbank.data.video.sampling import USUAL_WINDOWS, SoundWindows
from reelbank.data.video.sound_track import Packets, Piece, decoded_sound

EXAMPLE_SAMPLES, HOP_SAMPLES = USUAL_WINDOWS.window_samples, USUAL_WINDOWS.hop_samples

_SILENCE = 1e-4  # about three steps of 16 bits, the dither of an empty track
_LONGEST_SECONDS = 24 * 3600
_MEMORY_BYTES = 64 << 20
_SAMPLE_BYTES = 4
# Tolerance when times are compared with the limits of a span: both are rounded.
_ROUNDING_SECONDS = 1e-6


def example_count(samples: int) -> int:
    """0 for fewer than 15600 samples, otherwise 1 + floor((n - 15600) / 15360): examples are never
    padded with silence."""
    return USUAL_WINDOWS.count(samples)


def read_sound(
    path: str | Path,
    select: Callable[[int], np.ndarray],
    chunk_examples: int = 32,
    *,
    alive: Callable[[], None] = lambda: None,
    span_seconds: tuple[float, float] | None = None,
    limits: Limits | None = None,
    centres: Callable[[float, float], np.ndarray] | None = None,
    windows: SoundWindows = USUAL_WINDOWS,
) -> Iterator[SoundMessage]:
    """Read the examples of a file's sound that `select` chooses, as messages (see `messages`).

    select: gets the number of examples, if there are any, and returns 0-based numbers; each example
    is given once. chunk_examples: maximum number of usual examples in a message, and of longer ones
    that take as much memory. alive: called for every packet and example. span_seconds: only samples
    with start <= time < end, and examples are counted from the first of these. centres: instead of
    `select`: gets the beginning and the end of the sound on the file's clock, in seconds, and
    returns the times at which examples are centred, (n,) float64. Examples are then numbered in this
    order, and where there is no sound, they are silent. windows: the examples.

    FFmpeg's best track is used. A track that begins late is placed by its first time stamp; gaps
    within it are closed. Silent tracks have examples, too.

    Raises DecodeError if the track cannot be read completely, is longer than a day, has fewer than
    1000 samples per second or takes longer than `limits` allow, ValueError if `select` returns a
    number that is not an example's, OSError if the file cannot be read at all.
    """
    path = Path(path)
    if path.is_dir():  # a folder of numbered images
        yield SoundDone(SoundInfo("none", 0.0, 0.0, 0))
        return
    guard = Guard(limits or Limits(), alive)
    with tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES) as spool:
        samples, peak, origin_seconds = 0, 0.0, 0.0
        with open_container(path, guard.limits.picture_px) as container:
            stream = audio_stream(container)
            if stream is None:
                yield SoundDone(SoundInfo("none", 0.0, 0.0, 0))
                return
            packets = Packets()
            pieces = decoded_sound(path, container, stream, packets, guard, rate_hz=windows.rate_hz)
            for piece in _in_span(pieces, span_seconds, windows.rate_hz):
                if not samples:
                    origin_seconds = piece.seconds
                samples += len(piece.wave)
                if samples > _LONGEST_SECONDS * windows.rate_hz:
                    raise DecodeError(
                        f"its sound is longer than {_LONGEST_SECONDS / 3600:.0f} hours"
                    )
                peak = max(peak, float(np.abs(piece.wave).max()))
                spool.write(piece.wave.tobytes())
            fault = structure.fault(
                path, container.format.name, packets.complaints, packets.incomplete
            )
            damage = f"{fault}, so sound may be missing" if fault else ""
        count = windows.count(samples)
        numbers, starts = _of_select(select, count, windows)
        if centres and samples:
            seconds = centres(origin_seconds, origin_seconds + samples / windows.rate_hz)
            starts = (seconds - origin_seconds) * windows.rate_hz - windows.window_samples / 2
            starts = np.rint(starts).astype(np.int64)
            count = len(seconds)
            numbers = np.arange(count)
        else:
            lengths = np.minimum(windows.window_samples, samples - starts)
            seconds = origin_seconds + (starts + lengths / 2) / windows.rate_hz
        most = max(1, chunk_examples * EXAMPLE_SAMPLES // windows.window_samples)
        is_last_short = not centres and len(starts) and lengths[-1] < windows.window_samples
        for chunk in _chunks(len(numbers), most, is_last_short=bool(is_last_short)):
            length = windows.window_samples if centres else int(lengths[chunk.start])
            waves = _waves(spool, starts[chunk], length, samples, alive)
            yield Sound(numbers[chunk], seconds[chunk], waves)
        state = "heard" if count else "short"
        if samples and peak < _SILENCE:
            state = "silent"
        yield SoundDone(SoundInfo(state, samples / windows.rate_hz, peak, count, damage))


class _Chosen(NamedTuple):
    """Examples that were chosen by number. numbers: ascending, each once; starts: number of their
    first sample. Both (n,)."""

    numbers: np.ndarray
    starts: np.ndarray


def _of_select(select: Callable[[int], np.ndarray], count: int, windows: SoundWindows) -> _Chosen:
    """The examples that `select` chooses among this number."""
    numbers = np.empty(0, np.int64)
    if count:
        numbers = np.unique(np.asarray(select(count), dtype=np.int64))
    if len(numbers) and not 0 <= numbers[0] <= numbers[-1] < count:
        raise ValueError(
            f"`select` must return example numbers from 0 to {count - 1} "
            f"(got {numbers[0]} to {numbers[-1]})"
        )
    return _Chosen(numbers, numbers * windows.hop_samples)


def _chunks(examples: int, most: int, *, is_last_short: bool) -> Iterator[slice]:
    """The examples of each message. A last example that is shorter has a message of its own."""
    whole = examples - is_last_short
    for begin in range(0, whole, most):
        yield slice(begin, min(begin + most, whole))
    if is_last_short:
        yield slice(whole, examples)


def _waves(
    spool: IO[bytes],
    starts: np.ndarray,
    length: int,
    samples: int,
    alive: Callable[[], None],
) -> np.ndarray:
    """The samples of examples of `length` that begin at `starts` (n,), from the `samples` samples in
    `spool`, (n, length) float32. Before the first and after the last sample there is silence."""
    waves = np.zeros((len(starts), length), dtype=np.float32)
    for start, wave in zip(starts.tolist(), waves, strict=True):
        alive()
        first, end = max(0, start), min(samples, start + length)
        if first >= end:
            continue
        spool.seek(first * _SAMPLE_BYTES)
        heard = np.frombuffer(spool.read((end - first) * _SAMPLE_BYTES), dtype=np.float32)
        wave[first - start : end - start] = heard
    return waves


def _in_span(
    pieces: Iterator[Piece], span_seconds: tuple[float, float] | None, rate_hz: int
) -> Iterator[Piece]:
    """The samples with start <= time < end; nothing after them is read."""
    start, end = span_seconds or (-math.inf, math.inf)
    for piece in pieces:
        if piece.seconds >= end - _ROUNDING_SECONDS:
            return
        first = max(0, _sample_at(start, piece, rate_hz)) if start > -math.inf else 0
        stop = _sample_at(end, piece, rate_hz) if end < math.inf else len(piece.wave)
        wave = piece.wave[first:stop]
        if wave.size:
            yield Piece(piece.seconds + first / rate_hz, wave)


def _sample_at(seconds: float, piece: Piece, rate_hz: int) -> int:
    """Number of the piece's first sample at or after a time."""
    return math.ceil((seconds - _ROUNDING_SECONDS - piece.seconds) * rate_hz)
