"""Adaptive sampling (multi-stream paper, III-A): the flow lengths of a shard's videos, out of the store that keeps them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from reelbank.data.clips import adaptive_starts
from reelbank.data.errors import InputError
from reelbank.data.sampling import Sampling
from reelbank.data.store import Store

SECONDS = 36.0  # the beginning of a video is all that is looked at


@dataclass(frozen=True)
class FlowLengths:
    """Of each video the mean length of each field, (frames - 1,) pixels, and its frames a second; why others have none."""

    lengths: dict[str, np.ndarray]
    fps: dict[str, float]
    failures: dict[str, str]

    def followed(self, sampling: Sampling, video_id: str) -> Sampling:
        """The sampling with the frames that this video's flow chooses."""
        assert sampling.steps is not None
        starts = adaptive_starts(self.lengths[video_id].astype(np.float64), self.fps[video_id], sampling.steps)
        return replace(sampling, starts=tuple(starts.tolist()))


def read_lengths(path: Path, video_ids: Iterable[str]) -> FlowLengths:
    """Read into memory what the store at `path` has of these videos: another shard may merge its parts at any moment."""
    wanted = set(video_ids)
    if not wanted:
        return FlowLengths({}, {}, {})
    for attempt in (1, 2, 3):
        try:
            with Store.open(path) as store:
                ids = [video_id for video_id in store.video_ids if video_id in wanted]
                values, offsets, _ = store.load(ids)  # (R, 1)
                lengths = {video_id: values[offsets[i] : offsets[i + 1], 0] for i, video_id in enumerate(ids)}
                fps = {
                    video_id: float(source.get("fps", 0.0))
                    for video_id, source in zip(store.video_ids, store.sources, strict=True)
                }
                failures = {video_id: failure["reason"] for video_id, failure in store.failures.items()}
                return FlowLengths(lengths, fps, failures)
        except InputError:  # merged between two of the reads
            if attempt == 3:
                raise
    raise AssertionError


def span(within: tuple[float, float] | None) -> tuple[float, float]:
    """The part of a video, or of a span of it, that is looked at."""
    start, end = within or (0.0, float("inf"))
    return start, min(end, start + SECONDS)
