"""Batch norms that normalise with their running statistics while they train, too."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def running_norms(head: nn.Module, momentum: float) -> None:
    """From now on every batch norm in `head` normalises by its running mean and variance in training as in evaluation, and in
    training first moves them towards the batch's by `momentum` ('Relational LSTM', 5.2: 0.001). State dicts keep their
    names."""
    for part in head.modules():
        if isinstance(part, _BatchNorm) and part.running_mean is not None:
            part.momentum = momentum
            part.register_forward_pre_hook(_move)
            part.register_forward_hook(_train_again, always_call=True)


def _move(norm: Any, inputs: tuple[Any, ...]) -> None:
    """Before a forward in training: move the statistics, then be in evaluation for the forward itself."""
    if not norm.training:
        return
    x: Tensor = inputs[0]
    with torch.no_grad():
        over = [axis for axis in range(x.ndim) if axis != 1]
        variance, mean = torch.var_mean(x, over, correction=1 if x.numel() > x.shape[1] else 0)  # unbiased, as torch's own
        # new tensors: a norm that runs twice before one backward still needs those of its first forward
        norm.running_mean = norm.running_mean.lerp(mean, norm.momentum)
        norm.running_var = norm.running_var.lerp(variance, norm.momentum)
        norm.num_batches_tracked += 1
    norm.training = False
    norm.moves = True


def _train_again(norm: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    if getattr(norm, "moves", False):
        norm.training, norm.moves = True, False
