"""What a checkpoint holds: normalisation and head as one module, so that a prediction on a new store is one forward."""

from typing import Any

from torch import Tensor, nn

from reelbank.heads import HEADS
from reelbank.heads.normalise import Normalise


class Model(nn.Module):
    """forward(x (N, T, D) float32, lengths (N,) int64) -> (logits (N, C), embedding (N, E)), x as the store has it."""

    def __init__(self, normalise: Normalise, head: nn.Module) -> None:
        super().__init__()
        self.normalise, self.head = normalise, head

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(self.normalise(x), lengths)


def build_model(recipe: dict[str, Any]) -> Model:
    """The untrained model that a run's recipe describes."""
    normalise = Normalise(recipe["row_shape"][-1], recipe["normalise"]["znorm"], recipe["normalise"]["pca"])
    return Model(normalise, HEADS[recipe["head"]](normalise.output_dim, len(recipe["classes"]), **recipe["head_options"]))
