"""Action segmentation with MS-TCN: (C, T) float32 arrays, the class of every row, the numbers of the
classes, and a list of videos for each part of each split (yabufarha/ms-tcn, batch_gen.py, main.py)."""

import re
from collections.abc import Sequence

import numpy as np

from reelbank.data.datasets.untrimmed import Action
from reelbank.data.errors import InputError
from reelbank.data.identity import in_file_name
from reelbank.data.store.exchange.formats.actions import actions_of, row_labels
from reelbank.data.store.exchange.formats.names import flat_names
from reelbank.data.store.exchange.formats.types import Export, ExportFormat, Written
from reelbank.data.store.exchange.formats.videos import (
    ExportedVideo,
    check_times,
    check_vectors,
    exported_videos,
)
from reelbank.data.store.exchange.mstcn_folder import (
    BACKGROUND,
    BUNDLE_PARTS,
    FEATURES,
    GROUND_TRUTH,
    MAPPING,
    SPLITS,
    stored_row_labels,
)
from reelbank.data.store.exchange.sidecar import write_sidecar
from reelbank.data.store.reader import Store


def _write(export: Export) -> Written:
    store, videos = export.store, list(exported_videos(export.store))
    check_vectors(store, "mstcn")
    names = flat_names([video.id for video in videos], dots=False)
    actions = actions_of(export, videos)
    labels = _labels_of_rows(export, videos, actions)
    used: set[str] = set().union(*labels)
    classes = [*store.dataset.classes]
    classes += sorted(used.difference(classes))  # of annotations, and the background
    word_of = _words(classes)
    for folder in (FEATURES, GROUND_TRUTH, SPLITS):
        (export.path / folder).mkdir(parents=True)
    for video, name, own_labels in zip(videos, names, labels, strict=True):
        values = store.features(video.id)[0].astype(np.float32)
        np.save(export.path / FEATURES / f"{name}.npy", np.ascontiguousarray(values.T))
        lines = "".join(f"{word_of[label]}\n" for label in own_labels)
        (export.path / GROUND_TRUTH / f"{name}.txt").write_text(lines, encoding="utf-8")
    mapping = "".join(f"{number} {word_of[label]}\n" for number, label in enumerate(classes))
    (export.path / MAPPING).write_text(mapping, encoding="utf-8")
    _write_splits(export, videos, names)
    paths = [f"{FEATURES}/{name}" for name in names]
    write_sidecar(export.path, store, paths, rows_axis=1, actions=actions)
    return Written([f"{len(classes)} classes of rows; features of {store.row_shape[0]} numbers"])


def _labels_of_rows(
    export: Export, videos: Sequence[ExportedVideo], actions_of_videos: Sequence[Sequence[Action]]
) -> list[list[str]]:
    """The class of every row of each video."""
    store = export.store
    labels = []
    for video, actions in zip(videos, actions_of_videos, strict=True):
        times_seconds = store.times_seconds(video.id)
        stored = stored_row_labels(video.source, len(times_seconds))
        if stored and not export.options.annotations:
            labels.append(stored)
        elif actions or export.options.annotations:
            check_times(store, "mstcn with annotated actions")
            labels.append(row_labels(actions, times_seconds, BACKGROUND))
        else:
            labels.append([_only_label(store, video)] * len(times_seconds))
    return labels


def _only_label(store: Store, video: ExportedVideo) -> str:
    names = store.dataset.label_names(video.label)
    if len(names) > 1:
        raise InputError(
            f"{store.path}: {video.id} has several classes, but FORMAT=mstcn needs the class of every "
            "row; give ANNOTATIONS=<JSON file>"
        )
    return names[0] if names else BACKGROUND


def _words(classes: Sequence[str]) -> dict[str, str]:
    """A name without spaces for each class: MS-TCN reads the second word of a line."""
    word_of = {label: re.sub(r"\s+", "_", label.strip()) or "_" for label in classes}
    if len(set(word_of.values())) < len(word_of):
        raise InputError(
            "FORMAT=mstcn writes '_' for spaces in the names of classes, but two names would then be "
            "equal; rename a class"
        )
    return word_of


def _write_splits(export: Export, videos: Sequence[ExportedVideo], names: Sequence[str]) -> None:
    """A list for each part of each split; without splits, all videos are for training."""
    for number, split in enumerate(export.store.dataset.splits or ("1",)):
        for part, word in BUNDLE_PARTS.items():
            lines = [
                f"{name}.txt\n"
                for video, name in zip(videos, names, strict=True)
                if (video.parts[number] if video.parts else "train") == part
            ]
            if lines or part != "validation":
                path = export.path / SPLITS / f"{word}.split{in_file_name(split)}.bundle"
                path.write_text("".join(lines), encoding="utf-8")


MSTCN = ExportFormat("a folder for MS-TCN", _write, has_recipe=True, own_options=("annotations",))
