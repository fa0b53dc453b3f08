"""Measures `search` on a store of made vectors.

    python benchmarks/search.py [VIDEOS] [LENGTH]

Writes a store of VIDEOS videos (100,000 by default) of one row of LENGTH numbers (512), and searches
it for a video: the ten nearest videos, and the ten nearest moments. Each search runs in a process of
its own. CPU is user and system time, and memory the largest resident size, both above what the process
needs until its modules are imported. The results for 1,000 of the videos are compared with all
cosines in float64.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from reelbank.data.similarity.nearest import nearest
from reelbank.data.similarity.vectors import video_vectors
from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription
from reelbank.data.store.videos import StoredVideos
from reelbank.data.store.whole import write_whole
from reelbank.fusion.search.options import SearchOptions
from reelbank.fusion.search.search import search_store

COUNT, CHECKED, AT_ONCE = 10, 1_000, 10_000


def write_store(path: Path, videos: int, length: int) -> None:
    """Vectors around 200 centres."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(200, length)).astype(np.float32)

    def pieces():
        for first in range(0, videos, AT_ONCE):
            labels = np.arange(first, min(videos, first + AT_ONCE)) % len(centres)
            noise = rng.normal(size=(len(labels), length))
            yield (centres[labels] + noise).astype(np.float16)

    path.parent.mkdir(parents=True)
    listed = StoredVideos(
        [f"v{number:07}" for number in range(videos)],
        [""] * videos,
        [""] * videos,
        [()] * videos,
        [{"bytes": 1}] * videos,
    )
    dataset = DatasetDescription("made")
    write_whole(
        path, {"stream": "rgb"}, dataset, listed, pieces=pieces(), times_seconds=np.zeros(videos)
    )


def memory_mb(field: str) -> float:
    """VmRSS, the memory of this process, or VmHWM, the largest so far."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) / 1000


def measure(bank: str, video: str, moments: str) -> None:
    """Print what one search needs, as JSON. This runs in a process of its own."""
    options = SearchOptions(bank=bank, video=video, count=COUNT, moments=moments == "1")
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM to VmRSS
    began, before_mb = time.process_time(), memory_mb("VmRSS")
    result = search_store(options)
    seconds, megabytes = time.process_time() - began, memory_mb("VmHWM") - before_mb
    print(json.dumps([seconds, megabytes, [match.video for match in result.matches]]))


def main() -> None:
    sizes = [int(word) for word in sys.argv[1:]]
    videos, length = [*sizes, *(100_000, 512)[len(sizes) :]]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stores" / "made.h5"
        write_store(path, videos, length)
        for moments in ("0", "1"):
            words = [sys.executable, __file__, "--measure", folder, "v0000007", moments]
            answer = subprocess.run(words, check=True, capture_output=True, text=True).stdout
            seconds, megabytes, names = json.loads(answer)
            kind = "moments" if moments == "1" else "videos"
            print(f"{kind}: {seconds:.2f} CPU s, {megabytes:.0f} MB, nearest {names[0]}")
        with Store.open(path) as store:
            vectors = video_vectors(store).values
        chosen = np.arange(0, videos, max(1, videos // CHECKED))[:CHECKED]
        found = nearest(vectors, chosen, np.arange(videos), np.arange(videos), count=COUNT)
        exact = vectors[chosen].astype(np.float64) @ vectors.astype(np.float64).T
        exact[np.arange(len(chosen)), chosen] = -np.inf
        order = np.argsort(-exact, axis=1, kind="stable")[:, :COUNT]
        print(f"equal to all cosines in float64: {(found.numbers == order).all()}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(*sys.argv[2:])
    else:
        main()
