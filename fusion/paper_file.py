"""A published system's recipe as a file: read, cut down, changed, and checked whole before anything is run."""

import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from reelbank.data.errors import InputError
from reelbank.data.recipes import read_recipe
from reelbank.data.videos import nearest, some
from reelbank.extract.options import ExtractOptions
from reelbank.fusion.fuse import FuseOptions
from reelbank.fusion.late import HOWS
from reelbank.fusion.paper import ALL_SPLITS, METRICS, WORDS, Cell, cells, is_number, named, pretrained, stores_of
from reelbank.fusion.svm import SvmOptions
from reelbank.heads.options import TrainOptions
from reelbank.heads.pretrain_plan import PretrainOptions

OPTIONS = {"extract": ExtractOptions, "train": TrainOptions}  # sections of options
TABLES = {  # sections of tables -> the options of whose commands each table may set, and what it may say beside them
    "heads": ((TrainOptions,), ()),
    "stores": ((ExtractOptions,), ("trunk", "pretrain")),
    "pretrain": ((PretrainOptions,), ()),
    "models": ((TrainOptions,), ("on",)),
    "fusions": ((FuseOptions, SvmOptions), ("members",)),
    "tables": ((), ("title", "source", "rows")),
}
BESIDE = ("title", "videos", "divide", "variants", "fusion")  # the last two are of RECIPE=, and notes on how to fuse
SPLITS = (*ALL_SPLITS, "not stated", "training", "validation")  # beside numbers
KINDS = ("", "top5", "class", "group")  # of a model's figure


def read_paper(system: str, changes: str = "", quick: bool = False) -> dict[str, Any]:
    """The recipe with `[quick]` merged over it when asked for, then with changes "section.name.option=value ...". Raises
    InputError for a recipe without tables, one that names what it does not have, and a change of what is not there."""
    recipe = read_recipe(system, "SYSTEM")
    if not isinstance(recipe.get("tables"), dict):
        raise InputError(f"SYSTEM={system}: its recipe has no tables, so there is nothing to reproduce")
    own = recipe.pop("quick", {})
    if quick:
        if not own:
            raise InputError(f"SYSTEM={system}: its recipe has no [quick]; leave QUICK out")
        try:
            check(own)
        except InputError as error:
            raise InputError(f"SYSTEM={system}: [quick]: {error}") from None
        recipe = _merged(recipe, own)
    for change in re.split(r"[\s,]+(?=\w+(?:\.\w+)+=)", changes.strip()) if changes.strip() else ():
        _change(recipe, change)
    try:
        check(recipe)
        check_names(recipe)
    except InputError as error:
        raise InputError(f"SYSTEM={system}: {error}") from None
    return recipe


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(found.get(key), dict)
        found[key] = _merged(found[key], value) if both else value
    return found


def _change(recipe: dict[str, Any], change: str) -> None:
    path, equals, text = change.partition("=")
    *sections, option = path.split(".")
    if not equals or not sections:
        raise InputError(f"SET={change}: give section.name.option=value, as models.gru.hidden=128 or train.epochs=5")
    place = recipe
    for number, name in enumerate(sections):
        if place is recipe and name in ("extract", "train", "heads") or place is recipe.get("heads"):
            place.setdefault(name, {})
        if not isinstance(place.get(name), dict):
            known = some(sorted(key for key, value in place.items() if isinstance(value, dict)), 12)
            where = ".".join(sections[: number + 1])
            raise InputError(f"SET={change}: the recipe has no [{where}]; there are {known}")
        place = place[name]
    try:
        place[option] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:  # a word without quotes
        if text[:1] in ("[", "{", '"', "'"):
            raise InputError(f"SET={change}: {text} is neither a word nor a value as TOML has it") from None
        place[option] = text


def check(recipe: Mapping[str, Any]) -> None:
    """Raises InputError for a section or an option that there is not, and for a value of a kind that cannot be."""
    known_sections = (*OPTIONS, *TABLES, *BESIDE)
    for section, own in recipe.items():
        if section not in known_sections:
            raise InputError(f"there is no section [{section}]{nearest(section, known_sections)}")
        if section != "title" and not isinstance(own, dict):
            raise InputError(f"[{section}] is no table")
    for section, options in OPTIONS.items():
        _check_options(section, recipe.get(section, {}), {field.name for field in fields(options)})
    for section, (commands, beside) in TABLES.items():
        known = {field.name for command in commands for field in fields(command)} | set(beside)
        for name, own in recipe.get(section, {}).items():
            if not isinstance(own, dict):
                raise InputError(f"[{section}] {name} is no table")
            _check_options(f"{section}.{name}", own, known)
    for name, own in recipe.get("fusions", {}).items():
        if not isinstance(own.get("members", []), list):
            raise InputError(f"[fusions.{name}] members is no list")
    for name, own in recipe.get("tables", {}).items():
        if not isinstance(own.get("rows", []), list):
            raise InputError(f"[tables.{name}] rows is no list")
    for key in ("videos", "divide"):
        for name, value in recipe.get(key, {}).items():
            if not isinstance(value, int) or value < 1:
                raise InputError(f"[{key}] {name} is no number above 0")


def _check_options(where: str, own: Mapping[str, Any], known: Collection[str]) -> None:
    if unknown := sorted(set(own) - set(known)):
        raise InputError(f"[{where}] has no option {unknown[0]}{nearest(unknown[0], known)}")
    for key, value in own.items():  # a recipe may come from a stranger: it is data, and names no code that would run
        if key != "rows" and ".py:" in str(value):
            raise InputError(f"[{where}] {key} names a file of code; give EXTRACTOR= if you trust it")


def check_names(recipe: Mapping[str, Any]) -> None:
    """Raises InputError where the recipe names what it does not have, or a row is none."""
    stores, models, fusions = (recipe.get(section, {}) for section in ("stores", "models", "fusions"))
    if twice := set(models) & set(fusions):
        raise InputError(f"{min(twice)} is both a model and a fusion")
    for name, model in models.items():
        if not model.get("on"):
            raise InputError(f"[models.{name}] does not say on which store it is")
        for store in stores_of(model):
            if store not in stores:
                raise InputError(f"[models.{name}] is on {store!r}, which is not in [stores]")
    for name, fusion in fusions.items():
        _check_fusion(name, fusion, models)
    for name, store in stores.items():
        for one in pretrained(store).values():
            if one not in recipe.get("pretrain", {}):
                raise InputError(f"[stores.{name}] wants pretrain {one!r}, which is not there")
    for table, own in recipe["tables"].items():
        if not own.get("rows"):
            raise InputError(f"[tables.{table}] has no rows")
    for cell in cells(recipe):
        try:
            _check_cell(recipe, cell, {*models, *fusions})
        except InputError as error:
            raise InputError(f"[tables.{cell.table}] {cell.row}: {error}") from None


def _check_fusion(name: str, fusion: Mapping[str, Any], models: Mapping[str, Any]) -> None:
    members, how = fusion.get("members", []), fusion.get("how", "")
    if how not in (*HOWS, "svm"):
        raise InputError(f"[fusions.{name}] how = {how!r}: choose from {', '.join(HOWS)}, svm")
    for member in members:
        if member not in models:
            raise InputError(f"[fusions.{name}] has the member {member!r}, which is not in [models]")
    if len(members) < 2:
        raise InputError(f"[fusions.{name}] has {len(members)} members; a fusion takes two or more")
    weights = fusion.get("weights", [])
    for one in weights.values() if isinstance(weights, dict) else [weights]:
        numbers = isinstance(one, list) and all(isinstance(weight, int | float) for weight in one)
        if not numbers or one and len(one) != len(members):
            raise InputError(f"[fusions.{name}] weights = {one}: give a number for each of {len(members)} members")


def _check_cell(recipe: Mapping[str, Any], cell: Cell, names: Collection[str]) -> None:
    """Raises InputError for a row whose split, metric, number or expression cannot be."""
    if cell.metric not in METRICS:
        raise InputError(f"{cell.metric} is no metric; there are {', '.join(METRICS)}")
    if not cell.split.isdecimal() and cell.split not in SPLITS:
        raise InputError(f"{cell.split!r} is no split; give a number, or {', '.join(SPLITS)}")
    if cell.published and not is_number(cell.published.replace(",", "")):
        raise InputError(f"{cell.published!r} is no number")
    most = {"accuracy_percent": 100, "map_percent": 100, "error_rate": 1}.get(cell.metric)
    if cell.published and most and ("," in cell.published or float(cell.published) > most):
        raise InputError(f"{cell.published} is no {cell.metric}, of which {most} is the most")
    if not cell.ours:
        return
    for one in named(cell.ours):
        if one not in names:
            raise InputError(f"{one!r} is neither model nor fusion")
    sides = re.split(r" ([-%]) ", cell.ours)
    for number, side in enumerate(sides[::2]):
        if is_number(side) and (number == 0 or "-" not in sides):
            raise InputError(f"{cell.ours!r}: a number stands to the right of a -")
        name, kind = ([*side.split(), "", ""])[:2]
        if len(sides) > 1 and name in WORDS or name not in WORDS and not is_number(side) and kind not in KINDS:
            raise InputError(f"{side!r}: give a model, and maybe top5, class <name> or group <name>")
    word, *rest = [*cell.ours.split(), ""]
    form = f"a {sides[1]} b" if len(sides) == 3 else word if word in WORDS else "a model"
    if form not in (wanted := METRICS[cell.metric].form):
        raise InputError(f"{cell.ours!r}: beside {cell.metric} stands {wanted}")
    if word == "weight" and (of := recipe.get("fusions", {}).get(rest[0], {})).get("members", ()).count(rest[1]) != 1:
        raise InputError(f"{cell.ours!r}: {rest[0]} has the members {some(of.get('members', ()), 9) or 'none'}")
    if word in ("sequences", "videos") and rest[-2] not in ("train", "validation", "test"):
        raise InputError(f"{cell.ours!r}: the part is train, validation or test")
