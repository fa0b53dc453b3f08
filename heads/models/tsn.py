"""Segment consensus ('Temporal Segment Networks', Wang et al. 2016, 3.1). Every row is classified,
and the logits are pooled."""

import torch
from torch import Tensor, nn

from reelbank.heads.models.spec import HeadSpec


class TSN(nn.Module):
    """Takes vectors (N, T, D) or maps (N, T, C, h, w). `trunk`, (n, C, h, w) -> (n, trunk_dim),
    turns each map into a vector.

    `pool` "mean" or "max" over the valid rows' logits; `dropout` acts before the classifier. The
    embedding is the mean of the classifier's inputs over the valid rows.
    """

    def __init__(
        self,
        feature_dim: int,
        num_classes: int,
        trunk: nn.Module | None = None,
        trunk_dim: int = 0,
        pool: str = "mean",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.trunk, self.pool = trunk, pool
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(trunk_dim if trunk is not None else feature_dim, num_classes)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        valid = torch.arange(x.shape[1], device=x.device) < lengths[:, None]  # (N, T)
        rows = x[valid]  # (n, D) or (n, C, h, w), without padding
        if self.trunk is not None:
            rows = self.trunk(rows)  # (n, D)
        embedding = mean_of_valid(rows, valid)  # (N, D)
        logits = self.classifier(self.dropout(rows))  # (n, C)
        if self.pool == "mean":
            return mean_of_valid(logits, valid), embedding
        padded = torch.full(
            (*valid.shape, logits.shape[1]), -torch.inf, dtype=logits.dtype, device=logits.device
        )
        padded[valid] = logits
        return padded.amax(1), embedding  # (N, T, C) -> (N, C)


def mean_of_valid(rows: Tensor, valid: Tensor) -> Tensor:
    """The mean of each sequence's rows. (n, D), valid (N, T) with n True -> (N, D)."""
    padded = torch.zeros(*valid.shape, rows.shape[1], dtype=rows.dtype, device=rows.device)
    padded[valid] = rows
    return padded.sum(1) / valid.sum(1)[:, None]


SPEC = HeadSpec(TSN, options=("dropout", "pool"), defaults={"lr": 1e-3}, takes_maps=True)
