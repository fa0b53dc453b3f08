"""What a head on feature maps begins with: the rest of the network after the node whose maps the store keeps."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from reelbank.data.errors import InputError
from reelbank.data.recipe import extractor_name
from reelbank.extract import networks
from reelbank.extract.cut import rest
from reelbank.extract.trained import load_weights, trained_weights, weights_folder
from reelbank.extract.zoo import kind_of
from reelbank.heads.rrn import TemporalShortcut, add_skips, last_blocks

TRUNKS = ("backbone", "pool")
POOL = {"kind": "pool"}


def trunk_recipe(store_recipe: dict[str, Any], kind: str) -> dict[str, Any]:
    """What a run's recipe says of its trunk: kind "backbone", the rest of the store's network, and which; or "pool", the mean
    over space. Raises InputError when the store does not say which network and node its maps are of."""
    if kind == "pool":
        return dict(POOL)
    found = {name: store_recipe.get(name) for name in ("extractor", "node", "stream")}
    weights = store_recipe.get("weights")
    if not all(isinstance(value, str) and value for value in found.values()) or not isinstance(weights, dict):
        raise InputError(
            "TRUNK=backbone: the store does not say of which network and node its maps are; give TRUNK=pool to average them "
            "over space, or extract with AT=<node>"
        )
    fields = store_recipe.get("clip_frames", 1)
    return {
        "kind": "backbone",
        **found,
        "width": store_recipe.get("width", 1.0),
        "fields": fields if found["stream"] == "flow" else 0,
        "sha256": weights.get("sha256", ""),
        "code_sha256": weights.get("code_sha256", ""),  # of a user's file: the same weights in other code are another network
    }


def context_skips(about: dict[str, Any], context: int, extractor: str = "") -> tuple[str, ...]:
    """The places of the skips that see `context` frames: the last `context` - 1 blocks that keep their shape (Recurrent
    Residual Learning, 3.3). Raises InputError for a trunk without residual blocks."""
    if about["kind"] != "backbone":
        raise InputError("HEAD=rrn begins with a residual network: TRUNK=pool has no blocks to put skips in")
    return last_blocks(_network(about, extractor).model, context - 1)


def build_trunk(
    about: dict[str, Any], row_shape: Sequence[int], extractor: str = "", network: networks.Trunk | None = None
) -> tuple[nn.Module, int]:
    """(trunk, E), a module (n, C, h, w) -> (n, E). about: as of `trunk_recipe`, for rrn with `skips` and `skip`, their kind;
    extractor: file.py:function where the network is of a user's file; network: whose weights it begins with (default: random).

    Raises InputError for a network that cannot be built or cut there.
    """
    if about["kind"] == "pool":
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), int(row_shape[0])
    model = (network or _network(about, extractor)).model
    node, name, skips = about["node"], about["extractor"], tuple(about.get("skips", ()))
    if skips:
        add_skips(model, skips, about["skip"], name)
    trunk = rest(model, node, name, leaves=(TemporalShortcut,))
    kept = sum(isinstance(part, TemporalShortcut) for part in trunk.modules())
    if kept < len(skips):
        raise InputError(
            f"SKIPS={' '.join(skips)}: not all of them lie after {node}, whose maps the store keeps; extract maps of the block "
            f"before {skips[0]} (AT=...)"
        )
    trunk.eval()
    with torch.inference_mode():
        for part in trunk.modules():
            if isinstance(part, TemporalShortcut):
                part.previous = torch.full((1,), -1)
        found = trunk(torch.zeros(1, *row_shape))
    if found.ndim != 2:
        raise InputError(f"TRUNK=backbone: {name} gives {tuple(found.shape[1:])} after {node}; a head needs a vector")
    return trunk.train(), found.shape[1]


def backbone(store_recipe: dict[str, Any], about: dict[str, Any], bank: str, extractor: str, weights: str) -> networks.Trunk:
    """The store's network with the weights that its features were made with, found again by what the store says of them;
    weights: their file, where the store was made with a file. Raises InputError when they are not there, or are others."""
    said = store_recipe["weights"]
    source = str(said.get("source", ""))
    seed, trained = 0, None
    if source.startswith("random, seed "):
        weights, seed = "random", int(source.removeprefix("random, seed "))
    elif source.startswith("trained here, "):
        folder = weights_folder(bank) / source.removeprefix("trained here, ")
        recipe, state = load_weights(folder)
        trained = trained_weights(recipe, folder), state
    elif source.startswith("file "):
        if not weights:
            raise InputError(
                f"HEAD begins with the store's network, whose weights were {source}: give TRUNK_WEIGHTS=<its path>, or "
                "TRUNK=pool"
            )
    else:
        weights = "own" if source == "the builder's own" else "pretrained"
    found = _network(about, extractor, weights, seed, trained)
    if found.weights["sha256"] != about["sha256"]:
        raise InputError(
            f"TRUNK=backbone: the weights of {about['extractor']} ({source}) are not those that the store was made with; "
            "give the same file, or extract again"
        )
    return found


def _network(
    about: dict[str, Any], extractor: str, weights: str = "random", seed: int = 0, trained: Any = None
) -> networks.Trunk:
    name = about["extractor"]
    if ".py" in name:  # stores and runs may come from strangers: the file that is run is the one that the user names
        raise InputError(f"the recipe names a file as its extractor, {name}; it is not run")
    if "." in name and ":" not in name:  # a user's file, by stem and function (data.recipe.extractor_name)
        if extractor_name(extractor) != name or not Path(extractor.rpartition(":")[0]).is_file():
            stem, _, function = name.rpartition(".")
            raise InputError(
                f"the maps are of a network of your own, {function}() of {stem}.py: give EXTRACTOR=<path of {stem}.py>:"
                f"{function}, or TRUNK=pool"
            )
        name, weights = extractor, "own" if weights == "random" else weights
        code = hashlib.sha256(Path(extractor.rpartition(":")[0]).read_bytes()).hexdigest()
        if code != about["code_sha256"]:
            raise InputError(
                f"EXTRACTOR={extractor}: the file was changed since the store was made; bring it back, or extract again"
            )
    channels = {"rgb": 3, "flow": 2, "audio": 1}[about["stream"]]
    if about["fields"] and kind_of(name) == "image":
        channels *= about["fields"]
    return networks.trunk(name, weights, seed, channels, about["width"], about["stream"], trained)
