"""The recipe of weights that `pretrain` makes. It contains everything that the weights depend on.
Its hash without the split is shared by the weights of all splits (extract/networks/trained.py)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reelbank.heads.recipe import Training


@dataclass(frozen=True)
class PretrainRecipe:
    """The fields have the names and the order of the JSON.

    clip_frames: pictures, or flow fields, in one input of the network; flow, flow_name, bound_px:
    the optical flow of the pixels, None without flow; initial: the initial weights; pixels:
    identity of the store of pixels; coverage: hash of the videos and their pixels; seen: hashes of
    the videos of each part (leak_guard.py).
    """

    dataset: str
    stream: str
    extractor: str
    width: float | None
    clip_frames: int
    flow: Mapping[str, Any] | None
    flow_name: str | None
    bound_px: float | None
    preprocessing: Mapping[str, Any]
    initial: Mapping[str, Any]
    pixels: str
    coverage: str
    classes: tuple[str, ...]
    segments: int
    jitter: bool
    flip: bool
    freeze: str
    dropout: float | None
    training: Training
    validation: float
    part: str
    seed: int
    split: str
    videos: int
    validation_videos: int
    seen: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """The contents of recipe.json."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        lists = {"classes": list(self.classes), "training": self.training.to_json()}
        return {"kind": "weights"} | values | lists
