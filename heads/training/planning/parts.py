"""The videos that a run is trained, validated and tested on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any

from reelbank.data.console import class_hint, some
from reelbank.data.datasets.splits import cut_validation
from reelbank.data.datasets.types import PARTS
from reelbank.data.errors import InputError
from reelbank.data.feature_recipe import FeatureRecipe
from reelbank.data.identity import signature_of
from reelbank.data.positions import positions
from reelbank.data.store.reader import Store


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """The facts about a video that a plan needs. part: one of PARTS."""

    label: str
    group: str
    part: str


def is_multilabel(store: Store) -> bool:
    return store.dataset.multilabel


def videos_of_split(
    store: Store, common: Sequence[str], classes: Sequence[str], split: str
) -> dict[str, VideoFacts]:
    """The `used_videos` of a split. Raises InputError when there is no training video."""
    videos = used_videos(store, common, classes, split)
    if not any(facts.part == "train" for facts in videos.values()):
        raise InputError(
            f"SPLIT={split}: the store contains no training video of this split; 'reelbank "
            "inspect' describes the store"
        )
    return videos


def used_videos(
    store: Store, common: Sequence[str], classes: Sequence[str], split: str
) -> dict[str, VideoFacts]:
    """The videos of a part of the split that have one of the classes, by id."""
    number, wanted = store.dataset.splits.index(split), frozenset(classes)
    videos: dict[str, VideoFacts] = {}
    takes_part: dict[VideoFacts, VideoFacts | None] = {}  # equal facts are kept once
    for position in positions(common, store.video_ids).tolist():
        label, group, parts = store.labels[position], store.groups[position], store.parts[position]
        facts = VideoFacts(label, group, parts[number])
        if facts not in takes_part:
            takes_part[facts] = facts if _takes_part(store, facts, wanted) else None
        if used := takes_part[facts]:
            videos[store.video_ids[position]] = used
    return videos


def _takes_part(store: Store, facts: VideoFacts, classes: Set[str]) -> bool:
    """Whether a video belongs to a part and has one of the classes. In multi-label data, a test or
    validation video with none of the classes is used too, as a negative for every class."""
    if facts.part not in PARTS:
        return False
    if is_multilabel(store) and facts.part != "train":
        return True
    return not classes.isdisjoint(store.dataset.label_names(facts.label))


def absent_notes(stores: Sequence[Store], common: Sequence[str]) -> list[str]:
    """A line about the videos that are missing in one of the stores."""
    if len(stores) == 1:
        return []
    first = stores[0]
    unused = {
        name for name, parts in zip(first.video_ids, first.parts, strict=True) if not any(parts)
    }
    everywhere = set().union(*(store.video_ids for store in stores))
    absent = everywhere - set(common) - unused
    if not absent:
        return []
    return [
        f"{len(absent)} videos are left out because at least one of the {len(stores)} "
        f"stores does not contain them: {some(sorted(absent))}"
    ]


def held_out_videos(videos: dict[str, VideoFacts], share: float) -> set[str]:
    """The videos for validation: the validation part of the split if it has one, otherwise this
    share of the training videos; none if the share is 0."""
    if not share:
        return set()
    if stated := stated_validation(videos):
        return stated
    train = {name: facts for name, facts in videos.items() if facts.part == "train"}
    labels = [facts.label for facts in train.values()]
    groups = [facts.group for facts in train.values()]
    # The seed is always 0, so that the runs of a split share one validation part and their figures
    # are comparable.
    return cut_validation(tuple(train), labels, groups, share, 0)


def stated_validation(videos: dict[str, VideoFacts]) -> set[str]:
    """The validation part of the split; empty if the split has none."""
    return {name for name, facts in videos.items() if facts.part == "validation"}


def parts_of(videos: dict[str, VideoFacts], held_out: set[str]) -> dict[str, tuple[str, ...]]:
    train = [name for name, facts in videos.items() if facts.part == "train"]
    return {
        "train": tuple(name for name in train if name not in held_out),
        "validation": tuple(name for name in videos if name in held_out),
        "test": tuple(name for name, facts in videos.items() if facts.part == "test"),
    }


def class_notes(
    store: Store,
    split: str,
    ids: dict[str, tuple[str, ...]],
    videos: dict[str, VideoFacts],
    classes: Sequence[str],
) -> list[str]:
    """Lines about classes that have no video in a part."""
    notes = []
    for part, names in ids.items():
        labels = {videos[name].label for name in names}
        present = set().union(*map(store.dataset.label_names, labels))
        absent = [name for name in classes if name not in present]
        if absent and (names or part == "test"):
            name = "training" if part == "train" else part
            notes.append(
                f"split {split}: the {name} part has no video of these classes: {some(absent, 5)}"
            )
    return notes


def coverage_of(stores: Sequence[Store], videos: dict[str, VideoFacts], held_out: set[str]) -> str:
    """Hash of the videos, the part of each, and the checksums of their features."""
    names = list(videos)
    places = [positions(names, store.video_ids, absent=-1) for store in stores]

    def values() -> Iterator[tuple[str, list[Any]]]:
        for number in sorted(range(len(names)), key=names.__getitem__):
            name = names[number]
            facts = videos[name]
            of_stores: list[int] = []
            for store, found in zip(stores, places, strict=True):
                if (place := int(found[number])) >= 0:
                    of_stores += (int(store.rows[place]), int(store.checksums[place]))
            yield name, [facts.label, facts.group, facts.part, *of_stores, name in held_out]

    return signature_of(values())


def chosen_classes(
    store: Store, names: tuple[str, ...], without: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """The classes in `names`, or without names all classes that have a video in the store, except
    those in `without`. They are always in the data set's order. Raises InputError for a name in
    `names` that has no video, and for one in `without` that is not a class of the data set."""
    for name in without:
        if name not in store.dataset.classes:
            hint = class_hint(name, store.dataset.classes)
            raise InputError(f"WITHOUT: {store.dataset.name} has no class '{name}'{hint}")
    present = set().union(*map(store.dataset.label_names, set(store.labels)))
    for name in names:
        if name not in present:
            hint = class_hint(name, present)
            is_sound = FeatureRecipe.from_json(store.recipe).is_sound
            with_sound = " with sound in it" if is_sound and not hint else ""
            raise InputError(
                f"CLASSES: {store.path.name} has no video of class '{name}'{hint}{with_sound}"
            )
    used = set(names or present).difference(without)
    return tuple(name for name in store.dataset.classes if name in used)
