"""Stage one, `reelbank extract`: videos in, one feature store per node out; run again, it goes on where it was."""

import contextlib
import dataclasses
import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from reelbank.data.clips import Sampling
from reelbank.data.datasets import Video, load_dataset
from reelbank.data.decode import DecodeError, probe
from reelbank.data.errors import InputError
from reelbank.data.parts import begun, parts_folder
from reelbank.data.recipe import extractor_name, option
from reelbank.data.store import Store, StoreWriter, identity
from reelbank.data.workers import DecodePool
from reelbank.extract import networks
from reelbank.extract.crops import CROPS
from reelbank.extract.loop import ClipBatches, Views, extract_videos
from reelbank.extract.networks import Network

# Raised whenever the same recipe would give other numbers than before: old stores then keep their own identity.
FEATURES_VERSION = 1

# Where an option is left empty. The toy set needs no learned features, and is to run anywhere in minutes.
DEFAULTS: dict[str, dict[str, Any]] = {
    "": {"extractor": "torchvision:resnet50", "crops": 10, "t": 25},
    "toy": {"extractor": "torchvision:resnet18", "weights": "random", "crops": 1, "t": 16, "resize": 112, "size": 112},
}
COMPILE_FROM_CROPS = 20_000  # compiling costs half a minute or more


@dataclass(frozen=True)
class ExtractOptions:
    dataset: str = option("toy", "ucf101, hmdb51, folder or toy")
    root: str = option("", "folder that holds the data set's class folders (toy: is drawn)")
    lists: str = option("", "folder of the official split lists (hmdb51: needed; ucf101: checked when given)")
    csv: str = option("", "dataset folder: a CSV of path,label,split")
    classes: tuple[str, ...] = option((), "extract these classes only")
    stream: str = option("rgb", "what is looked at", ("rgb",))
    extractor: str = option("", "torchvision:<model>, timm:<model> or <file>.py:<function> (default: torchvision:resnet50)")
    weights: str = option("", "pretrained, random, or a path (default: pretrained; toy: random; <file>.py: its own)")
    node: tuple[str, ...] = option((), "nodes to keep, one store each (default: what the classifier reads)")
    pool: bool = option(True, "average maps over space and time; 0 keeps them")
    crops: int | None = option(None, "1 (centre), 5 or 10, averaged (default: 10; toy: 1)")
    keep_crops: bool = option(False, "keep each crop's features instead of their mean")
    t: int | None = option(None, "clips per video, spread by sigma(t); 0 keeps every clip (default: 25; toy: 16)")
    sampling: str = option("sigma", "how T clips are spread", ("sigma", "segments"))
    clip: int | None = option(None, "frames per clip (default: 1 for image networks, 16 for video networks)")
    stride: int | None = option(None, "frames between clip starts (default: 1, 8 for video networks)")
    resize: int | None = option(None, "short side in pixels before the crops (default: as the weights were trained; toy: 112)")
    size: int | None = option(None, "side of the crops in pixels (default: as the weights were trained; toy: 112)")
    decoder: str = option("auto", "who decodes", ("auto", "pyav", "opencv", "decord"))
    precision: str = option("fp32", "arithmetic of the network", ("fp32", "fp16", "bf16"))
    compile: str = option("auto", "torch.compile, checked against eager: auto does for large jobs", ("auto", "1", "0"))
    batch: int = option(0, "network inputs per batch (default: 30 on the CPU, 250 on a GPU; a video network: an eighth)")
    device: str = option("auto", "auto, cpu, cuda, cuda:1 ...")
    workers: int = option(0, "decode processes (default: 1 when the CPU computes, else all cores)")
    seed: int = option(0, "of random weights, the toy set and the split of a folder")
    shard: str = option("", "i/n: take every n-th video from the i-th on (1/4 ... 4/4), one process each, one store")
    retry: bool = option(False, "try videos again that failed before")
    part_seconds: float = option(30.0, "commit what is done at least this often: a kill loses no more")
    timeout: float = option(120.0, "seconds without a frame after which a video is given up")
    plan: bool = option(False, "print videos, time and disk, and stop (the toy set is drawn for it)")
    bank: str = option("bank", "folder that holds stores, runs and reports")


def extract(options: ExtractOptions) -> int:
    """Extract what is not there yet. Returns 0, or 1 when some video of the data set failed (its reason is in the store)."""
    options = with_defaults(options)
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
    network = networks.build(options.extractor, options.node, options.weights, options.seed, options.pool)
    network = dataclasses.replace(network, preprocessing=chosen_sizes(options, network))
    sampling = chosen_sampling(options, network)
    recipes = [recipe(options, network, node, sampling) for node in network.nodes]
    paths = [store_path(options.bank, dataset.name, network.name, one) for one in recipes]
    views = Views(options.crops or 1, options.keep_crops)
    batch = options.batch or (250 if device.type == "cuda" else 30) // (8 if network.is_video else 1)
    videos = list(dataset.videos)
    if options.plan:
        return plan(options, videos[mine], paths, network, sampling, views, batch, device)
    about: dict[str, Any] = {"name": dataset.name, "classes": list(dataset.classes), "splits": list(dataset.splits)}
    about["coarse"] = {name: list(members) for name, members in dataset.coarse.items()}
    writing: dict[str, Any] = {"part_seconds": options.part_seconds, "shard": options.shard.replace("/", "of")}
    with contextlib.ExitStack() as closing:  # closing a writer commits what it holds, also after Ctrl-C
        writers = []
        for path, one in zip(paths, recipes, strict=True):
            print(f"store {path}")
            writers.append(StoreWriter(path, one, about, **writing))
            closing.callback(writers[-1].close)
        done_and_failed = [(writer.done, writer.failed) for writer in writers]
        todo = [video for video in videos[mine] if wanted(video, done_and_failed, options.retry)]
        there = len(videos[mine]) - len(todo)
        print(f"{there + len(todo)} videos, {there} there already, {len(todo)} to extract", flush=True)
        if todo:
            forward = Forward(network, options, device, len(todo) * (sampling.steps or 100) * views.crops)
            batches = ClipBatches(forward, network, views, sampling.clip_frames, batch, device)
            workers = options.workers or (len(os.sched_getaffinity(0)) if device.type == "cuda" else 1)
            with DecodePool(min(workers, len(todo)), options.timeout) as pool:
                _run(todo, pool, sampling, network, batches, options.decoder, writers)
        finished = [writer.finish([meta(video) for video in videos]) for writer in writers]
        return _closing_words(videos, writers, paths, all(finished))


def with_defaults(options: ExtractOptions) -> ExtractOptions:
    """Fill the options that were left empty from DEFAULTS."""
    defaults = DEFAULTS.get(options.dataset, DEFAULTS[""])
    filled = {name: value for name, value in defaults.items() if getattr(options, name) in ("", None)}
    if options.extractor:  # another network than the default one brings its own weights and sizes
        filled = {name: value for name, value in filled.items() if name not in ("weights", "resize", "size")}
    options = dataclasses.replace(options, **filled)
    if options.crops not in CROPS:
        raise InputError(f"CROPS={options.crops}: choose from {', '.join(map(str, CROPS))}")
    for name in ("t", "batch", "workers"):
        if (getattr(options, name) or 0) < 0:
            raise InputError(f"{name.upper()}={getattr(options, name)}: must be at least 0")
    for name in ("clip", "stride", "resize", "size", "timeout", "part_seconds"):
        if (value := getattr(options, name)) is not None and value <= 0:
            raise InputError(f"{name.upper()}={value}: must be above 0")
    return options


def chosen_sizes(options: ExtractOptions, network: Network) -> networks.Preprocessing:
    """The weights' own resize and crop, unless they are given."""
    chosen = dataclasses.replace(
        network.preprocessing,
        resize_px=options.resize or network.preprocessing.resize_px,
        crop_px=options.size or network.preprocessing.crop_px,
    )
    smallest, largest = np.min(chosen.resize_px), np.max(chosen.crop_px)
    if smallest < largest:
        raise InputError(f"RESIZE={smallest} is less than the crops' {largest} pixels; give a smaller SIZE as well")
    return chosen


def chosen_device(name: str) -> torch.device:
    """auto is the GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"DEVICE={name}: give auto, cpu, cuda or cuda:<number>") from None
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise InputError(f"DEVICE={name}: torch finds no such GPU here; use DEVICE=cpu, or see 'reelbank doctor'")
    return device


def chosen_sampling(options: ExtractOptions, network: Network) -> Sampling:
    """The clip grid: single frames for image networks."""
    if not network.is_video and options.clip not in (None, 1):
        raise InputError(f"CLIP={options.clip}: {network.name} looks at single frames; clips are for video networks")
    return Sampling(
        clip_frames=options.clip or (networks.CLIP_FRAMES if network.is_video else 1),
        stride_frames=options.stride or (networks.STRIDE_FRAMES if network.is_video else 1),
        steps=options.t or None,
        sampling=options.sampling,
    )


def shard_slice(shard: str) -> slice:
    """'2/4' -> every fourth from the second on; '' -> all."""
    if not shard:
        return slice(None)
    number, _, count = shard.partition("/")
    if not (number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
        raise InputError(f"SHARD={shard}: give i/n with 1 <= i <= n, for example 1/4")
    return slice(int(number) - 1, None, int(count))


def recipe(options: ExtractOptions, network: Network, node: str, sampling: Sampling) -> dict[str, Any]:
    """Everything that the numbers of a store depend on; its hash is the store's identity. The device, the batch and
    compilation are not in it: they change features by rounding only."""
    steps = sampling.steps
    return {
        "features_version": FEATURES_VERSION,
        "stream": options.stream,
        "extractor": extractor_name(options.extractor),
        "weights": network.weights,
        "node": node,
        "pool": "mean" if options.pool else "none",
        "decoder": options.decoder,
        "clip_frames": sampling.clip_frames,
        "stride_frames": sampling.stride_frames,
        "steps": steps,
        "sampling": sampling.sampling if steps else "all",
        "preprocessing": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(network.preprocessing).items()
        },
        "crops": options.crops,
        "crops_kept": options.keep_crops,
        "precision": options.precision,
    }


def store_path(bank: str, dataset: str, network: str, one: dict[str, Any]) -> Path:
    """<bank>/stores/<dataset>-<stream>-<network>[-<node>]-<identity[:8]>.h5"""
    node = "" if one["node"] == networks.EMBEDDING else f"-{one['node']}"
    return Path(bank) / "stores" / f"{dataset}-{one['stream']}-{network}{node}-{identity(one, dataset)[:8]}.h5"


def meta(video: Video, info: Any = None) -> dict[str, Any]:
    """What the store keeps of a video beside its features."""
    about: dict[str, Any] = {"id": video.id, "label": video.label, "group": video.group, "parts": list(video.parts)}
    if info is not None:
        about["source"] = {"bytes": size_bytes(video), **dataclasses.asdict(info)}
    return about


def size_bytes(video: Video) -> int:
    """Size of the file, -1 when it is not there."""
    try:
        return video.path.stat().st_size
    except OSError:
        return -1


def wanted(video: Video, stores: Sequence[tuple[dict[str, int], dict[str, dict]]], retry: bool) -> bool:
    """Is a video missing in some store (its done and failed videos)? One whose file has changed is; one that failed is not,
    unless it is to be retried."""
    size = size_bytes(video)
    for done, failed in stores:
        fails_as_it_is = video.id in failed and failed[video.id]["bytes"] == size and not retry
        if not fails_as_it_is and done.get(video.id) != size:
            return True
    return False


class Forward:
    """The network's forward pass as asked: precision, and compiled where that pays and agrees with eager."""

    def __init__(self, network: Network, options: ExtractOptions, device: torch.device, crops: int):
        self.module, self.device = network.module.to(device), device
        self.dtype = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}[options.precision]
        able = device.type == "cuda" or bool(shutil.which("g++") or shutil.which("clang++"))
        compiling = options.compile == "1" or (options.compile == "auto" and crops >= COMPILE_FROM_CROPS and able)
        self.compiled: Callable | None = torch.compile(self.module) if compiling else None
        self.checked = False

    def __call__(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.inference_mode(), torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
            try:
                if self.compiled is None:
                    return self.module(pixels)
                if not self.checked:
                    self.checked = True
                    return self._check(pixels)
                return self.compiled(pixels)
            except torch.OutOfMemoryError as error:
                raise InputError(f"BATCH: {len(pixels)} network inputs do not fit the GPU's memory; give fewer") from error

    def _check(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The first batch both ways; compiled code that differs, or does not compile, is not used."""
        eager = self.module(pixels)
        assert self.compiled is not None
        try:
            compiled = self.compiled(pixels)
        except Exception as error:  # noqa: BLE001 - the compiler and its backends raise anything
            print(f"torch.compile failed ({str(error).strip().splitlines()[0]}); going on without it")
            self.compiled = None
            return eager
        off = max(((a - b).norm() / b.norm().clamp_min(1e-12)).item() for a, b in zip(compiled, eager, strict=True))
        if not off < (1e-4 if self.dtype is None else 1e-2):
            print(f"torch.compile gives features {off:.1e} off; going on without it")
            self.compiled = None
        return eager


def _run(
    todo: list[Video],
    pool: DecodePool,
    sampling: Sampling,
    network: Network,
    batches: ClipBatches,
    decoder: str,
    writers: list[StoreWriter],
) -> None:
    by_id = {video.id: video for video in todo}
    tasks = ((video.id, video.path) for video in todo)
    with tqdm(total=len(todo), unit="video", smoothing=0.1, dynamic_ncols=True, desc="extract") as bar:
        for key, found, times, info in extract_videos(tasks, pool, sampling, network, batches, decoder):
            video = by_id[key]
            for number, writer in enumerate(writers):
                if writer.done.get(video.id) == size_bytes(video):
                    continue  # this one of several stores holds it, as it is now
                values, reason = _stored(found if isinstance(found, str) else found[number])
                if reason:
                    bar.write(f"failed: {video.path}: {reason}")
                    writer.fail({**meta(video), "source": {"bytes": size_bytes(video)}}, reason)
                else:
                    writer.add(meta(video, info), values, times)
            bar.update()


def _stored(found: np.ndarray | str) -> tuple[np.ndarray, str]:
    """Features as they are stored, (K, ...) float16, or the reason why they cannot be."""
    if isinstance(found, str):
        return np.empty(0), found
    with np.errstate(over="ignore"):
        values = found.astype(np.float16)
    reason = "" if np.isfinite(values).all() else f"features reach {np.abs(found).max():.3g}, beyond float16"
    return values, reason


def _closing_words(videos: list[Video], writers: list[StoreWriter], paths: list[Path], finished: bool) -> int:
    for path, writer in zip(paths, writers, strict=True):
        here = sum(video.id in writer.done for video in videos)
        print(f"{path}: {here} of {len(videos)} videos, {'done' if finished else 'not finished: other shards are to come'}")
    failed = {key: failure["reason"] for writer in writers for key, failure in writer.failed.items()}
    lost = [video for video in videos if video.id in failed]
    if lost:
        print(f"{len(lost)} failed (RETRY=1 tries them again; 'reelbank inspect' lists all):")
        for video in lost[:10]:
            print(f"  {video.id}: {failed[video.id]}")
    return 1 if lost else 0


def plan(
    options: ExtractOptions,
    videos: list[Video],
    paths: list[Path],
    network: Network,
    sampling: Sampling,
    views: Views,
    batch: int,
    device: torch.device,
) -> int:
    """Print what would be done, the time from one timed batch; extracts and stores nothing."""
    stores: list[tuple[dict[str, int], dict[str, dict]]] = []
    for path in paths:
        stores.append(({}, {}))
        if (path.exists() or parts_folder(path).exists()) and not begun(path):
            with Store.open(path) as store:
                sizes = [source.get("bytes", -1) for source in store.sources]
                stores[-1] = (dict(zip(store.video_ids, sizes, strict=True)), store.failures)
    todo = [video for video in videos if wanted(video, stores, options.retry)]
    rows = sum(map(len, (sampling(frames) for video in todo if (frames := _claimed_frames(video, sampling)))))
    forward = Forward(network, options, device, rows * views.crops)
    batches = ClipBatches(forward, network, views, sampling.clip_frames, batch, device)
    for _ in range(2):  # the first one warms up
        started = time.perf_counter()
        outputs = forward(batches.buffer.flatten(0, 1))
        float(outputs[0].sum())  # waits for the device
    seconds = (time.perf_counter() - started) / batches.capacity * rows
    print(f"{len(videos)} videos, {len(videos) - len(todo)} there already, {len(todo)} to extract")
    print(f"{rows:,} rows, {rows * views.crops:,} network inputs, about {_duration(seconds)} on {device}")
    for path, node, output in zip(paths, network.nodes, outputs, strict=True):
        numbers = output[0].numel() * (views.crops if views.keep_crops else 1)
        print(f"store {path} ({node}): {numbers:,} numbers a row, {rows * numbers * 2 / 2**20:,.1f} MiB on disk")
    return 0


def _claimed_frames(video: Video, sampling: Sampling) -> int:
    """What the file's header claims, where the number of rows depends on it; 0 for a file that cannot be opened."""
    if sampling.steps:
        return 1
    try:
        return probe(video.path).frames or 1
    except (DecodeError, OSError):
        return 0


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
