"""The baseline, which is the mean over time and a linear layer. The order of the rows has no
effect."""

import torch
from torch import Tensor, nn

from reelbank.heads.models.spec import HeadSpec


class MeanPool(nn.Module):
    """Mean over the valid steps, then a linear classifier; the embedding is the mean, E = D."""

    def __init__(self, feature_dim: int, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(feature_dim, num_classes)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        valid = torch.arange(x.shape[1], device=x.device) < lengths[:, None]  # (N, T)
        # torch.where and not a product, because padding may contain inf or NaN
        total = torch.where(valid[..., None], x, 0.0).sum(1)  # (N, T, D) -> (N, D)
        embedding = total / lengths[:, None]
        return self.classifier(self.dropout(embedding)), embedding


SPEC = HeadSpec(MeanPool, options=("dropout",), defaults={"lr": 1e-3})
