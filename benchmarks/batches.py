"""Measures how fast training batches are made, without a network.

    python benchmarks/batches.py [ROUNDS]

Compares a store in memory and a store that is streamed from disk (with checksums) with the usual
DataLoader, which reads one HDF5 dataset per item. An epoch has 2,048 videos x (25, 1024) float16 in
random order, in float32 batches of 32. All cases take turns in one process, with the files in the
page cache. Prints the median and the quartiles of the ratios.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import torch
from rows import Row, interleaved, ratios
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter
from reelbank.data.system.machine import cores
from reelbank.heads.recipe import Rule
from reelbank.heads.training.batches import Loaded, RowReading
from reelbank.heads.training.sequences import tables
from reelbank.heads.training.streaming import Streamed, open_features, views_of

VIDEOS, STEPS, FEATURES, BATCH = 2048, 25, 1024, 32
LIMIT = 10.0  # smallest acceptable ratio to each DataLoader


class PerItem(Dataset):
    """The usual data set: one HDF5 dataset per video, in a file that each worker opens once."""

    def __init__(self, path: Path, names: list[str]) -> None:
        self.path, self.names = path, names
        self.file: h5py.File | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, number: int) -> Tensor:
        if self.file is None:
            self.file = h5py.File(self.path)
        return torch.from_numpy(self.file[self.names[number]][:]).float()


def write(folder: Path, names: list[str]) -> None:
    """Write the same features as a store and as one dataset per video."""
    rng = np.random.default_rng(0)
    dataset = DatasetDescription(name="bench", classes=["a"], splits=["1"], coarse={})
    metas = [
        StoredVideo(id=name, label="a", group="", parts=["train"], source={}) for name in names
    ]
    with (
        StoreWriter(folder / "store.h5", {"stream": "rgb"}, dataset) as writer,
        h5py.File(folder / "each.h5", "w") as each,
    ):
        for meta in metas:
            values = rng.random((STEPS, FEATURES), np.float32).astype(np.float16)
            each[meta.id] = values
            writer.add(meta, values, np.arange(float(STEPS)))
        writer.finish(metas)


def measure(rounds: int) -> dict[str, list[float]]:
    """The seconds of each way in each round; the first round is not counted."""
    torch.set_num_threads(cores().value)
    with tempfile.TemporaryDirectory() as name:
        folder, names = Path(name), [f"v{number:05}" for number in range(VIDEOS)]
        write(folder, names)
        with Store.open(folder / "store.h5") as store:
            sources = {
                way: open_features([store], tuple(names), [RowReading()], read_from=way)
                for way in ("memory", "disk")
            }
            table, _ = tables(views_of(store, names, views=False), Rule(), names)

            def from_store(data: Loaded | Streamed) -> None:
                for _ in data.batches(table, torch.randperm(VIDEOS).split(BATCH)):
                    pass

            def from_loader(workers: int) -> Callable[[], None]:
                loader = DataLoader(
                    PerItem(folder / "each.h5", names), BATCH, shuffle=True, num_workers=workers
                )
                return lambda: [None for _ in loader] and None

            ways = {
                "store in memory": lambda: from_store(sources["memory"]),
                "store from disk": lambda: from_store(sources["disk"]),
            }
            ways |= {
                "DataLoader in the process": from_loader(0),
                "DataLoader, 2 workers": from_loader(2),
            }
            seconds = interleaved(ways, rounds + 1, time.perf_counter)
    return {way: values[1:] for way, values in seconds.items()}


def rows(rounds: int) -> list[Row]:
    """The rows of `benchmarks/bench.py`."""
    seconds = measure(rounds)
    on = f"{VIDEOS} videos x ({STEPS}, {FEATURES}) float16, batches of {BATCH}, wall time"
    return [
        Row(
            "training batches from memory",
            way,
            on,
            ratios(seconds, way, "store in memory"),
            f"at least {LIMIT:g}" if way.startswith("Data") else "",
        )
        for way in seconds
        if way != "store in memory"
    ]


def main(rounds: int = 7) -> int:
    """Print the table. Returns 1 if a ratio is below its limit, else 0."""
    table = rows(rounds)
    for row in table:
        print(row.line())
    return int(any(row.target and row.quartiles[1] < LIMIT for row in table))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
