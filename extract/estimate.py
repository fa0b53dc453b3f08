"""`reelbank extract PLAN=1`: estimate videos, rows, time and disk space from one timed batch of
each network, without extracting anything."""

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from reelbank.data.console import counted, duration_text, print_lines, size_text
from reelbank.data.datasets.types import Dataset, Video
from reelbank.data.identity import extractor_name
from reelbank.data.video.frames import DecodeError, VideoInfo, probe
from reelbank.data.video.images import ASSUMED_FPS
from reelbank.data.video.limits import Limits
from reelbank.data.video.sampling import Followed, Sampling, TimedExamples
from reelbank.data.video.timeline import FrameCount, TooManyTicks
from reelbank.extract.flow.methods import FlowMethod
from reelbank.extract.job import batch_inputs
from reelbank.extract.networks.build import Network
from reelbank.extract.networks.preprocessing import typical_px
from reelbank.extract.options import ExtractOptions
from reelbank.extract.pipeline.forward import Forward
from reelbank.extract.plan import StreamPlan
from reelbank.extract.planned import ExtractionPlan
from reelbank.extract.todo import Retry, SourceFiles, StoredVideos

_MOST_TIMED_FRAMES = 10_000_000


@dataclass(frozen=True)
class Rows:
    """Counts that follow from the headers of the videos.

    rows: all rows, including augmented ones; views: augmented rows; fields: flow fields to compute;
    followed_frames: frames through which points are followed; videos: those that have rows
    """

    rows: int = 0
    views: int = 0
    fields: int = 0
    followed_frames: int = 0
    videos: int = 0

    def __add__(self, other: "Rows") -> "Rows":
        return Rows(
            self.rows + other.rows,
            self.views + other.views,
            self.fields + other.fields,
            self.followed_frames + other.followed_frames,
            self.videos + other.videos,
        )


@dataclass
class Totals:
    """The cost of all streams.

    flow: flow fields that are already counted, as (resize, without a network); other streams with
    the same key share them
    """

    seconds: float = 0.0
    size_bytes: float = 0.0
    flow: set[object] = field(default_factory=set)


def estimate(
    options: ExtractOptions,
    dataset: Dataset,
    videos: Sequence[Video],
    plans: ExtractionPlan,
    device: torch.device,
) -> Totals:
    """Print videos, rows, time and disk space of each store. Flow lengths that adaptive sampling
    still needs come first. Returns the time and disk space of all stores."""
    first = []
    if plans.lengths and _missing(options, videos, plans.lengths):
        first = [plans.lengths]
    header = functools.cache(functools.partial(_header, dataset=dataset, limits=Limits.of(options)))
    totals = Totals()
    for plan in [*first, *plans.streams]:
        missing = _missing(options, videos, plan)
        _tell_videos(plan, len(videos), len(missing), comes_first=plan in first)
        if not missing:
            continue
        rows = Rows()
        for video in missing:
            with contextlib.suppress(TooManyTicks):  # extracting the video will fail
                rows += _rows_of(video, plan, header)
        _tell_rows(plan, rows, len(missing), options, totals, device=device)
        if rows.fields and plans.flow:
            _tell_flow(plan, rows, options, plans.flow, totals, device=device)
        _tell_stores(plan, rows, options, totals, device=device)
    if len(plans.streams) + len(first) > 1:
        again = ", and once more for the flow lengths" if first else ""
        print_lines(
            f"in total: {duration_text(totals.seconds)} of computing time, "
            f"{size_text(totals.size_bytes)} on disk"
        )
        print_lines(
            "decoding runs in parallel with the networks; each video is decoded once for all "
            f"streams{again}"
        )
    return totals


def _tell_videos(plan: StreamPlan, videos: int, missing: int, *, comes_first: bool) -> None:
    """Print how many videos a stream needs, and the weights to download."""
    split = f" (weights of split {plan.split})" if plan.split else ""
    of = f" with {extractor_name(plan.network.extractor)}{split}" if plan.network else ""
    reason = (
        "; extracted first, because adaptive sampling needs its flow lengths" if comes_first else ""
    )
    print_lines(
        f"{plan.stream.name}{of}: {counted(videos, 'video')}, {videos - missing} already "
        f"extracted, {missing} to extract{reason}"
    )
    for absent in plan.to_download:
        print_lines(f"  weights to download: {absent}")
    for weights in plan.published:
        print_lines(f"  weights: {weights}")


def _tell_rows(
    plan: StreamPlan,
    rows: Rows,
    missing: int,
    options: ExtractOptions,
    totals: Totals,
    *,
    device: torch.device,
) -> None:
    """Print the rows of a stream, and the time of its network or of following points."""
    network = ""
    if plan.network:
        crops = plan.options.crops if plan.is_cropped else 1
        of_view = crops if plan.options.keep_crops else 1
        inputs = (rows.rows - rows.views) * crops + rows.views * of_view
        seconds = _network_seconds(options, plan.network, inputs, device)
        totals.seconds += seconds
        network = f", {duration_text(seconds)} for the network on {device}"
    others = "the other videos cannot be opened"
    if plan.stream.input == "sound":
        others = "the other videos have no sound, or less than one example"
    of = f" of {counted(rows.videos, 'video')} ({others})" if rows.videos < missing else ""
    print_lines(f"  {_at_most(plan)}{rows.rows:,} rows (feature vectors){of}{network}")
    if rows.followed_frames:
        seconds = plan.stream.frame_seconds(plan.preprocessing) * rows.followed_frames
        totals.seconds += seconds
        print_lines(
            f"  {rows.followed_frames:,} frames, {duration_text(seconds)} to track points on one core"
        )


def _tell_flow(
    plan: StreamPlan,
    rows: Rows,
    options: ExtractOptions,
    flow: FlowMethod,
    totals: Totals,
    *,
    device: torch.device,
) -> None:
    """Print the flow fields of a stream. Streams with pictures of the same size share them."""
    shared = (plan.preprocessing.resize, plan.network is None)
    cost = "shared with the stream above"
    if shared not in totals.flow:
        seconds = _flow_seconds(plan, flow, device) * rows.fields
        totals.seconds += seconds
        cost = f"{duration_text(seconds)} for {options.flow}"
    totals.flow.add(shared)
    print_lines(f"  {rows.fields:,} flow fields, {cost}")


def _tell_stores(
    plan: StreamPlan,
    rows: Rows,
    options: ExtractOptions,
    totals: Totals,
    *,
    device: torch.device,
) -> None:
    """Print the stores of a stream and their size."""
    numbers = [plan.stream.row_numbers]
    if plan.network:
        numbers = _row_numbers(options, plan.network, device)
    for path, node, of_row in zip(plan.paths, plan.nodes, numbers, strict=True):
        size_bytes = rows.rows * of_row * (1 if plan.network and plan.network.is_pixels else 2)
        totals.size_bytes += size_bytes
        store = f"store {path}"
        if plan.to_download:
            store = "a store whose name depends on the weights to download"
        about = f" ({node})" if plan.network else ""
        print_lines(
            f"  {store}{about}: {counted(of_row, 'number')} per row, "
            f"{_at_most(plan)}{size_text(size_bytes)} on disk"
        )


def _at_most(plan: StreamPlan) -> str:
    """ "at most " for trajectories, because most videos have fewer than the maximum; otherwise
    ""."""
    return "at most " if isinstance(plan.sampling, Followed) else ""


def _missing(options: ExtractOptions, videos: Sequence[Video], plan: StreamPlan) -> list[Video]:
    """The videos that at least one of the stream's stores needs."""
    stores = [StoredVideos.at(path) for path in plan.paths]
    files = SourceFiles.of(videos, options.bank)
    return files.missing_in(videos, stores, Retry.of(options))


def _header(path: Path, dataset: Dataset, limits: Limits) -> VideoInfo | None:
    """What the header of a file states; None if the file cannot be opened."""
    if path in dataset.undrawn:
        return dataset.undrawn[path]
    try:
        return probe(path, dataset.image_fps, limits)
    except (DecodeError, OSError):
        return None


def _rows_of(video: Video, plan: StreamPlan, header: Callable[[Path], VideoInfo | None]) -> Rows:
    """The rows of a video according to its header; none for a file that cannot be opened. The file
    is not opened if the number of rows is the same for every video."""
    sampling = plan.sampling
    if isinstance(sampling, Sampling):
        windows = 0 if video.span_seconds else sampling.windows  # a span is a single window
        views = sampling.views if "train" in video.parts else 0
        sampling = dataclasses.replace(sampling, windows=windows, views=views, video_id=video.id)
        if sampling.steps and sampling.sampling != "adaptive" and not plan.stream.uses_flow:
            clean = sampling.steps * max(1, windows)
            return Rows(clean * (1 + views), clean * views, videos=1)
    info = header(video.path)
    if info is None:
        return Rows()
    start, end = video.span_seconds or (0.0, math.inf)
    seconds = max(0.0, min(end - start, info.duration_seconds - start, plan.seconds))
    if isinstance(sampling, TimedExamples):
        if not info.audio:
            return Rows()
        timed = _timed_frames(info, seconds) if info.width else None
        return Rows(len(sampling.centres(timed, 0.0, seconds)), videos=1)
    if not isinstance(sampling, Sampling):
        of_sound = sampling.sound_windows
        examples = of_sound.count(round(seconds * of_sound.rate_hz)) if info.audio else 0
        rows = min(examples, sampling.steps or examples)
        return Rows(rows, videos=int(rows > 0))
    if not info.width:  # a file with sound but without pictures
        return Rows()
    frames = _frames_of(info, seconds)
    if isinstance(sampling, Followed):
        return Rows(sampling.most, followed_frames=frames, videos=1)
    if sampling.sampling == "adaptive" and sampling.steps:
        rows = min(sampling.steps, math.ceil(frames / 5))  # one frame in five
        fields = min(frames, rows * sampling.clip_frames)
        return Rows(rows, fields=fields if plan.stream.uses_flow else 0, videos=1)
    rows_of_video = sampling.rows(_timed_frames(info, seconds) if sampling.ticks else frames)
    numbers = rows_of_video.numbers
    fields = len(np.unique(numbers)) if plan.stream.uses_flow else 0
    return Rows(len(numbers), int(np.count_nonzero(rows_of_video.views)), fields, videos=1)


def _frames_of(info: VideoInfo, seconds: float) -> int:
    """The number of frames of a video, or of this many seconds of it, according to its header."""
    frames = info.frames or 1
    if seconds < info.duration_seconds:
        # Folders of images have no frame rate in a header.
        fps = info.fps or frames / info.duration_seconds
        frames = max(1, min(frames, round(seconds * fps)))
    return frames


def _timed_frames(info: VideoInfo, seconds: float) -> FrameCount:
    """The same with their times. A header may claim any number, so it is limited."""
    frames = min(_frames_of(info, seconds), _MOST_TIMED_FRAMES)
    return FrameCount.steady(frames, info.fps or ASSUMED_FPS)


def _network_seconds(
    options: ExtractOptions, network: Network, inputs: int, device: torch.device
) -> float:
    """Computing time of this many network inputs, from one timed batch."""
    if not inputs:
        return 0.0
    batch = batch_inputs(options, device, network)
    forward = Forward(network, options.precision, options.compile, device, inputs)
    blank = torch.zeros((batch, *network.input_shape), dtype=network.input_dtype, device=device)
    for _ in range(2):  # the first one warms up
        started = time.perf_counter()
        float(forward(blank)[0].sum())  # waits for the device
    return (time.perf_counter() - started) / batch * inputs


def _flow_seconds(plan: StreamPlan, flow: FlowMethod, device: torch.device) -> float:
    """Computing time of one flow field, measured on moving noise."""
    h, w = typical_px(plan.preprocessing.resize_px)
    noise = torch.randint(
        256, (1, 3, h // 8 + 1, w // 8 + 1), generator=torch.Generator().manual_seed(0)
    ).float()
    first = (
        torch.nn.functional.interpolate(noise, (h, w), mode="bilinear")
        .to(device, torch.uint8)
        .expand(4, -1, -1, -1)
    )
    for _ in range(2):
        started = time.perf_counter()
        float(flow(first.contiguous(), first.roll(2, -1))[0].sum())
    return (time.perf_counter() - started) / 4


def _row_numbers(options: ExtractOptions, network: Network, device: torch.device) -> list[int]:
    """The size of a row of each node."""
    with torch.inference_mode():
        outputs = network.module.to(device)(
            torch.zeros((1, *network.input_shape), dtype=network.input_dtype, device=device)
        )
    kept = (options.crops or 1) if options.keep_crops else 1
    return [output[0].numel() * kept for output in outputs]
