"""VGGish: Hershey et al. 2017, CNN architectures for large-scale audio classification. Names of the
torchvggish port."""

import torch
from torch import Tensor, nn

from reelbank.data.errors import InputError
from reelbank.extract.networks.backbones.names import plain
from reelbank.extract.networks.backbones.registry import Backbone
from reelbank.extract.networks.preprocessing import Preprocessing
from reelbank.extract.networks.types import CheckpointFormat

CONVOLUTIONS = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool")
EMBEDDING = 128


class VGGish(nn.Module):
    """Log-mel (N, 1, 96, 64) float -> (N, 128): the output of the last ReLU, transformed by PCA if
    the weights contain one."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for width in CONVOLUTIONS:
            if isinstance(width, int):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.embeddings = nn.Sequential(
            nn.Linear(6 * 4 * 512, 4096),
            nn.ReLU(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, EMBEDDING),
            nn.ReLU(),
        )
        self.pproc = Whitening()

    def forward(self, x: Tensor) -> Tensor:
        maps = self.features(x).permute(0, 2, 3, 1)  # (N, 6, 4, 512), the order of TensorFlow
        return self.pproc(self.embeddings(maps.flatten(1)))


class Whitening(nn.Module):
    """AudioSet's PCA with whitening, (N, 128) -> (N, 128), without clipping and quantisation. It is
    the identity until weights are loaded."""

    pca_eigen_vectors: Tensor
    pca_means: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("pca_eigen_vectors", torch.eye(EMBEDDING))
        self.register_buffer("pca_means", torch.zeros(EMBEDDING, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.pca_means[:, 0]) @ self.pca_eigen_vectors.T


def build(channels: int) -> nn.Module:
    """The network with random weights. Raises InputError unless channels is 1."""
    if channels != 1:
        raise InputError(
            "EXTRACTOR=vggish needs log-mel spectrograms of sound; use STREAM=audio (got "
            f"pictures of {channels} channels)"
        )
    return VGGish()


def from_checkpoint(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The port's own names; a checkpoint without PCA (pproc.*) gets the identity."""
    return {
        **{f"pproc.{key}": value for key, value in Whitening().state_dict().items()},
        **plain(state, ("module.",), ()),
    }


BACKBONE = Backbone(
    build=build,
    preprocessing=Preprocessing(resize_px=(96, 64), crop_px=(96, 64), mean=(0.0,), std=(1.0,)),
    kind="sound",
    checkpoints=CheckpointFormat(from_checkpoint),
)
