"""Stacked Simple Recurrent Units ('Multi-Level Recurrent Residual Networks for Action Recognition', eq. 2 to 6, 8 and 9)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class SRU(nn.Module):
    """L stacked SRU layers of `hidden` units (0: as many as features), tanh on top, a linear layer at each step.

    (2-4) x~ = W x;  f = sigm(W_f x + b_f);  r = sigm(W_r x + b_r)
    (5)   c_t = f c_{t-1} + (1 - f) x~
    (6)   h_t = r tanh(c_t) + (1 - r) x_t, x_t through a projection where input and hidden size differ

    `pool` "mean": the mean over valid steps of the logits (8), "max": their maximum (9). `dropout` acts before the linear
    layer, none between the recurrent ones. The embedding is the mean over valid steps of what the linear layer reads,
    E = hidden. The layers' matrices begin orthogonal.
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
        x = torch.where(valid, x, 0.0)  # no valid step sees padding, but a gradient of 0 times what is no number is no number
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
    """One SRU layer: (N, T, D) -> (N, T, E).

    weight (3 E or, with a projection, 4 E, D): rows of W, W_f, W_r and the projection; bias (2 E): b_f, b_r.
    """

    def __init__(self, input_dim: int, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty((3 if input_dim == hidden else 4) * hidden, input_dim))
        self.bias = nn.Parameter(torch.zeros(2 * hidden))
        for matrix in self.weight.detach().split(hidden):
            nn.init.orthogonal_(matrix)

    def forward(self, x: Tensor) -> Tensor:
        return _Layer.apply(x, self.weight, self.bias)


class _Layer(torch.autograd.Function):
    """x (N, T, D), weight and bias of an SRULayer -> h (N, T, E): the products of all steps are one, the recurrence is a scan.

    One function with its gradient, written over what it need not keep: all but the products waits for memory.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        hidden = len(bias) // 2
        products = nn.functional.linear(x, weight)  # (N, T, D) -> (N, T, 3 E or 4 E)
        products[..., hidden : 3 * hidden].add_(bias).sigmoid_()
        candidate, forget, reset, *projected = products.split(hidden, -1)
        memory = scan(forget.clone(), torch.addcmul(candidate, candidate, forget, value=-1))
        activated = torch.tanh(memory)
        h = torch.lerp(projected[0] if projected else x, activated, reset)
        ctx.save_for_backward(x, weight, products, memory, activated, h)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight, products, memory, activated, h = ctx.saved_tensors
        (d_h,) = gradients
        hidden = h.shape[-1]
        candidate, forget, reset, *projected = products.split(hidden, -1)
        d_products = torch.empty_like(products)
        d_candidate, d_forget, d_reset, *d_projected = d_products.split(hidden, -1)

        d_skip = torch.addcmul(d_h, d_h, reset, value=-1, out=d_projected[0] if projected else None)  # d_h (1 - r)
        # of r before its sigmoid: d_h (tanh c - x) r (1 - r), where (tanh c - x) r is h - x
        torch.sub(h, projected[0] if projected else x, out=d_reset).mul_(d_skip)
        d_activated = d_h - d_skip
        d_memory = torch.addcmul(d_activated, d_activated * activated, activated, value=-1)
        # what a state does to all later ones: e_t = d_memory_t + f_{t+1} e_{t+1}; the last step's factor meets nothing
        d_memory = scan(forget.roll(-1, 1), d_memory, reverse=True)
        torch.addcmul(d_memory, d_memory, forget, value=-1, out=d_candidate)  # d_memory (1 - f)
        # of f before its sigmoid: d_memory (c_{t-1} - x~) f (1 - f), where (c_{t-1} - x~) f is c_t - x~
        torch.sub(memory, candidate, out=d_forget).mul_(d_candidate)

        flat = d_products.flatten(0, 1)  # (N T, 3 E or 4 E)
        d_x = None
        if ctx.needs_input_grad[0]:
            d_x = flat @ weight if projected else d_skip.flatten(0, 1).addmm_(flat, weight)
            d_x = d_x.view_as(x)
        return d_x, flat.T @ x.flatten(0, 1), d_products[..., hidden : 3 * hidden].sum((0, 1))


def scan(factors: Tensor, values: Tensor, reverse: bool = False) -> Tensor:
    """y_t = a_t y_{t-1} + b_t with y_0 = 0 (`reverse`: y_t = a_t y_{t+1} + b_t) along the second axis of factors a and values
    b, both (N, T, ...), in 2 log2 T steps over all of them (Brent and Kung 1982). Both are written over; b becomes y, which
    is returned. Sums and products alone, so as exact as the loop over t.
    """
    steps = values.shape[1]
    if steps > 1:
        here, before = _neighbours(steps, 1, reverse)  # every second step takes in the one before it,
        values[:, here].addcmul_(factors[:, here], values[:, before])
        factors[:, here].mul_(factors[:, before])
        scan(factors[:, here], values[:, here], reverse)  # these are half as many,
        here, before = _neighbours(steps, 2, reverse)  # and hand on to the others
        values[:, here].addcmul_(factors[:, here], values[:, before])
    return values


def _neighbours(steps: int, first: int, reverse: bool) -> tuple[slice, slice]:
    """Steps first, first + 2, ... and the one before each; `reverse`: counted from the end, still listed in order of time."""
    count = (steps - first + 1) // 2
    start = steps + 1 - first - 2 * count if reverse else first
    other = start + 1 if reverse else start - 1
    return slice(start, start + 2 * count - 1, 2), slice(other, other + 2 * count - 1, 2)
