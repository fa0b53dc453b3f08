"""Rows and classes of score tables: choosing, ordering and joining them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.scores.table import Scores

_MOST_NAMES = 3  # video ids or classes that a message lists


def rows_of(scores: Scores, rows: Sequence[int]) -> Scores:
    """A table with only these rows, in this order."""
    numbers = np.array(rows, dtype=np.int64)
    return replace(
        scores,
        video_ids=tuple(scores.video_ids[row] for row in rows),
        labels=scores.labels[numbers],
        logits=scores.logits[numbers],
        groups=tuple(scores.groups[row] for row in rows) if scores.groups else (),
        parts=tuple(scores.parts[row] for row in rows) if scores.parts else (),
    )


def with_classes(scores: Scores, classes: Sequence[str]) -> Scores:
    """The table with its classes in this order. Raises InputError for other classes."""
    if scores.classes == tuple(classes):
        return scores
    _check_same(
        f"the classes of {_name(scores)} differ from those of the first model",
        classes,
        scores.classes,
    )
    column_of = {name: column for column, name in enumerate(scores.classes)}
    columns = np.array([column_of[name] for name in classes], dtype=np.int64)  # (C,)
    if scores.multilabel:
        labels = scores.labels[:, columns]
    else:
        # (C + 1,): old class number -> new one; the last entry maps -1, unknown, to itself
        new_number = np.append(np.argsort(columns), -1)
        labels = new_number[scores.labels]
    return replace(scores, labels=labels, classes=tuple(classes), logits=scores.logits[:, columns])


def with_all_classes(tables: Sequence[Scores]) -> list[Scores]:
    """Single-label tables with the classes of all of them, those of the longest list first, for
    streams that some classes have no video of. The logits of a table's new classes are 0."""
    longest = max(tables, key=lambda table: len(table.classes)).classes
    others: dict[str, None] = {}
    for table in tables:
        others |= dict.fromkeys(name for name in table.classes if name not in longest)
    classes = (*longest, *others)
    number_of = {name: number for number, name in enumerate(classes)}
    widened = []
    for table in tables:
        columns = np.array([number_of[name] for name in table.classes], dtype=np.int64)
        logits = np.zeros((len(table.video_ids), len(classes)), table.logits.dtype)
        logits[:, columns] = table.logits
        labels = np.append(columns, -1)[table.labels]  # -1, unknown, stays
        widened.append(replace(table, classes=classes, labels=labels, logits=logits))
    return widened


def join(tables: Sequence[Scores]) -> list[Scores]:
    """The tables with their rows and columns in the order of the first, by video id and by class
    name. A table without groups gets those of the first table that has them.

    Raises InputError if they hold different videos or classes, or disagree on a video's label.
    """
    if not tables:
        raise InputError("no scores were given; give at least one table of scores")
    first, joined = tables[0], [tables[0]]
    for other in tables[1:]:
        names = f"{_name(first)} and {_name(other)}"
        _check_same_classes(first, other)
        _check_same(f"{names} have scores of different videos", first.video_ids, other.video_ids)
        _check_same_labelling(first, other)
        row_of = {video_id: row for row, video_id in enumerate(other.video_ids)}
        rows = [row_of[video_id] for video_id in first.video_ids]
        ordered = rows_of(with_classes(other, first.classes), rows)
        differs = ordered.labels != first.labels  # (V,) or (V, C)
        if first.multilabel:
            differs = differs.any(axis=1)
        if differs.any():
            ids = [first.video_ids[row] for row in np.flatnonzero(differs)]
            raise InputError(f"{names} have different labels for {len(ids)} videos: {_few(ids)}")
        joined.append(ordered)
    groups = next((table.groups for table in joined if table.groups), ())
    if not groups:
        return joined
    return [table if table.groups else replace(table, groups=groups) for table in joined]


@dataclass(frozen=True)
class _Facts:
    """A video's classes and group, as the first table that holds it says."""

    classes: list[str]
    group: str


def completed(tables: Sequence[Scores]) -> list[Scores]:
    """The tables, each with rows for the videos that only others hold: logits 0, labels and groups
    of the first table that holds the video. Raises InputError if they hold different classes, or
    only some of them are multi-label."""
    if not tables:
        raise InputError("no scores were given; give at least one table of scores")
    for other in tables[1:]:
        _check_same_classes(tables[0], other)
        _check_same_labelling(tables[0], other)
    videos: dict[str, _Facts] = {}
    for table in tables:
        for row, video_id in enumerate(table.video_ids):
            if video_id not in videos:
                group = table.groups[row] if table.groups else ""
                videos[video_id] = _Facts(_classes_of(table, row), group)
    return [_with_missing(table, videos) for table in tables]


def _with_missing(table: Scores, videos: dict[str, _Facts]) -> Scores:
    """The table with rows for those of the videos that it does not hold."""
    ids_in_table = set(table.video_ids)
    missing = [video_id for video_id in videos if video_id not in ids_in_table]
    unlabelled = 0 if table.multilabel else -1
    labels = np.full((len(missing), *table.labels.shape[1:]), unlabelled, table.labels.dtype)
    for row, video_id in enumerate(missing):
        numbers = [table.classes.index(name) for name in videos[video_id].classes]
        if table.multilabel:
            labels[row, numbers] = 1
        elif numbers:
            labels[row] = numbers[0]
    logits = np.zeros((len(missing), len(table.classes)), np.float32)
    groups = tuple(videos[video_id].group for video_id in missing)
    return replace(
        table,
        video_ids=(*table.video_ids, *missing),
        labels=np.concatenate([table.labels, labels]),
        logits=np.concatenate([table.logits, logits]),
        groups=(*table.groups, *groups) if table.groups else (),
        parts=(*table.parts, *["unknown"] * len(missing)) if table.parts else (),
    )


def _classes_of(scores: Scores, row: int) -> list[str]:
    """The names of a video's classes; [] if it is unlabelled."""
    if scores.multilabel:
        return [scores.classes[int(number)] for number in np.flatnonzero(scores.labels[row])]
    number = int(scores.labels[row])
    return [scores.classes[number]] if number >= 0 else []


def _check_same_classes(first: Scores, other: Scores) -> None:
    line = f"{_name(first)} and {_name(other)} have scores of different classes"
    _check_same(line, first.classes, other.classes)


def _check_same_labelling(first: Scores, other: Scores) -> None:
    if other.multilabel != first.multilabel:
        raise InputError(
            f"{_name(first)} and {_name(other)} cannot be combined, because only one of them "
            "is multi-label"
        )


def _check_same(line: str, first: Sequence[str], second: Sequence[str]) -> None:
    """Raises InputError, beginning with `line`, unless both have the same names in any order."""
    sides = []
    for side, names, others in (("first", first, second), ("second", second, first)):
        only_here = sorted(set(names) - set(others))
        if only_here:
            sides.append(f"only in the {side}: {_few(only_here)}")
    if sides:
        raise InputError(
            f"{line}: {len(first)} in the first and {len(second)} in the second; {'; '.join(sides)}"
        )


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


def _name(scores: Scores) -> str:
    return str(scores.about.get("name") or scores.about.get("head") or "a model")
