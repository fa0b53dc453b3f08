"""What the command `train` will do: from options and stores one complete recipe for each run."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.index import label_names
from reelbank.data.recipe import signature
from reelbank.data.splits import cut_validation
from reelbank.data.store import Store
from reelbank.data.videos import some
from reelbank.extract.idt import BLOCKS
from reelbank.heads.fisher import SVM_C
from reelbank.heads.leak import check_unseen, saw_of, validation_notes
from reelbank.heads.model import build_normalise, takes_maps
from reelbank.heads.options import TrainOptions, head_options, scoring_of, training_of, with_defaults
from reelbank.heads.runs import folder_name
from reelbank.heads.sequences import Rule
from reelbank.heads.stores import shared_identity
from reelbank.heads.trunk import context_skips, trunk_recipe


@dataclass(frozen=True)
class Plan:
    """One run to be: where, its complete recipe, its videos by part, and lines for the user. extractor, trunk_weights: where a
    head on maps finds the store's network, when it is of a file; saw: which videos the embeddings depend on (heads/leak.py)."""

    path: Path
    recipe: dict[str, Any]
    ids: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]
    bank: str
    extractor: str
    trunk_weights: str
    saw: dict[str, Any]


def plan_runs(stores: Sequence[Store], options: TrainOptions) -> list[Plan]:
    """One plan for each split and seed, on one store or, in mid fusion, several. Raises InputError for anything that makes one
    of them impossible."""
    options = with_defaults(options)
    store = stores[0]
    several = bool(store.dataset.get("multilabel"))
    if not any(store.labels):
        raise InputError(
            f"{store.path}: the store has no labels; extract from a data set with class folders or a CSV of labels"
        )
    if several and options.classifier == "svm":
        raise InputError("CLASSIFIER=svm: is for videos of one label each; this data set has several")
    splits = store.dataset["splits"]
    names = tuple(splits) if options.split == ("all",) else tuple(dict.fromkeys(options.split))
    for name in names:
        if name not in splits:
            raise InputError(f"SPLIT={name}: {store.dataset['name']} has the splits {', '.join(splits)}")
    for one in stores:
        for name in names:
            check_unseen(one, name)
    shared, shown = _shared(stores, options), videos_of(stores)
    return [plan_run(stores, shown, options, split, seed, shared) for split in names for seed in dict.fromkeys(options.seed)]


def _shared(stores: Sequence[Store], options: TrainOptions) -> dict[str, Any]:
    """What the recipes of all splits and seeds say alike. Raises InputError where stores, head and options do not fit."""
    store = stores[0]
    own = [_row(one, options) for one in stores]
    rule = Rule(
        sampling=options.sampling,
        steps=options.t,
        stride=options.stride,
        most=options.windows,
        positions=options.positions,
        clips=int(store.recipe.get("windows") or 1),
        crops=store.row_shape[0] if options.crops == "each" else 0,
    )
    found: dict[str, Any] = {
        "store": store.identity,
        **_family(stores),
        "dataset": store.dataset["name"],
        "stream": "+".join(dict.fromkeys(str(one.recipe.get("stream", "")) for one in stores)),
        "extractor": "+".join(dict.fromkeys(str(one.recipe.get("extractor", "")) for one in stores)),
        "row_shape": list(store.row_shape),
        "input_shape": list(own[0]),
        "rows": dataclasses.asdict(rule),
        "scoring": dataclasses.asdict(scoring_of(options, bool(store.dataset.get("multilabel")))),
        "head": options.head,
        "head_options": head_options(options),
        "classifier": _classifier(options),
        "validation": options.validation,
    }
    if len(stores) > 1:
        check_joined(stores)
        found["mid"] = {"how": options.mid, "stores": [one.identity for one in stores], "dims": [shape[0] for shape in own]}
        found["mid"] |= _family(stores)
    if options.over_clips != "mean" and not store.recipe.get("windows"):
        raise InputError(f"OVER_CLIPS={options.over_clips}: is of stores that cut videos into windows (extract WINDOWS=)")
    if options.norm_momentum:
        found["norm_momentum"] = options.norm_momentum
    if len(own[0]) == 3:
        if len(stores) > 1:
            raise InputError(f"HEAD={options.head}: mid fusion joins vectors; train it on one store of maps")
        if options.pca:
            raise InputError(f"PCA={options.pca}: the head {options.head} begins with a network that reads maps as they are")
        found["trunk"] = trunk_recipe(store.recipe, options.trunk)
        if options.head == "rrn":
            skips = options.skips or context_skips(found["trunk"], options.context, options.extractor)
            found["trunk"] |= {"skips": list(skips), "skip": options.skip}
    elif options.head in ("rrn", "rlstm"):
        shape = " x ".join(map(str, own[0]))
        raise InputError(
            f"HEAD={options.head}: takes feature maps, the store's rows have shape {shape}; extract with AT=<node>"
        )
    elif options.norm_momentum:
        raise InputError(f"NORM_MOMENTUM={options.norm_momentum}: there are no batch norms before vectors; leave it out")
    znorm = options.znorm if options.znorm is not None else found.get("trunk", {}).get("kind") != "backbone"
    found["normalise"] = {"order": "znorm, pca", "znorm": znorm, "pca": options.pca, "fitted_on": "train"}
    normalise = build_normalise(found)  # refuses sizes that do not fit, before anything is trained
    if options.head == "fisher":
        is_whole = found["stream"] == "idt" and not options.pca and normalise.output_dim == sum(BLOCKS.values())
        found["head_options"]["blocks"] = list(BLOCKS.values()) if is_whole else [normalise.output_dim]
    elif options.views != "none" and store.has_views:
        found["views"] = options.views
    return found


def _family(stores: Sequence[Store]) -> dict[str, str]:
    """Where a store's weights were trained here, on each split by itself: what the stores of all splits have in common."""
    shared = [shared_identity(store) for store in stores]
    return {"store_family": "+".join(shared)} if shared != [store.identity for store in stores] else {}


def _classifier(options: TrainOptions) -> dict[str, Any]:
    if options.head == "fisher":
        return {"kind": "svm", "c": SVM_C}
    return {"kind": "svm", "lambda": options.svm_lambda} if options.classifier == "svm" else {"kind": "softmax"}


def _row(store: Store, options: TrainOptions) -> tuple[int, ...]:
    """Shape of a row as the head is given it: (D,), or (C, h, w) for heads that take maps. Raises InputError for other rows."""
    shape, kept = store.row_shape, bool(store.recipe.get("crops_kept"))
    if options.crops == "each" and not kept:
        raise InputError(f"CROPS=each: {store.path} does not keep its crops; extract with KEEP_CROPS=1")
    shape = shape[kept:]
    if len(shape) == 3:
        return shape if takes_maps(options.head) else shape[:1]
    if len(shape) != 1:
        shown = " x ".join(map(str, shape))
        raise InputError(
            f"{store.path}: the store's rows have shape {shown}: heads take vectors or C x h x w; extract with POOL=1"
        )
    return shape


def videos_of(stores: Sequence[Store]) -> tuple[str, ...]:
    """Ids of the videos that all stores have and that a split uses, in the first store's order."""
    others = [set(one.video_ids) for one in stores[1:]]
    used = zip(stores[0].video_ids, stores[0].parts, strict=True)
    return tuple(name for name, parts in used if any(parts) and all(name in other for other in others))


def check_joined(stores: Sequence[Store]) -> None:
    """Raises InputError unless the rows of these stores belong together, video by video: as many, of the same views, and of the
    same times to half a stride (embeddings are of whole videos); and videos have the same labels and parts."""
    first = stores[0]
    facts = dict(zip(first.video_ids, zip(first.labels, first.parts, first.sources, strict=True), strict=True))
    for other in stores[1:]:
        names = f"{first.path.name} and {other.path.name}"
        if other.dataset["name"] != first.dataset["name"]:
            raise InputError(f"mid fusion: {names} are of different data sets")
        for key in ("views", "views_seed", "windows", "crops_kept", "crops"):
            if (key != "crops" or first.recipe.get("crops_kept")) and first.recipe.get(key) != other.recipe.get(key):
                raise InputError(f"mid fusion: {names} differ in {key}; extract the streams together")
        known = zip(other.video_ids, other.labels, other.parts, strict=True)
        for name, label, parts in known:
            if name not in facts:
                continue
            if (label, parts) != facts[name][:2]:
                raise InputError(f"mid fusion: {names} give {name} different labels or parts; extract the streams together")
            times, others = first.times_seconds(name), other.times_seconds(name)
            if len(times) != len(others):
                raise InputError(
                    f"mid fusion: {name} has {len(times)} rows in {first.path.name}, {len(others)} in {other.path.name}; "
                    "extract the streams together"
                )
            if not np.array_equal(first.views(name), other.views(name)):
                raise InputError(f"mid fusion: the rows of {name} are of other views in {names}; extract the streams together")
            apart = float(np.abs(times - others).max())
            if first.recipe.get("kind") == other.recipe.get("kind") == "embedding":  # rows of whole videos
                continue
            if apart > _half_stride_seconds(first, facts[name][2], times):
                raise InputError(
                    f"mid fusion: rows of {name} lie {apart:.3f} s apart in {names}, more than half a stride; extract the "
                    "streams together"
                )


def _half_stride_seconds(store: Store, source: dict[str, Any], times_seconds: np.ndarray) -> float:
    """Half of the time from one clip to the next, and a millisecond: frames' times are rounded."""
    fps = source.get("fps") or 0
    if fps > 0 and "stride_frames" in store.recipe:
        return store.recipe["stride_frames"] / fps / 2 + 1e-3
    return (float(np.median(np.diff(times_seconds))) / 2 if len(times_seconds) > 1 else 0.0) + 1e-3


def plan_run(
    stores: Sequence[Store],
    shown: Sequence[str],
    options: TrainOptions,
    split: str,
    seed: int,
    shared: dict[str, Any],
) -> Plan:
    """Parts and recipe of one run. shown: ids of the videos there are; shared: what the recipes of all runs have in common.
    Raises InputError when it has nothing to train on."""
    store = stores[0]
    classes = chosen_classes(store, options.classes)
    several = bool(store.dataset.get("multilabel"))
    number = store.dataset["splits"].index(split)
    there = set(shown)
    videos = {  # id -> (label, group, part)
        name: (label, group, parts[number])
        for name, label, group, parts in zip(store.video_ids, store.labels, store.groups, store.parts, strict=True)
        if name in there and parts[number] in ("train", "test") and _is_wanted(store, label, classes, several, parts[number])
    }
    of_part = {part: tuple(name for name in videos if videos[name][2] == part) for part in ("train", "test")}
    if not of_part["train"]:
        raise InputError(f"SPLIT={split}: the store holds no training video of it; see 'reelbank inspect'")
    notes: list[str] = []
    unused = {name for name, own in zip(store.video_ids, store.parts, strict=True) if not any(own)}
    if absent := {name for one in stores for name in one.video_ids} - there - unused:
        notes.append(f"{len(absent)} videos that not all of the {len(stores)} stores have are left out: {some(sorted(absent))}")
    held_out: set[str] = set()
    if options.validation:
        labels, groups = ([videos[name][i] for name in of_part["train"]] for i in (0, 1))
        # always seed 0: the runs of a split share one validation part, so their validation figures and scores compare
        held_out = cut_validation(of_part["train"], labels, groups, options.validation, 0)
        if not held_out:
            notes.append(
                f"split {split}: no class has two groups of videos, so there is no validation part; the last epoch is kept"
            )
    for name, value in (("SCHEDULE", options.schedule == "plateau"), ("BEST_BY", options.best_by == "loss")):
        if value and not held_out:
            raise InputError(
                f"{name}={getattr(options, name.lower())} needs a validation part; give VALIDATION, or another {name}"
            )
    ids = {
        "train": tuple(name for name in of_part["train"] if name not in held_out),
        "validation": tuple(name for name in of_part["train"] if name in held_out),
        "test": of_part["test"],
    }
    for part, names in ids.items():
        seen = {one for video in names for one in label_names(videos[video][0], store.dataset)}
        without = [name for name in classes if name not in seen]
        if without and (names or part == "test"):
            few = ", ".join(without[:5]) + (f" and {len(without) - 5} more" if len(without) > 5 else "")
            notes.append(f"split {split}: no {part} video of {few}")
    for one in stores:
        notes += validation_notes(one, split, held_out)
    recipe = {"kind": "run", **shared, "coverage": _coverage(stores, videos, held_out), "classes": list(classes)}
    recipe |= {"split": split, "seed": seed, "training": training_of(options, seed)}
    recipe["refit"] = options.refit and bool(held_out)
    path = Path(options.bank, "runs", folder_name(recipe))
    learned = ids["train"] + (ids["validation"] if recipe["refit"] else ())
    saw = saw_of(stores, split, learned, ids["validation"], options.validation)
    return Plan(path, recipe, ids, tuple(notes), options.bank, options.extractor, options.trunk_weights, saw)


def _is_wanted(store: Store, label: str, classes: Sequence[str], several: bool, part: str) -> bool:
    """Whether a video takes part: one of the classes is its label; of several labels also a test video of none of them, which
    counts as a negative for all."""
    return bool(set(label_names(label, store.dataset)).intersection(classes)) or (several and part == "test")


def _coverage(stores: Sequence[Store], videos: dict[str, tuple[str, str, str]], held_out: set[str]) -> str:
    """Hash of which videos there are, in which part, and with which features."""
    features: dict[str, list[int]] = {name: [] for name in videos}
    for one in stores:
        for name, rows, checksum in zip(one.video_ids, one.rows.tolist(), one.checksums.tolist(), strict=True):
            if name in features:
                features[name] += [rows, checksum]
    return signature({name: [*videos[name], *features[name], name in held_out] for name in videos})


def chosen_classes(store: Store, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The data set's classes that have a video in the store, or those wanted; always in the data set's order."""
    present = {name for label in store.labels for name in label_names(label, store.dataset)}
    for name in wanted:
        if name not in present:
            near = difflib.get_close_matches(name, sorted(present), 1)
            raise InputError(
                f"CLASSES: {store.path.name} has no video of class '{name}'"
                + (f"; did you mean {near[0]}?" if near else "")
                + (" with sound in it" if store.recipe.get("stream") == "audio" and not near else "")
            )
    return tuple(name for name in store.dataset["classes"] if name in (wanted or present))
