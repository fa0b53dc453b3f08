"""Segment consensus ('Temporal Segment Networks', Wang et al. 2016, 3.1): every row is classified, and the logits joined."""

import torch
from torch import Tensor, nn


class TSN(nn.Module):
    """On vectors (N, T, D), or on maps (N, T, C, h, w) that go through `trunk`, (n, C, h, w) -> (n, trunk_dim), row by row.

    `pool` "mean" or "max" over the valid rows' logits; `dropout` before the classifier. The embedding is the mean over the
    valid rows of what the classifier reads.
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
        rows = x[valid] if self.trunk is None else self.trunk(x[valid])  # (n, D), those before each sequence's end alone
        embedding = mean_of_valid(rows, valid)  # (N, D)
        logits = self.classifier(self.dropout(rows))  # (n, C)
        if self.pool == "mean":
            return mean_of_valid(logits, valid), embedding
        padded = torch.full((*valid.shape, logits.shape[1]), -torch.inf, dtype=logits.dtype, device=logits.device)
        padded[valid] = logits
        return padded.amax(1), embedding  # (N, T, C) -> (N, C)


def mean_of_valid(rows: Tensor, valid: Tensor) -> Tensor:
    """The mean of each sequence's rows: (n, D), valid (N, T) with n True -> (N, D)."""
    padded = torch.zeros(*valid.shape, rows.shape[1], dtype=rows.dtype, device=rows.device)
    padded[valid] = rows
    return padded.sum(1) / valid.sum(1)[:, None]
