"""Recurrent residual networks ('Recurrent Residual Learning for Action Recognition', 3.2 and 3.3).
The head is the end of a residual network with temporal skips."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from reelbank.heads.models.spec import TRUNK_OPTIONS, HeadSpec
from reelbank.heads.models.temporal_skips import TemporalShortcut
from reelbank.heads.models.trunk import context_skips
from reelbank.heads.recipe import TrunkRecipe


class RRN(nn.Module):
    """The rest of a residual network, some of whose blocks have a TemporalShortcut (`add_skips`),
    and a linear classifier.

    forward(x (N, T, C, h, w), lengths (N,)): the output at a sequence's last valid frame is its
    prediction (decided). trunk: (n, C, h, w) -> (n, trunk_dim), the embedding; `dropout` acts
    before the classifier.
    """

    def __init__(
        self,
        feature_dim: int,
        num_classes: int,
        trunk: nn.Module,
        trunk_dim: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(trunk_dim, num_classes)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        time = torch.arange(x.shape[1], device=x.device)
        valid = time < lengths[:, None]  # (N, T)
        frame = time.expand_as(valid)[valid]  # (n,), counted from 0
        rows = torch.arange(len(frame), device=x.device)
        for part in self.trunk.modules():
            if isinstance(part, TemporalShortcut):
                part.previous = torch.where(frame > 0, rows - 1, -1)
        embedding = self.trunk(x[valid])[lengths.cumsum(0) - 1]  # (n, C, h, w) -> (n, E) -> (N, E)
        return self.classifier(self.dropout(embedding)), embedding


def _default_steps(options: Mapping[str, Any]) -> int | None:
    """The default T for windows, which is the number of frames that the skips cover. Other
    samplings have no default."""
    if options["sampling"] not in ("", "windows"):
        return None
    return (len(options["skips"]) or options["context"] - 1) + 1


def _skips_of(options: Mapping[str, Any], trunk: TrunkRecipe) -> tuple[str, ...]:
    return options["skips"] or context_skips(
        trunk, options["context"], options["extractor"], (options["stream"],)
    )


SPEC = HeadSpec(
    RRN,
    options=("dropout", *TRUNK_OPTIONS),
    defaults={"sampling": "windows"},
    takes_vectors=False,
    takes_maps=True,
    default_steps=_default_steps,
    skips_of=_skips_of,
)
