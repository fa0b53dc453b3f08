"""Score tables: what a model said of each video, by video id, so that models can be judged and joined without its features.

On disk an npz of plain arrays (`video_ids` and `classes` unicode, `labels` int64 or, of several labels a video, uint8, `logits`
float32, `about` JSON text, `groups` unicode where they are known) and `format`. No pickle is written or read.
"""

import io
import json
import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.replacing import replacing

FORMAT = "reelbank scores 1"
# What zipfile, numpy's header parser and json raise on bytes that mean nothing.
DAMAGE = (
    zlib.error,
    *(OSError, EOFError, KeyError, TypeError, ValueError, RuntimeError, MemoryError, SyntaxError),
    *(zipfile.BadZipFile, tokenize.TokenError, InputError),
)


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of V videos over C classes. Raises InputError when the parts do not fit together.

    video_ids: V different ids. labels: (V,) int64, index into `classes`, -1 where unknown; or, where a video has any number of
    classes, (V, C) uint8 of 0 and 1. classes: C different names. logits: (V, C) float32, finite; softmax(logits) is the model's
    distribution over classes, or, of several labels a video, sigmoid(logits) each class's probability.
    about: where they come from, JSON-able: dataset, split, part, seed, head, store, signature, coarse categories ...
    groups: V names of what the videos were cut from (UCF-101's g01), () where none is known, "" for a video alone. Videos of
    one group resemble each other, so an interval may take groups, not videos, as what was drawn.
    """

    video_ids: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    logits: np.ndarray
    about: dict[str, Any] = field(default_factory=dict)
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        ids, classes, groups = (tuple(map(str, names)) for names in (self.video_ids, self.classes, self.groups))
        labels = np.asarray(self.labels)
        if labels.size == 0:
            labels = labels.astype(np.int64)
        if labels.dtype.kind not in "iu":
            raise InputError(f"scores: labels must be whole numbers, not {labels.dtype}")
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes inf and is refused below
            logits = np.asarray(self.logits).astype(np.float32)
        whole = (len(ids), len(classes))
        if labels.shape not in ((len(ids),), whole) or logits.shape != whole or not classes:
            raise InputError(
                f"scores: {len(ids)} video ids and {len(classes)} classes need labels ({len(ids)},) or {whole} and logits "
                f"{whole}, not {labels.shape} and {logits.shape}"
            )
        groups = groups if any(groups) else ()  # "" for every video: nobody knows them
        if groups and len(groups) != len(ids):
            raise InputError(f"scores: {len(ids)} video ids need as many groups, or none, not {len(groups)}")
        for what, names in (("video id", ids), ("class", classes)):
            if len(set(names)) != len(names):
                twice = next(name for i, name in enumerate(names) if name in names[:i])
                raise InputError(f"scores: {what} {twice!r} is there more than once")
        if labels.ndim == 2:
            if labels.size and not (labels.min() >= 0 and labels.max() <= 1):
                raise InputError(f"scores: labels {labels.min()} to {labels.max()} of several a video must be 0 or 1")
        elif len(labels) and not (labels.min() >= -1 and labels.max() < len(classes)):
            raise InputError(
                f"scores: labels {labels.min()} to {labels.max()} do not fit {len(classes)} classes (-1 is unknown)"
            )
        finite = np.isfinite(logits).all(axis=1)  # (V,)
        if not finite.all():
            raise InputError(
                f"scores: {(~finite).sum()} videos have a score that is no number, the first {ids[int(finite.argmin())]!r}"
            )
        labels = labels.astype(np.uint8 if labels.ndim == 2 else np.int64)
        for name, value in (
            *(("video_ids", ids), ("labels", labels), ("classes", classes)),
            *(("logits", logits), ("groups", groups)),
        ):
            object.__setattr__(self, name, value)

    @property
    def multilabel(self) -> bool:
        """Whether a video has any number of classes."""
        return self.labels.ndim == 2


def log_probabilities(scores: Scores) -> np.ndarray:
    """log softmax(logits), or log sigmoid(logits) of several labels a video, (V, C) float64, always finite."""
    logits = scores.logits.astype(np.float64)
    if scores.multilabel:
        return -np.logaddexp(0, -logits)
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def probabilities(scores: Scores) -> np.ndarray:
    """softmax(logits), (V, C) float64, rows summing to 1; of several labels a video sigmoid(logits)."""
    return np.exp(log_probabilities(scores))


def save(scores: Scores, path: str | Path) -> None:
    """Write the table to `path` (an npz); a reader finds the old file or the whole new one, never a piece."""
    path = Path(path)
    arrays = {
        "format": np.array(FORMAT),
        "video_ids": np.array(scores.video_ids, dtype=np.str_),
        "labels": scores.labels,
        "classes": np.array(scores.classes, dtype=np.str_),
        "logits": scores.logits,
        "about": np.array(json.dumps(scores.about, allow_nan=False)),
    }
    if scores.groups:
        arrays["groups"] = np.array(scores.groups, dtype=np.str_)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load(path: str | Path) -> Scores:
    """Read a table written by `save`. Raises InputError, naming the file, for anything else: missing, damaged, holding
    objects, packed, or declaring more than it holds (checked before memory is taken)."""
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            if _member(archive, "format", path, (0, "U")).item() != FORMAT:
                raise ValueError(f"not {FORMAT!r}")
            about = json.loads(_member(archive, "about", path, (0, "U")).item())
            if not isinstance(about, dict):
                raise ValueError("'about' is not a JSON object")
            grouped = "groups.npy" in archive.namelist()
            return Scores(
                video_ids=tuple(_member(archive, "video_ids", path, (1, "U")).tolist()),
                labels=_member(archive, "labels", path, (1, "i"), (2, "u")),
                classes=tuple(_member(archive, "classes", path, (1, "U")).tolist()),
                logits=_member(archive, "logits", path, (2, "f")),
                about=about,
                groups=tuple(_member(archive, "groups", path, (1, "U")).tolist()) if grouped else (),
            )
    except FileNotFoundError:
        raise InputError(f"{path}: no such scores file") from None
    except DAMAGE as error:
        raise InputError(f"{path}: not a readable scores file ({error})") from None


def _member(archive: zipfile.ZipFile, name: str, path: Path, *forms: tuple[int, str]) -> np.ndarray:
    """One array of the archive, in one of the forms (axes, kind of dtype); its declared size must be what is there, so a small
    file cannot ask for much memory."""
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type != zipfile.ZIP_STORED or not info.file_size == info.compress_size <= path.stat().st_size:
        raise ValueError(f"{name!r} is packed or its size is wrong")
    stream = io.BytesIO(archive.read(info))  # the archive checks its CRC
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"{name!r} has npy version {version}")
    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    if (len(shape), dtype.kind) not in forms:
        raise ValueError(f"{name!r} is {dtype} of {len(shape)} axes")
    if math.prod(shape) * dtype.itemsize != info.file_size - stream.tell():
        raise ValueError(f"{name!r} declares another size than it has")
    stream.seek(0)
    array = np.load(stream, allow_pickle=False)
    if dtype.kind == "U" and (not dtype.isnative or (array.size and array.reshape(-1).view(np.uint32).max() > 0x10FFFF)):
        raise ValueError(f"{name!r} is not Unicode text")
    return array


def join(tables: Sequence[Scores]) -> list[Scores]:
    """The same tables with their rows and columns in the order of the first, by video id and by class name; one that names no
    groups gets those of the first that does.

    Raises InputError when they hold different videos, different classes, or disagree on a video's label.
    """
    if not tables:
        raise InputError("scores: nothing to join")
    first, joined = tables[0], [tables[0]]
    for other in tables[1:]:
        names = f"{_name(first)} and {_name(other)}"
        _check_same(f"scores of {names} hold different classes", first.classes, other.classes)
        _check_same(f"scores of {names} hold different videos", first.video_ids, other.video_ids)
        row_of = {name: i for i, name in enumerate(other.video_ids)}
        rows = np.array([row_of[name] for name in first.video_ids], dtype=np.int64)  # (V,)
        if other.multilabel != first.multilabel:
            raise InputError(f"scores of {names}: one has a single label a video, the other several")
        other = with_classes(other, first.classes)
        labels = other.labels[rows]  # (V,) or (V, C)
        differs = (labels != first.labels).any(axis=1) if first.multilabel else labels != first.labels
        if differs.any():
            ids = [first.video_ids[i] for i in np.flatnonzero(differs)]
            raise InputError(f"scores of {names} give {len(ids)} videos different labels: {_few(ids)}")
        groups = tuple(other.groups[row] for row in rows) if other.groups else ()
        joined.append(replace(other, video_ids=first.video_ids, labels=labels, logits=other.logits[rows], groups=groups))
    known = next((table.groups for table in joined if table.groups), ())
    return [replace(table, groups=known) if known and not table.groups else table for table in joined]


def with_classes(scores: Scores, classes: Sequence[str]) -> Scores:
    """The same table with its classes in this order. Raises InputError where they are others."""
    if scores.classes == tuple(classes):
        return scores
    _check_same(f"scores of {_name(scores)} hold other classes than the first", classes, scores.classes)
    column_of = {name: i for i, name in enumerate(scores.classes)}
    columns = np.array([column_of[name] for name in classes], dtype=np.int64)  # (C,)
    new_index = np.append(np.argsort(columns), -1)  # (C + 1,): the old class index -> the new, and -1 stays -1
    labels = scores.labels[:, columns] if scores.multilabel else new_index[scores.labels]
    return replace(scores, labels=labels, classes=tuple(classes), logits=scores.logits[:, columns])


def completed(tables: Sequence[Scores]) -> list[Scores]:
    """The tables, each with rows for the videos that only others hold: logits 0, labels and groups as the first that holds the
    video has them. Raises InputError when they hold different classes or one has several labels a video and another one."""
    if not tables:
        raise InputError("scores: nothing to join")
    for other in tables[1:]:
        names = f"{_name(tables[0])} and {_name(other)}"
        _check_same(f"scores of {names} hold different classes", tables[0].classes, other.classes)
        if other.multilabel != tables[0].multilabel:
            raise InputError(f"scores of {names}: one has a single label a video, the other several")
    known: dict[str, tuple[list[str], str]] = {}  # video -> its classes and group, as the first that holds it says
    for table in tables:
        for row, video in enumerate(table.video_ids):
            if video not in known:
                known[video] = (_classes_of(table, row), table.groups[row] if table.groups else "")
    made = []
    for table in tables:
        held = set(table.video_ids)
        lacking = [video for video in known if video not in held]
        labels = np.full((len(lacking), *table.labels.shape[1:]), 0 if table.multilabel else -1, table.labels.dtype)
        for label, video in zip(labels if table.multilabel else labels[:, None], lacking, strict=True):
            numbers = [table.classes.index(name) for name in known[video][0]]
            label[numbers if table.multilabel else slice(len(numbers))] = 1 if table.multilabel else numbers
        groups = (*table.groups, *(known[video][1] for video in lacking)) if table.groups else ()
        logits = np.zeros((len(lacking), len(table.classes)), np.float32)
        more: dict[str, Any] = {
            "labels": np.concatenate([table.labels, labels]),
            "logits": np.concatenate([table.logits, logits]),
        }
        made.append(replace(table, video_ids=(*table.video_ids, *lacking), groups=groups, **more))
    return made


def _classes_of(scores: Scores, row: int) -> list[str]:
    """The names of a video's classes, [] where none is known."""
    label = scores.labels[row]
    numbers = np.flatnonzero(label) if scores.multilabel else [label] if label >= 0 else []
    return [scores.classes[int(number)] for number in numbers]


def _check_same(line: str, one: Sequence[str], other: Sequence[str]) -> None:
    only_one, only_other = sorted(set(one) - set(other)), sorted(set(other) - set(one))
    if only_one or only_other:
        sides = [f"only in the {side}: {_few(ids)}" for side, ids in (("first", only_one), ("second", only_other)) if ids]
        raise InputError(f"{line} ({len(one)} and {len(other)}); {'; '.join(sides)}")


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _name(scores: Scores) -> str:
    return str(scores.about.get("name") or scores.about.get("head") or "a model")
