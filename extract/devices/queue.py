"""Extraction on several devices at once: one process for each device, and one queue of videos.

Every process writes parts of its own into the stores. If a process dies, the videos that it had not
committed go back into the queue, and the other processes extract them.
"""

import dataclasses
import json
import os
import selectors
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import torch

from reelbank.data.console import counted
from reelbank.data.datasets.types import Video
from reelbank.data.errors import InputError
from reelbank.data.options_json import options_to_json
from reelbank.data.system.child import Child, ending
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
from reelbank.extract.job import Job, names_of, store_names
from reelbank.extract.options import ExtractOptions
from reelbank.extract.todo import Retry, SourceFiles

_LARGEST_LEASE = 16  # videos
_ENDS_SECONDS = 60.0  # maximum time in which a process commits its last part
_TELLS_SECONDS = 1.0  # the longest time between two reports


@dataclass
class _Process:
    """The process of one device.

    name: for messages. uncommitted: ids of the videos that it has, or has not committed. read: how
    many videos the machine could read in this process.
    """

    name: str
    child: Child
    uncommitted: set[str] = field(default_factory=set)
    is_idle: bool = False
    read: int = 0
    decoded: Decoded = field(default_factory=Decoded)

    def death(self) -> str:
        """Why the process ended without a message."""
        code = self.child.exit_code(_ENDS_SECONDS)
        if code is None:
            return "it does not respond"
        return ending(code) if code < 0 else self.child.last_line() or ending(code)

    def stop(self) -> None:
        """Let the process commit its open part and end."""
        self.child.process.terminate()

    def end(self) -> None:
        """Stop the process, and wait until it has ended."""
        self.stop()
        self.child.socket.close()
        self.child.exit_code(_ENDS_SECONDS)
        self.child.close()


@dataclass
class DeviceReport:
    """A report about a video, or lines of a process that are not about a video.

    again: how many videos that were reported before have to be extracted again, less the videos that
    are committed although their reports are lost; status: what is being done, for the progress bar,
    "" for nothing, None if that has not changed
    """

    video: VideoReport | None = None
    lines: tuple[str, ...] = ()
    again: int = 0
    status: str | None = None


@dataclass
class DeviceQueue:
    """The videos of an extraction on several devices.

    videos: those to extract; jobs: whose stores need them. `run` yields the reports. decoded: what
    was decoded, complete after `run`; has_lost: whether a process has died, whose last videos are not
    counted there.
    """

    options: ExtractOptions
    devices: Sequence[torch.device]
    videos: Sequence[Video]
    jobs: Mapping[str, Job]
    files: SourceFiles
    decoded: Decoded = field(default_factory=Decoded)
    has_lost: bool = False
    _waiting: deque[Video] = field(default_factory=deque)
    _reported: set[str] = field(default_factory=set)
    _printed: set[str] = field(default_factory=set)
    _read_by_lost: int = 0
    _processes: list[_Process] = field(default_factory=list)

    def run(self) -> Iterator[DeviceReport]:
        """Extract the videos. Raises InputError if every process has ended before all are
        extracted."""
        self._waiting.extend(self.videos)
        try:
            for number in range(len(self.devices)):
                self._processes.append(self._start(number))
            while self._waiting or any(not process.is_idle for process in self._processes):
                self._serve_idle()
                yield from self._next_reports()
        finally:
            for process in self._processes:  # all at once, so that they commit at the same time
                process.stop()
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
            str(device),
            f"{shard}device{number}",
            str(len(self.videos) // count),
            str(threads),
            options_to_json(options),
            json.dumps(store_names(self.jobs)),
        ]
        child = Child("reelbank.extract.devices.process", words, environment=environment)
        return _Process(f"process {number + 1} of {count} ({device})", child)

    def _serve_idle(self) -> None:
        """Give leases to the processes that wait for one."""
        for process in self._processes:
            if process.is_idle and self._waiting:
                process.is_idle = False
                self._send_lease(process)

    def _next_reports(self) -> Iterator[DeviceReport]:
        """Wait a moment for messages, and process one from each process that has sent some."""
        with selectors.DefaultSelector() as selector:
            for process in self._processes:
                selector.register(process.child.socket, selectors.EVENT_READ, process)
            ready = [key.data for key, _ in selector.select(_TELLS_SECONDS)]
        if not ready:
            yield DeviceReport(status=self._status())
        for process in ready:
            try:
                message = receive(process.child.socket)
            except (EOFError, ConnectionError):
                yield self._lost(process, process.death())
                continue
            if isinstance(message, Broken):
                yield self._lost(process, message.reason)
            else:
                yield from self._take(process, message)

    def _status(self) -> str:
        under_way = sum(len(process.uncommitted - self._reported) for process in self._processes)
        if not under_way:
            return "committing" if self._reported else "starting"
        return f"{counted(under_way, 'video')} under way"

    def _take(self, process: _Process, message: Message) -> Iterator[DeviceReport]:
        if isinstance(message, Said):
            if message.line not in self._printed:  # each process prints the same notes
                self._printed.add(message.line)
                yield DeviceReport(lines=(message.line,))
        elif isinstance(message, Decoded):
            process.decoded = message
        elif isinstance(message, VideoReport):
            process.read = message.read
            is_first = message.video_id not in self._reported
            self._reported.add(message.video_id)
            if is_first:
                read = self._read_by_lost + sum(other.read for other in self._processes)
                video = dataclasses.replace(message, read=read)
                yield DeviceReport(video, status=self._status())
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
            send_lease(process.child.socket, lease)

    def _lost(self, process: _Process, reason: str) -> DeviceReport:
        """Put the videos back that a process had and did not commit. Raises InputError if it was
        the last process."""
        self.has_lost = True
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
                f"{process.name}{had_not_committed} ended ({reason}), and no other process is left; "
                "committed videos are kept. Run the same command to continue"
            )
        line = f"note: {process.name} ended ({reason})"
        if had:
            line += f"; {len(committed)} of its last {counted(len(had), 'video')} are committed"
        if lost:
            line += ", and the other processes extract the rest"
        return DeviceReport(lines=(line,), again=again)


def _some(videos: Sequence[Video]) -> str:
    """The path of the first video, and how many more there are."""
    others = f" and {counted(len(videos) - 1, 'other video')}" if len(videos) > 1 else ""
    return f"{videos[0].path}{others}"
