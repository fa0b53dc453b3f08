"""Decode processes that may die or hang without harm to anything but the video they were reading.

Of the pools tried with deadly tasks only pebble lost no good work; it returns one object a task, and a long video is many
chunks. Hence this small supervisor: each worker is a fresh interpreter (never a fork: decoders do not survive one) at the
end of a socket of its own. Workers share no lock and no queue, so one that is killed while sending leaves the others alone.
A chunk's pixels go through the socket as they lie in memory, straight into the array the consumer gets. The next message is
read when the consumer asks for it, and a worker waits in its send until then, so a slow consumer costs no memory: at most
one chunk a worker is under way. What workers send back is numbers and JSON, never pickle.

Since a worker is not started through `multiprocessing`, it does not import the caller's main module: no `__main__` guard is
needed, and it works from a notebook; but selections must come from a module that can be imported (or be a functools.partial of
such a function), not from the script or the notebook itself.
"""

import json
import os
import pickle
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from reelbank.data import decode as decoding
from reelbank.data import sound
from reelbank.data.decode import Reading
from reelbank.data.errors import InputError

Task = tuple[Hashable, str | Path, Reading]

_ALIVE_SECONDS = 1.0  # a busy worker says so this often
_START = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from reelbank.data.workers import serve; serve(sys.argv[2:])"
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class _Worker:
    """One process, its socket, and what it is doing."""

    def __init__(self, folder: Path, sample: Path, chunk_frames: int, timeout_seconds: float) -> None:
        self.socket, far = socket.socketpair()
        self.socket.settimeout(timeout_seconds)
        self.log = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  decoders print to it; its end tells why a start failed
        command = [sys.executable, "-P", "-c", _START, json.dumps(sys.path), str(far.fileno()), str(os.getpid()), str(sample)]
        self.process = subprocess.Popen(
            [*command, str(chunk_frames)],
            pass_fds=[far.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            env=os.environ | _ONE_THREAD,
            start_new_session=True,  # the terminal's Ctrl-C is for the parent alone
        )
        far.close()
        self.ready = False
        self.task: Task | None = None
        self.blamed: tuple[Hashable, str] | None = None  # told once this process, a dead one's successor, has proved itself
        self.heard = time.monotonic()

    def death(self) -> str:
        """Why the process ended, in words."""
        code = self.process.wait()
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        hint = ": out of memory?" if code == -signal.SIGKILL else ""
        return f"decoder process died ({name}{hint})"

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.socket.close()
        self.log.close()

    def last_words(self) -> str:
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


class DecodePool:
    """`workers` processes that decode. A context manager; `close` ends them.

    timeout_seconds: a worker that is silent for so long while it has a video is hung (a busy one speaks every second).
    """

    def __init__(self, workers: int, timeout_seconds: float = 120.0, chunk_frames: int = 32) -> None:
        if workers < 1:
            raise InputError(f"WORKERS={workers}: at least 1 is needed")
        self.timeout_seconds, self.chunk_frames = timeout_seconds, chunk_frames
        self.folder = Path(tempfile.mkdtemp(prefix="reelbank-decode-"))
        self.sample = decoding.write_sample(self.folder / "sample.avi")
        self.workers = [self._start() for _ in range(workers)]

    def __enter__(self) -> "DecodePool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all workers, whatever they do."""
        for worker in self.workers:
            worker.end()
        self.workers = []
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> _Worker:
        return _Worker(self.folder, self.sample, self.chunk_frames, self.timeout_seconds)

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Hashable, tuple[Any, ...]]]:
        """Decode (key, path, Reading) tasks, taken as workers become free, and yield (key, message).

        A key's messages are, where sound is asked for, those of `sound.read_sound`, or ("sound failed", reason) in place of
        ("sound done", SoundInfo), which does not hinder the picture; then those of `decode.decode`, in order. Other keys' come
        in between. The last message of a key is ("done", VideoInfo), from the file's header where no picture is asked for, or
        ("failed", reason). Raises InputError, for the whole run, when decoding itself does not work:
        an unknown or missing decoder, or a worker that cannot even read a known-good video.
        """
        waiting = iter(tasks)
        try:
            while self._hand_out(waiting):
                speaking, silent = self._wait()
                for worker in speaking:
                    yield from self._hear(worker)
                for worker in silent:
                    self._replace(worker, self._hung())
        finally:  # left before the end: what is under way cannot be called back
            for i, worker in enumerate(self.workers):
                if worker.task or worker.blamed:
                    worker.end()
                    self.workers[i] = self._start()

    def _hand_out(self, waiting: Iterator[Task]) -> bool:
        """Give every idle worker a task; False when all is done."""
        for i, worker in enumerate(self.workers):
            if worker.ready and worker.task is None and worker.process.poll() is not None:  # died idle: no video's fault
                worker.end()
                worker = self.workers[i] = self._start()
            if worker.ready and worker.task is None and (task := next(waiting, None)) is not None:
                worker.task = task
                worker.heard = time.monotonic()
                with suppress(BrokenPipeError, ConnectionResetError):  # dead: found when it is listened to
                    order = pickle.dumps((os.fspath(task[1]), task[2]))
                    worker.socket.sendall(struct.pack("=Q", len(order)) + order)
        return any(w.task or w.blamed or not w.ready for w in self.workers)

    def _wait(self) -> tuple[list[_Worker], list[_Worker]]:
        """Wait for messages: the workers that have one or have ended, and those that have been silent too long."""
        busy = [w for w in self.workers if w.task or not w.ready]
        with selectors.DefaultSelector() as selector:
            for worker in busy:
                selector.register(worker.socket, selectors.EVENT_READ, worker)
            first = min((w.heard for w in busy), default=0.0) + self.timeout_seconds
            speaking = [key.data for key, _ in selector.select(max(0.0, first - time.monotonic()))]
        now = time.monotonic()
        return speaking, [w for w in busy if w not in speaking and now - w.heard >= self.timeout_seconds]

    def _hung(self) -> str:
        return f"decoder process hung: no sign of life for {self.timeout_seconds:g} s"

    def _hear(self, worker: _Worker) -> Iterator[tuple[Hashable, tuple[Any, ...]]]:
        """Take one message of a worker; when there is none it has died: replace it."""
        try:
            message = _receive(worker.socket)
        except TimeoutError:  # it stopped in the middle of a message
            self._replace(worker, self._hung())
            return
        except (EOFError, ConnectionError):
            self._replace(worker, worker.death())
            return
        worker.heard = time.monotonic()
        if message[0] == "ready":
            worker.ready = True
            if worker.blamed:
                key, reason = worker.blamed
                worker.blamed = None
                yield key, ("failed", reason)
        elif message[0] == "broken":
            raise InputError(message[1])
        elif message[0] != "alive":
            assert worker.task is not None
            key = worker.task[0]
            if message[0] in ("done", "failed"):
                worker.task = None
            yield key, message

    def _replace(self, worker: _Worker, reason: str) -> None:
        words = worker.last_words()
        worker.end()
        if not worker.ready:
            raise InputError(f"decoding does not work here, even of a known-good video: {reason}; {words or 'no output'}")
        fresh = self._start()
        fresh.blamed = (worker.task[0], reason) if worker.task else None
        self.workers[self.workers.index(worker)] = fresh


# ---- messages on a socket: a length, JSON, and for frames and sound the three arrays as they lie in memory


_ARRAYS = {"frames": np.uint8, "sound": np.float32}  # numbers (n,), times (n,), and the third's type
_INFOS = {"done": decoding.VideoInfo, "sound done": sound.SoundInfo}


def _send(connection: socket.socket, message: tuple[Any, ...]) -> None:
    kind, *rest = message
    arrays: list[np.ndarray] = []
    if kind in _ARRAYS:
        arrays = [np.ascontiguousarray(array) for array in rest]
        rest = [arrays[2].shape]
    elif kind in _INFOS:
        rest = [rest[0].__dict__]
    head = json.dumps([kind, *rest]).encode()
    connection.sendall(struct.pack("=Q", len(head)) + head)
    for array in arrays:
        connection.sendall(array.data.cast("B"))


def _receive(connection: socket.socket) -> tuple[Any, ...]:
    kind, *rest = json.loads(_read(connection, struct.unpack("=Q", _read(connection, 8))[0]))
    if kind in _ARRAYS:
        n = rest[0][0]
        arrays = np.empty(n, np.int64), np.empty(n, np.float64), np.empty(rest[0], _ARRAYS[kind])
        for array in arrays:
            _read_into(connection, array.data.cast("B"))
        return kind, *arrays
    if kind in _INFOS:
        return kind, _INFOS[kind](**rest[0])
    return kind, *rest


def _read(connection: socket.socket, length: int) -> bytes:
    data = bytearray(length)
    _read_into(connection, memoryview(data))
    return bytes(data)


def _read_into(connection: socket.socket, view: memoryview) -> None:
    while view:
        count = connection.recv_into(view)
        if count == 0:
            raise EOFError
        view = view[count:]


# ---- the worker's side


def serve(words: list[str]) -> None:
    """Main program of a worker: decode what comes down the socket until it closes. Only `DecodePool` calls this."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = socket.socket(fileno=int(words[0]))
    threading.Thread(target=_end_with, args=(int(words[1]), Path(words[2]).parent), daemon=True).start()
    sample, chunk_frames = Path(words[2]), int(words[3])
    heard = time.monotonic()

    def alive() -> None:
        nonlocal heard
        if time.monotonic() - heard >= _ALIVE_SECONDS:
            heard = time.monotonic()
            _send(connection, ("alive",))

    _read_sample(sample, "auto")
    with suppress(EOFError, ConnectionError):  # the parent is done
        _send(connection, ("ready",))
        while True:
            order = _read(connection, struct.unpack("=Q", _read(connection, 8))[0])
            try:
                path, reading = pickle.loads(order)  # noqa: S301  from our own parent
            except (AttributeError, ImportError) as error:
                reason = f"the frame selection cannot be loaded in a decode process ({error}); define it in a module"
                _send(connection, ("broken", reason))
                continue
            for message in _messages(path, reading, chunk_frames, alive, sample):
                _send(connection, message)
                heard = time.monotonic()
    shutil.rmtree(sample.parent, ignore_errors=True)


def _messages(
    path: str, reading: Reading, chunk_frames: int, alive: Callable[[], None], sample: Path
) -> Iterator[tuple[Any, ...]]:
    """Sound's messages, then decode's; exceptions as ("sound failed", reason) and ("failed", reason) or, when the sample fails
    too, ("broken", reason)."""
    if reading.sound is not None:
        heard = sound.read_sound(path, reading.sound, alive=alive, span_seconds=reading.span_seconds)
        yield from _or_reason(heard, "sound failed", "auto", sample)
    yield from _or_reason(_pictures(path, reading, chunk_frames, alive), "failed", reading.decoder, sample)


def _pictures(path: str, reading: Reading, chunk_frames: int, alive: Callable[[], None]) -> Iterator[tuple[Any, ...]]:
    if reading.select is None:
        yield "done", decoding.probe(path)
    else:
        yield from decoding.decode(path, reading.select, reading.decoder, chunk_frames, alive, reading.span_seconds)


def _or_reason(messages: Iterator[tuple[Any, ...]], failed: str, decoder: str, sample: Path) -> Iterator[tuple[Any, ...]]:
    """The messages; an exception among them becomes (failed, reason) or ("broken", reason)."""
    try:
        yield from messages
        return
    except InputError as error:  # no such decoder: no video's fault
        yield "broken", str(error)
        return
    except ConnectionError:
        raise
    except decoding.DecodeError as error:
        reason = str(error)
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}"
    except Exception as error:  # noqa: BLE001  whatever a selection or a decoder raises must not end the run
        reason = f"{type(error).__name__}: {error}"
    try:
        _read_sample(sample, decoder)
    except Exception as error:  # noqa: BLE001  as above; here it ends the run, with its reason
        yield "broken", f"decoding does not work here: a video failed ({reason}), then a known-good one ({error!r})"
        return
    yield failed, " ".join(reason.split())


def _read_sample(sample: Path, decoder: str) -> None:
    messages = list(decoding.decode(sample, np.arange, decoder))
    if messages[-1][1].frames != decoding.SAMPLE_FRAMES:
        raise decoding.DecodeError(f"{messages[-1][1].frames} of {decoding.SAMPLE_FRAMES} frames")


def _end_with(parent: int, folder: Path) -> None:
    """End this process, and tidy up, when its parent is gone, also by kill -9 in the middle of a long video."""
    while os.getppid() == parent:
        time.sleep(0.5)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)
