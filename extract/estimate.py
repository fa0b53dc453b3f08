"""`reelbank extract PLAN=1`: what would be done, from one timed batch of each network; extracts and stores nothing."""

import math
import time

import torch

from reelbank.data.datasets import Dataset, Video
from reelbank.data.decode import DecodeError, probe
from reelbank.data.parts import begun, parts_folder
from reelbank.data.sampling import Sampling
from reelbank.data.store import Store
from reelbank.extract.flow import FlowMethod
from reelbank.extract.forward import Forward
from reelbank.extract.networks import Network, pair
from reelbank.extract.options import ExtractOptions
from reelbank.extract.streams import StreamPlan

_SOUND_SECONDS = 0.96  # an example


def estimate(
    options: ExtractOptions,
    dataset: Dataset,
    mine: slice,
    plans: list[StreamPlan],
    flow: FlowMethod | None,
    device: torch.device,
) -> int:
    """Print videos, rows, time and disk of each store."""
    from reelbank.extract.run import size_bytes, wanted

    videos = list(dataset.videos[mine])
    for plan in plans:
        stores: list[tuple[dict[str, int], dict[str, dict]]] = []
        for path in plan.paths:
            stores.append(({}, {}))
            if (path.exists() or parts_folder(path).exists()) and not begun(path):
                with Store.open(path) as store:
                    sizes = [source.get("bytes", -1) for source in store.sources]
                    stores[-1] = (dict(zip(store.video_ids, sizes, strict=True)), store.failures)
        todo = [video for video in videos if wanted(video, size_bytes(video), stores, options.retry)]
        print(f"{plan.options.name}: {len(videos)} videos, {len(videos) - len(todo)} there already, {len(todo)} to extract")
        rows = sum(_rows(video, plan) for video in todo)
        fields = sum(_fields(video, plan) for video in todo)
        print(f"  {rows:,} rows, {_duration(_network_seconds(options, plan, rows, device))} of network on {device}")
        if fields and flow:
            print(f"  {fields:,} flow fields, {_duration(_flow_seconds(plan, flow, device) * fields)} of {options.flow}")
        if plan.network is None:
            print(f"  store {plan.paths[0]}: {rows * 2 / 2**20:,.1f} MiB on disk")
            continue
        for path, node, numbers in zip(
            plan.paths, plan.network.nodes, _row_numbers(options, plan.network, device), strict=True
        ):
            print(f"  store {path} ({node}): {numbers:,} numbers a row, {rows * numbers * 2 / 2**20:,.1f} MiB on disk")
    return 0


def _rows(video: Video, plan: StreamPlan) -> int:
    """Rows of a video by what its header claims; 0 for a file that cannot be opened."""
    sampling = plan.sampling
    if isinstance(sampling, Sampling) and sampling.steps and sampling.sampling != "adaptive":
        clean = sampling.steps * max(1, sampling.windows)
        return clean * (1 + (sampling.views if "train" in video.parts else 0))
    try:
        info = probe(video.path)
    except (DecodeError, OSError):
        return 0
    if not isinstance(sampling, Sampling):
        examples = int(info.duration_seconds / _SOUND_SECONDS) if info.audio else 0
        return min(examples, sampling.steps or examples)
    if sampling.steps:  # adaptive: one frame in five
        return min(sampling.steps, math.ceil((info.frames or 1) / 5))
    return len(sampling.rows(info.frames or 1)[0])


def _fields(video: Video, plan: StreamPlan) -> int:
    """Flow fields to compute; what the rows need, never more than there are."""
    sampling = plan.sampling
    if not isinstance(sampling, Sampling) or not sampling.fields:
        return 0
    try:
        frames = probe(video.path).frames or 1
    except (DecodeError, OSError):
        return 0
    return min(frames, _rows(video, plan) * sampling.clip_frames)


def _network_seconds(options: ExtractOptions, plan: StreamPlan, rows: int, device: torch.device) -> float:
    if plan.network is None or not rows:
        return 0.0
    crops = 1 if plan.options.name == "audio" else options.crops or 1
    batch = max(1, (options.batch or (250 if device.type == "cuda" else 30)) // (8 if plan.network.is_video else 1))
    forward = Forward(plan.network, options.precision, options.compile, device, rows * crops)
    dtype = torch.float32 if plan.network.kind == "sound" else torch.uint8
    inputs = torch.zeros((batch, *plan.network.input_shape), dtype=dtype, device=device)
    for _ in range(2):  # the first one warms up
        started = time.perf_counter()
        float(forward(inputs)[0].sum())  # waits for the device
    return (time.perf_counter() - started) / batch * rows * crops


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


def _row_numbers(options: ExtractOptions, network: Network, device: torch.device) -> list[int]:
    """Numbers in a row of each node."""
    dtype = torch.float32 if network.kind == "sound" else torch.uint8
    with torch.inference_mode():
        outputs = network.module.to(device)(torch.zeros((1, *network.input_shape), dtype=dtype, device=device))
    kept = (options.crops or 1) if options.keep_crops else 1
    return [output[0].numel() * kept for output in outputs]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"about {math.ceil(seconds)} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
