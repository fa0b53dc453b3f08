"""The command `predict`, which computes class scores of video files, or of every video of a store,
with trained runs."""

import errno
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from reelbank.data.console import counted, percent, print_lines
from reelbank.data.errors import InputError
from reelbank.data.files import temporary_folder
from reelbank.data.ranges import check_value
from reelbank.data.scores import table as score_tables
from reelbank.data.scores.joining import rows_of
from reelbank.data.scores.likeliest import likeliest
from reelbank.data.scores.table import Scores
from reelbank.data.store.bank import find_store
from reelbank.data.text_files import csv_file
from reelbank.data.video.limits import Limits
from reelbank.fusion.late import fuse
from reelbank.fusion.options import PredictOptions
from reelbank.fusion.prediction.features import FileFeatures
from reelbank.fusion.prediction.named_videos import NamedVideos, named_videos
from reelbank.fusion.prediction.notes import backbone_notes, damage_notes, training_notes
from reelbank.fusion.prediction.of_store import csv_cells, csv_heading, predict_store
from reelbank.fusion.prediction.runs import (
    check_weights,
    members_of,
    named_runs,
    own_head,
    recorded_weights,
    run_words,
)
from reelbank.fusion.prediction.same_features import own_files
from reelbank.fusion.prediction.scoring import fused_scores, run_scores
from reelbank.heads.predict import predicted
from reelbank.heads.runs.folder import Run
from reelbank.heads.runs.writing import output_file, written_to
from reelbank.heads.training.planning.stores import store_names


class ClassProbability(NamedTuple):
    """A class and its probability in [0, 1]."""

    name: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The result of `predict_with`.

    scores: None if no video could be predicted; shown: the path of every video as it was given, by
    id; failed: the reason why a video could not be predicted, by id.
    """

    scores: Scores | None
    shown: dict[str, str]
    failed: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def likeliest(self, k: int) -> dict[str, list[ClassProbability]]:
        """The k most likely classes of each predicted video."""
        return top(self.scores, k) if self.scores else {}

    def records(self, k: int = 5) -> list[dict[str, Any]]:
        """Every video as a JSON-serialisable record with its k most likely classes or the reason
        for its failure."""
        likeliest = self.likeliest(k)
        return [
            {
                "video": path,
                "classes": [best._asdict() for best in likeliest.get(name, [])],
                "error": self.failed.get(name, ""),
            }
            for name, path in self.shown.items()
        ]

    def lines(self, k: int = 5) -> Iterator[str]:
        """The k most likely classes as lines of text. One video has a line for each class, and
        several videos have one line each."""
        for name, classes in self.likeliest(k).items():
            if len(self.shown) == 1:
                yield self.shown[name]
                for best in classes:
                    yield f"  {percent(best.probability, 1):>5} %  {best.name}"
            else:
                texts = [f"{best.name} {percent(best.probability, 1)} %" for best in classes]
                yield f"{self.shown[name]}: {', '.join(texts)}"

    def write(self, path: str | Path, k: int = 5) -> None:
        """Write all scores as .npz, or the k most likely classes as .csv with the columns video,
        class1, probability1, class2 ..., error."""
        if Path(path).suffix == ".npz":
            assert self.scores is not None
            score_tables.save(self.scores, path)
            return
        likeliest = self.likeliest(k)
        count = max(map(len, likeliest.values()), default=0)
        with csv_file(Path(path)) as writer:
            writer.writerow(csv_heading(count))
            for name, text in self.shown.items():
                cells = csv_cells(likeliest.get(name, [])) or [""] * 2 * count
                writer.writerow([text, *cells, self.failed.get(name, "")])


def predict_videos(options: PredictOptions) -> int:
    """Run the command and print the most likely classes of each video with their probabilities.
    Returns the exit code, which is 1 if a video could not be predicted. Raises InputError as
    `predict_with` does, and when TO cannot be written."""
    if not options.run:
        raise InputError("RUN= is required; 'reelbank runs' lists the runs")
    to = _output_file(options)
    if not options.videos:
        runs = named_runs(options.searched, run_words(options.run))
        if len(runs) == 1 and runs[0].recipe.get("head") != "fused":
            check_weights(runs, options.weights)
            return predict_store(runs[0], options, to)
    prediction = predict_with(options)
    for line in prediction.lines(options.top):
        print_lines(line)
    for note in prediction.notes:
        print_lines(f"note: {note}", file=sys.stderr if options.videos else sys.stdout)
    for name, reason in prediction.failed.items():
        print_lines(f"failed: {prediction.shown[name]}: {reason}", file=sys.stderr)
    scored = len(prediction.scores.video_ids) if prediction.scores else 0
    if to and (scored or to.endswith(".csv")):
        with written_to("TO", to):
            prediction.write(to, options.top)
        print_lines(f"scores of {counted(scored, 'video')} written to {to}")
    return int(bool(prediction.failed))


def _output_file(options: PredictOptions) -> str:
    """The value of TO, checked before the work starts. The default for a folder of videos is a CSV
    file in the bank, or none if the bank is read-only."""
    to = options.to
    folders = [word for word in options.videos if Path(word).is_dir()]
    if folders and not to:
        name = re.sub(r"[^\w.-]+", "_", Path(folders[0]).resolve().name) or "videos"
        usual = output_file("", Path(options.bank, "reports", f"predict-{name}.csv"))
        if usual is None:
            print_lines(
                "note: the bank is read-only; TO=<file>.csv writes a table", file=sys.stderr
            )
            return ""
        usual.parent.mkdir(parents=True, exist_ok=True)
        to = str(usual)
    if to and Path(to).suffix not in (".csv", ".npz"):
        raise InputError(
            f"TO={to}: the name must end in .csv (the most likely classes) or .npz (all scores)"
        )
    if to:
        with written_to("TO", to):
            Path(to).parent.stat()
            if Path(to).is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return to


def predict_with(options: PredictOptions) -> Prediction:
    """Predict the files that VIDEOS names, or without it the videos of STORE.

    Raises InputError when a file, run or store does not exist, and when features cannot be made as
    in training.
    """
    words = run_words(options.run)
    if not options.videos:
        return _predict_store(named_runs(options.searched, words), options)
    if options.store:
        raise InputError(f"STORE={options.store}: give a store or videos, not both")
    videos = named_videos(options.videos)
    return _predict_files(videos, named_runs(options.searched, words), options)


def predict(
    videos: str | Path | Sequence[str | Path],
    runs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    how: str = "product",
    weights: Sequence[float] = (),
    bank: str | Path = "bank",
    *,
    banks: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    head: str | Sequence[str] = (),
    limits: Limits | None = None,
    **options: Any,
) -> Scores:
    """Predict the classes of video files with trained runs. Returns the scores of all classes; `top`
    returns the most likely classes.

    videos: video files, or folders that are searched for videos. runs: runs that `train` returned,
    their folders, or names or first characters of hashes of runs in `bank` or other `banks`. how,
    weights: how the scores of several runs are fused (see `fuse`). head: path/to/file.py:name, for a
    run whose head is defined in a user's file. limits: limits on the memory and time for decoding a video.
    options: extractor, extractor_weights, flow_weights, stream, trust_remote_code, device, workers,
    image_fps and damaged, as for the command `reelbank predict`.

    The `video_ids` of the result are file names without the extension. For videos in folders, they
    also contain the subfolders. The labels are unknown. If a video cannot be predicted, it is not
    in the result, and `about["failed"]` maps its id to the reason.

    Raises InputError if no video can be predicted, if a file or run does not exist, or if the
    features cannot be computed in the same way as in training.
    """
    values = {"bank": str(bank), "banks": _listed(banks), "how": how, "weights": tuple(weights)}
    values["head"] = _listed(head)
    values |= vars(limits) if limits else {}
    checked = PredictOptions(**{**values, **options})
    words = _listed(runs)
    prediction = _predict_files(
        named_videos(_listed(videos)), named_runs(checked.searched, words), checked
    )
    for note in prediction.notes:
        print_lines(f"note: {note}", file=sys.stderr)
    scores, failed = prediction.scores, prediction.failed
    if scores is None:
        name, reason = next(iter(failed.items()))
        more = len(failed) - 1
        raise InputError(
            f"{name}: {reason}" + (f" (and {counted(more, 'more video')} failed)" if more else "")
        )
    return replace(scores, about=scores.about | {"failed": failed})


def _listed(values: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> tuple[str, ...]:
    """One path or several, as text."""
    if isinstance(values, str | os.PathLike):
        return (os.fspath(values),)
    return tuple(os.fspath(value) for value in values)


def top(scores: Scores, k: int = 5) -> dict[str, list[ClassProbability]]:
    """The k most likely classes of each video with their probabilities, the most likely first.
    Returns a dictionary from video ids to lists of ClassProbability. Classes with equal
    scores are in the order of `scores.classes`. Raises InputError if k is below 1."""
    check_value("TOP", k, int, PredictOptions.__dataclass_fields__["top"].metadata)
    numbers, chances = (table.tolist() for table in likeliest(scores, k))
    return {
        name: [
            ClassProbability(scores.classes[number], chance)
            for number, chance in zip(of_video, chances_of_video, strict=True)
        ]
        for name, of_video, chances_of_video in zip(scores.video_ids, numbers, chances, strict=True)
    }


def _predict_store(runs: Sequence[Run], options: PredictOptions) -> Prediction:
    """The scores of all videos of a store."""
    check_weights(runs, options.weights)
    paths = [find_store(options.searched, name) for name in store_names(options.store)]
    tables = [_scores_of_store(run, paths, options) for run in runs]
    table = tables[0] if len(tables) == 1 else fuse(tables, options.how, options.weights)
    ids = set(table.video_ids)
    notes = training_notes(table) + backbone_notes(paths, ids, of_files=False)
    notes += damage_notes(paths, ids)
    return Prediction(table, {name: name for name in table.video_ids}, notes=tuple(notes))


def _scores_of_store(run: Run, paths: Sequence[Path], options: PredictOptions) -> Scores:
    """A run's scores. For a fused run, the scores of its members are fused as it records."""
    if run.recipe.get("head") == "fused":
        members = members_of(run, options.searched)
        tables = [_scores_of_store(member, paths, options) for member in members]
        return fuse(tables, str(run.recipe.get("how")), recorded_weights(run))
    return predicted(
        run.path,
        *paths,
        extractor=options.extractor,
        head=own_head(run, options.head),
        streams=own_files(options.stream),
    )


def _predict_files(named: NamedVideos, runs: Sequence[Run], options: PredictOptions) -> Prediction:
    """The scores of video files. The features are made in a temporary folder."""
    check_weights(runs, options.weights)
    with temporary_folder("reelbank-predict") as folder:
        features = FileFeatures(folder, named.videos, options)
        scores = [run_scores(run, features) for run in runs]
        whole = scores[0]
        if len(scores) > 1:
            whole = fused_scores(scores, runs, options.how, options.weights, features)
        paths, ids = list(features.stores.values()), {video.id for video in named.videos}
        notes = features.notes + backbone_notes(paths, ids, of_files=True)
        notes += damage_notes(paths, ids)
    reasons = {name: failure.reason for name, failure in whole.without_input.items()}
    reasons |= features.failed
    failed = {video.id: reasons[video.id] for video in named.videos if video.id in reasons}
    table = whole.scores and _in_order(whole.scores, named, failed)
    if table:
        notes = training_notes(table) + notes
    return Prediction(table, named.shown, failed, (*named.notes, *notes))


def _in_order(table: Scores, named: NamedVideos, failed: dict[str, str]) -> Scores | None:
    """The rows of the videos that did not fail, in the order in which they were named."""
    row_of = {name: row for row, name in enumerate(table.video_ids)}
    ids = [video.id for video in named.videos if video.id in row_of and video.id not in failed]
    return rows_of(replace(table, groups=()), [row_of[name] for name in ids]) if ids else None
