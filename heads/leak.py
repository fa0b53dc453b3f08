"""The leak guard: a head is not tested on videos that its store's backbone was trained on.

Weights that were trained here say in the store's recipe what they saw: `weights.saw` = {"dataset", "split", "part",
"validation_share"} and, when that training began with such weights, what those saw as "before". The store knows each
video's part in every split, so video by video it is known what was seen.
"""

from typing import Any

from reelbank.data.errors import InputError
from reelbank.data.splits import cut_validation
from reelbank.data.store import Store


def saw(store: Store) -> list[dict[str, Any]]:
    """What the store's backbone was trained on here, the last training first, as far as it was this data set; of plain
    folders any, as this one may be the same at another place."""
    weights = store.recipe.get("weights")
    one = weights.get("saw") if isinstance(weights, dict) else None
    found = []
    while isinstance(one, dict):
        if _kind(one.get("dataset")) == _kind(store.dataset["name"]):
            found.append(one)
        one = one.get("before")
    return found


def _kind(dataset: Any) -> str:
    return "folder" if str(dataset).startswith("folder-") else str(dataset)


def seen_videos(store: Store) -> set[str]:
    """The store's videos that its backbone was trained on, also those of its validation part: they chose its weights. Raises
    InputError when the store does not know the split."""
    return {name for one in saw(store) for name in _part(store, one)}


def _part(store: Store, one: dict[str, Any]) -> list[str]:
    split = str(one.get("split"))
    if split not in store.dataset["splits"]:
        raise InputError(
            f"{store.path}: its backbone was trained on split {split}, which the store does not know, so what was seen cannot "
            "be told; extract again"
        )
    number, part = store.dataset["splits"].index(split), one.get("part", "train")
    return [name for name, parts in zip(store.video_ids, store.parts, strict=True) if parts[number] == part]


def check_unseen(store: Store, split: str) -> None:
    """Raises InputError when the backbone was trained on videos of the test part of `split`."""
    seen, number = seen_videos(store), store.dataset["splits"].index(split)
    test = [name for name, parts in zip(store.video_ids, store.parts, strict=True) if parts[number] == "test"]
    known = [name for name in test if name in seen]
    if known:
        own = ", ".join(dict.fromkeys(str(one["split"]) for one in saw(store)))
        raise InputError(
            f"SPLIT={split}: {len(known)} of the {len(test)} test videos of split {split} were in what the backbone was "
            f"trained on (split {own}); extract with WEIGHTS=... for split {split}, or train with SPLIT={own}"
        )


def validation_notes(store: Store, split: str, validation: set[str], share: float) -> list[str]:
    """A line when the head's `validation` part, a `share` of the training part, was not kept from the backbone: then its
    figure says little. Backbones' validation parts are cut by the heads' rule, so equal shares give equal parts."""
    if not validation or not saw(store):
        return []
    shares = [float(one.get("validation_share") or 0.0) for one in saw(store)]
    known: set[str] = set()
    group_of = dict(zip(store.video_ids, zip(store.labels, store.groups, strict=True), strict=True))
    for one, own_share in zip(saw(store), shares, strict=True):
        ids = [name for name in _part(store, one) if group_of[name][0]]
        labels, groups = ([group_of[name][i] for name in ids] for i in (0, 1))
        known |= validation & (set(ids) - cut_validation(ids, labels, groups, own_share, 0))
    if not known and set(shares) == {share}:
        return []
    return [
        f"split {split}: the backbone was trained with VALIDATION={shares[0]:g} and this head with {share:g}: {len(known)} of "
        f"its {len(validation)} validation videos were in what the backbone was trained on"
        + (", so the validation figure is too high" if known else "")
    ]
