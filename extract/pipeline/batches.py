"""Gather clips of several videos into batches of a fixed shape, and run the network on them."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from reelbank.extract.networks.build import Network


class Takes(Protocol):
    """Receives the features of clips, as `Track.put`."""

    def put(self, rows: Sequence[np.ndarray], arrays: list[np.ndarray]) -> None: ...


@dataclass(frozen=True)
class _Clips:
    """Successive clips of a batch that belong to one track, with the rows of each."""

    track: Takes
    rows: Sequence[np.ndarray]


@dataclass(frozen=True)
class _Flying:
    """A batch whose features are being computed: (clips, ...) per node. event: on a GPU, reached
    when they have arrived."""

    clips: list[_Clips]
    features: list[torch.Tensor]
    event: torch.cuda.Event | None


class ClipBatches:
    """Gathers clips of several videos into batches and hands their features to the tracks.

    The network always gets the same number of inputs (the last ones are filled up with zeros), so
    the features of a clip do not depend on the other clips of its batch. A clip consists of `crops`
    network inputs, whose features are averaged on the device in float32 (Res-LSTM paper, eq. 5).
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
        """batch: network inputs that are computed at once."""
        self.crops, self.keep_crops, self.forward = crops, keep_crops, forward
        self.capacity = max(1, batch // crops)  # in clips
        # The crops of one clip may be more than a batch. A GPU has the memory for all of them.
        self.step_inputs = self.capacity * crops
        if device.type == "cpu":
            self.step_inputs = _largest_divisor(self.step_inputs, batch)
        self.buffer = torch.zeros(
            (self.capacity, crops, *network.input_shape),
            dtype=network.input_dtype,
            device=device,
        )
        self.clips: list[_Clips] = []  # of the batch that is being filled
        self.count = 0  # of their clips
        self.flying: deque[_Flying] = deque()

    def free(self, most: int) -> torch.Tensor:
        """The places of the next clips, for at least one and up to `most` of them, as far as the
        batch has room: (n, crops, *network.input_shape). Fill them, then call `add`."""
        return self.buffer[self.count : self.count + most]

    def add(self, track: Takes, rows: Sequence[np.ndarray]) -> None:
        """Add the clips with which the first free places were filled. rows: of each of them."""
        self.clips.append(_Clips(track, rows))
        self.count += len(rows)
        if self.count == self.capacity:
            self._launch()

    def _launch(self) -> None:
        count = self.count
        results = []
        for output in self._outputs():
            # (clips, crops, ...)
            features = output[: count * self.crops].unflatten(0, (count, self.crops))
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
        self.flying.append(_Flying(self.clips, results, event))
        self.clips, self.count = [], 0
        # Features are fetched one batch late, so that the device computes the next batch meanwhile.
        while len(self.flying) > 1:
            self._land()

    def _outputs(self) -> Sequence[torch.Tensor]:
        """The features of the clips in the buffer, and of the places that fill the last step up,
        (at least clips * crops, ...) per node."""
        if self.count < self.capacity:
            self.buffer[self.count :] = 0
        inputs = self.buffer.flatten(0, 1)
        needed = self.count * self.crops
        steps = [
            self.forward(some)
            for first, some in enumerate(inputs.split(self.step_inputs))
            if first * self.step_inputs < needed
        ]
        if len(steps) == 1:
            return steps[0]
        return [torch.cat(of_node) for of_node in zip(*steps, strict=True)]

    def _land(self) -> None:
        landed = self.flying.popleft()
        if landed.event is not None:
            landed.event.synchronize()
        arrays = [features.numpy() for features in landed.features]
        start = 0
        for clips in landed.clips:
            stop = start + len(clips.rows)
            clips.track.put(clips.rows, [array[start:stop] for array in arrays])
            start = stop

    def finish(self) -> None:
        """Compute the batch that is not full, and wait for all features."""
        if self.count:
            self._launch()
        while self.flying:
            self._land()


def _largest_divisor(number: int, most: int) -> int:
    """The largest divisor of a number that is at most `most`."""
    return next(divisor for divisor in range(most, 0, -1) if number % divisor == 0)
