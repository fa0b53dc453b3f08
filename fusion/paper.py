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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from reelbank.data.errors import InputError
from reelbank.heads.options import unused_options

ANY_DATASET = "other"


class Metric(NamedTuple):
    """Its unit, and what a row's last text is beside it."""

    unit: str
    form: str


METRICS = {
    "accuracy_percent": Metric("%", "a model"),
    "map_percent": Metric("% mAP", "a model"),
    "error_rate": Metric("error", "a model"),
    "gain_points": Metric("points", "a - b"),
    "loss_points": Metric("points", "a - b"),
    "range_points": Metric("points", "range"),
    "relative_error_reduction_percent": Metric("% of the error", "a % b"),
    "count": Metric("", "sequences, videos, kept or worse"),
    "fusion_weight": Metric("", "weight"),
}
ALL_SPLITS = ("mean of 3", "each of 3")
WORDS = {"range": 2, "kept": 2, "worse": 2, "sequences": 2, "videos": 1, "weight": 2}  # function -> arguments, at least


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
                given = "each in quotes: row, column, data set, split, published, metric, ours"
                raise InputError(f"[tables.{name}]: {row} is not seven texts ({given})")
            found.append(Cell(name, table.get("source", name), *row))
    return found


def named(ours: str) -> list[str]:
    """The models and fusions that the expression of a row names."""
    if not ours:
        return []
    if len(sides := re.split(r" [-%] ", ours)) == 2:
        return [name for side in sides if not is_number(side) for name in named(side)]
    first, *rest = ours.split()
    if first in WORDS:
        if len(rest) < WORDS[first]:
            raise InputError(f"{ours!r}: {first} takes {WORDS[first]} names or more")
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
