"""The data set and the labels of imported features: from a CSV, or from the names of the videos."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from reelbank.data.datasets import folder
from reelbank.data.datasets.registry import namings
from reelbank.data.datasets.types import NamedVideo, Naming
from reelbank.data.datasets.video_table import PART_OF_NAME, read_video_table
from reelbank.data.errors import InputError
from reelbank.data.store.exchange.annotations import Annotations, read_annotations
from reelbank.data.store.exchange.source import Source
from reelbank.data.store.options import ImportOptions
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.text_files import readings


@dataclass(frozen=True)
class Labelled:
    """An imported data set, and its videos in the order of the source."""

    dataset: DatasetDescription
    videos: list[StoredVideo]


def labelled(source: Source, options: ImportOptions) -> Labelled:
    """The data set of the videos: from CSV= or ANNOTATIONS=, from the files themselves if they were
    exported with labels, or from the names of the videos if these tell class and split. Raises
    InputError if a video has no entry, if names and file contradict each other, or if two files are
    of the same video."""
    data = _labelled(source, options)
    number_of: dict[str, int] = {}
    for number, video in enumerate(data.videos):
        first = number_of.setdefault(video.id, number)
        if first != number:
            given = _different_names(source.names[first], source.names[number])
            raise InputError(
                f"FILE={options.file}: must contain each video once, but {given[0]} and {given[1]} "
                f"are both the video {video.id}; move one away, or rename it"
            )
    return data


def _different_names(first: Sequence[str], second: Sequence[str]) -> tuple[str, str]:
    """A name of each video; different ones if the videos have such."""
    pairs = zip(first, second, strict=False)
    return next(((one, other) for one, other in pairs if one != other), (first[0], second[0]))


def _labelled(source: Source, options: ImportOptions) -> Labelled:
    if options.annotations:
        if options.csv:
            raise InputError(f"CSV={options.csv}: ANNOTATIONS contains labels too; leave one out")
        return _from_annotations(source, options)
    recorded = source.recorded
    if recorded and not options.csv and options.dataset not in namings():
        name = options.dataset or recorded.dataset.name
        return Labelled(replace(recorded.dataset, name=name), list(recorded.videos))
    dataset_name = _dataset_of_names(source, options)
    if dataset_name:
        return _from_names(source, dataset_name, namings()[dataset_name])
    if not options.csv:
        titles = " or ".join(naming.title for naming in namings().values())
        raise InputError(
            f"FILE={options.file}: the class and the split of a video can be read from its name "
            f"only if the video is named as in {titles} (got {source.names[0][0]}); give "
            "CSV=<file with the columns path,label,split>"
        )
    return _from_table(source, options)


def _from_annotations(source: Source, options: ImportOptions) -> Labelled:
    annotations = read_annotations(options.annotations)
    name_of = [_annotated_name(names, annotations) for names in source.names]
    missing = [names[0] for names, name in zip(source.names, name_of, strict=True) if not name]
    if missing:
        raise InputError(
            f"ANNOTATIONS={options.annotations}: the file must list all videos of FILE, but "
            f"{len(missing)} of the {len(source.names)} videos are missing, such as {missing[0]}; add "
            "them, with an empty list 'annotations' if they contain no action, or give a FILE that "
            "contains only listed videos"
        )
    annotated = [annotations.videos[name] for name in name_of]
    multilabel = any(len(video.labels()) > 1 for video in annotated)
    videos = []
    for name, video in zip(name_of, annotated, strict=True):
        labels = video.labels()
        facts: dict[str, Any] = {"bytes": 0} | ({"fps": video.fps} if video.fps else {})
        if video.duration_seconds:
            facts["duration_seconds"] = video.duration_seconds
        facts["annotations"] = [list(action) for action in video.actions]
        videos.append(
            StoredVideo(
                id=name,
                label=";".join(label for label in annotations.classes if label in labels),
                parts=(PART_OF_NAME.get(video.subset.lower(), ""),),
                source=facts,
            )
        )
    dataset = DatasetDescription(
        options.dataset or folder.NAME, annotations.classes, ("1",), multilabel=multilabel
    )
    return Labelled(dataset, videos)


def _annotated_name(names: Sequence[str], annotations: Annotations) -> str:
    """The name of a video in the annotations; "" if they do not have it. Its file may be in a folder,
    and the official files of ActivityNet are named v_<id>."""
    for name in names:
        base = name.rpartition("/")[2]
        for possible in (name, base, base.removeprefix("v_")):
            if possible in annotations.videos:
                return possible
    return ""


def _from_table(source: Source, options: ImportOptions) -> Labelled:
    rows, columns = read_video_table(Path(options.csv).expanduser())
    row_of = _by_name([row for _, row in rows])
    ids = [next((name for name in names if name in row_of), "") for names in source.names]
    missing = [names[0] for names, name in zip(source.names, ids, strict=True) if not name]
    if missing:
        raise InputError(
            f"CSV={options.csv}: the file must list all videos of FILE, but {len(missing)} of the "
            f"{len(source.names)} videos are missing, such as {missing[0]}; add a row for each (its "
            "label may be empty), or give a FILE that contains only listed videos"
        )
    label_column = "labels" if "labels" in columns else "label"
    labels = {name: row_of[name].get(label_column, "") for name in ids}
    groups = folder.guess_groups(labels)
    if "group" in columns:
        groups = {name: row_of[name]["group"] for name in ids}
    splits = ("1",) if "split" in columns else ()
    dataset = DatasetDescription(
        options.dataset or folder.NAME, splits=splits, multilabel=label_column == "labels"
    )
    classes: set[str] = set()
    for label in labels.values():
        classes.update(dataset.label_names(label))
    videos = [
        StoredVideo(
            id=name,
            label=labels[name],
            group=groups[name],
            parts=tuple(row_of[name]["split"] for _ in splits),
            source={"bytes": 0},
        )
        for name in ids
    ]
    return Labelled(replace(dataset, classes=tuple(sorted(classes))), videos)


def _by_name(rows: Sequence[dict[str, str]]) -> dict[str, dict[str, str]]:
    """The rows of a table by the names that their paths can mean. If two rows can mean the same
    name, the row for which it is the likelier meaning has it."""
    row_of: dict[str, dict[str, str]] = {}
    meanings = [readings(row["path"]) for row in rows]
    for rank in range(max(map(len, meanings))):
        for row, names in zip(rows, meanings, strict=True):
            if rank < len(names):
                row_of.setdefault(names[rank], row)
    return row_of


def _dataset_of_names(source: Source, options: ImportOptions) -> str:
    """The data set that DATASET= names, or whose naming fits all videos; "" if the labels have to
    be read from a table."""
    if options.dataset in namings():
        return options.dataset
    if options.dataset or options.csv:
        return ""
    for dataset_name, naming in namings().items():
        if all(any(map(naming.read, names)) for names in source.names):
            return dataset_name
    return ""


def _from_names(source: Source, dataset_name: str, naming: Naming) -> Labelled:
    """The data set, with each video's class, group and parts as in its name."""
    videos = []
    for number, names in enumerate(source.names):
        video = next(filter(None, map(naming.read, names)), None)
        if video is None:
            raise InputError(
                f"DATASET={dataset_name}: the videos must be named as in {naming.title}, "
                f"in the form {naming.form} (got {names[0]})"
            )
        facts = {key: table[number] for key, table in source.facts.items()}
        _check_facts(names[0], facts, video, naming)
        parts = tuple(video.parts)
        videos.append(StoredVideo(video.id, video.label, video.group, parts, {"bytes": 0}))
    dataset = DatasetDescription(dataset_name, naming.classes, naming.splits, naming.coarse)
    return Labelled(dataset, videos)


def _check_facts(name: str, facts: Mapping[str, Any], video: NamedVideo, naming: Naming) -> None:
    """Raises InputError if class or parts in the file contradict the video's name."""
    class_number = naming.classes.index(video.label) + 1  # official class lists count from 1
    class_in_file = facts.get("label_classInd", class_number)
    if class_in_file != class_number:
        raise InputError(
            f"{name}: the class number in the file must be {class_number}, the number of the class "
            f"{video.label} in the name (got {class_in_file})"
        )
    tests = [part == "test" for part in video.parts]
    in_file = np.asarray(facts.get("is_test_split123", tests))
    if np.any(in_file != np.array(tests)):
        raise InputError(
            f"{name}: the splits in the file differ from the official splits of this video; "
            f"is_test_split123 must be {np.array(tests, int).tolist()} (got {in_file.tolist()})"
        )
