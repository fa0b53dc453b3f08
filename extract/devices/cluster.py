"""Extraction on the workers of a Dask cluster (CLUSTER=): a task extracts a lease of videos.

Every worker process keeps its networks between leases, and commits its features to the shared stores
before a lease counts as done.
"""

import json
import uuid
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from reelbank.data.console import counted
from reelbank.data.datasets.types import Video
from reelbank.data.options_json import options_from_json, options_to_json
from reelbank.data.system.cluster import Answer, Tasks, cluster_tasks
from reelbank.extract.device import chosen_device
from reelbank.extract.devices.lease_worker import LeaseWorker
from reelbank.extract.devices.messages import from_json, to_json
from reelbank.extract.devices.one_device import Decoded, VideoReport
from reelbank.extract.devices.queue import DeviceReport
from reelbank.extract.job import Job, names_of, store_names
from reelbank.extract.options import ExtractOptions

_LARGEST_LEASE = 8  # videos
_LEASES_PER_WORKER = 2  # one is extracted, and one waits


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
    _waiting: deque[Video] = field(default_factory=deque)
    _leases: dict[str, list[Video]] = field(default_factory=dict)  # under way
    _printed: set[str] = field(default_factory=set)
    _read: int = 0
    _retried: set[str] = field(default_factory=set)

    def run(self) -> Iterator[DeviceReport]:
        """Extract the videos. Raises InputError if the cluster cannot be reached or is lost, and if
        several workers cannot extract a lease."""
        self._waiting.extend(self.videos)
        with cluster_tasks(
            self.options.cluster,
            extract_lease,
            command="extract",
            per_worker=_LEASES_PER_WORKER,
            release=release,
        ) as tasks:
            while self._waiting or self._leases:
                while self._waiting and tasks.has_room():
                    self._start(tasks)
                for answer in tasks.next():
                    yield DeviceReport(lines=self._new_lines(answer))
                    if answer.name:
                        yield from self._reports(answer, self._leases.pop(answer.name))
                yield DeviceReport(status=self._status(tasks))

    def _start(self, tasks: Tasks) -> None:
        """Start a task with the next videos."""
        waiting = self._waiting
        fair_share = len(waiting) // (2 * _LEASES_PER_WORKER * max(1, len(tasks.workers())))
        count = min(len(waiting), _LARGEST_LEASE, max(1, fair_share))
        videos = [waiting.popleft() for _ in range(count)]
        name = videos[0].id
        if count > 1:
            name += f" and {counted(count - 1, 'other video')}"
        lease = {
            "options": options_to_json(self.options),
            "expected_videos": len(self.videos),
            "stores": store_names(self.jobs),
            "videos": {video.id: names_of(self.jobs, video) for video in videos},
        }
        self._leases[name] = videos
        tasks.start(name, json.dumps(lease))

    def _new_lines(self, answer: Answer) -> tuple[str, ...]:
        """The lines of an answer, without those that another worker has printed."""
        if not answer.name:
            return answer.lines
        lines = tuple(line for line in answer.lines if line not in self._printed)
        self._printed.update(lines)
        return lines

    def _status(self, tasks: Tasks) -> str:
        under_way = sum(map(len, self._leases.values()))
        workers = counted(len(tasks.workers()), "worker")
        return f"{counted(under_way, 'video')} under way on {workers}"

    def _reports(self, answer: Answer, videos: Sequence[Video]) -> Iterator[DeviceReport]:
        """The reports of a lease. A video that a worker's machine could not read is extracted once
        more, because another machine may read it."""
        by_id = {video.id: video for video in videos}
        for message in map(from_json, json.loads(answer.text)):
            if isinstance(message, Decoded):
                self.decoded += message
            elif isinstance(message, VideoReport):
                self._read += message.read
                if message.unread and message.video_id not in self._retried:
                    self._retried.add(message.video_id)
                    self._waiting.append(by_id[message.video_id])
                else:
                    yield DeviceReport(replace(message, read=self._read))


class _Place:
    """What a worker process keeps between leases: the LeaseWorker of the last options, stores and
    working folder."""

    settings = ""
    worker: LeaseWorker | None = None

    @classmethod
    def close(cls) -> None:
        worker, cls.worker, cls.settings = cls.worker, None, ""
        if worker:
            worker.close()

    @classmethod
    def of(cls, options: str, stores: list[str], expected_videos: int) -> LeaseWorker:
        settings = json.dumps([options, stores, str(Path.cwd())])
        if cls.worker is None or cls.settings != settings:
            cls.close()
            chosen = options_from_json(ExtractOptions, options)
            device = chosen_device(chosen.device)
            shard = f"cluster-{uuid.uuid4().hex[:16]}"
            cls.worker = LeaseWorker(chosen, device, shard, stores, expected_videos=expected_videos)
            cls.settings = settings
        return cls.worker


def extract_lease(text: str) -> str:
    """The task in a worker process: extract the videos of a lease (JSON) and commit their features.
    Returns messages as JSON."""
    lease = json.loads(text)
    try:
        worker = _Place.of(lease["options"], lease["stores"], lease["expected_videos"])
        before, read = worker.decoded, worker.read
        messages = []
        for report in worker.run([lease["videos"]]):
            messages.append(to_json(replace(report, read=report.read - read)))
            read = report.read
        worker.commit()
        messages.append(to_json(worker.decoded - before))
    except BaseException:
        # What is open is committed, and the next lease begins with new networks and decoders.
        _Place.close()
        raise
    return json.dumps(messages)


def release() -> None:
    """Release the stores and end the decoders of this worker process."""
    _Place.close()
