"""The command `anomaly`. It finds videos that do not resemble normal videos by the reconstruction
error of an autoencoder, and compares the autoencoder with two baselines."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reelbank.data.console import counted, nearest, print_lines, table_lines
from reelbank.data.errors import InputError
from reelbank.data.identity import differences
from reelbank.data.store.bank import find_store
from reelbank.data.store.reader import Store
from reelbank.data.text_files import csv_file
from reelbank.fusion.detectors.autoencoder import load_detector, reconstruction_errors
from reelbank.fusion.detectors.fit import fit_detector
from reelbank.fusion.detectors.folder import (
    Detector,
    DetectorMetrics,
    Threshold,
    finished_detectors,
    read_detector,
)
from reelbank.fusion.detectors.methods import AUTOENCODER, METHODS
from reelbank.fusion.detectors.videos import StoreVideos, mean_rows, read_videos
from reelbank.fusion.options import AnomalyOptions

MOST_PRINTED = 10  # number of videos with the highest errors that are printed


@dataclass(frozen=True)
class HeldOut:
    """The figures of each seed for one set of abnormal classes."""

    abnormal: tuple[str, ...]
    seeds: tuple[DetectorMetrics, ...]

    def auc(self, method: str) -> list[float]:
        """The area under the ROC curve of each seed."""
        return [metrics.auc[method] for metrics in self.seeds]

    def record(self) -> dict[str, Any]:
        """The figures as JSON-serialisable values."""
        return {
            "abnormal": list(self.abnormal),
            "auc": {method: self.auc(method) for method in METHODS},
            "seeds": [metrics.to_json() for metrics in self.seeds],
        }


@dataclass(frozen=True)
class Anomalies:
    """The result of `detect_anomalies`, with the figures for each set of abnormal classes.
    folder: contains the scores of every video; is_turn: whether every class was held out in turn
    (EACH=1)."""

    held_out: tuple[HeldOut, ...]
    is_turn: bool
    notes: tuple[str, ...]
    folder: Path

    def records(self) -> list[dict[str, Any]]:
        """The figures as JSON-serialisable values."""
        return [held_out.record() for held_out in self.held_out]

    def lines(self) -> Iterator[str]:
        """The tables as lines of text."""
        for note in self.notes:
            yield f"note: {note}"
        yield from table_lines(self._auc_rows())
        if not self.is_turn:
            yield ""
            yield f"thresholds of the {AUTOENCODER} with the first seed:"
            thresholds = self.held_out[0].seeds[0].thresholds
            heading = (
                "false alarms accepted",
                "threshold",
                "false alarms on test",
                "detected on test",
            )
            yield from table_lines([heading, *map(_threshold_cells, thresholds)])
        yield f"scores of every video: {self.folder}/*/scores.csv"

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def _auc_rows(self) -> list[tuple[str, ...]]:
        heading = ["abnormal classes", "seeds", "normal videos", "abnormal videos", "bottleneck"]
        heading += [f"{method} AUC" for method in METHODS]
        rows = [(*heading, f"95 % interval ({AUTOENCODER}, first seed)")]
        for held_out in self.held_out:
            first = held_out.seeds[0]
            counts = (len(held_out.seeds), first.normal_videos, first.abnormal_videos)
            sizes = dict.fromkeys(str(metrics.bottleneck) for metrics in held_out.seeds)
            cells = [" ".join(held_out.abnormal), *map(str, counts), " ".join(sizes)]
            cells += [_mean(held_out.auc(method)) for method in METHODS]
            low, high = first.interval
            rows.append((*cells, f"{low:.3f} to {high:.3f}"))
        if self.is_turn:
            means = []
            for method in METHODS:
                aucs: list[float] = []
                for held_out in self.held_out:
                    aucs += held_out.auc(method)
                means.append(_mean(aucs))
            rows.append(("mean", "", "", "", "", *means, ""))
        return rows


@dataclass(frozen=True)
class Alarms:
    """The result of `judge_store`: the reconstruction error of each video of a store, and the
    number of videos above each threshold of the detector. csv: the file with all errors."""

    video_ids: tuple[str, ...]
    errors: tuple[float, ...]
    thresholds: tuple[Threshold, ...]
    csv: Path

    def above(self, threshold: Threshold) -> int:
        """The number of videos whose error exceeds the threshold."""
        return sum(error > threshold.threshold for error in self.errors)

    def records(self) -> dict[str, Any]:
        """Errors and thresholds as JSON-serialisable values."""
        thresholds = [asdict(t) | {"videos_above": self.above(t)} for t in self.thresholds]
        errors = dict(zip(self.video_ids, self.errors, strict=True))
        return {"thresholds": thresholds, "errors": errors}

    def lines(self) -> Iterator[str]:
        """The counts and the highest errors as lines of text."""
        total = counted(len(self.errors), "video")
        for threshold in self.thresholds:
            asked = f"{100 * threshold.asked:g} %"
            yield (
                f"{self.above(threshold)} of {total} above the threshold for {asked} false alarms"
            )
        highest = np.argsort(-np.array(self.errors), kind="stable")[:MOST_PRINTED]
        rows = [(self.video_ids[i], f"{self.errors[i]:.4g}") for i in highest]
        yield from table_lines([("video (highest first)", "error"), *rows])
        yield f"scores of every video: {self.csv}"

    def __str__(self) -> str:
        return "\n".join(self.lines())


def anomaly(options: AnomalyOptions) -> int:
    """Run the command and print the result. Returns the exit code."""
    result = judge_store(options) if options.detector else detect_anomalies(options)
    print_lines(*result.lines())
    return 0


def detect_anomalies(options: AnomalyOptions) -> Anomalies:
    """Fit detectors and evaluate them on the test part. There is one detector for each seed and
    each class in turn (or for ABNORMAL), and each is written to its folder in <bank>/anomalies.

    Raises InputError when the store, the split, the classes or the options do not match.
    """
    if bool(options.abnormal) == options.each:
        raise InputError(
            "give exactly one of ABNORMAL='class class' (the abnormal classes), EACH=1 (each "
            "class in turn) and DETECTOR=<hash> (score other videos with a fitted detector)"
        )
    videos = read_videos(options)
    for name in options.abnormal:
        if name not in videos.classes:
            raise InputError(
                f"ABNORMAL={' '.join(options.abnormal)}: the data has no class "
                f"{name!r}{nearest(name, videos.classes)}; choose from {', '.join(videos.classes)}"
            )
    turns = [(name,) for name in videos.classes] if options.each else [tuple(options.abnormal)]
    seeds = tuple(dict.fromkeys(options.seed))
    held_out = [
        HeldOut(abnormal, tuple(fit_detector(options, videos, abnormal, seed) for seed in seeds))
        for abnormal in turns
    ]
    notes = _notes(options, videos, turns)
    folder = Path(options.bank, "anomalies")
    return Anomalies(tuple(held_out), options.each, tuple(notes), folder)


def _notes(
    options: AnomalyOptions, videos: StoreVideos, turns: Sequence[Sequence[str]]
) -> list[str]:
    notes = []
    if videos.unlabelled:
        left_out = counted(videos.unlabelled, "video")
        notes.append(
            f"videos without a label are left out ({left_out}); use DETECTOR= to score them"
        )
    abnormal = set[str]().union(*turns)
    facts = zip(videos.ids, videos.labels.tolist(), strict=True)
    learned = {label for name, label in facts if name in videos.learned}
    if known := sorted(abnormal & learned):
        notes.append(
            "the head or the backbone that computed these features was trained on the "
            f"abnormal classes {', '.join(known)}, so the results are too optimistic; "
            "train the head and the backbone without these classes (WITHOUT=)"
        )
    return notes


def _mean(values: Sequence[float]) -> str:
    deviation = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{deviation}"


def _threshold_cells(threshold: Threshold) -> tuple[str, ...]:
    shares = (threshold.false_alarms, threshold.detected)
    measured = (f"{100 * share:.1f} %" for share in shares)
    return (f"{100 * threshold.asked:g} %", f"{threshold.threshold:.4g}", *measured)


def judge_store(options: AnomalyOptions) -> Alarms:
    """Score every video of STORE with a detector that was fitted before, and write the errors as
    CSV into the detector's folder.

    Raises InputError when the store was not extracted with the same options as the detector's
    store.
    """
    if options.run or not options.store or options.abnormal or options.each:
        raise InputError(
            "DETECTOR= scores the videos of a store; give the store with STORE=, and "
            "omit RUN, ABNORMAL and EACH"
        )
    detector = _find_detector(options)
    if "joined" in (detector.store_recipe or {}):
        raise InputError(
            f"DETECTOR={options.detector} was fitted on the joined embeddings of several runs, but "
            "STORE is a single store; give a detector of one store"
        )
    model = load_detector(detector.path)
    with Store.open(find_store(options.searched, options.store)) as store:
        if lines := differences(detector.store_recipe or {}, store.recipe):
            raise InputError(
                f"{store.path} was not extracted with the same options as the store that "
                f"the detector was fitted on ({'; '.join(lines[:5])}); give a store that "
                "was extracted with the same options"
            )
        errors = reconstruction_errors(model, mean_rows(store, store.video_ids)).tolist()
        names, labels = tuple(store.video_ids), tuple(store.labels)
        path = detector.path / f"scored-{store.identity[:8]}.csv"
    thresholds = detector.metrics.thresholds
    with csv_file(path) as writer:
        writer.writerow(("video_id", "label", AUTOENCODER, *(t.column for t in thresholds)))
        for name, label, error in zip(names, labels, errors, strict=True):
            writer.writerow((name, label, error, *(int(error > t.threshold) for t in thresholds)))
    return Alarms(names, tuple(errors), thresholds, path)


def _find_detector(options: AnomalyOptions) -> Detector:
    """The finished folder whose name, path or hash DETECTOR gives. The start of the hash is
    enough."""
    finished = finished_detectors(options.bank)
    matching = [
        path
        for path in finished
        if options.detector in (path.name, str(path))
        or path.name.rpartition("-")[2].startswith(options.detector)
    ]
    if len(matching) != 1:
        names = ", ".join(path.name for path in matching or finished)
        hint = f"choose from {names}" if names else "first fit a detector with ABNORMAL="
        raise InputError(
            f"DETECTOR={options.detector} must match exactly one fitted detector, but it matches "
            f"{len(matching)}; {hint}"
        )
    detector = read_detector(matching[0])
    assert detector is not None
    return detector
