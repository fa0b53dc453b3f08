"""Small networks as a user's file defines them, for EXTRACTOR=tiny.py:build."""

POOLED = """
import torch
from torch import nn

class Tiny(nn.Module):
    mean = std = (0.5, 0.5, 0.5)
    input_size = (3, 32, 32)

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 5, 4)

    def forward(self, x):
        return self.conv(x).relu().mean((2, 3))

def build():
    torch.manual_seed(0)
    return Tiny()
"""

# Each forward takes as long as the environment says, so that a test can stop an extraction half way.
PAUSING = """
import os, time
from torch import nn

class Tiny(nn.Module):
    mean = std = (0.5, 0.5, 0.5)
    input_size = (3, 32, 32)

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 5, 4)

    def forward(self, x):
        if x.mean() > -9:  # which torch.fx cannot follow, so that the pause stays
            time.sleep(float(os.environ.get("PAUSE_SECONDS", "0")))
        return self.conv(x).relu().mean((2, 3))

def build():
    return Tiny()
"""

# Layers with names, and a classifier to be cut off: for FREEZE= and pretraining.
LAYERED = """
import torch
from torch import nn

def build():
    model = nn.Sequential()
    model.add_module("conv1", nn.Conv2d(3, 4, 3, 2, 1, bias=False))
    model.add_module("bn1", nn.BatchNorm2d(4))
    model.add_module("relu1", nn.ReLU())
    model.add_module("conv2", nn.Conv2d(4, 8, 3, 2, 1, bias=False))
    model.add_module("bn2", nn.BatchNorm2d(8))
    model.add_module("relu2", nn.ReLU())
    model.add_module("flat", nn.Flatten())
    model.add_module("fc", nn.Linear(8 * 16, 12))
    model.input_size, model.mean, model.std = (3, 16, 16), (0.4, 0.5, 0.6), (0.5, 0.5, 0.5)
    return model
"""
