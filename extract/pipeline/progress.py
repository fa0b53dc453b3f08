"""The state of one video during an extraction."""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.system.memory import full_memory
from reelbank.data.video.functions import reason_of
from reelbank.data.video.messages import SoundInfo, VideoInfo
from reelbank.extract.pipeline.items import Items
from reelbank.extract.pipeline.shares import Share
from reelbank.extract.pipeline.streams import Task
from reelbank.extract.pipeline.tracks import Track
from reelbank.extract.streams.base import Follower

# Words in error messages of the device, which are not caused by a video.
_OF_DEVICE = re.compile("CUDA|cuDNN|CUBLAS|HIP|MPS")


@dataclass
class VideoInProgress:
    """One video; tracks, items and followers by the name of their pipeline.

    shares: computed by the decode process, in the order of their numbers in messages
    rows: of pipelines whose rows the decode process computes: (n, D) and the numbers (n,) of their
    pictures
    seconds: the time of each decoded picture, by its number
    """

    task: Task
    tracks: dict[str, Track]
    items: dict[str, Items] = field(default_factory=dict)  # some pipelines share theirs
    followers: dict[str, Follower] = field(default_factory=dict)
    shares: list[Share] = field(default_factory=list)
    rows: dict[str, list[tuple[np.ndarray, np.ndarray]]] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    sound: SoundInfo | None = None
    info: VideoInfo | None = None

    @property
    def shared_names(self) -> set[str]:
        """The pipelines that need no pictures."""
        return {name for share in self.shares for name in share.names}

    def whole_rows(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The rows (K, D) of a stream that is not sampled in clips, and the numbers (K,) of their
        pictures."""
        if name in self.followers:
            return self.followers[name].rows()
        rows, numbers = zip(*self.rows[name], strict=True)
        return np.concatenate(rows), np.concatenate(numbers)

    @contextmanager
    def failing(self, names: Collection[str]) -> Iterator[None]:
        """Context for computing something of the video for these pipelines: an error fails only
        this video in these pipelines. Errors that the machine causes end the run."""
        try:
            yield
        except Exception as error:
            is_of_device = isinstance(error, RuntimeError) and _OF_DEVICE.search(str(error))
            if isinstance(error, InputError) or full_memory(error) or is_of_device:
                raise
            reason = reason_of(error)
        else:
            return
        for name in names:
            self.tracks[name].fail(reason)

    def distinct_items(self) -> list[tuple[Items, list[str]]]:
        """Each of `items` once, with the names of the pipelines that use it."""
        users: dict[int, tuple[Items, list[str]]] = {}
        for name, items in self.items.items():
            users.setdefault(id(items), (items, []))[1].append(name)
        return list(users.values())
