"""BN-Inception as TSN has it: Ioffe and Szegedy 2015, Batch normalization; Wang et al. 2016,
Temporal segment networks.

Names of tsn-pytorch (made from Caffe's layers), which mmaction shares.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from reelbank.extract.networks.backbones.names import plain
from reelbank.extract.networks.backbones.registry import Backbone
from reelbank.extract.networks.preprocessing import Preprocessing
from reelbank.extract.networks.types import CheckpointFormat

# Channels of: 1x1; 1x1 then 3x3; 1x1 then 3x3 twice; 1x1 after pooling. Blocks without the first
# and last halve the maps.
BLOCKS = {
    "3a": (64, 64, 64, 64, 96, 32),
    "3b": (64, 64, 96, 64, 96, 64),
    "3c": (0, 128, 160, 64, 96, 0),
    "4a": (224, 64, 96, 96, 128, 128),
    "4b": (192, 96, 128, 96, 128, 128),
    "4c": (160, 128, 160, 128, 160, 128),
    "4d": (96, 128, 192, 160, 192, 128),
    "4e": (0, 128, 192, 192, 256, 0),
    "5a": (352, 192, 320, 160, 224, 128),
    "5b": (352, 192, 320, 192, 224, 128),
}


class BNInception(nn.Module):
    """(N, channels, h, w) float -> (N, 1024): the mean over space of the last block. RGB, or stacks
    of flow (2 L channels)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self._add("conv1_7x7_s2", channels, 64, 7, 2)
        self._add("conv2_3x3_reduce", 64, 64, 1)
        self._add("conv2_3x3", 64, 192, 3)
        width = 192
        for block, (single, reduce, wide, double_reduce, double, projection) in BLOCKS.items():
            name, stride = f"inception_{block}", 1 if single else 2
            if single:
                self._add(f"{name}_1x1", width, single, 1)
                self._add(f"{name}_pool_proj", width, projection, 1)
            self._add(f"{name}_3x3_reduce", width, reduce, 1)
            self._add(f"{name}_3x3", reduce, wide, 3, stride)
            self._add(f"{name}_double_3x3_reduce", width, double_reduce, 1)
            self._add(f"{name}_double_3x3_1", double_reduce, double, 3)
            self._add(f"{name}_double_3x3_2", double, double, 3, stride)
            self.add_module(f"{name}_output", nn.Identity())  # a name to cut the network at
            width = single + wide + double + (projection or width)
        self.global_pool = nn.AdaptiveAvgPool2d(1)

    def _add(self, name: str, channels: int, width: int, kernel: int, stride: int = 1) -> None:
        self.add_module(name, nn.Conv2d(channels, width, kernel, stride, kernel // 2))
        self.add_module(f"{name}_bn", nn.BatchNorm2d(width))

    def _unit(self, name: str, x: Tensor) -> Tensor:
        return getattr(self, f"{name}_bn")(getattr(self, name)(x)).relu()

    def forward(self, x: Tensor) -> Tensor:
        x = self._unit("conv1_7x7_s2", x)
        x = functional.max_pool2d(x, 3, 2, ceil_mode=True)  # Caffe rounds sizes up
        x = self._unit("conv2_3x3", self._unit("conv2_3x3_reduce", x))
        x = functional.max_pool2d(x, 3, 2, ceil_mode=True)
        for block in BLOCKS:
            x = self._block(block, x)
        return self.global_pool(x).flatten(1)

    def _block(self, block: str, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C', h, w), or half of h and w."""
        name = f"inception_{block}"
        branches = [
            self._unit(f"{name}_3x3", self._unit(f"{name}_3x3_reduce", x)),
            self._unit(
                f"{name}_double_3x3_2",
                self._unit(f"{name}_double_3x3_1", self._unit(f"{name}_double_3x3_reduce", x)),
            ),
        ]
        if BLOCKS[block][0]:
            last = block == "5b"  # the only block with maximum pooling
            near = functional.max_pool2d(x, 3, 1, 1) if last else functional.avg_pool2d(x, 3, 1, 1)
            branches = [
                self._unit(f"{name}_1x1", x),
                *branches,
                self._unit(f"{name}_pool_proj", near),
            ]
        else:
            # Caffe rounds sizes up, and odd sizes get one more window, as in the convolutions.
            # Padding with zeros is correct after a ReLU.
            branches.append(functional.max_pool2d(functional.pad(x, (0, 2, 0, 2)), 3, 2))
        return getattr(self, f"{name}_output")(torch.cat(branches, 1))


def build(channels: int) -> nn.Module:
    """The network with random weights."""
    return BNInception(channels)


def from_checkpoint(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """From the names of tsn-pytorch (module.base_model.*, new_fc.*), mmaction (backbone.*,
    cls_head.*) or the bare network.

    PyTorch before 0.4 kept batch norm's vectors as (1, C); they become (C,).
    """
    weights = plain(
        state,
        ("module.", "base_model.", "backbone."),
        ("new_fc.", "fc.", "fc_action.", "last_linear.", "cls_head."),
    )
    return {
        key: value[0] if "_bn." in key and value.ndim == 2 and len(value) == 1 else value
        for key, value in weights.items()
    }


BACKBONE = Backbone(
    build=build,
    preprocessing=Preprocessing(
        256, 224, (104 / 255, 117 / 255, 128 / 255), (1 / 255,) * 3, order="bgr"
    ),
    kind="image",
    checkpoints=CheckpointFormat(from_checkpoint),
)
