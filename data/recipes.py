"""The published systems' settings, recipes/<system>.toml: plain data, read as if their options had been typed.

`[extract]` holds options of `extract`; `[train]` those of `train` for every head of the system (`head` the usual one),
`[heads.<name>]` for one head, `[variants.<name>]` for a variant (RECIPE=<system>:<variant>), `[variants.<name>.extract]` of its
features; what comes later wins, and the command line wins over all.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import reelbank
from reelbank.data.errors import InputError
from reelbank.data.videos import some


def recipe_files() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    found = [path for base in reelbank.__path__ for path in Path(base, "recipes").glob("*.toml")]
    return {path.stem: path for path in sorted(found)}


def read_recipe(name: str, option: str = "RECIPE") -> dict[str, Any]:
    """A recipe by name or by its file, asked for by `option`. Raises InputError when there is none, or it is no TOML."""
    path = Path(name) if name.endswith(".toml") else recipe_files().get(name)
    if path is None:
        raise InputError(f"{option}={name}: choose from {', '.join(recipe_files())}, or give a .toml file")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{option}={name}: {path} cannot be read: {error}") from None


def preset_options(wanted: str, stage: str, known: set[str], head: str = "") -> dict[str, Any]:
    """The options that a recipe sets for "extract" or "train", by name; {} for no recipe.

    wanted: name[:variant]; known: names of the stage's options; head: the one asked for, "" for the recipe's own. Raises
    InputError for what is not in the recipe, or is no option.
    """
    if not wanted:
        return {}
    name, _, variant = wanted.partition(":")
    recipe = read_recipe(name)
    options = dict(_section(recipe, stage, wanted))
    variants = _section(recipe, "variants", wanted)
    if variant and variant not in variants:
        raise InputError(f"RECIPE={wanted}: {name} has the variants {some(variants, 9) or 'none'}")
    own = _section(variants, variant, wanted)
    if stage == "extract":
        options |= _section(own, "extract", wanted)
    else:
        options["head"] = head or options.get("head", "")
        of_head = _section(_section(recipe, "heads", wanted), str(options["head"]), wanted)
        options |= of_head | {key: value for key, value in own.items() if key != "extract"}
    for key, value in options.items():
        if key not in known or key in ("recipe", "bank"):
            raise InputError(f"RECIPE={wanted}: sets {key}, which is no option of {stage}")
        if not isinstance(value, str | int | float | list):
            raise InputError(f"RECIPE={wanted}: {key} is neither text, a number, true, false nor a list")
        if ".py:" in str(value):  # a recipe may come from a stranger: it is data, and names no code that would run
            raise InputError(
                f"RECIPE={wanted}: {key} names a file of code; give {key.upper()}={value} beside it, if you trust it"
            )
    return options


def variant_options(wanted: str) -> tuple[str, ...]:
    """Names of the train options that the variant in `wanted` sets itself; () for none."""
    name, _, variant = wanted.partition(":")
    return tuple(key for key in _section(_section(read_recipe(name), "variants", wanted), variant, wanted) if key != "extract")


def _section(of: Mapping[str, Any], name: str, wanted: str) -> dict[str, Any]:
    found = of.get(name, {})
    if not isinstance(found, dict):
        raise InputError(f"RECIPE={wanted}: [{name}] is no table of options")
    return found
