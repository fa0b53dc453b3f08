"""Relational LSTM ('Relational Long Short-Term Memory for Video Action Recognition', eq. 1 to 4 and
section 4)."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.modules.batchnorm import _BatchNorm

from reelbank.heads.models.spec import HeadSpec
from reelbank.heads.models.tsn import mean_of_valid

GATES = 4  # i, f, o, g


class Relational(nn.Module):
    """The recurrent layer over feature maps: (N, T, C, h, w) -> the last valid state, (N, C, h, w).

    (2, 4) r(X, Y)_i = sum_j softmax_j(theta(x_i)^T phi(y_j)) g(y_j), i over the positions of X, j
           over those of Y; theta, phi and g linear (1 x 1), C/2 channels wide
    (3)    i, f, o = sigm(r_x(X_t, X_t) + r_h(X_t, H_{t-1})), g = tanh(...), each with its own r_x
           and r_h;  C_t = f C_{t-1} + i g;  H_t = o tanh(C_t), of C/2 channels, H_0 = 0

    A batch norm comes before the layer, and a 1 x 1 convolution to C channels after it. of_x:
    theta_x, phi_x, g_x and theta_h of each gate, which are all linear in X, so one product computes
    them for all steps; of_h: phi_h and g_h of each gate.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.state_channels = half = max(1, channels // 2)
        self.norm = nn.BatchNorm2d(channels)
        self.of_x = nn.Linear(channels, GATES * 4 * half)
        self.of_h = nn.Linear(half, GATES * 2 * half)
        self.widen = nn.Conv2d(half, channels, 1)
        begin_anew(self)
        for stacked in (self.of_x, self.of_h):
            # Each matrix is a separate layer because Xavier's bound depends on the size of the
            # matrix, not of the stack.
            for matrix in stacked.weight.detach().split(half):
                nn.init.xavier_uniform_(matrix)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        videos, steps, channels, height, width = x.shape
        places, half = height * width, self.state_channels
        normed = x.new_zeros(videos, steps, places, channels)
        normed[valid] = self.norm(x[valid]).flatten(2).transpose(1, 2)  # (n, C, h, w) -> (n, P, C)
        # (N, T, P, 16 C/2) -> (N, T, P, 4 gates, 4, C/2) -> (N, T, 4 gates, 4, P, C/2)
        parts = self.of_x(normed).unflatten(-1, (GATES, 4, half)).movedim(2, 4)
        theta, phi, values, theta_h = parts.unbind(3)  # (N, T, 4, P, C/2)
        # r_x, (N, T, 4, P, C/2)
        of_inputs = scaled_dot_product_attention(theta, phi, values, scale=1.0)
        state = memory = x.new_zeros(videos, places, half)
        for step in range(steps):
            # (N, P, 4, 2, C/2) -> (N, 2, 4, P, C/2)
            of_state = self.of_h(state).view(videos, places, GATES, 2, half).transpose(1, 3)
            phi_h, values_h = of_state.unbind(1)
            of_past = scaled_dot_product_attention(theta_h[:, step], phi_h, values_h, scale=1.0)
            gates = of_inputs[:, step] + of_past  # (N, 4, P, C/2)
            let_in, keep, let_out = torch.sigmoid(gates[:, :3]).unbind(1)
            memory = keep * memory + let_in * torch.tanh(gates[:, 3])
            # padding does not change the state
            state = torch.where(valid[:, step, None, None], let_out * torch.tanh(memory), state)
        maps = state.transpose(1, 2).unflatten(2, (height, width))  # (N, C/2, h, w)
        return self.widen(maps)  # (N, C, h, w)


class RelationalLSTM(nn.Module):
    """Two branches over feature maps (N, T, C, h, w), whose outputs are concatenated. The local
    branch applies `trunk` to every row and averages over time. The non-local branch applies the
    relational LSTM, and a copy of the trunk to its last state. `branches` "local" or "nonlocal"
    selects one of the two.

    trunk: (n, C, h, w) -> (n, trunk_dim), with the backbone's weights in the local branch. The
    non-local branch's copy and the relational LSTM start from Xavier-Glorot weights (5.2), the
    classifier from PyTorch's.
    `dropout` acts before the classifier; the embedding is the classifier's input, E = 2 trunk_dim
    (trunk_dim with one branch).
    """

    def __init__(
        self,
        feature_dim: int,
        num_classes: int,
        trunk: nn.Module,
        trunk_dim: int,
        branches: str = "both",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.trunk = trunk if branches != "nonlocal" else None
        self.relational: Relational | None = None
        self.own_trunk: nn.Module | None = None
        if branches != "local":
            self.relational, self.own_trunk = Relational(feature_dim), copy.deepcopy(trunk)
            begin_anew(self.own_trunk)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(trunk_dim * (1 + (branches == "both")), num_classes)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        valid = torch.arange(x.shape[1], device=x.device) < lengths[:, None]  # (N, T)
        outputs = []
        if self.trunk is not None:
            outputs.append(mean_of_valid(self.trunk(x[valid]), valid))  # (n, E) -> (N, E)
        if self.relational is not None and self.own_trunk is not None:
            outputs.append(self.own_trunk(self.relational(x, valid)))  # (N, C, h, w) -> (N, E)
        embedding = torch.cat(outputs, 1)
        return self.classifier(self.dropout(embedding)), embedding


def begin_anew(module: nn.Module) -> None:
    """Reset all layers in place to Xavier-Glorot weights, zero biases and initial norms."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, _BatchNorm | nn.GroupNorm | nn.LayerNorm):
            layer.reset_parameters()


SPEC = HeadSpec(
    RelationalLSTM, options=("dropout", "branches"), takes_vectors=False, takes_maps=True
)
