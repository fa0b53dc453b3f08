"""The leak guard. It prevents that a head is tested on videos that its store's backbone was trained
on.

Weights that `pretrain` trained record the videos that they saw, in `weights.saw` of the recipe of
every store made with them: {"dataset", "split", "part", "validation_share", "videos",
"validation_videos"} and, when that training began with such weights, what those saw as "before".
"videos" (learned from) and "validation_videos" (used to choose the weights) contain hashes of 12
hex digits each, sorted and joined to one text. Because videos are compared, a later change of the
splits has no effect.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from reelbank.data.datasets.discovery import ENDINGS
from reelbank.data.errors import InputError
from reelbank.data.identity import signature
from reelbank.data.store.reader import Store
from reelbank.heads.recipe import RunRecipe

# When 13,000 videos are compared with 10,000, two videos are confused in two of a million
# comparisons.
_DIGITS = 12
_AT_ONCE = 1 << 14  # hashes


def video_hashes(store: Store) -> dict[str, set[str]]:
    """The two hashes of each video of a store, by id, with 12 hex digits each. The first is of data
    set and id, and does not depend on the file. The second is of the file's name without folders
    and extension, its size and the span that was cut out, and does not depend on the data set."""
    return dict(_all_hashes(store))


def _all_hashes(store: Store) -> Iterator[tuple[str, set[str]]]:
    for name, source in zip(store.video_ids, store.sources, strict=True):
        yield name, set(_hashes_of(store, name, source))


def _hashes_of(store: Store, video_id: str, source: Mapping[str, Any]) -> Iterator[str]:
    yield _id_hash(store, video_id)
    if source.get("bytes", 0) > 0:
        file = {
            "name": _stem(video_id),
            "bytes": source["bytes"],
            "span_seconds": source.get("span_seconds"),
        }
        yield _hash(file)


def _id_hash(store: Store, video_id: str) -> str:
    return _hash({"dataset": store.dataset.name, "id": video_id})


def _hash(about: dict[str, Any]) -> str:
    return signature(about)[:_DIGITS]


def _stem(video_id: str) -> str:
    """An id keeps the extension if two files differ only in it."""
    name = video_id.rpartition("/")[2]
    stem, _, ending = name.rpartition(".")
    return stem if stem and ending.lower() in ENDINGS["video"] else name


def hash_text(store: Store, video_ids: Iterable[str]) -> str:
    """All hashes of some of a store's videos, sorted and joined to one text."""
    used = set(video_ids)
    facts = zip(store.video_ids, store.sources, strict=True)
    of_videos = (_hashes_of(store, name, source) for name, source in facts if name in used)
    # As arrays, because a million hashes as texts would take 100 MB.
    arrays = [np.empty(0, f"S{_DIGITS}")]
    all_hashes = itertools.chain.from_iterable(of_videos)
    while chunk := list(itertools.islice(all_hashes, _AT_ONCE)):
        arrays.append(np.array(chunk, f"S{_DIGITS}"))
    return np.unique(np.concatenate(arrays)).tobytes().decode()


def saw_of(
    stores: Sequence[Store],
    recipe: RunRecipe,
    *,
    learned: Iterable[str],
    validated: Iterable[str],
    start: Any = None,
) -> dict[str, Any]:
    """What a head that was trained on these stores has seen, for the recipe of the store of its
    embeddings: as weights.saw of a backbone, and before it what the weights that it started from,
    and the stores' own backbones, saw. learned, validated: ids learned from, and only validated on;
    start: the weights that it started from, as recipes have them."""
    store, before = stores[0], None
    earlier = trainings(start)
    for each in stores:
        earlier += trainings(each.recipe.get("weights"))
    for training in reversed(earlier):
        facts = {key: value for key, value in training.items() if key != "before"}
        before = facts | ({"before": before} if before else {})
    saw = {
        "dataset": store.dataset.name,
        "split": recipe.split,
        "part": "train",
        "validation_share": recipe.validation,
    }
    saw |= {"videos": hash_text(store, learned), "validation_videos": hash_text(store, validated)}
    return saw | ({"before": before} if before else {})


def trainings(weights: Any) -> list[dict[str, Any]]:
    """The trainings of weights by this project, the last first. weights: as in recipes. Raises
    InputError for a training that does not record which videos it saw."""
    training = weights.get("saw") if isinstance(weights, dict) else None
    chain = []
    while training is not None:
        texts = [
            training.get(key) if isinstance(training, dict) else None
            for key in ("videos", "validation_videos")
        ]
        if not all(
            isinstance(text, str) and re.fullmatch(rf"([0-9a-f]{{{_DIGITS}}})*", text)
            for text in texts
        ):
            raise InputError(
                "the store's recipe does not record the videos that the backbone was "
                "trained on (the entry weights.saw); run 'reelbank pretrain' and extract "
                "again"
            )
        chain.append(training)
        training = training.get("before")
    return chain


def _hashes(text: str) -> set[str]:
    return {text[at : at + _DIGITS] for at in range(0, len(text), _DIGITS)}


def seen_videos(store: Store, weights: Any = None, learned_alone: bool = False) -> set[str]:
    """The store's videos that `weights` (default: the store's backbone) were trained or validated
    on; learned_alone: leave out videos used only for validation. Raises InputError for weights
    whose recipe does not record the videos."""
    same_dataset: set[str] = set()  # hashes of videos of this data set, distinguished by its ids
    elsewhere: set[str] = set()
    for training in trainings(store.recipe.get("weights") if weights is None else weights):
        hashes = _hashes(training["videos"])
        if not learned_alone:
            hashes |= _hashes(training["validation_videos"])
        (same_dataset if training.get("dataset") == store.dataset.name else elsewhere).update(
            hashes
        )
    if not same_dataset and not elsewhere:
        return set()
    # Within a data set, a file's name and size do not identify a video. Every class may have a clip
    # 003, and all clips may have the same size.
    return {
        name
        for name, hashes in _all_hashes(store)
        if hashes & elsewhere or _id_hash(store, name) in same_dataset
    }


def seen_tests(store: Store, split: str, weights: Any = None) -> tuple[set[str], list[str]]:
    """The videos of the test part of `split` that were seen, and all of that part."""
    number = store.dataset.splits.index(split)
    test = [
        name
        for name, parts in zip(store.video_ids, store.parts, strict=True)
        if parts[number] == "test"
    ]
    return seen_videos(store, weights).intersection(test), test


def check_unseen(store: Store, split: str) -> None:
    """Raises InputError when the backbone was trained on videos of the test part of `split`."""
    leaked, test = seen_tests(store, split)
    if not leaked:
        return
    dataset, chain = store.dataset.name, trainings(store.recipe.get("weights"))
    last = str(chain[0].get("split"))
    if chain[0].get("dataset") == dataset and last != split and last in store.dataset.splits:
        instead = (
            f"extract with weights that were trained on split {split} (WEIGHTS=...), or train "
            f"with SPLIT={last}"
        )
    else:
        instead = f"pretrain on the current split {split}, or restore the data set and the split "
        instead += "(SEED, CSV, ROOT) that the backbone was trained on"
    raise InputError(
        f"SPLIT={split}: {len(leaked)} of the {len(test)} test videos of split {split} "
        f"were used to train the backbone (trained on {origin(chain, dataset)}); {instead}"
    )


def origin(chain: list[dict[str, Any]], dataset: str) -> str:
    """The splits that a chain of trainings used, the last first, with the data set's name if it is
    not `dataset`. An example is 'split 2, split 1 of ucf101'."""
    words = (
        f"split {training.get('split')}"
        + (f" of {training.get('dataset')}" if training.get("dataset") != dataset else "")
        for training in chain
    )
    return ", ".join(dict.fromkeys(words))


def validation_notes(
    store: Store, split: str, validation: set[str], *, weights: Any = None
) -> list[str]:
    """A line when the backbone, or the `weights` that the head starts from, have learned from
    videos of the head's `validation` part, which makes the validation figure too high. Backbones and
    heads cut validation parts by the same rule, so equal shares of a split give equal parts."""
    learned = validation & seen_videos(store, weights, learned_alone=True)
    if not learned:
        return []
    trained, mend = "the backbone", "the same VALIDATION as for the backbone"
    if weights is not None:
        trained = "the run that INIT names"
        mend = "a run with the same VALIDATION and REFIT=0"
    return [
        f"split {split}: {len(learned)} of the {len(validation)} validation videos were "
        f"used to train {trained}, so the validation result is too optimistic; give {mend}"
    ]
