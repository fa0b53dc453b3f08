"""Snippets of videos out of a pixel store: rows drawn segment by segment, read from disk while the network works."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reelbank.data.clips import segments as middles
from reelbank.data.store import Store
from reelbank.heads.augment import Box, boxes, centre

AHEAD = 2  # batches that are read while one is worked on: memory holds three


@dataclass(frozen=True)
class Batch:
    """N videos of a batch, by number in a part, and what is taken of each: rows (N, S) and one box a video."""

    videos: np.ndarray
    rows: np.ndarray
    boxes: list[Box]


@dataclass(frozen=True)
class Crops:
    """How pictures of (height, width) `picture_px` are cut to `crop_px`, and whether at random in training."""

    picture_px: tuple[int, int]
    crop_px: tuple[int, int]
    jitter: bool
    flip: bool


def random_rows(rng: np.random.Generator, rows: int, segments: int) -> np.ndarray:
    """One random row of each of S equal parts of a video's rows (TSN paper, 3.1), (S,) int64; parts of fewer than one row
    repeat it."""
    edges = np.arange(segments + 1) * rows // segments  # (S + 1,)
    return rng.integers(edges[:-1], np.maximum(edges[1:], edges[:-1] + 1))


def training_batches(rng: np.random.Generator, rows: np.ndarray, segments: int, batch: int, crops: Crops) -> Iterator[Batch]:
    """All V videos once, in an order, with rows and boxes drawn from `rng`. rows: (V,) how many each video has.

    Batches differ in size by one at most, so that none has a single video where others have many (batch norm).
    """
    order = rng.permutation(len(rows))
    for videos in np.array_split(order, -(-len(order) // batch)):
        chosen = np.stack([random_rows(rng, int(rows[video]), segments) for video in videos])
        yield Batch(videos, chosen, boxes(rng, len(videos), crops.picture_px, crops.crop_px, crops.jitter, crops.flip))


def fixed_batches(rows: np.ndarray, segments: int, batch: int, crops: Crops) -> Iterator[Batch]:
    """All V videos in order, the middle row of each part and the centre crop."""
    box = centre(crops.picture_px, crops.crop_px)
    for videos in np.array_split(np.arange(len(rows)), -(-len(rows) // batch)):
        yield Batch(videos, np.stack([middles(int(rows[video]), segments) for video in videos]), [box] * len(videos))


def read_ahead(store: Store, ids: list[str], batches: Iterable[Batch], workers: int) -> Iterator[tuple[Batch, Tensor]]:
    """Each batch with its pixels (N, S, C, [s,] H, W) uint8, videos read by `workers` threads, AHEAD batches before their turn.

    ids: the part's videos, that batches number. Raises InputError for a damaged video."""
    with ThreadPoolExecutor(max(1, workers), "reelbank-read") as readers:
        waiting: deque = deque()
        try:
            for batch in batches:
                jobs = zip(batch.videos.tolist(), batch.rows, strict=True)
                waiting.append((batch, [readers.submit(_read, store, ids[video], rows) for video, rows in jobs]))
                if len(waiting) > AHEAD:
                    yield _read_now(*waiting.popleft())
            while waiting:
                yield _read_now(*waiting.popleft())
        finally:
            readers.shutdown(wait=True, cancel_futures=True)


def _read(store: Store, video_id: str, rows: np.ndarray) -> np.ndarray:
    return store.features(video_id)[0][rows]  # (K, C, [s,] H, W) -> (S, C, [s,] H, W)


def _read_now(batch: Batch, reading: list) -> tuple[Batch, Tensor]:
    return batch, torch.from_numpy(np.stack([one.result() for one in reading]))
