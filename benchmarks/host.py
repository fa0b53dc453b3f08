"""Measures the CPU time of the main process of `extract` for each video, for a network on a GPU.

    python benchmarks/host.py [--before FOLDER] [--runtime LIBRARY] [--rounds 5] [--videos 40]

The main process receives the frames of the decode processes, copies them to the GPU, starts all
kernels and stores the features. If it takes longer for a video than the GPU, the GPU waits. The
network does nothing here, so that only the work around it is measured: T=25, ten crops, videos of
125 frames of 320 x 240 pixels, in batches of 250 inputs.

--before: a folder with another version of the code. Both versions run in turns, and the median and
the quartiles of the ratio of their times are printed.
--runtime: a library that takes the place of the CUDA runtime and whose kernels and copies do
nothing, so that no GPU is needed and the time to start a kernel on a real one is not included. Its
folder must hold libcuda.so.1. Without it, a GPU is needed.

CPU time is user and system time of the process with all of its threads, without the decode
processes. The fixed time to start is left out, by the difference of two runs of different length.
Each of them is the fastest of several, because other load on the machine can only add time.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from gpu import draw_clip, folder_of_clips

ROOT = Path(__file__).resolve().parent.parent
DIFFERENT_CLIPS, FEW_VIDEOS, REPEATS = 4, 4, 4
NETWORK = """
from torch import nn

class Empty(nn.Module):
    input_size = (3, 224, 224)

    def forward(self, x):
        return x[:, 0, :32, :64].flatten(1)  # (B, 2048)

def build():
    return Empty()
"""
# Runs in a process of its own, because it loads another version of the code.
MEASURED = """
import sys, time
import reelbank

def seconds(folder, number):
    begin = time.process_time()
    assert reelbank.main([
        "extract", "DATASET=folder", f"ROOT={folder}", f"BANK=bank{number}", "EXTRACTOR=empty.py:build",
        "CROPS=10", "T=25", "BATCH=250", "COMPILE=0", "DEVICE=cuda", "WORKERS=1",
    ]) == 0
    return time.process_time() - begin

few, many, repeats = *sys.argv[1:3], int(sys.argv[3])
seconds(few, 0)  # loads libraries
times = [(seconds(few, number), seconds(many, number)) for number in range(1, repeats + 1)]
print(*map(min, zip(*times)), file=sys.stderr)
"""


def milliseconds_per_video(code: Path, runtime: Path | None, folders: list[Path]) -> float:
    """CPU time of the main process of this version of the code. folders: of the videos of a short
    and of a long run."""
    environment = os.environ | {"PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
    if runtime is not None:
        environment |= {
            "LD_PRELOAD": str(runtime),
            "LD_LIBRARY_PATH": str(runtime.parent),
            "FAKECUDA_POISON": "0",
            "FAKECUDA_NOCOPY": "1",
        }
    with tempfile.TemporaryDirectory() as work:
        Path(work, "empty.py").write_text(NETWORK)
        ran = subprocess.run(
            [sys.executable, "-c", MEASURED, *map(str, folders), str(REPEATS)],
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    # A runtime that is only imitated may not end well, so the last line decides.
    words = (ran.stderr.strip().splitlines() or [""])[-1].split()
    try:
        few_seconds, many_seconds = map(float, words)
    except ValueError:
        raise SystemExit(
            f"host.py: {code} failed:\n{ran.stdout[-1500:]}{ran.stderr[-1500:]}"
        ) from None
    few, many = (len(list(folder.iterdir())) for folder in folders)
    return 1000 * (many_seconds - few_seconds) / (many - few)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--before", type=Path, help="folder with another version of the code")
    parser.add_argument("--runtime", type=Path, help="library in place of the CUDA runtime")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--videos", type=int, default=40, help="of the long run")
    arguments = parser.parse_args()
    runtime = arguments.runtime.resolve() if arguments.runtime else None
    versions = {"now": ROOT} | ({"before": arguments.before.resolve()} if arguments.before else {})
    times: dict[str, list[float]] = {name: [] for name in versions}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        drawn = [work / f"clip{number}.mp4" for number in range(DIFFERENT_CLIPS)]
        for number, path in enumerate(drawn):
            draw_clip(path, number)
        folders = [
            folder_of_clips(work / f"videos{count}", drawn, count)
            for count in (FEW_VIDEOS, arguments.videos)
        ]
        for _ in range(arguments.rounds):
            for version, code in versions.items():
                times[version].append(milliseconds_per_video(code, runtime, folders))
                print(f"{version}: {times[version][-1]:.2f} ms per video", flush=True)
    for version, values in times.items():
        print(f"{version}: median {statistics.median(values):.2f} ms per video")
    if "before" in times:
        low, middle, high = np.percentile(np.divide(times["now"], times["before"]), [25, 50, 75])
        print(f"now / before: {middle:.2f} ({low:.2f} to {high:.2f})")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
