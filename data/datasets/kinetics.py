"""Kinetics-400, -600 and -700 (Kay et al. 2017, Carreira et al. 2018, 2019): clips of ten seconds, each
from another video of YouTube, with official lists.

Many clips are no longer available, so a folder usually contains only a part of them.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from reelbank.data.console import some
from reelbank.data.datasets.discovery import existing_folder, find_videos
from reelbank.data.datasets.lists import csv_list, list_text
from reelbank.data.datasets.types import PARTS, Dataset, DatasetOptions, DatasetSpec, Video
from reelbank.data.errors import InputError

# The lists are distributed under these names. At least one of them must exist.
LISTS = {
    "train": ("train.csv",),
    "validation": ("val.csv", "validate.csv", "validation.csv"),
    "test": ("test.csv",),
}
_EXPECTED = "train.csv, val.csv (or validate.csv) and test.csv"
_COLUMNS = ("youtube_id", "time_start", "time_end")  # and `label`, which some test lists leave out
# The official parts, and the usual protocol: the validation list is tested on, because its labels
# were public from the beginning.
SPLITS = ("1", "val")
_PARTS_IN_SPLITS = {
    "train": ("train", "train"),
    "validation": ("validation", "test"),
    "test": ("test", ""),
}
_CLIP_NAME = re.compile(r"([\w-]{11})_(\d{6})_(\d{6})", re.ASCII)


class Clip(NamedTuple):
    """The clip of a video on YouTube from one second to another."""

    youtube_id: str
    start_seconds: int
    end_seconds: int


@dataclass(frozen=True)
class Listed:
    """A row of a list. label: "" if the list has no labels."""

    label: str
    part: str


def load(options: DatasetOptions) -> Dataset:
    """Load the videos below ROOT that the official lists contain, as described in docs/datasets.md.
    Raises InputError for a wrong ROOT or LISTS, and for a malformed list (file, line, column)."""
    root = existing_folder(options.root, "ROOT", options.name)
    listed = _read_lists(options)
    paths, notes = find_videos(root)
    clips = _clips_of_names(paths, listed)
    videos: list[Video] = []
    first_of: dict[Clip, str] = {}
    again = []
    for video_id, clip in clips.items():
        if clip in first_of:
            again.append(video_id)
            continue
        first_of[clip] = video_id
        row = listed[clip]
        videos.append(
            Video(
                video_id,
                paths[video_id],
                row.label,
                group=clip.youtube_id,
                parts=_PARTS_IN_SPLITS[row.part],
            )
        )
    if not videos:
        raise InputError(
            f"ROOT={root} contains no video that is listed in LISTS={options.splits_dir}; expected "
            "names such as 0wR5jVB-WPk_000417_000427.mp4"
        )
    present = Counter(listed[clip].part for clip in first_of)
    counts = Counter(row.part for row in listed.values())
    if len(first_of) < len(listed):
        of_parts = ", ".join(
            f"{present[part]:,} of {counts[part]:,} for {_PURPOSES[part]}"
            for part in PARTS
            if counts[part]
        )
        notes.append(
            f"ROOT contains {len(first_of):,} of the {len(listed):,} listed videos ({of_parts})"
        )
    foreign = [video_id for video_id in paths if video_id not in clips]
    if foreign:
        notes.append(
            f"{len(foreign):,} videos left out because no list contains them: {some(foreign)}"
        )
    if again:
        notes.append(
            f"{len(again):,} videos left out because ROOT contains the same clip in another place: "
            f"{some(again)}"
        )
    classes = tuple(sorted({row.label for row in listed.values()} - {""}))
    return Dataset(
        f"{options.name}-{len(classes)}",
        root,
        tuple(videos),
        classes,
        SPLITS,
        notes=tuple(notes),
    )


_PURPOSES = {"train": "training", "validation": "validation", "test": "testing"}


def _clips_of_names(video_ids: Iterable[str], listed: Mapping[Clip, Listed]) -> dict[str, Clip]:
    """id -> its clip, for the videos that are listed. A name without times means the only clip of its
    video on YouTube."""
    of_youtube: dict[str, list[Clip]] = {}
    for clip in listed:
        of_youtube.setdefault(clip.youtube_id, []).append(clip)
    clips = {}
    for video_id in video_ids:
        name = video_id.rpartition("/")[2]
        if match := _CLIP_NAME.fullmatch(name):
            candidates = [Clip(match[1], int(match[2]), int(match[3]))]
        else:
            candidates = of_youtube.get(name, [])
        if len(candidates) == 1 and candidates[0] in listed:
            clips[video_id] = candidates[0]
    return clips


def _read_lists(options: DatasetOptions) -> dict[Clip, Listed]:
    """The rows of all lists. Raises InputError if there is no list, or if lists contradict each
    other."""
    if not options.splits_dir:
        raise InputError(
            f"DATASET={options.name} needs the official lists; give LISTS=<folder with {_EXPECTED}>"
        )
    folder = existing_folder(options.splits_dir, "LISTS", options.name)
    listed: dict[Clip, Listed] = {}
    for part, names in LISTS.items():
        path = next((folder / name for name in names if (folder / name).is_file()), None)
        if path is None:
            continue
        for line, clip, label in read_list(path):
            row = Listed(label, part)
            if listed.setdefault(clip, row) != row:
                other = listed[clip]
                raise InputError(
                    f"{path}, line {line}: the clip {clip.youtube_id} from second "
                    f"{clip.start_seconds} is also listed for {_PURPOSES[other.part]}"
                    f"{f' as {other.label!r}' if other.label else ''}; use the official lists"
                )
    if not listed:
        raise InputError(f"LISTS={options.splits_dir}: expected {_EXPECTED}")
    return listed


def read_list(path: Path) -> list[tuple[int, Clip, str]]:
    """The rows of a list: line, clip and label. Raises InputError with line and column."""
    rows = []
    for line, where, row in csv_list(path, list_text(path), _COLUMNS):
        if not re.fullmatch(r"[\w-]{11}", row["youtube_id"], re.ASCII):
            raise InputError(
                f"{where}, column youtube_id: expected 11 letters, digits, '-' and '_' (got "
                f"'{row['youtube_id'][:40]}')"
            )
        start, end = (_seconds(row, name, where) for name in _COLUMNS[1:])
        rows.append((line, Clip(row["youtube_id"], start, end), row.get("label", "")))
    return rows


def _seconds(row: Mapping[str, str], name: str, where: str) -> int:
    if not re.fullmatch(r"\d{1,6}(\.0*)?", row[name], re.ASCII):
        raise InputError(
            f"{where}, column {name}: expected a whole number of seconds below 1,000,000 (got "
            f"'{row[name][:40]}')"
        )
    return int(float(row[name]))


KINETICS = DatasetSpec(load, takes_lists=True, has_editions=True)
