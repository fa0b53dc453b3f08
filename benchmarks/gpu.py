"""Measures extraction on a GPU, from video files to stores, and runs the tests that need a GPU.

    make gpu
    python benchmarks/gpu.py [--device cuda] [--seconds 20] [--only NAME] [--csv benchmarks/gpu.csv]

It needs only the core packages: no environment of its own, no network and no real data, because it
draws its clips (125 frames of 320 x 240 pixels, H.264 or MPEG-4) and takes random weights. The tests
need pytest; without it they are not run, and a line says so.

For each job, one row is printed and appended to the CSV file:

  videos/s      from files to a store that is written; the fixed time to start is left out, by the
                difference of two runs of different length
  of bare       the time of the network alone, on inputs that are on the device, as a share of that
  of peak       arithmetic operations of the network per second, as a share of the device's peak
  launches      kernels launched per video (torch.profiler), copies included
  waits         times per video that the main process waited for the device

--device cpu tries the script without a GPU; its figures say nothing about a GPU.
"""

import argparse
import contextlib
import csv
import dataclasses
import datetime
import io
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from reelbank.data.datasets.registry import load_dataset  # noqa: E402
from reelbank.data.errors import InputError  # noqa: E402
from reelbank.data.store.versions import EXACT  # noqa: E402
from reelbank.extract.device import chosen_device, device_name  # noqa: E402
from reelbank.extract.fill import with_defaults  # noqa: E402
from reelbank.extract.job import batch_inputs  # noqa: E402
from reelbank.extract.options import ExtractOptions  # noqa: E402
from reelbank.extract.pipeline.forward import Forward  # noqa: E402
from reelbank.extract.planned import plan_extraction  # noqa: E402
from reelbank.extract.run import extract_stores  # noqa: E402

FRAMES, HEIGHT_PX, WIDTH_PX, STEPS = 125, 240, 320, 25
DIFFERENT_CLIPS, MOST_CLIPS = 16, 4096
# Peak of dense matrix products, in 10^12 operations per second (NVIDIA's data sheets), by the words
# in the device's name: fp32 without TF32, TF32, and fp16.
PEAKS = {
    "B200": (80, 1100, 2250),
    "H200": (67, 494, 989),
    "H100": (67, 494, 989),
    "A100": (19.5, 156, 312),
    "L40S": (91.6, 183, 362),
    "L4": (30.3, 60, 121),
    "A10": (31.2, 62.5, 125),
    "T4": (8.1, 8.1, 65),
    "V100": (15.7, 15.7, 125),
}
PEAK_OF = {"fp32": 0, "tf32": 1, "fp16": 2, "bf16": 2}
LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch", "cudaMemcpyAsync")
WAITS = ("cudaStreamSynchronize", "cudaEventSynchronize", "cudaDeviceSynchronize", "cudaMemcpy")


@dataclasses.dataclass(frozen=True)
class Job:
    """One row of the table. has_network: whether the time of a network alone can be compared."""

    name: str
    options: dict[str, object]
    has_network: bool = True


IMAGES = {"extractor": "torchvision:resnet50"}
CLIPS = {"extractor": "torchvision:r2plus1d_18"}
FLOW = {"stream": ("flow",), "extractor": "pixels", "resize": "128x170", "clip": "1", "t": 0}
JOBS = [
    Job("resnet50, ten crops, tf32, eager", {**IMAGES, "precision": "tf32", "compile": "0"}),
    Job("resnet50, ten crops, fp16, compiled", {**IMAGES, "precision": "fp16", "compile": "1"}),
    Job("resnet50, one crop, fp16", {**IMAGES, "precision": "fp16", "crops": 1, "compile": "0"}),
    Job("resnet50, ten crops, fp32, eager", {**IMAGES, "compile": "0"}),
    Job("r2plus1d_18, ten crops, tf32", {**CLIPS, "precision": "tf32", "compile": "0"}),
    Job("r2plus1d_18, ten crops, fp16", {**CLIPS, "precision": "fp16", "compile": "0"}),
    Job("TV-L1, 124 fields", {**FLOW, "flow": "tvl1"}, has_network=False),
    Job(
        "RAFT small, 124 fields",
        {**FLOW, "flow": "raft_small", "flow_weights": "random"},
        has_network=False,
    ),
    Job("DIS, 124 fields", {**FLOW, "flow": "dis"}, has_network=False),
    Job("Farneback, 124 fields", {**FLOW, "flow": "farneback"}, has_network=False),
]


def draw_clip(path: Path, number: int) -> None:
    """A clip of a moving texture."""
    generator = np.random.default_rng(number)
    texture = generator.integers(0, 256, (HEIGHT_PX // 8, WIDTH_PX // 8, 3), np.uint8)
    texture = texture.repeat(8, 0).repeat(8, 1)
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, 25)
        stream.width, stream.height, stream.pix_fmt = WIDTH_PX, HEIGHT_PX, "yuv420p"
        for index in range(FRAMES):
            moved = np.roll(texture, (index, 2 * index), (0, 1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(moved, format="rgb24")))
        container.mux(stream.encode())


def folder_of_clips(folder: Path, drawn: list[Path], count: int) -> Path:
    """A folder with this number of videos, which are links to the drawn clips."""
    folder.mkdir(parents=True)
    for number, clip in zip(range(count), itertools.cycle(drawn), strict=False):
        (folder / f"{number:05d}{clip.suffix}").symlink_to(clip)
    return folder


class Bench:
    """Runs the jobs in a temporary folder."""

    def __init__(self, device: str, seconds: float, work: Path) -> None:
        self.device, self.seconds, self.work = chosen_device(device), seconds, work
        self.drawn = []
        self.numbers = itertools.count()
        for number in range(DIFFERENT_CLIPS):
            self.drawn.append(work / f"clip{number}.mp4")
            draw_clip(self.drawn[-1], number)

    def options(self, job: Job, count: int) -> ExtractOptions:
        folder = folder_of_clips(self.work / f"videos{next(self.numbers)}", self.drawn, count)
        usual = {
            "dataset": "folder",
            "root": str(folder),
            "bank": str(self.work / "bank"),
            "weights": "random",
            "t": STEPS,
            "stream": ("rgb",),
            "device": str(self.device),
        }
        return ExtractOptions(**usual | job.options | {"weights": usual["weights"]})

    def extract(self, job: Job, count: int) -> float:
        """Seconds to extract this number of videos, with the time to start."""
        options = self.options(job, count)
        if job.options.get("extractor") == "pixels":
            options = dataclasses.replace(options, weights="")
        begin = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            assert extract_stores(options).exit_code == 0
        return time.perf_counter() - begin

    def seconds_per_video(self, job: Job) -> float:
        """By the difference of a short and a long run; the long one takes about `seconds`."""
        few = 4
        self.extract(job, few)  # loads libraries, compiles kernels
        first = self.extract(job, few)
        many = few
        while True:
            many = min(MOST_CLIPS, many * 4)
            last = self.extract(job, many)
            per_video = max(1e-6, (last - first) / (many - few))
            if last > self.seconds / 4 or many == MOST_CLIPS:
                break
        count = int(min(MOST_CLIPS, max(many, self.seconds / per_video)))
        if count > many:
            last, many = self.extract(job, count), count
        return (last - first) / (many - few)

    def network_seconds(self, job: Job) -> tuple[float, float]:
        """Seconds of the network alone per video, and its floating-point operations per video."""
        options = with_defaults(self.options(job, 1))
        dataset = load_dataset("folder", options.root, bank=options.bank)
        with contextlib.redirect_stdout(io.StringIO()):
            (plan,) = plan_extraction(options, dataset, self.device).streams
        network = plan.network
        assert network is not None and options.t is not None and options.crops is not None
        batch = batch_inputs(options, self.device, network)
        forward = Forward(network, options.precision, options.compile, self.device, 10**6)
        shape = (batch, *network.input_shape)
        inputs = torch.randint(0, 256, shape, dtype=torch.uint8, device=self.device)
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            network.module(inputs[:1])
        per_batch = timed(lambda: forward(inputs), self.device, self.seconds / 4)
        per_video = options.t * options.crops
        return per_batch / batch * per_video, counter.get_total_flops() * per_video

    def counts(self, job: Job) -> tuple[float, float]:
        """Launches and waits per video, by the difference of two profiled runs."""
        found = []
        for count in (4, 12):
            with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
                self.extract(job, count)
            events = profiler.key_averages()
            found.append(
                [
                    sum(event.count for event in events if event.key.startswith(names))
                    for names in (LAUNCHES, WAITS)
                ]
            )
        (launches, waits), (more_launches, more_waits) = found
        return (more_launches - launches) / 8, (more_waits - waits) / 8

    def row(self, job: Job) -> dict[str, str]:
        """The row of the table."""
        row = {"job": job.name}
        per_video = self.seconds_per_video(job)
        row["videos/s"] = f"{1 / per_video:.2f}"
        if job.has_network:
            bare, operations = self.network_seconds(job)
            row["of bare"] = f"{bare / per_video:.2f}"
            precision = str(job.options.get("precision", "fp32"))
            peak = peak_of(device_name(self.device), precision)
            row["of peak"] = f"{operations / per_video / peak:.3f}" if peak else "unknown peak"
        if self.device.type == "cuda":
            launches, waits = self.counts(job)
            row["launches"], row["waits"] = f"{launches:.0f}", f"{waits:.1f}"
        return row


def timed(run: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Mean seconds of a call, over about `seconds`."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    run()
    run()
    wait()
    calls, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        run()
        calls += 1
        if calls % 10 == 0:
            wait()
    wait()
    return (time.perf_counter() - begin) / calls


def peak_of(device: str, precision: str) -> float:
    """The peak in operations per second; 0.0 for a device that is not in the table."""
    words = device.replace("-", " ").split()
    for name, peaks in PEAKS.items():
        if name in words:
            return peaks[PEAK_OF[precision]] * 1e12
    return 0.0


def run_tests() -> str:
    """Run the tests that need a GPU; returns pytest's last line."""
    try:
        import pytest  # noqa: F401
    except ImportError:
        return "not run: pytest is not installed"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts="]
    ran = subprocess.run(
        [*command, "tests/test_gpu.py", "tests/test_resize.py"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = ran.stdout.strip().splitlines() or ran.stderr.strip().splitlines() or ["no output"]
    return lines[-1]


def commit() -> str:
    git = shutil.which("git")
    if not git:
        return "unknown"
    words = [git, "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


COLUMNS = ["job", "videos/s", "of bare", "of peak", "launches", "waits"]
FACTS = ["date", "commit", "device", "torch"]


def append(path: Path, rows: list[dict[str, str]], facts: dict[str, str]) -> None:
    """Append the rows, with the facts, to the CSV file."""
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [*FACTS, *COLUMNS], restval="")
        if is_new:
            writer.writeheader()
        writer.writerows(facts | row for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=12.0, help="length of a measurement")
    parser.add_argument("--only", default="", help="only jobs whose name contains this text")
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "gpu.csv")
    arguments = parser.parse_args()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        print(
            "gpu.py: PyTorch does not find a GPU, so nothing was measured; 'reelbank doctor' shows "
            "what it finds, and --device cpu only tries this script",
            file=sys.stderr,
        )
        return 2
    with tempfile.TemporaryDirectory() as folder:
        try:
            bench = Bench(arguments.device, arguments.seconds, Path(folder))
        except InputError as error:
            print(f"gpu.py: {error}", file=sys.stderr)
            return 2
        facts = {
            "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M"),
            "commit": commit(),
            "device": device_name(bench.device).removesuffix(EXACT),
            "torch": torch.__version__,
        }
        print(", ".join(f"{name} {value}" for name, value in facts.items()), flush=True)
        if bench.device.type == "cuda":
            print(f"tests that need a GPU: {run_tests()}", flush=True)
        print("  ".join(COLUMNS))
        for job in JOBS:
            if arguments.only not in job.name:
                continue
            row = bench.row(job)
            print("  ".join(row.get(name, "-") for name in COLUMNS), flush=True)
            append(arguments.csv, [row], facts)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
