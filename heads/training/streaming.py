"""Features of stores that are larger than memory. The next batches are read from the store while
one is processed."""

from __future__ import annotations

import copy
import math
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reelbank.data.console import print_lines
from reelbank.data.positions import positions
from reelbank.data.store.reader import Store
from reelbank.data.store.rows import check_finite
from reelbank.data.system.machine import SHARED_MEMORY, Limit, available_memory
from reelbank.heads.training.batches import (
    Loaded,
    RowReading,
    in_chunks,
    loaded,
    means_of_videos,
)
from reelbank.heads.training.sequences import Table

AHEAD = 2  # number of batches read while one is processed


class Streamed:
    """Features that are read from one store, or row by row from several. The class has the members
    of `batches.Loaded` and returns bit-identical batches.

    Memory holds three batches and one video. A video's checksum is verified whenever it is read.
    Pickling stores only the stores' paths; unpickling opens the stores again.
    """

    def __init__(
        self,
        stores: Sequence[Store],
        ids: tuple[str, ...],
        readings: Sequence[RowReading],
        views: bool,
        crops: bool,
    ) -> None:
        self.stores = tuple(stores)
        self.ids = ids
        self.readings = tuple(readings)
        self.views = views
        self.crops = crops
        self.device = torch.device("cpu")
        self._last: tuple[int, np.ndarray] = (-1, np.empty(0))
        self.row_shape: tuple[int, ...] = self._video(0).shape[1 + crops :]

    def __reduce__(self) -> tuple[Callable[..., Streamed], tuple[Any, ...]]:
        return _reopened, (
            tuple(store.path for store in self.stores),
            self.ids,
            self.readings,
            self.views,
            self.crops,
        )

    def to(self, device: torch.device) -> Streamed:
        moved = copy.copy(self)
        moved.device = device
        return moved

    def batches(self, table: Table, groups: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        cpu_table = table.to(torch.device("cpu"))
        reader = ThreadPoolExecutor(1, thread_name_prefix="reelbank-read")
        reading: deque[Future[tuple[np.ndarray, np.ndarray]]] = deque()
        try:
            for numbers in groups:
                reading.append(reader.submit(self._read, cpu_table, numbers.tolist()))
                if len(reading) > AHEAD:
                    yield self._on_device(reading.popleft().result())
            while reading:
                yield self._on_device(reading.popleft().result())
        finally:
            reader.shutdown(cancel_futures=True)

    def video_means(self, row_counts: Sequence[int]) -> np.ndarray:
        videos = (self._video(number)[:count] for number, count in enumerate(row_counts))
        return means_of_videos(videos, len(self.ids), self.row_shape)

    def row_chunks(self, table: Table, numbers: Tensor) -> Iterator[np.ndarray]:
        cpu_table = table.to(torch.device("cpu"))
        for chunk in in_chunks(numbers, table.lengths, self.row_shape):
            yield np.concatenate([self._sequence(cpu_table, number) for number in chunk.tolist()])

    def _on_device(self, read: tuple[np.ndarray, np.ndarray]) -> tuple[Tensor, Tensor]:
        x, lengths = (torch.from_numpy(array).to(self.device) for array in read)
        return x.float(), lengths

    def _read(self, table: Table, numbers: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """x (N, T, *row) as in the store, padded with zeros, and lengths (N,)."""
        lengths = table.lengths[numbers].numpy()
        x = np.empty(0)
        for place, number in enumerate(numbers):
            values = self._sequence(table, number)
            if not place:
                x = np.zeros((len(numbers), lengths.max(), *values.shape[1:]), values.dtype)
            x[place, : len(values)] = values
        return x, lengths

    def _sequence(self, table: Table, number: int) -> np.ndarray:
        video, length = int(table.video[number]), int(table.lengths[number])
        values = self._video(video)[table.rows[number, :length].numpy()]  # (K, ...) -> (T, ...)
        return values[:, int(table.crop[number])] if self.crops else values

    def _video(self, video: int) -> np.ndarray:
        """All rows of a video. The rows of the last video are kept in memory, because the sequences
        of one video are consecutive."""
        kept, values = self._last
        if kept == video:
            return values
        values = read_rows(self.stores, (self.ids[video],), self.readings, self.views)[0]
        check_finite(self.ids[video], values)
        self._last = video, values
        return values


def _reopened(
    paths: tuple[Path, ...],
    ids: tuple[str, ...],
    readings: tuple[RowReading, ...],
    views: bool,
    crops: bool,
) -> Streamed:
    return Streamed([Store.open(path) for path in paths], ids, readings, views, crops)


def read_rows(
    stores: Sequence[Store], ids: Sequence[str], readings: Sequence[RowReading], views: bool
) -> tuple[np.ndarray, np.ndarray]:
    """All rows of these videos as values (R, ...) and offsets (V + 1,). Several stores are
    concatenated along the last axis."""
    offsets = np.zeros(1, np.int64)
    of_stores = []
    for store, reading in zip(stores, readings, strict=True):
        values, offsets = (store.load_views(ids) if views else store.load(ids))[:2]
        of_stores.append(reading(values))
        del values
    joined = of_stores[0] if len(of_stores) == 1 else np.concatenate(of_stores, axis=-1)
    return joined, offsets


def open_features(
    stores: Sequence[Store],
    ids: tuple[str, ...],
    readings: Sequence[RowReading],
    *,
    views: bool = False,
    crops: bool = False,
    read_from: str = "auto",
    device: str = "cpu",
    workers: int = 1,
) -> Loaded | Streamed:
    """The rows of these videos, in memory on the CPU or streamed. The rows of each store are
    reduced by its reading. views: include augmented views; crops: keep crops separate.

    auto streams if the rows do not fit in the memory of the machine or of the device, and prints a
    note.
    """
    too_much = ""
    if read_from == "auto":
        wanted_bytes = sum(needed_bytes(store, ids, views) for store in stores)
        gpu = None
        if device.startswith("cuda"):
            gpu = Limit(torch.cuda.mem_get_info(device)[0], "memory of the GPU")
        too_much = excess(wanted_bytes, available_memory(), gpu, workers=workers)
        if not too_much and workers > 1 and not sharing_folder(wanted_bytes):
            too_much = (
                f", which is more than fits into {' or '.join(_sharing_folders())}, where "
                "the processes would share them"
            )
        if too_much:
            print_lines(
                f"note: the features need {_gibibytes(wanted_bytes)}{too_much}, so they are read "
                "from disk during training"
            )
    if too_much or read_from == "disk":
        return Streamed(stores, ids, readings, views, crops)
    return loaded(ids, *read_rows(stores, ids, readings, views), crops)


def excess(wanted_bytes: int, free: Limit, gpu: Limit | None = None, *, workers: int = 1) -> str:
    """Why rows of `wanted_bytes` are too large for the free memory, as the end of a sentence, or ""
    if they fit. gpu: the free memory of the GPU that is used, if one is used.

    They may fill half of the memory. The rest is for the arrays that the rows are concatenated
    from, for networks and for batches. With several workers they may fill a third of the machine's
    memory, because the workers share a second copy. On a GPU each worker has its own copy, and all
    copies together may fill half of its memory.
    """
    if wanted_bytes > free.value // (2 if workers == 1 else 3):
        share = "half" if workers == 1 else "a third"
        return (
            f", which is more than {share} of the {_gibibytes(free.value)} that are free "
            f"({free.source})"
        )
    if gpu and wanted_bytes * workers > gpu.value // 2:
        copies = "" if workers == 1 else f" on the GPU for each of {workers} processes"
        return (
            f"{copies}, which is more than half of the {_gibibytes(gpu.value)} that are free "
            f"({gpu.source})"
        )
    return ""


def sharing_folder(size_bytes: int) -> str:
    """The folder where joblib can write arrays of this size for its processes to map. It is shared
    memory, or the folder of temporary files if shared memory is too small (64 MiB in a Docker
    container), or "" if neither has room. By default joblib uses shared memory whenever 2 GB of it
    are free, whatever the size of the arrays."""
    for name in _sharing_folders():
        folder = Path(name).absolute()
        # joblib creates missing folders.
        place = next(parent for parent in (folder, *folder.parents) if parent.exists())
        if shutil.disk_usage(place).free > size_bytes and os.access(place, os.W_OK):
            return name
    return ""


def _sharing_folders() -> list[str]:
    chosen = os.environ.get("JOBLIB_TEMP_FOLDER")
    return [chosen] if chosen else [SHARED_MEMORY, tempfile.gettempdir()]


def _gibibytes(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"


def needed_bytes(store: Store, ids: tuple[str, ...], views: bool) -> int:
    """The size in bytes of these videos' rows with all crops, as in the store."""
    counts = store.all_rows if views else store.rows
    rows = int(counts[positions(ids, store.video_ids)].sum())
    return rows * store.dtype.itemsize * math.prod(store.row_shape)


def views_of(store: Store, ids: Sequence[str], *, views: bool) -> Iterator[np.ndarray | int]:
    """For each video the view of each row, (K,) uint8, or K if all are clean; features are not read.
    views: include augmented rows."""
    if views:
        return (store.views(name) for name in ids)
    return iter(store.rows[positions(ids, store.video_ids)].tolist())
