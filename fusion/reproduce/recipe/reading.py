"""Reads a published system's recipe. It merges QUICK and the changes for another network, applies
SET, and checks all of it before anything is run."""

from collections.abc import Mapping
from typing import Any

from reelbank.data.errors import InputError
from reelbank.data.recipes import check_recipe, read_recipe
from reelbank.fusion.reproduce.recipe.changes import change_recipe, check_applies, separate_changes
from reelbank.fusion.reproduce.recipe.checks import check_names


def read_paper(
    system: str, changes: str = "", *, quick: bool = False, network: str = ""
) -> dict[str, Any]:
    """The recipe, with quick its `[quick]` merged over it, then `[networks.<network>]`, then with
    changes "section.name.option=value ...".

    network: as in EXTRACTOR; the recipe need not have a section for it. Raises InputError for a
    recipe without tables, for a recipe that refers to undefined names, and for a change of a
    section that does not exist.
    """
    recipe = read_recipe(system, "SYSTEM")
    if not isinstance(recipe.get("tables"), dict):
        raise InputError(
            f"SYSTEM={system}: the recipe has no [tables], so there is nothing to reproduce; add "
            "one, or give another recipe"
        )
    try:
        check_recipe(recipe)
    except InputError as error:
        raise InputError(f"SYSTEM={system}: {error}") from None
    own = recipe.pop("quick", {})
    if quick:
        if not own:
            raise InputError(f"SYSTEM={system}: the recipe has no section [quick]; omit QUICK")
        recipe = _merged(recipe, own)
    recipe = _merged(recipe, recipe.pop("networks", {}).get(network, {}))
    changed = separate_changes(changes)
    for change in changed:
        change_recipe(recipe, change)
    try:
        check_recipe(recipe)
        check_names(recipe)
    except InputError as error:
        raise InputError(f"SYSTEM={system}: {error}") from None
    for change in changed:
        check_applies(recipe, change)
    return recipe


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(found.get(key), dict)
        found[key] = _merged(found[key], value) if both else value
    return found
