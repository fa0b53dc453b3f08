"""Scores of another tool as a score table: their scale, video names, classes and labels."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reelbank.data.datasets.folder import guess_groups
from reelbank.data.errors import InputError
from reelbank.data.scores.foreign import ForeignScores
from reelbank.data.scores.rows import last_part, without_ending
from reelbank.data.scores.scales import as_logits
from reelbank.data.scores.table import Scores


def as_table(
    foreign: ForeignScores,
    names: Sequence[str] = (),
    classes: Sequence[str] = (),
    *,
    like: Scores | None = None,
    scale: str = "auto",
    about: dict[str, Any] | None = None,
) -> tuple[Scores, str]:
    """The table, and the scale that its scores were read as.

    names, classes: names of the rows and of the classes, used if the file has none. like: a table
    whose ids (matched by their last part, without ending), labels, classes and groups are used.
    Raises InputError if names or classes are missing or do not fit.
    """
    videos, class_count = foreign.scores.shape
    names = tuple(foreign.names or names)
    if not names:
        raise InputError(
            f"the score file ({foreign.form}) does not contain the names of its {videos} videos; "
            "give LIST=<file> with one video name per line, in the order of the file's rows"
        )
    if len(names) != videos:
        raise InputError(
            f"LIST must name {videos} videos, one for each row of the score file (got {len(names)} "
            "names)"
        )
    is_multilabel = like is not None and like.multilabel
    logits, scale = as_logits(foreign.scores, scale, multilabel=is_multilabel)
    labels = foreign.labels if foreign.labels is not None else np.full(videos, -1)
    if len(labels) != videos:
        raise InputError(
            f"the score file must contain one label for each of its {videos} videos (got "
            f"{len(labels)} labels)"
        )
    classes = foreign.classes or tuple(classes) or (like.classes if like else ())
    classes = classes or tuple(map(str, range(class_count)))
    if len(classes) != class_count:
        raise InputError(
            f"CLASSES must name {class_count} classes, one for each column of the scores (got "
            f"{len(classes)} names)"
        )
    if like is None:
        ids = tuple(without_ending(name) for name in names)
        groups = foreign.groups or _ucf101_groups(ids, labels, classes)
        table = Scores(
            video_ids=ids,
            labels=labels,
            classes=classes,
            logits=logits,
            about=about or {},
            groups=groups if len(groups) == videos else (),
            parts=foreign.parts,
        )
        return table, scale
    rows = _rows_of(like, names)
    differing = sorted(set(like.classes) ^ set(classes))
    if differing:
        raise InputError(
            "LIKE must have the same classes as the score file, but the class "
            f"{differing[0]!r} exists in only one of the two; give the names of the score file's "
            "classes with CLASSES=<file>"
        )
    columns = [classes.index(name) for name in like.classes]
    _check_labels(like, labels[rows], classes)
    table = Scores(
        video_ids=like.video_ids,
        labels=like.labels,
        classes=like.classes,
        logits=logits[rows][:, columns],
        about=about or {},
        groups=like.groups,
        parts=tuple(foreign.parts[row] for row in rows) if foreign.parts else like.parts,
    )
    return table, scale


def _ucf101_groups(
    ids: Sequence[str], labels: np.ndarray, classes: Sequence[str]
) -> tuple[str, ...]:
    """The group of each video if all are labelled and named as in UCF-101, otherwise ()."""
    is_named_so = all(re.search(r"_g\d+_c\d+$", name) for name in ids)
    if not is_named_so or not (labels >= 0).all():
        return ()
    class_of = {name: classes[label] for name, label in zip(ids, labels, strict=True)}
    return tuple(guess_groups(class_of).values())


def _check_labels(like: Scores, labels: np.ndarray, classes: Sequence[str]) -> None:
    """Raises InputError if the file's labels (V,), in the order of LIKE's videos, are not LIKE's:
    then the videos or the classes are mixed up."""
    if labels.max(initial=-1) >= len(classes) or labels.min(initial=-1) < -1:
        raise InputError(
            f"the labels of the score file must be class numbers from 0 to {len(classes) - 1} "
            f"(got {labels.min()} to {labels.max()})"
        )
    number_of = np.array([like.classes.index(name) for name in classes])
    is_comparable = labels >= 0
    if not like.multilabel:
        is_comparable &= like.labels >= 0
    rows = np.flatnonzero(is_comparable)
    numbers_in_like = number_of[labels[rows]]
    agrees = _have_label(like, rows, numbers_in_like)  # (V',) bool
    if not agrees.all():
        row = rows[int(agrees.argmin())]
        raise InputError(
            "LIKE must have the same labels as the score file, but the labels of "
            f"{int((~agrees).sum())} of {len(rows)} videos differ; for example, the score file has "
            f"the label {classes[labels[row]]!r} for {like.video_ids[row]!r}, and LIKE has another "
            "one. If the score file orders its classes differently, list them in this order with "
            "CLASSES=<file>"
        )


def _have_label(table: Scores, rows: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Whether each of these rows has the class of the number next to it."""
    if table.multilabel:
        return table.labels[rows, numbers] == 1
    return table.labels[rows] == numbers


def _rows_of(like: Scores, names: Sequence[str]) -> list[int]:
    """The row of each of LIKE's videos among the names. Raises InputError for other videos."""
    stems = [last_part(name) for name in names]
    like_stems = [Path(name).name for name in like.video_ids]
    _check_unique("LIKE", like_stems)
    _check_unique("the score file", stems)
    differing = sorted(set(like_stems) ^ set(stems))
    if differing:
        side = "LIKE" if differing[0] in set(like_stems) else "the score file"
        raise InputError(
            f"LIKE must contain the same videos as the score file, but {len(differing)} videos "
            f"are in only one of the two; for example, {differing[0]!r} is only in {side}"
        )
    row_of = {stem: row for row, stem in enumerate(stems)}
    return [row_of[stem] for stem in like_stems]


def _check_unique(side: str, stems: Sequence[str]) -> None:
    earlier_stems: set[str] = set()
    for stem in stems:
        if stem in earlier_stems:
            raise InputError(
                f"{side}: the video names without folders and endings must be unique, but "
                f"{stem!r} occurs twice"
            )
        earlier_stems.add(stem)
