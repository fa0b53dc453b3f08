"""Residual stacked LSTM ('Residual Stacked RNNs for Action Recognition', eq. 1 and 2)."""

from torch import Tensor, nn

from reelbank.heads.models.rnn import last_valid
from reelbank.heads.models.spec import HeadSpec


class ResLSTM(nn.Module):
    """L stacked LSTM layers, each as wide as its input, with the input added to the output between
    layers.

    (1)  c_t^l, m_t^l = LSTM_l(c_{t-1}^l, m_{t-1}^l, x_t^{l-1});   x_t^l = m_t^l + x_t^{l-1}
    (2)  y = softmax(m_T^L W_y): the classifier reads m, before the last addition; T is the last
         valid step.

    `hidden` 0 takes the feature size. For another size, a learned linear projection is placed
    before the first layer (not needed with PCA to that size). `residual` off is the paper's
    ablation, which is the same stack without the addition. `dropout` (not in the paper) acts on
    x_t^l between the layers and before the classifier. The embedding is m_T^L, E = hidden.
    """

    def __init__(
        self,
        feature_dim: int,
        num_classes: int,
        layers: int = 2,
        hidden: int = 0,
        residual: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        hidden = hidden or feature_dim
        self.residual = residual
        self.projection = nn.Linear(feature_dim, hidden) if hidden != feature_dim else nn.Identity()
        self.layers = nn.ModuleList(nn.LSTM(hidden, hidden) for _ in range(layers))
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        below = self.projection(x).transpose(0, 1)  # (N, T, D) -> (T, N, E)
        for layer in self.layers[:-1]:
            memory, _ = layer(below)  # (T, N, E)
            below = self.dropout(memory + below if self.residual else memory)
        memory, _ = self.layers[-1](below)
        # (N, E); padding is at the end, so it does not influence valid steps
        embedding = last_valid(memory, lengths)
        return self.classifier(self.dropout(embedding)), embedding


SPEC = HeadSpec(ResLSTM, options=("layers", "hidden", "residual", "dropout"))
