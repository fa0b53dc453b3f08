"""What a model answers to single videos, in the form that the map and the list show."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from reelbank.data.scores.joining import rows_of
from reelbank.data.scores.likeliest import likeliest
from reelbank.data.scores.table import Scores
from reelbank.fusion.report.videos.packing import packed_numbers, packed_texts, shown

UNKNOWN, RIGHT, WRONG = range(3)
_ROWS_AT_ONCE = 4096  # their scores are copied
_SCORE_STEPS = 10_000  # a probability is packed as a number of ten-thousandths


class Answer(NamedTuple):
    """A model's answer to one video.

    label: its class, or classes separated by commas; "" if unknown. predicted: number of the most
    probable class, -1 if the model was not evaluated on the video. probability: of this class, in
    [0, 1]. state: RIGHT, WRONG, or UNKNOWN without a label or without an answer.
    """

    video_id: str
    label: str
    predicted: int = -1
    probability: float = 0.0
    state: int = UNKNOWN


def answers_of(scores: Scores, rows: np.ndarray) -> list[Answer]:
    """The answers in some rows of a score table, (V,) int64, in this order. The prediction for a
    multi-label video is right if it is one of the video's classes; for a video without any class,
    this is unknown."""
    answers: list[Answer] = []
    for first in range(0, len(rows), _ROWS_AT_ONCE):
        answers += _answers(rows_of(scores, rows[first : first + _ROWS_AT_ONCE].tolist()))
    return answers


def _answers(scores: Scores) -> list[Answer]:
    best = likeliest(scores, 1)
    predicted, probabilities = best.numbers[:, 0], best.chances[:, 0]
    if scores.multilabel:
        is_right = scores.labels[np.arange(len(predicted)), predicted] > 0
        has_label = scores.labels.any(axis=1)
    else:
        is_right, has_label = predicted == scores.labels, scores.labels >= 0
    states = np.where(has_label, np.where(is_right, RIGHT, WRONG), UNKNOWN)
    rows = zip(
        scores.video_ids,
        _labels(scores),
        predicted.tolist(),
        probabilities.tolist(),
        states.tolist(),
        strict=True,
    )
    return [Answer(*row) for row in rows]


def _labels(scores: Scores) -> list[str]:
    if not scores.multilabel:
        return [scores.classes[label] if label >= 0 else "" for label in scores.labels.tolist()]
    return [
        ", ".join(scores.classes[number] for number in np.flatnonzero(row)) for row in scores.labels
    ]


def numbered(texts: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The distinct texts, sorted, and the number of each text among them, (V,) int64."""
    distinct = sorted(set(texts))
    number_of = {text: number for number, text in enumerate(distinct)}
    return distinct, np.fromiter((number_of[text] for text in texts), np.int64, len(texts))


def packed_answers(answers: Sequence[Answer], classes: Sequence[str]) -> dict[str, object]:
    """The answers to V videos in the form for the page's script, which JSON can contain. classes: of
    the model."""
    label_names, labels = numbered([answer.label for answer in answers])
    # 0 stands for a video without an answer
    predicted = 1 + np.array([answer.predicted for answer in answers])
    scores = _SCORE_STEPS * np.array([answer.probability for answer in answers])
    return {
        "ids": packed_texts([answer.video_id for answer in answers]),
        "labelNames": [shown(name) for name in label_names],
        "labels": packed_numbers(labels),
        "classes": [shown(name) for name in classes],
        "predicted": packed_numbers(predicted),
        "scores": packed_numbers(scores),
        "states": packed_numbers(np.array([answer.state for answer in answers])),
    }
