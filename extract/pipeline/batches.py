"""Gather clips of several videos into batches of a fixed shape, and run the network on them."""

from collections import deque
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch

from reelbank.extract.networks.build import Network


class Takes(Protocol):
    """Receives the features of a clip."""

    def put(self, rows: np.ndarray, arrays: list[np.ndarray]) -> None: ...


class ClipBatches:
    """Gathers clips of several videos into batches and hands their features to the tracks.

    All batches have the same shape (the last one is filled up with zeros), so the features of a
    clip do not depend on the other clips of its batch. A clip consists of `crops` network inputs,
    whose features are averaged on the device in float32 (Res-LSTM paper, eq. 5).
    """

    def __init__(
        self,
        forward: Callable,
        network: Network,
        *,
        crops: int,
        keep_crops: bool,
        batch: int,
        device: torch.device,
    ) -> None:
        self.crops, self.keep_crops, self.forward = crops, keep_crops, forward
        self.capacity = max(1, batch // crops)  # in clips
        dtype = torch.float32 if network.kind == "sound" else torch.uint8
        self.buffer = torch.zeros(
            (self.capacity, crops, *network.input_shape), dtype=dtype, device=device
        )
        self.tags: list[tuple[Takes, np.ndarray]] = []
        self.flying: deque[
            tuple[list[tuple[Takes, np.ndarray]], list[torch.Tensor], torch.cuda.Event | None]
        ] = deque()

    def add(self, track: Takes, rows: np.ndarray, inputs: torch.Tensor) -> None:
        """inputs: (crops, *network.input_shape) of one clip."""
        self.buffer[len(self.tags)] = inputs
        self.tags.append((track, rows))
        if len(self.tags) == self.capacity:
            self._launch()

    def _launch(self) -> None:
        count = len(self.tags)
        self.buffer[count:] = 0
        # (clips * crops, ...) -> tuple of (clips * crops, ...)
        outputs = self.forward(self.buffer.flatten(0, 1))
        results = []
        for output in outputs:
            # (clips, crops, ...)
            features = output.unflatten(0, (self.capacity, self.crops))[:count]
            if not self.keep_crops:
                features = features[:, 0] if self.crops == 1 else features.mean(1)
            # Pixels pass through unchanged, and the buffer is overwritten before they are fetched.
            if features.data_ptr() == self.buffer.data_ptr():
                features = features.clone()
            results.append(features.to("cpu", non_blocking=True))
        event = None
        if self.buffer.is_cuda:
            event = torch.cuda.Event()
            event.record(torch.cuda.current_stream(self.buffer.device))
        self.flying.append((self.tags, results, event))
        self.tags = []
        # Features are fetched one batch late, so that the device computes the next batch meanwhile.
        while len(self.flying) > 1:
            self._land()

    def _land(self) -> None:
        tags, results, event = self.flying.popleft()
        if event is not None:
            event.synchronize()
        arrays = [result.numpy() for result in results]
        for i, (track, rows) in enumerate(tags):
            track.put(rows, [array[i] for array in arrays])

    def finish(self) -> None:
        """Compute the batch that is not full, and wait for all features."""
        if self.tags:
            self._launch()
        while self.flying:
            self._land()
