"""Changes of a published system's recipe (SET=)."""

import re
import tomllib
from collections.abc import Mapping
from typing import Any

from reelbank.data.console import some
from reelbank.data.errors import InputError
from reelbank.fusion.reproduce.plan import model_options, store_options

FACTS_OF_PAPER = ("videos", "tables")  # sections that SET does not change


# A name between the dots of a change. As in TOML, a name with other characters than these, such as
# one with a dot, is written in quotation marks.
_BARE = r"[\w:-]+"
_NAME = rf'(?:{_BARE}|"[^"]*")'
_PATH = rf"{_NAME}(?:\.{_NAME})+"


def separate_changes(changes: str) -> list[str]:
    """The changes of SET, one text "section.name.option=value" for each."""
    return re.split(rf"[\s,]+(?={_PATH}=)", changes.strip()) if changes.strip() else []


def setting(*names: str) -> str:
    """The path of an option, as in SET: section.name.option."""
    return ".".join(name if re.fullmatch(_BARE, name) else f'"{name}"' for name in names)


def change_names(change: str) -> list[str]:
    """The names of the section and the option that a change of SET begins with."""
    path = re.match(rf"{_PATH}(?==)", change)
    if path is None:
        return change.partition("=")[0].split(".")
    return [name.strip('"') for name in re.findall(_NAME, path[0])]


def change_recipe(recipe: dict[str, Any], change: str) -> None:
    """Apply one change of SET to the recipe, in place. Raises InputError for a section that does not
    exist, for facts of the paper and for an invalid value."""
    *sections, option = change_names(change)
    _, equals, text = change.partition("=")
    if not equals or not sections:
        raise InputError(
            f"SET={change}: give section.name.option=value, such as models.gru.hidden=128 or train.epochs=5"
        )
    if sections[0] in FACTS_OF_PAPER:
        raise InputError(
            f"SET={change}: [{sections[0]}] contains facts about the paper, which SET "
            "cannot change; write your own recipe to state other facts"
        )
    place = recipe
    for number, name in enumerate(sections):
        if (
            place is recipe
            and name in ("extract", "train", "heads")
            or place is recipe.get("heads")
        ):
            place.setdefault(name, {})
        if not isinstance(place.get(name), dict):
            known = some(sorted(key for key, value in place.items() if isinstance(value, dict)), 12)
            where = ".".join(sections[: number + 1])
            raise InputError(
                f"SET={change}: the recipe has no section [{where}]; choose from {known}"
            )
        place = place[name]
    try:
        place[option] = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # the text may be a word without quotes
        if text[:1] in ("[", "{", '"', "'"):
            raise InputError(
                f"SET={change}: {text} is neither a word nor a TOML value; put text with spaces in "
                "quotes"
            ) from None
        place[option] = text


def check_applies(recipe: Mapping[str, Any], change: str) -> None:
    """Raises InputError if a change of [extract], [train] or [heads.<head>] does not apply to any
    store or model, because each sets the option itself or does not use it."""
    *sections, option = change_names(change)
    if sections == ["extract"]:
        places = "stores"
        reached = [name for name in recipe.get(places, {}) if option in store_options(recipe, name)]
    elif sections == ["train"] or sections[0] == "heads":
        places = "models"
        options = {name: model_options(recipe, name) for name in recipe.get(places, {})}
        reached = [name for name, own in options.items() if option in own]
        if sections == ["train"]:
            reached = [
                name
                for name in reached
                if option not in recipe.get("heads", {}).get(options[name]["head"], {})
            ]
        else:
            reached = [name for name in reached if options[name]["head"] == sections[1]]
    else:
        return
    shared = recipe["heads"][sections[1]] if sections[0] == "heads" else recipe[sections[0]]
    if shared.get(option) == "" or any(option not in recipe[places][name] for name in reached):
        return
    raise InputError(
        f"SET={change} does not apply to any of the recipe's {places}, because each of "
        f"them sets {option} itself or does not use it; give {places}.<name>.{option} "
        "instead"
    )
