"""Scores and embeddings of a trained run for every video of a store that was extracted with the
same recipe as the run's store."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reelbank.data.errors import InputError
from reelbank.data.identity import differences
from reelbank.data.positions import positions
from reelbank.data.scores.held_out import combined
from reelbank.data.scores.table import Scores
from reelbank.data.store.reader import Store
from reelbank.heads.models.model import Model
from reelbank.heads.recipe import RunRecipe
from reelbank.heads.runs.folder import load_run, parts_in_run, read_run
from reelbank.heads.runs.leak_guard import seen_videos, trainings, video_hashes
from reelbank.heads.training.material import (
    EVALUATED_SEQUENCES,
    Outputs,
    cut_out,
    label_numbers,
    outputs,
    readings_of,
)
from reelbank.heads.training.planning.stores import check_joined
from reelbank.heads.training.sequences import tables
from reelbank.heads.training.streaming import open_features

# Features of a piece, as in the store, and its videos.
_PIECE_BYTES, _PIECE_VIDEOS = 1 << 26, 1 << 14
# A piece has at least EVALUATED_SEQUENCES videos, whatever their size. A larger one is read from disk
# batch by batch.
_LOADED_BYTES = 1 << 28


@dataclass(frozen=True)
class Predicted:
    """The scores of V videos and their embeddings (V, E) float32."""

    scores: Scores
    embeddings: np.ndarray


def predicted(
    run_path: str | Path,
    *store_paths: str | Path,
    extractor: str = "",
    head: str = "",
    streams: Sequence[str] = (),
) -> Scores:
    """The run's scores for all videos of the store, or of several stores for mid fusion.

    Labels are -1 (0 for multi-label data) for videos that have none of the run's classes in the
    first store. extractor, head, streams: as for `load_run`. Raises InputError when a store's
    recipe differs from that of the store that the run was trained on.
    """
    return predicted_and_embedded(
        run_path, *store_paths, extractor=extractor, head=head, streams=streams
    ).scores


def predicted_and_embedded(
    run_path: str | Path,
    *store_paths: str | Path,
    extractor: str = "",
    head: str = "",
    streams: Sequence[str] = (),
    of_files: bool = False,
) -> Predicted:
    """As `predicted`, with embeddings.

    of_files: one command extracted the stores from the same files, so their rows match whatever the
    time stamps are. A video is left out when the stores have different numbers of rows for it.
    """
    with scorer(
        run_path, *store_paths, extractor=extractor, head=head, streams=streams, of_files=of_files
    ) as opened:
        pieces = list(opened.pieces())
        groups = () if of_files else opened.groups
    tables_of_pieces = [piece.scores for piece in pieces]
    scores = Scores(
        opened.ids,
        np.concatenate([table.labels for table in tables_of_pieces]),
        tables_of_pieces[0].classes,
        np.concatenate([table.logits for table in tables_of_pieces]),
        tables_of_pieces[0].about,
        groups,
        parts=tuple(itertools.chain.from_iterable(table.parts for table in tables_of_pieces)),
    )
    return Predicted(scores, np.concatenate([piece.embeddings for piece in pieces]))


@contextmanager
def scorer(
    run_path: str | Path,
    *store_paths: str | Path,
    extractor: str = "",
    head: str = "",
    streams: Sequence[str] = (),
    of_files: bool = False,
) -> Iterator[Scorer]:
    """A run and the open stores whose videos it can score. Options and errors as for
    `predicted_and_embedded`."""
    model, recipe = load_run(run_path, extractor, head, streams)
    name, trained_on = Path(run_path).name, store_recipes(run_path)
    if len(store_paths) != len(trained_on):
        raise InputError(
            f"STORE must name {len(trained_on)} stores (got {len(store_paths)}), because "
            f"the run {name} was trained on this number of stores; for example, write "
            "two stores as STORE=a+b"
        )
    with ExitStack() as stack:
        stores = [stack.enter_context(Store.open(path)) for path in store_paths]
        _check_stores(stores, trained_on, name)
        if len(stores) > 1 and not of_files:
            check_joined(stores)
        ids = _common_videos(stores, of_files=of_files)
        parts = _parts(run_path, stores, ids, of_files=of_files)
        yield Scorer(Path(run_path), stores, ids, parts, model, recipe)


@dataclass(frozen=True)
class Scorer:
    """A trained run with the stores whose videos it scores. ids: the V videos; parts: the part of
    each in the run's split."""

    run_path: Path
    stores: Sequence[Store]
    ids: tuple[str, ...]
    parts: tuple[str, ...]
    model: Model
    recipe: RunRecipe

    @property
    def groups(self) -> tuple[str, ...]:
        """The group of each video in the first store, "" if it is unknown."""
        store = self.stores[0]
        return tuple(map(store.groups.__getitem__, positions(self.ids, store.video_ids).tolist()))

    def pieces(self) -> Iterator[Predicted]:
        """The scores and embeddings of one range of videos after another, so that those of all
        videos need not fit in memory. They have no groups."""
        store, recipe = self.stores[0], self.recipe
        numbers = positions(self.ids, store.video_ids)
        rows, labels = store.rows[numbers].tolist(), store.labels
        cut_out_videos: Set[str] = cut_out(store) if recipe.rows.clips > 1 else frozenset()
        about: dict[str, Any] = {"dataset": store.dataset.name, "store": store.identity}
        about["name"] = self.run_path.name
        facts = ("stream", "extractor", "head", "split", "seed")
        about |= {key: getattr(recipe, key) for key in facts}
        if networks := read_run(self.run_path).random_networks:
            about["random_networks"] = list(networks)
        step = self._piece_videos()
        for first in range(0, len(self.ids), step):
            piece = slice(first, first + step)
            ids = self.ids[piece]
            answer = self._outputs(ids, rows[piece], cut_out_videos)
            texts = list(map(labels.__getitem__, numbers[piece].tolist()))
            scores = Scores(
                ids,
                label_numbers(texts, recipe.classes, store.dataset),
                recipe.classes,
                answer.logits.numpy(),
                about,
                parts=self.parts[piece],
            )
            yield Predicted(scores, answer.embeddings.numpy())

    def _outputs(self, ids: tuple[str, ...], rows: list[int], cut_out_videos: Set[str]) -> Outputs:
        recipe, crops = self.recipe, bool(self.recipe.rows.crops)
        _, table = tables(rows, recipe.rows, ids, cut_out_videos)
        readings = readings_of(self.stores, recipe)
        read_from = "auto"
        if len(ids) < len(self.ids):
            read_from = "disk" if sum(rows) * self._row_bytes > _LOADED_BYTES else "memory"
        data = open_features(self.stores, ids, readings, crops=crops, read_from=read_from)
        return outputs(self.model, data, table, recipe.scoring, torch.arange(len(ids)))

    @property
    def _row_bytes(self) -> int:
        """Bytes of a row of all stores together."""
        return sum(
            int(np.prod(store.row_shape, dtype=np.int64)) * store.dtype.itemsize
            for store in self.stores
        )

    def _piece_videos(self) -> int:
        """The number of videos of a piece: a multiple of what the model is given at once, so that
        the batches are those of all videos together."""
        video_bytes = max(
            1, self._row_bytes * int(self.stores[0].rows.sum()) // len(self.stores[0])
        )
        return EVALUATED_SEQUENCES * max(
            1, min(_PIECE_BYTES // video_bytes, _PIECE_VIDEOS) // EVALUATED_SEQUENCES
        )


def _check_stores(stores: Sequence[Store], trained_on: Sequence[dict[str, Any]], name: str) -> None:
    """Raises InputError when a store's recipe differs from that of the store of run `name`."""
    for store, recipe in zip(stores, trained_on, strict=True):
        if lines := differences(store.recipe, recipe):
            raise InputError(
                f"{store.path} was not extracted with the same options as the store that "
                f"the run {name} was trained on ({'; '.join(lines)}); give a store that "
                "was extracted with the same options"
            )


def _common_videos(stores: Sequence[Store], *, of_files: bool) -> tuple[str, ...]:
    """The videos that all stores have. Raises InputError when there are none."""
    if len(stores) == 1 and len(stores[0]):
        return tuple(stores[0].video_ids)
    rows = [dict(zip(store.video_ids, store.rows.tolist(), strict=True)) for store in stores]
    ids = [name for name in stores[0].video_ids if all(name in counts for counts in rows)]
    if of_files:
        ids = [name for name in ids if len({counts[name] for counts in rows}) == 1]
    if not ids:
        raise InputError(_nothing_to_score(stores))
    return tuple(ids)


def _nothing_to_score(stores: Sequence[Store]) -> str:
    if len(stores) == 1:
        return f"{stores[0].path} contains no videos, so there is nothing to score"
    paths = " and ".join(str(store.path) for store in stores)
    return f"no video can be scored, because no video has matching rows in {paths}"


def _parts(
    run_path: str | Path, stores: list[Store], ids: tuple[str, ...], *, of_files: bool
) -> tuple[str, ...]:
    """The part of the split that each video belonged to when the run, or the network that computed
    the features, was trained.

    Videos of the run's data set are matched by id; files, and videos of another data set, by name
    and size.
    """
    run = read_run(Path(run_path))
    by_id = parts_in_run(run)
    if not by_id:
        return ("unknown",) * len(ids)
    networks_saw = any(trainings(store.recipe.get("weights")) for store in stores)
    if not networks_saw and not of_files and stores[0].dataset.name == run.recipe.get("dataset"):
        return tuple(map(by_id.get, ids, itertools.repeat("none")))
    if of_files or stores[0].dataset.name != run.recipe.get("dataset"):
        by_id = _parts_by_name(by_id, run.path / "embeddings.h5", stores[0], ids, of_files=of_files)
    seen_by_networks = {
        "train": set().union(*(seen_videos(store, learned_alone=True) for store in stores)),
        "validation": set().union(*(seen_videos(store) for store in stores)),
    }
    parts = []
    for name in ids:
        of_networks = [part for part, videos in seen_by_networks.items() if name in videos]
        parts.append(combined((by_id.get(name, "none"), *of_networks)))
    return tuple(parts)


def _parts_by_name(
    by_id: dict[str, str], embeddings: Path, store: Store, ids: tuple[str, ...], *, of_files: bool
) -> dict[str, str]:
    """The parts of the videos whose names, without folders, match names of the run's videos. by_id:
    the parts of the run's videos by id; embeddings: the store of the run's embeddings, which
    records the sizes of the videos' files.

    If several videos have the same name, the video of the same size is used. If none has the same
    size, the file may be a re-encoded copy of any of them. In another data set, names may be plain
    numbers, so the part is unknown.
    """
    named: dict[str, list[str]] = {}
    for video in by_id:
        named.setdefault(video.rpartition("/")[2], []).append(video)
    of_run: dict[str, set[str]] = {}
    if embeddings.is_file():
        with Store.open(embeddings) as run_store:
            of_run = video_hashes(run_store)
    of_store = video_hashes(store)
    parts: dict[str, str] = {}
    for name in ids:
        alike = named.get(name.rpartition("/")[2], [])
        same = [video for video in alike if of_run.get(video, set()) & of_store[name]]
        has_sizes = len(of_store[name]) > 1 and any(
            len(of_run.get(video, set())) > 1 for video in alike
        )
        if alike and not same and has_sizes and not of_files:
            parts[name] = "unknown"
        elif alike:
            parts[name] = combined(by_id[video] for video in same or alike)
    return parts


def store_recipes(run_path: str | Path) -> list[dict[str, Any]]:
    """The recipes of the stores that a run was trained on, in the order in which it joins them.
    Raises InputError when the run folder does not contain them."""
    recipes = json.loads((Path(run_path) / "recipe.json").read_text()).get("store_recipes")
    if (
        not recipes
        or not isinstance(recipes, list)
        or not all(isinstance(recipe, dict) for recipe in recipes)
    ):
        raise InputError(
            f"{run_path} does not record how its features were extracted (store_recipes "
            "in recipe.json); train the run again"
        )
    return recipes
