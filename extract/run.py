"""Stage one, `reelbank extract`: compute one feature store per stream and node from videos. The
same command continues an interrupted extraction."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tqdm import tqdm

from reelbank.data.console import counted, print_lines, printable
from reelbank.data.datasets.registry import load_dataset
from reelbank.data.datasets.types import Dataset, Video
from reelbank.data.store.records import DatasetDescription, Failure
from reelbank.data.store.stored import FinishedStore
from reelbank.data.store.versions import Made
from reelbank.data.store.writer import StoreWriter
from reelbank.data.system.machine import cores
from reelbank.data.video.limits import Limits
from reelbank.data.video.pool import DecodePool
from reelbank.extract.device import chosen_device, device_name
from reelbank.extract.estimate import estimate
from reelbank.extract.fill import lengths_alone, with_defaults, with_image_fps
from reelbank.extract.found import FinishedStores, with_found
from reelbank.extract.job import Job, Outcome, every_store, every_writer, span_of, stored_video
from reelbank.extract.notes import tell_inexact, tell_older_stores, tell_other_versions
from reelbank.extract.options import ExtractOptions
from reelbank.extract.pipeline.forward import check_precision
from reelbank.extract.pipeline.loop import Extraction
from reelbank.extract.pipeline.streams import Task
from reelbank.extract.plan import flow_of_weights
from reelbank.extract.planned import ExtractionPlan, plan_extraction
from reelbank.extract.streams.adaptive import FlowLengths, read_lengths
from reelbank.extract.summary import UnreadVideos, closing_words, tell_damage
from reelbank.extract.todo import Retry, SourceFiles, shard_slice, with_digests


@dataclass(frozen=True)
class ExtractionResult:
    """The stores of an extraction (none with PLAN=1), and the command's exit code: 1 if a video of
    the data set failed (the reason is in the store), NOT_ALL_READ, or 0."""

    paths: tuple[Path, ...]
    exit_code: int


def extract(options: ExtractOptions) -> int:
    """The command; returns the exit code."""
    return extract_stores(options).exit_code


def extract_stores(options: ExtractOptions) -> ExtractionResult:
    """Extract the features that are missing. Raises InputError if the machine can no longer read
    any video."""
    options = with_defaults(flow_of_weights(options))
    shard = shard_slice(options.shard)
    device = chosen_device(options.device)
    dataset = load_dataset(
        options.dataset,
        options.root,
        splits_dir=options.lists,
        csv=options.csv,
        classes=options.classes,
        seed=options.seed,
        bank=options.bank,
        image_fps=options.image_fps or 0.0,
    )
    for note in dataset.notes:
        print_lines(note)
    return extract_dataset(options, dataset, shard, device)


def extract_dataset(
    options: ExtractOptions, dataset: Dataset, shard: slice, device: torch.device
) -> ExtractionResult:
    """Extract a data set's videos, or those of a shard. options: with defaults filled in."""
    check_precision(options.precision, device)
    options = with_image_fps(options, dataset)
    videos = dataset.videos[shard]
    plans = plan_extraction(options, dataset, device)
    files = SourceFiles.of(videos, options.bank)
    with contextlib.ExitStack() as closing:
        finished_stores = FinishedStores(dataset, videos, files, Retry.of(options))
        found = finished_stores.among(plans.streams, options.searched, closing)
        if options.plan:
            plans = replace(plans, streams=tuple(with_found(plans.streams, found)))
            return ExtractionResult((), estimate(options, dataset, videos, plans, device))
        lengths = _flow_lengths(options, dataset, shard, device, plans)
        tell_older_stores(plans, dataset.name, found)
        jobs = _open_jobs(options, dataset, plans, device, found=found, closing=closing)
        writers, stores = every_writer(jobs), every_store(jobs)
        for job in jobs.values():
            job.find_missing(videos, files, Retry.of(options))
        files.digests.save()
        _tell_count(videos, jobs)
        if lengths:
            for job in jobs.values():
                job.fail_without_lengths(videos, files, lengths)
        unread = _extract_videos(
            options,
            dataset,
            _needed(videos, jobs),
            jobs,
            plans=plans,
            files=files,
            lengths=lengths,
            device=device,
        )
        every_video = [stored_video(video) for video in dataset.videos]
        finished = [writer.finish(every_video) for writer in writers]
        tell_damage(dataset.videos, stores, refuse_damaged=options.damaged == "refuse")
        exit_code = closing_words(
            dataset.videos,
            stores,
            finished=all(finished),
            shard=options.shard,
            unread=unread,
        )
        return ExtractionResult(tuple(store.path for store in stores), exit_code)


def _flow_lengths(
    options: ExtractOptions,
    dataset: Dataset,
    shard: slice,
    device: torch.device,
    plans: ExtractionPlan,
) -> FlowLengths | None:
    """The flow lengths that adaptive sampling follows, extracted first if they are missing; None
    without adaptive sampling."""
    if plans.lengths is None:
        return None
    (path,) = extract_dataset(lengths_alone(options), dataset, shard, device).paths
    return read_lengths(path, [video.id for video in dataset.videos[shard]])


def _open_jobs(
    options: ExtractOptions,
    dataset: Dataset,
    plans: ExtractionPlan,
    device: torch.device,
    *,
    found: Mapping[Path, FinishedStore],
    closing: contextlib.ExitStack,
) -> dict[str, Job]:
    """A job for each stream, by name, with its stores opened. `closing` closes them, which commits
    their features, also after Ctrl-C. found: stores that are only read, by their planned paths."""
    description = DatasetDescription.of(dataset)
    streams = dict.fromkeys(plan.stream.name for plan in plans.streams)
    device_and_streams = Made(device_name(device), " ".join(streams))
    jobs: dict[str, Job] = {}
    for plan in plans.streams:
        job = jobs[plan.name] = Job(plan)
        for node, path, recipe in zip(plan.nodes, plan.paths, plan.recipes, strict=True):
            if path in found:
                print_lines(f"store {found[path].path} (finished, only read)")
                job.finished[node] = found[path]
                continue
            print_lines(f"store {path}")
            writer = job.writers[node] = StoreWriter(
                path,
                recipe.to_json(),
                description,
                part_seconds=options.part_seconds,
                shard=options.shard.replace("/", "of"),
                made=device_and_streams,
            )
            closing.callback(writer.close)
    return jobs


def _needed(videos: Sequence[Video], jobs: Mapping[str, Job]) -> list[Video]:
    """The videos that some job needs."""
    return [video for video in videos if any(video.id in job.video_ids for job in jobs.values())]


def _tell_count(videos: Sequence[Video], jobs: Mapping[str, Job]) -> None:
    """Print the number of videos to extract, and warn if a store will mix versions."""
    missing = len(_needed(videos, jobs))
    print_lines(
        f"{counted(len(videos), 'video')}, {len(videos) - missing} already extracted, "
        f"{missing} to extract",
        flush=True,
    )
    continued = every_writer({name: job for name, job in jobs.items() if job.video_ids})
    tell_other_versions(continued)
    tell_inexact(continued)


def _extract_videos(
    options: ExtractOptions,
    dataset: Dataset,
    videos: Sequence[Video],
    jobs: Mapping[str, Job],
    *,
    plans: ExtractionPlan,
    files: SourceFiles,
    lengths: FlowLengths | None,
    device: torch.device,
) -> dict[str, str]:
    """Decode each video once for all jobs that need it, and store the features. Returns the reasons
    of videos that the machine could not read, by id."""
    unread = UnreadVideos(dataset.root)
    if not videos:
        return unread.reasons
    pipelines = [job.pipeline(options, device, len(videos)) for job in jobs.values()]
    extraction = Extraction(pipelines, plans.flow, device, wait_seconds=options.part_seconds)
    # A network on the CPU keeps all cores busy, so a single decoder is enough.
    cores_are_idle = device.type == "cuda" or any(
        plan.stream.uses_threads for plan in plans.streams
    )
    workers = min(options.workers or (cores().value if cores_are_idle else 1), len(videos))
    with DecodePool(workers, options.timeout, limits=Limits.of(options)) as pool:
        unread.most += len(pool.workers) - 1
        read = with_digests(videos, files, options.digest, options.timeout)
        tasks = _tasks(read, jobs, lengths, dataset.image_fps)
        by_id = {video.id: video for video in videos}
        with tqdm(
            total=len(videos), unit="video", smoothing=0.1, dynamic_ncols=True, desc="extract"
        ) as bar:
            for extracted in extraction.run(tasks, pool, options.decoder):
                video = by_id[str(extracted.key)]
                outcomes: list[Outcome] = []
                for name in extracted.results:
                    outcomes += jobs[name].store(
                        video, files, extracted, refuse_damaged=options.damaged == "refuse"
                    )
                for line in _lines_of(video, outcomes):
                    bar.write(printable(line))
                bar.update()
                unread.see(video, extracted.results.values(), extraction.read)
    _tell_decoded(extraction, plans)
    return unread.reasons


def _tasks(
    videos: Iterator[Video], jobs: Mapping[str, Job], lengths: FlowLengths | None, image_fps: float
) -> Iterator[Task]:
    """The tasks of the loop: each video with the rows of the jobs that need it."""
    for video in videos:
        needing = [job for job in jobs.values() if video.id in job.video_ids]
        rows = {job.name: job.rows_of(video, lengths) for job in needing}
        yield Task(video.id, video.path, rows, span_of(video, needing), image_fps)


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


def _tell_decoded(extraction: Extraction, plans: ExtractionPlan) -> None:
    """Print how many frames were decoded, and for which streams."""
    if not extraction.videos:  # only sound was read
        return
    again = ""
    if extraction.again:
        again = f" ({extraction.again} twice, because their headers state a wrong number of frames)"
    streams = " ".join(dict.fromkeys(plan.stream.name for plan in plans.streams))
    print_lines(
        f"decoded {extraction.frames:,} frames of {counted(extraction.videos, 'video')}, each "
        f"once{again}, for {streams}"
    )
