"""The command `compare`. It tests whether one model is better than another with paired tests on the
same videos, and computes the gain of each class."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reelbank.data.console import percent, print_lines, table_lines
from reelbank.data.errors import InputError
from reelbank.data.options import check_ending
from reelbank.data.text_files import csv_file
from reelbank.fusion.evaluation.contests import (
    MeanCalibration,
    MeanFigure,
    class_means,
    mean_calibration,
    mean_figure,
    videos_of_classes,
)
from reelbank.fusion.evaluation.evaluate import plus_minus
from reelbank.fusion.evaluation.experiments import Group, by_repetition, grouped
from reelbank.fusion.evaluation.options import INTERVALS, CompareOptions
from reelbank.fusion.evaluation.selection import select
from reelbank.fusion.evaluation.significance import (
    Difference,
    McNemar,
    error_reduction,
    mcnemar,
    paired_bootstrap,
)
from reelbank.heads.runs.writing import output_file, written_to


class Gain(NamedTuple):
    """A class's figure in [0, 1] for both models, and the difference (first minus second). The
    figures are nan for a class without videos."""

    name: str
    videos: int
    first: float
    second: float
    gain: float


@dataclass(frozen=True)
class Pair:
    """Two experiments whose runs correspond split by split and seed by seed."""

    first: Group
    second: Group

    def difference(self, by: str) -> Difference:
        """The first experiment's mean figure minus the second's, with a paired bootstrap over
        "videos" or "groups"."""
        sides = [[entry.scores for entry in group.entries] for group in (self.first, self.second)]
        return paired_bootstrap(sides[0], sides[1], by)

    def error_reduction(self, by: str) -> tuple[float, float, float]:
        """By which share of the second experiment's error the first's is smaller, and the ends of
        its 95 % interval, with a paired bootstrap over "videos" or "groups"."""
        sides = [[entry.scores for entry in group.entries] for group in (self.first, self.second)]
        return error_reduction(sides[0], sides[1], by)

    @property
    def has_groups(self) -> bool:
        """Whether the videos' groups are known for each pair of runs."""
        pairs = zip(self.first.entries, self.second.entries, strict=True)
        return all(
            first.table.outline.has_groups or second.table.outline.has_groups
            for first, second in pairs
        )


@dataclass(frozen=True)
class RunPair:
    """The figures in [0, 1] of two runs with the same split and seed, and McNemar's test (None for
    multi-label data)."""

    split: str
    seed: str
    videos: int
    first: float
    second: float
    mcnemar: McNemar | None


@dataclass(frozen=True)
class ComparedModel:
    """One of the two models. calibration: None for multi-label data."""

    name: str
    figure: MeanFigure
    calibration: MeanCalibration | None


@dataclass(frozen=True)
class Comparison:
    """The result of `compare_runs`. differences: first minus second, over "videos", and over
    "groups" if the groups are known; gains: all classes, largest gain first; csv: the file with the
    gains, None if the bank is read-only."""

    first: ComparedModel
    second: ComparedModel
    runs: tuple[RunPair, ...]
    differences: dict[str, Difference]
    gains: tuple[Gain, ...]
    notes: tuple[str, ...]
    csv: Path | None

    def records(self) -> dict[str, Any]:
        """The comparison as JSON-serialisable values."""
        return {
            "first": asdict(self.first),
            "second": asdict(self.second),
            "runs": [
                asdict(run) | {"mcnemar": run.mcnemar and run.mcnemar._asdict()}
                for run in self.runs
            ],
            "differences": {
                by: difference._asdict() for by, difference in self.differences.items()
            },
            "gains": [gain._asdict() for gain in self.gains if np.isfinite(gain.gain)],
        }

    def lines(self, most: int = 10) -> Iterator[str]:
        """The comparison as lines of text. It shows the `most` classes with the largest gains and
        the `most` classes with the largest losses."""
        for note in self.notes:
            yield f"note: {note}"
        for letter, model in (("A", self.first), ("B", self.second)):
            calibrated = _calibration_text(model.calibration) if model.calibration else ""
            yield f"{letter}: {model.name}, {plus_minus(model.figure)} %{calibrated}"
        yield from table_lines(_run_rows(self.runs))
        for by in INTERVALS[1:]:
            if by in self.differences:
                yield _difference_text(self.differences[by], by)
            else:
                yield (
                    "no bootstrap over groups is possible, because the scores do not record "
                    "the videos' groups"
                )
        judged = [gain for gain in self.gains if np.isfinite(gain.gain)]
        yield ""
        heading = ("class", "videos", "A %", "B %", "A - B")
        yield from table_lines([heading, *map(_gain_cells, _extremes(judged, most))])
        if self.csv:
            yield f"results of every class: {self.csv}"
        else:
            yield "the bank is read-only; OUT=<file>.csv writes the results of every class"

    def __str__(self) -> str:
        return "\n".join(self.lines())


def paired(first: Group, second: Group) -> Pair:
    """Both experiments with their runs in the same order. The classes have the order of the first
    experiment.

    Raises InputError when a split and seed exists for only one of them, or their videos or classes
    differ.
    """
    repetitions = list(by_repetition([*first.entries, *second.entries]).values())
    classes = first.entries[0].table.outline.classes
    sides = []
    for side, group in enumerate((first, second)):
        entries = [runs[side] for runs in repetitions]
        aligned = [entry.with_classes(classes) for entry in entries]
        sides.append(replace(group, entries=tuple(aligned)))
    return Pair(*sides)


def compare(options: CompareOptions) -> int:
    """Run the command and print the comparison. Returns the exit code."""
    print_lines(*compare_runs(options).lines(options.most))
    return 0


def compare_runs(options: CompareOptions) -> Comparison:
    """Compare the two selected models, and write each class's gain as CSV. If OUT is not given and
    the bank is read-only, nothing is written.

    Raises InputError unless exactly two models, evaluated on the same videos, are selected.
    """
    check_ending("OUT", options.out, [".csv"])
    selected = select(options, options.part)
    groups = grouped(selected.entries)
    if len(groups) != 2:
        names = ", ".join(group.label for group in groups[:6])
        message = (
            f"'reelbank compare' needs exactly two models, but {len(groups)} are selected ({names})"
        )
        raise InputError(
            selected.explained(
                f"{message}; name the runs of two models, or select them with HEAD=, "
                "STREAM= or STORE="
            )
        )
    pair = paired(*groups)
    gains = class_gains(pair)
    names = "-".join(
        group.entries[0].name.removesuffix(".npz") for group in (pair.first, pair.second)
    )
    out = output_file(options.out, Path(options.bank, "reports", f"compare-{names}.csv"))
    comparison = Comparison(
        first=_compared(pair.first),
        second=_compared(pair.second),
        runs=tuple(_run_pairs(pair)),
        differences={
            by: pair.difference(by) for by in INTERVALS[1:] if by != "groups" or pair.has_groups
        },
        gains=tuple(gains),
        notes=tuple(selected.notes),
        csv=out,
    )
    if out:
        with written_to("OUT", out):
            write_gains(out, gains)
    return comparison


def _compared(group: Group) -> ComparedModel:
    calibration = None if group.multilabel else mean_calibration(group)
    return ComparedModel(group.name, mean_figure(group), calibration)


def _run_pairs(pair: Pair) -> Iterator[RunPair]:
    for first, second in zip(pair.first.entries, pair.second.entries, strict=True):
        yield RunPair(
            split=first.fact("split") or second.fact("split"),
            seed=first.fact("seed") or second.fact("seed"),
            videos=first.figure.videos,
            first=first.figure.value,
            second=second.figure.value,
            mcnemar=None if pair.first.multilabel else mcnemar(first.scores, second.scores),
        )


def _run_rows(runs: Sequence[RunPair]) -> list[tuple[str, ...]]:
    heading = ["split", "seed", "videos", "A %", "B %", "A - B"]
    if runs[0].mcnemar:
        heading += ["only A right", "only B right", "McNemar p"]
    rows = [tuple(heading)]
    for run in runs:
        cells = [run.split or "-", run.seed or "-", str(run.videos)]
        cells += [percent(run.first), percent(run.second), _signed(run.first - run.second)]
        if run.mcnemar:
            test = run.mcnemar
            cells += [str(test.only_first), str(test.only_second), p_value(test.p)]
        rows.append(tuple(cells))
    return rows


def _calibration_text(calibration: MeanCalibration) -> str:
    return (
        f"; calibration error {percent(calibration.ece)} %, "
        f"negative log likelihood {calibration.nll:.3f}, Brier {calibration.brier:.3f}"
    )


def _difference_text(difference: Difference, by: str) -> str:
    interval = f"{_signed(difference.low)} to {_signed(difference.high)}"
    return (
        f"A - B: {_signed(difference.value)} points, 95 % interval {interval}, p "
        f"{p_value(difference.p)} (paired bootstrap over {by})"
    )


def p_value(p: float) -> str:
    """A p-value with four decimal places, or "< 0.0001" for smaller values."""
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def class_gains(pair: Pair) -> list[Gain]:
    """The gain of every class, the largest first."""
    first, second = class_means(pair.first), class_means(pair.second)  # (C,)
    videos = videos_of_classes(pair.first.entries)  # (C,)
    gains = first - second
    order = np.argsort(-np.nan_to_num(gains, nan=-2), kind="stable")
    classes = pair.first.entries[0].table.outline.classes
    return [
        Gain(classes[i], videos[i], float(first[i]), float(second[i]), float(gains[i]))
        for i in order
    ]


def _extremes(gains: Sequence[Gain], most: int) -> Sequence[Gain]:
    return gains if len(gains) <= 2 * most else [*gains[:most], *gains[-most:]]


def _gain_cells(gain: Gain) -> tuple[str, ...]:
    figures = (percent(gain.first), percent(gain.second), _signed(gain.gain))
    return (gain.name, str(gain.videos), *figures)


def _signed(value: float) -> str:
    return f"{100 * value:+.2f}"


def write_gains(path: Path, gains: Sequence[Gain]) -> None:
    """Write `class_gains` as CSV. The folder is created if necessary."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with csv_file(path) as writer:
        writer.writerows([("class", "videos", "first", "second", "gain"), *gains])
