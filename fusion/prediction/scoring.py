"""The scores of video files by runs of every kind."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from reelbank.data.console import some
from reelbank.data.errors import InputError
from reelbank.data.scores.held_out import combined
from reelbank.data.scores.table import Scores
from reelbank.data.store.reader import Store
from reelbank.data.store.records import Failure
from reelbank.extract.again import own_extractor
from reelbank.fusion.embeddings import concatenated
from reelbank.fusion.late import fuse
from reelbank.fusion.prediction.features import FileFeatures, RunScores
from reelbank.fusion.prediction.runs import members_of, own_head, recorded_weights
from reelbank.fusion.prediction.same_features import FILES
from reelbank.fusion.svm import load_svm, margins
from reelbank.heads.predict import predicted_and_embedded
from reelbank.heads.runs.folder import Run


def run_scores(run: Run, features: FileFeatures) -> RunScores:
    """A run's scores of the files. For a fused run, the scores of its members are fused."""
    head = run.recipe.get("head")
    if head == "fused":
        members = members_of(run, features.options.searched)
        scores = [run_scores(member, features) for member in members]
        weights = recorded_weights(run)
        return fused_scores(scores, members, str(run.recipe.get("how")), weights, features)
    if head == "svm":
        return _svm_scores(run, features)
    return _head_scores(run, features)


def _head_scores(run: Run, features: FileFeatures) -> RunScores:
    """A trained head's scores."""
    paths = features.stores_of(run, lambda other: run_scores(other, features))
    without_input: dict[str, Failure] = {}
    rows: dict[str, list[int]] = {video.id: [] for video in features.videos}  # in each store
    for path in paths:
        with Store.open(path) as store:
            for name, count in zip(store.video_ids, store.rows.tolist(), strict=True):
                rows[name].append(count)
            for name, failure in store.failures.items():
                if failure.is_absence:
                    without_input.setdefault(name, failure)
                else:
                    features.failed.setdefault(name, str(failure))
    complete = {name: counts for name, counts in rows.items() if len(counts) == len(paths)}
    for name, counts in complete.items():
        if len(set(counts)) > 1:
            text = ", ".join(map(str, counts))
            features.failed.setdefault(
                name,
                f"{run.path.name} combines several streams, which must have the same "
                f"number of rows for a video (got {text})",
            )
    if not complete.keys() - features.failed.keys():
        return RunScores(None, None, without_input)
    network = str(run.recipe.get("trunk", {}).get("extractor", ""))
    predicted = predicted_and_embedded(
        run.path,
        *paths,
        extractor=own_extractor(network, features.user_files),
        head=own_head(run, features.options.head),
        streams=features.user_files.streams,
        of_files=True,
    )
    table = replace(predicted.scores, about=predicted.scores.about | {"dataset": FILES})
    return RunScores(table, predicted.embeddings, without_input)


def fused_scores(
    scores: Sequence[RunScores],
    runs: Sequence[Run],
    how: str,
    weights: Sequence[float],
    features: FileFeatures,
) -> RunScores:
    """The scores of several runs, fused into one table. A run is not used for videos that have no
    input for it (no sound)."""
    members = list(zip(scores, runs, weights or [1.0] * len(scores), strict=True))
    if any(weight > 0 for _, _, weight in members):  # members of weight 0 do not count
        members = [member for member in members if member[2] > 0]
    tables = [(scored.scores, weight) for scored, _, weight in members if scored.scores is not None]
    if how == "rank" and any(table.multilabel for table, _ in tables):
        raise InputError(
            "HOW=rank: for multi-label data, ranks are computed over all videos of a "
            "test set, so they are undefined for single videos; give another HOW"
        )
    missing = [set(scored.without_input) - features.failed.keys() for scored, _, _ in members]
    by_all: set[str] = set(missing[0]).intersection(*missing[1:])
    for (scored, run, _), videos in zip(members, missing, strict=True):
        if left_out := sorted(videos - by_all):
            features.notes.append(_left_out_note(run, left_out, scored))
    without_input = {name: members[0][0].without_input[name] for name in by_all}
    if not tables:
        return RunScores(None, None, without_input)
    used_weights = [weight for _, weight in tables]
    fused = fuse([table for table, _ in tables], how, used_weights, missing="allow")
    return RunScores(fused, None, without_input)


def _left_out_note(run: Run, videos: Sequence[str], scores: RunScores) -> str:
    return (
        f"{run.path.name} is not used for {some(videos)} ({scores.without_input[videos[0]].reason})"
    )


def _svm_scores(run: Run, features: FileFeatures) -> RunScores:
    """The scores of an SVM on the joined embeddings of other runs."""
    model, _ = load_svm(run.path)
    members = members_of(run, features.options.searched)
    scores = [run_scores(member, features) for member in members]
    has_mask = run.recipe.get("missing") == "allow"
    without_input: dict[str, Failure] = {}
    for member_scores in scores:
        without_input |= member_scores.without_input
    if has_mask:  # in this case, a video needs only one member that has input
        without_input = {
            name: failure
            for name, failure in without_input.items()
            if all(name in member_scores.without_input for member_scores in scores)
        }
    excluded = without_input.keys() | features.failed.keys()
    ids = [video.id for video in features.videos if video.id not in excluded]
    if not ids:
        return RunScores(None, None, without_input)
    vectors = []
    for member, member_scores in zip(members, scores, strict=True):
        vectors.append(_embeddings(member, member_scores, ids))
        left_out = [name for name in ids if name in member_scores.without_input]
        if has_mask and left_out:
            features.notes.append(_left_out_note(member, left_out, member_scores))
    tables = [member_scores.scores for member_scores in scores if member_scores.scores is not None]
    table = Scores(
        tuple(ids),
        np.full(len(ids), -1),
        tuple(run.recipe["classes"]),
        margins(model, concatenated(vectors, with_mask=has_mask)),
        {"dataset": FILES, "name": run.path.name, "head": "svm"},
        parts=_combined_parts(tables, ids),
    )
    return RunScores(table, None, without_input)


def _embeddings(member: Run, scores: RunScores, ids: Sequence[str]) -> np.ndarray:
    """The member's embeddings of the videos, (V, E) float64, rounded to float16 as in stores. They
    are nan for a video that the member has no embedding of."""
    with Store.open(member.path / "embeddings.h5") as store:
        vectors = np.full((len(ids), *store.row_shape), np.nan)
    if scores.scores is not None and scores.embeddings is not None:
        row_of = {name: row for row, name in enumerate(scores.scores.video_ids)}
        places = [place for place, name in enumerate(ids) if name in row_of]
        rows = [row_of[ids[place]] for place in places]
        vectors[places] = scores.embeddings[rows].astype(np.float16)
    return vectors


def _combined_parts(tables: Sequence[Scores], ids: Sequence[str]) -> tuple[str, ...]:
    """The part of each video, combined over all tables that contain the video."""
    parts_of = [dict(zip(table.video_ids, table.parts, strict=True)) for table in tables]
    return tuple(combined(parts[name] for parts in parts_of if name in parts) for name in ids)
