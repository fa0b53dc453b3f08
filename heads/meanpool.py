"""The honest baseline: the mean over time and a linear layer; blind to order."""

import torch
from torch import Tensor, nn


class MeanPool(nn.Module):
    """Mean over the valid steps, then a linear classifier; the embedding is the mean, E = D."""

    def __init__(self, feature_dim: int, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(feature_dim, num_classes)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        valid = torch.arange(x.shape[1], device=x.device) < lengths[:, None]  # (N, T)
        # where, not a product: a padded step may hold anything, also inf
        total = torch.where(valid[..., None], x, 0.0).sum(1)  # (N, T, D) -> (N, D)
        embedding = total / lengths[:, None]
        return self.classifier(self.dropout(embedding)), embedding
