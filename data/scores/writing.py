"""Writing a score table in the form that its file's ending names."""

from pathlib import Path

import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.files import replacing
from reelbank.data.scores import table as score_tables
from reelbank.data.scores.csv_format import write_csv
from reelbank.data.scores.held_out import recorded_parts
from reelbank.data.scores.table import Scores
from reelbank.data.text_files import csv_file


def write_scores(scores: Scores, path: str | Path) -> None:
    """Write a table by the ending of its file: .npz (reelbank's own form), .csv, or .tsn.npz (TSN's
    form). Raises InputError for any other ending, and for labels or names that the form cannot
    hold."""
    path = Path(path)
    if path.name.endswith(".tsn.npz"):
        _write_tsn(scores, path)
    elif path.suffix == ".npz":
        score_tables.save(scores, path)
    elif path.suffix == ".csv":
        _write_csv_file(scores, path)
    else:
        raise InputError(
            f"TO={path}: the file name must end in .npz, .tsn.npz or .csv; reelbank can read "
            "pickles, but not write them"
        )


def _write_tsn(scores: Scores, path: Path) -> None:
    """TSN's npz: scores (V, 1, 1, C) and labels, with names as CoViAR's, and parts if they are
    recorded."""
    if scores.multilabel:
        raise InputError(
            f"TO={path}: multi-label scores cannot be written in the format of TSN, which has one "
            "label per video; give a name that ends in .npz"
        )
    # tsn-pytorch's own scripts expect the rows in the order of the sorted names.
    rows = sorted(range(len(scores.video_ids)), key=scores.video_ids.__getitem__)
    arrays = {
        "scores": scores.logits[rows][:, None, None, :],
        "labels": scores.labels[rows],
        "names": np.array([scores.video_ids[row] for row in rows], dtype=np.str_),
    }
    parts = recorded_parts(scores)
    if parts:
        arrays["parts"] = np.array([parts[row] for row in rows], dtype=np.str_)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _write_csv_file(scores: Scores, path: Path) -> None:
    if scores.multilabel:
        raise InputError(
            f"TO={path}: multi-label scores cannot be written as CSV, which has one label per "
            "video; give a name that ends in .npz"
        )
    try:
        with csv_file(path, errors="strict") as writer:
            write_csv(scores, writer)
    except UnicodeEncodeError as error:
        raise InputError(
            f"TO={path}: the name of a video, {error.object!r}, cannot be written as UTF-8; to keep "
            "this name, give an output file whose name ends in .npz"
        ) from None
