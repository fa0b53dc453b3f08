"""Plain stacked recurrent heads: nn.LSTM or nn.GRU, and a linear layer on the last valid output."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

RECURRENT: dict[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU}


def last_valid(outputs: Tensor, lengths: Tensor) -> Tensor:
    """Each sequence's output at its last valid step. (T, N, E), (N,) int64 -> (N, E)."""
    return outputs[lengths - 1, torch.arange(outputs.shape[1], device=outputs.device)]


class Recurrent(nn.Module):
    """`layers` stacked layers of `hidden` units (0: as many as features); the embedding is the top layer's last output.

    All layers run forward in time and padding stands at the end, so no step before it can see it: nothing is packed.
    `dropout` acts between the layers and before the classifier.
    """

    def __init__(
        self, cell: str, feature_dim: int, num_classes: int, layers: int = 2, hidden: int = 0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        hidden = hidden or feature_dim
        self.rnn = RECURRENT[cell](feature_dim, hidden, num_layers=layers, dropout=dropout if layers > 1 else 0.0)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        outputs, _ = self.rnn(x.transpose(0, 1))  # (T, N, D) -> (T, N, E)
        embedding = last_valid(outputs, lengths)  # (N, E)
        return self.classifier(self.dropout(embedding)), embedding


def lstm(feature_dim: int, num_classes: int, layers: int = 2, hidden: int = 0, dropout: float = 0.0) -> Recurrent:
    """Stacked LSTM (the Res-LSTM paper's hidden-size study is one layer of it)."""
    return Recurrent("lstm", feature_dim, num_classes, layers, hidden, dropout)


def gru(feature_dim: int, num_classes: int, layers: int = 2, hidden: int = 0, dropout: float = 0.0) -> Recurrent:
    """Stacked GRU (one layer of 128 units: the baseline of 'Recurrent Residual Learning for Action Recognition')."""
    return Recurrent("gru", feature_dim, num_classes, layers, hidden, dropout)
