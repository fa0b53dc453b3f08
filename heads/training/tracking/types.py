"""What a tracker is, and what it is told about a run."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelbank.data.errors import InputError

Option = bool | int | float | str


@dataclass(frozen=True)
class TrackedRun:
    """A run that is trained. name: of its folder; folder: where files of the tracker may be written;
    options: everything that determines the result, name -> value."""

    name: str
    folder: Path
    options: Mapping[str, Option]


class Tracker(ABC):
    """A run that is open in a tracker. Any method may raise any exception."""

    @staticmethod
    @abstractmethod
    def check() -> None:
        """Raises InputError if the package of the tracker is not installed."""

    @abstractmethod
    def __init__(self, run: TrackedRun) -> None:
        """Begin the run, or begin it again. All of its epochs will be logged."""

    @abstractmethod
    def log(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Add the figures of an epoch (from 1)."""

    @abstractmethod
    def finish(self, figures: Mapping[str, float]) -> None:
        """Add the final figures of the run, and end it."""

    @abstractmethod
    def stop(self) -> None:
        """End the run, whose training was stopped."""


def package(name: str, tracker: str, install: str) -> Any:
    """The module `name` of a tracker's package. Raises InputError if it is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(
            f"TRACK={tracker} needs the package {name.partition('.')[0]}; install it with: {install}"
        ) from error
