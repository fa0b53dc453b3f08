"""A pool of decode processes. If one crashes or hangs, only the video that it was reading is lost.

Among the process pools that were tested with crashing tasks, only pebble lost no finished work, but
it returns one object per task, and a long video has many chunks. Hence this small supervisor. Each
worker is a new interpreter (never a fork, which decoders do not survive) with its own socket.
Workers share no lock and no queue, so a worker that is killed while it sends does not disturb the
others. A worker writes pixels into memory that it shares with this process alone (see
`process.ring`), and the consumer gets them there, without a copy, until it releases them. The other
parts of a message pass through the socket. Each worker has only a few buffers and waits until one
is free, so a slow consumer costs no memory. Workers send numbers and JSON, never pickles.

A worker may also compute functions of the pictures (see `functions`). What it computes, such as
optical flow, comes through the same memory.

A worker is not started through `multiprocessing`, so it does not import the caller's main module.
No `__main__` guard is needed, and the pool works in a notebook. However, selections must be
functions from a module that can be imported (or a functools.partial of one), not from the script or
notebook.
"""

import os
import pickle
import select
import shutil
import time
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from reelbank.data.errors import InputError
from reelbank.data.files import new_folder
from reelbank.data.system.machine import available_memory, cores
from reelbank.data.video.frames import write_sample
from reelbank.data.video.limits import Limits
from reelbank.data.video.messages import Done, Failed, Message, SoundDone, SoundFailed
from reelbank.data.video.process import wire
from reelbank.data.video.process.ring import SLOTS, Ring, slot_bytes
from reelbank.data.video.process.supervised import Blame, Task, WorkerProcess
from reelbank.data.video.worker import WorkerOptions

# If a wait ends later than this after its deadline, this process was suspended meanwhile.
_LATE_SECONDS = 0.5
_LONGEST_SECONDS = 3600.0  # of one wait; a system call does not accept much more
_LOOKS_SECONDS = 0.002  # interval of the checks whether a copy to a GPU is complete


@dataclass(frozen=True)
class _Event:
    """with_message: workers that have a message or have ended; silent: workers that have sent
    nothing for too long."""

    with_message: list[WorkerProcess]
    silent: list[WorkerProcess]


class DecodePool:
    """`workers` decode processes. A context manager; `close` ends them.

    timeout_seconds: a worker that has a video and sends nothing for this long counts as hung (a
    busy one sends a message every second). limits: of each video, and of the pixels that all
    workers together have in memory. Videos whose pictures are within their worker's share do not
    wait. buffer_bytes: the size of each of a worker's buffers (default: as large as the available
    memory allows, see `process.ring`).
    """

    def __init__(
        self,
        workers: int,
        timeout_seconds: float = 120.0,
        *,
        chunk_frames: int = 32,
        limits: Limits | None = None,
        buffer_bytes: int | None = None,
    ) -> None:
        if workers < 1:
            raise InputError(f"WORKERS={workers}: must be at least 1")
        self.timeout_seconds, self.limits = timeout_seconds, limits or Limits()
        share_px = self.limits.in_flight_px // workers
        buffer_bytes = buffer_bytes or slot_bytes(workers, available_memory().value)
        threads = max(1, cores().value // workers)
        self.options = WorkerOptions(chunk_frames, self.limits, share_px, buffer_bytes, threads)
        self.queue: list[WorkerProcess] = []  # workers that wait for room, in order
        self.folder = new_folder("reelbank-decode")
        self.sample = write_sample(self.folder / "sample.avi")
        self.rings = [Ring(buffer_bytes) for _ in range(workers)]  # one for each worker
        self.workers = [self._start(ring) for ring in self.rings]

    def __enter__(self) -> "DecodePool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all workers."""
        for worker in self.workers:
            worker.end()
        for ring in self.rings:
            ring.close()
        self.workers, self.rings = [], []
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, ring: Ring) -> WorkerProcess:
        return WorkerProcess(self.sample, self.options, self.timeout_seconds, ring)

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Hashable, Message]]:
        """Decode tasks (key, path, Reading) as workers become free, and yield (key, message).

        The consumer must release Frames and Computed soon, see `messages.Lent`. The messages of a
        key have the order that `messages` describes; messages of other keys may come in between.
        If a worker crashes or hangs in the sound of a video, another worker reads the pictures. If
        no picture is selected, Done contains the facts from the file's header.
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
                worker.ring.reclaim()
                if worker.task or worker.blamed:
                    worker.end()
                    self.workers[i] = self._start(worker.ring)
            self.queue = []

    def _hand_out(self, waiting: Iterator[Task]) -> bool:
        """Give every idle worker a task; False if all tasks are finished."""
        for i, worker in enumerate(self.workers):
            is_idle = worker.ready and worker.task is None
            if is_idle and worker.process.poll() is not None:  # it ended without a task
                worker.end()
                worker = self.workers[i] = self._start(worker.ring)
            if worker.ready and worker.task is None and (task := next(waiting, None)) is not None:
                self._hand(worker, task)
        return any(w.task or w.blamed or not w.ready for w in self.workers)

    def _hand(self, worker: WorkerProcess, task: Task) -> None:
        worker.task = task
        worker.in_sound = task[2].sound is not None
        worker.last_message = time.monotonic()
        # If the process has ended, the next read from its socket reports it.
        with suppress(BrokenPipeError, ConnectionResetError):
            wire.send_task(worker.socket, pickle.dumps((os.fspath(task[1]), task[2])))

    def _wait(self) -> _Event:
        """Wait until a worker has a message, has ended or has been silent too long."""
        busy = [w for w in self.workers if w.task or not w.ready]
        self._release_copied(busy)
        # The silence of the others has a reason.
        talking = [w for w in busy if not w.waits and not w.is_full]
        oldest = min((w.last_message for w in talking), default=0.0)
        began = time.monotonic()
        wait_seconds = max(0.0, oldest + self.timeout_seconds - began)
        if any(worker.ring.copying for worker in busy if worker.is_full):
            wait_seconds = min(wait_seconds, _LOOKS_SECONDS)
        poll = select.poll()  # unlike a selector, it costs nothing to set up for each message
        for worker in busy:
            poll.register(worker.socket, select.POLLIN)
        ready = {number for number, _ in poll.poll(1000 * min(wait_seconds, _LONGEST_SECONDS))}
        with_message = [worker for worker in busy if worker.socket.fileno() in ready]
        now = time.monotonic()
        # If this process was suspended, its workers may have been suspended as well.
        if now - began > wait_seconds + _LATE_SECONDS:
            for worker in busy:
                worker.last_message = now
        silent = [w for w in talking if now - w.last_message >= self.timeout_seconds]
        return _Event(with_message, [w for w in silent if w not in with_message])

    def _release_copied(self, busy: Sequence[WorkerProcess]) -> None:
        """Give those buffers back whose copies are complete. If all workers that are busy wait for
        others, wait for a copy."""
        for ring in self.rings:
            ring.release_copied()
        full = [worker for worker in busy if worker.is_full]
        if not full or not all(worker.waits or worker.is_full for worker in busy):
            return
        for worker in full:
            if worker.ring.copying:
                worker.ring.wait_for_copy()
                return
        raise RuntimeError("frames of a DecodePool were not released, so decoding cannot go on")

    def _take_message(self, worker: WorkerProcess) -> Iterator[tuple[Hashable, Message]]:
        """Receive one message of a worker. A worker that has ended is replaced."""
        try:
            message = wire.receive(worker.socket, worker.ring)
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
            case wire.Full():
                worker.is_full = len(worker.ring.lent) == SLOTS  # unless one was released meanwhile
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

    def _failure_of_predecessor(self, worker: WorkerProcess) -> Iterator[tuple[Hashable, Message]]:
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
                wire.send_go_on(first.socket)

    def _replace(self, worker: WorkerProcess, blame: Blame) -> None:
        """Start another process in place of a worker that ended or hung."""
        printed = worker.last_line()
        worker.end()
        if not worker.ready:
            raise InputError(
                "decoding fails on this machine, even for a video that is known to be good "
                f"({blame.reason}; last output: {printed or 'none'}); check the packages with "
                "'reelbank doctor'"
            )
        fresh = self._start(worker.ring)
        if worker.task:
            failed = SoundFailed if worker.in_sound else Failed
            reason = blame.reason
            if worker.task[2].functions and not worker.in_sound:
                reason += " while it decoded the video and computed optical flow or trajectories"
            message = failed(reason, by_machine=blame.by_machine)
            fresh.blamed = (worker.task, message)
        self.workers[self.workers.index(worker)] = fresh
        self.queue = [other for other in self.queue if other is not worker]
        self._make_room()
