"""C3D: Tran et al. 2015, Learning spatiotemporal features with 3D convolutional networks. Names of
the Sports-1M port."""

import torch
from torch import Tensor, nn

from reelbank.data.errors import InputError
from reelbank.extract.networks.backbones.names import plain
from reelbank.extract.networks.backbones.registry import Backbone
from reelbank.extract.networks.preprocessing import Preprocessing
from reelbank.extract.networks.types import CheckpointFormat

SIZE = (16, 112, 112)


class C3D(nn.Module):
    """(N, channels, 16, 112, 112) float -> fc6 after its ReLU, (N, 4096). Raises InputError for
    clips of another size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels, 64, 3, padding=1)
        self.pool1 = nn.MaxPool3d((1, 2, 2))
        self.conv2 = nn.Conv3d(64, 128, 3, padding=1)
        self.pool2 = nn.MaxPool3d(2)
        self.conv3a = nn.Conv3d(128, 256, 3, padding=1)
        self.conv3b = nn.Conv3d(256, 256, 3, padding=1)
        self.pool3 = nn.MaxPool3d(2)
        self.conv4a = nn.Conv3d(256, 512, 3, padding=1)
        self.conv4b = nn.Conv3d(512, 512, 3, padding=1)
        self.pool4 = nn.MaxPool3d(2)
        self.conv5a = nn.Conv3d(512, 512, 3, padding=1)
        self.conv5b = nn.Conv3d(512, 512, 3, padding=1)
        self.pool5 = nn.MaxPool3d(2, padding=(0, 1, 1))
        self.fc6 = nn.Linear(512 * 1 * 4 * 4, 4096)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool1(self.conv1(of_size(x)).relu())  # (N, 64, 16, 56, 56)
        x = self.pool2(self.conv2(x).relu())  # (N, 128, 8, 28, 28)
        x = self.pool3(self.conv3b(self.conv3a(x).relu()).relu())  # (N, 256, 4, 14, 14)
        x = self.pool4(self.conv4b(self.conv4a(x).relu()).relu())  # (N, 512, 2, 7, 7)
        x = self.pool5(self.conv5b(self.conv5a(x).relu()).relu())  # (N, 512, 1, 4, 4)
        return self.fc6(x.flatten(1)).relu()


@torch.fx.wrap  # one graph node: torch.fx cannot trace a condition
def of_size(x: Tensor) -> Tensor:
    """Return the clips unchanged. Raises InputError unless they have the size that fc6 needs."""
    if x.shape[2:] != SIZE:
        size = " x ".join(map(str, x.shape[2:]))
        raise InputError(
            "EXTRACTOR=c3d needs clips of 16 frames of 112 x 112 pixels, because of its "
            f"layer fc6 (got {size})"
        )
    return x


def build(channels: int) -> nn.Module:
    """The network with random weights, for RGB (3 channels) or flow (2)."""
    return C3D(channels)


# Names of two ports -> names here: the port with Caffe's layers by number, and mmaction2.
NAMES = {
    "features.0": "conv1",
    "features.3": "conv2",
    "features.6": "conv3a",
    "features.8": "conv3b",
    "features.11": "conv4a",
    "features.13": "conv4b",
    "features.16": "conv5a",
    "features.18": "conv5b",
    "classifier.0": "fc6",
    "conv1a.conv": "conv1",
    "conv2a.conv": "conv2",
    **{
        f"{name}.conv": name
        for name in ("conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b")
    },
}


def from_checkpoint(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """From the names of c3d.pickle, of c3d-pretrained.pth (features.*, classifier.*) or of
    mmaction2 (backbone.*)."""
    weights = plain(
        state,
        ("module.", "backbone."),
        ("fc7.", "fc8.", "classifier.3.", "classifier.6.", "cls_head."),
    )
    renamed = {}
    for key, value in weights.items():
        layer, dot, kind = key.rpartition(".")
        renamed[f"{NAMES.get(layer, layer)}{dot}{kind}"] = value
    return renamed


BACKBONE = Backbone(
    build=build,
    # Sports-1M's mean clip, averaged over places and time, as its ports round it.
    preprocessing=Preprocessing(
        (128, 171), 112, (90 / 255, 98 / 255, 102 / 255), (1 / 255,) * 3, order="bgr"
    ),
    kind="video",
    clip_frames=16,
    checkpoints=CheckpointFormat(from_checkpoint),
)
