"""A pool of decode processes. If one crashes or hangs, only the video that it was reading is lost.

Among the process pools that were tested with crashing tasks, only pebble lost no finished work, but
it returns one object per task, and a long video has many chunks. Hence this small supervisor. Each
worker is a new interpreter (never a fork, which decoders do not survive) with its own socket.
Workers share no lock and no queue, so a worker that is killed while it sends does not disturb the
others. The pixels of a chunk are received from the socket directly into the array that the consumer
gets, without a copy. A message is read when the consumer asks for it, and the worker waits in its
send until then. Each worker thus has at most one unread chunk, and a slow consumer costs no memory.
Workers send numbers and JSON, never pickles.

A worker is not started through `multiprocessing`, so it does not import the caller's main module.
No `__main__` guard is needed, and the pool works in a notebook. However, selections must be
functions from a module that can be imported (or a functools.partial of one), not from the script or
notebook.
"""

import json
import os
import pickle
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Hashable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from reelbank.data.errors import InputError
from reelbank.data.files import new_folder
from reelbank.data.system.faults import is_sent
from reelbank.data.video import wire
from reelbank.data.video.frames import Reading, write_sample
from reelbank.data.video.limits import Limits
from reelbank.data.video.messages import Done, Failed, Message, SoundDone, SoundFailed
from reelbank.data.video.worker import WorkerOptions

Task = tuple[Hashable, str | Path, Reading]  # key, path, what to read

# If a wait ends later than this after its deadline, this process was suspended meanwhile.
_LATE_SECONDS = 0.5
_ENDS_SECONDS = 20.0  # maximum time to wait for the end of a killed process
# Reasons why a process is silent, by its state in /proc/<pid>/stat.
_WAITS = {
    "D": "waits for a disk or a network that does not answer",
    "T": "was stopped",
    "t": "was stopped",
}
_START = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
_START += "from reelbank.data.video.worker import serve; serve(sys.argv[2:])"
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class _Event:
    """with_message: workers that have a message or have ended; silent: workers that have sent
    nothing for too long."""

    with_message: list["_Worker"]
    silent: list["_Worker"]


@dataclass(frozen=True)
class _Blame:
    """Why a process ended or is silent. by_machine: another process ended or stopped it, or it
    waits for a disk."""

    reason: str
    by_machine: bool = False


class _Worker:
    """One process, its socket and its state."""

    def __init__(
        self, folder: Path, sample: Path, options: WorkerOptions, timeout_seconds: float
    ) -> None:
        self.socket, far = socket.socketpair()
        self.socket.settimeout(timeout_seconds)
        # Receives what decoders print; the last line explains a failed start.
        self.log = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        command = [
            sys.executable,
            "-P",
            "-c",
            _START,
            json.dumps(sys.path),
            str(far.fileno()),
            str(os.getpid()),
            str(sample),
        ]
        self.process = subprocess.Popen(
            [*command, json.dumps(asdict(options))],
            pass_fds=[far.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            env=os.environ | _ONE_THREAD,
            start_new_session=True,  # the terminal's Ctrl-C is only for the parent
        )
        far.close()
        self.ready = False
        self.task: Task | None = None
        self.pixels = 0  # of the task's largest picture, if it had to wait for room
        self.waits = False  # for room for this picture
        self.in_sound = False  # reads the task's sound, which comes before its pictures
        # The failed task of the process that this one replaces, and its message. The message is
        # passed on after this process has decoded the sample: only then is the video to blame.
        self.blamed: tuple[Task, Failed | SoundFailed] | None = None
        self.last_message = time.monotonic()

    def death(self) -> _Blame:
        """Why the process ended."""
        code = self.process.wait()
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        hint = ": out of memory?" if code == -signal.SIGKILL else ""
        return _Blame(f"decoder process died ({name}{hint})", by_machine=is_sent(-code))

    def silence(self, seconds: float) -> _Blame:
        """Why the process has sent nothing for this long."""
        silent = f"no sign of life for {seconds:g} s"
        with suppress(OSError):
            state = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0]
            if state in _WAITS:
                reason = f"decoder process {_WAITS[state]}: {silent}"
                return _Blame(reason, by_machine=True)
        return _Blame(f"decoder process hung: {silent}")

    def end(self) -> None:
        """Kill the process."""
        self.process.kill()
        # A process that waits for a disk or server ends only when that answers.
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_ENDS_SECONDS)
        self.socket.close()
        self.log.close()

    def last_line(self) -> str:
        """The last line that the process printed."""
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


class DecodePool:
    """`workers` decode processes. A context manager; `close` ends them.

    timeout_seconds: a worker that has a video and sends nothing for this long counts as hung (a
    busy one sends a message every second). limits: of each video, and of the pixels that all
    workers together have in memory. Videos whose pictures are within their worker's share do not
    wait.
    """

    def __init__(
        self,
        workers: int,
        timeout_seconds: float = 120.0,
        *,
        chunk_frames: int = 32,
        limits: Limits | None = None,
    ) -> None:
        if workers < 1:
            raise InputError(f"WORKERS={workers}: must be at least 1")
        self.timeout_seconds, self.limits = timeout_seconds, limits or Limits()
        share_px = self.limits.in_flight_px // workers
        self.options = WorkerOptions(chunk_frames, self.limits, share_px)
        self.queue: list[_Worker] = []  # workers that wait for room, in order
        self.folder = new_folder("reelbank-decode")
        self.sample = write_sample(self.folder / "sample.avi")
        self.workers = [self._start() for _ in range(workers)]

    def __enter__(self) -> "DecodePool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all workers."""
        for worker in self.workers:
            worker.end()
        self.workers = []
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> _Worker:
        return _Worker(self.folder, self.sample, self.options, self.timeout_seconds)

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Hashable, Message]]:
        """Decode tasks (key, path, Reading) as workers become free, and yield (key, message).

        The messages of a key have the order that `messages` describes; messages of other keys may
        come in between. If a worker crashes or hangs in the sound of a video, another worker reads
        the pictures. If no picture is selected, Done contains the facts from the file's header.
        Raises InputError, which ends the run, if decoding itself does not work: an unknown or
        missing decoder, or a worker that cannot read a known-good video.
        """
        waiting = iter(tasks)
        try:
            while self._hand_out(waiting):
                event = self._wait()
                for worker in event.with_message:
                    yield from self._take_message(worker)
                for worker in event.silent:
                    self._replace(worker, worker.silence(self.timeout_seconds))
        finally:  # if the consumer stopped early: a task cannot be cancelled, so end its process
            for i, worker in enumerate(self.workers):
                if worker.task or worker.blamed:
                    worker.end()
                    self.workers[i] = self._start()
            self.queue = []

    def _hand_out(self, waiting: Iterator[Task]) -> bool:
        """Give every idle worker a task; False if all tasks are finished."""
        for i, worker in enumerate(self.workers):
            is_idle = worker.ready and worker.task is None
            if is_idle and worker.process.poll() is not None:  # it ended without a task
                worker.end()
                worker = self.workers[i] = self._start()
            if worker.ready and worker.task is None and (task := next(waiting, None)) is not None:
                self._hand(worker, task)
        return any(w.task or w.blamed or not w.ready for w in self.workers)

    def _hand(self, worker: _Worker, task: Task) -> None:
        worker.task = task
        worker.in_sound = task[2].sound is not None
        worker.last_message = time.monotonic()
        # If the process has ended, the next read from its socket reports it.
        with suppress(BrokenPipeError, ConnectionResetError):
            wire.send_bytes(worker.socket, pickle.dumps((os.fspath(task[1]), task[2])))

    def _wait(self) -> _Event:
        """Wait until a worker has a message, has ended or has been silent too long."""
        busy = [w for w in self.workers if w.task or not w.ready]
        with selectors.DefaultSelector() as selector:
            for worker in busy:
                selector.register(worker.socket, selectors.EVENT_READ, worker)
            oldest = min((w.last_message for w in busy if not w.waits), default=0.0)
            deadline = oldest + self.timeout_seconds
            began = time.monotonic()
            events = selector.select(max(0.0, deadline - began))
            with_message = [key.data for key, _ in events]
        now = time.monotonic()
        # If this process was suspended, its workers may have been suspended as well.
        if now - max(deadline, began) > _LATE_SECONDS:
            for worker in busy:
                worker.last_message = now
        silent = [w for w in busy if not w.waits and now - w.last_message >= self.timeout_seconds]
        return _Event(with_message, [w for w in silent if w not in with_message])

    def _take_message(self, worker: _Worker) -> Iterator[tuple[Hashable, Message]]:
        """Receive one message of a worker. A worker that has ended is replaced."""
        try:
            message = wire.receive(worker.socket)
        except TimeoutError:  # it stopped in the middle of a message
            self._replace(worker, worker.silence(self.timeout_seconds))
            return
        except (EOFError, ConnectionError):
            self._replace(worker, worker.death())
            return
        worker.last_message = time.monotonic()
        match message:
            case wire.Alive():
                return
            case wire.Broken(reason):
                raise InputError(reason)
            case wire.Ready():
                worker.ready = True
                yield from self._failure_of_predecessor(worker)
            case wire.Large(pixels):
                worker.pixels, worker.waits = pixels, True
                self.queue.append(worker)
                self._make_room()
            case _:
                assert worker.task is not None
                key = worker.task[0]
                if isinstance(message, SoundDone | SoundFailed):
                    worker.in_sound = False
                if isinstance(message, Done | Failed):
                    worker.task, worker.pixels = None, 0
                    self._make_room()
                yield key, message

    def _failure_of_predecessor(self, worker: _Worker) -> Iterator[tuple[Hashable, Message]]:
        """The message about the task at which the process that `worker` replaces ended."""
        if not worker.blamed:
            return
        (key, path, reading), message = worker.blamed
        worker.blamed = None
        if isinstance(message, SoundFailed):  # its pictures are still to be read
            self._hand(worker, (key, path, replace(reading, sound=None)))
        yield key, message

    def _make_room(self) -> None:
        """Let waiting workers continue, in order, while all pictures together are within the limit.
        A worker may always continue if no other one decodes large pictures."""
        while self.queue:
            first = self.queue[0]
            others = [
                worker.pixels for worker in self.workers if worker.pixels and not worker.waits
            ]
            if others and sum(others) + first.pixels > self.limits.in_flight_px:
                return
            self.queue.pop(0)
            first.waits, first.last_message = False, time.monotonic()
            # If the process has ended, the next read from its socket reports it.
            with suppress(BrokenPipeError, ConnectionResetError):
                first.socket.sendall(wire.GO_ON)

    def _replace(self, worker: _Worker, blame: _Blame) -> None:
        """Start another process in place of a worker that ended or hung."""
        printed = worker.last_line()
        worker.end()
        if not worker.ready:
            raise InputError(
                "decoding fails on this machine, even for a video that is known to be good "
                f"({blame.reason}; last output: {printed or 'none'}); check the packages with "
                "'reelbank doctor'"
            )
        fresh = self._start()
        if worker.task:
            failed = SoundFailed if worker.in_sound else Failed
            message = failed(blame.reason, by_machine=blame.by_machine)
            fresh.blamed = (worker.task, message)
        self.workers[self.workers.index(worker)] = fresh
        self.queue = [other for other in self.queue if other is not worker]
        self._make_room()
