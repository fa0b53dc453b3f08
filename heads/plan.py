"""What the command `train` will do: its options, and from them and a store one complete recipe for each run."""

import dataclasses
import difflib
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelbank.data.errors import InputError
from reelbank.data.recipe import option, signature
from reelbank.data.splits import cut_validation
from reelbank.data.store import Store
from reelbank.heads import HEADS
from reelbank.heads.fit import OPTIMISERS, SCHEDULES, Training
from reelbank.heads.leak import check_unseen, validation_notes
from reelbank.heads.runs import folder_name
from reelbank.heads.streaming import READ_FROM

# Chosen on validation (docs/heads.md); what is not named here trains at 1e-4.
LEARNING_RATES = {"meanpool": 1e-3}


@dataclass(frozen=True)
class TrainOptions:
    """Options of the command `train`. Defaults train every head; the paper's Res-LSTM had no z-normalisation."""

    bank: str = option("bank", "folder that holds stores, runs and reports")
    store: str = option("", "which feature store: the start of its hash; not needed when one alone fits")
    dataset: str = option("", "the store's data set")
    stream: str = option("", "the store's stream")
    extractor: str = option("", "the store's extractor")
    weights: str = option("", "start of the hash that the store's pretrained weights share over all splits (their family)")
    head: str = option("reslstm", "network to train", choices=tuple(HEADS))
    split: tuple[str, ...] = option(("1",), "splits to train on, one run each; 'all' for every split of the data set")
    seed: tuple[int, ...] = option((0,), "seeds of weights, order and dropout, one run each")
    classes: tuple[str, ...] = option((), "train on these classes alone; their order stays the data set's")
    t: int | None = option(None, "T: rows of each video taken by sigma(t); without it all rows the store has")
    views: bool = option(True, "train on the augmented views of the training videos too, when the store has any")
    layers: int = option(2, "stacked recurrent layers")
    hidden: int = option(0, "units of a recurrent layer; 0: as many as features")
    residual: bool = option(True, "add a layer's input to its output (reslstm)")
    dropout: float = option(0.0, "dropout between layers and before the classifier")
    znorm: bool = option(True, "bring every feature to mean 0 and deviation 1 on the training part")
    pca: int = option(0, "PCA to this many dimensions, fitted on the training part after znorm; 0: none")
    optimiser: str = option("rmsprop", "optimiser; sgd has Nesterov momentum 0.9", choices=tuple(OPTIMISERS))
    lr: float | None = option(None, "learning rate at the start (default: 1e-4; meanpool: 1e-3)")
    weight_decay: float = option(0.0, "L2 penalty on all weights")
    batch: int = option(32, "videos in a batch")
    epochs: int = option(60, "most epochs")
    schedule: str = option(
        "constant", "learning rate over epochs; plateau: /10 after 5 epochs without a lower validation loss", SCHEDULES
    )
    lr_drops: tuple[int, ...] = option((), "schedule step: epochs after which the learning rate is divided by 10")
    patience: int = option(3, "stop after this many epochs without a better validation accuracy; 0: never")
    validation: float = option(0.2, "share of the training part cut off for validation, by whole groups; 0: none")
    refit: bool = option(True, "then train anew on training and validation part together, as many epochs as were best")
    device: str = option("auto", "where to train", choices=("auto", "cpu", "cuda"))
    workers: int = option(1, "runs trained at the same time")
    read_from: str = option("auto", "where rows lie while training; auto: on disk when they need half of the memory", READ_FROM)


@dataclass(frozen=True)
class Plan:
    """One run to be: where, its complete recipe, its videos by part, and lines for the user."""

    path: Path
    recipe: dict[str, Any]
    ids: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]


def plan_runs(store: Store, options: TrainOptions) -> list[Plan]:
    """One plan for each split and seed. Raises InputError for anything that makes one of them impossible."""
    check_numbers(options)
    if store.dataset.get("multilabel"):
        raise InputError(f"{store.path}: its videos have several labels each; train has heads for single-label data sets only")
    check_vectors(store)
    if not any(store.labels):
        raise InputError(
            f"{store.path}: the store has no labels; extract from a data set with class folders or a CSV of labels"
        )
    splits = store.dataset["splits"]
    names = tuple(splits) if options.split == ("all",) else options.split
    for name in names:
        if name not in splits:
            raise InputError(f"SPLIT={name}: {store.dataset['name']} has the splits {', '.join(splits)}")
    for name in names:
        check_unseen(store, name)
    return [plan_run(store, options, split, seed) for split in names for seed in options.seed]


def plan_run(store: Store, options: TrainOptions, split: str, seed: int) -> Plan:
    """Parts and recipe of one run. Raises InputError when it has nothing to train on."""
    classes = chosen_classes(store, options.classes)
    number = store.dataset["splits"].index(split)
    videos = {  # id -> (label, group, part)
        name: (label, group, parts[number])
        for name, label, group, parts in zip(store.video_ids, store.labels, store.groups, store.parts, strict=True)
        if label in classes and parts[number] in ("train", "test")
    }
    of_part = {part: tuple(name for name in videos if videos[name][2] == part) for part in ("train", "test")}
    if not of_part["train"]:
        raise InputError(f"SPLIT={split}: the store holds no training video of it; see 'reelbank inspect'")
    notes: list[str] = []
    held_out: set[str] = set()
    if options.validation:
        labels, groups = ([videos[name][i] for name in of_part["train"]] for i in (0, 1))
        # always seed 0: the runs of a split share one validation part, so their validation figures and scores compare
        held_out = cut_validation(of_part["train"], labels, groups, options.validation, 0)
        if not held_out:
            notes.append(
                f"split {split}: no class has two groups of videos, so there is no validation part; the last epoch is kept"
            )
    if options.schedule == "plateau" and not held_out:
        raise InputError("SCHEDULE=plateau needs a validation part; give VALIDATION or another schedule")
    ids = {
        "train": tuple(name for name in of_part["train"] if name not in held_out),
        "validation": tuple(name for name in of_part["train"] if name in held_out),
        "test": of_part["test"],
    }
    for part, names in ids.items():
        without = [name for name in classes if name not in {videos[video][0] for video in names}]
        if without and (names or part == "test"):
            few = ", ".join(without[:5]) + (f" and {len(without) - 5} more" if len(without) > 5 else "")
            notes.append(f"split {split}: no {part} video of {few}")
    notes += validation_notes(store, split, held_out)
    features = dict(zip(store.video_ids, zip(store.rows.tolist(), store.checksums.tolist(), strict=True), strict=True))
    coverage = signature({name: [*videos[name], *features[name], name in held_out] for name in videos})
    recipe = {
        "kind": "run",
        "store": store.identity,
        "dataset": store.dataset["name"],
        "stream": str(store.recipe.get("stream", "")),
        "extractor": str(store.recipe.get("extractor", "")),
        "coverage": coverage,
        "row_shape": list(store.row_shape),
        "classes": list(classes),
        "split": split,
        "seed": seed,
        "steps": options.t,
        "normalise": {"order": "znorm, pca", "znorm": options.znorm, "pca": options.pca, "fitted_on": "train"},
        "head": options.head,
        "head_options": head_options(options),
        "training": training_of(options, seed),
        "validation": options.validation,
        "refit": options.refit and bool(held_out),
    }
    if options.views and store.has_views:  # a store without has the same runs as ever
        recipe["views"] = True
    return Plan(Path(options.bank, "runs", folder_name(recipe)), recipe, ids, tuple(notes))


def check_vectors(store: Store) -> None:
    """Raises InputError unless a row, once its crops are averaged, is a vector."""
    if len(store.row_shape) != 1 + bool(store.recipe.get("crops_kept")):
        shape = " x ".join(map(str, store.row_shape))
        raise InputError(f"{store.path}: the store's rows have shape {shape}: heads take vectors; extract with POOL=1")


def chosen_classes(store: Store, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The data set's classes that have a video in the store, or those wanted; always in the data set's order."""
    present = set(store.labels)
    for name in wanted:
        if name not in present:
            near = difflib.get_close_matches(name, sorted(present), 1)
            raise InputError(
                f"CLASSES: the store has no video of class '{name}'" + (f"; did you mean {near[0]}?" if near else "")
            )
    return tuple(name for name in store.dataset["classes"] if name in (wanted or present))


def head_options(options: TrainOptions) -> dict[str, Any]:
    """The options that the head takes. Raises InputError for one that was set and that it does not have."""
    taken = inspect.signature(HEADS[options.head]).parameters
    chosen = {}
    for field in dataclasses.fields(TrainOptions):
        if field.name not in ("layers", "hidden", "residual", "dropout"):
            continue
        value = getattr(options, field.name)
        if field.name in taken:
            chosen[field.name] = value
        elif value != field.default:
            raise InputError(f"{field.name.upper()}={value}: the head {options.head} has no such option")
    if chosen.get("layers", 1) < 1 or chosen.get("hidden", 0) < 0 or not 0 <= options.dropout < 1:
        raise InputError("LAYERS must be at least 1, HIDDEN at least 0, DROPOUT at least 0 and below 1")
    return chosen


def check_numbers(options: TrainOptions) -> None:
    """Raises InputError for values that cannot be."""
    for name in ("lr", "batch", "epochs", "workers", "t"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise InputError(f"{name.upper()}={value}: must be above 0")
    for name in ("weight_decay", "patience", "pca"):
        if not getattr(options, name) >= 0:
            raise InputError(f"{name.upper()}={getattr(options, name)}: must be at least 0")
    if not 0 <= options.validation < 1:
        raise InputError(f"VALIDATION={options.validation}: must be at least 0 and below 1")
    if not options.split or not options.seed or min(options.seed) < 0:
        raise InputError("SPLIT and SEED need at least one value each, and seeds are at least 0")
    if bool(options.lr_drops) != (options.schedule == "step"):
        raise InputError("SCHEDULE=step and LR_DROPS (the epochs after which the rate falls) go together")


def training_of(options: TrainOptions, seed: int) -> dict[str, Any]:
    """The training part of the recipe."""
    values = {field.name: getattr(options, field.name) for field in dataclasses.fields(Training) if field.name != "seed"}
    values["lr"] = options.lr or LEARNING_RATES.get(options.head, 1e-4)
    return dataclasses.asdict(Training(seed=seed, **values)) | {"lr_drops": list(options.lr_drops)}
