"""Compares the speed of extraction with that of the network and with that of a usual script.

    REELBANK_TESTDATA=... python benchmarks/extraction.py

All cases take turns on the same real clips, with T = 25, ten crops, torchvision:resnet50 with random
weights, fp32, and all cores:

  ours    the complete extraction: decoding, crops, network, mean, float16, and a store on disk
  bare    only the network, on the same number of crops that are already in memory
  script  a usual script: eager fp32, PIL transforms of each frame, one video at a time

REELBANK_TESTDATA is the folder that contains clips/ucf101. ROUNDS and VIDEOS set the length. With
COMPILE=0, ours and bare are not compiled. (The command `extract` compiles the network from 20,000
inputs on if there is a C++ compiler.)
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

from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter
from reelbank.data.video.clips import sigma
from reelbank.data.video.pool import DecodePool
from reelbank.data.video.sampling import Sampling
from reelbank.extract.networks import build as networks
from reelbank.extract.pipeline.batches import ClipBatches
from reelbank.extract.pipeline.forward import Forward
from reelbank.extract.pipeline.loop import Extraction
from reelbank.extract.pipeline.streams import StreamPipeline, Task
from reelbank.extract.streams.loading import load_stream

STEPS, CROPS, BATCH = 25, 10, 30


def ours(paths: list[Path], network: networks.Network, forward: Forward, pool: DecodePool) -> None:
    """Extract the features of the clips into a finished store."""
    about = DatasetDescription(name="benchmark", classes=[], splits=[], coarse={})
    batches = ClipBatches(
        forward, network, crops=CROPS, keep_crops=False, batch=BATCH, device=torch.device("cpu")
    )
    preprocessing = network.preprocessing
    pipeline = StreamPipeline(
        "rgb", load_stream("rgb"), network, batches, None, preprocessing.resize
    )
    with tempfile.TemporaryDirectory() as folder:
        writer = StoreWriter(Path(folder) / "store.h5", {"extractor": "benchmark"}, about)
        metas = []
        tasks = [Task(path.stem, path, {"rgb": Sampling(steps=STEPS)}) for path in paths]
        extraction = Extraction([pipeline], None, torch.device("cpu"))
        for extracted in extraction.run(tasks, pool):
            result = extracted.results["rgb"]
            source = {"bytes": 0, "frames": extracted.info.frames}
            metas.append(StoredVideo(str(extracted.key), source=source))
            writer.add(metas[-1], result.values[0].astype(np.float16), result.times_seconds)
        assert writer.finish(metas) and len(metas) == len(paths)
        writer.close()


def bare(videos: int, forward: Forward) -> None:
    """Run only the forward pass, on the same number of crops."""
    crops = torch.randint(0, 256, (BATCH, 3, 224, 224), dtype=torch.uint8)
    for _ in range(0, videos * STEPS * CROPS, BATCH):
        forward(crops)


def script(paths: list[Path], model: torch.nn.Module) -> None:
    """Decode one video at a time and apply PIL transforms and ten crops to each frame."""
    normalise = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    prepare = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.TenCrop(224),
            transforms.Lambda(
                lambda crops: torch.stack(
                    [normalise(transforms.functional.to_tensor(crop)) for crop in crops]
                )
            ),
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
        sys.exit(
            "benchmarks/extraction.py: set REELBANK_TESTDATA to the folder that contains clips/ucf101"
        )
    videos, rounds = int(os.environ.get("VIDEOS", "3")), int(os.environ.get("ROUNDS", "3"))
    paths = sorted(Path(root, "clips", "ucf101").rglob("*.avi"))[::30][:videos]
    network = networks.build("torchvision:resnet50", weights="random")
    forward = Forward(network, "fp32", os.environ.get("COMPILE", "1"), torch.device("cpu"), 0)
    torch.manual_seed(0)
    model = models.resnet50(weights=None).eval()
    model.fc = torch.nn.Identity()
    seconds: dict[str, list[float]] = {"ours": [], "bare": [], "script": []}
    with DecodePool(1) as pool:
        ours(paths[:1], network, forward, pool)  # starts the worker and compiles the network
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
        print(
            f"{name:<7}{statistics.median(values) / videos:7.2f} s per video (median of {rounds} rounds of {videos} videos)"
        )
    for name, asked in (("bare", 0.95), ("script", 1.2)):
        ratios = [b / a for a, b in zip(seconds["ours"], seconds[name], strict=True)]
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
        print(
            f"{name} / ours: {statistics.median(ratios):.3f} ({spread}); required: at least {asked}"
        )


if __name__ == "__main__":
    main()
