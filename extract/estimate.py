"""`reelbank extract PLAN=1`: what would be done, from one timed batch of each network; extracts and stores nothing."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from reelbank.data.datasets import Dataset, Video
from reelbank.data.decode import DecodeError, VideoInfo, probe
from reelbank.data.opencv import cv2
from reelbank.data.parts import begun, parts_folder
from reelbank.data.recipe import extractor_name
from reelbank.data.sampling import Followed, Sampling
from reelbank.data.sound import RATE_HZ, example_count
from reelbank.data.store import Store
from reelbank.extract.flow import FlowMethod
from reelbank.extract.forward import Forward
from reelbank.extract.idt import SIZE, TRACK_FRAMES, Trajectories
from reelbank.extract.networks import Network, pair
from reelbank.extract.options import ExtractOptions, lengths_alone
from reelbank.extract.streams import StreamPlan, plan_streams


def estimate(
    options: ExtractOptions,
    dataset: Dataset,
    mine: slice,
    plans: list[StreamPlan],
    flow: FlowMethod | None,
    device: torch.device,
) -> int:
    """Print videos, rows, time and disk of each store, the flow lengths that adaptive sampling lacks before all others."""

    videos = list(dataset.videos[mine])
    first = []
    if any("magnitude" in recipe for plan in plans for recipe in plan.recipes):
        first = [plan for plan in plan_streams(lengths_alone(options), dataset.name, flow) if _todo(options, videos, plan)]
    header = functools.cache(_header)
    all_seconds, all_bytes = 0.0, 0.0
    computed: set[object] = set()  # of flow, which streams of one size share
    for plan in [*first, *plans]:
        todo = _todo(options, videos, plan)
        split = f" (weights of split {plan.split})" if plan.split else ""
        of = f" with {extractor_name(plan.network.extractor)}{split}" if plan.network else ""
        comes_first = "; made first: the flow lengths that adaptive sampling follows" if plan in first else ""
        there = len(videos) - len(todo)
        print(f"{plan.options.name}{of}: {len(videos)} videos, {there} there already, {len(todo)} to extract{comes_first}")
        if not todo:
            continue
        counts = np.array([_counts(video, plan, header) for video in todo])  # (V, 3)
        followed = plan.sampling if isinstance(plan.sampling, Followed) else None
        if followed:
            frames = int(counts[:, 0].sum())
            counts[:, 0] = np.where(counts[:, 0] > 0, followed.most, 0)  # more than most videos have
        rows, views, fields = counts.sum(0).tolist()
        seconds = 0.0
        if plan.network:
            whole = plan.options.name == "audio" or plan.is_pixels  # is not cropped
            inputs = (rows - views) * (1 if whole else options.crops or 1) + views
            seconds = _network_seconds(options, plan.network, inputs, device)
        some = int(np.count_nonzero(counts[:, 0]))
        others = ", the others have no sound or too little" if plan.options.name == "audio" else ", the others cannot be opened"
        network = f", {_duration(seconds)} of network on {device}" if plan.network else ""
        at_most = "at most " if followed else ""
        print(f"  {at_most}{rows:,} rows{f' of {some} videos{others}' if some < len(todo) else ''}{network}")
        if followed:
            seconds = _trajectory_seconds(plan) * frames
            print(f"  {frames:,} frames, {_duration(seconds)} of following points, on one core")
        if fields and flow:
            shared = (plan.preprocessing.resize_px, plan.preprocessing.interpolation, plan.network is None)
            flow_seconds = 0.0 if shared in computed else _flow_seconds(plan, flow, device) * fields
            computed.add(shared)
            cost = f"{_duration(flow_seconds)} of {options.flow}" if flow_seconds else "those of the stream above"
            print(f"  {fields:,} flow fields, {cost}")
            seconds += flow_seconds
        all_seconds += seconds
        if plan.network is None:
            sizes = [(f": {SIZE} numbers a row", SIZE) if followed else (": 1 number a row", 1)]
        else:
            numbers = _row_numbers(options, plan.network, device)
            sizes = [(f" ({node}): {n:,} numbers a row", n) for node, n in zip(plan.network.nodes, numbers, strict=True)]
        for path, (about, number) in zip(plan.paths, sizes, strict=True):
            size_bytes = rows * number * (1 if plan.is_pixels else 2)
            all_bytes += size_bytes
            print(f"  store {path}{about}, {at_most}{_mebibytes(size_bytes)} on disk")
    if len(plans) + len(first) > 1:
        again = ", and once more for the flow lengths" if first else ""
        print(f"together {_duration(all_seconds)} of computing, {_mebibytes(all_bytes)} on disk")
        print(f"meanwhile each video is decoded, once for all streams{again}")
    return 0


def _todo(options: ExtractOptions, videos: list[Video], plan: StreamPlan) -> list[Video]:
    """The videos that one of the stream's stores lacks."""
    from reelbank.extract.run import size_bytes, wanted

    stores: list[tuple[dict[str, int], dict[str, dict]]] = []
    for path in plan.paths:
        stores.append(({}, {}))
        if (path.exists() or parts_folder(path).exists()) and not begun(path):
            with Store.open(path) as store:
                sizes = [source.get("bytes", -1) for source in store.sources]
                stores[-1] = (dict(zip(store.video_ids, sizes, strict=True)), store.failures)
    return [video for video in videos if wanted(video, size_bytes(video), stores, options.retry)]


def _header(path: Path) -> VideoInfo | None:
    try:
        return probe(path)
    except (DecodeError, OSError):
        return None


def _counts(video: Video, plan: StreamPlan, header: Callable[[Path], VideoInfo | None]) -> tuple[int, int, int]:
    """Rows of a video, how many of them are of views, and the flow fields that they need, by what its header claims; 0 for a
    file that cannot be opened. It is not opened where the rows are the same for every video."""
    sampling = plan.sampling
    if isinstance(sampling, Sampling):
        windows = 0 if video.span_seconds else sampling.windows  # what was cut out is one window
        views = sampling.views if "train" in video.parts else 0
        sampling = dataclasses.replace(sampling, windows=windows, views=views, video_id=video.id)
        if sampling.steps and sampling.sampling != "adaptive" and not sampling.fields:
            clean = sampling.steps * max(1, windows)
            return clean * (1 + views), clean * views, 0
    info = header(video.path)
    if info is None:
        return 0, 0, 0
    start, end = video.span_seconds or (0.0, math.inf)
    longest_seconds = plan.recipes[0].get("seconds", math.inf)  # of adaptive sampling
    seconds = max(0.0, min(end - start, info.duration_seconds - start, longest_seconds))
    if not isinstance(sampling, Sampling):
        examples = example_count(round(seconds * RATE_HZ)) if info.audio else 0
        return min(examples, sampling.steps or examples), 0, 0
    if not info.width:  # sound alone
        return 0, 0, 0
    frames = info.frames or 1
    if seconds < info.duration_seconds:
        frames = max(1, min(frames, round(seconds * info.fps)))
    if sampling.sampling == "adaptive" and sampling.steps:
        rows = min(sampling.steps, math.ceil(frames / 5))  # one frame in five
        return rows, 0, min(frames, rows * sampling.clip_frames) if sampling.fields else 0
    numbers, of_views = sampling.rows(frames)
    return len(numbers), int(np.count_nonzero(of_views)), len(np.unique(numbers)) if sampling.fields else 0


def _network_seconds(options: ExtractOptions, network: Network, inputs: int, device: torch.device) -> float:
    if not inputs:
        return 0.0
    batch = max(1, (options.batch or (250 if device.type == "cuda" else 30)) // (8 if network.is_video else 1))
    forward = Forward(network, options.precision, options.compile, device, inputs)
    dtype = torch.float32 if network.kind == "sound" else torch.uint8
    blank = torch.zeros((batch, *network.input_shape), dtype=dtype, device=device)
    for _ in range(2):  # the first one warms up
        started = time.perf_counter()
        float(forward(blank)[0].sum())  # waits for the device
    return (time.perf_counter() - started) / batch * inputs


def _flow_seconds(plan: StreamPlan, flow: FlowMethod, device: torch.device) -> float:
    """Of one field, on noise that moves."""
    resize_px = plan.preprocessing.resize_px
    h, w = pair(resize_px) if isinstance(resize_px, tuple) else (resize_px, resize_px * 4 // 3)
    noise = torch.randint(256, (1, 3, h // 8 + 1, w // 8 + 1), generator=torch.Generator().manual_seed(0)).float()
    first = torch.nn.functional.interpolate(noise, (h, w), mode="bilinear").to(device, torch.uint8).expand(4, -1, -1, -1)
    for _ in range(2):
        started = time.perf_counter()
        float(flow(first.contiguous(), first.roll(2, -1))[0].sum())
    return (time.perf_counter() - started) / 4


def _trajectory_seconds(plan: StreamPlan) -> float:
    """Of one frame, on noise that moves: the mean once trajectories have their full length."""
    resize_px = plan.preprocessing.resize_px
    assert isinstance(resize_px, int)
    noise = np.random.default_rng(0).integers(0, 256, (resize_px // 8 + 9, resize_px // 6 + 9), np.uint8)
    size = (noise.shape[1] * 8, noise.shape[0] * 8)
    ground = cv2.resize(noise, size, interpolation=cv2.INTER_LINEAR)
    trajectories = Trajectories()
    started = time.perf_counter()
    for number in range(TRACK_FRAMES + 5):
        started = time.perf_counter() if number == TRACK_FRAMES else started
        trajectories.add(np.ascontiguousarray(ground[2 * number :, 2 * number :][:resize_px, : resize_px * 4 // 3]))
    return (time.perf_counter() - started) / 5


def _row_numbers(options: ExtractOptions, network: Network, device: torch.device) -> list[int]:
    """Numbers in a row of each node."""
    dtype = torch.float32 if network.kind == "sound" else torch.uint8
    with torch.inference_mode():
        outputs = network.module.to(device)(torch.zeros((1, *network.input_shape), dtype=dtype, device=device))
    kept = (options.crops or 1) if options.keep_crops else 1
    return [output[0].numel() * kept for output in outputs]


def _mebibytes(size_bytes: float) -> str:
    return f"{math.ceil(size_bytes / 2**20 * 10) / 10:,.1f} MiB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"about {math.ceil(seconds)} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
