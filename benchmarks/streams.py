"""Compares the extraction of three streams in one pass with three single passes.

    REELBANK_TESTDATA=... python benchmarks/streams.py [ROUNDS]

Measures wall and CPU seconds of whole commands that start with an empty bank. One pass should save
one decoding of the pictures, because rgb and flow need the same pictures, and two starts of the
program. Decoding and an empty start are therefore measured too. The last lines compare the joint pass
with the three single passes minus these savings.

REELBANK_TESTDATA is the folder that contains clips/ucf101. CLASSES selects some of its classes.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLASSES = os.environ.get("CLASSES", "SkyDiving")
COMMON = ["DATASET=ucf101", f"CLASSES={CLASSES}", "CROPS=1", "T=16", "FLOW=dis", "COMPILE=0"]
NETWORKS = {
    "rgb": ["EXTRACTOR=torchvision:resnet18", "WEIGHTS=random", "GRID=6", "RESIZE=128", "SIZE=112"],
    "flow": [
        "EXTRACTOR=torchvision:resnet18",
        "WEIGHTS=random",
        "CLIP=5",
        "RESIZE=128",
        "SIZE=112",
    ],
    "audio": ["EXTRACTOR=vggish", "WEIGHTS=random"],
}
TOGETHER = [
    "STREAM=rgb flow audio",
    "EXTRACTOR=rgb=torchvision:resnet18 flow=torchvision:resnet18 audio=vggish",
    "WEIGHTS=random",
    "CLIP=flow=5",
    "RESIZE=128",
    "SIZE=112",
]
DECODE = """
import sys
from pathlib import Path
from reelbank.data.datasets import load_dataset
from reelbank.data.video.frames import Reading
from reelbank.data.video.messages import Done, Frames
from reelbank.data.video.sampling import Sampling
from reelbank.data.video.pool import DecodePool
videos = load_dataset("ucf101", sys.argv[1], classes=sys.argv[2].split(",")).videos
select = Sampling(steps=16, grid_frames=6)
with DecodePool(1) as pool:
    done = 0
    for _, message in pool.run((v.id, v.path, Reading(select)) for v in videos):
        done += isinstance(message, Done)
        if isinstance(message, Frames):
            message.release()
    print(done)
"""


def timed(command: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of a command and its children."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr[-2000:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    root = os.environ.get("REELBANK_TESTDATA")
    if not root:
        sys.exit(
            "benchmarks/streams.py: set REELBANK_TESTDATA to the folder that contains clips/ucf101"
        )
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    clips = str(Path(root, "clips", "ucf101"))
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as bank:
            extract = [
                sys.executable,
                "-m",
                "reelbank",
                "extract",
                f"ROOT={clips}",
                f"BANK={bank}",
                *COMMON,
            ]
            for stream, words in NETWORKS.items():
                found.setdefault(stream, []).append(timed([*extract, f"STREAM={stream}", *words]))
                found.setdefault("start", []).append(
                    timed([*extract, f"STREAM={stream}", *words])
                )  # everything exists already
        with tempfile.TemporaryDirectory() as bank:
            extract = [
                sys.executable,
                "-m",
                "reelbank",
                "extract",
                f"ROOT={clips}",
                f"BANK={bank}",
                *COMMON,
            ]
            found.setdefault("together", []).append(timed([*extract, *TOGETHER]))
        found.setdefault("decoding", []).append(
            timed([sys.executable, "-c", DECODE, clips, CLASSES])
        )
        found.setdefault("empty", []).append(
            timed([sys.executable, "-c", "import reelbank.data.video.pool, reelbank.data.datasets"])
        )
    for kind, place in (("wall", 0), ("CPU", 1)):
        median = {
            name: statistics.median(pair[place] for pair in values)
            for name, values in found.items()
        }
        decoding = median["decoding"] - median["empty"]
        single = median["rgb"] + median["flow"] + median["audio"]
        parts = ", ".join(f"{name} {value:.2f}" for name, value in median.items())
        print(f"{kind} seconds (medians of {rounds}): {parts}")
        print(
            f"  three single passes {single:.2f}, one pass {median['together']:.2f}; one decoding {decoding:.2f}"
        )
        allowed = single - 0.9 * decoding
        print(
            f"  together / (three single - 0.9 decoding) {median['together'] / allowed:.3f}; required: at most 1"
        )
        print(
            f"  the same, minus two starts of the program: {median['together'] / (allowed - 2 * median['start']):.3f}"
        )


if __name__ == "__main__":
    main()
