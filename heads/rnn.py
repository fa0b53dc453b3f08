"""Plain stacked recurrent heads: nn.LSTM or nn.GRU, one way or both, with attention after the input where asked for."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

RECURRENT: dict[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU}


def last_valid(outputs: Tensor, lengths: Tensor) -> Tensor:
    """Each sequence's output at its last valid step. (T, N, E), (N,) int64 -> (N, E)."""
    return outputs[lengths - 1, torch.arange(outputs.shape[1], device=outputs.device)]


class Attention(nn.Module):
    """Scaled dot-product self-attention, softmax(Q K^T / sqrt(D)) V, Q, K, V linear in x (Vaswani et al. 2017, eq. 1; the
    multi-stream paper puts it after the input): (N, T, D) -> (N, T, D). Steps after a sequence's end are not looked at."""

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(feature_dim, feature_dim) for _ in range(3))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        valid = torch.arange(x.shape[1], device=x.device) < lengths[:, None]  # (N, T)
        x = torch.where(valid[..., None], x, 0.0)  # a weight of 0 times what is no number is no number
        return nn.functional.scaled_dot_product_attention(self.query(x), self.key(x), self.value(x), valid[:, None])


class Recurrent(nn.Module):
    """`layers` stacked layers of `hidden` units (0: as many as features). One way, the embedding is the top layer's last valid
    output; both ways, the top layer's last states of both directions, E = 2 hidden (multi-stream paper, IV.E).

    `dropout` acts between the layers and before the classifier, `input_dropout` on the input.
    """

    def __init__(
        self,
        cell: str,
        both_ways: bool,
        feature_dim: int,
        num_classes: int,
        layers: int = 2,
        hidden: int = 0,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        attention: bool = False,
    ) -> None:
        super().__init__()
        hidden = hidden or feature_dim
        between = dropout if layers > 1 else 0.0
        self.input_dropout, self.dropout = nn.Dropout(input_dropout), nn.Dropout(dropout)
        self.attention = Attention(feature_dim) if attention else None
        self.rnn = RECURRENT[cell](feature_dim, hidden, num_layers=layers, dropout=between, bidirectional=both_ways)
        self.classifier = nn.Linear(hidden * (1 + both_ways), num_classes)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = self.input_dropout(x)
        if self.attention is not None:
            x = self.attention(x, lengths)
        embedding = self._both_ways(x, lengths) if self.rnn.bidirectional else self._one_way(x, lengths)  # (N, E)
        return self.classifier(self.dropout(embedding)), embedding

    def _one_way(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Padding stands at the end, so no step before it can see it: nothing is packed."""
        outputs, _ = self.rnn(x.transpose(0, 1))  # (N, T, D) -> (T, N, D) -> (T, N, E)
        return last_valid(outputs, lengths)

    def _both_ways(self, x: Tensor, lengths: Tensor) -> Tensor:
        steps = x.transpose(0, 1)  # (T, N, D)
        ends = lengths.cpu()
        if bool((ends == len(steps)).all()):
            _, state = self.rnn(steps)
        else:
            _, state = self.rnn(pack_padded_sequence(steps, ends, enforce_sorted=False))
        hidden = state[0] if isinstance(state, tuple) else state  # (2 layers, N, hidden), the top layer's two ways last
        return torch.cat([hidden[-2], hidden[-1]], 1)


def _head(cell: str, both_ways: bool, about: str) -> Callable[..., Recurrent]:
    def build(
        feature_dim: int,
        num_classes: int,
        layers: int = 2,
        hidden: int = 0,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        attention: bool = False,
    ) -> Recurrent:
        return Recurrent(cell, both_ways, feature_dim, num_classes, layers, hidden, dropout, input_dropout, attention)

    build.__doc__ = about
    return build


lstm = _head("lstm", False, "Stacked LSTM (the Res-LSTM paper's hidden-size study is one layer of it).")
gru = _head("gru", False, "Stacked GRU (one layer of 128 units: the baseline of 'Recurrent Residual Learning').")
bilstm = _head("lstm", True, "Stacked bidirectional LSTM (multi-stream paper, Table I).")
bigru = _head("gru", True, "Stacked bidirectional GRU (the multi-stream paper's choice: 2 x 512, a 1024-d embedding).")
