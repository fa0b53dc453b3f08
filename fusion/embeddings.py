"""The embeddings of several runs, joined to one vector for each video (multi-stream paper, III.D)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.store.reader import Store
from reelbank.heads.runs.leak_guard import check_unseen


def embeddings_of(run: Path, split: str, video_ids: Sequence[str]) -> np.ndarray:
    """A run's embeddings of these videos, (V, E) float64, nan for a video that the run does not
    contain. Raises InputError when the store cannot be read, and when its head was trained on test
    videos of the split."""
    with Store.open(run / "embeddings.h5") as store:
        if split in store.dataset.splits:
            check_unseen(store, split)
        row_of = {name: row for row, name in enumerate(store.video_ids)}
        values, offsets, _ = store.load()  # (R, E), (V + 1,)
        vectors = np.full((len(video_ids), values.shape[1]), np.nan)
        for place, name in enumerate(video_ids):
            if name in row_of:
                vectors[place] = values[offsets[row_of[name]]]
    return vectors


def concatenated(embeddings: Sequence[np.ndarray], *, with_mask: bool) -> np.ndarray:
    """The concatenated embeddings (V, E_i) of several runs, (V, E). with_mask: missing videos (nan)
    become zeros, and a column is appended for each run, with 1 for the videos that it has."""
    missing = [np.isnan(vectors).any(axis=1) for vectors in embeddings]  # (V,) each
    if not with_mask:
        if any(rows.any() for rows in missing):
            raise InputError(
                "at least one run has scores, but no embeddings, for some videos; train "
                "this run again, or give MISSING=allow"
            )
        return np.concatenate(list(embeddings), axis=1)
    filled = [
        np.where(rows[:, None], 0.0, vectors)
        for vectors, rows in zip(embeddings, missing, strict=True)
    ]
    mask = np.stack([~rows for rows in missing], axis=1).astype(np.float64)
    return np.concatenate([*filled, mask], axis=1)
