"""ActivityNet 1.3 (Caba Heilbron et al. 2015): long videos of YouTube with annotated actions of 200
classes. There is one split, the official one.

The annotations of the official testing subset are not public, so the validation subset is the test
part, as in publications.
"""

import math
import re
from pathlib import Path
from typing import Any

from reelbank.data.datasets.discovery import existing_folder
from reelbank.data.datasets.lists import json_list
from reelbank.data.datasets.types import Dataset, DatasetOptions, DatasetSpec
from reelbank.data.datasets.untrimmed import Action, Annotated, untrimmed_dataset
from reelbank.data.errors import InputError

LIST = "activity_net.v1-3.min.json"
_PARTS = {"training": "train", "validation": "test", "testing": ""}
_LONGEST_SECONDS = 1e6


def load(options: DatasetOptions) -> Dataset:
    """Load the videos below ROOT, as described in docs/datasets.md. Raises InputError for a wrong ROOT
    or LISTS, and for a malformed annotation."""
    root = existing_folder(options.root, "ROOT", options.name)
    if not options.splits_dir:
        raise InputError(
            f"DATASET={options.name} needs the official annotations; give LISTS=<folder with {LIST}>"
        )
    folder = existing_folder(options.splits_dir, "LISTS", options.name)
    rows = read_annotations(folder / LIST)
    classes: set[str] = set()
    for row in rows.values():
        classes.update(action.label for action in row.actions)
    return untrimmed_dataset(options, root, rows, sorted(classes), name_of=_youtube_id)


def _youtube_id(name: str) -> str:
    """The official names are v_<id>; other tools leave out the prefix."""
    return name[2:] if re.fullmatch(r"v_[\w-]{11}", name, re.ASCII) else name


def read_annotations(path: Path) -> dict[str, Annotated]:
    """The annotations by the id of YouTube. Raises InputError that names the video."""
    document = json_list(path)
    database = document.get("database") if isinstance(document, dict) else None
    if not isinstance(database, dict) or not database:
        raise InputError(f"{path}: expected an object with the key 'database'")
    return {name: _annotated(entry, f"{path}, video {name}") for name, entry in database.items()}


def _annotated(entry: Any, where: str) -> Annotated:
    subset = entry.get("subset") if isinstance(entry, dict) else None
    if not isinstance(subset, str) or subset not in _PARTS:
        raise InputError(f"{where}: subset must be {', '.join(_PARTS)} (got {subset!r})")
    length_seconds = entry.get("duration", math.inf)
    annotations = entry.get("annotations", [])
    if not isinstance(annotations, list) or not _is_time(length_seconds):
        raise InputError(f"{where}: expected a duration in seconds and a list of annotations")
    actions = [_action(annotation, where) for annotation in annotations]
    return Annotated(_PARTS[subset], actions, length_seconds)


def _action(annotation: Any, where: str) -> Action:
    facts = annotation if isinstance(annotation, dict) else {}
    label, segment = facts.get("label"), facts.get("segment")
    is_label = isinstance(label, str) and bool(label) and ";" not in label
    is_segment = isinstance(segment, list) and len(segment) == 2 and all(map(_is_time, segment))
    if not (is_label and is_segment):
        raise InputError(
            f'{where}: expected annotations such as {{"label": "Skiing", "segment": [1.5, 20.0]}} '
            f"(got {str(annotation)[:80]})"
        )
    start_seconds, end_seconds = map(float, facts["segment"])
    return Action(facts["label"], start_seconds, end_seconds)


def _is_time(value: Any) -> bool:
    is_number = type(value) in (int, float)
    return is_number and (value == math.inf or 0 <= value < _LONGEST_SECONDS)


ACTIVITYNET = DatasetSpec(load, takes_lists=True)
