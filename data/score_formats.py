"""Score files of other tools, read into score tables and written from them: docs/fusion.md has the forms."""

import csv
import io
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reelbank.data import scores as score_tables
from reelbank.data.errors import InputError
from reelbank.data.folder import guess_groups
from reelbank.data.pickles import MOST_BYTES, Refused, read_pickle
from reelbank.data.replacing import replacing
from reelbank.data.scores import Scores
from reelbank.data.videos import ENDINGS

SCALES = ("auto", "logits", "probabilities")
MOST_PACKED = 32  # times its size that a packed file may hold; of scores it is two or so


@dataclass(frozen=True)
class Found:
    """What a foreign file holds of V videos: scores (V, C) float64 of any scale; names, labels, classes and groups as far as it
    says them. labels: class numbers, -1 unknown. form: whose file it is, for people."""

    form: str
    scores: np.ndarray
    names: tuple[str, ...] = ()
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


def read_scores(path: str | Path, key: str = "") -> Found:
    """Read a file of scores: an npz of arrays (names, labels and scores under `key`), TSN's npz (scores, labels), a pickle of
    mmaction2's results, or a CSV. Raises InputError, naming the file, for anything else; no pickle is run."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"FILE={path}: no such file")
    try:
        if path.suffix == ".csv":
            return _read_csv(path)
        if zipfile.is_zipfile(path):
            return _read_npz(path, key)
        if path.stat().st_size > MOST_BYTES:
            raise Refused("it is too large")
        return _from_results(read_pickle(path.read_bytes()))
    except Refused as error:
        raise InputError(f"FILE={path}: not a file of scores: {error}") from None


def _read_npz(path: Path, key: str) -> Found:
    members: dict[str, Any] = {}
    most = min(MOST_BYTES, max(MOST_PACKED * path.stat().st_size, 1 << 20))
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > most:
                raise Refused("it unpacks to more than a file of scores holds")
            for info in archive.infolist():
                members[info.filename.removesuffix(".npy")] = _npy(archive.read(info))
    except score_tables.DAMAGE as error:
        raise Refused((str(error).splitlines() or ["it is damaged"])[0]) from None
    if "scores" in members and "names" not in members:
        labels = members.get("labels")
        return Found("TSN's npz", _mean_over_frames(members["scores"]), labels=None if labels is None else _numbers(labels))
    tables = sorted(name for name, value in members.items() if isinstance(value, np.ndarray) and value.ndim == 2)
    if key not in tables and (key or len(tables) != 1):
        raise InputError(f"KEY={key}: {path} holds the scores {', '.join(tables) or '(none)'}; name one of them")
    labels = _numbers(members["labels"]) if "labels" in members else None
    names = _texts(members["names"]) if "names" in members else ()
    return Found("npz of arrays", _matrix(members[key or tables[0]]), names, labels)


def _npy(data: bytes) -> Any:
    """One array of an npz; of objects, what their pickle holds."""
    stream = io.BytesIO(data)
    try:
        return np.load(stream, allow_pickle=False)
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
    stream.seek(0)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, _ = read(stream)
    values = read_pickle(stream.read())
    if not isinstance(values, list) or (shape and len(values) != shape[0]):
        raise Refused("an array of objects is not whole")
    return values


def _mean_over_frames(values: Any) -> np.ndarray:
    """TSN's scores, one entry a video of (frames, crops, C) or (frames, 1, C) or (frames, C), maybe first of several: the mean
    over all but classes, before softmax, as its own evaluation takes it."""
    if isinstance(values, np.ndarray) and values.ndim > 2 and values.size:
        return _matrix(_real(values).reshape(len(values), -1, values.shape[-1]).mean(axis=1))
    if isinstance(values, np.ndarray):
        return _matrix(values)
    rows = []
    for value in values:
        one = (
            value[0] if isinstance(value, list) and value and isinstance(value[0], np.ndarray) and value[0].ndim > 1 else value
        )
        array = _real(one)
        rows.append(array.reshape(-1, array.shape[-1]).mean(axis=0) if array.ndim and array.size else array)
    return _matrix(rows)


def _from_results(results: Any) -> Found:
    """mmaction2's results: a list of dicts with pred_score and gt_label, or (0.x) of arrays (C,)."""
    if not isinstance(results, list) or not results:
        raise Refused("there is no list of results in it")
    if not all(isinstance(one, dict) for one in results):
        return Found("mmaction2's results", _matrix(results))
    rows, labels, names = [], [], []
    for one in results:
        score = one.get("pred_score", one.get("pred_scores"))
        label = one.get("gt_label", one.get("gt_labels"))
        score, label = (value.get("item") if isinstance(value, dict) else value for value in (score, label))
        if score is None:
            raise Refused("a result has no pred_score")
        rows.append(score)
        labels.append(_label(label))
        names.append(one.get("frame_dir") or one.get("filename"))
    known = all(isinstance(name, str) for name in names)
    return Found("mmaction2's results", _matrix(rows), tuple(names) if known else (), np.array(labels))


def _read_csv(path: Path) -> Found:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            heads, *rows = [row for row in csv.reader(file) if row]
    except (ValueError, csv.Error, UnicodeDecodeError) as error:
        raise Refused(f"it is no table ({error})") from None
    first = 3 if heads[2:3] == ["group"] else 2
    if heads[:2] != ["video_id", "label"] or len(heads) <= first:
        raise Refused("its first line must be video_id,label,group,<class>,<class>... (group may be left out)")
    if wrong := [number for number, row in enumerate(rows, 2) if len(row) != len(heads)]:
        raise Refused(f"line {wrong[0]} has not as many fields as the first")
    classes = tuple(heads[first:])
    if unknown := sorted({row[1] for row in rows} - {"", *classes}):
        raise Refused(f"label {unknown[0]!r} is none of its classes")
    labels = np.array([classes.index(row[1]) if row[1] else -1 for row in rows], np.int64)
    groups = tuple(row[2] for row in rows) if first == 3 and any(row[2] for row in rows) else ()
    try:
        scores = np.array([row[first:] for row in rows], dtype=np.float64)
    except ValueError as error:
        raise Refused(f"its scores are no numbers ({error})") from None
    return Found("CSV", _matrix(scores), tuple(row[0] for row in rows), labels, classes, groups)


def _numbers(values: Any) -> np.ndarray:
    try:
        found = np.asarray(values).reshape(-1)
        if found.dtype.kind not in "iu":
            raise Refused("its labels are no whole numbers")
        return found.astype(np.int64)
    except (ValueError, TypeError):
        raise Refused("its labels are no whole numbers") from None


def _label(value: Any) -> int:
    """A result's class number; -1 for none, or several."""
    try:
        numbers = np.asarray(-1 if value is None else value).reshape(-1)
    except ValueError:
        raise Refused("its labels are no whole numbers") from None
    return int(_numbers(numbers)[0]) if len(numbers) == 1 else -1


def _texts(values: Any) -> tuple[str, ...]:
    found = values.reshape(-1).tolist() if isinstance(values, np.ndarray) else values
    found = [one.decode("utf-8", "surrogateescape") if isinstance(one, bytes) else one for one in found]
    if not all(isinstance(one, str) for one in found):
        raise Refused("its names are no texts")
    return tuple(found)


def _real(value: Any) -> np.ndarray:
    """float64 of any shape."""
    try:
        found = np.asarray(value)
    except (ValueError, TypeError):
        raise Refused("its videos have not all the same number of scores") from None
    if found.dtype.kind not in "fiub":
        raise Refused("its scores are no numbers")
    return found.astype(np.float64)


def _matrix(rows: Any) -> np.ndarray:
    """Scores (V, C) float64 of an array or of a list of rows."""
    if isinstance(rows, np.ndarray):
        found = _real(rows if rows.size else np.zeros(0))
    else:
        of_each = [_real(row).reshape(-1) for row in rows]
        if len({len(row) for row in of_each}) > 1:
            raise Refused("its videos have not all the same number of scores")
        found = np.array(of_each)
    if found.ndim != 2 or not found.size:
        raise Refused("there are no scores in it")
    if not (finite := np.isfinite(found).all(axis=1)).all():
        raise Refused(f"a score of video {int(finite.argmin()) + 1} is no finite number")
    return found


def as_table(
    found: Found,
    names: Sequence[str] = (),
    classes: Sequence[str] = (),
    like: Scores | None = None,
    scale: str = "auto",
    about: dict[str, Any] | None = None,
) -> tuple[Scores, str]:
    """The table, and the scale that was taken. names: of the rows, where the file has none; classes: their names, where it has
    none; like: a table whose ids (matched by their last part without ending), labels, classes and groups are taken. Raises
    InputError where something lacks or does not fit."""
    videos, count = found.scores.shape
    names = tuple(found.names or names)
    if not names:
        raise InputError(
            f"LIST: {found.form} holds no names of its {videos} videos; give LIST=<file>, one name a line, in order"
        )
    if len(names) != videos:
        raise InputError(f"LIST: names {len(names)} videos, the file has scores of {videos}")
    logits, taken = _logits(found.scores, scale, like is not None and like.multilabel)
    labels = found.labels if found.labels is not None else np.full(videos, -1)
    if len(labels) != videos:
        raise InputError(f"the file has {len(labels)} labels for {videos} videos")
    own = found.classes or tuple(classes) or (like.classes if like else tuple(map(str, range(count))))
    if len(own) != count:
        raise InputError(f"CLASSES: {len(own)} names for scores of {count} classes")
    if like is None:
        ids = tuple(_without_ending(name) for name in names)
        groups = found.groups
        if not groups and (labels >= 0).all() and all(re.search(r"_g\d+_c\d+$", name) for name in ids):  # as UCF-101 names them
            groups = tuple(guess_groups({name: own[label] for name, label in zip(ids, labels, strict=True)}).values())
        return Scores(ids, labels, own, logits, about or {}, groups if len(groups) == videos else ()), taken
    rows = _rows_of(like, names)
    if missing := sorted(set(like.classes) ^ set(own)):
        raise InputError(f"LIKE: its classes are others, {missing[0]!r} is on one side alone; give CLASSES=<file>")
    columns = [own.index(name) for name in like.classes]
    _check_labels(like, labels[rows], own)
    return Scores(like.video_ids, like.labels, like.classes, logits[rows][:, columns], about or {}, like.groups), taken


def _check_labels(like: Scores, labels: np.ndarray, classes: Sequence[str]) -> None:
    """The file's own labels (V,), in the order of LIKE's videos, must be LIKE's: else videos or classes are mixed up."""
    if labels.max(initial=-1) >= len(classes) or labels.min(initial=-1) < -1:
        raise InputError(f"the file's labels {labels.min()} to {labels.max()} do not fit its {len(classes)} classes")
    number_of = np.array([like.classes.index(name) for name in classes])
    named = np.flatnonzero(labels >= 0 if like.multilabel else (labels >= 0) & (like.labels >= 0))
    own = number_of[labels[named]]  # in LIKE's numbers
    agree = like.labels[named, own] == 1 if like.multilabel else like.labels[named] == own
    if not agree.all():
        video = named[int(agree.argmin())]
        raise InputError(
            f"LIKE: the file labels {int((~agree).sum())} of {len(named)} videos otherwise, {like.video_ids[video]!r} as "
            f"{classes[labels[video]]!r}; if its classes are in another order, name them with CLASSES=<file>"
        )


def _logits(scores: np.ndarray, scale: str, multilabel: bool) -> tuple[np.ndarray, str]:
    """Scores (V, C) as logits, and what they were taken for: of probabilities the logarithm, of several labels the logit."""
    if multilabel and scale == "auto" and (scores >= 0).all() and (scores <= 1).all():
        raise InputError(
            "SCALE: all scores lie in 0 to 1, which of several labels a video tells nothing; give SCALE=probabilities or "
            "SCALE=logits"
        )
    shares = bool((scores >= 0).all() and np.allclose(scores.sum(axis=1), 1, atol=1e-3))
    if scale == "logits" or (scale == "auto" and not shares):
        return scores, "logits"
    if (scores < 0).any():
        raise InputError("SCALE=probabilities: some scores are below 0; they are logits")
    if multilabel:
        if (scores > 1).any():
            raise InputError("SCALE=probabilities: some scores are above 1; they are logits")
        p = np.clip(scores, np.finfo(np.float32).tiny, 1 - np.finfo(np.float32).epsneg)
        return np.log(p) - np.log1p(-p), "probabilities"
    return np.log(np.maximum(scores, np.finfo(np.float32).tiny)), "probabilities"


def _without_ending(name: str) -> str:
    path = Path(name.replace("\\", "/"))
    is_video = path.suffix.lower().removeprefix(".") in ENDINGS["video"]
    return (path.with_suffix("") if is_video else path).as_posix()


def _rows_of(like: Scores, names: Sequence[str]) -> list[int]:
    """The row of each of the table's videos among the names."""
    stems = [Path(_without_ending(name)).name for name in names]
    wanted = [Path(name).name for name in like.video_ids]
    for what, some in (("LIKE", wanted), ("the file", stems)):
        if len(set(some)) != len(some):
            twice = next(name for i, name in enumerate(some) if name in some[:i])
            raise InputError(f"{what}: {twice!r} names two videos")
    if apart := sorted(set(wanted) ^ set(stems)):
        side = "LIKE" if apart[0] in set(wanted) else "the file"
        raise InputError(f"LIKE: the videos are not the same, {len(apart)} are on one side alone: {apart[0]!r} only in {side}")
    row_of = {stem: row for row, stem in enumerate(stems)}
    return [row_of[name] for name in wanted]


def read_names(path: str | Path, option: str) -> list[str]:
    """The names in a list file, one a line: a numbered class (`1 ApplyEyeMakeup`), or a video maybe followed by its number of
    frames and label. Raises InputError when it cannot be read."""
    try:
        lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{option}={path}: cannot be read ({error})") from None
    if option == "CLASSES":  # numbers in a row from 0 or 1 are no part of the names; that of "3 point shot" is
        first = [line.partition(" ")[0] for line in lines]
        rests = [line.partition(" ")[2].strip() for line in lines]
        counted = any(first == [str(start + row) for row in range(len(lines))] for start in (0, 1))
        return rests if counted and all(rests) else lines
    made = [re.sub(r"( \d+)+$", "", line) for line in lines]
    numbered = all(one != line for one, line in zip(made, lines, strict=True))
    return made if numbered and len(set(made)) == len(made) else lines  # "clip 01" and "clip 02" are two videos


def _write_csv(scores: Scores, writer: Any) -> None:
    """The column of groups is always there, so that a class may be called so."""
    writer.writerow(("video_id", "label", "group", *scores.classes))
    for row, name in enumerate(scores.video_ids):
        label = scores.classes[scores.labels[row]] if scores.labels[row] >= 0 else ""
        group = scores.groups[row] if scores.groups else ""
        writer.writerow((name, label, group, *(str(value) for value in scores.logits[row])))


def write_scores(scores: Scores, path: str | Path) -> None:
    """Write a table by its file's ending: .npz as ours, .csv, or <name>.tsn.npz as TSN's (scores (V, 1, 1, C), labels). Raises
    InputError for another ending."""
    path = Path(path)
    if path.name.endswith(".tsn.npz"):
        if scores.multilabel:
            raise InputError(f"TO={path}: TSN's files have one label a video")
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, scores=scores.logits[:, None, None, :], labels=scores.labels)
    elif path.suffix == ".npz":
        score_tables.save(scores, path)
    elif path.suffix == ".csv":
        if scores.multilabel:
            raise InputError(f"TO={path}: the CSV has one label a video; write .npz")
        try:
            with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
                _write_csv(scores, csv.writer(file))
        except UnicodeEncodeError as error:
            raise InputError(f"TO={path}: {error.object!r} is no text that a CSV can hold; write .npz") from None
    else:
        raise InputError(f"TO={path}: ends neither in .npz, .tsn.npz nor .csv; a pickle is read but never written")
