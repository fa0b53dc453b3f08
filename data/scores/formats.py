"""Reading score files of other tools; docs/fusion.md describes the forms."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.scores import table as score_tables
from reelbank.data.scores.csv_format import read_csv
from reelbank.data.scores.foreign import (
    ForeignScores,
    as_floats,
    as_labels,
    as_matrix,
    as_texts,
    single_label,
)
from reelbank.data.scores.safe_pickle import MOST_BYTES, Refused, read_pickle

# How many times its size a compressed file may unpack to; scores compress to about half.
MOST_EXPANSION = 32
# Files that people give by mistake: first bytes -> kind.
_OTHER_FILES = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"MATLAB 7.3 MAT-file": "a MATLAB file (.mat, version 7.3)",
    b"MATLAB 5.0 MAT-file": "a MATLAB file (.mat)",
    b"\x93NUMPY": "a single numpy array (.npy)",
    b"\x1f\x8b": "a gzip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"SQLite format 3": "an SQLite database",
}
_TEXT_STARTS = (b"{", b"[", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"video_id,")


def read_scores(path: str | Path, key: str = "") -> ForeignScores:
    """Read a file of scores: an npz of arrays (names, labels, and scores under `key`), TSN's npz
    (scores, labels), CoViAR's (names too), a pickle of mmaction2's results, or a CSV, which may be
    compressed (.csv.gz). Raises InputError, naming the file, for anything else; no code of a pickle
    is run."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"FILE={path}: the file does not exist")
    try:
        if path.name.lower().endswith((".csv", ".csv.gz")):
            return read_csv(path)
        _check_kind(path)
        if zipfile.is_zipfile(path):
            return _read_npz(path, key)
        if path.stat().st_size > MOST_BYTES:
            raise Refused(f"it must be at most {MOST_BYTES >> 30} GiB")
        return _from_results(read_pickle(path.read_bytes()))
    except Refused as error:
        raise InputError(f"FILE={path}: cannot be read as a score file: {error}") from None


def _check_kind(path: Path) -> None:
    """Raises Refused for a file of another known kind, with the kind and what to do."""
    with path.open("rb") as file:
        start = file.read(64)
    kind = next((name for magic, name in _OTHER_FILES.items() if start.startswith(magic)), "")
    if not kind and start.startswith(_TEXT_STARTS):
        kind = "a text file whose name does not end in .csv"
    if kind:
        raise Refused(
            f"it is {kind}; save the scores as .npz with the arrays names, labels and scores (of "
            "shape (videos, classes)), or as .csv (docs/fusion.md describes both)"
        )


def _read_npz(path: Path, key: str) -> ForeignScores:
    members = _npz_members(path)
    if "scores" in members and ("names" not in members or not _is_matrix(members["scores"])):
        return _from_tsn(members)
    tables = sorted(name for name, value in members.items() if _is_matrix(value))
    if key not in tables and (key or len(tables) != 1):
        raise InputError(
            f"KEY={key}: must be the name of a score array in {path}, which contains the score "
            f"arrays {', '.join(tables) or '(none)'}"
        )
    return ForeignScores(
        form="npz of arrays",
        scores=as_matrix(members[key or tables[0]]),
        names=as_texts(members["names"]) if "names" in members else (),
        labels=as_labels(members["labels"]) if "labels" in members else None,
    )


def _npz_members(path: Path) -> dict[str, object]:
    """The arrays of an npz by name; lists where it holds objects. Raises Refused."""
    most_bytes = min(MOST_BYTES, max(MOST_EXPANSION * path.stat().st_size, 1 << 20))
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            unpacked_bytes = sum(entry.file_size for entry in entries)
            if unpacked_bytes > most_bytes:
                raise Refused(
                    f"its unpacked data must have at most {most_bytes:,} bytes for a file of this "
                    f"size (got {unpacked_bytes:,} bytes)"
                )
            for entry in entries:
                if not entry.filename.endswith(".npy"):
                    raise Refused(
                        f"it is an archive that contains {entry.filename}, but only arrays (.npy) "
                        "are allowed; if it is a checkpoint, give a file of scores instead"
                    )
            return {
                entry.filename.removesuffix(".npy"): _read_npy(archive.read(entry))
                for entry in entries
            }
    except score_tables.DAMAGE as error:
        raise Refused((str(error).splitlines() or ["it is damaged"])[0]) from None


def _is_matrix(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.ndim == 2


def _from_tsn(members: dict[str, Any]) -> ForeignScores:
    """TSN's npz, or CoViAR's, which also has names. Each entry of `scores` is an array that
    `_mean_over_frames` takes, or a pair of that array and the label."""
    scores, labels = members["scores"], members.get("labels")
    if not isinstance(scores, np.ndarray) and all(_is_pair(value) for value in scores):
        labels = [label for _, label in scores] if labels is None else labels
        scores = [value for value, _ in scores]
    matrix, numbers = _mean_over_frames(scores), None if labels is None else as_labels(labels)
    if "names" not in members:
        return ForeignScores(form="TSN's npz", scores=matrix, labels=numbers, sorts=True)
    return ForeignScores(
        form="CoViAR's npz",
        scores=matrix,
        names=as_texts(members["names"]),
        labels=numbers,
        parts=as_texts(members["parts"]) if "parts" in members else (),  # from `write_scores`
    )


def _is_pair(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], np.ndarray)
        and isinstance(value[1], int)
    )


def _read_npy(data: bytes) -> object:
    """One array of an npz; a list if it holds objects."""
    stream = io.BytesIO(data)
    try:
        return np.load(stream, allow_pickle=False)
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
    stream.seek(0)
    if np.lib.format.read_magic(stream) == (1, 0):
        shape, _, _ = np.lib.format.read_array_header_1_0(stream)
    else:
        shape, _, _ = np.lib.format.read_array_header_2_0(stream)
    values = read_pickle(stream.read())
    if not isinstance(values, list) or (shape and len(values) != shape[0]):
        given = len(values) if isinstance(values, list) else type(values).__name__
        raise Refused(f"it is damaged: an array must have the shape {shape} (got {given} objects)")
    return values


def _mean_over_frames(values: Any) -> np.ndarray:
    """TSN's scores as (V, C): the mean over frames and crops, before softmax, as TSN's own
    evaluation computes it.

    values: an entry per video of (frames, crops, C), (frames, 1, C) or (frames, C), or a list of
    arrays of which the first is that.
    """
    if isinstance(values, np.ndarray):
        if values.ndim <= 2 or not values.size:
            return as_matrix(values)
        return as_matrix(as_floats(values).reshape(len(values), -1, values.shape[-1]).mean(axis=1))
    rows = []
    for value in values:
        array = as_floats(value[0] if _starts_with_array(value) else value)
        if array.ndim and array.size:
            array = array.reshape(-1, array.shape[-1]).mean(axis=0)
        rows.append(array)
    return as_matrix(rows)


def _starts_with_array(value: object) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and isinstance(value[0], np.ndarray)
        and value[0].ndim > 1
    )


def _from_results(results: Any) -> ForeignScores:
    """mmaction2's results: a list of dicts with pred_score and gt_label, or (0.x) of arrays
    (C,)."""
    form = "mmaction2's results"
    if not isinstance(results, list):
        raise Refused(f"it must contain a list of results (got {type(results).__name__})")
    if not results:
        raise Refused("its list of results is empty")
    if not all(isinstance(result, dict) for result in results):
        return ForeignScores(form=form, scores=as_matrix(results))
    rows, labels, names = [], [], []
    for number, result in enumerate(results, 1):
        score = _item(result.get("pred_score", result.get("pred_scores")))
        if score is None:
            raise Refused(f"result {number} has no pred_score")
        rows.append(score)
        labels.append(single_label(_item(result.get("gt_label", result.get("gt_labels")))))
        names.append(result.get("frame_dir") or result.get("filename"))
    has_names = all(isinstance(name, str) for name in names)
    return ForeignScores(
        form=form,
        scores=as_matrix(rows),
        names=tuple(names) if has_names else (),
        labels=np.array(labels),
    )


def _item(value: Any) -> Any:
    """mmaction2 1.x wraps some values as {"item": value}."""
    return value.get("item") if isinstance(value, dict) else value
