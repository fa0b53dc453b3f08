"""Rows of videos that are to be stored: checked, and as the index of a new part."""

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.store.file.about import About, VideoFacts
from reelbank.data.store.file.format import checksum
from reelbank.data.store.file.index import DTYPES, PART_NAMES, Index, are_views
from reelbank.data.store.records import DatasetDescription, StoredVideo

_MOST_VIEWS = 256  # a view's number is one byte
_EXPONENT = np.uint16(0x7C00)  # of float16: all of these bits are set in NaN and infinity


@dataclass(frozen=True)
class VideoRows:
    """A video that is not committed yet. values: (K, ...) float16 or uint8; times_seconds: (K,)
    float64; views: (K,) uint8."""

    video: StoredVideo
    values: np.ndarray
    times_seconds: np.ndarray
    views: np.ndarray


def part_index(part: Sequence[VideoRows], about: About, facts: VideoFacts) -> Index:
    """The index of a part with these videos."""
    videos = [rows.video for rows in part]
    return Index(
        video_ids=[video.id for video in videos],
        labels=[video.label for video in videos],
        groups=[video.group for video in videos],
        parts=[video.parts for video in videos],
        offsets=np.cumsum([0, *(len(rows.values) for rows in part)]),
        times_seconds=np.concatenate([np.empty(0), *(rows.times_seconds for rows in part)]),
        views=np.concatenate([np.empty(0, np.uint8), *(rows.views for rows in part)]),
        checksums=np.array([checksum(rows.values) for rows in part], np.uint64),
        row_shape=part[0].values.shape[1:] if part else (0,),
        dtype=part[0].values.dtype if part else DTYPES[0],
        about=about,
        facts=facts,
    )


def as_stored(video_id: str, values: np.ndarray) -> np.ndarray:
    """A copy of rows (K, ...) as they are stored. Raises InputError if they cannot be stored."""
    rows = np.asarray(values)
    if rows.dtype.kind not in "fiu" or rows.ndim < 2 or not rows.size:
        raise InputError(
            f"{video_id}: features must be numbers of shape (K, ...) (got {rows.dtype} "
            f"{rows.shape})"
        )
    with np.errstate(over="ignore"):
        dtype = rows.dtype if rows.dtype == np.uint8 else np.dtype("<f2")
        stored = np.array(rows, dtype, order="C")
    if not all_finite(stored):
        too_large = np.isfinite(rows).all()
        why = (
            "exceed the largest float16 number (65504)" if too_large else "contain NaN or infinity"
        )
        raise InputError(f"{video_id}: its features {why}; they are not stored")
    return stored


def all_finite(values: np.ndarray) -> bool:
    """Whether no number is NaN or infinite."""
    if values.dtype != np.float16:
        return bool(np.isfinite(values).all())
    # np.isfinite takes several times as long for float16.
    return bool((values.view(np.uint16) & _EXPONENT).max(initial=0) < _EXPONENT)


def check_finite(video_id: str, values: np.ndarray) -> None:
    """Raises InputError with the name of the video when a value is not finite."""
    if not all_finite(values):
        raise InputError(
            f"video {video_id} has features that are not finite (NaN or infinity); extract it again"
        )


def times_fault(times_seconds: np.ndarray) -> str:
    """What is wrong with the times of rows, (K,) float64; "" if they are finite."""
    is_finite = np.isfinite(times_seconds)
    if is_finite.all():
        return ""
    return f"times must be finite, but {(~is_finite).sum()} of {len(times_seconds)} are NaN or infinite"


def labelling_fault(
    dataset: DatasetDescription, classes: Set[str], label: str, parts: Sequence[str]
) -> str:
    """What is wrong with a video's label and its parts of the splits; "" if they are allowed.
    classes: those of the data set."""
    for name in dataset.label_names(label):
        if name not in classes:
            return f"its class {name!r} must be one of the data set's classes"
    if len(parts) != len(dataset.splits) or not set(parts) <= set(PART_NAMES):
        return (
            f"must have one part (train, validation, test or '') for each split (got {list(parts)})"
        )
    return ""


def check_views(video_id: str, views: np.ndarray, *, rows: int) -> None:
    """Raises InputError unless `views` are clean rows (0) and then those of views 1, 2, ..."""
    is_valid = (
        views.shape == (rows,)
        and views.dtype.kind in "iu"
        and 0 <= views.min() <= views.max() < _MOST_VIEWS
        and are_views(views, np.array([0, rows]))
    )
    if not is_valid:
        raise InputError(
            f"{video_id}: views must begin with 0 (the original video) and then be 1, 2, ... "
            f"(got {views.tolist()} for {rows} rows)"
        )
