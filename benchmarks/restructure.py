"""Compares the speed of two checkouts of Reelbank.

    python benchmarks/restructure.py BEFORE AFTER [ROUNDS [KIND ...]]

BEFORE, AFTER: folders of two checkouts. KIND: extraction, batches or training (default: all).

Each checkout runs in a separate process, and the two take turns at the same work, so that a busy
machine slows both. Imports are not measured. Clips and features are generated.

A ratio is the median over the rounds of the time before divided by the time after, so 1.05 means 5 %
faster. The exit code is 1 if a ratio of wall times is below `LIMIT`. The ratio of CPU times (of the
process and its decoders) is also printed, because it varies less on a busy machine.
"""

import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import av
import h5py
import numpy as np

LIMIT = 0.97
KINDS = ("extraction", "batches", "training")
CLASSES, CLIPS, FRAMES, SIDE_PX = 2, 3, 50, 160
VIDEOS, STEPS, FEATURES = 512, 25, 512

# Runs in each checkout. It reads a kind of work and a number from each line, does this work, and
# prints the wall and CPU seconds.
WORKER = r'''
import contextlib, importlib, io, json, os, sys, time
from pathlib import Path
import numpy as np
import torch
import reelbank

folder = Path(sys.argv[1])
EXTRACT = ["extract", "DATASET=folder", f"ROOT={folder / 'clips'}", "STREAM=rgb flow", "FLOW=dis", "CLIP=flow=5",
           "EXTRACTOR=torchvision:resnet18", "WEIGHTS=random", "CROPS=1", "T=8", "RESIZE=128", "SIZE=112",
           "DEVICE=cpu", "COMPILE=0", "WORKERS=1"]
TRAIN = ["train", "HEAD=gru", "HIDDEN=128", "EPOCHS=2", "REFIT=0", "PATIENCE=0", "DEVICE=cpu", "SPLIT=1"]

def command(words, bank):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        code = reelbank.main([*words, f"BANK={bank}"])
    if code:
        sys.exit(f"{words[0]} ended with {code}: {said.getvalue()[-2000:]}")

def first_of(*names):
    """Import a module by the first of its names that exists, because folders were renamed."""
    for name in names:
        try:
            return importlib.import_module(f"reelbank.{name}")
        except ModuleNotFoundError:
            continue
    sys.exit(f"none of the modules {names}: add the new name to benchmarks/restructure.py")

bank = folder / f"bank-{sys.argv[2]}"
command(["import", str(folder / "features.h5"), f"CSV={folder / 'videos.csv'}", "DATASET=made"], bank)
streaming = first_of("heads.training.streaming", "heads.streaming")
sequences = first_of("heads.training.sequences", "heads.sequences")
Rule = first_of("heads.recipe", "heads.sequences").Rule
readings = first_of("heads.training.batches", "heads.batches")
Reading = getattr(readings, "RowReading", None) or readings.Reading
store = reelbank.Store.open(next((bank / "stores").glob("*.h5")))
ids = tuple(store.video_ids)
data = streaming.open_features([store], ids, [Reading()], read_from="memory")
views = (streaming.views_of(store, name, False) for name in ids)
table, _ = sequences.tables(views, Rule(), ids)

def extraction(number):
    command(EXTRACT, folder / f"extracted-{sys.argv[2]}-{number}")

def batches(number):
    for _ in range(200):  # one pass takes only milliseconds, which is too short to measure
        for _ in data.batches(table, torch.randperm(len(ids)).split(32)):
            pass

def training(number):
    command([*TRAIN, f"SEED={number}"], bank)

for line in sys.stdin:
    kind, number = line.split()
    torch.manual_seed(int(number))
    began, used = time.perf_counter(), sum(os.times()[:4])
    globals()[kind](int(number))
    print(json.dumps([time.perf_counter() - began, sum(os.times()[:4]) - used]), flush=True)
'''


def draw_clips(folder: Path) -> None:
    """Write clips of a bright square that moves over noise, in one folder per class."""
    rng = np.random.default_rng(0)
    for label in range(CLASSES):
        for clip in range(CLIPS):
            path = folder / f"class{label}" / f"v{clip}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            background = rng.integers(0, 120, (SIDE_PX, SIDE_PX, 3), np.uint8)
            with av.open(str(path), "w") as container:
                stream = container.add_stream("mpeg4", rate=25)
                stream.width = stream.height = SIDE_PX
                stream.pix_fmt = "yuv420p"
                for frame in range(FRAMES):
                    image = background.copy()
                    left = (2 * frame + 10 * clip) % (SIDE_PX - 32)
                    image[20 * label : 20 * label + 32, left : left + 32] = 255
                    picture = av.VideoFrame.from_ndarray(image, format="rgb24")
                    container.mux(stream.encode(picture))
                container.mux(stream.encode())


def write_features(folder: Path) -> None:
    """Write features of many videos as an HDF5 file with one dataset per video, and a CSV of labels."""
    rng = np.random.default_rng(0)
    with (
        h5py.File(folder / "features.h5", "w") as file,
        (folder / "videos.csv").open("w", newline="") as table,
    ):
        rows = csv.writer(table)
        rows.writerow(["path", "label", "group", "split"])
        for number in range(VIDEOS):
            label = number % 8
            values = rng.standard_normal((STEPS, FEATURES), np.float32) + label / 8
            file[f"v{number:05}"] = values.astype(np.float16)
            split = "test" if number % 4 == 0 else "train"
            rows.writerow([f"v{number:05}", f"class{label}", f"g{number % 64}", split])


def start(checkout: Path, folder: Path, name: str) -> subprocess.Popen:
    """Start a process that uses the code in `checkout`."""
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    command = [sys.executable, "-c", WORKER, str(folder), name]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)


def seconds(worker: subprocess.Popen, kind: str, number: int) -> tuple[float, float]:
    """Let a worker do one piece of work, and return its wall and CPU seconds."""
    assert worker.stdin and worker.stdout
    worker.stdin.write(f"{kind} {number}\n")
    worker.stdin.flush()
    line = worker.stdout.readline()
    if not line:
        sys.exit(f"restructure.py: {kind} failed; its message is above")
    wall, cpu = json.loads(line)
    return wall, cpu


def main(before: str, after: str, rounds: int = 5, kinds: Sequence[str] = KINDS) -> int:
    """Print a line for each kind of work. Returns 1 if a ratio is below the limit, else 0."""
    Pair = tuple[tuple[float, float], tuple[float, float]]  # before, after
    taken: dict[str, list[Pair]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_clips(folder / "clips")
        write_features(folder)
        workers = [
            start(Path(checkout).resolve(), folder, side)
            for side, checkout in (("before", before), ("after", after))
        ]
        for number in range(rounds + 1):  # the first round is not counted
            for kind in kinds:
                # The order alternates, so that neither checkout always goes first.
                order = (0, 1) if number % 2 else (1, 0)
                pair = {side: seconds(workers[side], kind, number) for side in order}
                if number:
                    taken[kind].append((pair[0], pair[1]))
        for worker in workers:
            assert worker.stdin
            worker.stdin.close()
            worker.wait()
    is_fast = True
    for kind, pairs in taken.items():
        ratio, cpu_ratio = (
            statistics.median(old[clock] / new[clock] for old, new in pairs) for clock in (0, 1)
        )
        is_fast &= ratio >= LIMIT
        before_seconds = statistics.median(old[0] for old, _ in pairs)
        after_seconds = statistics.median(new[0] for _, new in pairs)
        print(
            f"{kind:<11} before {before_seconds:7.3f} s   after {after_seconds:7.3f} s   ratio {ratio:.3f}, "
            f"at least {LIMIT}: {'yes' if ratio >= LIMIT else 'NO'}   (CPU time: {cpu_ratio:.3f})"
        )
    return int(not is_fast)


if __name__ == "__main__":
    if len(sys.argv) < 3 or not set(sys.argv[4:]) <= set(KINDS):
        sys.exit(__doc__)
    numbers = [int(word) for word in sys.argv[3:4]]
    sys.exit(main(*sys.argv[1:3], *numbers, kinds=sys.argv[4:] or KINDS))
