"""Measures `duplicates` on a store of made vectors.

    python benchmarks/duplicates.py [VIDEOS] [LENGTH]

Writes a store of VIDEOS videos (100,000 by default) of one row of LENGTH numbers (512) around 200
centres, in which every tenth video is nearly the same as the one before it, and runs `duplicates` in
a process of its own. CPU is user and system time, and memory the largest resident size, both above
what the process needs until its modules are imported. The pairs of 1,000 of the videos are compared
with all cosines in float64.
"""

import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from reelbank.data.similarity.duplicates.command import duplicates_of
from reelbank.data.similarity.duplicates.options import DuplicatesOptions
from reelbank.data.similarity.duplicates.videos import compared_videos
from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription
from reelbank.data.store.videos import StoredVideos
from reelbank.data.store.whole import write_whole

CENTRES, CHECKED, AT_ONCE, BLOCK = 200, 1_000, 10_000, 100


def write_store(path: Path, videos: int, length: int) -> None:
    """Groups are unknown; every fifth video is tested."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CENTRES, length)).astype(np.float32)

    def pieces() -> Iterator[np.ndarray]:
        for first in range(0, videos, AT_ONCE):
            numbers = np.arange(first, min(videos, first + AT_ONCE))
            rows = centres[numbers % CENTRES] + rng.normal(size=(len(numbers), length))
            copies = np.flatnonzero(numbers % 10 == 9)
            rows[copies] = rows[copies - 1] + 0.2 * rng.normal(size=(len(copies), length))
            yield rows.astype(np.float16)

    path.parent.mkdir(parents=True)
    listed = StoredVideos(
        [f"v{number:07}" for number in range(videos)],
        ["made"] * videos,
        [""] * videos,
        [("test",) if number % 5 == 4 else ("train",) for number in range(videos)],
        [{"bytes": 1}] * videos,
    )
    write_whole(
        path,
        {"stream": "rgb"},
        DatasetDescription("made", ("made",), ("1",)),
        listed,
        pieces=pieces(),
        times_seconds=np.zeros(videos),
    )


def used() -> tuple[float, float]:
    """CPU seconds and the largest memory in MB of this process. The largest memory of getrusage
    includes that of the parent process when it started this one."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak_kb,) = (int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return usage.ru_utime + usage.ru_stime, peak_kb / 1024


def measure(bank: str) -> None:
    """Print what the command needs, as JSON. This runs in a process of its own."""
    seconds, megabytes = used()
    began = time.perf_counter()
    result = duplicates_of(DuplicatesOptions(bank=bank, out=str(Path(bank, "pairs.csv"))))
    after_seconds, after_megabytes = used()
    threshold = result.found.threshold
    assert threshold
    print(
        json.dumps(
            {
                "cpu_seconds": after_seconds - seconds,
                "wall_seconds": time.perf_counter() - began,
                "megabytes": after_megabytes - megabytes,
                "threshold": threshold.value,
                "pairs": result.found.tally.total,
            }
        )
    )


def found_pairs(path: Path, chosen: set[str]) -> set[tuple[str, str]]:
    """The pairs in the CSV with a chosen video."""
    with path.open(newline="") as file:
        rows = [(row["video_1"], row["video_2"]) for row in csv.DictReader(file)]
    return {pair for pair in rows if chosen.intersection(pair)}


def expected_pairs(path: Path, chosen: np.ndarray, threshold: float) -> set[tuple[str, str]]:
    """The pairs with a chosen video whose cosine is above the threshold, in float64."""
    with Store.open(path) as store:
        videos, vectors = compared_videos(store, "1")
    exact = vectors.astype(np.float64)
    pairs = set()
    for first in range(0, len(chosen), BLOCK):
        of_block = chosen[first : first + BLOCK]
        row, other = np.nonzero(exact[of_block] @ exact.T > threshold)
        for pair in zip(of_block[row].tolist(), other.tolist(), strict=True):
            if pair[0] != pair[1]:
                pairs.add((videos.ids[min(pair)], videos.ids[max(pair)]))
    return pairs


def main() -> None:
    """Write the store, measure the command, and compare."""
    sizes = [int(word) for word in sys.argv[1:]]
    videos, length = [*sizes, *(100_000, 512)[len(sizes) :]]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "stores", "made.h5")
        write_store(path, videos, length)
        print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        words = [sys.executable, __file__, "--measure", folder]
        answer = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        cost = json.loads(answer)
        print(
            f"{videos:,} x {length}: {cost['cpu_seconds']:.1f} CPU s, {cost['wall_seconds']:.1f} s, "
            f"{cost['megabytes']:.0f} MB, {cost['pairs']:,} pairs above {cost['threshold']:.4f}"
        )
        chosen = np.arange(8, videos, max(1, videos // CHECKED))[:CHECKED]  # each has a copy
        names = {f"v{number:07}" for number in chosen.tolist()}
        found = found_pairs(Path(folder, "pairs.csv"), names)
        expected = expected_pairs(path, chosen, cost["threshold"])
        print(f"equal to all cosines in float64: {found == expected} ({len(expected):,} pairs)")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(*sys.argv[2:])
    else:
        main()
