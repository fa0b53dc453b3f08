"""Measures the CPU time of the main process of `extract` for each video, for a network on a GPU.

    python benchmarks/host.py [--before FOLDER] [--runtime LIBRARY] [--rounds 8] [--videos 132]

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
processes. Each version runs in one process for all rounds, and its first run, which loads the
libraries, does not count. A round is a run of few and a run of many videos of each version. The
difference of the two is the time of the further videos: planning, starting decode processes and
pinning their memory are in both. 128 further videos are whole parts of the store, whose commits
count for as many videos as they hold. There is no progress bar and no commit after some seconds,
because a slow or busy machine would have more of them for each video.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from gpu import draw_clip, folder_of_clips

ROOT = Path(__file__).resolve().parent.parent
DIFFERENT_CLIPS, FEW_VIDEOS = 4, 4
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
import os, shutil, sys, time
import reelbank

for line in sys.stdin:
    begin = time.process_time()
    assert reelbank.main([
        "extract", "DATASET=folder", f"ROOT={line.strip()}", "BANK=bank", "EXTRACTOR=empty.py:build",
        "CROPS=10", "T=25", "BATCH=250", "COMPILE=0", "DEVICE=cuda", "WORKERS=1", "PART_SECONDS=3600",
    ]) == 0
    os.write(int(sys.argv[1]), f"{time.process_time() - begin}\\n".encode())
    shutil.rmtree("bank")
"""


class Version:
    """A process that extracts with one version of the code, in the folder `work`."""

    def __init__(self, code: Path, runtime: Path | None, work: Path) -> None:
        environment = os.environ | {
            "PYTHONPATH": str(code),
            "OMP_NUM_THREADS": "1",
            "TQDM_DISABLE": "1",
        }
        if runtime is not None:
            environment |= {
                "LD_PRELOAD": str(runtime),
                "LD_LIBRARY_PATH": str(runtime.parent),
                "FAKECUDA_POISON": "0",
                "FAKECUDA_NOCOPY": "1",
            }
        work.mkdir()
        (work / "empty.py").write_text(NETWORK)
        self._log = work / "log.txt"
        answers, write_end = os.pipe()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", MEASURED, str(write_end)],
                cwd=work,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=[write_end],
                text=True,
            )
        os.close(write_end)
        self._answers = os.fdopen(answers)

    def seconds(self, folder: Path) -> float:
        """CPU time of the main process for all videos of a folder."""
        assert self._process.stdin
        print(folder, file=self._process.stdin, flush=True)
        answer = self._answers.readline()
        if not answer:
            raise SystemExit(f"host.py: an extraction failed:\n{self._log.read_text()[-3000:]}")
        return float(answer)

    def milliseconds_per_video(self, few: Path, many: Path) -> float:
        """CPU time of the main process for each video that `many` has more than `few`."""
        further = len(list(many.iterdir())) - len(list(few.iterdir()))
        few_seconds = self.seconds(few)
        return 1000 * (self.seconds(many) - few_seconds) / further

    def end(self) -> None:
        """End the process."""
        self._process.kill()  # with an imitated runtime, it may not end well by itself
        self._process.communicate()
        self._answers.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--before", type=Path, help="folder with another version of the code")
    parser.add_argument("--runtime", type=Path, help="library in place of the CUDA runtime")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--videos", type=int, default=132, help="of the long run")
    arguments = parser.parse_args()
    runtime = arguments.runtime.resolve() if arguments.runtime else None
    codes = {"now": ROOT} | ({"before": arguments.before.resolve()} if arguments.before else {})
    times: dict[str, list[float]] = {name: [] for name in codes}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as closing:
        work = Path(folder)
        drawn = [work / f"clip{number}.mp4" for number in range(DIFFERENT_CLIPS)]
        for number, path in enumerate(drawn):
            draw_clip(path, number)
        few, many = (
            folder_of_clips(work / f"videos{count}", drawn, count)
            for count in (FEW_VIDEOS, arguments.videos)
        )
        versions = {name: Version(code, runtime, work / name) for name, code in codes.items()}
        for version in versions.values():
            closing.callback(version.end)
            version.seconds(few)  # loads libraries
        for _ in range(arguments.rounds):
            for name, version in versions.items():
                times[name].append(version.milliseconds_per_video(few, many))
                print(f"{name}: {times[name][-1]:.2f} ms per video", flush=True)
    for name, values in times.items():
        print(f"{name}: median {statistics.median(values):.2f} ms per video")
    if "before" in times:
        low, middle, high = np.percentile(np.divide(times["now"], times["before"]), [25, 50, 75])
        print(f"now / before: {middle:.2f} ({low:.2f} to {high:.2f})")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
