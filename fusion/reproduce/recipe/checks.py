"""Checks of a published system's recipe. They find invalid rows, and names that the recipe does not
define."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from reelbank.data.console import counted, some
from reelbank.data.errors import InputError
from reelbank.fusion.detectors.methods import METHODS
from reelbank.fusion.late import HOWS
from reelbank.fusion.reproduce.plan import (
    ALL_SPLITS,
    DRAWINGS,
    METRICS,
    WORDS,
    Cell,
    cells,
    is_detection,
    is_number,
    model_options,
    named,
    needed_stores,
    pretrained,
    starts_from,
)

PARTS = ("train", "validation", "test")
SPLITS = (*ALL_SPLITS, "not stated", "training", "validation")  # a split may also be a number
KINDS = ("", "top5", "class", "group")  # words that may follow a model


def check_names(recipe: Mapping[str, Any]) -> None:
    """Raises InputError when the recipe refers to a name that it does not define, or a row is
    invalid."""
    stores, models, fusions, anomalies = (
        recipe.get(section, {}) for section in ("stores", "models", "fusions", "anomalies")
    )
    if twice := set(models) & set(fusions):
        raise InputError(f"{min(twice)} is both a model and a fusion; rename one of them")
    if twice := set(anomalies) & {*models, *fusions}:
        raise InputError(
            f"the name {min(twice)} is used for an anomaly detector and for a model or fusion; rename one of them"
        )
    for name, detection in anomalies.items():
        _check_detection(name, detection, models)
    for section in ("models", "pretrain"):
        for name, own in recipe.get(section, {}).items():
            if (of := own.get("normal_of", "")) and of not in anomalies:
                raise InputError(
                    f"[{section}.{name}] normal_of = {of!r}, {_undefined(of, 'anomalies', anomalies)}"
                )
    for name, model in models.items():
        if not model.get("on"):
            raise InputError(
                f"[models.{name}] has no option 'on'; set 'on' to the store that the model reads"
            )
        for store in needed_stores(model):
            if store not in stores:
                raise InputError(
                    f"[models.{name}] reads the store {store!r}, {_undefined(store, 'stores', stores)}"
                )
    _check_starts(recipe)
    for name, fusion in fusions.items():
        _check_fusion(name, fusion, models)
    for name, store in stores.items():
        for one in pretrained(store).values():
            if one not in (defined := recipe.get("pretrain", {})):
                raise InputError(
                    f"[stores.{name}] has pretrain = {one!r}, {_undefined(one, 'pretrain', defined)}"
                )
    for table, own in recipe["tables"].items():
        if not own.get("rows"):
            raise InputError(f"[tables.{table}] has no rows; add rows or remove the table")
    for name, figure in recipe.get("figures", {}).items():
        try:
            _check_figure(figure, {*models, *fusions})
            _check_over(recipe, figure)
        except InputError as error:
            raise InputError(f"[figures.{name}] {error}") from None
    for cell in cells(recipe):
        try:
            _check_cell(recipe, cell, {*models, *fusions})
        except InputError as error:
            raise InputError(f"[tables.{cell.table}] {cell.row}: {error}") from None


def _undefined(name: str, section: str, defined: Collection[str]) -> str:
    """The end of a message about a name that a section does not define."""
    choices = f", or choose from {some(defined, 9)}" if defined else ""
    return f"which is not in [{section}]; add [{section}.{name}]{choices}"


def _check_starts(recipe: Mapping[str, Any]) -> None:
    """Raises InputError for a model whose `init` is not an earlier model."""
    earlier: list[str] = []
    for name in recipe.get("models", {}):
        first = starts_from(recipe, name)
        if first and first not in earlier:
            raise InputError(
                f"[models.{name}] init = {first!r}: init must name a model that is "
                f"defined before [models.{name}]; choose from "
                f"{some(earlier, 9) or '(none)'}"
            )
        earlier.append(name)


def _check_fusion(name: str, fusion: Mapping[str, Any], models: Mapping[str, Any]) -> None:
    members, how = fusion.get("members", []), fusion.get("how", "")
    if how not in (*HOWS, "svm"):
        raise InputError(f"[fusions.{name}] how = {how!r}: choose from {', '.join(HOWS)}, svm")
    for member in members:
        if member not in models:
            raise InputError(
                f"[fusions.{name}] has the member {member!r}, {_undefined(member, 'models', models)}"
            )
    if len(members) < 2:
        raise InputError(
            f"[fusions.{name}] has {counted(len(members), 'member')}; give two or more models"
        )
    weights = fusion.get("weights", [])
    for one in weights.values() if isinstance(weights, dict) else [weights]:
        numbers = isinstance(one, list) and all(isinstance(weight, int | float) for weight in one)
        if not numbers or one and len(one) != len(members):
            raise InputError(
                f"[fusions.{name}] weights = {one}: give {len(members)} numbers, one for each member"
            )


def _check_detection(name: str, detection: Mapping[str, Any], models: Mapping[str, Any]) -> None:
    members = detection.get("members", [])
    if unknown := [member for member in members if member not in models]:
        raise InputError(
            f"[anomalies.{name}] has the member {unknown[0]!r}, "
            f"{_undefined(unknown[0], 'models', models)}"
        )
    if not members:
        raise InputError(f"[anomalies.{name}] has no members; give one or more models")
    every = detection.get("abnormal_every", 1)
    if not isinstance(every, int) or isinstance(every, bool) or every < 1:
        raise InputError(
            f"[anomalies.{name}] abnormal_every must be a whole number of 1 or more (got {every!r})"
        )
    if not detection.get("abnormal") and "abnormal_every" not in detection:
        raise InputError(
            f"[anomalies.{name}] has neither abnormal nor abnormal_every; set abnormal to a list of "
            "classes, or abnormal_every to a whole number"
        )


def _check_figure(figure: Mapping[str, Any], names: Collection[str]) -> None:
    """Raises InputError for a figure without a required option, or with an invalid one."""
    for key in ("title", "source", "dataset", "split", "draw"):
        if key not in figure:
            raise InputError(f"has no {key}; add {key} = '...'")
        if not isinstance(figure[key], str):
            raise InputError(f"{key} must be a string in quotation marks (got {figure[key]})")
    if figure["draw"] not in DRAWINGS:
        raise InputError(f"draw = {figure['draw']!r}: choose from {', '.join(DRAWINGS)}")
    models = figure.get("models", [])
    if unknown := [name for name in models if name not in names]:
        raise InputError(
            f"shows {unknown[0]!r}, which is neither a model nor a fusion; choose from "
            f"{some(sorted(names), 9)}"
        )
    counts = DRAWINGS[figure["draw"]]
    if len(models) not in counts:
        raise InputError(
            f"shows {len(models)} models, but draw = {figure['draw']!r} takes at least {counts[0]} "
            f"and at most {counts[-1]}"
        )
    _check_split(figure["split"])
    networks = figure.get("networks", {})
    if not isinstance(networks, dict):
        raise InputError(f"networks must be a table, such as {{ c3d = 40 }} (got {networks!r})")
    numbers = {key: figure[key] for key in ("batch", "batches") if key in figure} | networks
    if figure["draw"] == "batch_times" and not {"batch", "batches"} <= numbers.keys():
        raise InputError("draw = 'batch_times' needs batch and batches; set both")
    if figure["draw"] != "batch_times" and numbers:
        raise InputError(f"{min(numbers)} applies only to draw = 'batch_times'; remove it")
    if "classes" in figure:
        if figure["draw"] != "gains":
            raise InputError("classes applies only to draw = 'gains'; remove it")
        numbers = {**numbers, "classes": figure["classes"]}
    for key, value in numbers.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"{key} must be a whole number of 1 or more (got {value!r})")


def _check_over(recipe: Mapping[str, Any], figure: Mapping[str, Any]) -> None:
    """Raises InputError for lines over an option that their models do not have, and for `over` on
    another figure."""
    over = figure.get("over", "")
    if figure["draw"] != "lines":
        if over:
            raise InputError("over applies only to draw = 'lines'; remove it")
        return
    if fused := [name for name in figure["models"] if name not in recipe["models"]]:
        raise InputError(
            f"shows {fused[0]!r}, which is not in [models]; draw = 'lines' takes only models"
        )
    if not over:
        raise InputError(
            "draw = 'lines' needs the option of the horizontal axis, such as over = 'hidden'"
        )
    for name in figure["models"]:
        if not isinstance(model_options(recipe, name).get(over), int | float):
            raise InputError(
                f"over = {over!r}: [models.{name}] does not set this option to a number; set it there, or "
                "give another option"
            )


def _check_split(split: str) -> None:
    if not split.isdecimal() and split not in SPLITS:
        raise InputError(f"{split!r} is not a split; give a number, or {', '.join(SPLITS)}")


def _check_cell(recipe: Mapping[str, Any], cell: Cell, names: Collection[str]) -> None:
    """Raises InputError for a row whose split, metric, number or expression is invalid."""
    if cell.metric not in METRICS:
        raise InputError(f"{cell.metric} is not a metric; choose from {', '.join(METRICS)}")
    _check_split(cell.split)
    if cell.published and not is_number(cell.published.replace(",", "")):
        raise InputError(
            f"the published value must be a number, such as '93.4', or '' (got {cell.published!r})"
        )
    most = {"accuracy_percent": 100, "map_percent": 100, "error_rate": 1}.get(cell.metric)
    if cell.published and most and ("," in cell.published or float(cell.published) > most):
        raise InputError(
            f"the published value {cell.published} is not a valid {cell.metric}; the maximum "
            f"is {most}"
        )
    if not cell.ours:
        return
    if is_detection(cell.ours):
        _check_detection_cell(recipe, cell)
        return
    for one in named(cell.ours):
        if one not in names:
            raise InputError(
                f"{one!r} is neither a model nor a fusion; choose from {some(sorted(names), 9)}"
            )
    sides = re.split(r" ([-%]) ", cell.ours)
    for number, side in enumerate(sides[::2]):
        if is_number(side) and (number == 0 or "-" not in sides):
            raise InputError(f"{cell.ours!r}: a number is allowed only to the right of ' - '")
        name, kind = ([*side.split(), "", ""])[:2]
        if (
            len(sides) > 1
            and name in WORDS
            or name not in WORDS
            and not is_number(side)
            and kind not in KINDS
        ):
            raise InputError(
                f"{side!r} must be a model, optionally followed by top5, class <name> or "
                "group <name>"
            )
    word, *rest = [*cell.ours.split(), ""]
    form = f"a {sides[1]} b" if len(sides) == 3 else word if word in WORDS else "a model"
    if form not in (wanted := METRICS[cell.metric].form):
        raise InputError(
            f"{cell.ours!r} does not fit the metric {cell.metric}, which needs: {wanted}"
        )
    if (
        word == "weight"
        and (of := recipe.get("fusions", {}).get(rest[0], {})).get("members", ()).count(rest[1])
        != 1
    ):
        raise InputError(
            f"{cell.ours!r}: name a member of {rest[0]} "
            f"({some(of.get('members', ()), 9) or 'it has no members'})"
        )
    parts = {"sequences": PARTS, "videos": (*PARTS, "all")}
    if word in parts and rest[-2] not in parts[word]:
        raise InputError(f"{cell.ours!r}: the part must be one of {', '.join(parts[word])}")


def _check_detection_cell(recipe: Mapping[str, Any], cell: Cell) -> None:
    function, *words = cell.ours.split()
    (name,) = named(cell.ours)
    if name not in (anomalies := recipe.get("anomalies", {})):
        raise InputError(
            f"{cell.ours!r} names {name!r}, {_undefined(name, 'anomalies', anomalies)}"
        )
    if function not in METRICS[cell.metric].form:
        raise InputError(
            f"{cell.ours!r} does not fit the metric {cell.metric}, which needs: "
            f"{METRICS[cell.metric].form}"
        )
    method = " ".join(words[1:])
    if method and (function != "auc" or method not in METHODS):
        raise InputError(f"{cell.ours!r}: write auc, optionally with one of {', '.join(METHODS)}")
