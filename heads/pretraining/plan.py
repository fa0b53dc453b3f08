"""The plan of the command `pretrain`. It makes one complete recipe for each split from the options
and a pixel store."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reelbank.data.errors import InputError
from reelbank.data.feature_recipe import FeatureRecipe
from reelbank.data.identity import signature
from reelbank.data.store.reader import Store
from reelbank.extract.networks.backbones.registry import BACKBONES, load_backbone
from reelbank.extract.networks.build import Trunk, pair
from reelbank.extract.networks.trained import folder_name
from reelbank.extract.streams.loading import load_stream
from reelbank.heads import defaults
from reelbank.heads.pretraining.options import PretrainOptions
from reelbank.heads.pretraining.recipe import PretrainRecipe
from reelbank.heads.pretraining.snippets import Crops
from reelbank.heads.recipe import Training
from reelbank.heads.runs.leak_guard import hash_text, origin, seen_tests, trainings
from reelbank.heads.training.planning.parts import VideoFacts, chosen_classes, held_out_videos

_LEARNED_PARTS = frozenset(("train", "validation"))


@dataclass(frozen=True)
class PretrainPlan:
    """One planned run: its folder, its complete recipe, its initial weights, its videos by part,
    and lines for the user."""

    path: Path
    recipe: PretrainRecipe
    weights: str
    ids: dict[str, list[str]]
    labels: dict[str, list[int]]
    crops: Crops
    notes: tuple[str, ...]


def with_defaults(options: PretrainOptions) -> PretrainOptions:
    """Fill the options that were left empty, from heads/defaults.py. Raises InputError for invalid
    values."""
    values = defaults.PRETRAIN | defaults.PRETRAIN_ON.get(options.dataset, {})
    if options.extractor and options.extractor != values["extractor"]:
        # Another network has other default clips and sizes.
        values = {"epochs": values["epochs"], "batch": values["batch"], "width": 1.0}
    filled = {name: value for name, value in values.items() if getattr(options, name) in ("", None)}
    options = dataclasses.replace(options, **filled)
    backbone = load_backbone(options.extractor) if options.extractor in BACKBONES else None
    if options.dropout is None:
        has_dropout = backbone is not None and backbone.has_dropout
        options = dataclasses.replace(options, dropout=0.0 if has_dropout else 0.5)
    if backbone and not options.weights:
        options = dataclasses.replace(options, weights=backbone.trained_from)
    if not options.split:
        raise InputError("SPLIT needs at least one value")
    return options


def plan_splits(options: PretrainOptions, dataset: str, splits: Sequence[str]) -> list[str]:
    """The splits to train on. Raises InputError for a split that the data set does not have."""
    for name in options.split:
        if name not in splits and options.split != ("all",):
            raise InputError(
                f"SPLIT={name}: {dataset} does not have this split; it has {', '.join(splits)}"
            )
    return list(splits) if options.split == ("all",) else list(dict.fromkeys(options.split))


def plan_run(
    store: Store, options: PretrainOptions, *, split: str, weights: str, trunk: Trunk
) -> PretrainPlan:
    """Parts and recipe of one run that starts from `trunk`, built from `weights`. Raises
    InputError when there are no training videos, or when the weights were trained on test videos
    of the split."""
    check_one_class(options, multilabel=store.dataset.multilabel)
    classes = chosen_classes(store, options.classes, options.without)
    videos = _learned_videos(store, classes, split)
    held_out = held_out_videos(videos, options.validation)
    notes = []
    if options.validation and not held_out:
        notes.append(
            f"split {split}: no class has at least two groups of related videos, so "
            "there is no validation part; the weights of the last epoch are kept"
        )
    if options.best_by == "loss" and not held_out:
        if not options.validation:
            raise InputError(
                "BEST_BY=loss needs a validation part, but VALIDATION=0 holds out no "
                "videos; give VALIDATION above 0 (for example 0.2), or give "
                "BEST_BY=accuracy to keep the weights of the last epoch"
            )
        raise InputError(
            f"BEST_BY=loss needs a validation part, but no class in split {split} has at "
            "least two groups of related videos; give BEST_BY=accuracy to keep the "
            "weights of the last epoch"
        )
    ids = {
        "train": [
            name for name, facts in videos.items() if facts.part == "train" and name not in held_out
        ],
        "validation": [name for name in videos if name in held_out],
    }
    _check_unseen(store, options, split, trunk)
    recipe = _recipe(store, options, trunk, classes=classes, split=split, ids=ids)
    number_of = {name: at for at, name in enumerate(classes)}
    return PretrainPlan(
        path=options.searched.planned("weights", folder_name(recipe.to_json())),
        recipe=recipe,
        weights=weights,
        ids=ids,
        labels={part: [number_of[videos[name].label] for name in ids[part]] for part in ids},
        crops=crops_of(store, options, trunk.preprocessing.crop_px),
        notes=tuple(notes),
    )


def _learned_videos(store: Store, classes: Sequence[str], split: str) -> dict[str, VideoFacts]:
    """The training and validation videos of a split, by id. Raises InputError when there are no
    training videos."""
    number = store.dataset.splits.index(split)
    videos = {}
    for name, label, group, parts in zip(
        store.video_ids, store.labels, store.groups, store.parts, strict=True
    ):
        if label in classes and parts[number] in _LEARNED_PARTS:
            videos[name] = VideoFacts(label, group, parts[number])
    if not any(facts.part == "train" for facts in videos.values()):
        raise InputError(
            f"SPLIT={split}: {store.path} contains no training video of this split; 'reelbank "
            "inspect' describes the store"
        )
    return videos


def _check_unseen(store: Store, options: PretrainOptions, split: str, trunk: Trunk) -> None:
    """Raises InputError when the initial weights were trained on test videos of the split."""
    initial = trunk.weights.to_json()
    leaked, test = seen_tests(store, split, initial)
    if leaked:
        raise InputError(
            f"WEIGHTS={options.weights}: {len(leaked)} of the {len(test)} test videos of "
            f"split {split} were used to train these weights (trained on "
            f"{origin(trainings(initial), store.dataset.name)}); start from weights that "
            "were not trained on test videos"
        )


def _recipe(
    store: Store,
    options: PretrainOptions,
    trunk: Trunk,
    *,
    classes: tuple[str, ...],
    split: str,
    ids: dict[str, list[str]],
) -> PretrainRecipe:
    flow = FeatureRecipe.from_json(store.recipe).flow
    return PretrainRecipe(
        dataset=store.dataset.name,
        stream=options.stream,
        extractor=options.extractor,
        width=options.width,
        clip_frames=clip_frames_of(store, options.stream),
        flow=flow.method if flow else None,
        flow_name=flow.method.get("method") if flow else None,
        bound_px=flow.bound_px if flow else None,
        preprocessing=trunk.preprocessing.to_json(),
        initial=trunk.weights.to_json(),
        pixels=store.identity,
        coverage=_coverage(store, classes),
        classes=classes,
        segments=options.segments,
        jitter=options.jitter,
        flip=options.flip,
        freeze=options.freeze,
        dropout=options.dropout,
        training=training_of(options),
        validation=options.validation,
        part="train",
        seed=options.seed,
        split=split,
        videos=len(ids["train"]),
        validation_videos=len(ids["validation"]),
        seen={part: hash_text(store, names) for part, names in ids.items()},
    )


def _coverage(store: Store, classes: Sequence[str]) -> str:
    """The hash of the videos that at least one split trains or validates on, and of their pixels."""
    columns = (
        store.video_ids,
        store.labels,
        store.groups,
        store.parts,
        store.rows.tolist(),
        store.checksums.tolist(),
    )
    facts = zip(*columns, strict=True)
    return signature(
        {
            name: [label, group, parts, rows, checksum]
            for name, label, group, parts, rows, checksum in facts
            if label in classes and not _LEARNED_PARTS.isdisjoint(parts)
        }
    )


def check_one_class(options: PretrainOptions, *, multilabel: bool) -> None:
    """Raises InputError for a multi-label data set."""
    if multilabel:
        raise InputError(
            f"DATASET={options.dataset} is multi-label, but 'pretrain' needs one class per video"
        )


def clip_frames_of(store: Store, stream: str) -> int:
    """The number of pictures or flow fields in a row (C, [s,] H, W) of a pixel store. In an image
    network's stack, each flow field has two channels."""
    if len(store.row_shape) == 4:
        return store.row_shape[1]
    kind = load_stream(stream)
    return store.row_shape[0] // kind.channels if kind.stacks_items else 1


def crops_of(store: Store, options: PretrainOptions, crop_px: int | tuple[int, int]) -> Crops:
    """How the store's pictures are cropped. Raises InputError when the pictures are smaller than
    the crops."""
    height, width = store.row_shape[-2:]
    size = pair(crop_px)
    if height < size[0] or width < size[1]:
        raise InputError(
            f"SIZE: crops of {size[0]} x {size[1]} pixels do not fit into pictures of "
            f"{height} x {width} pixels; give a larger RESIZE or a smaller SIZE"
        )
    return Crops((height, width), size, options.jitter, options.flip)


def training_of(options: PretrainOptions) -> Training:
    """The options of the training loop."""
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
        best_by=options.best_by,
        seed=options.seed,
    )
