"""Which store the command `train` takes for which split."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reelbank.data.errors import InputError
from reelbank.data.recipe import canonical, signature
from reelbank.data.shelf import IN_BETWEEN, find_store, shelved
from reelbank.data.store import Store
from reelbank.heads.runs import matches

if TYPE_CHECKING:
    from reelbank.heads.options import TrainOptions

_OF_ONE_SPLIT = ("source", "sha256", "saw")  # in recipe["weights"], of weights that were trained here
_OF_ONE_TRAINING = ("split", "videos", "validation_videos")  # in what they saw


def chosen_stores(options: TrainOptions) -> dict[tuple[Path, ...], tuple[str, ...]]:
    """Each store to train on, or the several that mid fusion joins (STREAM=rgb+flow, STORE=a+b), and the splits to train on
    them, in the order they are trained. Raises InputError as `_stores_of_one` does."""
    for name in ("stream", "store"):
        text = getattr(options, name)
        if len(words := text.split()) > 1 and not all(Path(one).exists() for one in store_names(text)):
            raise InputError(
                f"{name.upper()}={text}: a head is trained on one; for mid fusion give "
                f"{name.upper()}={'+'.join(words)}, for one head on each use 'sweep'"
            )
    parts = [options.stream.split("+"), store_names(options.store)]
    streams, stores = ([""] * max(map(len, parts)) if part == [""] else part for part in parts)
    if len(streams) != len(stores):
        raise InputError(
            f"STREAM={options.stream} STORE={options.store}: name as many streams as stores, or only one of the two"
        )
    found = [
        _stores_of_one(dataclasses.replace(options, stream=stream, store=store))
        for stream, store in zip(streams, stores, strict=True)
    ]
    if all(len(one) == 1 for one in found):
        return {tuple(path for one in found for path in one): options.split}
    names: tuple[str, ...] = sum(next(one for one in found if len(one) > 1).values(), ())
    together: dict[tuple[Path, ...], tuple[str, ...]] = {}
    for split in names:
        paths = [next((path for path, own in one.items() if len(one) == 1 or split in own), None) for one in found]
        if None in paths:
            raise InputError(f"SPLIT={split}: not every stream has a store whose weights were trained on that split")
        key = tuple(path for path in paths if path is not None)
        together[key] = (*together.get(key, ()), split)
    return together


def store_names(text: str) -> list[str]:
    """The stores that STORE= names: one, or several joined by +; the path of a file may hold a +."""
    return [text] if Path(text).exists() else text.split("+")


def _stores_of_one(options: TrainOptions) -> dict[Path, tuple[str, ...]]:
    """Each store of one stream and the splits to train on it.

    Stores that differ in nothing but the split that their weights were trained on stand for one: each split takes its own.
    Else one store serves all splits. Raises InputError when none fits, several do, or a split wanted has no store.
    """
    match = {name: value for name in ("dataset", "stream", "extractor") if (value := getattr(options, name))}
    if options.store:
        return {_named(options): options.split}
    fits = []
    for path, store, _ in shelved(options.bank):
        if store is None or not family(store.recipe).startswith(options.weights):
            continue
        if store.recipe.get("extractor") in IN_BETWEEN and not options.extractor and options.stream != "magnitude":
            continue
        if matches({**store.recipe, "dataset": store.dataset["name"]}, **match):
            fits.append((path, _facts(store)))
    if options.weights and not fits:
        given = " ".join(f"{key.upper()}={value}" for key, value in match.items())
        with_these = f" with {given}" if given else ""
        raise InputError(
            f"WEIGHTS={options.weights}: no store{with_these} was made with weights of that family; 'reelbank stores' lists "
            f"what is there, 'make extract WEIGHTS={options.weights}' makes one"
        )
    if len(fits) == 1 and options.weights:
        return {fits[0][0]: options.split}
    if len(fits) > 1 and len({facts["shared"] for _, facts in fits}) == 1:
        of_split = {facts["split"]: path for path, facts in fits}
        if "" not in of_split and len(of_split) == len(fits):
            return _by_split(options.split, of_split, fits[0][1]["splits"])
    if len(fits) > 1 and options.weights:
        names = ", ".join(path.name for path, _ in fits)
        raise InputError(f"WEIGHTS={options.weights}: {len(fits)} stores fit; choose with STORE=: {names}")
    return {find_store(options.bank, **match): options.split}  # the one that fits, or the reason why there is none


def family(recipe: dict[str, Any]) -> str:
    """The family of weights that were trained here that a store was made with; "" for other weights."""
    weights = recipe.get("weights")
    return str(weights.get("family", "")) if isinstance(weights, dict) else ""


def shared_identity(store: Store) -> str:
    """The identity of a store, less what says on which split its weights were trained here: the same for each split's."""
    return signature({"shared": _facts(store)["shared"]}) if family(store.recipe) else store.identity


def _named(options: TrainOptions) -> Path:
    path = find_store(options.bank, options.store)
    with Store.open(path) as store:
        if not family(store.recipe).startswith(options.weights):
            raise InputError(f"STORE={options.store}: was not made with WEIGHTS={options.weights}; leave one of the two out")
    return path


def _facts(store: Store) -> dict[str, Any]:
    """splits: the data set's; split: the one that the weights were trained on, "" when none is said; shared: all else that the
    store was made by, as text."""
    weights = store.recipe.get("weights")
    weights = dict(weights) if isinstance(weights, dict) else {}
    saw = weights.get("saw")
    split = str(saw.get("split", "")) if isinstance(saw, dict) else ""
    about = {key: value for key, value in weights.items() if key not in _OF_ONE_SPLIT}
    shared = {**store.recipe, "weights": {**about, "saw": _without_split(saw)}, "dataset": store.dataset["name"]}
    return {"splits": tuple(store.dataset["splits"]), "split": split, "shared": canonical(shared)}


def _without_split(saw: Any) -> Any:
    if not isinstance(saw, dict):
        return saw
    return {key: _without_split(value) for key, value in saw.items() if key not in _OF_ONE_TRAINING}


def _by_split(wanted: tuple[str, ...], of_split: dict[str, Path], splits: tuple[str, ...]) -> dict[Path, tuple[str, ...]]:
    names = splits if wanted == ("all",) else wanted
    for split in names:
        if split not in of_split:
            raise InputError(
                f"SPLIT={split}: no store has weights that were trained on split {split} (only {', '.join(sorted(of_split))}); "
                f'pretrain on it and extract with WEIGHTS=..., or give SPLIT="{" ".join(sorted(of_split))}"'
            )
    return {of_split[split]: (split,) for split in names}
