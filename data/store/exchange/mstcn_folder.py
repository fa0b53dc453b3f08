"""A folder of features and classes of rows as MS-TCN reads it: `features/<video>.npy` (C, T),
`groundTruth/<video>.txt`, `mapping.txt` and `splits/<part>.split<n>.bundle`."""

import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from reelbank.data.datasets import folder as folder_dataset
from reelbank.data.errors import InputError
from reelbank.data.store.exchange.arrays import read_npy
from reelbank.data.store.exchange.source import Recorded, Rows, Source
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.text_files import read_text

FEATURES, GROUND_TRUTH, MAPPING, SPLITS = "features", "groundTruth", "mapping.txt", "splits"
BACKGROUND = "background"  # rows without an action; eval.py ignores it
BUNDLE_PARTS = {"train": "train", "validation": "val", "test": "test"}
_BUNDLE = re.compile(r"(train|val|test)\.split(.+)\.bundle")


def is_mstcn_folder(folder: Path) -> bool:
    """Whether a folder has the form of MS-TCN."""
    return (folder / MAPPING).is_file() and (folder / GROUND_TRUTH).is_dir()


def mstcn_source(folder: Path) -> Source:
    """The videos of such a folder. The label of a video consists of all classes of its rows, without
    the background. If features and classes have different lengths, the longer are cut, as
    batch_gen.py does. Raises InputError."""
    files = sorted((folder / FEATURES).glob("*.npy"))
    classes = _classes(folder / MAPPING)
    parts_of = _parts(folder / SPLITS)
    videos, class_files = [], [folder / GROUND_TRUTH / f"{file.stem}.txt" for file in files]
    row_counts: list[int] = []
    cut = 0
    for file, path in zip(files, class_files, strict=True):
        given = _lines(path)
        features = _feature_count(file, len(given))
        rows = given[:features]
        row_counts.append(len(rows))
        cut += features != len(given)
        unknown = set(rows).difference(classes)
        if unknown:
            raise InputError(
                f"FILE={path}: the class {min(unknown)!r} must be one of those in {MAPPING}"
            )
        used = set(rows) - {BACKGROUND}
        label = ";".join(name for name in classes if name in used)
        parts = [parts_of[split].get(file.stem, "") for split in parts_of]
        facts = {"bytes": 0, "row_labels": _runs(rows)}
        videos.append(StoredVideo(file.stem, label, "", parts, facts))
    multilabel = any(";" in video.label for video in videos)
    names = [name for name in classes if name != BACKGROUND]
    dataset = DatasetDescription(folder_dataset.NAME, names, tuple(parts_of), multilabel=multilabel)
    note = (
        f"{cut} of {len(files)} videos have different numbers of features and classes of rows; the "
        "longer ones were cut, as MS-TCN does"
    )
    return Source(
        "MS-TCN",
        [(file.stem,) for file in files],
        lambda number: Rows(_features(files[number], row_counts[number])),
        recorded=Recorded(dataset, videos),
        described_by=[folder / MAPPING, *class_files],
        notes=(note,) if cut else (),
    )


def _features(file: Path, rows: int) -> np.ndarray:
    """(T, C) at most `rows` rows of (C, T) features; an array without axes as it is."""
    values = read_npy(file).T
    return values[:rows] if values.ndim else values


def _feature_count(file: Path, otherwise: int) -> int:
    """T of (C, T) features; `otherwise` for a file that cannot be read, which fails later."""
    try:
        shape = read_npy(file).shape
    except InputError:
        return otherwise
    return shape[-1] if shape else otherwise


def stored_row_labels(facts: Mapping[str, Any], rows: int) -> list[str]:
    """The class of every row, as `mstcn_source` recorded it; [] if it did not, or for other rows.
    Raises InputError for another form."""
    labels: list[str] = []
    runs = facts.get("row_labels", [])
    for run in runs if isinstance(runs, list) else [runs]:
        is_run = isinstance(run, list) and [type(value) for value in run] == [str, int]
        if not is_run or run[1] < 0:
            raise InputError(
                "row_labels of a video must be lists of a class and a number of rows (got "
                f"{str(run)[:80]}); import the features again"
            )
        labels += [run[0]] * min(run[1], rows + 1 - len(labels))
    return labels if len(labels) == rows else []


def _runs(labels: Sequence[str]) -> list[list[str | int]]:
    """[class, number of rows] for each run of equal classes."""
    return [[label, len(list(run))] for label, run in groupby(labels)]


def _classes(path: Path) -> list[str]:
    """The classes in the order of their numbers."""
    numbers: dict[str, int] = {}
    for line in _lines(path):
        words = line.split()
        if len(words) < 2 or not words[0].isdecimal() or words[1] in numbers or ";" in words[1]:
            raise InputError(
                f"FILE={path}: expected a number and a class in each line, such as '0 pour' (got "
                f"{line[:80]!r})"
            )
        numbers[words[1]] = int(words[0])
    return sorted(numbers, key=lambda name: numbers[name])


def _parts(folder: Path) -> dict[str, dict[str, str]]:
    """For each split the part of each video. MS-TCN takes the name up to the first dot."""
    part_of_word = {word: part for part, word in BUNDLE_PARTS.items()}
    parts: dict[str, dict[str, str]] = {}
    for path in sorted(folder.glob("*.bundle")):
        match = _BUNDLE.fullmatch(path.name)
        if match:
            names = [line.rpartition("/")[2].partition(".")[0] for line in _lines(path)]
            parts.setdefault(match[2], {}).update(dict.fromkeys(names, part_of_word[match[1]]))
    return parts


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in read_text(path).splitlines() if line.strip()]
    except OSError as error:
        raise InputError(f"FILE={path}: cannot be read ({error.strerror})") from None
