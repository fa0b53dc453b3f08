"""Extraction on several devices at once: one process for each device, and one queue of videos.

Every process writes parts of its own into the stores. If a process dies, the videos that it had not
committed go back into the queue, and the other processes extract them.
"""

import dataclasses
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import torch

from reelbank.data.console import counted
from reelbank.data.datasets.types import Video
from reelbank.data.errors import InputError
from reelbank.data.options_json import options_to_json
from reelbank.data.system.machine import cores
from reelbank.extract.devices.messages import (
    Broken,
    Lease,
    Message,
    Said,
    Wants,
    receive,
    send_lease,
)
from reelbank.extract.devices.one_device import Decoded, VideoReport
from reelbank.extract.job import Job, names_of
from reelbank.extract.options import ExtractOptions
from reelbank.extract.todo import Retry, SourceFiles

_START = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
_START += "from reelbank.extract.devices.process import serve; serve(sys.argv[2:])"
_LARGEST_LEASE = 16  # videos
_ENDS_SECONDS = 60.0  # maximum time in which a process commits its last part


class _Process:
    """The process of one device."""

    def __init__(self, device: str, words: Sequence[str], environment: Mapping[str, str]) -> None:
        self.device = device
        self.socket, far = socket.socketpair()
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - what libraries print there
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-c",
                _START,
                json.dumps(sys.path),
                *(str(far.fileno()), str(os.getpid()), device, *words),
            ],
            pass_fds=[far.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            env=dict(environment),
            start_new_session=True,  # the terminal's Ctrl-C is only for the parent
        )
        far.close()
        self.uncommitted: set[str] = set()  # ids of the videos that it has, or has not committed
        self.is_idle = False
        self.read = 0  # videos that the machine could read in this process
        self.decoded = Decoded()

    def death(self) -> str:
        """Why the process ended without a message."""
        try:
            code = self._exit_code()
        except subprocess.TimeoutExpired:
            return "it does not respond"
        if code < 0:
            hint = ": out of memory?" if code == -signal.SIGKILL else ""
            return f"{signal.Signals(-code).name}{hint}"
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {code}"

    def end(self) -> None:
        """End the process once it has committed its open part."""
        self.process.terminate()
        self.socket.close()
        with suppress(subprocess.TimeoutExpired):
            self._exit_code()
        self.log.close()

    def _exit_code(self) -> int:
        """Wait until the process has ended, and kill it if that takes too long."""
        try:
            return self.process.wait(_ENDS_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait(_ENDS_SECONDS)


@dataclass
class DeviceReport:
    """A report about a video, or lines of a process that are not about a video.

    again: how many videos that were reported before have to be extracted again, less the videos that
    are committed although their reports are lost
    """

    video: VideoReport | None = None
    lines: tuple[str, ...] = ()
    again: int = 0


@dataclass
class DeviceQueue:
    """The videos of an extraction on several devices.

    videos: those to extract; jobs: whose stores need them. `run` yields the reports. decoded: what
    was decoded, complete after `run`.
    """

    options: ExtractOptions
    devices: Sequence[torch.device]
    videos: Sequence[Video]
    jobs: Mapping[str, Job]
    files: SourceFiles
    decoded: Decoded = field(default_factory=Decoded)

    def run(self) -> Iterator[DeviceReport]:
        """Extract the videos. Raises InputError if every process has ended before all are
        extracted."""
        self._waiting = deque(self.videos)
        self._reported: set[str] = set()
        self._read_by_lost = 0
        self._processes: list[_Process] = []
        try:
            for number in range(len(self.devices)):
                self._processes.append(self._start(number))
            while self._waiting or any(not process.is_idle for process in self._processes):
                self._serve_idle()
                yield from self._next_reports()
        finally:
            for process in self._processes:  # all at once, so that they commit at the same time
                process.process.terminate()
            for process in self._processes:
                self.decoded += process.decoded
                process.end()

    @property
    def decoders(self) -> int:
        """The largest number of decode processes of each device."""
        return max(1, (self.options.workers or cores().value) // len(self.devices))

    def _start(self, number: int) -> _Process:
        device, count = self.devices[number], len(self.devices)
        options = self.options
        if options.workers or device.type == "cuda":
            options = dataclasses.replace(options, workers=self.decoders)
        shard = self.options.shard.replace("/", "of")
        on_cpu = sum(other.type == "cpu" for other in self.devices)
        threads = max(1, cores().value // on_cpu) if device.type == "cpu" else 0
        environment = dict(os.environ)
        if threads:
            environment["OMP_NUM_THREADS"] = str(threads)
        words = [
            f"{shard}device{number}",
            str(len(self.videos) // count),
            str(threads),
            options_to_json(options),
        ]
        return _Process(str(device), words, environment)

    def _serve_idle(self) -> None:
        """Give leases to the processes that wait for one."""
        for process in self._processes:
            if process.is_idle and self._waiting:
                process.is_idle = False
                self._send_lease(process)

    def _next_reports(self) -> Iterator[DeviceReport]:
        """Wait for messages and process one from each process that has sent some."""
        with selectors.DefaultSelector() as selector:
            for process in self._processes:
                selector.register(process.socket, selectors.EVENT_READ, process)
            ready = [key.data for key, _ in selector.select()]
        for process in ready:
            try:
                message = receive(process.socket)
            except (EOFError, ConnectionError):
                yield self._lost(process, process.death())
                continue
            if isinstance(message, Broken):
                yield self._lost(process, message.reason)
            else:
                yield from self._take(process, message)

    def _take(self, process: _Process, message: Message) -> Iterator[DeviceReport]:
        if isinstance(message, Said):
            yield DeviceReport(lines=(message.line,))
        elif isinstance(message, Decoded):
            process.decoded = message
        elif isinstance(message, VideoReport):
            process.read = message.read
            is_first = message.video_id not in self._reported
            self._reported.add(message.video_id)
            if is_first:
                read = self._read_by_lost + sum(other.read for other in self._processes)
                yield DeviceReport(dataclasses.replace(message, read=read))
        elif isinstance(message, Wants):
            if message.is_idle:
                process.is_idle = True
                process.uncommitted.clear()
            else:
                self._send_lease(process)

    def _send_lease(self, process: _Process) -> None:
        """Send the next videos, or an empty lease if none are waiting."""
        fair_share = len(self._waiting) // (2 * len(self._processes))
        count = min(len(self._waiting), _LARGEST_LEASE, max(1, fair_share))
        videos = [self._waiting.popleft() for _ in range(count)]
        process.uncommitted |= {video.id for video in videos}
        lease: Lease = {video.id: names_of(self.jobs, video) for video in videos}
        # If the process has ended, the next read from its socket shows it.
        with suppress(BrokenPipeError, ConnectionResetError):
            send_lease(process.socket, lease)

    def _lost(self, process: _Process, reason: str) -> DeviceReport:
        """Put the videos back that a process had and did not commit. Raises InputError if it was
        the last process."""
        self._processes.remove(process)
        process.end()
        self.decoded += process.decoded
        self._read_by_lost += process.read
        had = [video for video in self.videos if video.id in process.uncommitted]
        missing: set[str] = set()
        for job in self.jobs.values():
            for writer in job.writers.values():
                writer.reread()
            missing |= job.missing(had, self.files, Retry.of(self.options))
        lost = [video for video in had if video.id in missing]
        committed = process.uncommitted - missing
        again = len(missing & self._reported) - len(committed - self._reported)
        self._reported = (self._reported | committed) - missing
        # At the end of the queue: one of them may have ended the process, and may end others.
        self._waiting.extend(lost)
        if self._waiting and not self._processes:
            had_not_committed = f", which had not committed {_some(lost)}," if lost else ""
            raise InputError(
                f"the process of {process.device}{had_not_committed} ended ({reason}), and no other "
                "process is left; committed videos are kept. Run the same command to continue"
            )
        line = f"note: the process of {process.device} ended ({reason})"
        if had:
            line += f"; {len(committed)} of its last {counted(len(had), 'video')} are committed"
        if lost:
            line += ", and the other devices extract the rest"
        return DeviceReport(lines=(line,), again=again)


def _some(videos: Sequence[Video]) -> str:
    """The path of the first video, and how many more there are."""
    others = f" and {counted(len(videos) - 1, 'other video')}" if len(videos) > 1 else ""
    return f"{videos[0].path}{others}"
