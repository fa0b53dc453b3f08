"""The main program of a decode process of `pool.DecodePool`."""

import json
import pickle
import shutil
import socket
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.system.faults import is_machine_error, unreadable
from reelbank.data.system.processes import end_with_parent, ignore_stops
from reelbank.data.video.frames import (
    LEAST_SKIPPED_FRAMES,
    SAMPLE_FRAMES,
    Reading,
    decode,
    probe,
)
from reelbank.data.video.function_work import FunctionWork, set_threads
from reelbank.data.video.functions import UnfitPicture
from reelbank.data.video.limits import Limits
from reelbank.data.video.messages import (
    Done,
    Failed,
    Message,
    PictureMessage,
    SoundDone,
    SoundFailed,
    SoundMessage,
    Start,
)
from reelbank.data.video.opening import DecodeError
from reelbank.data.video.process import wire
from reelbank.data.video.process.ring import FrameMemory, RingWriter
from reelbank.data.video.sound import read_sound
from reelbank.data.video.timed_sound import Centres, TimedSound
from reelbank.data.video.timeline import FrameCount

_ALIVE_SECONDS = 1.0  # a busy process reports this often; far below any TIMEOUT


@dataclass(frozen=True)
class WorkerOptions:
    """How a process decodes. Before it decodes pictures of more than `ask_px` pixels, it waits for
    room. slot_bytes: of the buffers that it shares with its parent. threads: of OpenCV, for picture
    functions."""

    chunk_frames: int
    limits: Limits
    ask_px: int
    slot_bytes: int
    threads: int

    @classmethod
    def from_json(cls, text: str) -> Self:
        """From the JSON of dataclasses.asdict."""
        document = json.loads(text)
        return cls(**document | {"limits": Limits(**document["limits"])})


def serve(words: list[str]) -> None:
    """Decode the tasks from the socket until it closes. Only `DecodePool` calls this.

    words: the number of the socket, the parent's process id, the path of the sample, the number of
    the file of the shared buffers and the WorkerOptions.
    """
    ignore_stops()
    connection = socket.socket(fileno=int(words[0]))
    sample = Path(words[2])
    remove_folder = partial(shutil.rmtree, sample.parent, ignore_errors=True)
    end_with_parent(int(words[1]), remove_folder)
    server = _Server(connection, sample, int(words[3]), WorkerOptions.from_json(words[4]))
    read_sample(sample, "auto")
    with suppress(EOFError, ConnectionError):  # the parent has ended
        wire.send(connection, wire.Ready())
        while True:
            order = server.receive_order()
            if isinstance(order, bytes):
                server.serve_task(order)
    remove_folder()


class _Server:
    """One decode process."""

    def __init__(
        self, connection: socket.socket, sample: Path, file: int, options: WorkerOptions
    ) -> None:
        self.connection, self.sample, self.options = connection, sample, options
        self.last_sent = time.monotonic()
        self.memory = RingWriter(file, options.slot_bytes, self.wait_for_buffer)

    def receive_order(self) -> bytes | wire.GoOn | wire.Free:
        """The next order. Buffers become free at any time."""
        order = wire.read_order(self.connection)
        if isinstance(order, wire.Free):
            self.memory.free.append(order.slot)
        return order

    def wait_for_buffer(self) -> None:
        """Wait until a buffer is free."""
        wire.send(self.connection, wire.Full())
        while not self.memory.free:
            self.receive_order()

    def serve_task(self, order: bytes) -> None:
        """Decode one video and send its messages."""
        try:
            path, reading = pickle.loads(order)  # noqa: S301  from our own parent
        except (AttributeError, ImportError) as error:
            reason = (
                f"the frame selection cannot be loaded in a decoding process ({error}); "
                "define it in a module"
            )
            wire.send(self.connection, wire.Broken(reason))
            return
        except InputError as error:  # a library is not installed correctly
            wire.send(self.connection, wire.Broken(str(error)))
            return
        for message in self._messages(Path(path), reading):
            wire.send(self.connection, message, memory=self.memory)
            self.last_sent = time.monotonic()

    def alive(self) -> None:
        """Report that the process is working, at most once per _ALIVE_SECONDS."""
        if time.monotonic() - self.last_sent >= _ALIVE_SECONDS:
            self.last_sent = time.monotonic()
            wire.send(self.connection, wire.Alive())

    def admit(self, pixels: int) -> None:
        """Wait until there is room for a picture of this many pixels."""
        if pixels > self.options.ask_px:
            wire.send(self.connection, wire.Large(pixels))
            while not isinstance(self.receive_order(), wire.GoOn):
                pass

    def _messages(self, path: Path, reading: Reading) -> Iterator[Message | wire.Broken]:
        """The messages of the sound, then those of the pictures."""
        timed = TimedSound(self._read_sound, self._counted_frames, path, reading)
        if reading.sound is not None:
            sounds = timed.messages()
            yield from self._or_failure(sounds, path, failed=SoundFailed, decoder="auto")
        pictures = self._pictures(path, reading)
        for message in self._or_failure(pictures, path, failed=Failed, decoder=reading.decoder):
            if isinstance(message, Start):
                timed.true_frames = message.frames
            if isinstance(message, Done) and timed.is_wrong:
                sounds = timed.messages_again()
                yield from self._or_failure(sounds, path, failed=SoundFailed, decoder="auto")
            yield message

    def _read_sound(
        self, path: Path, reading: Reading, centres: Centres | None
    ) -> Iterator[SoundMessage]:
        assert reading.sound is not None
        return read_sound(
            path,
            reading.sound,
            alive=self.alive,
            span_seconds=reading.span_seconds,
            limits=self.options.limits,
            centres=centres,
            windows=reading.sound_windows,
        )

    def _counted_frames(self, path: Path, reading: Reading) -> Generator[PictureMessage]:
        """The messages about the pictures of a file, of which none is selected."""
        memory = FrameMemory()
        yield from self._decoded(path, reading, _no_frame, memory, least_skipped_frames=1)

    def _pictures(self, path: Path, reading: Reading) -> Iterator[PictureMessage]:
        if reading.functions:
            work = FunctionWork(reading.functions, reading.select, self.memory, self.alive)
            decoded = self._decoded(
                path, reading, work.select, work.pictures, processor_seconds=work.clock
            )
            set_threads(self.options.threads)
            yield from work.messages(decoded)
        elif reading.select is not None:
            yield from self._decoded(path, reading, reading.select, self.memory)
        else:
            yield Done(probe(path, reading.image_fps, self.options.limits))

    def _decoded(
        self,
        path: Path,
        reading: Reading,
        select: Callable[[FrameCount], np.ndarray],
        memory: FrameMemory,
        *,
        processor_seconds: Callable[[], float] = time.process_time,
        least_skipped_frames: int = LEAST_SKIPPED_FRAMES,
    ) -> Iterator[PictureMessage]:
        return decode(
            path,
            select,
            reading.decoder,
            chunk_frames=self.options.chunk_frames,
            alive=self.alive,
            span_seconds=reading.span_seconds,
            limits=self.options.limits,
            admit=self.admit,
            image_fps=reading.image_fps,
            memory=memory,
            processor_seconds=processor_seconds,
            least_skipped_frames=least_skipped_frames,
        )

    def _or_failure(
        self,
        messages: Iterator[PictureMessage] | Iterator[SoundMessage],
        path: Path,
        *,
        failed: type[Failed | SoundFailed],
        decoder: str,
    ) -> Iterator[Message | wire.Broken]:
        """The messages; an exception becomes a message of the class `failed`, or, if not even the
        sample can be decoded, Broken."""
        try:
            for message in messages:
                # FFmpeg reports read errors of the disk as damage: check whether the file can be
                # read.
                if isinstance(message, Done | SoundDone) and message.info.damage:
                    reason = unreadable(path, self.alive)
                    if reason:
                        yield failed(reason, by_machine=True)
                        return
                yield message
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001  whatever a selection or a decoder raises must not end the run
            yield self._failure(error, path, failed=failed, decoder=decoder)

    def _failure(
        self, error: Exception, path: Path, *, failed: type[Failed | SoundFailed], decoder: str
    ) -> Failed | SoundFailed | wire.Broken:
        """The message of an exception."""
        unreadable_because = unreadable(path, self.alive)
        if isinstance(error, InputError):  # the decoder is unknown or not installed
            return wire.Broken(str(error))
        reason = _reason_of(error)
        if is_machine_error(error):
            return failed(reason, by_machine=True)
        if unreadable_because:
            return failed(unreadable_because, by_machine=True)
        try:
            read_sample(self.sample, decoder)
        except Exception as sample_error:  # noqa: BLE001  as above; here it ends the run, with its reason
            return wire.Broken(
                f"decoding fails on this machine: a video failed ({reason}), and then a video "
                f"that is known to be good failed as well ({sample_error!r}); check the packages "
                "with 'reelbank doctor'"
            )
        return failed(reason)


def _no_frame(frames: int) -> np.ndarray:
    """A selection."""
    return np.empty(0, np.int64)


def _reason_of(error: Exception) -> str:
    """An exception as one line."""
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}"
    if isinstance(error, DecodeError | UnfitPicture):
        return " ".join(str(error).split())
    return " ".join(f"{type(error).__name__}: {error}".split())


def read_sample(sample: Path, decoder: str) -> None:
    """Decode the known-good video. Raises DecodeError if frames are missing."""
    *_, last = decode(sample, np.arange, decoder)
    assert isinstance(last, Done)
    if last.info.frames != SAMPLE_FRAMES:
        raise DecodeError(f"{last.info.frames} of {SAMPLE_FRAMES} frames")
