"""The data sets by name. A new one is a file with a function DatasetOptions -> Dataset, and a line here."""

import dataclasses
from collections.abc import Callable, Sequence

from reelbank.data import charades, folder, hmdb51, toy, ucf101
from reelbank.data.errors import InputError
from reelbank.data.videos import Dataset, DatasetOptions, Video, nearest, some

__all__ = ["DATASETS", "Dataset", "DatasetOptions", "Video", "load_dataset"]

DATASETS: dict[str, Callable[[DatasetOptions], Dataset]] = {
    "ucf101": ucf101.load,
    "hmdb51": hmdb51.load,
    "charades": charades.load,
    "folder": folder.load,
    "toy": toy.load,
}
_TAKES_SPLITS = ("ucf101", "hmdb51", "charades")


def load_dataset(
    name: str,
    root: str = "",
    splits_dir: str = "",
    csv: str = "",
    classes: Sequence[str] = (),
    seed: int = 0,
    bank: str = "bank",
) -> Dataset:
    """The data set `name` (a key of DATASETS) below `root`; see docs/datasets.md.

    splits_dir: folder of official lists (ucf101: optional; hmdb51, charades: required). csv: table of path,label,split, for
    folder. classes: keep only videos of these; `Dataset.classes` stays the whole list: a label's number never changes.
    seed: of the drawn split (folder) and of the drawing (toy). bank: where the toy set is drawn unless root is given.
    Raises InputError for an unknown name or class, a wrong root, or an input that the data set does not take.
    """
    if name not in DATASETS:
        raise InputError(f"DATASET={name} is unknown{nearest(name, DATASETS)}; choose from {', '.join(DATASETS)}")
    if splits_dir and name not in _TAKES_SPLITS:
        raise InputError(f"LISTS={splits_dir}: DATASET={name} has no official lists to read")
    if csv and name != "folder":
        raise InputError(f"CSV={csv} is for DATASET=folder, not {name}")
    dataset = DATASETS[name](DatasetOptions(name, root, splits_dir, csv, seed, bank))
    return _keep_classes(dataset, classes) if classes else dataset


def _keep_classes(dataset: Dataset, classes: Sequence[str]) -> Dataset:
    for name in classes:
        if name not in dataset.classes:
            known = nearest(name, dataset.classes) or f"; {dataset.name} has {some(dataset.classes, 6) or 'no classes'}"
            raise InputError(f"CLASSES: '{name}' is no class of {dataset.name}{known}")
    wanted = set(classes)
    names = {video: set(video.label.split(";") if dataset.multilabel else [video.label]) for video in dataset.videos}
    videos = tuple(video for video in dataset.videos if names[video] & wanted)
    empty = sorted(wanted.difference(*(names[video] for video in videos)))
    if empty:
        raise InputError(f"CLASSES={','.join(classes)}: no video of {some(empty)} in ROOT={dataset.root}; leave it out")
    note = f"CLASSES keeps {len(videos):,} of {len(dataset.videos):,} videos: {some(classes, 6)}"
    files = len({video.path for video in videos}) if dataset.files else 0
    return dataclasses.replace(dataset, videos=videos, files=files, notes=(*dataset.notes, note))
