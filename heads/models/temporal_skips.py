"""Temporal skips ('Recurrent Residual Learning for Action Recognition', 3.2 and 3.3). The sum
of a residual block also adds the block's input of the previous frame.

A ResNet's block ends in a ReLU after the sum, so the skip is part of its shortcut. An inverted
residual block (MobileNet, EfficientNet) ends in the sum, so the skip is added to its output.
"""

from typing import Any

import torch
from torch import Tensor, nn

from reelbank.data.console import nearest
from reelbank.data.errors import InputError


class TemporalShortcut(nn.Module):
    """The shortcut of a residual block, or an inverted residual block as a whole: `shortcut`(x_t),
    or x_t for None, plus a term from the previous frame,

    identity (2) x_{t-1};  linear (3) x_{t-1} * W_s;  nonlinear (4) relu(x_{t-1} * W_s),

    where W_s is a 1 x 1 convolution with the block's stride. At t = 1 there is no such term.

    forward(x (n, C, h, w)) -> (n, C', h', w'), the rows of several sequences concatenated;
    `previous` (n,) int64 is the row of each row's previous frame, -1 at a sequence's start, and is
    set before each forward pass.
    """

    def __init__(
        self, shortcut: nn.Module | None, kind: str, channels: int, out_channels: int, stride: int
    ) -> None:
        super().__init__()
        self.shortcut, self.kind = shortcut, kind
        self.convolution: nn.Conv2d | None = None
        if kind != "identity":
            self.convolution = nn.Conv2d(channels, out_channels, 1, stride, bias=False)
            nn.init.kaiming_normal_(self.convolution.weight, mode="fan_out", nonlinearity="relu")
        self.previous: Tensor = torch.empty(0, dtype=torch.int64)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        has_previous = self.previous >= 0
        before = x[self.previous[has_previous]]
        if self.convolution is not None:
            before = self.convolution(before)
        if self.kind == "nonlinear":
            before = torch.relu(before)
        return shortcut.index_add(0, torch.nonzero(has_previous).flatten(), before)


def add_skips(model: nn.Module, skips: tuple[str, ...], kind: str, name: str) -> None:
    """Add temporal skips to residual blocks of a whole network, in place. skips: module names, such
    as "layer4.2"; kind: one of SKIP_KINDS; name: the network's name, for errors.

    Raises InputError for a name that is not a residual block, for a block that has a skip already,
    and for identity skips on a block that changes its input's shape.
    """
    blocks = _blocks(model)
    for skip in skips:
        if skip not in blocks:
            hint = (
                nearest(skip, blocks) or f"; the possible blocks are {', '.join(blocks) or 'none'}"
            )
            raise InputError(
                f"SKIPS={skip}: {name} has no residual block of this name to which a "
                f"temporal skip can be added{hint}"
            )
        block = blocks[skip]
        if skips.count(skip) > 1:
            raise InputError(
                f"SKIPS={skip}: this block of {name} already has a skip; name each block once"
            )
        channels, out_channels, stride = _shape(block)
        if kind == "identity" and not _keeps_shape(block):
            keeping = ", ".join(
                block_name for block_name, other in blocks.items() if _keeps_shape(other)
            )
            raise InputError(
                "SKIP=identity needs residual blocks that keep the shape of their input, "
                f"but {skip} of {name} changes the shape ({channels} to {out_channels} "
                f"channels, stride {stride}); give SKIP=linear, or choose from the blocks "
                f"that keep the shape: {keeping or 'none'}"
            )
        if _is_inverted(block):
            whole = TemporalShortcut(block, kind, channels, out_channels, stride)
            model.set_submodule(skip, whole)
            continue
        shortcut: Any = block.downsample
        block.downsample = TemporalShortcut(shortcut, kind, channels, out_channels, stride)


def last_blocks(model: nn.Module, count: int) -> tuple[str, ...]:
    """The names of the last `count` residual blocks whose output has the shape of their input,
    in order of execution. n skips cover n + 1 frames. Raises InputError when there are fewer
    blocks."""
    keeping = [name for name, block in _blocks(model).items() if _keeps_shape(block)]
    if len(keeping) < count:
        short = (
            f"needs {count} residual blocks that do not change the shape, but the network has "
            f"{len(keeping)}; give a smaller CONTEXT"
        )
        raise InputError(f"CONTEXT={count + 1}: {short}")
    return tuple(keeping[-count:])


def _blocks(model: nn.Module) -> dict[str, nn.Module]:
    """The blocks that may get a skip: those whose shortcut is a separate module, as in
    torchvision's and timm's ResNets, and timm's inverted residual blocks with a shortcut.
    Pre-activation blocks (they have `norm1`) are excluded because the input of their shortcut is
    not the block's input."""
    return {
        name: block
        for name, block in model.named_modules()
        if _is_inverted(block)
        or hasattr(block, "downsample")
        and isinstance(getattr(block, "conv2", None), nn.Conv2d)
        and not hasattr(block, "norm1")
    }


def _is_inverted(block: nn.Module) -> bool:
    """Whether it is an inverted residual block with a shortcut. No activation follows its sum."""
    return getattr(block, "has_skip", False) is True and hasattr(block, "conv_dw")


def _shape(block: nn.Module) -> tuple[int, int, int]:
    """The input channels, the output channels and the stride of a residual block."""
    if _is_inverted(block):  # its shortcut keeps the shape
        first = next(part for part in block.modules() if isinstance(part, nn.Conv2d))
        return first.in_channels, first.in_channels, 1
    convolutions = [
        part
        for name in ("conv1", "conv2", "conv3")
        if isinstance(part := getattr(block, name, None), nn.Conv2d)
    ]
    stride = max(part.stride[0] for part in convolutions)
    # In timm a blur layer may have the stride instead of a convolution; the block records it.
    block_stride = getattr(block, "stride", None)
    if isinstance(block_stride, int):
        stride = block_stride
    return convolutions[0].in_channels, convolutions[-1].out_channels, stride


def _keeps_shape(block: nn.Module) -> bool:
    channels, out_channels, stride = _shape(block)
    return channels == out_channels and stride == 1
