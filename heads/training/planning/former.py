"""Runs that earlier versions trained with other defaults. Their recipes contain these defaults, so the
same options now name another run."""

import dataclasses
from collections.abc import Iterable

from reelbank.heads import defaults
from reelbank.heads.models.spec import LATER_OPTIONS
from reelbank.heads.recipe import RunRecipe
from reelbank.heads.runs.folder import folder_name
from reelbank.heads.training.planning.plan import RunPlan


def former_notes(plans: Iterable[RunPlan]) -> list[str]:
    """A line about each run, finished or begun, that the options of a plan named in an earlier
    version."""
    notes = []
    for plan in plans:
        words, recipe = _former(plan)
        if not words:
            continue
        name = folder_name(recipe.to_json())
        folders = [folder / name for folder in plan.bank.below("runs")]
        if any((folder / "metrics.json").is_file() for folder in folders):
            has_been, purpose = "was trained", "use"
        elif any(any(folder.glob("*state.safetensors")) for folder in folders):
            has_been, purpose = "is partly trained", "continue"
        else:
            continue
        notes.append(
            f"{name} {has_been} with the defaults of earlier versions; "
            f"add {' '.join(words)} to {purpose} it"
        )
    return notes


def _former(plan: RunPlan) -> tuple[list[str], RunRecipe]:
    """The options that state the earlier defaults, and the recipe with them."""
    words: list[str] = []
    recipe, options = plan.recipe, plan.options
    if recipe.training.patience_steps and options.patience is None and not options.patience_steps:
        words.append(f"PATIENCE={defaults.TRAIN['patience']}")
        training = dataclasses.replace(recipe.training, patience_steps=0)
        recipe = dataclasses.replace(recipe, training=training)
    if "dims" in recipe.head_options and not options.dims:
        words.append(f"DIMS={' '.join(LATER_OPTIONS['dims'])}")
        kept = {name: value for name, value in recipe.head_options.items() if name != "dims"}
        recipe = dataclasses.replace(recipe, head_options=kept)
    return words, recipe
