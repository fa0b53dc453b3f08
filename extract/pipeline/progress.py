"""The state of one video during an extraction."""

from dataclasses import dataclass, field

import numpy as np

from reelbank.data.video.functions import PictureFunction
from reelbank.data.video.messages import SoundInfo, VideoInfo
from reelbank.extract.pipeline.items import Items
from reelbank.extract.pipeline.streams import Task
from reelbank.extract.pipeline.tracks import Track
from reelbank.extract.streams.base import Follower


@dataclass(frozen=True)
class Share:
    """What a decode process computes of a video, and the names of the pipelines that it is for."""

    function: PictureFunction
    names: tuple[str, ...]


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

    def distinct_items(self) -> list[tuple[Items, list[str]]]:
        """Each of `items` once, with the names of the pipelines that use it."""
        users: dict[int, tuple[Items, list[str]]] = {}
        for name, items in self.items.items():
            users.setdefault(id(items), (items, []))[1].append(name)
        return list(users.values())
