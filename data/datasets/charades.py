"""Charades (Sigurdsson et al. 2016): videos of homes with 157 actions, several actions per video.

Training videos are cut into their annotated actions, and each action becomes a video. Test videos
are not cut, and their label contains all their actions. There is one split, the official one.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from reelbank.data.console import some
from reelbank.data.datasets.discovery import existing_folder, find_videos
from reelbank.data.datasets.lists import csv_list, list_text
from reelbank.data.datasets.types import Dataset, DatasetOptions, DatasetSpec, Video
from reelbank.data.datasets.untrimmed import change_notes, span_inside
from reelbank.data.errors import InputError

CSV_FILES = {"train": "Charades_v1_train.csv", "test": "Charades_v1_test.csv"}
CLASSES_FILE = "Charades_v1_classes.txt"
# Of Charades_v1_rgb, "the videos stored as jpg frames at 24 fps" (the data set's README).
OFFICIAL_FPS = 24.0
_ALL_FILES = ", ".join((*CSV_FILES.values(), CLASSES_FILE))
_COLUMNS = ("id", "subject", "actions", "length")  # the columns that are read, of eleven
_NUMBER = r"\d+(?:\.\d*)?"
_LONGEST_SECONDS = 1e6  # eleven days; float() turns a number of 400 digits into infinity


@dataclass(frozen=True)
class Annotated:
    """A row of a CSV. actions: (class, start, end) in seconds, unchanged; length_seconds: length of
    the video."""

    id: str
    part: str
    subject: str
    actions: tuple[tuple[str, float, float], ...]
    length_seconds: float


def read_classes(path: Path) -> dict[str, str]:
    """Code -> class name. The name is the whole line: `c000` -> `c000 Holding some clothes`.

    Raises InputError (file, line) for a malformed line, a code out of order, and a name that
    contains ';', which separates the names in a label."""
    classes: dict[str, str] = {}
    for number, line in enumerate(list_text(path, _ALL_FILES).splitlines(), 1):
        name = line.strip()
        if not name:
            continue
        code = f"c{len(classes):03d}"
        if not re.fullmatch(rf"{code} \S.*", name):
            raise InputError(f"{path}, line {number}: expected '{code} <name>' (got '{name}')")
        if ";" in name:
            raise InputError(
                f"{path}, line {number}: the class name '{name}' must not contain ';', which "
                "separates class names; replace the ';'"
            )
        classes[code] = name
    if not classes:
        raise InputError(f"{path} is empty; expected lines such as 'c000 Holding some clothes'")
    return classes


def read_annotations(path: Path, part: str, classes: dict[str, str]) -> list[Annotated]:
    """The rows of one of the two CSVs; `classes` is the result of `read_classes`. Raises InputError
    with line and column."""
    rows: list[Annotated] = []
    for _, where, row in csv_list(path, list_text(path, _ALL_FILES), _COLUMNS):
        if not re.fullmatch(r"[\w-]+", row["id"]):
            raise InputError(
                f"{where}, column id: the id must consist of letters, digits, '-' and '_' "
                f"(got '{row['id']}')"
            )
        length_seconds = _seconds(row["length"], f"{where}, column length")
        actions = tuple(_actions(row["actions"], f"{where}, column actions", classes))
        rows.append(Annotated(row["id"], part, row["subject"], actions, length_seconds))
    return rows


def _actions(text: str, where: str, classes: dict[str, str]) -> Iterator[tuple[str, float, float]]:
    for action in text.split(";") if text else ():
        match = re.fullmatch(rf"(c\d{{3}}) ({_NUMBER}) ({_NUMBER})", action.strip())
        if not match:
            raise InputError(
                f"{where}: expected '<class> <start> <end>', such as 'c092 11.90 21.20' "
                f"(got '{action.strip()}')"
            )
        if match[1] not in classes:
            raise InputError(
                f"{where}: class {match[1]} is not listed in {CLASSES_FILE}; correct the class, "
                "or use the official files"
            )
        yield match[1], _seconds(match[2], where), _seconds(match[3], where)


def _seconds(text: str, where: str) -> float:
    if not re.fullmatch(_NUMBER, text) or not float(text) < _LONGEST_SECONDS:
        raise InputError(
            f"{where}: expected a number of seconds, at least 0 and below "
            f"{_LONGEST_SECONDS:,.0f} (got '{text[:40]}')"
        )
    return float(text)


class Actions(NamedTuple):
    """The actions of a training video as videos, and how many actions were 'cut short' at the end
    of the video or 'left out' because they have no duration or begin after the end of the video."""

    videos: list[Video]
    changes: Counter[str]


def cut_out(row: Annotated, path: Path, classes: dict[str, str]) -> Actions:
    """Each action of a training video as a Video `<id>/<code>-<n>`, n counted from 1 in each
    class."""
    videos, changes, numbers = [], Counter[str](), Counter[str]()
    for code, start, end in row.actions:
        numbers[code] += 1
        span_seconds = span_inside(start, end, row.length_seconds, changes)
        if span_seconds is None:
            continue
        video_id = f"{row.id}/{code}-{numbers[code]}"
        videos.append(
            Video(
                video_id,
                path,
                label=classes[code],
                group=row.subject,
                parts=("train",),
                span_seconds=span_seconds,
            )
        )
    return Actions(videos, changes)


def has_official_frames(folder: Path) -> bool:
    """Whether the images of a folder are named as in Charades_v1_rgb, 46GP8/46GP8-000001.jpg."""
    try:
        with os.scandir(folder) as entries:
            first = next((entry.name for entry in entries if entry.name.endswith(".jpg")), "")
    except OSError:
        return False
    return bool(re.fullmatch(rf"{re.escape(folder.name)}-\d{{6}}\.jpg", first))


def load(options: DatasetOptions) -> Dataset:
    """Load the videos below ROOT, as described in docs/datasets.md. Raises InputError for a wrong
    ROOT or LISTS, and for a malformed annotation (file, line, column)."""
    root = existing_folder(options.root, "ROOT", options.name)
    annotations = _annotations(options)
    classes, rows = annotations.classes, annotations.rows
    paths, notes = find_videos(root)
    present = {video_id: path for video_id, path in paths.items() if video_id in rows}
    if not present:
        raise InputError(_no_video(root, paths, rows))
    videos: list[Video] = []
    changes = Counter[str]()
    without_action = []
    for video_id, path in present.items():
        row = rows[video_id]
        if row.part == "test":
            label = ";".join(classes[code] for code in sorted({code for code, _, _ in row.actions}))
            videos.append(Video(video_id, path, label, row.subject, ("test",)))
            continue
        actions = cut_out(row, path, classes)
        videos += actions.videos
        changes += actions.changes
        if not actions.videos:
            without_action.append(video_id)
    missing = [video_id for video_id in rows if video_id not in paths]
    foreign = [video_id for video_id in paths if video_id not in rows]
    if missing:
        count = f"ROOT contains {len(present):,} of the {len(rows):,} videos in the CSV files"
        notes.append(f"{count}; missing: {some(missing)}")
    if foreign:
        notes.append(f"videos left out because neither CSV file lists them: {some(foreign)}")
    notes += change_notes(changes)
    if without_action:
        notes.append(
            f"training videos left out because they contain no actions: {some(without_action)}"
        )
    all_official = all(has_official_frames(path) for path in present.values() if path.is_dir())
    return Dataset(
        options.name,
        root,
        tuple(sorted(videos, key=lambda video: video.id)),
        tuple(classes.values()),
        splits=("1",),
        notes=tuple(notes),
        multilabel=True,
        files=len(present),
        image_fps=OFFICIAL_FPS if all_official else 0.0,
    )


class _Annotations(NamedTuple):
    """classes: as returned by `read_classes`. rows: id -> row of one of the CSVs."""

    classes: dict[str, str]
    rows: dict[str, Annotated]


def _annotations(options: DatasetOptions) -> _Annotations:
    """Read the three files of LISTS."""
    if not options.splits_dir:
        raise InputError(
            f"DATASET={options.name} needs the annotation files of the data set; give "
            f"LISTS=<folder with {_ALL_FILES}>"
        )
    lists = existing_folder(options.splits_dir, "LISTS", options.name)
    classes = read_classes(lists / CLASSES_FILE)
    rows: dict[str, Annotated] = {}
    for part, name in CSV_FILES.items():
        for row in read_annotations(lists / name, part, classes):
            if row.id in rows:
                raise InputError(
                    f"{lists / name}: video {row.id} occurs twice, but must occur only once in the "
                    "two CSV files together; remove one of the rows"
                )
            rows[row.id] = row
    return _Annotations(classes, rows)


def _no_video(root: Path, paths: Mapping[str, Path], rows: Mapping[str, Annotated]) -> str:
    """The message for a ROOT without videos of the CSVs; it suggests a folder below that has
    some."""
    folders = Counter(
        video_id.rpartition("/")[0] for video_id in paths if video_id.rpartition("/")[2] in rows
    )
    instead = "; give the folder of the videos, which have names such as 46GP8.mp4"
    if folders:
        instead = f"; use ROOT={root / folders.most_common(1)[0][0]}"
    return (
        f"ROOT={root} contains no video that is listed in "
        f"{' or '.join(CSV_FILES.values())}{instead}"
    )


CHARADES = DatasetSpec(load, takes_lists=True)
