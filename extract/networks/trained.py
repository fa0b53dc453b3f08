"""Find and read weights that were trained here (`reelbank pretrain`), without running code in them.

<bank>/weights/<extractor>-<stream>-<family[:8]>-split<s>/ holds recipe.json, seen.json,
checkpoint.safetensors, history.csv and metrics.json, written last: a folder without it is not
finished. Folders of one family differ only in the split.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from reelbank.data.banks import AnyBank, Banks
from reelbank.data.console import print_lines
from reelbank.data.errors import InputError
from reelbank.data.files import check_regular, read_text
from reelbank.data.identity import extractor_name, reject_constant, signature
from reelbank.extract.networks.provenance import Provenance

CHECKPOINT = "checkpoint.safetensors"
# Ids of the videos by part: "train" for training, "validation" only for validation.
SEEN = "seen.json"
# Entries of a recipe that differ between the splits of one family.
NOT_FAMILY = ("split", "videos", "validation_videos", "seen")


def weights_folder(bank: str | Path) -> Path:
    """Where a bank keeps the weights that were trained in it."""
    return Path(bank) / "weights"


def family_of(recipe: Mapping[str, Any]) -> str:
    """The identity that the runs of one recipe on several splits share: SHA-256 of the recipe
    without its split, 64 hex digits. Initial weights that were trained here are replaced by their
    family.
    """
    shared = {key: value for key, value in recipe.items() if key not in NOT_FAMILY}
    shared["extractor"] = extractor_name(shared["extractor"])  # wherever a user's file lies
    if initial := shared["initial"].get("family"):
        shared["initial"] = {"family": initial}
    return signature(shared)


def folder_name(recipe: Mapping[str, Any]) -> str:
    """<extractor>-<stream>-<family[:8]>-split<s>; an extractor `torchvision:resnet50` is resnet50,
    `path/mine.py:build` mine.build."""
    short = extractor_name(recipe["extractor"]).rpartition(":")[2]
    return f"{short}-{recipe['stream']}-{family_of(recipe)[:8]}-split{recipe['split']}"


def read_recipe(folder: Path) -> dict[str, Any]:
    """The recipe of a folder of weights, checked against the folder's name. Raises InputError."""
    try:
        document = json.loads(read_text(folder / "recipe.json"), parse_constant=reject_constant)
        recipe = document["recipe"]
        named = folder_name(recipe)
        saw_of(recipe)
    except FileNotFoundError:
        raise InputError(
            f"{folder} does not contain weights made by 'reelbank pretrain', because "
            "recipe.json is missing"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{folder / 'recipe.json'} cannot be read ({reason}); remove the folder and train again"
        ) from None
    if named != folder.resolve().name:
        raise InputError(
            f"{folder}/recipe.json does not belong to this folder, because the file was changed or "
            "the folder was renamed; restore the file or the folder's name, or remove the folder "
            "and train again"
        )
    return recipe


def finished(folder: Path) -> bool:
    """Whether the training in this folder is finished."""
    return (folder / "metrics.json").is_file()


def find_weights(bank: AnyBank, name: str) -> dict[str, Path]:
    """The finished runs of one family of weights, by split. name: a run's folder (only this split),
    or the beginning of a family's hash or of a folder's name in the bank or another bank; the
    first bank that has a run takes precedence.

    {} if no bank has no weights of that name; the caller then tries other sources. Raises
    InputError if the name is ambiguous, if no run is finished, or if no run can be read. If only
    some of the runs cannot be read, a note on stderr names them.
    """
    if not name:
        return {}
    run_folder = Path(name)
    if run_folder.is_dir():
        recipe = read_recipe(run_folder)
        if not finished(run_folder):
            raise InputError(
                f"WEIGHTS={name}: the training is not finished; run the same 'reelbank "
                "pretrain' command to continue it"
            )
        return {str(recipe["split"]): run_folder}
    families: dict[str, dict[str, Path]] = {}
    begun, bad = [], []
    for folder in _folders(bank):
        hashed = folder.name.rpartition("-split")[0].rpartition("-")[2]
        # Compared before reading, so that a damaged folder of another family does no harm.
        if not folder.name.startswith(name) and not hashed.startswith(name[:8]):
            continue
        try:
            recipe = read_recipe(folder)
        except InputError as error:
            bad.append(str(error))
            continue
        family = family_of(recipe)
        if not folder.name.startswith(name) and not family.startswith(name):
            continue
        if not finished(folder):
            begun.append(folder.name)
            continue
        families.setdefault(family, {}).setdefault(str(recipe["split"]), folder)
    if len(families) > 1:
        names = ", ".join(
            sorted(
                next(iter(runs.values())).name.rpartition("-split")[0] for runs in families.values()
            )
        )
        raise InputError(
            f"WEIGHTS={name}: {len(families)} sets of weights have a hash or name that begins with "
            f"'{name}': {names}; give more characters"
        )
    if bad and not families:
        raise InputError(bad[0])
    for reason in bad:
        print_lines(f"note: weights are left out: {reason}", file=sys.stderr)
    if begun and not families:
        raise InputError(
            f"WEIGHTS={name}: the training of {begun[0]} is not finished; run the same "
            "'reelbank pretrain' command to continue it"
        )
    return next(iter(families.values()), {})


def _folders(bank: AnyBank) -> Iterator[Path]:
    """The folders of weights of all banks."""
    for parent in Banks.of(bank).below("weights"):
        yield from sorted(path.parent for path in parent.glob("[!.]*/recipe.json"))


def folder_of_weights(bank: AnyBank, name: str) -> Path:
    """The folder of this name, of the first bank that has it."""
    folders = [parent / name for parent in Banks.of(bank).below("weights")]
    return next((folder for folder in folders if folder.exists()), folders[0])


@dataclass(frozen=True)
class TrainedWeights:
    """Weights trained here. state: the trunk's state dict, with the trunk's own names."""

    folder: Path
    recipe: dict[str, Any]
    state: dict[str, Tensor]

    @property
    def provenance(self) -> Provenance:
        return Provenance(
            kind="trained",
            name=self.folder.name,
            width=self.recipe["width"],
            batch_norm_eps=self.recipe["initial"].get("batch_norm_eps"),
            family=family_of(self.recipe),
            saw=saw_of(self.recipe),
        )


def load_weights(folder: str | Path) -> TrainedWeights:
    """Read a finished folder of weights. Raises InputError when it is unfinished or was changed,
    and when its checkpoint cannot be read; no code in it is run."""
    folder = Path(folder)
    recipe = read_recipe(folder)
    if not finished(folder):
        raise InputError(
            f"{folder}: the training is not finished; run the same 'reelbank pretrain' "
            "command to continue it"
        )
    path = folder / CHECKPOINT
    try:
        check_regular(path)
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{path} cannot be read ({reason}); remove the folder and train again"
        ) from None
    state = {
        name.removeprefix("trunk."): value
        for name, value in tensors.items()
        if name.startswith("trunk.")
    }
    if not state:
        raise InputError(
            f"{path} does not contain the weights of the network; remove the folder and train again"
        )
    return TrainedWeights(folder, recipe, state)


def saw_of(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The data that weights were trained on: data set, split, part, and its share used only for
    validation; hashes of the training `videos` and the `validation_videos` (leak_guard.py); and in
    `before`, the training data of the initial weights."""
    saw = {
        "dataset": recipe["dataset"],
        "split": recipe["split"],
        "part": "train",
        "validation_share": recipe["validation"],
    }
    saw |= {"videos": recipe["seen"]["train"], "validation_videos": recipe["seen"]["validation"]}
    before = recipe["initial"].get("saw")
    return saw | {"before": before} if before else saw
