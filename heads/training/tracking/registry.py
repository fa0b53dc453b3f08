"""The trackers by name."""

from __future__ import annotations

import importlib

from reelbank.heads.training.tracking.types import Tracker

TRACKERS = {
    "tensorboard": "heads.training.tracking.tensorboard:TensorBoard",
    "trackio": "heads.training.tracking.trackio:Trackio",
    "wandb": "heads.training.tracking.wandb:Wandb",
}


def tracker_type(name: str) -> type[Tracker]:
    """The tracker that TRACK= names, a key of TRACKERS. Raises InputError if its package is not
    installed."""
    module, _, attribute = TRACKERS[name].partition(":")
    tracker: type[Tracker] = getattr(importlib.import_module(f"reelbank.{module}"), attribute)
    tracker.check()
    return tracker
