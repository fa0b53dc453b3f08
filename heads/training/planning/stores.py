"""The stores that the command `train` uses for each split, and whether several stores match."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reelbank.data.banks import tell_once
from reelbank.data.datasets.registry import load_dataset, load_spec
from reelbank.data.errors import InputError
from reelbank.data.feature_recipe import FeatureRecipe
from reelbank.data.identity import canonical, signature
from reelbank.data.store.bank import find_store, is_passed_over, listed_stores, opened
from reelbank.data.store.known_datasets import with_known_name
from reelbank.data.store.reader import Store
from reelbank.extract.defaults import FILES_DATASET
from reelbank.heads.runs.folder import matches
from reelbank.heads.training.options import TrainOptions

# Keys that differ between splits: in recipe["weights"] of weights that were trained here, and in
# their "saw".
_OF_ONE_SPLIT = ("source", "sha256", "saw")
_OF_ONE_TRAINING = ("split", "videos", "validation_videos")


def chosen_stores(options: TrainOptions) -> dict[tuple[Path, ...], tuple[str, ...]]:
    """Each store to train on, or the stores that mid fusion joins (STREAM=rgb+flow, STORE=a+b), and
    the splits to train on them, in order. Raises InputError as `_stores_of_one` does."""
    if options.root:
        options = _of_root(options)
    for name in ("stream", "store"):
        text = getattr(options, name)
        if len(words := text.split()) > 1 and not all(
            Path(name_or_path).exists() for name_or_path in store_names(text)
        ):
            raise InputError(
                f"{name.upper()}={text}: 'reelbank train' takes one value; to combine the "
                f"stores by mid fusion, give {name.upper()}={'+'.join(words)}; to train "
                "one head on each store, use 'reelbank sweep'"
            )
    parts = [options.stream.split("+"), store_names(options.store)]
    streams, stores = ([""] * max(map(len, parts)) if part == [""] else part for part in parts)
    if len(streams) != len(stores):
        raise InputError(
            f"STREAM={options.stream} and STORE={options.store} must name the same number of stores "
            f"(got {len(streams)} and {len(stores)}); change or omit one of them"
        )
    by_stream = [
        _stores_of_one(dataclasses.replace(options, stream=stream, store=store))
        for stream, store in zip(streams, stores, strict=True)
    ]
    if all(len(splits_of) == 1 for splits_of in by_stream):
        return {tuple(itertools.chain.from_iterable(by_stream)): options.split}
    # All streams with a store for each split have the same splits.
    of_each_split = next(splits_of for splits_of in by_stream if len(splits_of) > 1)
    names = tuple(itertools.chain.from_iterable(of_each_split.values()))
    together: dict[tuple[Path, ...], tuple[str, ...]] = {}
    for split in names:
        paths = [_path_for(split, splits_of) for splits_of in by_stream]
        if None in paths:
            raise InputError(
                f"SPLIT={split}: at least one stream has no store whose weights were "
                "trained on this split; extract one with 'reelbank extract "
                f"WEIGHTS=<hash> SPLIT={split}'"
            )
        key = tuple(path for path in paths if path is not None)
        together[key] = (*together.get(key, ()), split)
    return together


def _of_root(options: TrainOptions) -> TrainOptions:
    """The options with DATASET set to the data set of the folder ROOT. Raises InputError for a ROOT
    without videos, and if no store has them."""
    if options.store or (options.dataset and not load_spec(options.dataset).names_folders):
        reason = f"DATASET={options.dataset} has a fixed name"
        if options.store:
            reason = "STORE names the store"
        tell_once(f"note: ROOT={options.root} is not used, because {reason}")
        return options
    loaded_as = options.dataset or FILES_DATASET
    try:
        dataset = load_dataset(loaded_as, options.root)
    except InputError as error:
        raise InputError(f"{error}. Training does not need the videos; leave ROOT out") from None
    dataset = with_known_name(dataset, loaded_as, options.searched, remembers=False)
    if all(store.dataset.name != dataset.name for _, store in opened(options.searched)):
        raise InputError(
            f"no store in {options.searched.shown('stores')} has the videos in ROOT={options.root}"
            f"{listed_stores(options.searched)}; make one with 'reelbank extract "
            f"ROOT={options.root}'"
        )
    return dataclasses.replace(options, dataset=dataset.name)


def _path_for(split: str, splits_of: dict[Path, tuple[str, ...]]) -> Path | None:
    """The store of one stream to train on for this split. A single store is used for all splits."""
    for path, splits in splits_of.items():
        if len(splits_of) == 1 or split in splits:
            return path
    return None


def store_names(text: str) -> list[str]:
    """The stores that STORE= names. It names one store, or several joined by +. The path of a file
    may contain a +."""
    return [text] if Path(text).exists() else text.split("+")


def _stores_of_one(options: TrainOptions) -> dict[Path, tuple[str, ...]]:
    """Each store of one stream and the splits to train on it.

    Stores that differ only in the split that their weights were trained on count as one, and each
    split uses its store. Otherwise one store is used for all splits. Raises InputError when no
    store or several stores match, or when a split in the options has no store.
    """
    match = {
        name: value
        for name in ("dataset", "stream", "extractor")
        if (value := getattr(options, name))
    }
    if options.store:
        return {_named(options): options.split}
    fits = []
    for path, store in opened(options.searched):
        if not family(store.recipe).startswith(options.weights):
            continue
        if not options.extractor and is_passed_over(store.recipe, options.stream):
            continue
        if matches({**store.recipe, "dataset": store.dataset.name}, **match):
            fits.append((path, _facts(store)))
    if options.weights and not fits:
        words = " ".join(f"{key.upper()}={value}" for key, value in match.items())
        with_these = f" with {words}" if words else ""
        raise InputError(
            f"WEIGHTS={options.weights}: no store{with_these} was made with these weights; "
            f"'reelbank stores' lists the stores, and 'reelbank extract WEIGHTS={options.weights}' "
            "makes one"
        )
    if len(fits) == 1 and options.weights:
        return {fits[0][0]: options.split}
    if len(fits) > 1 and len({facts["shared"] for _, facts in fits}) == 1:
        of_split = {facts["split"]: path for path, facts in fits}
        if "" not in of_split and len(of_split) == len(fits):
            return _by_split(options.split, of_split, fits[0][1]["splits"])
    if len(fits) > 1 and options.weights:
        names = ", ".join(path.name for path, _ in fits)
        raise InputError(
            f"WEIGHTS={options.weights} must match exactly one store, but it matches "
            f"{len(fits)}; choose one with STORE= from {names}"
        )
    # find_store returns the store that matches, or raises an error with the reason.
    return {find_store(options.searched, **match): options.split}


def family(recipe: dict[str, Any]) -> str:
    """The hash that the weights of all splits share if `pretrain` trained the weights of a store,
    or "" for other weights."""
    weights = recipe.get("weights")
    return str(weights.get("family", "")) if isinstance(weights, dict) else ""


def shared_identity(store: Store) -> str:
    """The identity of a store without the split that its weights were trained on. The stores of all
    splits share it."""
    return (
        signature({"shared": _facts(store)["shared"]}) if family(store.recipe) else store.identity
    )


def _named(options: TrainOptions) -> Path:
    path = find_store(options.searched, options.store)
    with Store.open(path) as store:
        if not family(store.recipe).startswith(options.weights):
            raise InputError(
                f"STORE={options.store}: this store was not extracted with "
                f"WEIGHTS={options.weights}; omit STORE or WEIGHTS"
            )
    return path


def _facts(store: Store) -> dict[str, Any]:
    """splits: the splits of the data set; split: the split that the weights were trained on, "" if
    not recorded; shared: the rest of the store's recipe, as text."""
    weights = store.recipe.get("weights")
    weights = dict(weights) if isinstance(weights, dict) else {}
    saw = weights.get("saw")
    split = str(saw.get("split", "")) if isinstance(saw, dict) else ""
    about = {key: value for key, value in weights.items() if key not in _OF_ONE_SPLIT}
    shared = {
        **store.recipe,
        "weights": {**about, "saw": _without_split(saw)},
        "dataset": store.dataset.name,
    }
    return {"splits": tuple(store.dataset.splits), "split": split, "shared": canonical(shared)}


def _without_split(saw: Any) -> Any:
    if not isinstance(saw, dict):
        return saw
    return {key: _without_split(value) for key, value in saw.items() if key not in _OF_ONE_TRAINING}


def _by_split(
    chosen: tuple[str, ...], of_split: dict[str, Path], splits: tuple[str, ...]
) -> dict[Path, tuple[str, ...]]:
    names = splits if chosen == ("all",) else chosen
    available = " ".join(sorted(of_split))
    for split in names:
        if split not in of_split:
            raise InputError(
                f"SPLIT={split}: no store has weights that were trained on split {split} (only "
                f"{', '.join(sorted(of_split))}); pretrain on it and extract with WEIGHTS=..., or "
                f'give SPLIT="{available}"'
            )
    return {of_split[split]: (split,) for split in names}


def videos_of(stores: Sequence[Store]) -> tuple[str, ...]:
    """The ids of the videos that all stores have and that a split uses, in the first store's
    order."""
    others = [set(other.video_ids) for other in stores[1:]]
    used = zip(stores[0].video_ids, stores[0].parts, strict=True)
    return tuple(
        name for name, parts in used if any(parts) and all(name in other for other in others)
    )


def check_joined(stores: Sequence[Store]) -> None:
    """Raises InputError unless the rows of these stores match, video by video. They must have the
    same labels and parts, equally many rows, the same views, and times that differ by at most half
    a stride. The times of embeddings are not checked, because they are of whole videos."""
    first = stores[0]
    facts = {
        name: (label, parts, source)
        for name, label, parts, source in zip(
            first.video_ids, first.labels, first.parts, first.sources, strict=True
        )
    }
    for other in stores[1:]:
        _check_recipes(first, other)
        for name, label, parts in zip(other.video_ids, other.labels, other.parts, strict=True):
            if name not in facts:
                continue
            if (label, parts) != facts[name][:2]:
                raise _not_joined(
                    first, other, f"have different labels or split parts for the video {name}"
                )
            _check_rows(first, other, name, facts[name][2])


def _not_joined(first: Store, other: Store, difference: str) -> InputError:
    names = f"{first.path.name} and {other.path.name}"
    return InputError(f"mid fusion: {names} {difference}; {_hint(first, other)}")


def _hint(first: Store, other: Store) -> str:
    recipes = [FeatureRecipe.from_json(store.recipe) for store in (first, other)]
    are_timed = all(recipe.fps or recipe.stride_seconds for recipe in recipes)
    if len({recipe.is_sound for recipe in recipes}) == 1 or are_timed:
        return "extract the streams together"
    return (
        "extract the streams together, with FPS or with STRIDE in seconds, which put sound and "
        "pictures on one grid"
    )


def _check_recipes(first: Store, other: Store) -> None:
    """Raises InputError when the stores were cut in different ways."""
    if other.dataset.name != first.dataset.name:
        raise InputError(
            f"mid fusion: {first.path.name} is from the data set {first.dataset.name}, but "
            f"{other.path.name} is from {other.dataset.name}; choose stores of the same "
            "data set"
        )
    keys = ["views", "views_seed", "windows"]
    # Sound has no crops.
    if bool(first.recipe.get("crops_kept")) != bool(other.recipe.get("crops_kept")):
        keys.append("crops_kept")
    if first.recipe.get("crops_kept"):  # otherwise crops are averaged, however many there are
        keys.append("crops")
    for key in keys:
        values = [store.recipe.get(key) for store in (first, other)]
        if values[0] != values[1]:
            shown = " and ".join("none" if value is None else str(value) for value in values)
            raise _not_joined(
                first, other, f"were extracted with different values of {key} ({shown})"
            )


def _check_rows(first: Store, other: Store, name: str, source: Mapping[str, Any]) -> None:
    """Raises InputError when a video's rows do not match. source: the metadata of the video's
    file."""
    times, other_times = first.times_seconds(name), other.times_seconds(name)
    if len(times) != len(other_times):
        raise _not_joined(
            first,
            other,
            f"have different numbers of rows ({len(times)} and {len(other_times)}) for the video "
            f"{name}",
        )
    if not np.array_equal(first.views(name), other.views(name)):
        raise _not_joined(
            first, other, f"have rows of different augmented views for the video {name}"
        )
    if first.recipe.get("kind") == other.recipe.get("kind") == "embedding":  # of whole videos
        return
    apart = float(np.abs(times - other_times).max())
    if apart > _half_stride_seconds(first, source, times):
        raise _not_joined(
            first,
            other,
            f"have rows for the video {name} that are {apart:.3f} s apart, which is more "
            "than half a stride",
        )


def _half_stride_seconds(
    store: Store, source: Mapping[str, Any], times_seconds: np.ndarray
) -> float:
    """Half of the time from one clip to the next, plus a millisecond because the times of frames
    are rounded."""
    recipe = FeatureRecipe.from_json(store.recipe)
    if recipe.stride_seconds:
        return recipe.stride_seconds / 2 + 1e-3
    stride = recipe.clips.stride_frames if recipe.clips and not recipe.is_imported else 0
    fps = recipe.fps or source.get("fps")
    if isinstance(stride, int) and stride and isinstance(fps, int | float) and fps > 0:
        return stride / fps / 2 + 1e-3
    return (float(np.median(np.diff(times_seconds))) / 2 if len(times_seconds) > 1 else 0.0) + 1e-3
