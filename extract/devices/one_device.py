"""One pass over videos on one device: each video is decoded once for all jobs that need it, and its
features are stored."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import torch

from reelbank.data.datasets.types import Dataset, Video
from reelbank.data.store.records import Failure
from reelbank.data.system.machine import cores
from reelbank.data.video.limits import Limits
from reelbank.data.video.pool import DecodePool
from reelbank.data.video.sampling import Sampling
from reelbank.extract.job import Job, Outcome, span_of
from reelbank.extract.options import ExtractOptions
from reelbank.extract.pipeline.loop import Extraction
from reelbank.extract.pipeline.streams import Task
from reelbank.extract.plan import StreamPlan
from reelbank.extract.planned import ExtractionPlan
from reelbank.extract.streams.adaptive import FlowLengths
from reelbank.extract.todo import SourceFiles, with_digests


@dataclass(frozen=True)
class Lease:
    """Videos to extract, and by video id the names of the jobs that need the video."""

    videos: Sequence[Video]
    jobs: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class VideoReport:
    """What became of one video.

    lines: about it, to print; unread: why the machine could not read it, for each stream that it
    could not read; is_unread: the machine could read it for no stream; read: how many videos the
    machine has read so far in this pass, including those whose features are not complete
    """

    video_id: str
    lines: tuple[str, ...]
    unread: tuple[str, ...]
    is_unread: bool
    read: int


@dataclass(frozen=True)
class Decoded:
    """Counts of a pass: frames and videos that were decoded, and videos that were decoded twice
    because their headers state a wrong number of frames."""

    frames: int = 0
    videos: int = 0
    again: int = 0

    def __add__(self, other: "Decoded") -> "Decoded":
        return Decoded(
            self.frames + other.frames, self.videos + other.videos, self.again + other.again
        )

    def __sub__(self, other: "Decoded") -> "Decoded":
        return Decoded(
            self.frames - other.frames, self.videos - other.videos, self.again - other.again
        )


class DevicePass:
    """The networks of the jobs on one device, and its decode processes. A context manager.

    expected_videos: the approximate number of videos to extract, which decides whether compiling the
    networks is worthwhile. decoders: the number of decode processes.
    """

    def __init__(
        self,
        options: ExtractOptions,
        dataset: Dataset,
        plans: ExtractionPlan,
        jobs: Mapping[str, Job],
        *,
        files: SourceFiles,
        lengths: FlowLengths | None,
        device: torch.device,
        expected_videos: int,
        decoders: int,
    ) -> None:
        self._options, self._dataset, self._jobs = options, dataset, jobs
        self._files, self._lengths = files, lengths
        pipelines = [job.pipeline(options, device, expected_videos) for job in jobs.values()]
        self._extraction = Extraction(
            pipelines, plans.flow, device, wait_seconds=options.part_seconds
        )
        self._pool = DecodePool(decoders, options.timeout, limits=Limits.of(options))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.close()

    @property
    def read(self) -> int:
        """How many videos the machine could read so far."""
        return self._extraction.read

    @property
    def decoded(self) -> Decoded:
        """What has been decoded so far."""
        extraction = self._extraction
        return Decoded(extraction.frames, extraction.videos, extraction.again)

    def run(self, leases: Iterable[Lease]) -> Iterator[VideoReport]:
        """Extract the videos of the leases, and yield a report when a video's features are stored
        or it has failed. The next lease is taken when a decoder is idle."""
        by_id: dict[str, Video] = {}
        refuse_damaged = self._options.damaged == "refuse"
        tasks = self._tasks(leases, by_id)
        for extracted in self._extraction.run(tasks, self._pool, self._options.decoder):
            video = by_id.pop(str(extracted.key))
            outcomes: list[Outcome] = []
            for name in extracted.results:
                outcomes += self._jobs[name].store(
                    video, self._files, extracted, refuse_damaged=refuse_damaged
                )
            results = extracted.results.values()
            yield VideoReport(
                video.id,
                lines=tuple(_lines_of(video, outcomes)),
                unread=tuple(result.reason for result in results if result.by_machine),
                is_unread=all(result.by_machine for result in results),
                read=self._extraction.read,
            )

    def _tasks(self, leases: Iterable[Lease], by_id: dict[str, Video]) -> Iterator[Task]:
        """The tasks of the loop: each video with the rows of the jobs that need it."""
        for lease in leases:
            read = with_digests(
                lease.videos, self._files, self._options.digest, self._options.timeout
            )
            for video in read:
                by_id[video.id] = video
                needing = [self._jobs[name] for name in lease.jobs[video.id]]
                rows = {job.name: job.rows_of(video, self._lengths) for job in needing}
                span = span_of(video, needing)
                yield Task(video.id, video.path, rows, span, self._dataset.image_fps)


def decoder_count(options: ExtractOptions, device: torch.device, plans: ExtractionPlan) -> int:
    """The number of decode processes for one device, before it is limited by the number of
    videos."""
    # A network on the CPU keeps all cores busy, so a single decoder is enough if it only decodes.
    uses_cores = device.type == "cuda" or any(
        _is_in_decoders(plan, plans) for plan in plans.streams
    )
    return options.workers or (cores().value if uses_cores else 1)


def _is_in_decoders(plan: StreamPlan, plans: ExtractionPlan) -> bool:
    """Whether decode processes compute flow or rows of this stream."""
    resize, sampling = plan.preprocessing.resize, plan.sampling
    if not isinstance(sampling, Sampling):
        return False
    return plan.stream.picture_function([sampling], resize, plans.flow) is not None


def _lines_of(video: Video, outcomes: Sequence[Outcome]) -> list[str]:
    """The lines to print about a video: its damage once, and each reason of a failure once."""
    damages = [outcome.damage for outcome in outcomes if outcome.damage]
    lines = [f"damaged: {video.path}: {damage}" for damage in damages[:1]]
    reasons = {
        outcome.reason: outcome
        for outcome in outcomes
        if outcome.reason and not Failure.of(outcome.reason).is_absence
    }
    for reason, outcome in reasons.items():
        lines.append(f"{'not read' if outcome.by_machine else 'failed'}: {video.path}: {reason}")
    return lines
