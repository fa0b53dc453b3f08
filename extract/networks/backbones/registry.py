"""The networks that are defined here, one file each, and the description that each file
contains."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from reelbank.data.plugins import load_plugin
from reelbank.extract.networks.inputs import NetworkKind
from reelbank.extract.networks.preprocessing import Preprocessing
from reelbank.extract.networks.types import CheckpointFormat

BACKBONES = {
    "i3d": "extract.networks.backbones.i3d:BACKBONE",
    "c3d": "extract.networks.backbones.c3d:BACKBONE",
    "vggish": "extract.networks.backbones.vggish:BACKBONE",
    "bn_inception": "extract.networks.backbones.bn_inception:BACKBONE",
    "motion_cnn": "extract.networks.backbones.motion_cnn:BACKBONE",
}


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A network that is defined here.

    build(channels) -> model with random weights: float (N, channels, [s,] h, w), normalised ->
        (N, D); it has no classifier. With `has_width` it also takes `width`.
    clip_frames: pictures, or flow fields, of a clip; 1 for networks other than video networks
    has_dropout: whether the network contains dropout, so that training does not add any
    trained_from: the default of WEIGHTS in `pretrain`
    reads_larger: whether it reads every input whose length, height and width are at least those of
        an input that it reads
    """

    build: Callable[..., nn.Module]
    preprocessing: Preprocessing
    kind: NetworkKind
    clip_frames: int = 1
    checkpoints: CheckpointFormat = CheckpointFormat()
    has_width: bool = False
    has_dropout: bool = False
    trained_from: str = ""
    reads_larger: bool = False


def load_backbone(name: str) -> Backbone:
    backbone = load_plugin(name, BACKBONES, option="EXTRACTOR")
    assert isinstance(backbone, Backbone)
    return backbone
