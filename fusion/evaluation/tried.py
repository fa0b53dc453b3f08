"""How many models were judged on the same data: the highest of several is selected on that data."""

from collections.abc import Mapping
from typing import Any

from reelbank.data.banks import AnyBank
from reelbank.data.console import counted
from reelbank.fusion.evaluation.contests import Contest
from reelbank.heads.runs.folder import read_runs
from reelbank.heads.runs.repetition import experiment


def tried_models(bank: AnyBank, contest: Contest, part: str) -> int:
    """The number of experiments that were judged on this part of the contest's data set and
    classes: those of the contest, and all others in the bank. Fusions with other weights are other
    experiments."""
    tried = {group.entries[0].experiment for group in contest.groups}
    known = {entry.path for group in contest.groups for entry in group.entries}
    runs, _ = read_runs(bank, known=known)
    for run in runs:
        is_judged = run.finished and (run.path / f"scores-{part}.npz").exists()
        is_same_data = run.recipe.get("dataset") == contest.dataset
        if is_judged and is_same_data and _classes(run.recipe) == set(contest.classes):
            tried.add(experiment(run.recipe))
    return len(tried)


def _classes(recipe: Mapping[str, Any]) -> set[str]:
    """A run's classes; a fusion's are those of its members."""
    while "classes" not in recipe and recipe.get("members"):
        recipe = recipe["members"][0]
    return set(recipe.get("classes", ()))


def selection(shown: int, tried: int, part: str) -> str:
    """How the highest figure of `shown` models was selected, of `tried` models; "" for one model.

    Whoever reads a single figure must know of how many it is the highest.
    """
    if tried == 1:
        return ""
    if shown == 1:
        return f"one of {tried:,} models in the bank"
    models = counted(shown, "model")
    if shown < tried:
        models += f" shown here ({tried:,} in the bank)"
    return f"the best of {models}, selected on the {part} part"
