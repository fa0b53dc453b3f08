"""Temporal action localisation with OpenTAD, ActionFormer and TriDet: a flat folder of (T, C) float32
arrays, annotations as JSON, a class map, and a list of missing files.

The tools compute times from a stride: feature i is centred at (i * feat_stride + num_frames / 2) / fps
(ActionFormer, libs/datasets/thumos14.py; OpenTAD calls num_frames / 2 offset_frames).
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from reelbank.data.console import counted, some
from reelbank.data.datasets.untrimmed import Action
from reelbank.data.errors import InputError
from reelbank.data.store.exchange.annotations import (
    AnnotatedVideo,
    Annotations,
    annotations_json,
    read_annotations,
)
from reelbank.data.store.exchange.formats.actions import given_name, stored_actions
from reelbank.data.store.exchange.formats.grid import RowGrid, row_grid
from reelbank.data.store.exchange.formats.names import flat_names
from reelbank.data.store.exchange.formats.types import Export, ExportFormat, Written
from reelbank.data.store.exchange.formats.videos import (
    ExportedVideo,
    check_times,
    check_vectors,
    exported_videos,
    positive_number,
)
from reelbank.data.store.exchange.sidecar import write_sidecar
from reelbank.data.store.reader import Store

FEATURES, ANNOTATIONS, CLASS_MAP = "features", "annotations.json", "category_idx.txt"
MISSING = "missing_files.txt"  # in the folder of features, as OpenTAD expects
_SUBSETS = {"train": "training", "validation": "validation", "test": "testing", "": "unused"}


@dataclass(frozen=True)
class _Plan:
    """What is written. names: of the file of each video in the store, "" for a video that is left
    out. missing: names of files that do not exist."""

    names: Sequence[str]
    annotations: Annotations
    missing: Sequence[str]
    notes: Sequence[str]


def _write(export: Export) -> Written:
    store, videos = export.store, list(exported_videos(export.store))
    _check(store, videos)
    grid = row_grid(store, [video.fps for video in videos])
    own = _own_videos(export, videos, grid)
    if export.options.annotations:
        plan = _given_plan(read_annotations(export.options.annotations), videos, own, grid)
    else:
        plan = _own_plan(store, videos, own)
    folder = export.path / FEATURES
    folder.mkdir(parents=True)
    for video, name in zip(videos, plan.names, strict=True):
        if name:
            rows = store.features(video.id)[0].astype(np.float32)
            np.save(folder / f"{name}.npy", rows, allow_pickle=False)
    text = annotations_json(plan.annotations)
    (export.path / ANNOTATIONS).write_text(text, encoding="utf-8")
    classes = "".join(f"{name}\n" for name in plan.annotations.classes)
    (export.path / CLASS_MAP).write_text(classes, encoding="utf-8")
    missing = "".join(f"{name}\n" for name in plan.missing)
    (folder / MISSING).write_text(missing, encoding="utf-8")
    parts = _parts_of(plan.annotations)
    for name, snippet in _snippets(export, plan, grid, parts).items():
        (export.path / name).write_text(snippet, encoding="utf-8")
    if all(plan.names):
        paths = [f"{FEATURES}/{name}" for name in plan.names]
        actions: list[Sequence[Action]] = []
        if export.options.annotations:
            actions = [plan.annotations.videos[name].actions for name in plan.names]
        else:
            actions = [stored_actions(store, video) for video in videos]
        write_sidecar(export.path, store, paths, actions=actions)
    notes = [
        f"{grid}; actionformer.yaml and opentad.py contain these settings",
        *plan.notes,
        *parts.notes,
        *([f"{MISSING} lists {counted(len(plan.missing), 'video')}"] if plan.missing else []),
    ]
    return Written(notes, left_out=plan.names.count(""))


def _check(store: Store, videos: Sequence[ExportedVideo]) -> None:
    check_vectors(store, "opentad")
    check_times(store, "opentad")
    cut = next((video for video in videos if "span_seconds" in video.source), None)
    if cut:
        raise InputError(
            f"{store.path}: {cut.id} is a part of a file, but FORMAT=opentad needs the features of whole "
            "videos; extract them with DATASET=folder, and export with ANNOTATIONS=<JSON file>"
        )


def _own_videos(
    export: Export, videos: Sequence[ExportedVideo], grid: RowGrid
) -> list[AnnotatedVideo]:
    """What the store says about each video."""
    store, split = export.store, export.options.split
    split_number = store.dataset.splits.index(split) if split else 0
    annotated = []
    for number, video in enumerate(videos):
        duration = _duration_seconds(video) or _end_seconds(store, video.id, number, grid)
        part = video.parts[split_number] if store.dataset.splits else "train"
        labels = store.dataset.label_names(video.label)
        actions = stored_actions(store, video) or [Action(label, 0.0, duration) for label in labels]
        annotated.append(AnnotatedVideo(_SUBSETS[part], actions, duration, float(grid.fps[number])))
    return annotated


def _duration_seconds(video: ExportedVideo) -> float:
    """Of the file, 0.0 if it is not recorded."""
    duration = positive_number(video.source.get("duration_seconds"))
    frames = positive_number(video.source.get("frames"))
    return duration or (frames / video.fps if video.fps else 0.0)


def _end_seconds(store: Store, video_id: str, number: int, grid: RowGrid) -> float:
    """The end of the clip of the last row."""
    half_clip = max(grid.offset_frames, grid.stride_frames / 2) / float(grid.fps[number])
    return float(store.times_seconds(video_id)[-1]) + half_clip


def _own_plan(
    store: Store, videos: Sequence[ExportedVideo], own: Sequence[AnnotatedVideo]
) -> _Plan:
    # One call, so that the name of a missing file is not that of a file that exists.
    names = flat_names([*(video.id for video in videos), *store.failures])
    names, missing = names[: len(videos)], names[len(videos) :]
    used: set[str] = set().union(*(video.labels() for video in own))
    # The tools require that each class occurs.
    classes = [label for label in store.dataset.classes if label in used]
    classes += sorted(used.difference(classes))  # of actions that were imported
    notes = []
    if not any(stored_actions(store, video) for video in videos):
        notes.append(
            "the store contains no annotations, so each video is one action of its class, from its "
            "beginning to its end; give ANNOTATIONS=<JSON file> for others"
        )
    annotations = Annotations(dict(zip(names, own, strict=True)), classes)
    return _Plan(names, annotations, missing, notes)


def _given_plan(
    given: Annotations,
    videos: Sequence[ExportedVideo],
    own: Sequence[AnnotatedVideo],
    grid: RowGrid,
) -> _Plan:
    """With the annotations of a file, of those videos that have features: ActionFormer opens the file
    of every video. Durations and subsets are those of the file."""
    names = _given_names(given, videos)
    file_name = dict(zip(given.videos, flat_names(list(given.videos)), strict=True))
    database = {}
    for number, (name, video) in enumerate(zip(names, own, strict=True)):
        if name:
            annotated = given.videos[name]
            database[file_name[name]] = replace(
                annotated,
                duration_seconds=annotated.duration_seconds or video.duration_seconds,
                fps=float(grid.fps[number]),
            )
    used: set[str] = set().union(*(video.labels() for video in database.values()))
    classes = [label for label in given.classes if label in used]  # the tools require it
    with_features = set(names)
    missing = [file_name[name] for name in given.videos if name not in with_features]
    notes = _notes_of_given(given, videos, names, classes)
    renamed = next((name for name in names if name and file_name[name] != name), "")
    if renamed:
        notes.append(
            "some exported names differ from those of ANNOTATIONS, because files of one folder must "
            f"not contain '/' or differ only in case: {renamed} is {file_name[renamed]}"
        )
    files = [file_name[name] if name else "" for name in names]
    return _Plan(files, Annotations(database, classes), missing, notes)


def _given_names(given: Annotations, videos: Sequence[ExportedVideo]) -> list[str]:
    """The name of each video in the file, "" if it has none. Raises InputError if two videos have the
    same, and if no video has one."""
    names = [given_name(video.id, given.videos) for video in videos]
    count_of = Counter(name for name in names if name)
    twice = min((name for name, count in count_of.items() if count > 1), default="")
    if twice or not count_of:
        problem = (
            f"two videos of the store mean {twice}" if twice else "it names no video of the store"
        )
        raise InputError(
            f"ANNOTATIONS: {problem}; the names must be those of the video files, with or without 'v_'"
        )
    return names


def _notes_of_given(
    given: Annotations,
    videos: Sequence[ExportedVideo],
    names: Sequence[str],
    classes: Sequence[str],
) -> list[str]:
    left_out = [video.id for video, name in zip(videos, names, strict=True) if not name]
    unused = sorted(set(given.classes).difference(classes))
    notes = []
    if left_out:
        notes.append(
            f"left out {counted(len(left_out), 'video')} that ANNOTATIONS does not name: "
            f"{some(left_out)}"
        )
    if unused:
        notes.append(f"left out classes without an action in a video with features: {some(unused)}")
    return notes


@dataclass(frozen=True)
class _Parts:
    """The subsets, in lower case as ActionFormer compares them, for training and for validation."""

    train: str
    held_out: str
    notes: Sequence[str]


def _parts_of(annotations: Annotations) -> _Parts:
    """The subsets that occur. Without one for training, the validation videos are for training and the
    test videos for validation, as THUMOS14 does."""
    used = {video.subset.lower() for video in annotations.videos.values()}
    train = next((name for name in ("training", "train") if name in used), "")
    validation = next((name for name in ("validation", "val") if name in used), "")
    test = next((name for name in ("testing", "test") if name in used), "")
    if not train and validation and test:
        return _Parts(validation, test, ())
    found = {"train_split": train, "val_split": validation or test}
    notes = [
        f"set {key} in actionformer.yaml: the subsets are {some(sorted(used))}"
        for key, subset in found.items()
        if not subset
    ]
    return _Parts(train or "training", validation or test or "validation", notes)


def _snippets(export: Export, plan: _Plan, grid: RowGrid, parts: _Parts) -> dict[str, str]:
    """The settings for each tool: name of a file -> text."""
    folder, annotations = export.target / FEATURES, export.target / ANNOTATIONS
    yaml = {
        "json_file": json.dumps(str(annotations)),
        "feat_folder": json.dumps(str(folder)),
        "file_prefix": "~",
        "file_ext": ".npy",
        "num_classes": len(plan.annotations.classes),
        "input_dim": export.store.row_shape[0],
        "feat_stride": _number(grid.stride_frames),
        "num_frames": _number(2 * grid.offset_frames),
        "default_fps": _number(float(grid.fps[0])) if grid.equal_fps else "~",
    }
    python = {
        "annotation_path": repr(str(annotations)),
        "class_map": repr(str(export.target / CLASS_MAP)),
        "data_path": repr(f"{folder}/"),
        "block_list": f'data_path + "{MISSING}"',
        "feature_stride": _number(grid.stride_frames),
        "sample_stride": 1,
        "offset_frames": f"{_number(grid.offset_frames)}  # OpenTAD uses whole frames",
        "fps": f"{_number(float(grid.fps[0])) if grid.equal_fps else -1}  # -1: of each video",
    }
    return {
        "actionformer.yaml": "".join(
            [
                "# For the configuration of ActionFormer or TriDet.\n",
                "dataset_name: anet  # the loader 'thumos' ignores the class with label_id 4\n",
                f"train_split: [{parts.train}]\n",
                f"val_split: [{parts.held_out}]\n",
                "dataset: {\n",
                *(f"  {key}: {value},\n" for key, value in yaml.items()),
                "}\n",
            ]
        ),
        "opentad.py": "".join(
            [
                "# For the configuration of the data set in OpenTAD.\n",
                *(f"{key} = {value}\n" for key, value in python.items()),
            ]
        ),
    }


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


OPENTAD = ExportFormat(
    "a folder for OpenTAD, ActionFormer and TriDet",
    _write,
    has_recipe=True,
    own_options=("annotations",),
)
