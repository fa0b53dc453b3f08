"""Adaptive sampling (multi-stream paper, IV.F): read the flow lengths of videos from their
store."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.store.reader import Store
from reelbank.data.store.records import Failure
from reelbank.data.video.clips import adaptive_starts
from reelbank.data.video.sampling import Sampling
from reelbank.extract.streams.base import ADAPTIVE_SECONDS


@dataclass(frozen=True)
class FlowLengths:
    """Flow lengths by video id.

    lengths: mean length of each flow field, (frames - 1,) pixels
    fps: frames per second
    failures: of videos without flow lengths
    """

    lengths: dict[str, np.ndarray]
    fps: dict[str, float]
    failures: dict[str, Failure]

    def followed(self, sampling: Sampling, video_id: str) -> Sampling:
        """The sampling with the clips that follow the flow of this video."""
        assert sampling.steps is not None
        starts = adaptive_starts(
            self.lengths[video_id].astype(np.float64), self.fps[video_id], most_steps=sampling.steps
        )
        return replace(sampling, starts=tuple(starts.tolist()))


def read_lengths(path: Path, video_ids: Iterable[str]) -> FlowLengths:
    """Read the flow lengths of these videos from the store at `path`. Everything is read into
    memory, because another shard may merge the store's parts at any moment."""
    ids_to_read = set(video_ids)
    if not ids_to_read:
        return FlowLengths({}, {}, {})
    for attempt in (1, 2, 3):
        try:
            with Store.open(path) as store:
                ids = [video_id for video_id in store.video_ids if video_id in ids_to_read]
                values, offsets, _ = store.load(ids)  # (R, 1)
                lengths = {
                    video_id: values[offsets[i] : offsets[i + 1], 0]
                    for i, video_id in enumerate(ids)
                }
                fps = {
                    video_id: float(source.get("fps", 0.0))
                    for video_id, source in zip(store.video_ids, store.sources, strict=True)
                }
                return FlowLengths(lengths, fps, dict(store.failures))
        except InputError:  # the parts were merged between two reads
            if attempt == 3:
                raise
    raise AssertionError


def span(within: tuple[float, float] | None) -> tuple[float, float]:
    """The part of a video, or of a span of it, that adaptive sampling uses."""
    start, end = within or (0.0, float("inf"))
    return start, min(end, start + ADAPTIVE_SECONDS)
