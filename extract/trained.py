"""Weights that were trained here (`reelbank pretrain`): finding them, and reading them without running code.

<bank>/weights/<extractor>-<stream>-<family[:8]>-split<s>/ holds recipe.json, seen.json, checkpoint.safetensors, history.csv
and metrics.json, written last: a folder without it is not finished. Folders of one family differ in the split alone.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from reelbank.data.errors import InputError
from reelbank.data.recipe import extractor_name, signature

CHECKPOINT = "checkpoint.safetensors"
SEEN = "seen.json"  # the ids of the videos by part: "train" learned from, "validation" only validated on
NOT_FAMILY = ("split", "videos", "validation_videos", "seen")  # what differs between the splits of one family


def weights_folder(bank: str | Path) -> Path:
    """Where a bank keeps the weights that were trained in it."""
    return Path(bank) / "weights"


def family_of(recipe: Mapping[str, Any]) -> str:
    """What the runs of one recipe on several splits share: SHA-256 of the recipe without its split, 64 hex digits.

    Where training began with weights that were trained here, their own family stands for those of each split.
    """
    shared = {key: value for key, value in recipe.items() if key not in NOT_FAMILY}
    shared["extractor"] = extractor_name(shared["extractor"])  # wherever a user's file lies
    if initial := shared["initial"].get("family"):
        shared["initial"] = {"family": initial}
    return signature(shared)


def folder_name(recipe: Mapping[str, Any]) -> str:
    """<extractor>-<stream>-<family[:8]>-split<s>; an extractor `torchvision:resnet50` is resnet50, `path/mine.py:build`
    mine.build."""
    short = extractor_name(recipe["extractor"]).rpartition(":")[2]
    return f"{short}-{recipe['stream']}-{family_of(recipe)[:8]}-split{recipe['split']}"


def read_recipe(folder: Path) -> dict[str, Any]:
    """The recipe of a folder of weights, checked against the folder's name. Raises InputError."""
    try:
        document = json.loads((folder / "recipe.json").read_text(), parse_constant=_no_number)
        recipe = document["recipe"]
        named = folder_name(recipe)
        saw_of(recipe)
    except FileNotFoundError:
        raise InputError(f"{folder}: no weights that were trained here (no recipe.json)") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{folder / 'recipe.json'} cannot be read: {reason}; remove the folder and train again") from None
    if named != folder.resolve().name:
        raise InputError(f"{folder}/recipe.json is not this folder's: it was changed, or the folder was renamed")
    return recipe


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def finished(folder: Path) -> bool:
    """Was training here brought to its end?"""
    return (folder / "metrics.json").is_file()


def find_weights(bank: str | Path, wanted: str) -> dict[str, Path]:
    """The finished runs of one family, by split. wanted: a run's folder (that one split), or the start of a family's hash or of
    a folder's name in the bank.

    {} when nothing there has that name; the caller then looks elsewhere. Raises InputError when several families begin
    so, when none of the runs is finished, and for a folder that was changed.
    """
    if not wanted:
        return {}
    given = Path(wanted)
    if given.is_dir():
        recipe = read_recipe(given)
        if not finished(given):
            raise InputError(f"WEIGHTS={wanted}: is not finished; the same 'reelbank pretrain' command goes on with it")
        return {str(recipe["split"]): given}
    families: dict[str, dict[str, Path]] = {}
    begun = []
    for folder in sorted(path.parent for path in weights_folder(bank).glob("[!.]*/recipe.json")):
        hashed = folder.name.rpartition("-split")[0].rpartition("-")[2]
        if not folder.name.startswith(wanted) and not hashed.startswith(wanted[:8]):
            continue  # before it is read: another family's damaged folder is not in the way
        recipe = read_recipe(folder)
        family = family_of(recipe)
        if not folder.name.startswith(wanted) and not family.startswith(wanted):
            continue
        if not finished(folder):
            begun.append(folder.name)
            continue
        families.setdefault(family, {})[str(recipe["split"])] = folder
    if len(families) > 1:
        names = ", ".join(sorted(next(iter(runs.values())).name.rpartition("-split")[0] for runs in families.values()))
        raise InputError(f"WEIGHTS={wanted}: {len(families)} families of weights begin so: {names}; give more of the name")
    if begun and not families:
        raise InputError(f"WEIGHTS={wanted}: {begun[0]} is not finished; the same 'reelbank pretrain' command goes on with it")
    return next(iter(families.values()), {})


def load_weights(folder: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The recipe of finished weights and the trunk's state dict, names as the trunk has them. Raises InputError for a folder
    that is not finished, was changed, or whose checkpoint cannot be read; nothing of it is run as code."""
    folder = Path(folder)
    recipe = read_recipe(folder)
    if not finished(folder):
        raise InputError(f"{folder}: is not finished; the same 'reelbank pretrain' command goes on with it")
    path = folder / CHECKPOINT
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} cannot be read: {reason}; remove the folder and train again") from None
    state = {name.removeprefix("trunk."): value for name, value in tensors.items() if name.startswith("trunk.")}
    if not state:
        raise InputError(f"{path} holds no trunk; remove the folder and train again")
    return recipe, state


def trained_weights(recipe: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What a network's recipe says of weights that were trained here: where they come from and what they have seen."""
    about = {"source": f"trained here, {folder.name}", "width": recipe["width"]}
    return about | {"family": family_of(recipe), "saw": saw_of(recipe)}


def saw_of(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What weights have learned from: data set, split, part, and the share of it that was only validated on; hashes of the
    `videos` learned from and the `validation_videos` (heads/leak.py); `before`: what weights it began with had seen."""
    saw = {"dataset": recipe["dataset"], "split": recipe["split"], "part": "train", "validation_share": recipe["validation"]}
    saw |= {"videos": recipe["seen"]["train"], "validation_videos": recipe["seen"]["validation"]}
    before = recipe["initial"].get("saw")
    return saw | {"before": before} if before else saw
