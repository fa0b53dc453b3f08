"""The report's section on where its numbers come from. It shows the feature store, the recipe and
all runs of each model."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from reelbank.data.console import some
from reelbank.data.identity import brief
from reelbank.data.store.weights import PublishedWeights
from reelbank.extract.networks.provenance import Provenance
from reelbank.fusion.evaluation.contests import Contest
from reelbank.fusion.evaluation.experiments import Entry, Group
from reelbank.fusion.evaluation.names import features
from reelbank.fusion.metrics import mean_and_deviation
from reelbank.fusion.report.view import (
    Block,
    Cell,
    Code,
    Column,
    Details,
    Facts,
    Heading,
    Number,
    Section,
    Table,
    Text,
    interval,
    note,
    percent,
    plus_minus,
)
from reelbank.heads.runs.repetition import without_repetition

Json = Mapping[str, Any]


def origins_section(
    contest: Contest,
    letters: Sequence[str],
    *,
    part: str,
    anchor: str,
    weights: Mapping[str, Sequence[PublishedWeights]],
) -> Section:
    """anchor: prefix of the models' anchors, which the table of results links to; weights: the
    published weights that each store of the report records, by identity."""
    blocks: list[Block] = [
        note(
            "This section lists the feature store, the options and the runs of each "
            "model. The folder of a run in the bank has the name of the run and contains "
            "its weights, history and scores."
        )
    ]
    for letter, group in zip(letters, contest.groups, strict=True):
        blocks += _model(letter, group, weights, part=part, anchor=anchor)
    return Section("Where the numbers come from", blocks)


def _model(
    letter: str,
    group: Group,
    weights: Mapping[str, Sequence[PublishedWeights]],
    *,
    part: str,
    anchor: str,
) -> list[Block]:
    documents = [_document(entry) for entry in group.entries]
    store_recipes = documents[0].get("store_recipes", [])
    recipe = dict(without_repetition(group.entries[0].recipe))
    # there may be hundreds of names, and the table of classes contains them
    recipe.pop("classes", None)
    return [
        Heading(f"{letter}\N{EN SPACE}{group.label}", group.detail, f"{anchor}{letter}"),
        Facts(_facts(group, documents, store_recipes, weights)),
        _recipe("Recipe of the runs", recipe),
        *(_recipe("Recipe of the feature store", store_recipe) for store_recipe in store_recipes),
        _runs(group, part),
    ]


def _document(entry: Entry) -> Json:
    """The content of a run's recipe.json, which is the recipe and everything else that its figures
    may depend on. It is {} for a score file."""
    path = entry.path / "recipe.json"
    return json.loads(path.read_text(encoding="utf-8")) if entry.path.is_dir() else {}


def _facts(
    group: Group,
    documents: Sequence[Json],
    store_recipes: Sequence[Json],
    weights: Mapping[str, Sequence[PublishedWeights]],
) -> list[tuple[str, str]]:
    first = group.entries[0]
    codes = filter(None, map(_code, documents))
    facts = [
        ("Data set", first.fact("dataset")),
        ("Stream", first.fact("stream")),
        ("Extractor", features({"extractor": first.fact("extractor")}, first.random_networks)),
        ("Feature store", ", ".join(group.stores())),
        ("Weights", "; ".join(dict.fromkeys(filter(None, map(_weights, store_recipes))))),
        ("Publisher of the weights", _published(group, store_recipes, weights)),
        ("Code", "; ".join(dict.fromkeys(codes))),
    ]
    return [(name, value) for name, value in facts if value]


def _weights(store_recipe: Json) -> str:
    weights = store_recipe.get("weights")
    if isinstance(weights, Mapping):
        return ", ".join(f"{key} {brief(value)}" for key, value in weights.items())
    return str(weights or "")


def _published(
    group: Group, store_recipes: Sequence[Json], weights: Mapping[str, Sequence[PublishedWeights]]
) -> str:
    """What the publishers say about the weights, "not recorded" for stores that do not say it; ""
    if no weights were published. It is not known for stores that are not in the bank."""
    stores = group.stores()
    known: dict[str, None] = {}  # unique texts, in order
    for store in stores:
        known |= dict.fromkeys(map(str, weights.get(store, ())))
    if known:
        return "; ".join(known)
    origins = [Provenance.from_json(recipe.get("weights")) for recipe in store_recipes]
    if not any(origin.kind == "published" for origin in origins):
        return ""
    absent = [store[:8] for store in stores if store not in weights]
    if absent:
        return f"not known, because the store was not found: {some(absent)}"
    return "license and revision not recorded"


def _code(document: Json) -> str:
    """The versions and the device that were used for a run."""
    environment = document.get("environment", {})
    keys = ("reelbank", "commit", "torch", "device")
    return ", ".join(f"{key} {environment[key]}" for key in keys if environment.get(key))


def _recipe(summary: str, recipe: Json) -> Details:
    text = json.dumps(_shortened(recipe), indent=2, ensure_ascii=False)
    return Details(summary, [Code(text)])


def _shortened(value: Any) -> Any:
    """A recipe with its long texts cut, because a list of the videos that weights were trained on
    may have hundreds of thousands of characters."""
    if isinstance(value, Mapping):
        return {key: _shortened(item) for key, item in value.items()}
    return brief(value, 200) if isinstance(value, str) else value


def _runs(group: Group, part: str) -> Table:
    unit = " mAP %" if group.multilabel else " %"
    columns = [
        Column("Run"),
        Column(f"{part.capitalize()}{unit}", number=True),
        Column("95 % interval"),
        Column(f"Validation{unit}", number=True),
        Column("Split"),
        Column("Seed"),
        Column("Videos", number=True),
        Column("Kept epoch", number=True),
        Column("Training, s", number=True),
    ]
    notes: dict[str, None] = {}  # unique notes, in order
    for entry in group.entries:
        notes |= dict.fromkeys(f"Note: {text}." for text in entry.metrics.notes or ())
    values = [entry.figure.value for entry in group.entries]
    mean = [f"Mean {plus_minus(*mean_and_deviation(values))} %."] if len(values) > 1 else []
    rows = [_run(entry) for entry in group.entries]
    return Table(columns, rows, " ".join([*mean, *notes]))


def _run(entry: Entry) -> list[Cell]:
    share = entry.figure
    validation = entry.metrics.figure("validation")
    value = math.nan if validation is None else validation
    return [
        Text(entry.name, code=True),
        Number(share.value, percent(share.value)),
        Text(interval(share.low, share.high), "w quiet"),
        Number(value, percent(value)),
        *(Text(entry.fact(key) or "–") for key in ("split", "seed")),
        Number(share.videos, str(share.videos)),
        _number(entry.metrics.best_epoch, "g"),
        _number(entry.metrics.seconds, ".0f"),
    ]


def _number(value: float | None, form: str) -> Number:
    return Number(math.nan, "–") if value is None else Number(value, f"{value:{form}}")
