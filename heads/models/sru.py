"""Stacked Simple Recurrent Units ('Multi-Level Recurrent Residual Networks for Action Recognition',
eq. 2 to 6, 8 and 9)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from reelbank.heads.models.spec import HeadSpec


class SRU(nn.Module):
    """L stacked SRU layers of `hidden` units (0: as many as features), tanh on top, a linear layer
    at each step.

    (2-4) x~ = W x;  f = sigm(W_f x + b_f);  r = sigm(W_r x + b_r)
    (5)   c_t = f c_{t-1} + (1 - f) x~
    (6)   h_t = r tanh(c_t) + (1 - r) x_t; x_t is projected where input and hidden size differ

    `pool` "mean": the mean over valid steps of the logits (8), "max": their maximum (9). `dropout`
    acts before the linear layer at the end, not between the recurrent ones; `rnn_dropout` acts on
    the input of each recurrent layer's linear transformations. The embedding is the mean over valid
    steps of the linear layer's input, E = hidden. The layers' matrices are initialised orthogonal.
    """

    def __init__(
        self,
        feature_dim: int,
        num_classes: int,
        layers: int = 3,
        hidden: int = 0,
        dropout: float = 0.0,
        pool: str = "mean",
        rnn_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        hidden = hidden or feature_dim
        self.pool = pool
        self.layers = nn.ModuleList(
            SRULayer(hidden if level else feature_dim, hidden, rnn_dropout)
            for level in range(layers)
        )
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        time = torch.arange(x.shape[1], device=x.device)
        valid = (time < lengths[:, None])[..., None]  # (N, T, 1)
        # Padding does not influence valid steps, but NaN in it would: a gradient of 0 * NaN is NaN.
        x = torch.where(valid, x, 0.0)
        for layer in self.layers:
            x = layer(x)  # (N, T, D) -> (N, T, E)
        top = torch.where(valid, torch.tanh(x), 0.0)
        embedding = top.sum(1) / lengths[:, None]  # (N, T, E) -> (N, E)
        if self.pool == "max":
            step_logits = self.classifier(self.dropout(top))  # (N, T, C)
            logits = torch.where(valid, step_logits, -torch.inf).amax(1)  # (N, C)
        else:  # the layer is linear: the mean of its outputs is its output for the mean input
            logits = self.classifier(self.dropout(top).sum(1) / lengths[:, None])
        return logits, embedding


SPEC = HeadSpec(
    SRU,
    options=("layers", "hidden", "dropout", "rnn_dropout", "pool"),
    defaults={"layers": 3},
)


class SRULayer(nn.Module):
    """One SRU layer: (N, T, D) -> (N, T, E).

    weight (3 E or, with a projection, 4 E, D): rows of W, W_f, W_r and the projection; bias (2 E):
    b_f, b_r.

    `dropout`: in training, the products of `weight` read x with this share of its features set to
    zero, the same ones in all steps of a sequence (variational dropout, Gal and Ghahramani 2016;
    `rnn_dropout` of the SRU authors' library). The skip (1 - r) x_t of eq. 6 reads x as it is, and
    its projection, which is one of the products, reads what they read.
    """

    def __init__(self, input_dim: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.weight = nn.Parameter(
            torch.empty((3 if input_dim == hidden else 4) * hidden, input_dim)
        )
        self.bias = nn.Parameter(torch.zeros(2 * hidden))
        for matrix in self.weight.detach().split(hidden):
            nn.init.orthogonal_(matrix)

    def forward(self, x: Tensor) -> Tensor:
        mask = None
        if self.training and self.dropout:
            mask = nn.functional.dropout(x.new_ones(len(x), 1, x.shape[-1]), self.dropout)
        return _Layer.apply(x, self.weight, self.bias, mask)


class _Layer(torch.autograd.Function):
    """x (N, T, D), weight and bias of an SRULayer, factors of the products' input (N, 1, D) or None
    -> h (N, T, E): one matrix product for all steps, then a scan for the recurrence.

    It is one function with its own gradient that overwrites tensors in place, because memory
    traffic is the bottleneck except in the product.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
        hidden = len(bias) // 2
        masked = x if mask is None else x * mask
        products = nn.functional.linear(masked, weight)  # (N, T, D) -> (N, T, 3 E or 4 E)
        products[..., hidden : 3 * hidden].add_(bias).sigmoid_()
        candidate, forget, reset, *projected = products.split(hidden, -1)
        memory = scan(forget.clone(), torch.addcmul(candidate, candidate, forget, value=-1))
        activated = torch.tanh(memory)
        h = torch.lerp(projected[0] if projected else x, activated, reset)
        ctx.save_for_backward(x, weight, products, memory, activated, h, mask)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        x, weight, products, memory, activated, h, mask = ctx.saved_tensors
        (d_h,) = gradients
        hidden = h.shape[-1]
        candidate, forget, reset, *projected = products.split(hidden, -1)
        d_products = torch.empty_like(products)
        d_candidate, d_forget, d_reset, *d_projected = d_products.split(hidden, -1)

        # the skip's gradient, d_h (1 - r)
        skip_out = d_projected[0] if projected else None
        d_skip = torch.addcmul(d_h, d_h, reset, value=-1, out=skip_out)
        # r before its sigmoid: d_h (tanh c - x) r (1 - r), where (tanh c - x) r = h - x
        torch.sub(h, projected[0] if projected else x, out=d_reset).mul_(d_skip)
        d_activated = d_h - d_skip
        d_memory = torch.addcmul(d_activated, d_activated * activated, activated, value=-1)
        # the state's gradient through all later states: e_t = d_memory_t + f_{t+1} e_{t+1}; the
        # last step's factor is not used
        d_memory = scan(forget.roll(-1, 1), d_memory, reverse=True)
        torch.addcmul(d_memory, d_memory, forget, value=-1, out=d_candidate)  # d_memory (1 - f)
        # f before its sigmoid: d_memory (c_{t-1} - x~) f (1 - f), where (c_{t-1} - x~) f = c_t - x~
        torch.sub(memory, candidate, out=d_forget).mul_(d_candidate)

        flat = d_products.flatten(0, 1)  # (N T, 3 E or 4 E)
        d_bias = d_products[..., hidden : 3 * hidden].sum((0, 1))
        masked = x if mask is None else x * mask
        d_weight = flat.T @ masked.flatten(0, 1)
        if not ctx.needs_input_grad[0]:
            return None, d_weight, d_bias, None
        if mask is not None:
            d_x = (flat @ weight).view_as(x) * mask
            return d_x if projected else d_x + d_skip, d_weight, d_bias, None
        d_x = flat @ weight if projected else d_skip.flatten(0, 1).addmm_(flat, weight)
        return d_x.view_as(x), d_weight, d_bias, None


def scan(factors: Tensor, values: Tensor, reverse: bool = False) -> Tensor:
    """y_t = a_t y_{t-1} + b_t with y_0 = 0 (`reverse`: y_t = a_t y_{t+1} + b_t) along the second
    axis of factors a and values b, both (N, T, ...), in 2 log2 T parallel steps (Brent and Kung
    1982). Both are overwritten; b becomes y, which is returned. It uses only sums and products, so
    it is as exact as a loop over t.
    """
    steps = values.shape[1]
    if steps > 1:
        # Every second step absorbs the step before it,
        current, before = _neighbours(steps, 1, reverse)
        values[:, current].addcmul_(factors[:, current], values[:, before])
        factors[:, current].mul_(factors[:, before])
        # the half of the steps that absorbed another is scanned,
        scan(factors[:, current], values[:, current], reverse)
        # and the other steps are computed from their neighbours.
        current, before = _neighbours(steps, 2, reverse)
        values[:, current].addcmul_(factors[:, current], values[:, before])
    return values


def _neighbours(steps: int, first: int, reverse: bool) -> tuple[slice, slice]:
    """Steps first, first + 2, ... and the one before each; `reverse`: counted from the end, still
    listed in order of time."""
    count = (steps - first + 1) // 2
    start = steps + 1 - first - 2 * count if reverse else first
    other = start + 1 if reverse else start - 1
    return slice(start, start + 2 * count - 1, 2), slice(other, other + 2 * count - 1, 2)
