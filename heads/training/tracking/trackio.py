"""Trackio, the tracker of Hugging Face. Its own environment variables, such as TRACKIO_SPACE_ID, say
where the runs go."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from reelbank.heads.training.tracking.types import TrackedRun, Tracker, package

PROJECT = "reelbank"


class Trackio(Tracker):
    @staticmethod
    def check() -> None:
        _trackio()

    def __init__(self, run: TrackedRun) -> None:
        self._run = _trackio().init(
            project=os.environ.get("TRACKIO_PROJECT") or PROJECT,
            name=run.name,
            config=dict(run.options),
            resume="allow",  # a run that was interrupted is continued under its name
            embed=False,
        )

    def log(self, epoch: int, figures: Mapping[str, float]) -> None:
        self._run.log({"epoch": epoch, **figures})

    def finish(self, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures))
        self._run.finish()

    def stop(self) -> None:
        self._run.finish()


def _trackio() -> Any:
    return package("trackio", "trackio", "pip install trackio")
