"""Stacked Simple Recurrent Units ('Multi-Level Recurrent Residual Networks for Action Recognition', eq. 2 to 6, 8 and 9)."""

from typing import Any

import torch
from torch import Tensor, nn


class SRU(nn.Module):
    """L stacked SRU layers of `hidden` units (0: as many as features), tanh on top, a linear layer at each step.

    (2-4) x~ = W x;  f = sigm(W_f x + b_f);  r = sigm(W_r x + b_r)
    (5)   c_t = f c_{t-1} + (1 - f) x~
    (6)   h_t = r tanh(c_t) + (1 - r) x_t, x_t through a projection where input and hidden size differ

    `pool` "mean": the mean over valid steps of the logits (8), "max": their maximum (9). `dropout` acts before the linear layer,
    none between the recurrent ones. The embedding is the mean over valid steps of what the linear layer reads, E = hidden.
    Every matrix begins orthogonal.
    """

    def __init__(
        self, feature_dim: int, num_classes: int, layers: int = 3, hidden: int = 0, dropout: float = 0.0, pool: str = "mean"
    ) -> None:
        super().__init__()
        hidden = hidden or feature_dim
        self.pool = pool
        self.layers = nn.ModuleList(SRULayer(hidden if level else feature_dim, hidden) for level in range(layers))
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        valid = (torch.arange(x.shape[1], device=x.device) < lengths[:, None])[..., None]  # (N, T, 1)
        for layer in self.layers:
            x = layer(x)  # (N, T, D) -> (N, T, E)
        top = torch.where(valid, torch.tanh(x), 0.0)
        embedding = top.sum(1) / lengths[:, None]  # (N, T, E) -> (N, E)
        if self.pool == "max":
            logits = torch.where(valid, self.classifier(self.dropout(top)), -torch.inf).amax(1)  # (N, T, C) -> (N, C)
        else:  # the layer is linear: the mean of its outputs is its output of the mean
            logits = self.classifier(self.dropout(top).sum(1) / lengths[:, None])
        return logits, embedding


class SRULayer(nn.Module):
    """One SRU layer: (N, T, D) -> (N, T, E). All steps' matrix products are one; the recurrence is a scan.

    weight (3 E or, with a projection, 4 E, D): rows of W, W_f, W_r and the projection; bias (2 E): b_f, b_r.
    """

    def __init__(self, input_dim: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.weight = nn.Parameter(torch.empty((3 if input_dim == hidden else 4) * hidden, input_dim))
        self.bias = nn.Parameter(torch.zeros(2 * hidden))
        for matrix in self.weight.detach().split(hidden):
            nn.init.orthogonal_(matrix)

    def forward(self, x: Tensor) -> Tensor:
        products = nn.functional.linear(x, self.weight)  # (N, T, D) -> (N, T, 3 E or 4 E)
        candidate, forget, reset, *projected = products.split(self.hidden, -1)
        forget_bias, reset_bias = self.bias.split(self.hidden)
        memory = _Recurrence.apply(torch.sigmoid(forget + forget_bias), candidate)
        return torch.lerp(projected[0] if projected else x, torch.tanh(memory), torch.sigmoid(reset + reset_bias))


class _Recurrence(torch.autograd.Function):
    """c_t = f_t c_{t-1} + (1 - f_t) x~_t, c_0 = 0: (N, T, E), (N, T, E) -> (N, T, E)."""

    @staticmethod
    def forward(ctx: Any, forget: Tensor, candidate: Tensor) -> Tensor:
        memory = scan(forget.clone(), candidate - forget * candidate)
        ctx.save_for_backward(forget, candidate, memory)
        return memory

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        forget, candidate, memory = ctx.saved_tensors
        factors = torch.empty_like(forget)  # g_t = dL/dc_t + f_{t+1} g_{t+1}: the same recurrence, backwards
        factors[:, :-1] = forget[:, 1:]
        factors[:, -1:] = 0
        total = scan(factors, gradients[0].clone(), reverse=True)  # (N, T, E)
        before = -candidate
        before[:, 1:] += memory[:, :-1]  # c_{t-1} - x~_t
        return before.mul_(total), torch.addcmul(total, total, forget, value=-1)


def scan(factors: Tensor, values: Tensor, reverse: bool = False) -> Tensor:
    """y_t = a_t y_{t-1} + b_t with y_0 = 0 (`reverse`: y_t = a_t y_{t+1} + b_t) along the second axis of a, b (N, T, ...), in
    2 log2 T steps over all of them (Brent and Kung 1982). Both are written over; b becomes y, which is returned.

    Sums and products alone, so as exact as the loop over t.
    """
    steps = values.shape[1]

    def pairs(first: int, apart: int) -> tuple[slice, slice]:
        """Places first, first + 2 apart, ... and those `apart` before them, counted from the end where it is reversed."""
        count = max(0, -(-(steps - first) // (2 * apart)))
        if not reverse:
            return slice(first, steps, 2 * apart), slice(first - apart, first + 2 * apart * count - apart, 2 * apart)
        lowest = steps - 1 - first - 2 * apart * (count - 1)
        return slice(lowest, steps - first, 2 * apart), slice(lowest + apart, steps - first + apart, 2 * apart)

    apart = 1
    while apart < steps:  # every second place takes in the one before, every fourth the two before ...
        here, before = pairs(2 * apart - 1, apart)
        if 2 * apart - 1 < steps:
            values[:, here].addcmul_(factors[:, here], values[:, before])
            factors[:, here].mul_(factors[:, before])
        apart *= 2
    while apart > 1:  # ... and hand it on to those between
        apart //= 2
        if 3 * apart - 1 < steps:
            here, before = pairs(3 * apart - 1, apart)
            values[:, here].addcmul_(factors[:, here], values[:, before])
    return values
