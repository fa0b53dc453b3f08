"""Relational LSTM ('Relational Long Short-Term Memory for Video Action Recognition', eq. 1 to 4 and section 4)."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.modules.batchnorm import _BatchNorm

from reelbank.heads.tsn import mean_of_valid

GATES = 4  # i, f, o, g


class Relational(nn.Module):
    """The module that remembers feature maps: (N, T, C, h, w) -> the last valid state's, (N, C, h, w).

    (2, 4) r(X, Y)_i = sum_j softmax_j(theta(x_i)^T phi(y_j)) g(y_j), i over the places of X, j over those of Y; theta, phi and
           g linear (1 x 1), C/2 channels wide
    (3)    i, f, o = sigm(r_x(X_t, X_t) + r_h(X_t, H_{t-1})), g = tanh(...), each with its own r_x and r_h;
           C_t = f C_{t-1} + i g;  H_t = o tanh(C_t), of C/2 channels, H_0 = 0

    Batch norm before, a 1 x 1 convolution to C channels after. of_x: each gate's theta_x, phi_x, g_x and theta_h, all linear in
    X, so those of all steps are one product; of_h: each gate's phi_h and g_h.
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
            for own in stacked.weight.detach().split(half):  # each is a layer of its own: its bound is of its own size
                nn.init.xavier_uniform_(own)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        videos, steps, channels, height, width = x.shape
        places, half = height * width, self.state_channels
        normed = x.new_zeros(videos, steps, places, channels)
        normed[valid] = self.norm(x[valid]).flatten(2).transpose(1, 2)  # (n, C, h, w) -> (n, P, C)
        parts = self.of_x(normed).view(videos, steps, places, GATES, 4, half).movedim(2, 4)  # (N, T, 4 gates, 4, P, C/2)
        theta, phi, values, theta_h = parts.unbind(3)  # (N, T, 4, P, C/2)
        of_inputs = scaled_dot_product_attention(theta, phi, values, scale=1.0)  # r_x, (N, T, 4, P, C/2)
        state = memory = x.new_zeros(videos, places, half)
        for step in range(steps):
            of_state = self.of_h(state).view(videos, places, GATES, 2, half).transpose(1, 3)  # (N, 2, 4, P, C/2)
            of_past = scaled_dot_product_attention(theta_h[:, step], of_state[:, 0], of_state[:, 1], scale=1.0)  # r_h
            gates = of_inputs[:, step] + of_past  # (N, 4, P, C/2)
            let_in, keep, let_out = torch.sigmoid(gates[:, :3]).unbind(1)
            memory = keep * memory + let_in * torch.tanh(gates[:, 3])
            state = torch.where(valid[:, step, None, None], let_out * torch.tanh(memory), state)  # the last valid one stays
        return self.widen(state.transpose(1, 2).unflatten(2, (height, width)))  # (N, C/2, h, w) -> (N, C, h, w)


class RelationalLSTM(nn.Module):
    """Two branches over feature maps (N, T, C, h, w), joined: local, `trunk` on every row and the mean over time; non-local,
    the relational LSTM and its own trunk on its last state. `branches` "local" or "nonlocal": one of the two alone.

    trunk: (n, C, h, w) -> (n, trunk_dim), with the backbone's weights; the non-local branch's begins anew, as all else, by
    Xavier-Glorot (5.2). `dropout` before the classifier; the embedding is what it reads, E = 2 trunk_dim (or trunk_dim).
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
        found = []
        if self.trunk is not None:
            found.append(mean_of_valid(self.trunk(x[valid]), valid))  # (n, E) -> (N, E)
        if self.relational is not None and self.own_trunk is not None:
            found.append(self.own_trunk(self.relational(x, valid)))  # (N, C, h, w) -> (N, E)
        embedding = torch.cat(found, 1)
        return self.classifier(self.dropout(embedding)), embedding


def begin_anew(module: nn.Module) -> None:
    """Xavier-Glorot weights, biases 0, norms as new, in place."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, _BatchNorm | nn.GroupNorm | nn.LayerNorm):
            part.reset_parameters()
