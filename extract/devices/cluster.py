"""Extraction on the workers of a Dask cluster (CLUSTER=): leases of videos are Dask tasks.

Every worker process keeps its networks between leases, and commits its features to the shared stores
before a lease counts as done. If a worker is lost, Dask gives its leases to another one. Leases and
results are sent as JSON text.
"""

import contextlib
import io
import json
import socket
import threading
import uuid
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from reelbank.data.console import counted, shortened
from reelbank.data.datasets.types import Video
from reelbank.data.errors import InputError
from reelbank.data.system.cluster import connected
from reelbank.data.system.memory import enough_memory
from reelbank.extract.device import chosen_device
from reelbank.extract.devices.lease_worker import (
    LeaseWorker,
    options_from_json,
    options_to_json,
)
from reelbank.extract.devices.messages import Broken, Message, Said, from_json, to_json
from reelbank.extract.devices.one_device import Decoded, VideoReport
from reelbank.extract.devices.queue import DeviceReport
from reelbank.extract.job import Job, names_of
from reelbank.extract.options import ExtractOptions

if TYPE_CHECKING:
    from distributed import Client, Future

_LARGEST_LEASE = 8  # videos
_LEASES_PER_WORKER = 2  # one is extracted, and one waits
_RELEASES_SECONDS = 60.0  # the longest wait for the workers at the end
_MOST_BROKEN = 3  # leases in a row that workers could not begin or end, which end the command
_LOOKS_SECONDS = 1.0  # interval of the checks for workers that have joined


@dataclass
class ClusterQueue:
    """The videos of an extraction on a cluster.

    videos: those to extract; jobs: whose stores need them. `run` yields the reports. decoded: what
    was decoded, complete after `run`.
    """

    options: ExtractOptions
    videos: Sequence[Video]
    jobs: Mapping[str, Job]
    decoded: Decoded = field(default_factory=Decoded)
    _retried: set[str] = field(default_factory=set)

    def run(self) -> Iterator[DeviceReport]:
        """Extract the videos. Raises InputError if the cluster cannot be reached, and if a worker
        cannot extract at all."""
        with connected(self.options.cluster) as client:
            try:
                yield from self._extract(client)
            finally:
                self._release(client)

    def _extract(self, client: "Client") -> Iterator[DeviceReport]:
        from distributed import wait

        waiting = deque(self.videos)
        under_way: dict[Future, list[Video]] = {}
        read = broken = 0
        was_without_workers = False
        try:
            while waiting or under_way:
                workers = len(client.ncores())
                if not workers and not was_without_workers:
                    yield DeviceReport(
                        lines=(f"CLUSTER={self.options.cluster}: waiting for workers",)
                    )
                was_without_workers = not workers
                while waiting and len(under_way) < _LEASES_PER_WORKER * max(1, workers):
                    videos = self._next_videos(waiting, workers)
                    under_way[self._submit(client, videos)] = videos
                with contextlib.suppress(TimeoutError):
                    wait(list(under_way), timeout=_LOOKS_SECONDS, return_when="FIRST_COMPLETED")
                for future in [future for future in under_way if future.done()]:
                    videos = under_way.pop(future)
                    messages = self._messages(future, videos)
                    if isinstance(messages, Broken):
                        broken += 1
                        if broken == _MOST_BROKEN:
                            raise InputError(messages.reason)
                        yield DeviceReport(
                            lines=(f"note: another attempt follows: {messages.reason}",)
                        )
                        waiting.extendleft(reversed(videos))
                        continue
                    broken = 0
                    for report in self._reports(messages, videos, waiting):
                        if report.video:
                            read += report.video.read
                            report.video = replace(report.video, read=read)
                        yield report
        finally:
            client.cancel(list(under_way))

    @staticmethod
    def _release(client: "Client") -> None:
        """Let all workers release the stores, after the lease that they are extracting."""
        from distributed import wait

        releases = [
            client.submit(release, workers=[worker], key=f"reelbank-release-{uuid.uuid4().hex}")
            for worker in client.ncores()
        ]
        if releases:
            with contextlib.suppress(TimeoutError):
                wait(releases, timeout=_RELEASES_SECONDS)

    def _next_videos(self, waiting: deque[Video], workers: int) -> list[Video]:
        fair_share = len(waiting) // (2 * _LEASES_PER_WORKER * max(1, workers))
        count = min(len(waiting), _LARGEST_LEASE, max(1, fair_share))
        return [waiting.popleft() for _ in range(count)]

    def _submit(self, client: "Client", videos: Sequence[Video]) -> "Future":
        lease = {video.id: names_of(self.jobs, video) for video in videos}
        return client.submit(
            extract_lease,
            options_to_json(self.options),
            str(Path.cwd()),
            len(self.videos),
            json.dumps(lease),
            key=f"reelbank-extract-{uuid.uuid4().hex}",
            pure=False,
        )

    def _messages(self, future: "Future", videos: Sequence[Video]) -> list[Message] | Broken:
        """The messages of a lease, or why its worker could not extract it. Raises InputError if
        Dask gave the lease up."""
        if future.status != "finished":
            error = future.exception()
            raise InputError(
                f"CLUSTER={self.options.cluster}: {counted(len(videos), 'video')} could not be "
                f"extracted, beginning with {videos[0].path} ({type(error).__name__}: "
                f"{shortened(str(error), 600)}); features of other videos are kept. Run the same "
                "command to continue"
            )
        messages = [from_json(text) for text in future.result()]
        broken = [message for message in messages if isinstance(message, Broken)]
        return broken[0] if broken else messages

    def _reports(
        self, messages: Sequence[Message], videos: Sequence[Video], waiting: deque[Video]
    ) -> Iterator[DeviceReport]:
        """The reports of a lease. A video that a worker's machine could not read is extracted once
        more, because another machine may read it."""
        by_id = {video.id: video for video in videos}
        for message in messages:
            if isinstance(message, Said):
                yield DeviceReport(lines=(message.line,))
            elif isinstance(message, Decoded):
                self.decoded += message
            elif isinstance(message, VideoReport):
                if message.unread and message.video_id not in self._retried:
                    self._retried.add(message.video_id)
                    waiting.append(by_id[message.video_id])
                else:
                    yield DeviceReport(message)


class _Place:
    """What a worker process keeps between leases: the LeaseWorker of the last options. Dask may run
    several tasks of a process at the same time, so a lock admits one."""

    lock = threading.Lock()
    settings: tuple[str, str] = ("", "")
    worker: LeaseWorker | None = None

    @classmethod
    def close(cls) -> None:
        worker, cls.worker, cls.settings = cls.worker, None, ("", "")
        if worker:
            worker.close()

    @classmethod
    def of(cls, options: str, folder: str, expected_videos: int) -> LeaseWorker:
        if cls.worker is None or cls.settings != (options, folder):
            cls.close()
            chosen = options_from_json(options)
            device = chosen_device(chosen.device)
            shard = f"cluster-{uuid.uuid4().hex[:16]}"
            cls.worker = LeaseWorker(chosen, device, shard, expected_videos)
            cls.settings = (options, folder)
        return cls.worker


def extract_lease(options: str, folder: str, expected_videos: int, lease: str) -> list[str]:
    """The Dask task: extract the videos of a lease and commit their features.

    options, lease: JSON; folder: the working folder of the command, for relative paths;
    expected_videos: of the whole extraction. Returns messages as JSON.
    """
    messages: list[Message] = []
    printed = io.StringIO()
    with _Place.lock:
        try:
            with (
                _working_in(folder),
                contextlib.redirect_stdout(printed),
                enough_memory("extract"),
            ):
                worker = _Place.of(options, folder, expected_videos)
                before, read = worker.decoded, worker.read
                for report in worker.run([json.loads(lease)]):
                    messages.append(replace(report, read=report.read - read))
                    read = report.read
                worker.commit()
                messages.append(worker.decoded - before)
        except BaseException as error:
            # What is open is committed, and the next lease begins with new networks and decoders.
            _Place.close()
            if not isinstance(error, InputError):
                raise
            messages = [Broken(f"on {socket.gethostname()}: {shortened(str(error))}")]
    messages += [Said(line) for line in printed.getvalue().splitlines()]
    return [to_json(message) for message in messages]


@contextlib.contextmanager
def _working_in(folder: str) -> Iterator[None]:
    """The working folder of the command, because options may contain relative paths. Raises
    InputError if this machine does not have it."""
    if not Path(folder).is_dir():
        raise InputError(
            f"{folder}: is the command's working folder, but does not exist on this machine; start "
            "the command in a folder that all machines of the cluster share"
        )
    with contextlib.chdir(folder):
        yield


def release() -> None:
    """Release the stores and end the decoders of this worker process."""
    with _Place.lock:
        _Place.close()
