"""Weights & Biases. Its own environment variables, such as WANDB_MODE, WANDB_PROJECT and
WANDB_ENTITY, say where the runs go."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from reelbank.heads.training.tracking.types import TrackedRun, Tracker, package

PROJECT = "reelbank"


class Wandb(Tracker):
    @staticmethod
    def check() -> None:
        _wandb()

    def __init__(self, run: TrackedRun) -> None:
        self._run = _wandb().init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            name=run.name,
            id=run.name,
            resume="allow",  # a run that was interrupted is continued under its id
            dir=str(run.folder),
            config=dict(run.options),
        )
        # Steps of W&B only grow, but the second training of a run begins at epoch 1 again.
        self._run.define_metric("*", step_metric="epoch")

    def log(self, epoch: int, figures: Mapping[str, float]) -> None:
        self._run.log({"epoch": epoch, **figures})

    def finish(self, figures: Mapping[str, float]) -> None:
        self._run.summary.update(dict(figures))
        self._run.finish()

    def stop(self) -> None:
        self._run.finish(exit_code=1)


def _wandb() -> Any:
    return package("wandb", "wandb", "pip install wandb")
