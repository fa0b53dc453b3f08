"""Plain stacked recurrent heads: nn.LSTM or nn.GRU, one way or both, with attention after the input where asked for."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

RECURRENT: dict[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU}


def last_valid(outputs: Tensor, lengths: Tensor) -> Tensor:
    """Of (T, N, E) the output at each sequence's last valid step: (N, E). lengths (N,) int64, at least 1."""
    return outputs[lengths - 1, torch.arange(outputs.shape[1], device=outputs.device)]


class Attention(nn.Module):
    """Scaled dot-product self-attention: softmax(Q K^T / sqrt(D)) V, Q, K and V each a matrix times x (N, T, D) -> (N, T, D)
    (Vaswani et al. 2017, eq. 1; the multi-stream paper, V.E, puts it after the input).

    Only steps that are `valid` (N, T) bool are looked at; at the others x has to be finite.
    """

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(feature_dim, feature_dim, bias=False) for _ in range(3))

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        keys_seen = valid[:, None]  # (N, 1, T), the same for every query
        return nn.functional.scaled_dot_product_attention(self.query(x), self.key(x), self.value(x), keys_seen)


class Recurrent(nn.Module):
    """`layers` stacked layers of `hidden` units (0: as many as features) and a linear layer on the embedding.

    One way, the embedding is the top layer's output at the last valid step, E = hidden; both ways, the last states of the top
    layer's two directions, E = 2 hidden (multi-stream paper, IV.E). `dropout` acts between the layers and before the
    classifier, `input_dropout` on the input, before `attention`.
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
        valid = torch.arange(x.shape[1], device=x.device) < lengths[:, None]  # (N, T)
        # a weight, or a gradient, of 0 times what is no number is no number
        x = self.input_dropout(torch.where(valid[..., None], x, 0.0))
        if self.attention is not None:
            x = self.attention(x, valid)
        steps = x.transpose(0, 1)  # (N, T, D) -> (T, N, D)
        embedding = self._both_ways(steps, lengths) if self.rnn.bidirectional else self._one_way(steps, lengths)  # (N, E)
        return self.classifier(self.dropout(embedding)), embedding

    def _one_way(self, steps: Tensor, lengths: Tensor) -> Tensor:
        """Padding stands at the end, so no step before it can see it: nothing is packed."""
        outputs, _ = self.rnn(steps)  # (T, N, D) -> (T, N, E)
        return last_valid(outputs, lengths)

    def _both_ways(self, steps: Tensor, lengths: Tensor) -> Tensor:
        """The way back begins at each sequence's own end, so unequal ones are packed."""
        ends = lengths.cpu()
        uneven = bool((ends < len(steps)).any())
        _, state = self.rnn(pack_padded_sequence(steps, ends, enforce_sorted=False) if uneven else steps)
        hidden = state[0] if isinstance(state, tuple) else state  # (2 layers, N, hidden), the top layer's two ways last
        return torch.cat([hidden[-2], hidden[-1]], 1)


lstm = partial(Recurrent, "lstm", False)  # one layer of it: the Res-LSTM paper's hidden-size study
gru = partial(Recurrent, "gru", False)  # one layer of 128 units: the baseline of 'Recurrent Residual Learning'
bilstm = partial(Recurrent, "lstm", True)  # multi-stream paper, Table I
bigru = partial(Recurrent, "gru", True)  # that paper's choice: 2 layers of 512 units, a 1024-d embedding
