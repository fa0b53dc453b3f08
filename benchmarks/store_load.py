"""Measures how fast a feature store is loaded, compared with other file layouts.

    python benchmarks/store_load.py [VIDEOS] [ROUNDS]

The store has 2,000 videos x (25, 2048) float16 (205 MB). Its time includes opening it and verifying
all checksums. It is compared with a plain NumPy read of the same bytes, with one HDF5 dataset per
video, and with one .npy per video. All cases take turns in one process, with the files in the page
cache. Prints medians and quartiles.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from rows import Row, interleaved, ratios

from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter

ROWS, DIMENSIONS = 25, 2048
PLAIN = "plain numpy read"
LIMIT = 1.5  # largest acceptable ratio to the plain read


def write_layouts(folder: Path, videos: int) -> dict[str, Callable[[], np.ndarray]]:
    """Write the same features in each layout. Returns for each layout a function that reads all of
    them, (V * 25, 2048) float16."""
    rng = np.random.default_rng(0)
    values = rng.random((videos * ROWS, DIMENSIONS), np.float32).astype(np.float16)
    ids = [f"class{number % 101:03d}/video{number:05d}" for number in range(videos)]
    values.tofile(folder / "plain.bin")
    dataset = DatasetDescription(name="bench", classes=[], splits=[], coarse={})
    metas = [
        StoredVideo(id=v, label="", group="", parts=[], source={"bytes": 1, "frames": 100})
        for v in ids
    ]
    with StoreWriter(folder / "store.h5", {"extractor": "bench"}, dataset) as writer:
        for number, meta in enumerate(metas):
            writer.add(meta, values[number * ROWS : (number + 1) * ROWS], np.arange(ROWS))
        writer.finish(metas)
    (folder / "npy").mkdir()
    with h5py.File(folder / "each.h5", "w") as file:
        for number, name in enumerate(ids):
            file[name] = values[number * ROWS : (number + 1) * ROWS]
            np.save(
                folder / "npy" / f"{number:05d}.npy", values[number * ROWS : (number + 1) * ROWS]
            )

    def read_store() -> np.ndarray:
        with Store.open(folder / "store.h5") as store:
            return store.load()[0]

    def read_each() -> np.ndarray:
        with h5py.File(folder / "each.h5") as file:
            return np.concatenate([file[name][:] for name in ids])

    def read_npy() -> np.ndarray:
        return np.concatenate(
            [np.load(folder / "npy" / f"{number:05d}.npy") for number in range(videos)]
        )

    def read_plain() -> np.ndarray:
        return np.fromfile(folder / "plain.bin", np.float16).reshape(-1, DIMENSIONS)

    readers = {
        PLAIN: read_plain,
        "store": read_store,
        "HDF5, dataset per video": read_each,
        "npy per video": read_npy,
    }
    for name, read in readers.items():  # also brings the files into the page cache
        if not np.array_equal(read(), values):
            raise SystemExit(
                f"{name}: the features that were read differ from those that were written"
            )
    return readers


def rows(videos: int, rounds: int) -> list[Row]:
    """The rows of `benchmarks/bench.py`."""
    with tempfile.TemporaryDirectory() as folder:
        readers = write_layouts(Path(folder), videos)
        seconds = interleaved(readers, rounds, time.perf_counter)
    on = f"{videos} videos x ({ROWS}, {DIMENSIONS}) float16, wall time"
    return [
        Row(
            "loading a store, checked",
            way,
            on,
            ratios(seconds, way, "store"),
            f"at least {1 / LIMIT:.2f}" if way == PLAIN else "",
        )
        for way in readers
        if way != "store"
    ]


def main(videos: int = 2000, rounds: int = 9) -> int:
    """Print the table. Returns 1 if the store takes more than `LIMIT` times the plain read, else 0."""
    table = rows(videos, rounds)
    for row in table:
        print(row.line())
    return int(any(row.peer == PLAIN and row.quartiles[1] < 1 / LIMIT for row in table))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
