"""The published systems' settings, recipes/<system>.toml: plain data, read as if their options had been typed.

`[extract]` holds options of `extract`; `[train]` those of `train` for every head of the system (`head` the usual one),
`[heads.<name>]` for one head, `[variants.<name>]` for a variant (RECIPE=<system>:<variant>); what comes later wins, and the
command line wins over all.
"""

import tomllib
from pathlib import Path
from typing import Any

import reelbank
from reelbank.data.errors import InputError
from reelbank.data.videos import some


def recipe_files() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    found = [path for base in reelbank.__path__ for path in Path(base, "recipes").glob("*.toml")]
    return {path.stem: path for path in sorted(found)}


def read_recipe(name: str) -> dict[str, Any]:
    """A recipe by name or by its file. Raises InputError when there is none, or it is no TOML."""
    path = Path(name) if name.endswith(".toml") else recipe_files().get(name)
    if path is None:
        raise InputError(f"RECIPE={name}: choose from {', '.join(recipe_files())}, or give a .toml file")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"RECIPE={name}: {path} cannot be read: {error}") from None


def preset_options(wanted: str, stage: str, known: set[str], head: str = "") -> dict[str, Any]:
    """The options that a recipe sets for "extract" or "train", by name; {} for no recipe.

    wanted: name[:variant]; known: names of the stage's options; head: the one asked for, "" for the recipe's own. Raises
    InputError for what is not in the recipe, or is no option.
    """
    if not wanted:
        return {}
    name, _, variant = wanted.partition(":")
    recipe = read_recipe(name)
    options: dict[str, Any] = dict(recipe.get(stage, {}))
    variants = recipe.get("variants", {})
    if variant and variant not in variants:
        raise InputError(f"RECIPE={wanted}: {name} has the variants {some(variants, 9) or 'none'}")
    if stage == "train":
        options["head"] = head or options.get("head", "")
        options |= recipe.get("heads", {}).get(options["head"], {}) | variants.get(variant, {})
    for key in options:
        if key not in known or key in ("recipe", "bank"):
            raise InputError(f"RECIPE={wanted}: sets {key}, which is no option of {stage}")
    return options
