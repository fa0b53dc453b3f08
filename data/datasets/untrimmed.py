"""Data sets of long videos with annotated actions, as videos: each action of a training video becomes a
video of its own with one class, and a test video is whole and has all of its classes."""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from reelbank.data.console import counted, some
from reelbank.data.datasets.discovery import find_videos
from reelbank.data.datasets.types import Dataset, DatasetOptions, Video
from reelbank.data.errors import InputError


class Action(NamedTuple):
    """An annotated action: its class, and its start and end in the file."""

    label: str
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class Annotated:
    """A file. part: "train", "test", or "" for files without public annotations; length_seconds: inf
    if it is not annotated."""

    part: str
    actions: Sequence[Action]
    length_seconds: float = math.inf


def untrimmed_dataset(
    options: DatasetOptions,
    root: Path,
    rows: Mapping[str, Annotated],
    classes: Sequence[str],
    *,
    name_of: Callable[[str], str],
) -> Dataset:
    """The data set of the files below `root` that are annotated. rows: by name; name_of: the name in
    `rows` of a file's name without its ending. Raises InputError if there is none."""
    paths, notes = find_videos(root)
    names = {video_id: name_of(video_id.rpartition("/")[2]) for video_id in paths}
    file_of: dict[str, str] = {}  # name -> id of the file
    for video_id, name in names.items():
        if name in rows:
            file_of.setdefault(name, video_id)
    if not file_of:
        raise InputError(
            f"ROOT={root} contains no video that is listed in LISTS={options.splits_dir}, such as "
            f"{some(sorted(rows))}"
        )
    videos: list[Video] = []
    changes = Counter[str]()
    without_action = []
    for name, video_id in file_of.items():
        row = rows[name]
        whole = Video(video_id, paths[video_id], _labels(row, classes), name, (row.part,))
        if row.part != "train":
            videos.append(whole)
            continue
        actions = _cut_out(row, whole, changes)
        videos += actions
        if not actions:
            without_action.append(video_id)
    notes += _notes(file_of, rows, changes)
    foreign = [video_id for video_id, name in names.items() if file_of.get(name) != video_id]
    if foreign:
        notes.append(
            f"{len(foreign):,} videos left out because they are not listed, or because ROOT contains "
            f"them twice: {some(foreign)}"
        )
    if without_action:
        notes.append(
            f"training videos left out because they contain no actions: {some(without_action)}"
        )
    return Dataset(
        options.name,
        root,
        tuple(sorted(videos, key=lambda video: video.id)),
        tuple(classes),
        splits=("1",),
        notes=tuple(notes),
        multilabel=True,
        files=len(file_of),
    )


def _labels(row: Annotated, classes: Sequence[str]) -> str:
    """The classes of a whole file in their official order, joined by ';'."""
    names = {action.label for action in row.actions}
    return ";".join(name for name in classes if name in names)


def span_inside(
    start_seconds: float, end_seconds: float, length_seconds: float, changes: Counter[str]
) -> tuple[float, float] | None:
    """The part of an action that is inside its video, or None. `changes` counts actions that are 'cut
    short' at the end of the video, or 'left out' because they have no duration or begin after it."""
    inside_seconds = min(end_seconds, length_seconds)
    if start_seconds >= inside_seconds:
        changes["left out"] += 1
        return None
    changes["cut short"] += inside_seconds < end_seconds
    return start_seconds, inside_seconds


def change_notes(changes: Counter[str]) -> list[str]:
    """What `span_inside` has counted, as notes of a data set."""
    notes = []
    if changes["left out"]:
        notes.append(
            f"left out {counted(changes['left out'], 'action')} without a duration, or with a start "
            "after the end of the video"
        )
    if changes["cut short"]:
        notes.append(
            f"shortened {counted(changes['cut short'], 'action')} with an end after the end of the "
            "video"
        )
    return notes


def _cut_out(row: Annotated, whole: Video, changes: Counter[str]) -> list[Video]:
    """Each action as a video `<file>/<class>-<n>`, n counted from 1 in each class. changes: as of
    `span_inside`."""
    videos, numbers = [], Counter[str]()
    for label, start, end in row.actions:
        word = re.sub(r"\W+", "_", label)
        numbers[word] += 1
        span_seconds = span_inside(start, end, row.length_seconds, changes)
        if span_seconds is None:
            continue
        videos.append(
            Video(
                f"{whole.id}/{word}-{numbers[word]}",
                whole.path,
                label,
                group=whole.group,
                parts=whole.parts,
                span_seconds=span_seconds,
            )
        )
    return videos


def _notes(
    file_of: Mapping[str, str], rows: Mapping[str, Annotated], changes: Counter[str]
) -> list[str]:
    notes = []
    if len(file_of) < len(rows):
        notes.append(f"ROOT contains {len(file_of):,} of the {len(rows):,} listed videos")
    return notes + change_notes(changes)
