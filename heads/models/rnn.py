"""Plain stacked recurrent heads, which are nn.LSTM or nn.GRU in one or both directions, optionally
with attention after the input."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from reelbank.heads.models.spec import HeadSpec

RECURRENT: dict[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU}


def last_valid(outputs: Tensor, lengths: Tensor) -> Tensor:
    """The output at each sequence's last valid step: (T, N, E) -> (N, E). lengths (N,) int64, at
    least 1."""
    return outputs[lengths - 1, torch.arange(outputs.shape[1], device=outputs.device)]


class Attention(nn.Module):
    """Scaled dot-product self-attention: softmax(Q K^T / sqrt(D)) V, Q, K and V each a matrix times
    x (N, T, D) -> (N, T, D) (Vaswani et al. 2017, eq. 1; the multi-stream paper, V.E, puts it after
    the input).

    Only steps that are `valid` (N, T) bool are attended to. x must be finite at the other steps
    too.
    """

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (
            nn.Linear(feature_dim, feature_dim, bias=False) for _ in range(3)
        )

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        mask = valid[:, None]  # (N, 1, T), the same for every query
        return nn.functional.scaled_dot_product_attention(
            self.query(x), self.key(x), self.value(x), mask
        )


class Recurrent(nn.Module):
    """`layers` stacked layers of `hidden` units (0: as many as features) and a linear layer on the
    embedding.

    With one direction, the embedding is the top layer's output at the last valid step, E = hidden;
    with both, the last states of the top layer's two directions, E = 2 hidden (multi-stream paper,
    IV.E).
    `dropout` acts between the layers and before the classifier, `input_dropout` on the input,
    before `attention`.
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
        self.rnn = RECURRENT[cell](
            feature_dim, hidden, num_layers=layers, dropout=between, bidirectional=both_ways
        )
        self.classifier = nn.Linear(hidden * (1 + both_ways), num_classes)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        valid = torch.arange(x.shape[1], device=x.device) < lengths[:, None]  # (N, T)
        # NaN in padding would spread because a weight or a gradient of 0 * NaN is NaN
        x = self.input_dropout(torch.where(valid[..., None], x, 0.0))
        if self.attention is not None:
            x = self.attention(x, valid)
        steps = x.transpose(0, 1)  # (N, T, D) -> (T, N, D)
        embedding = (
            self._both_ways(steps, lengths)
            if self.rnn.bidirectional
            else self._one_way(steps, lengths)
        )  # (N, E)
        return self.classifier(self.dropout(embedding)), embedding

    def _one_way(self, steps: Tensor, lengths: Tensor) -> Tensor:
        """Padding is at the end, so it does not influence valid steps, and packing is not
        needed."""
        outputs, _ = self.rnn(steps)  # (T, N, D) -> (T, N, E)
        return last_valid(outputs, lengths)

    def _both_ways(self, steps: Tensor, lengths: Tensor) -> Tensor:
        """The backward direction starts at each sequence's end, so unequal lengths are packed."""
        ends = lengths.cpu()
        uneven = bool((ends < len(steps)).any())
        _, state = self.rnn(
            pack_padded_sequence(steps, ends, enforce_sorted=False) if uneven else steps
        )
        # (2 layers, N, hidden); the top layer's two directions come last
        hidden = state[0] if isinstance(state, tuple) else state
        return torch.cat([hidden[-2], hidden[-1]], 1)


def _spec(cell: str, both_ways: bool) -> HeadSpec:
    return HeadSpec(
        partial(Recurrent, cell, both_ways),
        options=("layers", "hidden", "dropout", "input_dropout", "attention"),
    )


LSTM = _spec("lstm", both_ways=False)  # one layer is the Res-LSTM paper's hidden-size study
# One layer of 128 units is the baseline of 'Recurrent Residual Learning'.
GRU = _spec("gru", both_ways=False)
BILSTM = _spec("lstm", both_ways=True)  # multi-stream paper, Table I
# The multi-stream paper uses 2 layers of 512 units, which give an embedding of 1024 numbers.
BIGRU = _spec("gru", both_ways=True)
