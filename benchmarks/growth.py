"""Measures how the cost of a store grows with its number of videos.

    python benchmarks/growth.py [SIZES] [STEPS] [FOLDER]

    python benchmarks/growth.py 1000,10000,100000,1000000 write,resume,finish,open,read,add,again /tmp/growth

SIZES are numbers of videos (default 1000,10000), in ascending order. STEPS are some of:

    write    write all videos with StoreWriter, without finishing; also the cost of the last 1,000
    resume   open the unfinished store to go on writing: every byte of its parts is verified
    finish   make the finished store of what was written; without opening it, but for the memory
    direct   write a finished store as one file, without StoreWriter (instead of write and finish)
    open     open the finished store and read one video
    read     ask the finished store for the features and times of 100 videos
    add      add 10 videos to the finished store (StoreWriter, finish)
    again    the same command again, with nothing to do: the list of all videos is compared

Every video has 4 rows of 64 float16. Each step runs in a process of its own, and is measured from
after the imports: CPU seconds (user and system), bytes that its system calls read and wrote (rchar
and wchar of /proc/self/io: whether they were in the page cache makes no difference), and the
peak of its memory above the start. Prints a table, and for each step the fitted exponent of the CPU
time: 1 is linear, 0 is constant.
"""

import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from reelbank.data.store.records import DatasetDescription, StoredVideo

ROWS, DIMENSIONS = 4, 64
ADDED = 10
READ = 100
LAST = 1000  # videos that the cost "at that size" is measured on
CLASSES = tuple(f"class{number:03d}" for number in range(101))
DATASET = DatasetDescription("growth", CLASSES, ("1",))
RECIPE: dict[str, Any] = {"stream": "rgb", "extractor": "growth"}
DEFAULT_SIZES, DEFAULT_STEPS = "1000,10000", "write,resume,finish,open,read,add,again"


def video(number: int) -> StoredVideo:
    """Video `number`, with the facts that an extraction records."""
    label = CLASSES[number % len(CLASSES)]
    source = {
        "bytes": 100_000 + number,
        "modified": f"2026-01-01T00:00:{number % 60:02d}.{number:09d}",
        "digest": f"{number:032x}",
        "frames": 100 + number % 50,
        "fps": 25.0,
        "decoder": "pyav",
        "damage": "",
    }
    parts = ("train" if number % 4 else "test",)
    return StoredVideo(
        f"{label}/v_{label}_{number:09d}", label, f"g{number // 5}", parts, source=source
    )


def videos(first: int, last: int) -> list[StoredVideo]:
    """The videos `first` to `last` - 1."""
    return [video(number) for number in range(first, last)]


def values(number: int) -> np.ndarray:
    """(ROWS, DIMENSIONS) float16, cheap to make."""
    return np.full((ROWS, DIMENSIONS), number % 1000, np.float16)


TIMES_SECONDS = np.arange(ROWS) * 0.5


def write(path: Path, size: int) -> dict[str, float]:
    """All videos, not finished; the CPU time of the last ones."""
    from reelbank.data.store.writer import StoreWriter

    at_last = 0.0
    with StoreWriter(path, RECIPE, DATASET) as writer:
        for number in range(size):
            if number == size - LAST:
                at_last = time.process_time()
            writer.add(video(number), values(number), TIMES_SECONDS)
    return {"ms per video at this size": (time.process_time() - at_last) * 1000 / LAST}


def resume(path: Path, size: int) -> None:
    """Open an unfinished store to go on writing."""
    from reelbank.data.store.writer import StoreWriter

    with StoreWriter(path, RECIPE, DATASET) as writer:
        assert len(writer.done) == size


def finish(path: Path, size: int) -> dict[str, float]:
    """Make the finished store of what was written; how often each byte of it was read."""
    from reelbank.data.store.writer import StoreWriter

    listed = videos(0, size)
    start()
    before = _started[-1]["MB of memory now"]
    with StoreWriter(path, RECIPE, DATASET) as writer:
        parts_mb = (
            sum(file.stat().st_size for file in path.with_suffix(".parts").glob("*.h5")) / 1e6
        )
        start()
        assert writer.finish(listed)
    used = usage()
    read_mb, stored_mb = used["MB read"] - _started[-1]["MB read"], path.stat().st_size / 1e6
    return {
        "read per byte of the store": read_mb / stored_mb,
        "read per byte of the parts and the store": read_mb / (parts_mb + stored_mb),
        "MB of memory with opening": used["MB of memory"] - before,
    }


def direct(path: Path, size: int) -> None:
    """A finished store as one file."""
    from reelbank.data.store.file.about import About, VideoFacts, written_now
    from reelbank.data.store.file.format import checksum, write
    from reelbank.data.store.file.index import Index
    from reelbank.data.store.records import Cost
    from reelbank.data.store.versions import current_versions

    listed = videos(0, size)
    start()
    facts = VideoFacts([each.source for each in listed], [current_versions()] * size, failures={})
    index = Index(
        video_ids=[each.id for each in listed],
        labels=[each.label for each in listed],
        groups=[each.group for each in listed],
        parts=[each.parts for each in listed],
        offsets=np.arange(size + 1) * ROWS,
        times_seconds=np.tile(TIMES_SECONDS, size),
        views=np.zeros(size * ROWS, np.uint8),
        checksums=np.array([checksum(values(number)) for number in range(1000)], np.uint64)[
            np.arange(size) % 1000
        ],
        row_shape=(DIMENSIONS,),
        dtype=np.dtype("<f2"),
        about=About(RECIPE, DATASET, written_now(Cost(1.0))),
        facts=facts,
    )
    write(path, index, (values(number) for number in range(size)))


def open_store(path: Path, size: int) -> None:
    """Open the store and read one video."""
    from reelbank.data.store.reader import Store

    with Store.open(path) as store:
        assert len(store) >= size
        store.features(video(size // 2).id)


def read(path: Path, size: int) -> None:
    """Ask for the features and times of some videos, spread over the store."""
    from reelbank.data.store.reader import Store

    with Store.open(path) as store:
        for number in range(0, size, size // READ):
            video_id = video(number).id
            assert video_id in store and f"{video_id} absent" not in store
            rows, _ = store.features(video_id)
            assert (rows == number % 1000).all() and len(store.times_seconds(video_id)) == ROWS


def add(path: Path, size: int) -> None:
    """Add videos to the finished store."""
    from reelbank.data.store.reader import Store
    from reelbank.data.store.writer import StoreWriter

    with Store.open(path) as store:
        stored = len(store)
    listed = videos(stored, stored + ADDED)
    start()
    with StoreWriter(path, RECIPE, DATASET) as writer:
        for number, each in enumerate(listed, stored):
            writer.add(each, values(number), TIMES_SECONDS)
        assert writer.finish(listed)


def again(path: Path, size: int) -> None:
    """The same command again: nothing is new."""
    from reelbank.data.store.stored import FinishedStore

    listed = videos(0, size)
    start()
    store = FinishedStore.at(path, RECIPE, DATASET, listed)
    assert store is not None
    store.close()


STEPS: dict[str, Callable[[Path, int], dict[str, float] | None]] = {
    "write": write,
    "resume": resume,
    "finish": finish,
    "direct": direct,
    "open": open_store,
    "read": read,
    "add": add,
    "again": again,
}
_started: list[dict[str, float]] = []


def start() -> None:
    """Begin to measure here: what came before prepared the step."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak of the memory
    _started.append(usage())


def usage() -> dict[str, float]:
    """What this process has used until now: CPU seconds, MB read and written, memory in MB."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    io_bytes = dict(_numbers("/proc/self/io"))
    memory_kib = dict(_numbers("/proc/self/status"))
    return {
        "CPU s": used.ru_utime + used.ru_stime,
        "MB read": io_bytes["rchar"] / 1e6,
        "MB written": io_bytes["wchar"] / 1e6,
        "MB of memory now": memory_kib["VmRSS"] * 1024 / 1e6,
        "MB of memory": memory_kib["VmHWM"] * 1024 / 1e6,
    }


def _numbers(path: str) -> Iterator[tuple[str, int]]:
    for line in Path(path).read_text().splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if words and words[0].isdigit():
            yield name, int(words[0])


def run_step(name: str, path: Path, size: int) -> dict[str, float]:
    """One step in this process: what it used."""
    # Imports are not measured: the packages that any step needs.
    from reelbank.data.store import writer
    from reelbank.data.store.versions import current_versions

    assert writer
    current_versions()
    start()
    extra = STEPS[name](path, size) or {}
    used, before = usage(), _started[-1]
    figures = {key: used[key] - before[key] for key in ("CPU s", "MB read", "MB written")}
    return {**figures, "MB of memory": used["MB of memory"] - before["MB of memory now"], **extra}


def measured(name: str, path: Path, size: int) -> dict[str, float]:
    """One step in a process of its own."""
    command = [sys.executable, __file__, "--step", name, str(path), str(size)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main(sizes: str = DEFAULT_SIZES, steps: str = DEFAULT_STEPS, folder: str = "") -> None:
    """Measure and print the table."""
    seconds: dict[str, list[tuple[int, float]]] = {}
    with tempfile.TemporaryDirectory(dir=folder or None) as temporary:
        for size in map(int, sizes.split(",")):
            path = Path(temporary) / f"growth{size}.h5"
            for name in steps.split(","):
                figures = measured(name, path, size)
                text = ", ".join(f"{key} {value:,.3f}" for key, value in figures.items())
                print(f"{size:>9,} videos  {name:<7} {text}", flush=True)
                seconds.setdefault(name, []).append((size, figures["CPU s"]))
    for name, points in seconds.items():
        if len(points) > 1:
            print(f"{name}: CPU time grows with the exponent {exponent(points):.2f}")


def exponent(points: list[tuple[int, float]]) -> float:
    """The slope of log(seconds) over log(videos)."""
    logs = np.array([(math.log(size), math.log(max(used, 1e-4))) for size, used in points])
    return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        print(json.dumps(run_step(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))))
    else:
        main(*sys.argv[1:])
