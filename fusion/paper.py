"""A recipe as the plan of a published system: its stores, models, fusions and tables, and what each of them needs.

Beside the options of `extract` and `train` (data/recipes.py) a recipe says what `reproduce` runs:

`[stores.<name>]`    options of `extract` over `[extract]`; `trunk` for people; `pretrain`: the weights of `[pretrain.<name>]`
`[pretrain.<name>]`  options of `pretrain`
`[models.<name>]`    options of `train` over `[train]` and `[heads.<head>]`; `on`: its store, `store.part` where an extraction
                     gives several (a stream, or a node), `a+b` for mid fusion
`[fusions.<name>]`   `members` (models), and options of `fuse`, or of `svm` where `how` is "svm"
`[tables.<name>]`    `title`, `source`, and `rows` of seven texts: row, column, data set, split, published, metric, ours
`[quick]`            the same sections again, merged over the recipe by QUICK=1; `divide` {option: by} for numbers of models

`trunk` may say `{flow}`, the store's flow method. A data set "other" in a row is any.

`ours`, the last text of a row, says what of ours stands beside the published number; "" nothing:
`model` its figure, `model top5`, `model class Name`, `model group Category`, `a - b` of any two of these (points; b may be a
number in per cent), `a % b` (by what share of b's error a's is smaller), `range a b ...` (largest less smallest), `kept a b`
and `worse a b` (classes in which a is not below, or below b), `sequences model part`, `videos part`, `weight fusion member`.
"""

import re
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from reelbank.data.errors import InputError
from reelbank.data.recipes import read_recipe
from reelbank.data.videos import nearest, some
from reelbank.extract.options import ExtractOptions
from reelbank.fusion.fuse import FuseOptions
from reelbank.fusion.svm import SvmOptions
from reelbank.heads.options import TrainOptions, unused_options
from reelbank.heads.pretrain_plan import PretrainOptions

SECTIONS = {  # section -> the options of whose commands each of its tables may set, and what it may say beside them
    "stores": ((ExtractOptions,), ("trunk", "pretrain")),
    "pretrain": ((PretrainOptions,), ()),
    "heads": ((TrainOptions,), ()),
    "models": ((TrainOptions,), ("on",)),
    "fusions": ((FuseOptions, SvmOptions), ("members",)),
    "tables": ((), ("title", "source", "rows")),
}
ANY_DATASET = "other"
METRICS = {  # metric of a table -> unit
    "accuracy_percent": "%",
    "map_percent": "% mAP",
    "error_rate": "error",
    "gain_points": "points",
    "loss_points": "points",
    "range_points": "points",
    "relative_error_reduction_percent": "% of the error",
    "count": "",
    "fusion_weight": "",
}
ALL_SPLITS = ("mean of 3", "each of 3")
_WORDS = {"range": 2, "kept": 2, "worse": 2, "sequences": 2, "videos": 1, "weight": 2}  # function -> arguments, at least
_KINDS = ("", "top5", "class", "group")  # of a model's figure


@dataclass(frozen=True)
class Cell:
    """One published number: where it stands, what it is, and what of ours belongs beside it."""

    table: str
    source: str
    row: str
    column: str
    dataset: str
    split: str
    published: str
    metric: str
    ours: str


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
        recipe = _merged(recipe, own)
    for change in re.split(r"[\s,]+(?=\w+(?:\.\w+)+=)", changes.strip()) if changes.strip() else ():
        _change(recipe, change)
    _check(recipe, system)
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
        place[option] = text


def _check(recipe: Mapping[str, Any], system: str) -> None:
    for section, (commands, beside) in SECTIONS.items():
        known = {field.name for command in commands for field in fields(command)} | set(beside)
        for name, own in recipe.get(section, {}).items():
            if not isinstance(own, dict):
                raise InputError(f"SYSTEM={system}: [{section}] {name} is no table")
            if unknown := sorted(set(own) - known):
                raise InputError(f"SYSTEM={system}: [{section}.{name}] has no option {unknown[0]}{nearest(unknown[0], known)}")
            if ".py:" in str({key: value for key, value in own.items() if key != "rows"}):
                raise InputError(f"SYSTEM={system}: [{section}.{name}] names a file of code; give EXTRACTOR= if you trust it")
    names = {*recipe.get("models", {}), *recipe.get("fusions", {})}
    if twice := set(recipe.get("models", {})) & set(recipe.get("fusions", {})):
        raise InputError(f"SYSTEM={system}: {min(twice)} is both a model and a fusion")
    for name, model in recipe.get("models", {}).items():
        for store in stores_of(model):
            if store not in recipe.get("stores", {}):
                raise InputError(f"SYSTEM={system}: [models.{name}] is on {store!r}, which is not in [stores]")
    for name, fusion in recipe.get("fusions", {}).items():
        for key in ("members", "how"):
            if not fusion.get(key):
                raise InputError(f"SYSTEM={system}: [fusions.{name}] does not say its {key}")
        for member in fusion["members"]:
            if member not in recipe.get("models", {}):
                raise InputError(f"SYSTEM={system}: [fusions.{name}] has the member {member!r}, which is not in [models]")
    for name, store in recipe.get("stores", {}).items():
        for one in pretrained(store).values():
            if one not in recipe.get("pretrain", {}):
                raise InputError(f"SYSTEM={system}: [stores.{name}] wants pretrain {one!r}, which is not there")
    for table, own in recipe["tables"].items():
        if not own.get("rows"):
            raise InputError(f"SYSTEM={system}: [tables.{table}] has no rows")
    for cell in cells(recipe):
        try:
            _check_cell(recipe, cell, names)
        except InputError as error:
            raise InputError(f"SYSTEM={system}: [tables.{cell.table}] {cell.row}: {error}") from None


def _check_cell(recipe: Mapping[str, Any], cell: Cell, names: Collection[str]) -> None:
    """Raises InputError for a row whose metric, number or expression cannot be."""
    if cell.metric not in METRICS:
        raise InputError(f"{cell.metric} is no metric; there are {', '.join(METRICS)}")
    if cell.published and not is_number(cell.published.replace(",", "")):
        raise InputError(f"{cell.published!r} is no number")
    for one in named(cell.ours):
        if one not in names:
            raise InputError(f"{one!r} is neither model nor fusion")
    sides = re.split(r" ([-%]) ", cell.ours)
    for number, side in enumerate(sides[::2]):
        if is_number(side) and (number == 0 or "-" not in sides):
            raise InputError(f"{cell.ours!r}: a number stands to the right of a -")
        name, kind = ([*side.split(), "", ""])[:2]
        if len(sides) > 1 and name in _WORDS or name not in _WORDS and not is_number(side) and kind not in _KINDS:
            raise InputError(f"{side!r}: give a model, and maybe top5, class <name> or group <name>")
    word, *rest = [*cell.ours.split(), ""]
    if word == "weight" and (of := recipe.get("fusions", {}).get(rest[0], {})).get("members", ()).count(rest[1]) != 1:
        raise InputError(f"{cell.ours!r}: {rest[0]} has the members {some(of.get('members', ()), 9) or 'none'}")
    if word in ("sequences", "videos") and rest[-2] not in ("train", "validation", "test"):
        raise InputError(f"{cell.ours!r}: the part is train, validation or test")


def cells(recipe: Mapping[str, Any], only: Sequence[str] = ()) -> list[Cell]:
    """The published numbers of all tables, or of those named. Raises InputError for a table that is not there, or a row that
    is not seven texts."""
    tables = recipe["tables"]
    if unknown := [name for name in only if name not in tables]:
        raise InputError(f"ONLY={unknown[0]}: the recipe's tables are {', '.join(tables)}")
    found = []
    for name, table in tables.items():
        if only and name not in only:
            continue
        for row in table.get("rows", ()):
            if not isinstance(row, list) or len(row) != 7 or not all(isinstance(one, str) for one in row):
                raise InputError(f"[tables.{name}]: {row} is not seven texts (row, column, data set, split, published, ...)")
            found.append(Cell(name, table.get("source", name), *row))
    return found


def named(ours: str) -> list[str]:
    """The models and fusions that the expression of a row names."""
    if not ours:
        return []
    if len(sides := re.split(r" [-%] ", ours)) == 2:
        return [name for side in sides if not is_number(side) for name in named(side)]
    first, *rest = ours.split()
    if first in _WORDS:
        if len(rest) < _WORDS[first]:
            raise InputError(f"{ours!r}: {first} takes {_WORDS[first]} names or more")
        return {"videos": [], "sequences": rest[:1], "weight": rest[:1]}.get(first, rest)
    return [first]


def against(ours: str) -> str:
    """The published number that an expression sets ours against, "" for none."""
    right = ours.rpartition(" - ")[2]
    return right if is_number(right) else ""


def is_number(text: str) -> bool:
    """Whether a side of an expression is a number, not a model."""
    return bool(re.fullmatch(r"\d+(\.\d+)?", text.strip()))


def stores_of(model: Mapping[str, Any]) -> list[str]:
    """The stores that a model reads, without their parts."""
    return [one.partition(".")[0] for one in str(model.get("on", "")).split("+")]


def pretrained(store: Mapping[str, Any]) -> dict[str, str]:
    """Stream -> the section of [pretrain] that its weights come from; "" for all streams of the store."""
    words = [word.partition("=") for word in str(store.get("pretrain", "")).split()]
    return {stream if equals else "": name if equals else stream for stream, equals, name in words}


def needed(recipe: Mapping[str, Any], wanted: Iterable[Cell]) -> tuple[list[str], list[str]]:
    """The models and the fusions that the cells need, in the recipe's order."""
    names = {name for cell in wanted for name in named(cell.ours)}
    fusions = [name for name in recipe.get("fusions", {}) if name in names]
    names |= {member for name in fusions for member in recipe["fusions"][name]["members"]}
    return [name for name in recipe.get("models", {}) if name in names], fusions


def splits_of(recipe: Mapping[str, Any], wanted: Iterable[Cell], known: Sequence[str]) -> dict[str, list[str]]:
    """The splits that each model and fusion is run on, of the data set's `known` ones."""
    found: dict[str, set[str]] = {}
    for cell in wanted:
        for name in named(cell.ours):
            found.setdefault(name, set()).update(splits_of_cell(cell, known))
    for name, fusion in recipe.get("fusions", {}).items():
        for member in fusion["members"] if name in found else ():
            found.setdefault(member, set()).update(found[name])
    return {name: [split for split in known if split in splits] for name, splits in found.items()}


def splits_of_cell(cell: Cell, known: Sequence[str]) -> list[str]:
    """A row's own splits among the `known`; where the paper does not say, or the data set has no such one, the first."""
    if cell.split in ALL_SPLITS:
        return list(known)
    return [cell.split] if cell.split in known else list(known[:1])


def store_options(recipe: Mapping[str, Any], name: str, network: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Options of `extract` for one store. network: extractor, and maybe weights, resize and size, that stand in place of the
    recipe's where a store is of pictures and its network is not trained here; where models read maps, or nodes by name, it has
    to have those nodes."""
    own = {key: value for key, value in recipe["stores"][name].items() if key not in ("trunk", "pretrain")}
    found = {key: value for key, value in {**recipe.get("extract", {}), **own}.items() if value != ""}
    without = {"audio", "idt"} & set(str(found.get("stream", "rgb")).split())
    if not network or without or pretrained(recipe["stores"][name]):
        return found
    replaced = ["extractor", "weights", "resize", "size", "width"]
    on = " ".join(str(model.get("on", "")) for model in recipe.get("models", {}).values())
    if not any(re.search(rf"\b{name}\.(\w+\.)?{node}\b", on) for node in str(found.get("node", "")).split()):
        replaced.append("node")
    return {key: value for key, value in found.items() if key not in replaced} | dict(network)


def model_options(recipe: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Options of `train` for one model: what the recipe sets for all heads and this head has no use for is left out."""
    own = {key: value for key, value in recipe["models"][name].items() if key != "on"}
    base = dict(recipe.get("train", {}))
    head = own.get("head", base.get("head", ""))
    base |= recipe.get("heads", {}).get(head, {})
    for key, by in recipe.get("divide", {}).items():
        for options in (base, own):
            if isinstance(options.get(key), int) and options[key]:
                options[key] = max(1, options[key] // by)
    found = {**base, **own, "head": head}
    unused = [*unused_options(found), *(["batch_share"] if "batch" in own else [])]
    return {key: value for key, value in found.items() if value != "" and (key in own or key not in unused)}
