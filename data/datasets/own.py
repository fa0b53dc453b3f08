"""Loads a data set that a user defines in a file of their own, and checks it before anything is
computed from it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reelbank.data.console import nearest, some
from reelbank.data.datasets.types import PARTS, Dataset, DatasetOptions, DatasetSpec, Video
from reelbank.data.errors import InputError
from reelbank.data.plugins import user_error

_PARTS = (*PARTS, "")


def load_own(spec: DatasetSpec, options: DatasetOptions, text: str) -> Dataset:
    """The data set of a user's file. text: `path/to/file.py:name`.

    Raises InputError for an error in the file, and for a data set that is not as `Dataset` and
    `Video` describe it.
    """
    try:
        dataset = spec.load(options)
    except InputError:
        raise
    except Exception as error:
        raise user_error(error, option="DATASET", text=text, call="load(options)") from error
    if wrong := _mistake(dataset):
        raise InputError(f"DATASET={text}: {wrong}")
    return dataset


def _mistake(dataset: Any) -> str:
    """What is wrong with a data set; "" if nothing is."""
    if not isinstance(dataset, Dataset):
        return f"load() must return a Dataset (got {type(dataset).__name__})"
    for name in ("classes", "splits", "notes"):
        if wrong := _mistake_in_texts(f"`{name}` of the Dataset", getattr(dataset, name)):
            return wrong
    for name in ("classes", "splits"):
        if repeated := _repeated(getattr(dataset, name)):
            return f"`{name}` of the Dataset contains '{repeated}' twice; remove one of them"
    if not isinstance(dataset.videos, tuple | list):
        got = type(dataset.videos).__name__
        return f"`videos` of the Dataset must be a tuple of Video (got {got})"
    classes = frozenset(dataset.classes)
    for video in dataset.videos:
        if wrong := _mistake_in_video(video, dataset, classes):
            return wrong
    if repeated := _repeated([video.id for video in dataset.videos]):
        return f"two videos have the id '{repeated}'; give each video a unique id"
    return ""


def _mistake_in_texts(name: str, values: Any) -> str:
    """A set is refused because its order changes, and a text because it is a sequence of
    letters."""
    if not isinstance(values, tuple | list):
        return f"{name} must be a tuple of str (got {type(values).__name__})"
    for value in values:
        if not isinstance(value, str):
            return f"{name} must contain only strings (got {value!r})"
    return ""


def _mistake_in_video(video: Any, dataset: Dataset, classes: frozenset[str]) -> str:
    if not isinstance(video, Video):
        return f"`videos` of the Dataset must contain only Video objects (got {video!r})"
    for name, kind in (("id", str), ("path", Path), ("label", str), ("group", str)):
        value = getattr(video, name)
        if not isinstance(value, kind):
            return f"video {video.id!r}: `{name}` must be a {kind.__name__} (got {value!r})"
    splits = len(dataset.splits)
    if not (
        isinstance(video.parts, tuple | list)
        and len(video.parts) == splits
        and all(part in _PARTS for part in video.parts)
    ):
        return (
            f"video '{video.id}': `parts` must be a tuple with one entry for each of the {splits} "
            f"splits, each entry being 'train', 'validation', 'test' or '' (got {video.parts!r})"
        )
    for label in video.label.split(";") if dataset.multilabel else [video.label]:
        if label and label not in classes:
            hint = (
                nearest(label, classes) or f", which contains {some(dataset.classes) or 'nothing'}"
            )
            return f"video '{video.id}': the label '{label}' is not in `classes`{hint}"
    return ""


def _repeated(names: Sequence[str]) -> str:
    """A name that occurs more than once; "" if there is none."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return ""
