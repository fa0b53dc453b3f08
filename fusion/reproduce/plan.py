"""A recipe as the plan of a published system, with its stores, models, fusions and tables, and
their dependencies.

In addition to options of `extract` and `train` (data/recipes.py), a recipe contains:

`[stores.<name>]`    options of `extract`, added to `[extract]`; `trunk`, a description; `pretrain`: the
                     weights of `[pretrain.<name>]`
`[pretrain.<name>]`  options of `pretrain`; `normal_of`: as for models
`[models.<name>]`    options of `train`, added to `[train]` and `[heads.<head>]`; `on`: its store, or
                     `store.part` where an extraction makes several (a stream or a node), `a+b` for
                     mid fusion; `init`: an earlier model, from whose weights it starts;
                     `validation_store`: a store of the recipe; `normal_of`: an anomaly detection,
                     whose abnormal classes are left out
`[fusions.<name>]`   `members` (models), and options of `fuse`, or of `svm` if `how` is "svm"
`[anomalies.<name>]` `members` (models), on whose joined embeddings a detector is fitted; options of
                     `anomaly`, of which `abnormal` names the abnormal classes; without it,
                     `abnormal_every` n: every n-th class of the data set, at least its last one
`[tables.<name>]`    `title`, `source`, and `rows` of seven texts: row, column, data set, split,
                     published number, metric, ours
`[figures.<name>]`   a figure that shows results: `title`, `source`, `dataset`, `split`, `models` (models
                     and fusions), and `draw`, how it is drawn from them: one of DRAWINGS. `dataset`
                     may name several. "lines" also has `over`, the option of `train` on its
                     horizontal axis; "gains" may have `classes`, the number of them that are shown,
                     those with the largest gains; "batch_times" also has `batch` (sequences), `batches` (at most)
                     and `networks` {extractor: its clips in a batch}
`[quick]`            the same sections again, merged over the recipe by QUICK=1; `divide` {option:
                     divisor} for numbers of models
`[networks."<network>"]`  the same sections again, merged over the recipe by EXTRACTOR=<network>

`trunk` may contain `{flow}`, the store's flow method. The data set "other" in a row stands for any.

`ours`, the last text of a row, describes our figure; "" for none:
`model` its figure, `model top5`, `model class Name`, `model group Category`, `a - b` of any two of
these (points; b may be a number in per cent), `a % b` (by what share of b's error a's is smaller),
`range a b ...` (largest minus smallest), `kept a b` and `worse a b` (number of classes in which a is
at least as good as b, or worse), `sequences model part`, `videos part` (or `videos all`),
`weight fusion member`. Of an anomaly detection: `auc detection` or `auc detection method`,
`bottleneck detection` (the chosen size), and at the first of its thresholds `alarms detection` and
`detected detection` (shares of normal and of abnormal test videos).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from reelbank.data.errors import InputError
from reelbank.extract.defaults import USUAL_STREAMS
from reelbank.extract.streams.loading import load_stream
from reelbank.extract.streams.per_stream import applicable
from reelbank.heads.training.options import unused_options

ANY_DATASET = "other"


class Metric(NamedTuple):
    """unit: of the number; form: the form of `ours` that belongs to it."""

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
    "count": Metric("", "sequences, videos, kept, worse or bottleneck"),
    "fusion_weight": Metric("", "weight"),
    "auc": Metric("AUC", "auc"),
    "share_percent": Metric("%", "alarms or detected"),
}
ALL_SPLITS = ("mean of 3", "each of 3")
# How figures are drawn -> how many models they show (figures.py draws them).
DRAWINGS = {
    "classes": range(1, 7),  # each class's figure as a bar for each model
    "confusion": range(1, 2),  # a confusion matrix
    # frames of videos with the most likely classes; two models are shown on the same videos
    "predictions": range(1, 3),
    "lines": range(2, 100),  # accuracy over an option of `train`, a line for each kind of model
    "difference": range(2, 3),  # the first confusion matrix minus the second
    "gains": range(2, 3),  # each class's gain from the second model to the first
    "batch_times": range(1, 20),  # the measured time of a training step
}
WORDS = {
    "range": 2,
    "kept": 2,
    "worse": 2,
    "sequences": 2,
    "videos": 1,
    "weight": 2,
    "auc": 1,
    "bottleneck": 1,
    "alarms": 1,
    "detected": 1,
}  # function -> minimum number of arguments
DETECTION_WORDS = ("auc", "bottleneck", "alarms", "detected")  # functions of anomaly detections


@dataclass(frozen=True)
class Cell:
    """One published number, with its place in a table, its meaning, and the expression of our
    figure to compare it with."""

    table: str
    source: str
    row: str
    column: str
    dataset: str
    split: str
    published: str
    metric: str
    ours: str


@dataclass(frozen=True)
class Figure:
    """A figure of the paper that shows results, and how it is drawn from our runs.

    dataset, split: the paper's, of data sets one or several; draw: one of DRAWINGS; models: of
    models and fusions, in the order in which they are shown; over: of "lines"; classes: of "gains",
    0 for all; batch, batches, networks: of "batch_times"
    """

    name: str
    title: str
    source: str
    dataset: str
    split: str
    draw: str
    models: tuple[str, ...]
    over: str = ""
    classes: int = 0
    batch: int = 0
    batches: int = 0
    networks: Mapping[str, int] = field(default_factory=dict)

    @property
    def cell(self) -> Cell:
        """A cell that needs the same models on the same data."""
        ours = self.models[0] if len(self.models) == 1 else f"range {' '.join(self.models)}"
        place = (self.name, self.source, self.title, "")
        dataset = ANY_DATASET if " " in self.dataset else self.dataset
        return Cell(*place, dataset, self.split, "", "accuracy_percent", ours)


def figures_of(recipe: Mapping[str, Any], only: Sequence[str] = ()) -> list[Figure]:
    """The figures of the recipe, or those named."""
    return [
        Figure(name, **{**own, "models": tuple(own["models"])})
        for name, own in recipe.get("figures", {}).items()
        if not only or name in only
    ]


def cells(recipe: Mapping[str, Any], only: Sequence[str] = ()) -> list[Cell]:
    """The published numbers of all tables, or of those named. Raises InputError for a name that is
    neither a table nor a figure, and for a row that is not seven texts."""
    tables = recipe["tables"]
    known = list(dict.fromkeys([*tables, *recipe.get("figures", {})]))
    if unknown := [name for name in only if name not in known]:
        raise InputError(
            f"ONLY={unknown[0]}: the recipe has no such table or figure; choose from "
            f"{', '.join(known)}"
        )
    found = []
    for name, table in tables.items():
        if only and name not in only:
            continue
        for row in table.get("rows", ()):
            if (
                not isinstance(row, list)
                or len(row) != 7
                or not all(isinstance(one, str) for one in row)
            ):
                raise InputError(
                    f"[tables.{name}] a row must be a list of seven strings in quotation marks: "
                    f"row, column, data set, split, published, metric, ours (got {row})"
                )
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
            raise InputError(f"{ours!r}: {first} needs at least {WORDS[first]} names")
        if first == "videos":
            return []
        return rest if first in ("range", "kept", "worse") else rest[:1]
    return [first]


def is_detection(ours: str) -> bool:
    """Whether the expression is a figure of an anomaly detection."""
    return ours.partition(" ")[0] in DETECTION_WORDS


def against(ours: str) -> str:
    """The published number that an expression compares ours with, "" for none."""
    right = ours.rpartition(" - ")[2]
    return right if is_number(right) else ""


def is_number(text: str) -> bool:
    """Whether a side of an expression is a number, not a model."""
    return bool(re.fullmatch(r"\d+(\.\d+)?", text.strip()))


def stores_of(model: Mapping[str, Any]) -> list[str]:
    """The stores that a model reads, without the names of parts."""
    return [one.partition(".")[0] for one in str(model.get("on", "")).split("+")]


def needed_stores(model: Mapping[str, Any]) -> list[str]:
    """The stores that a model reads, and the one that chooses its validation videos."""
    validated = str(model.get("validation_store", "")).partition(".")[0]
    return [*stores_of(model), *([validated] if validated else [])]


def pretrained(store: Mapping[str, Any]) -> dict[str, str]:
    """The section of [pretrain] that the weights of each stream come from. The key "" stands for
    all streams of the store."""
    words = [word.partition("=") for word in str(store.get("pretrain", "")).split()]
    return {stream if equals else "": name if equals else stream for stream, equals, name in words}


def starts_from(recipe: Mapping[str, Any], name: str) -> str:
    """The model from whose weights a model starts, "" for none."""
    return str(recipe["models"][name].get("init", ""))


def joined(recipe: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The sections of what is made of several models, fusions and anomaly detections, by name."""
    return {**recipe.get("fusions", {}), **recipe.get("anomalies", {})}


class Needed(NamedTuple):
    """The names of what cells need, in the recipe's order."""

    models: list[str]
    fusions: list[str]
    anomalies: list[str]


def needed(recipe: Mapping[str, Any], wanted: Iterable[Cell]) -> Needed:
    """The models, fusions and anomaly detections that the cells need."""
    names: set[str] = set()
    for cell in wanted:
        names.update(named(cell.ours))
    for name, section in joined(recipe).items():
        names.update(section["members"] if name in names else ())
    for name in reversed(list(recipe.get("models", {}))):  # a model starts from an earlier one
        if name in names:
            names.add(starts_from(recipe, name))
    models, fusions, anomalies = (
        [name for name in recipe.get(section, {}) if name in names]
        for section in ("models", "fusions", "anomalies")
    )
    return Needed(models, fusions, anomalies)


def splits_of(
    recipe: Mapping[str, Any], wanted: Iterable[Cell], known: Sequence[str]
) -> dict[str, list[str]]:
    """The splits out of `known` that each model, fusion and anomaly detection is run on."""
    found: dict[str, set[str]] = {}
    for cell in wanted:
        for name in named(cell.ours):
            found.setdefault(name, set()).update(splits_of_cell(cell, known))
    for name, section in joined(recipe).items():
        for member in section["members"] if name in found else ():
            found.setdefault(member, set()).update(found[name])
    for name in reversed(recipe.get("models", {})):
        if name in found and (first := starts_from(recipe, name)):
            found.setdefault(first, set()).update(found[name])
    return {name: [split for split in known if split in splits] for name, splits in found.items()}


def splits_of_cell(cell: Cell, known: Sequence[str]) -> list[str]:
    """The splits of the row out of `known`. If the paper does not state the split, or the data set
    does not have it, the first known split is used."""
    if cell.split in ALL_SPLITS:
        return list(known)
    return [cell.split] if cell.split in known else list(known[:1])


def store_options(
    recipe: Mapping[str, Any], name: str, network: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Options of `extract` for one store: its own, and those of [extract] that its streams use.

    network: extractor, and possibly weights, resize and size, which replace those of the recipe for
    stores of pictures whose network is not trained here. Options of a store that has this network
    already, by `[networks]`, stay. If models read feature maps, or nodes by name, the network must
    have those nodes.
    """
    own = {
        key: value
        for key, value in recipe["stores"][name].items()
        if key not in ("trunk", "pretrain")
    }
    shared = recipe.get("extract", {})
    streams = tuple(
        str(own.get("stream") or shared.get("stream") or " ".join(USUAL_STREAMS)).split()
    )
    used = applicable({**shared, **own}, streams)
    shared = {
        key: used[key] for key in shared if key in used
    }  # options that the store itself sets are checked unchanged
    found = {key: value for key, value in {**shared, **own}.items() if value != ""}
    kinds = [load_stream(text) for text in streams]
    without = any(kind.input == "sound" or not kind.has_network for kind in kinds)
    if not network or without or pretrained(recipe["stores"][name]):
        return found
    if found.get("extractor") == network["extractor"]:
        return found | dict(network)
    replaced = ["extractor", "weights", "resize", "size", "width"]
    on = " ".join(str(model.get("on", "")) for model in recipe.get("models", {}).values())
    if not any(
        re.search(rf"\b{name}\.(\w+\.)?{node}\b", on) for node in str(found.get("node", "")).split()
    ):
        replaced.append("node")
    return {key: value for key, value in found.items() if key not in replaced} | dict(network)


def model_options(recipe: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Options of `train` for one model, without those that the recipe sets for all heads and this head
    does not use."""
    own = {
        key: value
        for key, value in recipe["models"][name].items()
        if key not in ("on", "normal_of")
    }
    base = dict(recipe.get("train", {}))
    head = own.get("head", base.get("head", ""))
    base |= recipe.get("heads", {}).get(head, {})
    for key, by in recipe.get("divide", {}).items():
        for options in (base, own):
            if isinstance(options.get(key), int) and options[key]:
                options[key] = max(1, options[key] // by)
    found = {**base, **own, "head": head}
    unused = [*unused_options(found), *(["batch_share"] if "batch" in own else [])]
    return {
        key: value
        for key, value in found.items()
        if value != "" and (key in own or key not in unused)
    }
