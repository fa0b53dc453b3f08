"""The runs that predict: the named runs, and the members of fused runs."""

import math
from collections.abc import Sequence
from pathlib import Path

from reelbank.data.banks import AnyBank, Banks
from reelbank.data.errors import InputError
from reelbank.data.plugins import plugin_name
from reelbank.heads.runs.folder import Run, find_runs, folder_name, read_run


def run_words(text: str) -> list[str]:
    """The value of RUN as a list. It is one folder, whose path may contain spaces, or several
    names."""
    return [text] if Path(text).is_dir() else text.replace(",", " ").split()


def named_runs(bank: AnyBank, words: Sequence[str]) -> list[Run]:
    """Finished runs by folder, name or start of a hash. Raises InputError when a run does not
    exist."""
    runs = []
    for word in words:
        if not (Path(word) / "recipe.json").is_file():
            runs += find_runs(bank, [word])
            continue
        run = read_run(Path(word).resolve())
        if not run.finished:
            raise InputError(
                f"{word}: this run is not finished; run its command again to finish it"
            )
        runs.append(run)
    if not runs:
        raise InputError("RUN= is required; 'reelbank runs' lists the runs")
    return runs


def check_weights(runs: Sequence[Run], weights: Sequence[float]) -> None:
    """Raises InputError when the number of weights differs from the number of runs."""
    if weights and len(runs) == 1:
        raise InputError(
            "WEIGHTS needs several runs, with one number for each run, but RUN= names "
            "only one run; omit WEIGHTS"
        )
    if weights and len(weights) != len(runs):
        numbers = " ".join(f"{weight:g}" for weight in weights)
        raise InputError(f"WEIGHTS={numbers}: give {len(runs)} numbers, one for each run")


def own_head(run: Run, heads: Sequence[str]) -> str:
    """The path/to/file.py:name that was given for the run's head, or "" for a built-in head."""
    return next((head for head in heads if plugin_name(head) == run.recipe.get("head")), "")


def banks_of(run: Run, banks: Banks) -> Banks:
    """The banks in which a run's members and trained weights are searched for: first the one that
    contains the run's folder, then `banks`."""
    if run.path.parent.name != "runs":
        return banks
    others = [folder for folder in (banks.own, *banks.others) if folder.is_dir()]
    return Banks.of(run.path.parent.parent, others)


def members_of(run: Run, banks: Banks) -> list[Run]:
    """The members of a fused run or an SVM, from the banks of `banks_of`. Raises InputError for a member that
    is a score file or no longer exists."""
    recipes = run.recipe.get("members")
    if (
        not recipes
        or not isinstance(recipes, list)
        or not all(isinstance(recipe, dict) for recipe in recipes)
    ):
        raise InputError(
            f"{run.path}: the recipe does not name the members of this fusion; fuse the "
            "members again"
        )
    members = []
    for recipe in recipes:
        if "sha256" in recipe:
            raise InputError(
                f"{run.path.name}: its member {recipe.get('head')} is a score file, which cannot "
                "score new videos; give the names of its other members, RUN='a b'"
            )
        name = folder_name(recipe)
        parents = [run.path.parent, *banks_of(run, banks).below("runs")]
        found = [parent / name for parent in parents if (parent / name / "metrics.json").is_file()]
        if not found:
            places = " or ".join(map(str, dict.fromkeys(parents)))
            raise InputError(
                f"{run.path.name}: its member {name} is not in {places}; train this member again"
            )
        members.append(read_run(found[0]))
    return members


def recorded_weights(run: Run) -> list[float]:
    """The weights of a fused run, also if a search found them. Raises InputError when the run does
    not contain them."""
    weights = run.recipe.get("weights")
    if weights == "searched":
        weights = [member.weight for member in run.metrics.members or ()]
    if (
        not isinstance(weights, list)
        or len(weights) != len(run.recipe["members"])
        or not all(isinstance(weight, int | float) and math.isfinite(weight) for weight in weights)
    ):
        raise InputError(
            f"{run.path} does not record the weights of its members; fuse the members again"
        )
    return [float(weight) for weight in weights]
