"""Decodes the sound of a file, without its pictures: mono, 16 kHz, cut into VGGish's examples of
0.975 s, one every 0.96 s.

The number of examples is known only at the end. Until then decoded sound is kept in memory up to
64 MiB (17 minutes), and beyond that on disk, so that nothing is decoded twice. A small file can
claim hours of sound. Therefore sound with fewer than 1,000 samples per second is rejected, so that
resampling makes at most 16 samples of one, and so is sound longer than a day (5.1 GiB).
"""

import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np

from reelbank.data.video.containers import structure
from reelbank.data.video.limits import Guard, Limits
from reelbank.data.video.messages import Sound, SoundDone, SoundInfo, SoundMessage
from reelbank.data.video.opening import DecodeError, audio_stream, open_container
from reelbank.data.video.sound_track import RATE_HZ, Packets, Piece, decoded_sound

EXAMPLE_SAMPLES = 15_600  # 96 windows of 25 ms every 10 ms
HOP_SAMPLES = 15_360  # 0.96 s

_SILENCE = 1e-4  # about three steps of 16 bits, the dither of an empty track
_LONGEST_SECONDS = 24 * 3600
_MEMORY_BYTES = 64 << 20
_SAMPLE_BYTES = 4
# Tolerance when times are compared with the limits of a span: both are rounded.
_ROUNDING_SECONDS = 1e-6


def example_count(samples: int) -> int:
    """0 for fewer than 15600 samples, otherwise 1 + floor((n - 15600) / 15360): examples are never
    padded with silence."""
    return 0 if samples < EXAMPLE_SAMPLES else 1 + (samples - EXAMPLE_SAMPLES) // HOP_SAMPLES


def read_sound(
    path: str | Path,
    select: Callable[[int], np.ndarray],
    chunk_examples: int = 32,
    *,
    alive: Callable[[], None] = lambda: None,
    span_seconds: tuple[float, float] | None = None,
    limits: Limits | None = None,
) -> Iterator[SoundMessage]:
    """Read the examples of a file's sound that `select` chooses, as messages (see `messages`).

    select: gets the number of examples, if there are any, and returns 0-based numbers; each example
    is given once. chunk_examples: maximum number of examples in a message. alive: called for every
    packet and example. span_seconds: only samples with start <= time < end, and examples are
    counted from the first of these.

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
            pieces = decoded_sound(path, container, stream, packets, guard)
            for piece in _in_span(pieces, span_seconds):
                if not samples:
                    origin_seconds = piece.seconds
                samples += len(piece.wave)
                if samples > _LONGEST_SECONDS * RATE_HZ:
                    raise DecodeError(
                        f"its sound is longer than {_LONGEST_SECONDS / 3600:.0f} hours"
                    )
                peak = max(peak, float(np.abs(piece.wave).max()))
                spool.write(piece.wave.tobytes())
            fault = structure.fault(
                path, container.format.name, packets.complaints, packets.incomplete
            )
            damage = f"{fault}, so sound may be missing" if fault else ""
        count = example_count(samples)
        yield from _examples(spool, select, count, chunk_examples, origin_seconds, alive=alive)
        state = "heard" if count else "short"
        if samples and peak < _SILENCE:
            state = "silent"
        yield SoundDone(SoundInfo(state, samples / RATE_HZ, peak, count, damage))


def _examples(
    spool: IO[bytes],
    select: Callable[[int], np.ndarray],
    count: int,
    chunk_examples: int,
    origin_seconds: float,
    *,
    alive: Callable[[], None],
) -> Iterator[Sound]:
    """The selected examples, from the samples in `spool`."""
    if not count:
        return
    selected = np.unique(np.asarray(select(count), dtype=np.int64))
    if len(selected) and not 0 <= selected[0] <= selected[-1] < count:
        raise ValueError(
            f"`select` must return example numbers from 0 to {count - 1} "
            f"(got {selected[0]} to {selected[-1]})"
        )
    for begin in range(0, len(selected), chunk_examples):
        numbers = selected[begin : begin + chunk_examples]
        waves = np.empty((len(numbers), EXAMPLE_SAMPLES), dtype=np.float32)
        for number, wave in zip(numbers, waves, strict=True):
            alive()
            spool.seek(int(number) * HOP_SAMPLES * _SAMPLE_BYTES)
            wave[:] = np.frombuffer(spool.read(EXAMPLE_SAMPLES * _SAMPLE_BYTES), dtype=np.float32)
        centres = numbers * HOP_SAMPLES + EXAMPLE_SAMPLES / 2
        yield Sound(numbers, origin_seconds + centres / RATE_HZ, waves)


def _in_span(pieces: Iterator[Piece], span_seconds: tuple[float, float] | None) -> Iterator[Piece]:
    """The samples with start <= time < end; nothing after them is read."""
    start, end = span_seconds or (-math.inf, math.inf)
    for piece in pieces:
        if piece.seconds >= end - _ROUNDING_SECONDS:
            return
        first = max(0, _sample_at(start, piece)) if start > -math.inf else 0
        stop = _sample_at(end, piece) if end < math.inf else len(piece.wave)
        wave = piece.wave[first:stop]
        if wave.size:
            yield Piece(piece.seconds + first / RATE_HZ, wave)


def _sample_at(seconds: float, piece: Piece) -> int:
    """Number of the piece's first sample at or after a time."""
    return math.ceil((seconds - _ROUNDING_SECONDS - piece.seconds) * RATE_HZ)
