"""The settings of published systems in recipes/<system>.toml. They are used as if they had been
typed.

`[extract]` holds options of `extract`, and `[train]` options of `train` for every head of the
system (`head` is the usual one). They are overridden by `[heads.<name>]` for one head, then by
`[variants.<name>]` and `[variants.<name>.extract]` for a variant (RECIPE=<system>:<variant>), and
then by the command line.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelbank.data.command_line.table import options_of
from reelbank.data.console import nearest, some
from reelbank.data.errors import InputError
from reelbank.data.identity import brief
from reelbank.data.options import check_data
from reelbank.data.plugins import is_user_file
from reelbank.data.ranges import hints_of
from reelbank.data.text_files import read_text

# recipes/ is in the project's root, and in reelbank/ once installed
RECIPES = Path(__file__).parents[1] / "recipes"


@dataclass(frozen=True)
class Section:
    """The keys that the tables of a section may contain: options of `commands`, and `own_keys`."""

    commands: tuple[str, ...]
    own_keys: tuple[str, ...] = ()


OPTION_SECTIONS = {"extract": Section(("extract",)), "train": Section(("train",))}
TABLE_SECTIONS = {  # each holds named tables
    "heads": Section(("train",)),
    "stores": Section(("extract",), ("trunk", "pretrain")),
    "pretrain": Section(("pretrain",), ("normal_of",)),
    "models": Section(("train",), ("on", "normal_of")),
    "fusions": Section(("fuse", "svm"), ("members", "how", "weights")),
    "anomalies": Section(("anomaly",), ("members", "abnormal_every")),
    "tables": Section((), ("title", "source", "rows")),
    "figures": Section(
        (),
        (
            *("title", "source", "dataset", "split", "draw", "models", "over", "classes"),
            *("networks", "batch", "batches"),
        ),
    ),
    "variants": Section(("train",), ("extract",)),
}
# "fusion": notes on how to fuse; "networks": changes for another network
OTHER_SECTIONS = ("title", "videos", "divide", "fusion", "quick", "networks")
LIST_KEYS = (
    ("fusions", "members"),
    ("anomalies", "members"),
    ("tables", "rows"),
    ("figures", "models"),
)
# A recipe needs five levels. Parsers and checks are recursive, so deeper input could crash them.
DEEPEST_NESTING = 20
COMMAND_LINE_ONLY = ("recipe", "bank", "banks", "trust_remote_code")


def recipe_files() -> dict[str, Path]:
    """The recipes of the package, by name."""
    return {path.stem: path for path in sorted(RECIPES.glob("*.toml"))}


def read_recipe(name: str, option: str = "RECIPE") -> dict[str, Any]:
    """Read a recipe. name: a system or a .toml file; option: its option, for messages. Raises
    InputError for a recipe that does not exist and for a file that is not TOML."""
    path = Path(name) if name.endswith(".toml") else recipe_files().get(name)
    if path is None:
        hint = nearest(name, recipe_files())
        raise InputError(
            f"{option}={name}: choose from {', '.join(recipe_files())}, or give a .toml file{hint}"
        )
    too_deep = InputError(
        f"{option}={name}: {path} cannot be read, because its values are nested too deeply"
    )
    try:
        recipe = tomllib.loads(read_text(path))
    except RecursionError:
        raise too_deep from None
    except (OSError, ValueError) as error:  # invalid TOML, or a number with thousands of digits
        raise InputError(f"{option}={name}: {path} cannot be read: {error}") from None
    if is_deeper(recipe, DEEPEST_NESTING):  # "a.b.c = 1" nests without a limit
        raise too_deep
    return recipe


def is_deeper(value: Any, levels: int) -> bool:
    """Whether tables and lists are nested more than `levels` levels deep."""
    level = [value]
    for _ in range(levels + 1):
        next_level: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                next_level += item.values()
            elif isinstance(item, list):
                next_level += item
        level = next_level
    return bool(level)


def check_recipe(recipe: Mapping[str, Any]) -> None:
    """Check all sections of a recipe, also those that the running command does not use.

    Raises InputError for an unknown section or option (with the nearest known one), for a value
    that an option does not accept, and for a value that names code.
    """
    if is_deeper(recipe, DEEPEST_NESTING):
        raise InputError("its values are nested too deeply")
    _check_sections(recipe)
    for name, section in OPTION_SECTIONS.items():
        _check_options(name, recipe.get(name, {}), section)
    for name, section in TABLE_SECTIONS.items():
        for table, values in recipe.get(name, {}).items():
            if not isinstance(values, dict):
                raise InputError(f"[{name}] {table} must be a table (got {brief(values)})")
            _check_options(f"{name}.{table}", values, section)
    heads = options_of("train").__dataclass_fields__["head"].metadata["choices"]
    for name in recipe.get("heads", {}):
        if name not in heads:
            raise InputError(f"[heads.{name}]: unknown head {name}{nearest(name, heads)}")
    for name, variant in recipe.get("variants", {}).items():
        extraction = variant.get("extract", {})
        if not isinstance(extraction, dict):
            raise InputError(
                f"[variants.{name}.extract] must be a table of options (got {brief(extraction)})"
            )
        _check_options(f"variants.{name}.extract", extraction, OPTION_SECTIONS["extract"])
    if "quick" in recipe:
        try:
            check_recipe(recipe["quick"])
        except InputError as error:
            raise InputError(f"[quick]: {error}") from None
    for name, changes in recipe.get("networks", {}).items():
        if not isinstance(changes, dict):
            raise InputError(
                f"[networks] {name} must be a table of sections (got {brief(changes)})"
            )
        try:
            check_recipe(changes)
        except InputError as error:
            raise InputError(f'[networks."{name}"]: {error}') from None


def _check_sections(recipe: Mapping[str, Any]) -> None:
    """Raises InputError for unknown sections and for values of a wrong type in them."""
    sections = (*OPTION_SECTIONS, *TABLE_SECTIONS, *OTHER_SECTIONS)
    for name, section in recipe.items():
        if name not in sections:
            raise InputError(f"unknown section [{name}]{nearest(name, sections)}")
        if name != "title" and not isinstance(section, dict):
            raise InputError(f"[{name}] must be a table of options (got {brief(section)})")
    for name, key in LIST_KEYS:
        for table, values in recipe.get(name, {}).items():
            if isinstance(values, dict) and not isinstance(values.get(key, []), list):
                raise InputError(
                    f"[{name}.{table}] {key} must be a list (got {brief(values[key])})"
                )
    for name in ("videos", "divide"):
        for key, value in recipe.get(name, {}).items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InputError(
                    f"[{name}] {key} must be a whole number of 1 or more (got {brief(value)})"
                )


def _check_options(where: str, values: Mapping[str, Any], section: Section) -> None:
    classes = [options_of(command) for command in section.commands]
    class_of_option: dict[str, Any] = {}
    for options in reversed(classes):  # if two commands have an option, the first one counts
        class_of_option |= dict.fromkeys(hints_of(options), options)
    allowed_keys = {*class_of_option, *section.own_keys}.difference(COMMAND_LINE_ONLY)
    for key, value in values.items():
        if key in COMMAND_LINE_ONLY and classes:
            raise InputError(
                f"[{where}] sets {key}, which can only be set on the command line; remove it"
            )
        if key not in allowed_keys:
            raise InputError(f"[{where}] has no option {key}{nearest(key, allowed_keys)}")
        # A recipe may be untrusted data, so it must not name code, which would be run.
        if key != "rows" and is_user_file(str(value)):
            raise InputError(
                f"[{where}] {key} must not name a Python file, because recipes may be untrusted; "
                f"if you trust the file, give {key.upper()}={value} on the command line"
            )
        if key not in section.own_keys:
            try:
                check_data(class_of_option[key], key, value)
            except InputError as error:
                raise InputError(f"[{where}] {error}") from None


def preset_options(text: str, stage: str, head: str = "") -> dict[str, Any]:
    """The options that a recipe sets for "extract" or "train", by name; {} for an empty `text`.

    text: name[:variant]; head: the head to train, "" for the default of the recipe. Raises
    InputError for an unknown variant, and as `check_recipe` does.
    """
    if not text:
        return {}
    name, _, variant = text.partition(":")
    recipe = read_recipe(name)
    try:
        check_recipe(recipe)
    except InputError as error:
        raise InputError(f"RECIPE={text}: {error}") from None
    options = dict(recipe.get(stage, {}))
    variants = recipe.get("variants", {})
    if variant and variant not in variants:
        raise InputError(
            f"RECIPE={text}: unknown variant; {name} has the variants {some(variants, 9) or '(none)'}"
        )
    overrides = variants.get(variant, {})
    if stage == "extract":
        return options | overrides.get("extract", {})
    options["head"] = head or options.get("head", "")
    for_head = recipe.get("heads", {}).get(options["head"], {})
    return options | for_head | {key: overrides[key] for key in _train_keys(overrides)}


def variant_options(text: str) -> tuple[str, ...]:
    """Names of the train options that the variant in `text` sets; () without a variant."""
    name, _, variant = text.partition(":")
    return _train_keys(read_recipe(name).get("variants", {}).get(variant, {}))


def _train_keys(variant: Mapping[str, Any]) -> tuple[str, ...]:
    """The options of `train` in a variant; its key "extract" is a table of options of `extract`."""
    return tuple(key for key in variant if key != "extract")
