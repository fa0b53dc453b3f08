"""Extraction against its limit and against the usual script: one run, interleaved, on the same real clips.

T = 25, ten crops, torchvision:resnet50 with random weights, fp32, all cores.
  ours    the extraction loop whole: decode processes, crops, network, mean, float16, a store on disk
  bare    the same network in the same mode, on as many crops that are already in memory: the limit
  script  what one usually finds: eager fp32, each frame through PIL transforms, one video at a time

REELBANK_TESTDATA names the folder with clips/ucf101; ROUNDS and VIDEOS set the length. COMPILE=0 leaves ours and bare
uncompiled; extraction compiles by itself from 20,000 network inputs on, where a C++ compiler is there.
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import torch
from torchvision import models, transforms

from reelbank.data.clips import sigma
from reelbank.data.sampling import Sampling
from reelbank.data.store import StoreWriter
from reelbank.data.workers import DecodePool
from reelbank.extract import networks
from reelbank.extract.batches import ClipBatches
from reelbank.extract.forward import Forward
from reelbank.extract.loop import Extraction, Stream, Task

STEPS, CROPS, BATCH = 25, 10, 30


def ours(paths: list[Path], network: networks.Network, forward: Forward, pool: DecodePool) -> None:
    """Features of the clips, in a finished store."""
    about = {"name": "benchmark", "classes": [], "splits": [], "coarse": {}}
    batches = ClipBatches(forward, network, CROPS, False, BATCH, torch.device("cpu"))
    preprocessing = network.preprocessing
    stream = Stream("rgb", network, batches, None, preprocessing.resize_px, preprocessing.interpolation)
    with tempfile.TemporaryDirectory() as folder:
        writer = StoreWriter(Path(folder) / "store.h5", {"extractor": "benchmark"}, about)
        metas = []
        tasks = [Task(path.stem, path, {0: Sampling(steps=STEPS)}) for path in paths]
        for key, results, info, _ in Extraction([stream], None, torch.device("cpu")).run(tasks, pool):
            metas.append({"id": key, "label": "", "group": "", "parts": [], "source": {"bytes": 0, "frames": info.frames}})
            writer.add(metas[-1], results[0].values[0].astype(np.float16), results[0].times_seconds)
        assert writer.finish(metas) and len(metas) == len(paths)
        writer.close()


def bare(videos: int, forward: Forward) -> None:
    """The forward pass alone, on as many crops."""
    crops = torch.randint(0, 256, (BATCH, 3, 224, 224), dtype=torch.uint8)
    for _ in range(0, videos * STEPS * CROPS, BATCH):
        forward(crops)


def script(paths: list[Path], model: torch.nn.Module) -> None:
    """Decode, PIL transforms frame by frame, ten crops, one video at a time."""
    normalise = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    prepare = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.TenCrop(224),
            transforms.Lambda(lambda crops: torch.stack([normalise(transforms.functional.to_tensor(crop)) for crop in crops])),
        ]
    )
    with torch.inference_mode():
        for path in paths:
            with av.open(str(path)) as container:
                frames = [frame.to_image() for frame in container.decode(video=0)]
            features = [model(prepare(frames[t])).mean(0) for t in sigma(len(frames), STEPS)]
            with tempfile.TemporaryFile() as file:
                np.save(file, torch.stack(features).numpy())


def main() -> None:
    root = os.environ.get("REELBANK_TESTDATA")
    if not root:
        sys.exit("benchmarks/extraction.py: set REELBANK_TESTDATA to the folder that holds clips/ucf101")
    videos, rounds = int(os.environ.get("VIDEOS", "3")), int(os.environ.get("ROUNDS", "3"))
    paths = sorted(Path(root, "clips", "ucf101").rglob("*.avi"))[::30][:videos]
    network = networks.build("torchvision:resnet50", weights="random")
    forward = Forward(network, "fp32", os.environ.get("COMPILE", "1"), torch.device("cpu"), 0)
    torch.manual_seed(0)
    model = models.resnet50(weights=None).eval()
    model.fc = torch.nn.Identity()
    seconds: dict[str, list[float]] = {"ours": [], "bare": [], "script": []}
    with DecodePool(1) as pool:
        ours(paths[:1], network, forward, pool)  # warm: worker started, network compiled where asked for
        script(paths[:1], model)
        for _ in range(rounds):
            for name, work in [
                ("bare", lambda: bare(videos, forward)),
                ("ours", lambda: ours(paths, network, forward, pool)),
                ("script", lambda: script(paths, model)),
            ]:
                started = time.perf_counter()
                work()
                seconds[name].append(time.perf_counter() - started)
    for name, values in seconds.items():
        print(f"{name:<7}{statistics.median(values) / videos:7.2f} s a video (median of {rounds} rounds of {videos} videos)")
    for name, asked in (("bare", 0.95), ("script", 1.2)):
        ratios = [b / a for a, b in zip(seconds["ours"], seconds[name], strict=True)]
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
        print(f"{name} / ours: {statistics.median(ratios):.3f} ({spread}); asked: at least {asked}")


if __name__ == "__main__":
    main()
