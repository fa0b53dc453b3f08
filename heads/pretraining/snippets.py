"""Snippets of videos from a pixel store. One row is drawn per segment. Snippets are read from disk
while the network computes."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reelbank.data.store.reader import Store
from reelbank.data.video.clips import segments as middles
from reelbank.extract.pipeline.boxes import Box, boxes, centre

AHEAD = 2  # number of batches read while another is computed, so three are in memory


@dataclass(frozen=True)
class SnippetBatch:
    """The N videos of a batch as numbers in a part, with the rows (N, S) and the box of each
    video."""

    videos: np.ndarray
    rows: np.ndarray
    boxes: list[Box]


@dataclass(frozen=True)
class Crops:
    """How pictures of (height, width) `picture_px` are cropped to `crop_px`, and whether crops are
    jittered and flipped at random in training."""

    picture_px: tuple[int, int]
    crop_px: tuple[int, int]
    jitter: bool
    flip: bool


def random_rows(rng: np.random.Generator, rows: int, segments: int) -> np.ndarray:
    """One random row of each of S equal parts of a video's rows (TSN paper, 3.1), (S,) int64. If
    there are fewer rows than parts, rows are repeated."""
    edges = np.arange(segments + 1) * rows // segments  # (S + 1,)
    return rng.integers(edges[:-1], np.maximum(edges[1:], edges[:-1] + 1))


def training_batches(
    rng: np.random.Generator, rows: np.ndarray, segments: int, batch: int, crops: Crops
) -> Iterator[SnippetBatch]:
    """All V videos once, with order, rows and boxes drawn from `rng`. rows: (V,), the number of
    rows of each video.

    Batch sizes differ by at most one, so that no batch has a single video where others have many
    (batch norm).
    """
    order = rng.permutation(len(rows))
    for videos in np.array_split(order, -(-len(order) // batch)):
        chosen = np.stack([random_rows(rng, int(rows[video]), segments) for video in videos])
        drawn_boxes = boxes(
            rng,
            len(videos),
            crops.picture_px,
            crops.crop_px,
            jitter=crops.jitter,
            flip=crops.flip,
        )
        yield SnippetBatch(videos, chosen, drawn_boxes)


def fixed_batches(
    rows: np.ndarray, segments: int, batch: int, crops: Crops
) -> Iterator[SnippetBatch]:
    """All V videos in order, with the middle row of each part and the centre crop."""
    box = centre(crops.picture_px, crops.crop_px)
    for videos in np.array_split(np.arange(len(rows)), -(-len(rows) // batch)):
        yield SnippetBatch(
            videos,
            np.stack([middles(int(rows[video]), segments) for video in videos]),
            [box] * len(videos),
        )


def read_ahead(
    store: Store, ids: list[str], batches: Iterable[SnippetBatch], workers: int
) -> Iterator[tuple[SnippetBatch, Tensor]]:
    """Each batch with its pixels (N, S, C, [s,] H, W) uint8, read by `workers` threads AHEAD
    batches in advance.

    ids: the part's videos, indexed by the batches. Raises InputError for a damaged video."""
    with ThreadPoolExecutor(max(1, workers), "reelbank-read") as readers:
        waiting: deque = deque()
        try:
            for batch in batches:
                jobs = [
                    readers.submit(_read, store, ids[video], rows)
                    for video, rows in zip(batch.videos.tolist(), batch.rows, strict=True)
                ]
                waiting.append((batch, jobs))
                if len(waiting) > AHEAD:
                    yield _read_now(*waiting.popleft())
            while waiting:
                yield _read_now(*waiting.popleft())
        finally:
            readers.shutdown(wait=True, cancel_futures=True)


def _read(store: Store, video_id: str, rows: np.ndarray) -> np.ndarray:
    return store.features(video_id)[0][rows]  # (K, C, [s,] H, W) -> (S, C, [s,] H, W)


def _read_now(batch: SnippetBatch, jobs: list) -> tuple[SnippetBatch, Tensor]:
    return batch, torch.from_numpy(np.stack([job.result() for job in jobs]))
