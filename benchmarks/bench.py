"""Prints one table: Reelbank compared with other tools, with the bare network and with plain reads,
and how the cost of a store grows. `make bench` runs it.

    REELBANK_TESTDATA=... VIDEO_FEATURES=<checkout> OMP_NUM_THREADS=1 python benchmarks/bench.py [PART ...]

PART: decoding, network, peers, batches, loading or growth (default: all). REELBANK_TESTDATA is the
folder that contains clips/ucf101; parts that need it are left out without it, as is `peers` without
VIDEO_FEATURES (see peers.py), and a line says so. ROUNDS, VIDEOS, STEPS (see extraction.py) and
LONG_FRAMES (frames of the long file, default 15000) set the length.

All cases of a part take turns in one run on one machine. A ratio is the median over the rounds, with
its quartiles. Every row is appended to benchmarks/bench.csv, with the date, the machine and the
versions.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import batches
import decoders
import extraction
import growth
import peers
import store_load
from rows import Row, about_machine, append

CSV = Path(__file__).parent / "bench.csv"
SIZES = (1000, 3000, 10_000)
ROUNDS = int(os.environ.get("ROUNDS", "3"))
TESTDATA, CHECKOUT = os.environ.get("REELBANK_TESTDATA"), os.environ.get("VIDEO_FEATURES")
NETWORKS = ("torchvision:resnet50", "torchvision:r2plus1d_18", "i3d")


def decoding() -> list[Row]:
    if not TESTDATA:
        return left_out("decoding", "REELBANK_TESTDATA")
    frames = int(os.environ.get("LONG_FRAMES", "15000"))
    return decoders.rows(Path(TESTDATA, "clips", "ucf101"), ROUNDS, frames)


def network() -> list[Row]:
    if not TESTDATA:
        return left_out("network", "REELBANK_TESTDATA")
    table = []
    for name in NETWORKS:
        table += extraction.rows(name, extraction.clips(), ROUNDS)
    return table


def video_features() -> list[Row]:
    if not TESTDATA or not CHECKOUT:
        return left_out("peers", "VIDEO_FEATURES" if TESTDATA else "REELBANK_TESTDATA")
    return peers.rows(peers.CASES, extraction.clips(), Path(CHECKOUT), ROUNDS)


def store_growth() -> list[Row]:
    """The exponents of CPU time: 1 is linear, 0 is constant."""
    points: dict[str, list[tuple[int, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            for step in growth.DEFAULT_STEPS.split(","):
                figures = growth.measured(step, Path(folder) / f"growth{size}.h5", size)
                points.setdefault(step, []).append((size, figures["CPU s"]))
    on = f"stores of {', '.join(f'{size:,}' for size in SIZES)} videos"
    return [
        Row("growth of a store, exponent of CPU time", step, on, [growth.exponent(measured)])
        for step, measured in points.items()
    ]


def left_out(part: str, variable: str) -> list[Row]:
    """No rows, and a line that says why."""
    print(f"left out: {part}, because {variable} is not set")
    return []


PARTS: dict[str, Callable[[], list[Row]]] = {
    "decoding": decoding,
    "network": network,
    "peers": video_features,
    "batches": lambda: batches.rows(ROUNDS),
    "loading": lambda: store_load.rows(2000, ROUNDS),
    "growth": store_growth,
}


def main() -> None:
    names = sys.argv[1:] or list(PARTS)
    if not set(names) <= set(PARTS):
        sys.exit(__doc__)
    about = about_machine()
    table = []
    for name in names:
        part = PARTS[name]()
        append(CSV, part, about)  # what was measured is kept if a later part fails
        table += part
    print()
    for name, text in about.items():
        print(f"{name}: {text}")
    print(
        "\nTime of the other / time of Reelbank: median (quartiles). Above 1, Reelbank is faster. "
        "Rows of growth are exponents.\n"
    )
    for row in table:
        print(row.line())


if __name__ == "__main__":
    main()
