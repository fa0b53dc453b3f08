"""The plan of the command `train`. It makes one complete recipe for each run from the options and
the stores."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelbank.data.banks import Banks
from reelbank.data.console import counted
from reelbank.data.errors import InputError
from reelbank.data.store.bank import find_store
from reelbank.data.store.reader import Store
from reelbank.heads.recipe import RunRecipe
from reelbank.heads.runs.folder import Run, folder_name
from reelbank.heads.runs.leak_guard import check_unseen, saw_of, validation_notes
from reelbank.heads.training.options import TrainOptions
from reelbank.heads.training.planning.filled import training_of, with_defaults
from reelbank.heads.training.planning.initial import (
    initial_recipe,
    initial_run,
    initial_runs,
    initial_weights,
)
from reelbank.heads.training.planning.leaks import divided_groups, split_notes
from reelbank.heads.training.planning.parts import (
    VideoFacts,
    absent_notes,
    chosen_classes,
    class_notes,
    coverage_of,
    held_out_videos,
    is_multilabel,
    parts_of,
    stated_validation,
    videos_of_split,
)
from reelbank.heads.training.planning.shared_recipe import shared_recipe
from reelbank.heads.training.planning.stores import videos_of


@dataclass(frozen=True)
class RunPlan:
    """One run to be trained: its folder, complete recipe, videos by part, and notes for the user.

    leaks: lines on test videos that are not independent of the training videos (leaks.py); head,
    extractor, stream, trunk_weights: as in the options, for a head from a user's file, and for a
    head that begins with the rest of a network, from a user's file or on a user's stream; saw:
    which videos the embeddings depend on (leak_guard.py); initial: the folder of the run whose
    weights the head starts from; options: those that plan this run alone.
    """

    path: Path
    recipe: RunRecipe
    ids: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]
    leaks: tuple[str, ...]
    bank: Banks
    head: str
    extractor: str
    stream: str
    trunk_weights: str
    saw: dict[str, Any]
    initial: Path | None = None
    options: TrainOptions = TrainOptions()


def plan_runs(stores: Sequence[Store], options: TrainOptions) -> list[RunPlan]:
    """One plan for each split and seed, on one store or, in mid fusion, several. Raises InputError
    for anything that makes one of them impossible."""
    typed, options = options, with_defaults(options)
    store = stores[0]
    if not any(store.labels):
        raise InputError(
            f"{store.path}: the store contains no class labels; extract from a data set "
            "with class folders or with a CSV of labels"
        )
    if is_multilabel(store) and options.classifier == "svm":
        raise InputError(
            "CLASSIFIER=svm needs exactly one label per video, but this data set is "
            "multi-label; give CLASSIFIER=softmax"
        )
    splits = _splits(store, options.split)
    for member in stores:
        for split in splits:
            check_unseen(member, split)
    shared, common = shared_recipe(stores, options), videos_of(stores)
    initial = initial_runs(options.searched, options.init)
    plans = []
    for split in splits:
        for seed in dict.fromkeys(options.seed):
            recipe = dataclasses.replace(shared, split=split, seed=seed)
            plan = plan_run(
                stores, common, options, shared=recipe, initial=initial_run(initial, recipe)
            )
            alone = dataclasses.replace(typed, split=(split,), seed=(seed,))
            plans.append(dataclasses.replace(plan, options=alone))
    return plans


def _splits(store: Store, chosen: tuple[str, ...]) -> tuple[str, ...]:
    splits = tuple(store.dataset.splits)
    if chosen == ("all",):
        return splits
    for name in chosen:
        if name not in splits:
            raise InputError(
                f"SPLIT={name}: {store.dataset.name} does not have this split; it has "
                f"{', '.join(splits)}"
            )
    return tuple(dict.fromkeys(chosen))


def plan_run(
    stores: Sequence[Store],
    common: Sequence[str],
    options: TrainOptions,
    *,
    shared: RunRecipe,
    initial: Run | None = None,
) -> RunPlan:
    """Parts and recipe of one run. common: ids of the videos that all stores have; shared: what the
    recipes of all runs have in common, with this run's split and seed; initial: the run whose
    weights the head starts from. Raises InputError when there is nothing to train on, and when the
    weights do not fit or have seen test videos."""
    split = shared.split
    classes = chosen_classes(stores[0], options.classes, options.without)
    videos = videos_of_split(stores[0], common, classes, split)
    notes = absent_notes(stores, common)
    notes += split_notes(stores[0], split, videos)
    held_out = _held_out(videos, options, dataset=stores[0].dataset.name, split=split)
    notes += _validation_origin(videos, held_out, options, split)
    if options.validation and not held_out:
        notes.append(
            f"split {split}: {_why_none_held_out(options)}, so there is no validation "
            "part; the weights of the last epoch are kept"
        )
    _check_validation(options, split, has_validation=bool(held_out))
    ids = parts_of(videos, held_out)
    notes += class_notes(stores[0], split, ids, videos, classes)
    for store in stores:
        notes += validation_notes(store, split, held_out)
    recipe = dataclasses.replace(
        shared,
        coverage=coverage_of(stores, videos, held_out),
        classes=classes,
        training=training_of(options, shared.seed, has_validation=bool(held_out)),
        refit=options.refit and bool(held_out),
    )
    start: Mapping[str, Any] = {}
    if initial:
        recipe = dataclasses.replace(recipe, initial=initial_recipe(initial, recipe))
        start = initial_weights(initial, stores[0], split)
        notes += validation_notes(stores[0], split, held_out, weights=start)
    learned = ids["train"] + (ids["validation"] if recipe.refit else ())
    return RunPlan(
        path=options.searched.planned("runs", folder_name(recipe.to_json())),
        recipe=recipe,
        ids=ids,
        notes=tuple(notes),
        leaks=tuple(divided_groups(stores[0], split)),
        bank=options.searched,
        head=options.head,
        extractor=options.extractor,
        stream=options.stream,
        trunk_weights=options.trunk_weights,
        saw=saw_of(stores, recipe, learned=learned, validated=ids["validation"], start=start),
        initial=initial.path if initial else None,
    )


def _held_out(
    videos: dict[str, VideoFacts], options: TrainOptions, *, dataset: str, split: str
) -> set[str]:
    """The videos for validation. With VALIDATION_STORE, they are the training videos of the groups
    that a run on that store holds out, unless the split has a validation part. Raises InputError if
    that store is of another data set or split."""
    if not options.validation_store or stated_validation(videos):
        return held_out_videos(videos, options.validation)
    given = f"VALIDATION_STORE={options.validation_store}"
    if not options.validation:
        raise InputError(
            f"{given} needs a validation part, but VALIDATION=0 holds out no videos; give "
            "VALIDATION above 0 (for example 0.2), or omit VALIDATION_STORE"
        )
    try:
        path = find_store(options.searched, options.validation_store)
    except InputError as error:
        raise InputError(f"{given}: {error}") from None
    with Store.open(path) as other:
        if other.dataset.name != dataset or split not in other.dataset.splits:
            raise InputError(
                f"{given}: {other.path} contains the data set {other.dataset.name} with "
                f"the splits {', '.join(other.dataset.splits)}; give a store of the data "
                f"set {dataset} that has split {split}"
            )
        classes = chosen_classes(other, options.classes, options.without)
        others = videos_of_split(other, other.video_ids, classes, split)
    names = held_out_videos(others, options.validation)
    held_keys = {_group_key(name, others[name]) for name in names}
    return {
        name
        for name, facts in videos.items()
        if facts.part == "train" and _group_key(name, facts) in held_keys
    }


def _group_key(video_id: str, facts: VideoFacts) -> tuple[str, str]:
    """A video without a group is its own group."""
    return facts.group, "" if facts.group else video_id


def _validation_origin(
    videos: dict[str, VideoFacts], held_out: set[str], options: TrainOptions, split: str
) -> list[str]:
    """A line on videos for validation that were not cut from the training part as usual."""
    stated = len(stated_validation(videos))
    if stated and not held_out:
        return [
            f"split {split}: VALIDATION=0, so the {counted(stated, 'video')} of its validation part "
            "are not used"
        ]
    if stated:
        return [
            f"split {split}: validation uses the {counted(stated, 'video')} of its validation part, "
            "and no training videos"
        ]
    if options.validation_store:
        return [
            f"split {split}: the {len(held_out)} validation videos were chosen with "
            f"VALIDATION_STORE={options.validation_store}"
        ]
    return []


def _why_none_held_out(options: TrainOptions) -> str:
    """Why a run with VALIDATION above 0 has no validation part."""
    if options.validation_store:
        return (
            "no training video belongs to a group that "
            f"VALIDATION_STORE={options.validation_store} holds out"
        )
    return "no class has at least two groups of related videos"


def _check_validation(options: TrainOptions, split: str, *, has_validation: bool) -> None:
    """Raises InputError for options that need a validation part if there is none."""
    needs = {"SCHEDULE": options.schedule == "plateau", "BEST_BY": options.best_by == "loss"}
    for name, is_needed in needs.items():
        if not is_needed or has_validation:
            continue
        given = f"{name}={getattr(options, name.lower())} needs a validation part"
        if not options.validation:
            raise InputError(
                f"{given}, but VALIDATION=0 holds out no videos; give VALIDATION above 0 "
                f"(for example 0.2), or another {name}"
            )
        raise InputError(
            f"{given}, but split {split} has none because {_why_none_held_out(options)}; give "
            f"another {name}"
        )
