"""A network of a user's own, with the same weights everywhere."""

import torch
from torch import nn


def tiny() -> nn.Module:
    """Pictures (N, 3, h, w) to (N, 4)."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.arange(parameter.numel()).reshape(parameter.shape) / 64)
    model.input_size = (3, 32, 32)
    return model
