"""Something-Something V2 (Goyal et al. 2017): people act out 174 templates such as "Putting [something]
onto [something]". There is one split, the official one.

The labels of the official test list were not public for years, so results are reported on the
validation list: it is the test part here, and the videos of the test list are in no part.
"""

import re
from pathlib import Path
from typing import NamedTuple

from reelbank.data.console import some
from reelbank.data.datasets.discovery import existing_folder, find_videos
from reelbank.data.datasets.lists import json_list
from reelbank.data.datasets.types import Dataset, DatasetOptions, DatasetSpec, Video
from reelbank.data.errors import InputError

# With the prefix in the first distribution, without it in the present one.
_PREFIX = "something-something-v2-"
CLASSES_FILE = "labels.json"
LISTS = {"train": "train.json", "test": "validation.json", "": "test.json"}  # by part
_EXPECTED = f"{CLASSES_FILE}, {', '.join(LISTS.values())}"


class Listed(NamedTuple):
    """A video of a list. label: "" if it is not known; part: "train", "test" or ""."""

    label: str
    part: str


def load(options: DatasetOptions) -> Dataset:
    """Load the videos below ROOT that the official lists contain, as described in docs/datasets.md.
    Raises InputError for a wrong ROOT or LISTS, and for a malformed list."""
    root = existing_folder(options.root, "ROOT", options.name)
    if not options.splits_dir:
        raise InputError(
            f"DATASET={options.name} needs the official lists; give LISTS=<folder with {_EXPECTED}>"
        )
    lists = existing_folder(options.splits_dir, "LISTS", options.name)
    classes = read_classes(_path(lists, CLASSES_FILE))
    listed: dict[str, Listed] = {}
    for part, name in LISTS.items():
        path = _path(lists, name)
        if part == "" and not path.exists():  # not needed
            continue
        for number, label in read_list(path, classes).items():
            if number in listed:
                raise InputError(
                    f"{path}: video {number} is also in another list; use the official lists"
                )
            listed[number] = Listed(label, part)
    paths, notes = find_videos(root)
    videos, foreign, present = [], [], set()
    for video_id, path in paths.items():
        number = video_id.rpartition("/")[2]
        if number not in listed or number in present:
            foreign.append(video_id)
            continue
        present.add(number)
        row = listed[number]
        videos.append(Video(video_id, path, row.label, group="", parts=(row.part,)))
    if not videos:
        raise InputError(
            f"ROOT={root} contains no video that is listed in LISTS={options.splits_dir}; expected "
            "names such as 78687.webm"
        )
    if len(present) < len(listed):
        notes.append(f"ROOT contains {len(present):,} of the {len(listed):,} listed videos")
    if foreign:
        notes.append(
            f"{len(foreign):,} videos left out because no list contains them, or because ROOT "
            f"contains them twice: {some(foreign)}"
        )
    return Dataset(options.name, root, tuple(videos), classes, ("1",), notes=tuple(notes))


def read_classes(path: Path) -> tuple[str, ...]:
    """The classes in the order of their numbers, from `{"<class>": "<number>"}`. Raises InputError."""
    document = json_list(path, _EXPECTED)
    numbers = [str(number) for number in document.values()] if isinstance(document, dict) else []
    if not numbers or sorted(numbers) != sorted(map(str, range(len(numbers)))):
        raise InputError(
            f'{path}: expected an object such as {{"Bending something": "0", ...}} with the numbers '
            "from 0 on"
        )
    return tuple(sorted(document, key=lambda name: int(document[name])))


def read_list(path: Path, classes: tuple[str, ...]) -> dict[str, str]:
    """The number of each video -> its class, "" if the list has none. Raises InputError."""
    known = {name.casefold(): name for name in classes}
    document = json_list(path, _EXPECTED)
    if not isinstance(document, list):
        raise InputError(f"{path}: expected a list of objects")
    labels: dict[str, str] = {}
    for position, entry in enumerate(document, 1):
        where = f"{path}, entry {position}"
        number = str(entry.get("id", "")) if isinstance(entry, dict) else ""
        if not re.fullmatch(r"\d+", number, re.ASCII):
            raise InputError(f"{where}: expected an object with an id that is a number")
        template = str(entry.get("template", ""))
        label = re.sub(r"[\[\]]", "", template)  # Putting [something] -> Putting something
        if template and label.casefold() not in known:
            raise InputError(f"{where}: the template '{template}' is not a class of {CLASSES_FILE}")
        if number in labels:
            raise InputError(f"{where}: video {number} occurs twice")
        labels[number] = known[label.casefold()] if template else ""
    return labels


def _path(lists: Path, name: str) -> Path:
    """The file of this name, with or without the prefix."""
    with_prefix = lists / f"{_PREFIX}{name}"
    return with_prefix if with_prefix.exists() else lists / name


SSV2 = DatasetSpec(load, takes_lists=True)
