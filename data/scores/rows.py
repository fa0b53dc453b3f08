"""The video of each row of a score file without names: LIST= names them, labels confirm the order.

tsn-pytorch saves its rows in the order of the sorted names of its list, other tools in the order of
the list. Labels in the list, in the file and in LIKE= show which order is right, unless both orders
give every row a video of the same class.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from reelbank.data.datasets.discovery import ENDINGS
from reelbank.data.errors import InputError
from reelbank.data.scores.table import Scores
from reelbank.data.text_files import read_text

ORDERS = ("auto", "list", "sorted")


@dataclass(frozen=True)
class VideoList:
    """The lines of a list of V videos: their names, and the class number at the end of each line,
    None if the lines have none. only_number: whether some line has only one number, which may then
    be its number of frames."""

    names: tuple[str, ...]
    labels: np.ndarray | None = None
    only_number: bool = False

    def in_order(self, order: str) -> "VideoList":
        """The same videos in the order of the list ("list"), or as tsn-pytorch sorts them ("sorted":
        by the characters of the first word of each line)."""
        if order == "list":
            return self
        words = [name.split()[0] for name in self.names]
        keys = words if len(set(words)) == len(words) else list(self.names)
        rows = sorted(range(len(keys)), key=keys.__getitem__)
        labels = None if self.labels is None else self.labels[rows]
        return replace(self, names=tuple(self.names[row] for row in rows), labels=labels)


@dataclass(frozen=True)
class Contradiction:
    """Rows whose label is not that of their video: how many of how many, and an example for the
    message."""

    rows: int
    of: int
    example: str


def read_list(path: str | Path, option: str = "LIST") -> VideoList:
    """A file with one video per line, which may be followed by its number of frames and its class
    number. Raises InputError if it cannot be read."""
    lines = _lines(path, option)
    names = [re.sub(r"([ \t]\d+)+$", "", line) for line in lines]
    numbers = [line[len(name) :].split() for name, line in zip(names, lines, strict=True)]
    if not all(numbers) or len(set(names)) < len(names):
        return VideoList(tuple(lines))  # "clip 01" and "clip 02" are two videos
    labels = np.array([min(int(words[-1]), 1 << 60) for words in numbers], np.int64)
    return VideoList(tuple(names), labels, only_number=min(map(len, numbers)) == 1)


def read_classes(path: str | Path) -> list[str]:
    """The class names in a file, one per line, which may be numbered (`1 ApplyEyeMakeup`). Raises
    InputError if it cannot be read."""
    lines = _lines(path, "CLASSES")
    first_words = [line.partition(" ")[0] for line in lines]
    names = [line.partition(" ")[2].strip() for line in lines]
    # Consecutive numbers from 0 or 1 are not part of the names; the number of "3 point shot" is.
    is_numbered = any(
        first_words == [str(start + row) for row in range(len(lines))] for start in (0, 1)
    )
    return names if is_numbered and all(names) else lines


def _lines(path: str | Path, option: str) -> list[str]:
    try:
        return [line.strip() for line in read_text(path).splitlines() if line.strip()]
    except OSError as error:
        raise InputError(f"{option}={path}: cannot be read ({error.strerror or error})") from None


def without_ending(name: str) -> str:
    """A video's name without the ending of a video file, with / between folders."""
    path = Path(name.replace("\\", "/"))
    is_video = path.suffix.lower().removeprefix(".") in ENDINGS["video"]
    return (path.with_suffix("") if is_video else path).as_posix()


def last_part(name: str) -> str:
    """A video's name without its folder and the ending of a video file."""
    return Path(without_ending(name)).name


def ordered(
    listed: VideoList,
    labels: np.ndarray | None,
    *,
    sorts: bool = False,
    order: str = "auto",
    like: Scores | None = None,
    classes: Sequence[str] = (),
) -> tuple[VideoList, str]:
    """The list in the order of the file's rows, and a note about the chosen order, "" if there is
    no doubt.

    labels: (V,) class numbers of the rows, -1 if unknown; None if the file has none. sorts: whether
    tools of the file's form sort their rows, which makes the sorted order likelier. order: one of
    ORDERS. like, classes: a table with labels of the videos, and the names of the file's classes.
    Raises InputError if no allowed order agrees with the labels of the list, with the number of
    rows that disagree.
    """
    likeliest = ["sorted", "list"] if sorts else ["list", "sorted"]
    allowed = likeliest if order == "auto" else [order]
    lists = {name: listed.in_order(name) for name in ORDERS[1:]}
    wrong = {name: _against_list(lists[name], labels) for name in lists}
    contradictions = [
        contradiction for name in allowed if (contradiction := wrong[name]) is not None
    ]
    if len(contradictions) == len(allowed):
        other = next((name for name in lists if wrong[name] is None), "")
        raise _refusal(
            min(contradictions, key=lambda contradiction: contradiction.rows), listed, order, other
        )
    agreeing = [name for name in allowed if wrong[name] is None]
    unlike = {name: _against_like(lists[name], labels, like, classes) for name in lists}
    chosen = next((name for name in agreeing if unlike[name] is None), agreeing[0])
    if lists["list"].names == lists["sorted"].names or order != "auto":
        return lists[chosen], ""
    other = next(name for name in lists if name != chosen)
    words = {
        "list": "the order of the lines in LIST",
        "sorted": "the order of the sorted lines of LIST, in which tsn-pytorch saves scores",
    }
    against = wrong[other] or unlike[other]
    if against is not None:
        why = (
            f"in the other order (ORDER={other}), {against.rows} of {against.of} rows would have a "
            f"wrong label ({against.example})"
        )
    elif sorts:
        why = f"the labels fit both orders; give ORDER={other} for the other one"
    else:
        return lists[chosen], ""
    return lists[chosen], f"assuming that the rows of the score file have {words[chosen]}; {why}"


def check_names(names: Sequence[str], labels: np.ndarray | None, listed: VideoList) -> None:
    """Raises InputError if a list has other videos than a file with its own names, or other labels
    for them."""
    is_unique = all(
        len(set(map(last_part, some_names))) == len(some_names)
        for some_names in (names, listed.names)
    )
    key = last_part if is_unique else without_ending
    listed_row = {key(name): row for row, name in enumerate(listed.names)}
    differing = sorted({key(name) for name in names} ^ listed_row.keys())
    if differing:
        side = "LIST" if differing[0] in listed_row else "the score file"
        raise InputError(
            f"LIST must name the same videos as the score file, but {len(differing)} videos are in "
            f"only one of the two; for example, {differing[0]!r} is only in {side}"
        )
    rows = [listed_row[key(name)] for name in names]
    list_labels = None if listed.labels is None else listed.labels[rows]
    wrong = _against_list(replace(listed, names=tuple(names), labels=list_labels), labels)
    if wrong is not None:
        raise _refusal(wrong, listed)


def _against_list(listed: VideoList, labels: np.ndarray | None) -> Contradiction | None:
    """Where the labels of a list, in the order of the rows, contradict the rows' labels; None if
    they do not."""
    if labels is None or listed.labels is None or len(labels) != len(listed.labels):
        return None
    labelled = np.flatnonzero(labels >= 0)
    differs = labelled[listed.labels[labelled] != labels[labelled]]
    counted_from_1 = listed.labels[labelled] - 1 == labels[labelled]
    if not len(differs) or (counted_from_1.all() and len(np.unique(labels[labelled])) > 1):
        return None
    row = int(differs[0])
    example = (
        f"{listed.names[row]!r} has the label {listed.labels[row]} in LIST and the label "
        f"{labels[row]} in the score file"
    )
    return Contradiction(len(differs), len(labelled), example)


def _against_like(
    listed: VideoList, labels: np.ndarray | None, like: Scores | None, classes: Sequence[str]
) -> Contradiction | None:
    """Where LIKE's labels contradict the rows'; None if they do not, or cannot be compared."""
    if (
        like is None
        or labels is None
        or len(labels) != len(listed.names)
        or set(like.classes) != set(classes)
    ):
        return None
    row_of = {last_part(name): row for row, name in enumerate(like.video_ids)}
    number_of = [like.classes.index(name) for name in classes]
    compared, wrong = 0, []
    for row, name in enumerate(listed.names):
        like_row = row_of.get(last_part(name))
        if like_row is None or not 0 <= labels[row] < len(classes):
            continue
        number, truth = number_of[labels[row]], like.labels[like_row]
        if not like.multilabel and truth < 0:
            continue
        compared += 1
        if not (truth[number] if like.multilabel else truth == number):
            wrong.append(row)
    if not wrong:
        return None
    row = wrong[0]
    return Contradiction(
        len(wrong),
        compared,
        f"{listed.names[row]!r} has the label {classes[labels[row]]!r} in the score file, but not "
        "in LIKE",
    )


def _refusal(
    wrong: Contradiction, listed: VideoList, order: str = "", other: str = ""
) -> InputError:
    """other: the order that agrees, if `order` was requested and does not."""
    todo = "give the list from which the scores were computed"
    if other:
        todo = f"use ORDER={other}, which agrees with the labels"
    elif listed.only_number:
        todo += "; if the numbers in LIST are frame counts and not labels, remove them"
    which = f"ORDER={order}: " if other else ""
    return InputError(
        f"{which}LIST must have the same labels as the score file, but they differ in "
        f"{wrong.rows} of {wrong.of} rows ({wrong.example}); {todo}"
    )
