"""Feature sequences of stores larger than memory: batches are read from the store while the one before is worked on."""

from __future__ import annotations

import copy
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reelbank.data.store import Store
from reelbank.heads.batches import Sequences, check_finite, in_chunks, mean_of_crops, sequences, taken_rows

READ_FROM = ("auto", "memory", "disk")
AHEAD = 2  # batches read while one is worked on


class Streamed:
    """Sequences that lie in the store: the members of `batches.Sequences`, the same batches to the bit.

    Memory holds three batches and one video. A video's checksum is looked at whenever it is read. Pickled it is the
    store's path: whoever unpickles it opens the store anew.
    """

    def __init__(self, store: Store, ids: tuple[str, ...], steps: int | None = None, views: bool = False) -> None:
        self.store, self.ids, self.steps, self.views = store, ids, steps, views
        self.device = torch.device("cpu")
        self._taken = taken_rows((_views_of(store, name, views) for name in ids), steps)
        self.lengths = torch.tensor([len(rows) for _, rows in self._taken])
        self.video = torch.tensor([video for video, _ in self._taken])
        clean = zip(ids, self._taken, strict=False)  # the first V sequences
        self.times_seconds = np.array([store.times_seconds(name)[rows].mean() for name, (_, rows) in clean])
        self._crops_kept = bool(store.recipe.get("crops_kept"))
        self._row_values = math.prod(store.row_shape[1:] if self._crops_kept else store.row_shape)

    def __reduce__(self) -> tuple[Callable[..., Streamed], tuple[Path, tuple[str, ...], int | None, bool]]:
        return _reopened, (self.store.path, self.ids, self.steps, self.views)

    @property
    def longest_bytes(self) -> int:
        return int(self.lengths.max()) * self._row_values * 4

    def to(self, device: torch.device) -> Streamed:
        moved = copy.copy(self)
        moved.device, moved.lengths, moved.video = device, self.lengths.to(device), self.video.to(device)
        return moved

    def batch(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        return self._on_device(self._read(numbers.tolist()))

    def batches(self, groups: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        reader = ThreadPoolExecutor(1, thread_name_prefix="reelbank-read")
        reading: deque[Future[tuple[np.ndarray, np.ndarray]]] = deque()
        try:
            for numbers in groups:
                reading.append(reader.submit(self._read, numbers.tolist()))
                if len(reading) > AHEAD:
                    yield self._on_device(reading.popleft().result())
            while reading:
                yield self._on_device(reading.popleft().result())
        finally:
            reader.shutdown(cancel_futures=True)

    def row_chunks(self, numbers: Tensor) -> Iterator[np.ndarray]:
        for some in in_chunks(numbers, self.lengths, self._row_values):
            yield np.concatenate([self._sequence(number) for number in some.tolist()])

    def _on_device(self, read: tuple[np.ndarray, np.ndarray]) -> tuple[Tensor, Tensor]:
        x, lengths = (torch.from_numpy(array).to(self.device) for array in read)
        return x.float(), lengths

    def _read(self, numbers: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """x (N, T, *row) as the store has it, zeros after each end; lengths (N,)."""
        lengths = np.array([len(self._taken[number][1]) for number in numbers], np.int64)
        x = np.empty(0)
        for place, number in enumerate(numbers):
            values = self._sequence(number)
            if not place:
                x = np.zeros((len(numbers), lengths.max(), *values.shape[1:]), values.dtype)
            x[place, : len(values)] = values
        return x, lengths

    def _sequence(self, number: int) -> np.ndarray:
        video, rows = self._taken[number]
        name = self.ids[video]
        values = self.store.load_views([name])[0] if self.views else self.store.load([name])[0]
        values = values[rows]  # (K, ...) -> (T, ...)
        if self._crops_kept:
            values = mean_of_crops(values)
        check_finite(name, values)
        return values


def _reopened(path: Path, ids: tuple[str, ...], steps: int | None, views: bool) -> Streamed:
    return Streamed(Store.open(path), ids, steps, views)


def open_sequences(
    store: Store, ids: tuple[str, ...], steps: int | None, views: bool = False, read_from: str = "auto", device: str = "cpu"
) -> Sequences | Streamed:
    """The sequences of these videos, `views`: of their augmented views too; in memory on the CPU, or streamed.

    auto streams when the rows need more than half of the memory that is free now, here or on the device, and says so.
    """
    wanted_bytes = needed_bytes(store, ids, views)
    free_bytes = available_bytes()
    if device == "cuda":
        free_bytes = min(free_bytes, torch.cuda.mem_get_info()[0])
    if is_streamed(read_from, wanted_bytes, free_bytes):
        if read_from == "auto":
            sizes = (
                f"{wanted_bytes / 2**30:.1f} GiB, more than half of the {free_bytes / 2**30:.1f} GiB of memory that are free"
            )
            print(f"note: the features are {sizes}: they are read from disk again and again")
        return Streamed(store, ids, steps, views)
    if views:
        values, offsets, times_seconds, marks = store.load_views(ids)
    else:
        (values, offsets, times_seconds), marks = store.load(ids), None
    return sequences(ids, values, offsets, times_seconds, marks, steps, bool(store.recipe.get("crops_kept")))


def is_streamed(read_from: str, wanted_bytes: int, free_bytes: int) -> bool:
    """Whether rows of `wanted_bytes` are read from disk; read_from: one of READ_FROM."""
    return read_from == "disk" or (read_from == "auto" and wanted_bytes > free_bytes // 2)


def needed_bytes(store: Store, ids: tuple[str, ...], views: bool) -> int:
    """Bytes of these videos' rows, all crops, as the store has them."""
    rows = sum(len(_views_of(store, name, views)) for name in ids)
    return rows * store.dtype.itemsize * math.prod(store.row_shape)


def available_bytes() -> int:
    """Memory that is free now, or can be freed: MemAvailable of Linux; elsewhere what the system calls free, or all it has."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
    return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")


def _views_of(store: Store, video_id: str, views: bool) -> np.ndarray:
    """The view of each row that is wanted, (K,) uint8, without reading features."""
    if views:
        return store.views(video_id)
    return np.zeros(len(store.times_seconds(video_id)), np.uint8)
