"""The run whose weights a new run starts from (INIT=). This module finds the run, checks that it
matches, and reads its weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reelbank.data.banks import AnyBank
from reelbank.data.errors import InputError
from reelbank.data.files import check_regular
from reelbank.data.identity import differences
from reelbank.data.store.reader import Store
from reelbank.heads.recipe import InitialRecipe, RunRecipe, TrunkRecipe
from reelbank.heads.runs.folder import Run, find_runs
from reelbank.heads.runs.leak_guard import origin, seen_tests, trainings
from reelbank.heads.runs.repetition import experiment

CHECKPOINT = "checkpoint.safetensors"
# Options of a head that may differ from those of the run that it starts from.
_MAY_DIFFER = ("dropout", "input_dropout")


def initial_runs(bank: AnyBank, names: Sequence[str]) -> list[Run]:
    """The finished runs that INIT names. Raises InputError for a name that does not match exactly
    one run, and for a run without weights."""
    try:
        runs = find_runs(bank, names) if names else []
    except InputError as error:
        raise InputError(f"INIT={' '.join(names)}: {error}") from None
    for run in runs:
        if "members" in run.recipe:
            raise InputError(
                f"INIT={run.path.name}: this is a fused run, which has no weights of its "
                "own; name one of its members instead"
            )
    return runs


def initial_run(runs: Sequence[Run], recipe: RunRecipe) -> Run | None:
    """The run that a run of this recipe starts from, or None if INIT is empty. It is the run of the
    same split, and of the same seed if there are several. Raises InputError when there is no such
    run."""
    if not runs:
        return None
    of_split = [run for run in runs if run.recipe.get("split") == recipe.split]
    of_seed = [run for run in of_split if run.recipe.get("seed") == recipe.seed]
    fitting = of_seed if len(of_split) > 1 else of_split
    if len(fitting) != 1:
        there = ", ".join(
            f"{run.path.name} of split {run.recipe.get('split')}, seed {run.recipe.get('seed')}"
            for run in runs
        )
        raise InputError(
            f"INIT must contain exactly one run to start from for split {recipe.split} "
            f"and seed {recipe.seed}, but it contains {len(fitting)} (got {there}); give "
            "one run for each split, or one for each split and seed"
        )
    return fitting[0]


def initial_recipe(run: Run, recipe: RunRecipe) -> InitialRecipe:
    """The part of the new run's recipe about the run that it starts from. Raises InputError when
    the head, its options, its network, its features or its classes differ."""
    try:
        given = RunRecipe.from_json(run.recipe)
    except InputError as error:
        raise InputError(f"INIT={run.path.name}: {error}") from None
    lines = differences(_of_weights(given), _of_weights(recipe))
    if lines:
        raise InputError(
            f"INIT={run.path.name}: the weights of this run do not fit the new head "
            f"({'; '.join(lines)}); give a run with the same head, head options, network "
            "and feature size"
        )
    if given.classes != recipe.classes:
        raise InputError(
            f"INIT={run.path.name}: this run was trained on {len(given.classes)} classes, "
            f"which differ from the {len(recipe.classes)} classes of the new run; give a "
            "run with the same classes, or set CLASSES"
        )
    return InitialRecipe(sha256=run.signature, of=experiment(run.recipe))


def _of_weights(recipe: RunRecipe) -> dict[str, Any]:
    """Everything that the names, the shapes and the meaning of a head's weights depend on."""
    options = {
        name: value for name, value in recipe.head_options.items() if name not in _MAY_DIFFER
    }
    return {
        "head": recipe.head,
        "head_code_sha256": recipe.head_code_sha256,
        "head_options": options,
        "trunk": _of_trunk(recipe.trunk),
        "features": recipe.normalise.pca or recipe.input_shape[0],
    }


def _of_trunk(trunk: TrunkRecipe | None) -> dict[str, Any]:
    """The recipe of the network that a head begins with, without its weights and its input."""
    if trunk is None:
        return {}
    return dataclasses.replace(trunk, stream="", fields=0, sha256="").to_json()


def initial_weights(run: Run, store: Store, split: str) -> Mapping[str, Any]:
    """The origin of the run's weights, with the videos that they were trained on, from the run's
    store of embeddings. Raises InputError when they were trained on test videos of the new run's
    split, and when there is no such store."""
    try:
        with Store.open(run.path / "embeddings.h5") as embeddings:
            weights = embeddings.recipe.get("weights")
    except InputError as error:
        raise InputError(
            f"INIT={run.path.name}: the file of its embeddings, which records the videos "
            f"that the run was trained on, cannot be read ({error}); remove the run and "
            "train it again"
        ) from None
    chain = trainings(weights)
    if not chain:
        raise InputError(
            f"INIT={run.path.name} does not record the videos that it was trained on; train it "
            "again"
        )
    leaked, test = seen_tests(store, split, weights)
    if leaked:
        raise InputError(
            f"INIT={run.path.name}: {len(leaked)} of the {len(test)} test videos of split "
            f"{split} were used to train this run (trained on "
            f"{origin(chain, store.dataset.name)}); give a run that was not trained on "
            "test videos"
        )
    assert isinstance(weights, Mapping)
    return weights


def start_from(head: nn.Module, path: Path) -> None:
    """Load the weights and the running statistics of the head of the run in folder `path` into the
    head, in place. Raises InputError when they cannot be read, or when their names or shapes
    differ."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        check_regular(path / CHECKPOINT)
        state = load_file(path / CHECKPOINT)
    except (OSError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"INIT={path.name}: {path / CHECKPOINT} cannot be read: {reason}; remove the run and "
            "train it again"
        ) from None
    prefix = "head."
    given = {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }
    own = head.state_dict()
    lines = differences(_shapes(given), _shapes(own))
    if lines:
        raise InputError(
            f"INIT={path.name}: the weights of this run do not fit the new head "
            f"({'; '.join(lines[:3])}); give a run of the same head on the same features"
        )
    with torch.no_grad():
        head.load_state_dict(given)


def _shapes(state: Mapping[str, Tensor]) -> dict[str, str]:
    return {name: " x ".join(map(str, value.shape)) or "1" for name, value in state.items()}
