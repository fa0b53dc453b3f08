"""Recognises runs that repeat one experiment on other splits and seeds."""

from collections.abc import Mapping
from typing import Any

from reelbank.data.identity import signature

# Runs whose recipes differ only in these are repetitions of one experiment. (`coverage` is a hash
# over the videos of a split's parts, so it differs from split to split.)
REPEATED = ("split", "seed", "coverage", "sha256")


def experiment(recipe: Mapping[str, Any]) -> str:
    """Hash of the recipe without split and seed. It is equal for all repetitions of one experiment
    or fusion."""
    return signature(without_repetition(recipe))


def without_repetition(recipe: Any) -> Any:
    """The recipe without the values that differ between repetitions, at any depth. If the weights
    of the stores were trained separately for each split, the stores count as the same."""
    if isinstance(recipe, str):  # most values, such as the names of classes
        return recipe
    if isinstance(recipe, Mapping):
        repeated = (*REPEATED, "store", "stores") if "store_family" in recipe else REPEATED
        return {
            key: without_repetition(value) for key, value in recipe.items() if key not in repeated
        }
    if isinstance(recipe, list | tuple):
        return [without_repetition(value) for value in recipe]
    return recipe
