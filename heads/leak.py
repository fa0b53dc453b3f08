"""The leak guard: a head is not tested on videos that its store's backbone was trained on.

Weights that were trained here carry what they saw, in `weights.saw` of the recipe of every store made with them: {"dataset",
"split", "part", "validation_share", "videos", "validation_videos"} and, when that training began with such weights, what
those saw as "before". The last two name the videos, those learned from and those that chose the weights, by hashes: 12 hex
digits each, sorted, joined to one text. So it is videos that are compared, whatever the splits say by now.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from reelbank.data.errors import InputError
from reelbank.data.recipe import signature
from reelbank.data.store import Store
from reelbank.data.videos import ENDINGS

_DIGITS = 12  # 13,000 videos compared with 10,000: in two such comparisons of a million one is taken for another


def video_hashes(store: Store) -> dict[str, set[str]]:
    """Of each video of a store by id the hashes it is known by, in this store or another, 12 hex digits each: that of data set
    and id, whatever became of the file; and that of the file's name without folders and ending, its bytes and the span cut
    out, whatever the data set."""
    hashes = {}
    for name, source in zip(store.video_ids, store.sources, strict=True):
        hashes[name] = {_id_hash(store, name)}
        if source.get("bytes", 0) > 0:
            file = {"name": _stem(name), "bytes": source["bytes"], "span_seconds": source.get("span_seconds")}
            hashes[name].add(_hash(file))
    return hashes


def _id_hash(store: Store, video_id: str) -> str:
    return _hash({"dataset": store.dataset["name"], "id": video_id})


def _hash(about: dict[str, Any]) -> str:
    return signature(about)[:_DIGITS]


def _stem(video_id: str) -> str:
    """Ids keep the ending where two files differ in nothing else."""
    name = video_id.rpartition("/")[2]
    stem, _, ending = name.rpartition(".")
    return stem if stem and ending.lower() in ENDINGS["video"] else name


def hash_text(store: Store, video_ids: Iterable[str]) -> str:
    """All hashes of some of a store's videos as one text: sorted, joined."""
    hashes = video_hashes(store)
    return "".join(sorted(set().union(*(hashes[name] for name in video_ids))))


def saw_of(
    stores: Sequence[Store], split: str, train: Iterable[str], validation: Iterable[str], share: float
) -> dict[str, Any]:
    """What a head that was trained on these stores has seen, for the recipe of the store of its embeddings: as weights.saw of a
    backbone, and before it what the stores' own backbones saw. train, validation: ids learned from, and only validated on."""
    store, before = stores[0], None
    for one in reversed([one for each in stores for one in trainings(each.recipe.get("weights"))]):
        own = {key: value for key, value in one.items() if key != "before"}
        before = own | ({"before": before} if before else {})
    saw = {"dataset": store.dataset["name"], "split": split, "part": "train", "validation_share": share}
    saw |= {"videos": hash_text(store, train), "validation_videos": hash_text(store, validation)}
    return saw | ({"before": before} if before else {})


def trainings(weights: Any) -> list[dict[str, Any]]:
    """The trainings that weights went through here, the last first; weights: as recipes have them. Raises InputError for one
    that does not say which videos it saw."""
    one = weights.get("saw") if isinstance(weights, dict) else None
    found = []
    while one is not None:
        texts = [one.get(key) if isinstance(one, dict) else None for key in ("videos", "validation_videos")]
        if not all(isinstance(text, str) and re.fullmatch(rf"([0-9a-f]{{{_DIGITS}}})*", text) for text in texts):
            raise InputError(
                "the backbone was trained here and its recipe does not say on which videos (weights.saw); pretrain it and "
                "extract again"
            )
        found.append(one)
        one = one.get("before")
    return found


def _hashes(text: str) -> set[str]:
    return {text[at : at + _DIGITS] for at in range(0, len(text), _DIGITS)}


def seen_videos(store: Store, weights: Any = None, learned_alone: bool = False) -> set[str]:
    """The store's videos that `weights` (default: the store's backbone) were trained on, also those they were validated on, as
    these chose them; learned_alone: without those. Raises InputError for weights that do not say."""
    here: set[str] = set()  # hashes of videos of this data set, which its ids tell apart
    elsewhere: set[str] = set()
    for one in trainings(store.recipe.get("weights") if weights is None else weights):
        known = _hashes(one["videos"]) | (set() if learned_alone else _hashes(one["validation_videos"]))
        (here if one.get("dataset") == store.dataset["name"] else elsewhere).update(known)
    if not here and not elsewhere:
        return set()
    # Within one data set a file's name and size are no evidence: every class may have a clip 003, and all be equally large.
    return {name for name, own in video_hashes(store).items() if own & elsewhere or _id_hash(store, name) in here}


def seen_tests(store: Store, split: str, weights: Any = None) -> tuple[set[str], list[str]]:
    """The videos of the test part of `split` that were seen, and all of that part."""
    number = store.dataset["splits"].index(split)
    test = [name for name, parts in zip(store.video_ids, store.parts, strict=True) if parts[number] == "test"]
    return seen_videos(store, weights).intersection(test), test


def check_unseen(store: Store, split: str) -> None:
    """Raises InputError when the backbone was trained on videos of the test part of `split`."""
    seen, test = seen_tests(store, split)
    if not seen:
        return
    dataset, own = store.dataset["name"], trainings(store.recipe.get("weights"))
    last = str(own[0].get("split"))
    if own[0].get("dataset") == dataset and last != split and last in store.dataset["splits"]:
        instead = f"extract with WEIGHTS=... for split {split}, or train with SPLIT={last}"
    else:
        instead = (
            f"pretrain on split {split} as it is now, or bring back data set and split (SEED, CSV, ROOT) as they were then"
        )
    raise InputError(
        f"SPLIT={split}: {len(seen)} of the {len(test)} test videos of split {split} were in what the backbone was "
        f"trained on ({origin(own, dataset)}); {instead}"
    )


def origin(own: list[dict[str, Any]], dataset: str) -> str:
    """'split 2, split 1 of ucf101': what trainings were on, the last first, with the data set's name where it is another."""
    words = (
        f"split {one.get('split')}" + (f" of {one.get('dataset')}" if one.get("dataset") != dataset else "") for one in own
    )
    return ", ".join(dict.fromkeys(words))


def validation_notes(store: Store, split: str, validation: set[str]) -> list[str]:
    """A line when the backbone has learned from videos of the head's `validation` part: then its figure says little. Backbones'
    validation parts are cut by the heads' rule, so equal shares of the same split give equal parts."""
    known = validation & seen_videos(store, learned_alone=True)
    if not known:
        return []
    return [
        f"split {split}: {len(known)} of the {len(validation)} validation videos were in what the backbone was trained on, so "
        "the validation figure is too high; give the VALIDATION that the backbone was trained with"
    ]
