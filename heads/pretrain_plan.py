"""What the command `pretrain` will do: its options, and from them and a pixel store one complete recipe for each split."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelbank.data.errors import InputError
from reelbank.data.recipe import option, signature
from reelbank.data.splits import cut_validation
from reelbank.data.store import Store
from reelbank.extract.networks import Trunk, pair
from reelbank.extract.trained import folder_name, weights_folder
from reelbank.heads.fit import OPTIMISERS, Training
from reelbank.heads.leak import hash_text, origin, seen_tests, trainings
from reelbank.heads.plan import chosen_classes
from reelbank.heads.snippets import Crops

# Where an option is left empty. Chosen on validation (docs/pretrain.md).
DEFAULTS: dict[str, dict[str, Any]] = {
    "": {"extractor": "motion_cnn", "width": 1.0, "epochs": 60, "batch": 32},
    "toy": {"extractor": "motion_cnn", "width": 0.125, "clip": 5, "resize": 72, "size": 64, "epochs": 12, "batch": 8},
}


@dataclass(frozen=True)
class PretrainOptions:
    """Options of the command `pretrain`; those that `extract` has too mean the same there."""

    dataset: str = option("toy", "ucf101, hmdb51, folder or toy")
    root: str = option("", "folder that holds the data set's class folders (toy: is drawn)")
    lists: str = option("", "folder of the official split lists (hmdb51: needed; ucf101: checked when given)")
    csv: str = option("", "dataset folder: a CSV of path,label,split")
    classes: tuple[str, ...] = option((), "train on these classes alone; their order stays the data set's")
    split: tuple[str, ...] = option(("1",), "splits whose training part is learned from, one run each; 'all' for every split")
    seed: int = option(0, "of weights, order and augmentation, the toy set and the split of a folder")
    stream: str = option("flow", "what the network looks at", ("rgb", "flow"))
    extractor: str = option("", "network to train, named as for extract (default: motion_cnn)")
    weights: str = option("", "where training begins: pretrained, random, a path, or weights trained here (motion_cnn: random)")
    width: float | None = option(None, "motion_cnn: times as many channels (default: 1; toy: 0.125)")
    freeze: str = option("", "module of the network: what comes before it keeps its weights and batch norm statistics")
    clip: int | None = option(None, "pictures in a clip; of flow: fields in a stack (default: as for extract; toy: 5)")
    flow: str = option("", "optical flow (default: tvl1; toy: dis)")
    flow_weights: str = option("", "of raft: pretrained, random or a path")
    t: int = option(10, "T: pictures, stacks or clips kept of each video, from which training draws")
    segments: int = option(3, "equal parts of a video that each give a snippet; their logits are averaged (1: off)")
    jitter: bool = option(True, "cut corners and scales at random; 0: the centre")
    flip: bool = option(True, "mirror half of the videos; 0 where left and right matter")
    dropout: float | None = option(None, "dropout before the classifier (default: 0.5; motion_cnn, which has its own: 0)")
    optimiser: str = option("adam", "optimiser; sgd has Nesterov momentum 0.9", choices=tuple(OPTIMISERS))
    lr: float = option(1e-3, "learning rate at the start")
    lr_drops: tuple[int, ...] = option((), "epochs after which the learning rate is divided by 10")
    weight_decay: float = option(0.0, "L2 penalty on all weights that train")
    batch: int | None = option(None, "videos in a batch (default: 32; toy: 8)")
    epochs: int | None = option(None, "most epochs (default: 60; toy: 12)")
    patience: int = option(0, "stop after this many epochs without a better validation accuracy; 0: never")
    validation: float = option(0.2, "share of the training part cut off for validation, by whole groups; 0: none")
    resize: int | None = option(None, "short side in pixels before the crops (default: as the network has it; toy: 72)")
    size: int | None = option(None, "side of the crops in pixels (default: as the network has it; toy: 64)")
    device: str = option("auto", "auto, cpu, cuda, cuda:1 ...")
    workers: int = option(1, "threads that read pixels")
    bank: str = option("bank", "folder that holds stores, runs and weights")


@dataclass(frozen=True)
class Plan:
    """One run to be: where, its complete recipe, where its weights begin, its videos by part, and lines for the user."""

    path: Path
    recipe: dict[str, Any]
    weights: str
    ids: dict[str, list[str]]
    labels: dict[str, list[int]]
    crops: Crops
    notes: tuple[str, ...]


def with_defaults(options: PretrainOptions) -> PretrainOptions:
    """Fill the options that were left empty from DEFAULTS. Raises InputError for values that cannot be."""
    defaults = DEFAULTS[""] | DEFAULTS.get(options.dataset, {})
    if options.extractor and options.extractor != defaults["extractor"]:  # it brings its own clips and sizes
        defaults = {**{name: defaults[name] for name in ("epochs", "batch")}, "width": 1.0}
    filled = {name: value for name, value in defaults.items() if getattr(options, name) in ("", None)}
    options = dataclasses.replace(options, **filled)
    is_motion_cnn = options.extractor == "motion_cnn"
    if options.dropout is None:
        options = dataclasses.replace(options, dropout=0.0 if is_motion_cnn else 0.5)
    if is_motion_cnn and not options.weights:
        options = dataclasses.replace(options, weights="random")  # the paper trains it from scratch
    for name in ("clip", "t", "segments", "batch", "epochs", "lr", "width", "workers", "resize", "size"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise InputError(f"{name.upper()}={value}: must be above 0")
    for name in ("weight_decay", "patience"):
        if not getattr(options, name) >= 0:
            raise InputError(f"{name.upper()}={getattr(options, name)}: must be at least 0")
    for name in ("validation", "dropout"):
        if not 0 <= getattr(options, name) < 1:
            raise InputError(f"{name.upper()}={getattr(options, name)}: must be at least 0 and below 1")
    if not options.split or options.seed < 0:
        raise InputError("SPLIT needs at least one value, and SEED is at least 0")
    return options


def plan_splits(options: PretrainOptions, dataset: str, splits: Sequence[str]) -> list[str]:
    """The splits to train on. Raises InputError for one that the data set has not."""
    for name in options.split:
        if name not in splits and options.split != ("all",):
            raise InputError(f"SPLIT={name}: {dataset} has the splits {', '.join(splits)}")
    return list(splits) if options.split == ("all",) else list(dict.fromkeys(options.split))


def plan_run(store: Store, options: PretrainOptions, split: str, weights: str, trunk: Trunk) -> Plan:
    """Parts and recipe of one run, that begins with `trunk`, built from `weights`. Raises InputError when there is nothing to
    train on, or the weights have seen test videos of the split."""
    check_one_class(options, store.dataset.get("multilabel", False))
    classes = chosen_classes(store, options.classes)
    number = store.dataset["splits"].index(split)
    videos, shared = {}, {}
    of_store = zip(
        store.video_ids, store.labels, store.groups, store.parts, store.rows.tolist(), store.checksums.tolist(), strict=True
    )
    for name, label, group, parts, rows, checksum in of_store:
        if label in classes and "train" in parts:
            shared[name] = [label, group, parts, rows, checksum]
            if parts[number] == "train":
                videos[name] = (label, group)
    if not videos:
        raise InputError(f"SPLIT={split}: {store.path} holds no training video of it; see 'reelbank inspect'")
    labels, groups = zip(*videos.values(), strict=True)
    # always seed 0, as the heads' runs do: a head on these weights has the same validation part
    held_out = cut_validation(list(videos), labels, groups, options.validation, 0) if options.validation else set()
    notes = []
    if options.validation and not held_out:
        notes.append(
            f"split {split}: no class has two groups of videos, so there is no validation part; the last epoch is kept"
        )
    ids = {
        "train": [name for name in videos if name not in held_out],
        "validation": [name for name in videos if name in held_out],
    }
    seen, test = seen_tests(store, split, trunk.weights)
    if seen:
        raise InputError(
            f"WEIGHTS={options.weights}: {len(seen)} of the {len(test)} test videos of split {split} were in what they were "
            f"trained on ({origin(trainings(trunk.weights), store.dataset['name'])}); begin with weights that saw none of them"
        )
    flow = store.recipe.get("flow")
    recipe = {
        "kind": "weights",
        "dataset": store.dataset["name"],
        "stream": options.stream,
        "extractor": options.extractor,
        "width": options.width,
        "clip_frames": clip_frames_of(store, options.stream),
        "flow": flow,
        "flow_name": flow.get("method") if flow else None,
        "bound_px": store.recipe.get("bound_px"),
        "preprocessing": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(trunk.preprocessing).items()
        },
        "initial": trunk.weights,
        "pixels": store.identity,
        "coverage": signature(shared),
        "classes": list(classes),
        "segments": options.segments,
        "jitter": options.jitter,
        "flip": options.flip,
        "freeze": options.freeze,
        "dropout": options.dropout,
        "training": dataclasses.asdict(training_of(options)) | {"lr_drops": list(options.lr_drops)},
        "validation": options.validation,
        "part": "train",
        "seed": options.seed,
        "split": split,
        "videos": len(ids["train"]),
        "validation_videos": len(ids["validation"]),
        "seen": {part: hash_text(store, names) for part, names in ids.items()},
    }
    number_of = {name: at for at, name in enumerate(classes)}
    return Plan(
        path=weights_folder(options.bank) / folder_name(recipe),
        recipe=recipe,
        weights=weights,
        ids=ids,
        labels={part: [number_of[videos[name][0]] for name in names] for part, names in ids.items()},
        crops=crops_of(store, options, trunk.preprocessing.crop_px),
        notes=tuple(notes),
    )


def check_one_class(options: PretrainOptions, multilabel: bool) -> None:
    """Raises InputError for a data set of several classes a video."""
    if multilabel:
        raise InputError(f"DATASET={options.dataset}: its videos have several classes; pretrain learns one class a video")


def clip_frames_of(store: Store, stream: str) -> int:
    """Pictures, or fields of flow, in a row (C, [s,] H, W) of a pixel store; an image network's stack has two channels each."""
    if len(store.row_shape) == 4:
        return store.row_shape[1]
    return store.row_shape[0] // 2 if stream == "flow" else 1


def crops_of(store: Store, options: PretrainOptions, crop_px: int | tuple[int, int]) -> Crops:
    """How the store's pictures are cut. Raises InputError when they are smaller than the crops."""
    height, width = store.row_shape[-2:]
    size = pair(crop_px)
    if height < size[0] or width < size[1]:
        raise InputError(f"SIZE: crops of {size[0]} x {size[1]} do not fit into pictures of {height} x {width}; raise RESIZE")
    return Crops((height, width), size, options.jitter, options.flip)


def training_of(options: PretrainOptions) -> Training:
    """The options as the training loop has them."""
    assert options.batch and options.epochs  # with_defaults has filled them
    return Training(
        optimiser=options.optimiser,
        lr=options.lr,
        weight_decay=options.weight_decay,
        batch=options.batch,
        epochs=options.epochs,
        schedule="step" if options.lr_drops else "constant",
        lr_drops=options.lr_drops,
        patience=options.patience,
        seed=options.seed,
    )
