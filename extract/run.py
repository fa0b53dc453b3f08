"""Stage one, `reelbank extract`: compute one feature store per stream and node from videos. The
same command continues an interrupted extraction."""

import contextlib
import itertools
import sys
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from tqdm import tqdm

from reelbank.data.console import counted, print_lines, printable
from reelbank.data.datasets.registry import name_option
from reelbank.data.datasets.types import Dataset, Video
from reelbank.data.store.known_datasets import with_known_name
from reelbank.data.store.stored import StoredFeatures
from reelbank.data.system.cluster import tell_cluster
from reelbank.extract.device import check_device_of_cluster, chosen_devices
from reelbank.extract.devices.cluster import ClusterQueue
from reelbank.extract.devices.lease_worker import dataset_of
from reelbank.extract.devices.one_device import Decoded, DevicePass, Lease, decoder_count
from reelbank.extract.devices.queue import DeviceQueue, DeviceReport
from reelbank.extract.estimate import Totals, estimate
from reelbank.extract.fill import lengths_alone, with_defaults, with_image_fps, with_root
from reelbank.extract.found import FinishedStores, with_found
from reelbank.extract.job import Job, every_writer, names_of, open_jobs, stored_video
from reelbank.extract.notes import tell_inexact, tell_older_stores, tell_other_versions
from reelbank.extract.options import ExtractOptions
from reelbank.extract.pipeline.forward import check_precision
from reelbank.extract.plan import flow_of_weights
from reelbank.extract.planned import ExtractionPlan, plan_extraction
from reelbank.extract.streams.adaptive import FlowLengths, read_lengths
from reelbank.extract.summary import UnreadVideos, closing_words, tell_damage
from reelbank.extract.todo import Retry, SourceFiles, shard_slice


@dataclass(frozen=True)
class ExtractionResult:
    """The stores of an extraction (none with PLAN=1), and the command's exit code: 1 if a video of
    the data set failed (the reason is in the store), NOT_ALL_READ, or 0. estimated: time and disk
    space, with PLAN=1."""

    paths: tuple[Path, ...]
    exit_code: int
    estimated: Totals = field(default_factory=Totals)


def extract(options: ExtractOptions) -> int:
    """The command; returns the exit code."""
    return extract_stores(options).exit_code


def extract_stores(options: ExtractOptions) -> ExtractionResult:
    """Extract the features that are missing. Raises InputError if the machine can no longer read
    any video."""
    options = with_defaults(flow_of_weights(with_root(options)))
    shard = shard_slice(options.shard)
    devices = _devices_of(options)
    if options.cluster and not options.plan:
        tell_cluster(options.cluster)
    dataset = dataset_of(options)
    for note in dataset.notes:
        print_lines(note)
    if not options.dataset_name:
        dataset = with_known_name(
            dataset, options.dataset, options.searched, remembers=not options.plan
        )
        options = replace(options, dataset_name=name_option(options.dataset, dataset))
    return extract_dataset(options, dataset, shard, devices)


def _devices_of(options: ExtractOptions) -> list[torch.device]:
    """The devices of this machine that extract; its CPU for the planning alone with CLUSTER."""
    if not options.cluster or options.plan:
        return chosen_devices(options.device)
    check_device_of_cluster(options.device)
    return [torch.device("cpu")]


def extract_dataset(
    options: ExtractOptions, dataset: Dataset, shard: slice, devices: Sequence[torch.device]
) -> ExtractionResult:
    """Extract a data set's videos, or those of a shard. options: with defaults filled in. With
    several devices, `dataset` must be the data set that the options describe."""
    if not options.cluster:
        for device in devices:
            check_precision(options.precision, device)
    options = with_image_fps(options, dataset)
    videos = dataset.videos[shard]
    # With several devices, each has a process of its own, and this process computes nothing.
    device = devices[0] if len(devices) == 1 or options.plan else torch.device("cpu")
    plans = plan_extraction(options, dataset, device)
    files = SourceFiles.of(videos, options.bank)
    with contextlib.ExitStack() as closing:
        finished_stores = FinishedStores(dataset, videos, files, Retry.of(options))
        found = finished_stores.among(plans.streams, options.searched, closing)
        if options.plan:
            if options.cluster:
                print_lines(
                    f"note: the times are those of {device} of this machine, not of the cluster"
                )
            elif len(devices) > 1:
                print_lines(f"note: the times are those of {device} alone, not of all devices")
            plans = replace(plans, streams=tuple(with_found(plans.streams, found)))
            return ExtractionResult((), 0, estimate(options, dataset, videos, plans, device))
        lengths = _flow_lengths(options, dataset, shard, devices, plans)
        tell_older_stores(plans, dataset.name, found)
        for plan in plans.streams:
            print_lines(
                *(f"store {store.path} (finished, only read)" for store in found.get(plan.name, ()))
            )
            if plan.name not in found:
                print_lines(*(f"store {path}" for path in plan.paths))
        name = options.shard.replace("/", "of")
        written = [plan for plan in plans.streams if plan.name not in found]
        jobs = open_jobs(options, dataset, written, closing, device=device, shard=name)
        writers = every_writer(jobs)
        stores: list[StoredFeatures] = []
        for plan in plans.streams:
            stores += found.get(plan.name) or every_writer({plan.name: jobs[plan.name]})
        for job in jobs.values():
            job.find_missing(videos, files, Retry.of(options))
        files.digests.save()
        needed = _needed(videos, jobs)
        _tell_count(videos, needed, jobs)
        if lengths:
            for job in jobs.values():
                job.fail_without_lengths(videos, files, lengths)
            needed = _needed(videos, jobs)
        unread = UnreadVideos(dataset.root)
        if needed and (options.cluster or len(devices) > 1):
            queue: ClusterQueue | DeviceQueue
            if options.cluster:
                queue = ClusterQueue(options, needed, jobs)
            else:
                queue = DeviceQueue(options, devices, needed, jobs, files)
                unread.most += queue.decoders * len(devices) - 1
            _follow(queue.run(), needed, unread)
            has_lost = isinstance(queue, DeviceQueue) and queue.has_lost
            _tell_decoded(queue.decoded, plans, has_lost=has_lost)
        elif needed:
            decoders = min(decoder_count(options, device, plans), len(needed))
            unread.most += decoders - 1
            one_device = DevicePass(
                options,
                dataset,
                plans,
                jobs,
                files=files,
                lengths=lengths,
                device=device,
                expected_videos=len(needed),
                decoders=decoders,
            )
            lease = Lease(needed, {video.id: names_of(jobs, video) for video in needed})
            with one_device:
                begins = [DeviceReport(status="decoding the first videos")]
                # The first video takes that status away.
                of_videos = (DeviceReport(video, status="") for video in one_device.run([lease]))
                reports = itertools.chain(begins, of_videos)
                _follow(reports, needed, unread)
            _tell_decoded(one_device.decoded, plans)
        every_video = [stored_video(video) for video in dataset.videos]
        finished = [writer.finish(every_video) for writer in writers]
        tell_damage(dataset.videos, stores, refuse_damaged=options.damaged == "refuse")
        exit_code = closing_words(
            dataset.videos,
            stores,
            finished=all(finished),
            shard=options.shard,
            unread=unread.reasons,
        )
        return ExtractionResult(tuple(store.path for store in stores), exit_code)


def _flow_lengths(
    options: ExtractOptions,
    dataset: Dataset,
    shard: slice,
    devices: Sequence[torch.device],
    plans: ExtractionPlan,
) -> FlowLengths | None:
    """The flow lengths that adaptive sampling follows, extracted first if they are missing; None
    without adaptive sampling."""
    if plans.lengths is None:
        return None
    (path,) = extract_dataset(lengths_alone(options), dataset, shard, devices).paths
    return read_lengths(path, [video.id for video in dataset.videos[shard]])


def _needed(videos: Sequence[Video], jobs: Mapping[str, Job]) -> list[Video]:
    """The videos that some job needs."""
    return [video for video in videos if any(video.id in job.video_ids for job in jobs.values())]


def _tell_count(videos: Sequence[Video], needed: Sequence[Video], jobs: Mapping[str, Job]) -> None:
    """Print the number of videos to extract, and warn if a store will mix versions."""
    missing = len(needed)
    print_lines(
        f"{counted(len(videos), 'video')}, {len(videos) - missing} already extracted, "
        f"{missing} to extract",
        flush=True,
    )
    continued = every_writer({name: job for name, job in jobs.items() if job.video_ids})
    tell_other_versions(continued)
    tell_inexact(continued)


def _follow(reports: Iterable[DeviceReport], videos: Sequence[Video], unread: UnreadVideos) -> None:
    """Show the progress, and count the videos that the machine could not read. Raises InputError if
    there are too many in a row."""
    by_id, status = {video.id: video for video in videos}, ""
    with contextlib.ExitStack() as closing:
        if isinstance(reports, Generator):
            # It ends its processes now, not when the traceback of an error is forgotten.
            closing.callback(reports.close)
        bar = closing.enter_context(
            tqdm(
                total=len(videos),
                unit="video",
                smoothing=0.1,
                mininterval=0.5,  # each time takes as long as a part of a video
                dynamic_ncols=True,
                desc="extract",
            )
        )
        for report in reports:
            for line in report.lines:
                bar.write(printable(line))
            bar.update(-report.again)
            if report.status is not None:
                is_new, status = report.status != status, report.status
                if is_new or (status and sys.stderr.isatty()):  # the time that it shows goes on
                    bar.set_postfix_str(status)
            if report.video:
                for line in report.video.lines:
                    bar.write(printable(line))
                bar.update()
                unread.see(by_id[report.video.video_id], report.video)


def _tell_decoded(decoded: Decoded, plans: ExtractionPlan, *, has_lost: bool = False) -> None:
    """Print how many frames were decoded, and for which streams. has_lost: a process has died, and
    its last videos are not counted."""
    if not decoded.videos:  # only sound was read
        return
    again = ""
    if decoded.again:
        again = (
            f" ({counted(decoded.again, 'video')} twice, because of a wrong number of frames in "
            "the header)"
        )
    streams = " ".join(dict.fromkeys(plan.stream.name for plan in plans.streams))
    uncounted = ", without the last videos of processes that died" if has_lost else ""
    print_lines(
        f"decoded {decoded.frames:,} frames of {counted(decoded.videos, 'video')}, each "
        f"once{again}, for {streams}{uncounted}"
    )
