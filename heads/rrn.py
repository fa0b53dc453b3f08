"""Recurrent residual networks ('Recurrent Residual Learning for Action Recognition', 3.2 and 3.3): residual blocks whose
shortcut also brings the block's own input of one frame before."""

import difflib

import torch
from torch import Tensor, nn

from reelbank.data.errors import InputError

SKIPS = ("identity", "linear", "nonlinear")


class TemporalShortcut(nn.Module):
    """What a residual block adds to its convolutions, before its last ReLU: y_t = f(x_t) + x_t and, of the frame before,

    identity (2) x_{t-1};  linear (3) x_{t-1} * W_s;  nonlinear (4) relu(x_{t-1} * W_s), W_s a 1 x 1 convolution with the
    block's stride. Nothing is added at t = 1.

    forward(x (n, C, h, w)) -> (n, C', h', w'), rows of several sequences one below the other; `previous` (n,) int64 says which
    row is of the frame before each, -1 for none, and is set before each forward.
    """

    def __init__(self, shortcut: nn.Module | None, kind: str, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.shortcut, self.kind = shortcut, kind
        self.convolution: nn.Conv2d | None = None
        if kind != "identity":
            self.convolution = nn.Conv2d(channels, out_channels, 1, stride, bias=False)
            nn.init.kaiming_normal_(self.convolution.weight, mode="fan_out", nonlinearity="relu")
        self.previous: Tensor = torch.empty(0, dtype=torch.int64)

    def forward(self, x: Tensor) -> Tensor:
        own = x if self.shortcut is None else self.shortcut(x)
        has_previous = self.previous >= 0
        before = x[self.previous[has_previous]]
        if self.convolution is not None:
            before = self.convolution(before)
        if self.kind == "nonlinear":
            before = torch.relu(before)
        return own.index_add(0, torch.nonzero(has_previous).flatten(), before)


class RRN(nn.Module):
    """The rest of a residual network, some of whose blocks have a TemporalShortcut (`add_skips`), and a linear classifier.

    forward(x (N, T, C, h, w), lengths (N,)): what comes out at a sequence's last valid frame is its prediction (decided).
    trunk: (n, C, h, w) -> (n, trunk_dim), the embedding; `dropout` before the classifier.
    """

    def __init__(self, feature_dim: int, num_classes: int, trunk: nn.Module, trunk_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.trunk = trunk
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(trunk_dim, num_classes)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        time = torch.arange(x.shape[1], device=x.device)
        valid = time < lengths[:, None]  # (N, T)
        frame = time.expand_as(valid)[valid]  # (n,), counted from 0
        rows = torch.arange(len(frame), device=x.device)
        for part in self.trunk.modules():
            if isinstance(part, TemporalShortcut):
                part.previous = torch.where(frame > 0, rows - 1, -1)
        embedding = self.trunk(x[valid])[lengths.cumsum(0) - 1]  # (n, C, h, w) -> (n, E) -> (N, E)
        return self.classifier(self.dropout(embedding)), embedding


def add_skips(model: nn.Module, skips: tuple[str, ...], kind: str, name: str) -> None:
    """Put temporal skips into residual blocks of a whole network, in place. skips: module names, as "layer4.2"; kind: one of
    SKIPS; name: the network's, for errors.

    Raises InputError for a block that is not there, is none, has a skip already, or changes its shape where the kind is
    identity.
    """
    blocks = _blocks(model)
    for skip in skips:
        if skip not in blocks:
            near = difflib.get_close_matches(skip, blocks, 1)
            instead = f"did you mean {near[0]}?" if near else f"it has {', '.join(blocks) or 'none'}"
            raise InputError(f"SKIPS={skip}: {name} has no such residual block with a shortcut of its own; {instead}")
        block = blocks[skip]
        if isinstance(block.downsample, TemporalShortcut):
            raise InputError(f"SKIPS={skip}: this block of {name} has a skip already; name each block once")
        channels, out_channels, stride = _shape(block)
        if kind == "identity" and not _keeps_shape(block):
            keeping = ", ".join(one for one, other in blocks.items() if _keeps_shape(other))
            raise InputError(
                f"SKIP=identity: {skip} of {name} makes {out_channels} channels of {channels} with stride {stride}; give "
                f"SKIP=linear, or a block that keeps its shape ({keeping})"
            )
        shortcut = block.downsample
        block.downsample = TemporalShortcut(shortcut, kind, channels, out_channels, stride)  # type: ignore[arg-type]


def last_blocks(model: nn.Module, count: int) -> tuple[str, ...]:
    """Names of the last `count` residual blocks that keep their shape, in the order in which they run; n of them see n + 1
    frames. Raises InputError when there are not as many."""
    keeping = [name for name, block in _blocks(model).items() if _keeps_shape(block)]
    if len(keeping) < count:
        short = f"needs {count} residual blocks that keep their shape; the network has {len(keeping)}"
        raise InputError(f"CONTEXT={count + 1}: {short}")
    return tuple(keeping[-count:])


def _blocks(model: nn.Module) -> dict[str, nn.Module]:
    """The residual blocks whose shortcut is a module of its own: torchvision's and timm's ResNets. (Pre-activation ones hand
    their shortcut another value than the block's input: they have `norm1`, and are none.)"""
    return {
        name: block
        for name, block in model.named_modules()
        if hasattr(block, "downsample") and isinstance(getattr(block, "conv2", None), nn.Conv2d) and not hasattr(block, "norm1")
    }


def _shape(block: nn.Module) -> tuple[int, int, int]:
    """Channels in and out, and stride, of a residual block."""
    convolutions = [part for name in ("conv1", "conv2", "conv3") if isinstance(part := getattr(block, name, None), nn.Conv2d)]
    stride = max(part.stride[0] for part in convolutions)
    if isinstance(own := getattr(block, "stride", None), int):  # a blur of timm's, not a convolution, may be what strides
        stride = own
    return convolutions[0].in_channels, convolutions[-1].out_channels, stride


def _keeps_shape(block: nn.Module) -> bool:
    channels, out_channels, stride = _shape(block)
    return channels == out_channels and stride == 1
