"""Compares the speed of extraction with that of the network and with that of a usual script.

    REELBANK_TESTDATA=... OMP_NUM_THREADS=1 python benchmarks/extraction.py [EXTRACTOR ...]

All cases take turns on the same real clips, with ten crops, random weights and fp32. What counts is
CPU time, user and system, of all processes:

  ours      the complete extraction: decoding, crops, network, mean, float16, and a store on disk
  script    a usual script: eager fp32, PIL transforms of each frame, one video at a time; only for
            torchvision:resnet50
  others    only the network, per crop, on one batch of crops that are already in memory:
            as it is (eager), with channels_last, with folded batch norm (folded), with fused steps,
            which `extract` uses (fused), and with COMPILE=1 also compiled

REELBANK_TESTDATA is the folder that contains clips/ucf101. ROUNDS, VIDEOS and STEPS (clips per video,
usually 25) set the length.
"""

import copy
import functools
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import torch
from rows import Row
from torchvision import models, transforms

from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter
from reelbank.data.video.clips import sigma
from reelbank.data.video.pool import DecodePool
from reelbank.data.video.sampling import Sampling
from reelbank.extract.job import batch_inputs
from reelbank.extract.networks import build as networks
from reelbank.extract.networks.module import features_of
from reelbank.extract.options import ExtractOptions
from reelbank.extract.pipeline.batches import ClipBatches
from reelbank.extract.pipeline.forward import Forward
from reelbank.extract.pipeline.loop import Extraction
from reelbank.extract.pipeline.streams import StreamPipeline, Task
from reelbank.extract.streams.loading import load_stream

STEPS, CROPS = int(os.environ.get("STEPS", "25")), 10
CPU = torch.device("cpu")


def cpu_seconds() -> float:
    """CPU time of this process and its children so far."""
    ticks = 0
    for listed in Path("/proc/self/task").glob("*/children"):
        for child in listed.read_text().split():
            fields = Path("/proc", child, "stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])  # user and system time
    times = os.times()
    return times.user + times.system + ticks / os.sysconf("SC_CLK_TCK")


def batches_of(forward: Forward, network: networks.Network) -> ClipBatches:
    return ClipBatches(
        forward,
        network,
        crops=CROPS,
        keep_crops=False,
        batch=batch_inputs(ExtractOptions(), CPU, network),
        device=CPU,
    )


def ours(paths: list[Path], network: networks.Network, forward: Forward, pool: DecodePool) -> None:
    """Extract the features of the clips into a finished store."""
    about = DatasetDescription(name="benchmark", classes=[], splits=[], coarse={})
    batches = batches_of(forward, network)
    preprocessing = network.preprocessing
    pipeline = StreamPipeline(
        "rgb", load_stream("rgb"), network, batches, None, preprocessing.resize
    )
    sampling = Sampling(steps=STEPS, clip_frames=network.clip_frames)
    with tempfile.TemporaryDirectory() as folder:
        writer = StoreWriter(Path(folder) / "store.h5", {"extractor": "benchmark"}, about)
        metas = []
        tasks = [Task(path.stem, path, {"rgb": sampling}) for path in paths]
        extraction = Extraction([pipeline], None, CPU)
        for extracted in extraction.run(tasks, pool):
            result = extracted.results["rgb"]
            source = {"bytes": 0, "frames": extracted.info.frames}
            metas.append(StoredVideo(str(extracted.key), source=source))
            writer.add(metas[-1], result.values[0].astype(np.float16), result.times_seconds)
        assert writer.finish(metas) and len(metas) == len(paths)
        writer.close()


def bare(crops: torch.Tensor, forward: Callable) -> None:
    """Run only the forward pass. crops: a batch."""
    with torch.inference_mode():
        forward(crops)


def variants(name: str, network: networks.Network) -> dict[str, torch.nn.Module]:
    """The versions of a network whose features are compared with those of the eager one."""
    eager = networks.trunk(name, weights="random").model.eval()

    def normalised(model: torch.nn.Module) -> torch.nn.Module:
        return torch.nn.Sequential(Normalise(network), model)

    in_order = copy.deepcopy(eager)
    layout = torch.channels_last_3d if network.is_video else torch.channels_last
    for parameter in in_order.parameters():
        if parameter.ndim == (5 if network.is_video else 4):
            parameter.data = parameter.data.contiguous(memory_format=layout)
    modules = {"eager": normalised(eager), "channels_last": normalised(in_order)}
    modules |= {"folded": network.module, "fused": network.cpu_module}
    if os.environ.get("COMPILE") == "1":
        modules["compiled"] = torch.compile(network.module)
    return modules


class Normalise(torch.nn.Module):
    """uint8 crops as the network expects them, in float32."""

    def __init__(self, network: networks.Network) -> None:
        super().__init__()
        self.mean, self.std = network.module.mean, network.module.std

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        return (crops.float() - self.mean) / self.std


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


def differences(modules: dict[str, torch.nn.Module], crops: torch.Tensor) -> dict[str, float]:
    """How far the features of each form are from those of the eager network, relative to their
    norm."""
    found = {}
    expected = features_of(modules["eager"], crops)
    for label, module in modules.items():
        features = features_of(module, crops)
        features, eager = (
            value[0] if isinstance(value, tuple) else value for value in (features, expected)
        )
        found[label] = ((features - eager).norm() / eager.norm()).item()
    return found


def compare(name: str, paths: list[Path], rounds: int) -> dict[str, list[float]]:
    """CPU time per input of each case, relative to ours, of each round. Prints the differences of
    the features and the times."""
    network = networks.build(name, weights="random")
    forward = Forward(network, "fp32", "0", CPU, 0)
    modules = variants(name, network)
    batch = batches_of(forward, network).step_inputs
    generator = torch.Generator().manual_seed(0)
    shape = (batch, *network.input_shape)
    crops = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    for label, difference in differences(modules, crops).items():
        print(f"  {label:<14}features differ by {difference:.1e} from eager ones", flush=True)
    inputs = len(paths) * STEPS * CROPS
    seconds: dict[str, list[float]] = {}
    with DecodePool(1) as pool:
        ours(paths[:1], network, forward, pool)  # starts the worker
        cases: dict[str, tuple[int, Callable[[], None]]] = {
            label: (batch, functools.partial(bare, crops, module))
            for label, module in modules.items()
        }
        cases["ours"] = (inputs, lambda: ours(paths, network, forward, pool))
        if name == "torchvision:resnet50":
            model = models.resnet50(weights=None).eval()
            model.fc = torch.nn.Identity()
            cases["script"] = (inputs, lambda: script(paths, model))
        for _ in range(rounds):
            for label, (count, work) in cases.items():
                started = cpu_seconds()
                work()
                seconds.setdefault(label, []).append((cpu_seconds() - started) / count)
    ratios = {}
    for label, values in seconds.items():
        pairs = zip(seconds["ours"], values, strict=True)
        ratios[label] = [other / mine for mine, other in pairs]
        print(
            f"  {label:<14}{statistics.median(values) * 1000:8.1f} ms per crop; "
            f"{label} / ours: {statistics.median(ratios[label]):.3f}",
            flush=True,
        )
    return ratios


def rows(name: str, paths: list[Path], rounds: int) -> list[Row]:
    """The rows of `benchmarks/bench.py`."""
    on = f"{name}, {len(paths)} clips, T={STEPS}, {CROPS} crops, random weights"
    table = []
    for label, values in compare(name, paths, rounds).items():
        if label == "script":
            table.append(Row("extraction", "a usual script", on, values, "at least 1.2"))
        elif label != "ours":
            work = "extraction, against the forward pass alone"
            table.append(Row(work, label, on, values, "at least 0.95"))
    return table


def clips() -> list[Path]:
    """VIDEOS real clips of UCF-101, from folders spread over the data set."""
    root = os.environ.get("REELBANK_TESTDATA")
    if not root:
        sys.exit(f"{sys.argv[0]}: set REELBANK_TESTDATA to the folder that contains clips/ucf101")
    every = sorted(Path(root, "clips", "ucf101").resolve().rglob("*.avi"))
    count = int(os.environ.get("VIDEOS", "3"))
    return every[:: len(every) // count][:count]


def main() -> None:
    paths, rounds = clips(), int(os.environ.get("ROUNDS", "3"))
    for name in sys.argv[1:] or ["torchvision:resnet50"]:
        print(
            f"{name}: {len(paths)} videos x {STEPS} clips x {CROPS} crops, {rounds} rounds; "
            "required: the fastest network / ours at least 0.95, script / ours at least 1.2"
        )
        compare(name, paths, rounds)


if __name__ == "__main__":
    main()
