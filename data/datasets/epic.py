"""EPIC-KITCHENS-100 (Damen et al. 2022): long first-person videos of kitchens, in which each action is a
verb and a noun. Each action becomes a video. There is one split, the official one.

The labels of the official test list are not public, so results are reported on the validation list: it
is the test part here, and the actions of the test list are in no part.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from reelbank.data.console import some
from reelbank.data.datasets.discovery import existing_folder, find_videos
from reelbank.data.datasets.lists import csv_list, list_text
from reelbank.data.datasets.types import Dataset, DatasetOptions, DatasetSpec, Video
from reelbank.data.datasets.untrimmed import change_notes, span_inside
from reelbank.data.errors import InputError

VERBS_FILE, NOUNS_FILE = "EPIC_100_verb_classes.csv", "EPIC_100_noun_classes.csv"
LISTS = {  # by part
    "train": "EPIC_100_train.csv",
    "test": "EPIC_100_validation.csv",
    "": "EPIC_100_test_timestamps.csv",
}
_EXPECTED = f"{VERBS_FILE}, {NOUNS_FILE}, {LISTS['train']} and {LISTS['test']}"
_COLUMNS = ("narration_id", "video_id", "start_timestamp", "stop_timestamp")
_CLASS_COLUMNS = ("verb_class", "noun_class")
_CLOCK = re.compile(r"(\d{1,3}):([0-5]\d):([0-5]\d(?:\.\d{1,9})?)", re.ASCII)


@dataclass(frozen=True)
class Segment:
    """A row of a list: an action. id: unique in the data set; file: name of the video file without its
    ending; verb, noun: numbers of classes, -1 if they are not public."""

    id: str
    file: str
    start_seconds: float
    end_seconds: float
    part: str
    verb: int = -1
    noun: int = -1


@dataclass(frozen=True)
class Lists:
    """The official lists. verbs, nouns: classes in the order of their numbers."""

    verbs: tuple[str, ...]
    nouns: tuple[str, ...]
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class Labels:
    """The classes of a data set, and the label of a segment with a verb and a noun."""

    classes: tuple[str, ...]
    of: Callable[[Segment], str]


def verb_labels(lists: Lists) -> Labels:
    """The 97 classes of verbs, in their official order."""
    return Labels(lists.verbs, lambda segment: lists.verbs[segment.verb])


def noun_labels(lists: Lists) -> Labels:
    """The 300 classes of nouns, in their official order."""
    return Labels(lists.nouns, lambda segment: lists.nouns[segment.noun])


def action_labels(lists: Lists) -> Labels:
    """Each pair of a verb and a noun in the lists is a class, such as "open door"; ordered by the
    numbers of verb and noun."""
    pairs = {(segment.verb, segment.noun) for segment in lists.segments if segment.verb >= 0}
    classes = tuple(f"{lists.verbs[verb]} {lists.nouns[noun]}" for verb, noun in sorted(pairs))
    return Labels(
        classes, lambda segment: f"{lists.verbs[segment.verb]} {lists.nouns[segment.noun]}"
    )


def load(options: DatasetOptions, labelling: Callable[[Lists], Labels]) -> Dataset:
    """Load the actions of the videos below ROOT, as described in docs/datasets.md. labelling: what the
    classes are. Raises InputError for a wrong ROOT or LISTS, and for a malformed list (file, line,
    column)."""
    root = existing_folder(options.root, "ROOT", options.name)
    if not options.splits_dir:
        raise InputError(
            f"DATASET={options.name} needs the official lists; give LISTS=<folder with {_EXPECTED}>"
        )
    lists = read_lists(existing_folder(options.splits_dir, "LISTS", options.name))
    labels = labelling(lists)
    paths, notes = find_videos(root)
    listed = {segment.file for segment in lists.segments}
    id_of: dict[str, str] = {}  # name of a file -> its id
    for video_id in paths:
        name = video_id.rpartition("/")[2]
        if name in listed:
            id_of.setdefault(name, video_id)
    if not id_of:
        raise InputError(
            f"ROOT={root} contains no video that is listed in LISTS={options.splits_dir}, such as "
            f"{some(sorted(listed))}"
        )
    videos, changes = [], Counter[str]()
    for segment in lists.segments:
        file_id = id_of.get(segment.file)
        if file_id is None:
            continue
        span = span_inside(segment.start_seconds, segment.end_seconds, math.inf, changes)
        if span is None:
            continue
        videos.append(
            Video(
                f"{file_id}/{segment.id}",
                paths[file_id],
                labels.of(segment) if segment.verb >= 0 else "",
                group=segment.file,
                parts=(segment.part,),
                span_seconds=span,
            )
        )
    if len(id_of) < len(listed):
        notes.append(f"ROOT contains {len(id_of):,} of the {len(listed):,} listed videos")
    notes += change_notes(changes)
    foreign = sorted(paths.keys() - set(id_of.values()))
    if foreign:
        notes.append(
            f"{len(foreign):,} videos left out because no list contains them, or because ROOT "
            f"contains them twice: {some(foreign)}"
        )
    return Dataset(
        options.name,
        root,
        tuple(sorted(videos, key=lambda video: video.id)),
        labels.classes,
        splits=("1",),
        notes=tuple(notes),
        files=len({video.path for video in videos}),
    )


def read_lists(folder: Path) -> Lists:
    """Read the official lists in a folder; that of the test actions may be missing. Raises
    InputError."""
    verbs = read_classes(folder / VERBS_FILE)
    nouns = read_classes(folder / NOUNS_FILE)
    segments: dict[str, Segment] = {}
    part_of: dict[str, str] = {}
    for part, name in LISTS.items():
        path = folder / name
        if part == "" and not path.exists():
            continue
        for segment in read_segments(path, part, (verbs, nouns)):
            if segment.id in segments:
                raise InputError(f"{path}: {segment.id} occurs twice; use the official lists")
            if part_of.setdefault(segment.file, part) != part:
                # Its actions would be trained on and tested.
                raise InputError(
                    f"{path}: video {segment.file} is also in another list; use the official lists"
                )
            segments[segment.id] = segment
    return Lists(verbs, nouns, tuple(segments.values()))


def read_classes(path: Path) -> tuple[str, ...]:
    """The classes in the order of their numbers, from the columns id and key. Raises InputError."""
    names: list[str] = []
    for _, where, row in csv_list(path, list_text(path, _EXPECTED), ("id", "key")):
        if row["id"] != str(len(names)):
            raise InputError(
                f"{where}, column id: expected {len(names)}, because classes are numbered from 0 on "
                f"(got '{row['id'][:40]}')"
            )
        if not row["key"] or row["key"] in names:
            raise InputError(
                f"{where}, column key: expected a name that no other class has (got "
                f"'{row['key'][:40]}')"
            )
        names.append(row["key"])
    if not names:
        raise InputError(f"{path}: contains no classes; use the official list")
    return tuple(names)


def read_segments(path: Path, part: str, classes: Sequence[Sequence[str]]) -> list[Segment]:
    """The rows of a list. part: "train", "test", or "" for a list without classes; classes: verbs and
    nouns. Raises InputError with line and column."""
    columns = _CLASS_COLUMNS if part else ()
    segments = []
    for _, where, row in csv_list(path, list_text(path, _EXPECTED), (*_COLUMNS, *columns)):
        for name in ("narration_id", "video_id"):
            if not re.fullmatch(r"[\w-]+", row[name], re.ASCII):
                raise InputError(
                    f"{where}, column {name}: expected letters, digits, '-' and '_', such as "
                    f"P01_101 (got '{row[name][:40]}')"
                )
        verb, noun = -1, -1
        if part:
            verb, noun = (
                _class_number(row[name], names, f"{where}, column {name}")
                for name, names in zip(columns, classes, strict=True)
            )
        segments.append(
            Segment(
                id=row["narration_id"],
                file=row["video_id"],
                start_seconds=_seconds(row["start_timestamp"], f"{where}, column start_timestamp"),
                end_seconds=_seconds(row["stop_timestamp"], f"{where}, column stop_timestamp"),
                part=part,
                verb=verb,
                noun=noun,
            )
        )
    return segments


def _class_number(text: str, names: Sequence[str], where: str) -> int:
    if not re.fullmatch(r"\d{1,6}", text, re.ASCII) or int(text) >= len(names):
        raise InputError(
            f"{where}: expected the number of a class, 0 to {len(names) - 1} (got '{text[:40]}')"
        )
    return int(text)


def _seconds(text: str, where: str) -> float:
    match = _CLOCK.fullmatch(text)
    if not match:
        raise InputError(
            f"{where}: expected a time as hours:minutes:seconds, such as 00:01:09.86 (got "
            f"'{text[:40]}')"
        )
    return 3600 * int(match[1]) + 60 * int(match[2]) + float(match[3])


ACTIONS = DatasetSpec(partial(load, labelling=action_labels), takes_lists=True)
VERBS = DatasetSpec(partial(load, labelling=verb_labels), takes_lists=True)
NOUNS = DatasetSpec(partial(load, labelling=noun_labels), takes_lists=True)
