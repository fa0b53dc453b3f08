"""What the files of another tool, or of `export`, contain, as `import` reads it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reelbank.data.store.records import DatasetDescription, StoredVideo


@dataclass(frozen=True)
class Rows:
    """A video's features (T, ...), the times (T,) of its rows in seconds, None if unknown, and its
    frames per second, 0.0 if unknown."""

    values: np.ndarray
    times_seconds: np.ndarray | None = None
    fps: float = 0.0


@dataclass(frozen=True)
class Recorded:
    """The data set as the files describe it. videos: in the order of the source. recipe: with which
    the features were extracted, {} if unknown."""

    dataset: DatasetDescription
    videos: Sequence[StoredVideo]
    recipe: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """Features of V videos in files.

    names: for each video the names that it may have, the likeliest first. read: the rows of the
    video with this number. facts: further tables (V,) or (V, S) of a packed HDF5 file. timed:
    whether the rows come with times. rated: whether the files name a frame rate. recorded: None if
    the files have no labels. described_by: files that are read in addition to those with features.
    notes: lines to print.
    """

    layout: str
    names: Sequence[tuple[str, ...]]
    read: Callable[[int], Rows]
    facts: dict[str, np.ndarray] = field(default_factory=dict)
    timed: bool = False
    rated: bool = False
    recorded: Recorded | None = None
    described_by: Sequence[Path] = ()
    notes: Sequence[str] = ()
