"""Clips of any video, gathered into batches of one fixed shape, through the network and back."""

from collections import deque
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch

from reelbank.extract.networks import Network


class Takes(Protocol):
    """Whatever features are put back into."""

    def put(self, rows: np.ndarray, arrays: list[np.ndarray]) -> None: ...


class ClipBatches:
    """Gathers clips of any video into batches of one fixed shape and brings their features back.

    The shape is always the same (the last batch is filled up with zeros), so a clip's features do not depend on its
    neighbours. Each clip is `crops` network inputs; their mean is taken on the device in float32 (Res-LSTM paper, eq. 5).
    """

    def __init__(
        self, forward: Callable, network: Network, crops: int, keep_crops: bool, batch: int, device: torch.device
    ) -> None:
        self.crops, self.keep_crops, self.forward = crops, keep_crops, forward
        self.capacity = max(1, batch // crops)  # whole clips
        dtype = torch.float32 if network.kind == "sound" else torch.uint8
        self.buffer = torch.zeros((self.capacity, crops, *network.input_shape), dtype=dtype, device=device)
        self.tags: list[tuple[Takes, np.ndarray]] = []
        self.flying: deque[tuple[list[tuple[Takes, np.ndarray]], list[torch.Tensor], torch.cuda.Event | None]] = deque()

    def add(self, track: Takes, rows: np.ndarray, inputs: torch.Tensor) -> None:
        """inputs: (crops, *network.input_shape) of one clip."""
        self.buffer[len(self.tags)] = inputs
        self.tags.append((track, rows))
        if len(self.tags) == self.capacity:
            self._launch()

    def _launch(self) -> None:
        count = len(self.tags)
        self.buffer[count:] = 0
        outputs = self.forward(self.buffer.flatten(0, 1))  # (clips * crops, ...) -> tuple of (clips * crops, ...)
        results = []
        for output in outputs:
            per_crop = output.unflatten(0, (self.capacity, self.crops))[:count]  # (clips, crops, ...)
            features = per_crop if self.keep_crops else per_crop[:, 0] if self.crops == 1 else per_crop.mean(1)
            if features.data_ptr() == self.buffer.data_ptr():
                features = features.clone()  # pixels: the buffer is filled again before they are fetched
            results.append(features.to("cpu", non_blocking=True))
        event = None
        if self.buffer.is_cuda:
            event = torch.cuda.Event()
            event.record(torch.cuda.current_stream(self.buffer.device))
        self.flying.append((self.tags, results, event))
        self.tags = []
        while len(self.flying) > 1:  # one batch late: the device computes the next while this one is put away
            self._land()

    def _land(self) -> None:
        tags, results, event = self.flying.popleft()
        if event is not None:
            event.synchronize()
        arrays = [result.numpy() for result in results]
        for i, (track, rows) in enumerate(tags):
            track.put(rows, [array[i] for array in arrays])

    def finish(self) -> None:
        """Send off the batch that is not full and wait for everything."""
        if self.tags:
            self._launch()
        while self.flying:
            self._land()
