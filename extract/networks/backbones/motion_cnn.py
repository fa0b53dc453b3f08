"""The motion CNN of the multi-stream system (Fusion of modern deep CNN and RNN, IV.C), after
Simonyan and Zisserman 2014, Two-stream convolutional networks; batch norm in place of its local
response normalisation."""

import math
from collections import OrderedDict

from torch import Tensor, nn

from reelbank.extract.networks.backbones.names import plain
from reelbank.extract.networks.backbones.registry import Backbone
from reelbank.extract.networks.preprocessing import Preprocessing
from reelbank.extract.networks.types import CheckpointFormat

SIZE_PX = (240, 320)  # height and width
HALVINGS = 5  # conv1, pool1, conv2, pool2, pool5


def build(channels: int, width: float = 1.0) -> nn.Module:
    """(N, channels, h, w) float, normalised flow -> (N, 2048 width): full7 after its ReLU (and
    dropout, when training).

    channels: 2 L for stacks of L flow fields, 20 in the paper. width multiplies all counts of
    channels and units. Made for 240 x 320 pixels: full6 reads maps of 8 x 10, to which other sizes
    are brought by adaptive pooling, which at 240 x 320 changes nothing. Every convolution and
    pooling is padded by k // 2.
    """
    c1, c2, c3, f6, f7 = (max(1, round(count * width)) for count in (96, 256, 512, 4096, 2048))
    height, breadth = (math.ceil(side / 2**HALVINGS) for side in SIZE_PX)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(channels, c1, 7, 2, 3),
        relu1=nn.ReLU(),
        pool1=nn.MaxPool2d(3, 2, 1),
        norm1=nn.BatchNorm2d(c1),
        conv2=nn.Conv2d(c1, c2, 5, 2, 2),
        relu2=nn.ReLU(),
        pool2=nn.MaxPool2d(3, 2, 1),
        conv3=nn.Conv2d(c2, c3, 3, 1, 1),
        relu3=nn.ReLU(),
        conv4=nn.Conv2d(c3, c3, 3, 1, 1),
        relu4=nn.ReLU(),
        conv5=nn.Conv2d(c3, c3, 3, 1, 1),
        relu5=nn.ReLU(),
        pool5=nn.MaxPool2d(3, 2, 1),
        fit=nn.AdaptiveAvgPool2d((height, breadth)),
        flat=nn.Flatten(),
        full6=nn.Linear(c3 * height * breadth, f6),
        relu6=nn.ReLU(),
        drop6=nn.Dropout(0.5),
        full7=nn.Linear(f6, f7),
        relu7=nn.ReLU(),
        drop7=nn.Dropout(0.5),
    )
    for part in layers.values():
        # The network is trained from scratch: this keeps the variance through the ReLUs.
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            nn.init.zeros_(part.get_parameter("bias"))
    return nn.Sequential(layers)


def from_checkpoint(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keep the names: weights trained here have the model's own, and no checkpoint is published."""
    return plain(state, ("module.",), ())


BACKBONE = Backbone(
    build=build,
    # 128 is zero motion in a flow map of 8 bits.
    preprocessing=Preprocessing(SIZE_PX, SIZE_PX, mean=(128 / 255,), std=(0.5,)),
    kind="image",
    checkpoints=CheckpointFormat(from_checkpoint),
    has_width=True,
    has_dropout=True,
    trained_from="random",  # as in the paper
)
