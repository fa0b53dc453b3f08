"""THUMOS'14 (Jiang et al. 2014), temporal action detection: long videos with annotated actions of 20
classes. There is one split: as in publications, models are trained on the official validation set and
tested on the test set."""

import re
from collections import defaultdict
from pathlib import Path

from reelbank.data.datasets.discovery import existing_folder
from reelbank.data.datasets.types import Dataset, DatasetOptions, DatasetSpec
from reelbank.data.datasets.untrimmed import Action, Annotated, untrimmed_dataset
from reelbank.data.errors import InputError
from reelbank.data.text_files import read_text

_PARTS = {"val": "train", "test": "test"}  # by the ending of a list's name
_AMBIGUOUS = "Ambiguous"  # the list of actions whose class is not clear
_LINE = re.compile(
    r"(video_(?:validation|test)_\d{7})\s+(\d+(?:\.\d*)?)\s+(\d+(?:\.\d*)?)", re.ASCII
)
_EXPECTED = "<Class>_val.txt and <Class>_test.txt"


def load(options: DatasetOptions) -> Dataset:
    """Load the videos below ROOT, as described in docs/datasets.md. Raises InputError for a wrong ROOT
    or LISTS, and for a malformed annotation (file, line)."""
    root = existing_folder(options.root, "ROOT", options.name)
    if not options.splits_dir:
        raise InputError(
            f"DATASET={options.name} needs the official annotations; give LISTS=<folder with the "
            f"lists {_EXPECTED}>"
        )
    folder = existing_folder(options.splits_dir, "LISTS", options.name)
    actions: dict[str, list[Action]] = defaultdict(list)
    part_of: dict[str, str] = {}
    classes: set[str] = set()
    for path in sorted(folder.rglob("*_*.txt")):  # the sets are distributed in different folders
        label, _, ending = path.stem.rpartition("_")
        if ending not in _PARTS or label == _AMBIGUOUS:
            continue
        classes.add(label)
        for name, action in read_list(path, label):
            actions[name].append(action)
            if part_of.setdefault(name, _PARTS[ending]) != _PARTS[ending]:
                raise InputError(f"{path}: {name} is in lists of both sets; use the official lists")
    if not actions:
        raise InputError(f"LISTS={options.splits_dir}: contains no lists {_EXPECTED}")
    rows = {name: Annotated(part_of[name], of_file) for name, of_file in actions.items()}
    return untrimmed_dataset(options, root, rows, sorted(classes), name_of=str)


def read_list(path: Path, label: str) -> list[tuple[str, Action]]:
    """The names of files and the actions of a list. Raises InputError with the line."""
    try:
        text = read_text(path)
    except OSError as error:
        raise InputError(f"LISTS: {path} cannot be read: {error}") from None
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        if not match:
            raise InputError(
                f"{path}, line {number}: expected a line such as 'video_validation_0000051 67.5 "
                f"75.9' (got '{line.strip()[:80]}')"
            )
        found.append((match[1], Action(label, float(match[2]), float(match[3]))))
    return found


THUMOS14 = DatasetSpec(load, takes_lists=True)
