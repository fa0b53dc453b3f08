"""The trunk of a head on feature maps, which is the rest of the network after the node whose maps
the store contains."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from reelbank.data.banks import AnyBank
from reelbank.data.errors import InputError
from reelbank.data.identity import extractor_name
from reelbank.extract.networks import build as networks
from reelbank.extract.networks.provenance import Provenance
from reelbank.extract.networks.sources import kind_of
from reelbank.extract.networks.trained import TrainedWeights, folder_of_weights, load_weights
from reelbank.extract.networks.weights import set_batch_norm_eps
from reelbank.extract.streams.loading import recorded_stream
from reelbank.heads.models.temporal_skips import TemporalShortcut, add_skips, last_blocks
from reelbank.heads.recipe import TrunkRecipe


def trunk_recipe(
    store_recipe: dict[str, Any], kind: str, streams: Sequence[str] = ()
) -> TrunkRecipe:
    """The trunk of a head on this store's maps. The kind "backbone" is the rest of the store's
    network, and "pool" is the mean over space.

    streams: file.py:Class of the user's streams, for a store of one of them. Raises InputError when
    the store does not say which network and node its maps are from, and for an unknown stream.
    """
    if kind == "pool":
        return TrunkRecipe("pool")
    names = {name: store_recipe.get(name) for name in ("extractor", "node", "stream")}
    weights = store_recipe.get("weights")
    if not all(isinstance(name, str) and name for name in names.values()) or not isinstance(
        weights, dict
    ):
        raise InputError(
            "TRUNK=backbone needs the network and the node that computed the feature "
            "maps, but the store does not record them; give TRUNK=pool to average the "
            "maps over space, or extract the maps again with AT=<node>"
        )
    stacks_items = recorded_stream(str(names["stream"]), streams).stacks_items
    return TrunkRecipe(
        kind="backbone",
        extractor=str(names["extractor"]),
        node=str(names["node"]),
        stream=str(names["stream"]),
        width=store_recipe.get("width", 1.0),
        fields=store_recipe.get("clip_frames", 1) if stacks_items else 0,
        sha256=weights.get("sha256", ""),
        code_sha256=weights.get("code_sha256", ""),
        batch_norm_eps=weights.get("batch_norm_eps"),
    )


def context_skips(
    trunk: TrunkRecipe, context: int, extractor: str = "", streams: Sequence[str] = ()
) -> tuple[str, ...]:
    """The blocks whose skips together cover `context` frames, which are the last `context` - 1
    blocks whose output has the shape of their input (Recurrent Residual Learning, 3.3).

    extractor, streams: as for `build_trunk`. Raises InputError for a trunk without residual blocks.
    """
    if not trunk.is_backbone:
        raise InputError(
            "TRUNK=pool has no residual blocks for temporal skips; give TRUNK=backbone"
        )
    return last_blocks(_network(trunk, extractor, streams).model, context - 1)


def build_trunk(
    recipe: TrunkRecipe,
    row_shape: Sequence[int],
    extractor: str = "",
    network: networks.Trunk | None = None,
    streams: Sequence[str] = (),
) -> tuple[nn.Module, int]:
    """The trunk, a module (n, C, h, w) -> (n, E), and the size E of its output.

    extractor: file.py:function, for a network from a user's file; network: the network whose
    weights the trunk starts from (default: random weights); streams: file.py:Class of the user's
    streams, for maps of one of them. Raises InputError for a network that cannot be built, or not
    cut at this node.
    """
    if not recipe.is_backbone:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), int(row_shape[0])
    model = (network or _network(recipe, extractor, streams)).model
    node, name, skips = recipe.node, recipe.extractor, recipe.skips
    if skips:
        add_skips(model, skips, recipe.skip, name)
    # It loads torchvision, which takes a second or two and which only heads on feature maps need.
    from reelbank.extract.networks.cut import rest

    trunk = rest(model, node, name, leaves=(TemporalShortcut,))
    shortcuts = [part for part in trunk.modules() if isinstance(part, TemporalShortcut)]
    if len(shortcuts) < len(skips):
        raise InputError(
            f"SKIPS={' '.join(skips)}: all of these blocks must come after {node}, "
            f"because the store contains the output of {node}; give later blocks, or "
            f"extract the output of the block before {skips[0]} (AT=<block>)"
        )
    trunk.eval()
    with torch.inference_mode():
        for shortcut in shortcuts:
            shortcut.previous = torch.full((1,), -1)
        embedding = trunk(torch.zeros(1, *row_shape))
    if embedding.ndim != 2:
        raise InputError(
            f"TRUNK=backbone: the layers of {name} after {node} must return one vector "
            f"per frame (got an output of shape {tuple(embedding.shape[1:])}); give "
            "TRUNK=pool"
        )
    return trunk.train(), embedding.shape[1]


def backbone(
    store_recipe: dict[str, Any],
    recipe: TrunkRecipe,
    *,
    bank: AnyBank,
    extractor: str,
    weights: str,
    streams: Sequence[str] = (),
) -> networks.Trunk:
    """The store's network with the weights that its features were computed with, located by the
    origin of weights in the store's recipe.

    weights: the weights' file, for a store that was made with one; extractor, streams: as for
    `build_trunk`. Raises InputError when the weights are missing or have changed.
    """
    origin = Provenance.from_json(store_recipe["weights"])
    trained = None
    if origin.kind == "trained":
        trained = load_weights(folder_of_weights(bank, origin.name))
    elif origin.kind != "file":
        weights = origin.option
    elif not weights:
        raise InputError(
            "TRUNK=backbone: the weights of the store's network came from "
            f"{origin.source}, whose path is not recorded; give TRUNK_WEIGHTS=<path of "
            "that file>, or TRUNK=pool"
        )
    network = _network(
        recipe, extractor, streams, weights=weights, seed=origin.seed, trained=trained
    )
    if network.weights.sha256 != recipe.sha256:
        raise InputError(
            f"TRUNK=backbone: the weights of {recipe.extractor} ({origin.source}) differ "
            "from the weights that the store was extracted with; give the same weights, "
            "or extract again"
        )
    return network


def _network(
    recipe: TrunkRecipe,
    extractor: str,
    streams: Sequence[str],
    *,
    weights: str = "random",
    seed: int = 0,
    trained: TrainedWeights | None = None,
) -> networks.Trunk:
    name = recipe.extractor
    # Stores and runs may be untrusted, so only a file that the user names is executed.
    if ".py" in name:
        raise InputError(
            f"the recipe names the Python file {name} as its extractor, but for security "
            "this file is executed only if you name it yourself; give "
            "EXTRACTOR=<path>:<function>"
        )
    if "." in name and ":" not in name:  # a user's file, by stem and function (extractor_name)
        _check_own_network(recipe, extractor)
        name, weights = extractor, "own" if weights == "random" else weights
    stream = recorded_stream(recipe.stream, streams)
    channels = stream.channels
    if recipe.fields and kind_of(name) == "image":
        channels *= recipe.fields
    network = networks.trunk(
        name,
        weights,
        seed,
        inputs=stream.network_input(channels),
        width=recipe.width,
        trained=trained,
    )
    if recipe.batch_norm_eps is not None:  # a checkpoint's weights do not include eps
        set_batch_norm_eps(network.model, recipe.batch_norm_eps)
    return network


def _check_own_network(recipe: TrunkRecipe, extractor: str) -> None:
    """Raises InputError unless `extractor` is the user's file that computed the maps, unchanged."""
    path = Path(extractor.rpartition(":")[0])
    if extractor_name(extractor) != recipe.extractor or not path.is_file():
        stem, _, function = recipe.extractor.rpartition(".")
        raise InputError(
            f"the feature maps were computed by your own network, {function}() in "
            f"{stem}.py; give EXTRACTOR=<path of {stem}.py>:{function}, or TRUNK=pool"
        )
    if hashlib.sha256(path.read_bytes()).hexdigest() != recipe.code_sha256:
        raise InputError(
            f"EXTRACTOR={extractor}: this file has changed since the store was extracted; "
            "restore the old version of the file, or extract again"
        )
