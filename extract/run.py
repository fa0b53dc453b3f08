"""Stage one, `reelbank extract`: videos in, one feature store per stream and node out; run again, it goes on where it was."""

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from reelbank.data import frames_folder
from reelbank.data.datasets import Dataset, Video, load_dataset
from reelbank.data.errors import InputError
from reelbank.data.index import is_absence
from reelbank.data.machine import cores
from reelbank.data.made import Made, Versions, apart, current_versions, that_count
from reelbank.data.parts import begun, parts_folder
from reelbank.data.printing import printable
from reelbank.data.sampling import Examples, Sampling
from reelbank.data.store import Store, StoreWriter, identity
from reelbank.data.workers import DecodePool
from reelbank.extract import adaptive
from reelbank.extract.adaptive import FlowLengths
from reelbank.extract.batches import ClipBatches
from reelbank.extract.estimate import estimate
from reelbank.extract.flow import FlowMethod, build_flow
from reelbank.extract.forward import Forward
from reelbank.extract.loop import Extraction, Stream, Task
from reelbank.extract.options import ExtractOptions, lengths_alone, with_defaults
from reelbank.extract.streams import StreamPlan, chosen_device, device_name, flow_of_weights, plan_streams
from reelbank.extract.tracks import Result


def extract(options: ExtractOptions) -> int:
    """Extract what is not there yet. Returns 0, or 1 when some video of the data set failed (its reason is in the store)."""
    options = with_defaults(flow_of_weights(options))
    mine = shard_slice(options.shard)
    device = chosen_device(options.device)
    dataset = load_dataset(
        options.dataset,
        options.root,
        splits_dir=options.lists,
        csv=options.csv,
        classes=options.classes,
        seed=options.seed,
        bank=options.bank,
    )
    for note in dataset.notes:
        print(note)
    return extract_dataset(options, dataset, mine, device)


def extract_dataset(options: ExtractOptions, dataset: Dataset, mine: slice, device: torch.device) -> int:
    """Extract a data set's videos, or those of a shard; as `extract`, whose options are filled."""
    lengths: FlowLengths | None = None
    with contextlib.ExitStack() as closing:  # closing a writer commits what it holds, also after Ctrl-C
        plans, of_lengths, flow = _plans(options, dataset, device)
        if of_lengths and not options.plan:  # computed once, for all that is sampled by it
            extract_dataset(lengths_alone(options), dataset, mine, device)
            lengths = adaptive.read_lengths(of_lengths.paths[0], [video.id for video in dataset.videos[mine]])
        if options.plan:
            return estimate(options, dataset, mine, plans, flow, device)
        about: dict[str, Any] = {"name": dataset.name, "classes": list(dataset.classes), "splits": list(dataset.splits)}
        about["coarse"] = {name: list(members) for name, members in dataset.coarse.items()}
        about |= {"multilabel": True} if dataset.multilabel else {}
        writing: dict[str, Any] = {"part_seconds": options.part_seconds, "shard": options.shard.replace("/", "of")}
        writing["made"] = Made(device_name(device), " ".join(options.stream))
        writers: list[list[StoreWriter]] = []
        for plan in plans:
            writers.append([])
            for path, one in zip(plan.paths, plan.recipes, strict=True):
                print(f"store {path}")
                writers[-1].append(StoreWriter(path, one, about, **writing))
                closing.callback(writers[-1][-1].close)
        held = [[(writer.done, writer.failed) for writer in stores] for stores in writers]
        sizes = {video.id: size_bytes(video) for video in dataset.videos[mine]}
        todo = {}  # id -> the streams that lack it
        for video in dataset.videos[mine]:
            lacking = [n for n, stores in enumerate(held) if wanted(video, sizes[video.id], stores, options.retry)]
            todo.update({video.id: lacking} if lacking else {})
        videos = [video for video in dataset.videos[mine] if video.id in todo]
        there = len(dataset.videos[mine]) - len(todo)
        print(f"{there + len(todo)} videos, {there} there already, {len(todo)} to extract", flush=True)
        continued = {number for lacking in todo.values() for number in lacking}
        _tell_other_versions([writer for number in sorted(continued) for writer in writers[number]])
        if lengths:
            videos = _fail_without_lengths(videos, todo, sizes, plans, writers, lengths)
        if videos:
            streams = _streams(options, plans, videos, device)
            extraction = Extraction(streams, flow, device, wait_seconds=options.part_seconds)
            busy = device.type == "cuda" or "idt" in options.stream  # several videos' trajectories are followed at once
            workers = options.workers or (cores().value if busy else 1)
            with DecodePool(min(workers, len(videos)), options.timeout) as pool, _memory():
                _run(videos, sizes, _tasks(videos, todo, plans, lengths), extraction, pool, options.decoder, writers)
            again = f" ({extraction.again} twice: their headers promise more than they hold)" if extraction.again else ""
            counted = f"{extraction.frames:,} frames of {extraction.videos:,} videos decoded, each once{again}"
            if extraction.videos:  # of sound alone there are no pictures to count
                print(f"{counted}, for {' '.join(options.stream)}")
        finished = [writer.finish([meta(video) for video in dataset.videos]) for stores in writers for writer in stores]
        return _closing_words(dataset.videos, [writer for stores in writers for writer in stores], all(finished), options.shard)


def _tell_other_versions(writers: list[StoreWriter]) -> None:
    """Print a note for each store that gets more videos and holds some that were made with other versions than now."""
    for writer in writers:
        now = that_count(current_versions(), writer.recipe)
        others: Counter[Versions] = Counter()
        for versions, videos in writer.versions().items():
            others[that_count(versions, writer.recipe)] += videos
        others.pop(now, None)
        if others:
            *then, here = apart([*others, now])
            earlier = " or with ".join(map(str, then))
            note = (
                f"note: {others.total():,} videos of {writer.path.name} were made with {earlier}; what is added is made with "
                f"{here}. docs/store.md says what stays equal across versions; to avoid a mix, stop, "
                "and install the earlier versions again or give another BANK"
            )
            print(printable(note), flush=True)


def _plans(
    options: ExtractOptions, dataset: Dataset, device: torch.device
) -> tuple[list[StreamPlan], StreamPlan | None, FlowMethod | None]:
    """The streams, that of the flow lengths which adaptive sampling follows, and the flow. options: filled."""
    looks_at_flow = {"flow", "magnitude"} & set(options.stream) or options.sampling == "adaptive"
    flow = build_flow(options.flow, device, options.flow_weights or "pretrained", options.seed) if looks_at_flow else None
    of_lengths, magnitude = None, ""
    if options.sampling == "adaptive" and set(options.stream) & {"rgb", "flow"}:
        (of_lengths,) = plan_streams(lengths_alone(options), dataset.name, flow)
        magnitude = identity(of_lengths.recipes[0], dataset.name)
    return plan_streams(options, dataset.name, flow, magnitude), of_lengths, flow


class PlannedStore(NamedTuple):
    """A store that an extraction fills: `split` whose weights it has ("" for any), `there` of the data set's videos settled, as
    their files are now."""

    path: Path
    stream: str
    node: str
    split: str
    there: int


def planned_stores(options: ExtractOptions, dataset: Dataset) -> list[PlannedStore]:
    """The stores of an extraction of this data set, and how far each is; nothing is decoded or written."""
    options = with_defaults(flow_of_weights(options))
    sizes: list[int] = []  # of the videos' files, looked at only where there is a store
    found = []
    for plan in _plans(options, dataset, chosen_device(options.device))[0]:
        for path, one in zip(plan.paths, plan.recipes, strict=True):
            there = 0
            if path.exists() or (parts_folder(path).is_dir() and not begun(path)):
                sizes = sizes or [size_bytes(video) for video in dataset.videos]
                with Store.open(path) as store:
                    done = {name: source.get("bytes", -1) for name, source in zip(store.video_ids, store.sources, strict=True)}
                    held = [(done, store.failures)]
                    there = sum(not wanted(one, size, held, False) for one, size in zip(dataset.videos, sizes, strict=True))
            found.append(PlannedStore(path, str(one["stream"]), str(one["node"]), plan.split, there))
    return found


def _streams(options: ExtractOptions, plans: list[StreamPlan], videos: list[Video], device: torch.device) -> list[Stream]:
    streams = []
    crops = options.crops or 1
    for plan in plans:
        clean = augmented = None
        whole = plan.options.name == "audio" or plan.is_pixels  # is not cropped
        own_crops = 1 if whole else crops
        if plan.network:
            batch = options.batch or (250 if device.type == "cuda" else 30) // (8 if plan.network.is_video else 1)
            rows = (plan.sampling.steps or 100) * max(1, getattr(plan.sampling, "windows", 1))
            forward = Forward(plan.network, options.precision, options.compile, device, len(videos) * rows * own_crops)
            clean = ClipBatches(forward, plan.network, own_crops, options.keep_crops and not whole, batch, device)
            if options.views and plan.options.name != "audio":
                augmented = ClipBatches(forward, plan.network, 1, False, batch, device)
        preprocessing = plan.preprocessing
        streams.append(
            Stream(plan.options.name, plan.network, clean, augmented, preprocessing.resize_px, preprocessing.interpolation)
        )
    return streams


@contextlib.contextmanager
def _memory() -> Iterator[None]:
    """What the GPU has no room for is an option too large: of flow's pictures, or of the batch."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise InputError(
            "the GPU's memory is full; give a smaller BATCH, or a smaller RESIZE where flow is computed"
        ) from error


def _tasks(
    videos: list[Video], todo: dict[str, list[int]], plans: list[StreamPlan], lengths: FlowLengths | None
) -> Iterator[Task]:
    for video in videos:
        rows = {number: _sampling(plans[number].sampling, video, lengths) for number in todo[video.id]}
        limited = any(plans[number].recipes[0].get("seconds") for number in rows)
        yield Task(video.id, video.path, rows, adaptive.span(video.span_seconds) if limited else video.span_seconds)


def _sampling(sampling: Sampling | Examples, video: Video, lengths: FlowLengths | None) -> Sampling | Examples:
    """A stream's sampling as it is for this video."""
    if isinstance(sampling, Examples):
        return sampling
    if sampling.views:
        views = sampling.views if "train" in video.parts else 0  # test rows stay clean
        sampling = dataclasses.replace(sampling, views=views, video_id=video.id)
    if sampling.windows and video.span_seconds:  # what was cut out is one window
        sampling = dataclasses.replace(sampling, windows=0)
    if lengths and sampling.sampling == "adaptive":
        sampling = lengths.followed(sampling, video.id)
    return sampling


def _fail_without_lengths(
    videos: list[Video],
    todo: dict[str, list[int]],
    sizes: dict[str, int],
    plans: list[StreamPlan],
    writers: list[list[StoreWriter]],
    lengths: FlowLengths,
) -> list[Video]:
    """Record what cannot be sampled, because its flow could not be computed, with that reason; returns the other videos."""
    for video in videos:
        if video.id in lengths.lengths:
            continue
        reason = lengths.failures.get(video.id, "its flow's lengths are not known")
        for number in todo[video.id]:
            if isinstance(plans[number].sampling, Sampling):
                for writer in writers[number]:
                    if writer.done.get(video.id) == sizes[video.id]:
                        continue  # this node's store holds it, as it is now
                    writer.fail({**meta(video), "source": {"bytes": sizes[video.id]}}, reason)
        todo[video.id] = [number for number in todo[video.id] if isinstance(plans[number].sampling, Examples)]
    return [video for video in videos if todo[video.id]]


def shard_slice(shard: str) -> slice:
    """'2/4' -> every fourth from the second on; '' -> all."""
    if not shard:
        return slice(None)
    number, _, count = shard.partition("/")
    if not (number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
        raise InputError(f"SHARD={shard}: give i/n with 1 <= i <= n, for example 1/4")
    return slice(int(number) - 1, None, int(count))


def meta(video: Video, size: int = -1, info: Any = None, sound: Any = None) -> dict[str, Any]:
    """What the store keeps of a video beside its features."""
    about: dict[str, Any] = {"id": video.id, "label": video.label, "group": video.group, "parts": list(video.parts)}
    if size >= 0:
        about["source"] = {"bytes": size, **(dataclasses.asdict(info) if info else {})}
        about["source"] |= {"sound": dataclasses.asdict(sound)} if sound else {}
        about["source"] |= {"span_seconds": list(video.span_seconds)} if video.span_seconds else {}
    return about


def size_bytes(video: Video) -> int:
    """Size of the file, or of a folder of images; -1 when it is not there."""
    try:
        return frames_folder.size_bytes(video.path) if video.path.is_dir() else video.path.stat().st_size
    except OSError:
        return -1


def wanted(video: Video, size: int, stores: Sequence[tuple[dict[str, int], dict[str, dict]]], retry: bool) -> bool:
    """Is a video, its file now of `size` bytes, missing in some store (its done and failed videos)? One whose file has changed
    is; one that failed is not, unless it is to be retried."""
    for done, failed in stores:
        failure = failed.get(video.id)
        settled = failure and failure["bytes"] == size and (not retry or is_absence(failure["reason"]))
        if not settled and done.get(video.id) != size:
            return True
    return False


def _run(
    videos: list[Video],
    sizes: dict[str, int],
    tasks: Iterator[Task],
    extraction: Extraction,
    pool: DecodePool,
    decoder: str,
    writers: list[list[StoreWriter]],
) -> None:
    by_id = {video.id: video for video in videos}
    with tqdm(total=len(videos), unit="video", smoothing=0.1, dynamic_ncols=True, desc="extract") as bar:
        for key, results, info, sound in extraction.run(tasks, pool, decoder):
            video, size = by_id[key], sizes[key]
            told: set[str] = set()
            for number, result in results.items():
                for node, writer in enumerate(writers[number]):
                    if writer.done.get(video.id) == size:
                        continue  # this one of several stores holds it, as it is now
                    values, reason = _stored(result, node)
                    if reason:
                        if not is_absence(reason) and reason not in told:
                            bar.write(f"failed: {video.path}: {reason}")
                        told.add(reason)
                        writer.fail({**meta(video), "source": {"bytes": size}}, reason)
                    else:
                        heard = sound if extraction.streams[number].name == "audio" else None
                        views = result.views if result.views.any() else None
                        writer.add(meta(video, size, info, heard), values, result.times_seconds, views)
            bar.update()


def _stored(result: Result, node: int) -> tuple[np.ndarray, str]:
    """Features as they are stored, (K, ...) float16 or uint8, or the reason why they cannot be."""
    if result.reason:
        return np.empty(0), result.reason
    found = result.values[node]
    largest = result.largest[node]
    if np.isfinite(found).all():
        return found, ""
    return found, "the network gave NaN" if np.isnan(largest) else f"features reach {largest:.3g}, beyond float16"


def _closing_words(videos: Sequence[Video], writers: list[StoreWriter], finished: bool, shard: str) -> int:
    for writer in writers:
        here = sum(video.id in writer.done for video in videos)
        without = sum(is_absence(failure["reason"]) for failure in writer.failed.values())
        silent = f", {without} have no sound to extract" if without else ""
        state = "done" if finished else "not finished" + (": other shards are to come" if shard else "")
        print(f"{writer.path}: {here} of {len(videos)} videos{silent}, {state}")
    failures = [item for writer in writers for item in writer.failed.items()]
    failed = {key: failure["reason"] for key, failure in failures if not is_absence(failure["reason"])}
    lost = [video for video in videos if video.id in failed]
    if lost:
        print(f"{len(lost)} failed (RETRY=1 tries them again; 'reelbank inspect' lists all):")
        for video in lost[:10]:
            print(f"  {video.id}: {failed[video.id]}")
    return 1 if lost else 0
