"""The videos that a detector is fitted and evaluated on. Each video is one vector, which is the
mean of a store's rows or the embeddings of runs."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reelbank.data.datasets.types import PARTS
from reelbank.data.errors import InputError
from reelbank.data.store.bank import find_store
from reelbank.data.store.reader import Store
from reelbank.fusion.embeddings import concatenated
from reelbank.fusion.options import AnomalyOptions
from reelbank.heads.runs.folder import find_runs
from reelbank.heads.runs.leak_guard import check_unseen, seen_videos
from reelbank.heads.training.planning.parts import VideoFacts


@dataclass(frozen=True)
class StoreVideos:
    """The labelled videos of one split of a store, or of several stores of embeddings.

    ids (V), vectors (V, D) float64, labels (V), groups (V), parts (V) of PARTS; store: the store's
    identity, store_recipe: its recipe; unlabelled: number of videos of the split without a
    label, which are left out because it is unknown whether they are normal; learned: the videos
    that at least one head or backbone was trained on here.
    """

    ids: list[str]
    vectors: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    parts: np.ndarray
    store: str
    store_recipe: dict[str, Any]
    dataset: str
    stream: str
    unlabelled: int
    learned: frozenset[str]

    @property
    def classes(self) -> list[str]:
        return sorted(set(self.labels.tolist()))


def store_paths(options: AnomalyOptions) -> list[Path]:
    """The file of STORE, or the files of the embeddings of RUN."""
    if bool(options.store) == bool(options.run):
        raise InputError("give exactly one of STORE= and RUN=")
    if options.run:
        runs = find_runs(options.searched, options.run)
        return [run.path / "embeddings.h5" for run in runs]
    return [find_store(options.searched, options.store)]


def read_videos(options: AnomalyOptions) -> StoreVideos:
    """The labelled videos of SPLIT. The embeddings of several runs are concatenated; a video
    without an embedding of a run has zeros instead, and a mask marks these videos.

    Raises InputError for feature maps, multi-label data, a split that does not exist, runs on
    different data sets, and a store whose backbone or head has seen the split's test videos.
    """
    with ExitStack() as stack:
        stores = [stack.enter_context(Store.open(path)) for path in store_paths(options)]
        for store in stores:
            _check(store, stores[0], options.split)
        known = _videos_of_split(stores, options.split)
        ids = [name for name, facts in known.items() if facts.label]
        if not ids:
            raise InputError(
                f"{stores[0].path}: no video of split {options.split} has a label, so the normal "
                "videos are unknown; extract from a data set with labels"
            )
        recipes = [store.recipe for store in stores]
        learned = [seen_videos(store, learned_alone=True) for store in stores]
        streams = dict.fromkeys(str(recipe.get("stream", "")) for recipe in recipes)
        return StoreVideos(
            ids=ids,
            vectors=_vectors(stores, ids),
            labels=np.array([known[name].label for name in ids]),
            groups=np.array([known[name].group for name in ids]),
            parts=np.array([known[name].part for name in ids]),
            store="+".join(store.identity for store in stores),
            store_recipe=recipes[0] if len(stores) == 1 else {"joined": recipes},
            dataset=stores[0].dataset.name,
            stream="+".join(streams),
            unlabelled=len(known) - len(ids),
            learned=frozenset().union(*learned),
        )


def _videos_of_split(stores: Sequence[Store], split: str) -> dict[str, VideoFacts]:
    """The videos that at least one of the stores has in a part of the split, by id."""
    videos: dict[str, VideoFacts] = {}
    for store in stores:
        number = list(store.dataset.splits).index(split)
        columns = (store.video_ids, store.labels, store.groups, store.parts)
        for name, label, group, parts in zip(*columns, strict=True):
            if parts[number] in PARTS:
                videos.setdefault(name, VideoFacts(label, group, parts[number]))
    return videos


def _vectors(stores: Sequence[Store], ids: Sequence[str]) -> np.ndarray:
    """One vector for each video, (V, D) float64."""
    if len(stores) == 1:
        return mean_rows(stores[0], ids)
    vectors = []
    for store in stores:
        own = set(store.video_ids)
        rows = mean_rows(store, [name for name in ids if name in own])
        of_store = np.full((len(ids), rows.shape[1]), np.nan)
        of_store[[name in own for name in ids]] = rows
        vectors.append(of_store)
    return concatenated(vectors, with_mask=True)


def _check(store: Store, first: Store, split: str) -> None:
    splits = list(store.dataset.splits)
    if split not in splits:
        raise InputError(
            f"SPLIT={split}: {store.path} does not have this split; it has "
            f"{', '.join(splits) or '(none)'}"
        )
    if store.dataset.name != first.dataset.name:
        raise InputError(
            f"RUN: all runs must be on the same data set, but {store.path} is from "
            f"{store.dataset.name} and {first.path} is from {first.dataset.name}; give runs on "
            "one data set"
        )
    check_unseen(store, split)
    _check_vectors(store)


def _check_vectors(store: Store) -> None:
    if len(store.row_shape) != 1:
        raise InputError(
            f"{store.path} contains feature maps of shape {store.row_shape}, but anomaly "
            "detection needs vectors; extract again with POOL=1"
        )
    if store.dataset.multilabel:
        raise InputError(
            f"{store.path} is multi-label, but anomaly detection needs one label per "
            "video; give a store of single-label data"
        )


def mean_rows(store: Store, video_ids: Sequence[str]) -> np.ndarray:
    """The mean of each video's rows, (V, D) float64. Only the rows of one video are in memory at a
    time."""
    return np.stack([store.features(name)[0].astype(np.float64).mean(axis=0) for name in video_ids])
