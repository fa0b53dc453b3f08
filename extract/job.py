"""One stream of an extraction with one network: its plan, its stores and the videos to extract."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from reelbank.data.datasets.types import Dataset, Video
from reelbank.data.store.records import (
    REFUSED,
    DatasetDescription,
    DatasetListing,
    Failure,
    StoredVideo,
)
from reelbank.data.store.versions import Made
from reelbank.data.store.writer import StoreWriter
from reelbank.data.system.faults import MACHINE
from reelbank.data.video.messages import SoundInfo, VideoInfo
from reelbank.data.video.sampling import Examples, Sampling, TimedExamples
from reelbank.data.video.sources import SourceFile
from reelbank.extract.device import device_name
from reelbank.extract.networks.build import Network
from reelbank.extract.options import ExtractOptions
from reelbank.extract.pipeline.batches import ClipBatches
from reelbank.extract.pipeline.forward import Forward
from reelbank.extract.pipeline.streams import Extracted, StreamPipeline
from reelbank.extract.pipeline.tracks import Result
from reelbank.extract.plan import StreamPlan
from reelbank.extract.streams import adaptive
from reelbank.extract.streams.adaptive import FlowLengths
from reelbank.extract.todo import Retry, SourceFiles, StoredVideos

# Network inputs in a batch. A clip of a video network needs several times the memory of a picture,
# so its batches on a GPU have VIDEO_SHARE times fewer inputs.
BATCH_CPU, BATCH_GPU, VIDEO_SHARE = 30, 250, 8
# Memory that the largest layer of a network may read and write for a batch on the CPU. Larger
# batches gained nothing for any network (docs/performance.md).
LARGEST_STEP_BYTES = 224 * 2**20


@dataclass(frozen=True)
class Outcome:
    """The result of one video in one store.

    damage: of its file; reason: why there are no features, "" if there are; by_machine: the machine
    caused the failure, not the file
    """

    damage: str
    reason: str
    by_machine: bool


@dataclass
class Job:
    """A stream's plan, its stores by node, and the ids of the videos that a store needs."""

    plan: StreamPlan
    writers: dict[str, StoreWriter]
    video_ids: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        return self.plan.name

    def find_missing(self, videos: Sequence[Video], files: SourceFiles, retry: Retry) -> None:
        """Set `video_ids` to the videos that at least one of the stores needs."""
        self.video_ids = self.missing(videos, files, retry)

    def missing(self, videos: Sequence[Video], files: SourceFiles, retry: Retry) -> set[str]:
        """The ids of the videos that at least one of the stores needs."""
        stores = [StoredVideos.of(writer) for writer in self.writers.values()]
        return {video.id for video in files.missing_in(videos, stores, retry)}

    def pipeline(
        self, options: ExtractOptions, device: torch.device, videos: int
    ) -> StreamPipeline:
        """The stream as the loop runs it. videos: the number of videos to extract."""
        plan, network = self.plan, self.plan.network
        clean = augmented = None
        if network:
            crops = plan.options.crops if plan.is_cropped else 1
            batch = batch_inputs(options, device, network)
            rows = (plan.sampling.steps or 100) * max(1, getattr(plan.sampling, "windows", 1))
            inputs = videos * rows * crops
            forward = Forward(network, options.precision, options.compile, device, inputs)
            clean = ClipBatches(
                forward,
                network,
                crops=crops,
                keep_crops=options.keep_crops and plan.is_cropped,
                batch=batch,
                device=device,
            )
            if options.views and plan.stream.has_views:
                augmented = ClipBatches(
                    forward,
                    network,
                    crops=clean.crops if clean.keep_crops else 1,
                    keep_crops=clean.keep_crops,
                    batch=batch,
                    device=device,
                )
        return StreamPipeline(
            name=self.name,
            stream=plan.stream,
            network=network,
            clean=clean,
            augmented=augmented,
            resize=plan.preprocessing.resize,
            jitter=options.jitter,
        )

    def rows_of(self, video: Video, lengths: FlowLengths | None) -> Sampling | Examples:
        """The stream's sampling for this video."""
        sampling = self.plan.sampling
        if isinstance(sampling, TimedExamples) and video.span_seconds:
            return dataclasses.replace(sampling, grid=dataclasses.replace(sampling.grid, windows=0))
        if isinstance(sampling, Examples):
            return sampling
        if sampling.views:
            views = sampling.views if "train" in video.parts else 0  # test rows stay clean
            sampling = dataclasses.replace(sampling, views=views, video_id=video.id)
        if sampling.windows and video.span_seconds:  # a span of a file is a single window
            sampling = dataclasses.replace(sampling, windows=0)
        if lengths and sampling.sampling == "adaptive":
            sampling = lengths.followed(sampling, video.id)
        return sampling

    def fail_without_lengths(
        self, videos: Sequence[Video], files: SourceFiles, lengths: FlowLengths
    ) -> None:
        """Record a failure for the videos whose flow lengths could not be computed, and do not
        extract them."""
        if self.plan.stream.input == "sound":
            return
        for video in videos:
            if video.id not in self.video_ids or video.id in lengths.lengths:
                continue
            failure = lengths.failures.get(
                video.id, Failure("its flow's lengths are not known", kind=MACHINE)
            )
            about = stored_video(video, files.now[video.id])
            for writer in self.writers.values():
                if not files.are_in(writer, video):
                    writer.fail(about, str(failure), by_machine=failure.by_machine)
            self.video_ids.discard(video.id)

    def store(
        self, video: Video, files: SourceFiles, extracted: Extracted, *, refuse_damaged: bool
    ) -> Iterator[Outcome]:
        """Add the video's features, or the reason why there are none, to each store that does not
        have the video."""
        result = extracted.results[self.name]
        sound = extracted.sound if self.plan.stream.input == "sound" else None
        track_facts = sound if self.plan.stream.input == "sound" else extracted.info
        damage = track_facts.damage if track_facts else ""
        file = files.now[video.id]
        for number, writer in enumerate(self.writers.values()):
            if files.are_in(writer, video):
                continue
            reason = result.reason or self._unstorable(result, number)
            outcome = Outcome("" if reason else damage, reason, result.by_machine)
            if outcome.damage and refuse_damaged:
                outcome = dataclasses.replace(outcome, reason=str(Failure(damage, kind=REFUSED)))
            if outcome.reason:
                writer.fail(
                    stored_video(video, file), outcome.reason, by_machine=outcome.by_machine
                )
            else:
                views = result.views if result.views.any() else None
                about = stored_video(video, file, extracted.info, sound)
                writer.add(about, result.values[number], result.times_seconds, views)
            yield outcome

    def _unstorable(self, result: Result, node: int) -> str:
        """The reason why features cannot be stored as float16; "" if they can."""
        largest = result.largest[node]
        with np.errstate(over="ignore"):
            if np.isfinite(result.values[node].dtype.type(largest)):
                return ""
        network = (
            f"{self.plan.recipes[node].extractor} with PRECISION={self.plan.options.precision}"
        )
        if np.isnan(largest):
            return f"{network} computed NaN"
        return (
            f"{network} computed features up to {largest:.3g}, beyond the range of float16 (65504)"
        )


def batch_inputs(options: ExtractOptions, device: torch.device, network: Network) -> int:
    """The number of network inputs in a batch."""
    if options.batch:
        return options.batch
    if device.type == "cuda":
        return BATCH_GPU // (VIDEO_SHARE if network.is_video else 1)
    return max(1, min(BATCH_CPU, LARGEST_STEP_BYTES // max(1, network.largest_step_bytes)))


def span_of(video: Video, jobs: Sequence[Job]) -> tuple[float, float] | None:
    """The part of the file, in seconds, that is read for these jobs; None for all of it."""
    if any(job.plan.recipes[0].seconds for job in jobs):
        return adaptive.span(video.span_seconds)
    return video.span_seconds


def stored_video(
    video: Video,
    file: SourceFile | None = None,
    info: VideoInfo | None = None,
    sound: SoundInfo | None = None,
) -> StoredVideo:
    """The facts that a store keeps about a video, in addition to its features."""
    source: dict[str, object] = {}
    if file:
        # The infos are flat, so `vars` is dataclasses.asdict in a tenth of its time.
        source = {**file.facts(), **(vars(info) if info else {})}
        source |= {"sound": dict(vars(sound))} if sound else {}
        source |= {"span_seconds": list(video.span_seconds)} if video.span_seconds else {}
    return StoredVideo(video.id, video.label, video.group, video.parts, source)


def open_jobs(
    options: ExtractOptions,
    dataset: Dataset,
    plans: Sequence[StreamPlan],
    closing: contextlib.ExitStack,
    *,
    device: torch.device,
    shard: str,
) -> dict[str, Job]:
    """A job for each stream, by name, with its stores opened. `closing` closes them, which commits
    their features, also after Ctrl-C. shard: a name that no other writer of the stores has."""
    description, listing = DatasetDescription.of(dataset), DatasetListing.of(dataset)
    streams = dict.fromkeys(plan.stream.name for plan in plans)
    made = Made(device_name(device), " ".join(streams))
    jobs = {}
    for plan in plans:
        of_stream = dataclasses.replace(made, weights=plan.published)
        writers = {}
        for node, path, recipe in zip(plan.nodes, plan.paths, plan.recipes, strict=True):
            writers[node] = StoreWriter(
                path,
                recipe.to_json(),
                description,
                part_seconds=options.part_seconds,
                shard=shard,
                made=of_stream,
                listing=listing,
            )
            closing.callback(writers[node].close)
        jobs[plan.name] = Job(plan, writers)
    return jobs


def names_of(jobs: Mapping[str, Job], video: Video) -> list[str]:
    """The names of the jobs that need a video."""
    return [name for name, job in jobs.items() if video.id in job.video_ids]


def every_writer(jobs: Mapping[str, Job]) -> list[StoreWriter]:
    """The stores of all jobs."""
    writers: list[StoreWriter] = []
    for job in jobs.values():
        writers += job.writers.values()
    return writers


def store_names(jobs: Mapping[str, Job]) -> list[str]:
    """The file names of the stores of all jobs."""
    return sorted(writer.path.name for writer in every_writer(jobs))
