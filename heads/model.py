"""What a checkpoint holds: normalisation and head as one module, so that a prediction on a new store is one forward."""

import inspect
from typing import Any

from torch import Tensor, nn

from reelbank.extract.networks import Trunk
from reelbank.heads import HEADS
from reelbank.heads.normalise import MidFusion, Normalise
from reelbank.heads.running_norms import running_norms
from reelbank.heads.trunk import build_trunk


class Model(nn.Module):
    """forward(x (N, T, *row) float32, lengths (N,) int64) -> (logits (N, C), embedding (N, E)), x as the store has it."""

    def __init__(self, normalise: Normalise | MidFusion, head: nn.Module) -> None:
        super().__init__()
        self.normalise, self.head = normalise, head

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(self.normalise(x), lengths)


def takes_maps(head: str) -> bool:
    """Whether the head takes feature maps as they are; others are given their mean over space."""
    return "trunk" in inspect.signature(HEADS[head]).parameters


def build_model(recipe: dict[str, Any], extractor: str = "", network: Trunk | None = None) -> Model:
    """The untrained model that a run's recipe describes. extractor: file.py:function, where the trunk is of a user's file;
    network: the store's network with its weights, which a head on maps begins with (default: random ones)."""
    normalise, options = build_normalise(recipe), dict(recipe["head_options"])
    if "trunk" in recipe:
        options["trunk"], options["trunk_dim"] = build_trunk(recipe["trunk"], recipe["input_shape"], extractor, network)
    head = HEADS[recipe["head"]](normalise.output_dim, len(recipe["classes"]), **options)
    if recipe.get("norm_momentum"):
        running_norms(head, recipe["norm_momentum"])
    return Model(normalise, head)


def build_normalise(recipe: dict[str, Any]) -> Normalise | MidFusion:
    """What a run's recipe does to features before the head sees them. Raises InputError for sizes that do not fit."""
    about = recipe["normalise"]
    if mid := recipe.get("mid"):
        return MidFusion(mid["dims"], mid["how"], about["znorm"], about["pca"])
    return Normalise(recipe["input_shape"][0], about["znorm"], about["pca"])
