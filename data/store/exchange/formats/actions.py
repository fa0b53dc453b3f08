"""Annotated actions of the videos of a store, for the formats that have a place for them."""

from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np

from reelbank.data.datasets.untrimmed import Action
from reelbank.data.errors import InputError
from reelbank.data.store.exchange.annotations import (
    AnnotatedVideo,
    read_annotations,
    recorded_actions,
)
from reelbank.data.store.exchange.formats.types import Export
from reelbank.data.store.exchange.formats.videos import ExportedVideo
from reelbank.data.store.exchange.mstcn_folder import BACKGROUND, stored_row_labels
from reelbank.data.store.reader import Store


def stored_actions(store: Store, video: ExportedVideo) -> list[Action]:
    """The actions that `import` recorded, or runs of rows whose class it recorded; [] if there are
    none. Raises InputError."""
    try:
        recorded = recorded_actions(video.source.get("annotations", []))
    except ValueError as error:
        raise InputError(f"{video.id}: its annotations in the store {error}") from None
    return recorded or _actions_of_rows(video, store.times_seconds(video.id))


def _actions_of_rows(video: ExportedVideo, times_seconds: np.ndarray) -> list[Action]:
    """An action ends in the middle between its last row and the next one, and begins in the middle
    between its first row and the one before."""
    labels = stored_row_labels(video.source, len(times_seconds))
    edges = _edges_seconds(times_seconds)
    actions = []
    for label, run in groupby(range(len(labels)), key=labels.__getitem__):
        rows = list(run)
        if label != BACKGROUND:
            actions.append(Action(label, float(edges[rows[0]]), float(edges[rows[-1] + 1])))
    return actions


def _edges_seconds(times_seconds: np.ndarray) -> np.ndarray:
    """(K + 1,) row k lasts from edge k to edge k + 1. The first and the last row extend as far to
    both sides; a single row has no length."""
    middles = (times_seconds[:-1] + times_seconds[1:]) / 2
    if not len(middles):
        return np.repeat(times_seconds, 2)
    first = max(0.0, 2 * times_seconds[0] - middles[0])
    last = 2 * times_seconds[-1] - middles[-1]
    return np.array([first, *middles, last])


def given_name(video_id: str, database: Mapping[str, AnnotatedVideo]) -> str:
    """The name of a video in a file of annotations, "" if the file does not name it."""
    base = video_id.rpartition("/")[2]
    names = (video_id, base, base.removeprefix("v_"))
    return next((name for name in names if name in database), "")


def actions_of(export: Export, videos: Sequence[ExportedVideo]) -> list[list[Action]]:
    """The actions of each video, of ANNOTATIONS= or as stored. Raises InputError if ANNOTATIONS does
    not name one of the videos."""
    if not export.options.annotations:
        return [stored_actions(export.store, video) for video in videos]
    database = read_annotations(export.options.annotations).videos
    names = [given_name(video.id, database) for video in videos]
    missing = [video.id for video, name in zip(videos, names, strict=True) if not name]
    if missing:
        raise InputError(
            f"ANNOTATIONS={export.options.annotations}: the file must name all videos of the store, but "
            f"{len(missing)} of {len(videos)} are missing, such as {missing[0]}; add them, with an "
            "empty list 'annotations' if they contain no action"
        )
    return [list(database[name].actions) for name in names]


def row_labels(actions: Sequence[Action], times_seconds: np.ndarray, other: str) -> list[str]:
    """The class of each row: that of the action during which its time is, of several the one that
    begins last; `other` without an action."""
    labels = [other] * len(times_seconds)
    for action in sorted(actions, key=lambda action: action.start_seconds):
        inside = (times_seconds >= action.start_seconds) & (times_seconds <= action.end_seconds)
        for row in np.flatnonzero(inside).tolist():
            labels[row] = action.label
    return labels
