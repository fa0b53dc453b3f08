"""Command `evaluate`: accuracies of runs, mean and deviation over splits and seeds, as a table and as CSV."""

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reelbank.data.printing import print_table, printable
from reelbank.data.recipe import option
from reelbank.data.replacing import replacing
from reelbank.fusion.entries import FACTS, Entry, Group, Selection, grouped, select
from reelbank.fusion.judge import INTERVALS, bootstrap_share, calibration
from reelbank.fusion.metrics import (
    Share,
    accuracy,
    category_accuracies,
    class_figures,
    confusion,
    mean_and_deviation,
    mean_share,
    share,
)
from reelbank.heads.runs import PARTS, written_to


@dataclass(frozen=True)
class EvaluateOptions(Selection):
    """Options of the command `evaluate`."""

    part: str = option("test", "which videos: of the split's test part, or of what training was done with", PARTS)
    per_class: bool = option(False, "also a table of every class")
    interval: str = option("wilson", "95 % intervals: Wilson's formula, or a bootstrap over videos or over groups", INTERVALS)
    out: str = option("", "CSV file to write; without it reports/evaluation-<part>.csv in the bank")


@dataclass(frozen=True)
class Contest:
    """Experiments that can be compared: the same data set, classes and kind of labels. groups: best mean figure first."""

    dataset: str
    classes: tuple[str, ...]
    coarse: dict[str, list[str]]
    groups: tuple[Group, ...]
    multilabel: bool = False

    @property
    def measure(self) -> str:
        """What models are judged by."""
        return "mAP" if self.multilabel else "top-1"

    @property
    def chance(self) -> float:
        """What guessing gives: one in C, or of several labels a video the mean share of videos that a class has, which is the
        mean average precision of a model that scores all videos alike."""
        if not self.multilabel:
            return 1 / len(self.classes)
        labels = self.groups[0].entries[0].scores.labels
        return float(labels[:, labels.any(axis=0)].mean())

    @property
    def title(self) -> str:
        several = ", any number a video" if self.multilabel else ""
        return f"{self.dataset or 'unnamed data set'}, {len(self.classes)} classes{several}"


def contests(entries: Sequence[Entry]) -> list[Contest]:
    """The entries as experiments, by data set and classes, each set's best experiment first."""
    together: dict[tuple[str, tuple[str, ...], bool], list[Entry]] = {}
    for entry in entries:
        together.setdefault((entry.fact("dataset"), entry.scores.classes, entry.scores.multilabel), []).append(entry)
    made = []
    for (dataset, classes, multilabel), some in together.items():
        groups = sorted(grouped(some), key=lambda group: -top(group)[0].value)
        coarse = {} if multilabel else max((entry.coarse for entry in some), key=len)  # accuracies alone are told by category
        coarse = coarse if len(coarse) > 1 else {}  # one category says nothing
        made.append(Contest(dataset, classes, coarse, tuple(groups), multilabel))
    return made


def top(group: Group, k: int = 1, interval: str = "wilson") -> tuple[Share, float]:
    """Mean top-k accuracy (of several labels a video mean average precision) of the group's runs with its interval, and the
    deviation over runs (nan for one run). interval: one of INTERVALS. Wilson's is of accuracies; there the interval of mean
    average precision is the mean of the runs' own: several seeds on the same videos do not narrow it."""
    shares = [entry.figure if k == 1 else accuracy(entry.scores, k) for entry in group.entries]
    values = [one.value for one in shares]
    deviation = mean_and_deviation(values)[1]
    if interval != "wilson":
        return bootstrap_share([entry.scores for entry in group.entries], interval, k), deviation
    if group.multilabel:
        value, low, high = (float(np.mean([one[i] for one in shares])) for i in range(3))
        return Share(value, low, high, group.videos), deviation
    return mean_share(values, group.videos), deviation


def counted_classes(group: Group) -> str:
    """Over how many classes the runs' mean average precisions are: those with a positive, for people."""
    counts = sorted({int(entry.scores.labels.any(axis=0).sum()) for entry in group.entries})
    return " to ".join(map(str, counts[:: len(counts) - 1] if len(counts) > 1 else counts))


def category_means(group: Group, coarse: dict[str, list[str]]) -> dict[str, float]:
    """Mean over runs of each coarse category's accuracy; a category no run has a video of is absent."""
    found: dict[str, list[float]] = {}
    for entry in group.entries if coarse else ():
        for category, right in category_accuracies(entry.scores, coarse).items():
            found.setdefault(category, []).append(right.value)
    return {category: mean_and_deviation(values)[0] for category, values in found.items()}


def class_means(group: Group) -> np.ndarray:
    """Mean over runs of each class's accuracy, or average precision, (C,) float64; a run without a video of a class does not
    count there, and nan stands where none has one."""
    accuracies = np.array([class_figures(entry.scores)[0] for entry in group.entries])  # (runs, C)
    counted = np.isfinite(accuracies).sum(axis=0)
    return np.divide(np.nansum(accuracies, axis=0), counted, out=np.full(len(counted), np.nan), where=counted > 0)


def confusions(group: Group) -> np.ndarray:
    """The confusion matrices of the group's runs added up, (C, C) int64: row = true class, column = predicted class."""
    return np.sum([confusion(entry.scores) for entry in group.entries], axis=0)


def calibration_means(group: Group) -> tuple[float, float, float]:
    """Means over runs of the calibration error, the negative log likelihood and the Brier score (judge.Calibration)."""
    found = [calibration(entry.scores)[:3] for entry in group.entries]
    ece, nll, brier = np.mean(found, axis=0).tolist()
    return ece, nll, brier


def evaluate(options: EvaluateOptions) -> int:
    """Print the table of the selected runs and write every run's figures as CSV; returns the exit code. Raises
    InputError when nothing fits or the CSV cannot be written."""
    entries, notes = select(options, options.part)
    for note in notes:
        print(printable(f"note: {note}"))
    for contest in contests(entries):
        chance = percent(contest.chance)
        judged = "mean average precision" if contest.multilabel else "accuracies"
        print(printable(f"{contest.title}, part {options.part}; chance is {chance}; {judged} in %"))
        print_table(_lines(contest, options.interval))
        if options.per_class:
            print()
            print_table(_class_lines(contest))
        print()
    out = Path(options.out or Path(options.bank, "reports", f"evaluation-{options.part}.csv"))
    with written_to("OUT", out):
        write_csv(out, entries, options.part)
    print(f"every run's figures: {out}")
    return 0


def _lines(contest: Contest, interval: str) -> list[tuple[str, ...]]:
    many = len(contest.classes) > 5 and not contest.multilabel  # with five classes or fewer top-5 says nothing
    more = [*(["top-5"] if many else []), *contest.coarse, *(["classes"] if contest.multilabel else [])]
    lines = [("model", "runs", "splits", "seeds", "videos", contest.measure, "95 %", *more)]
    for group in contest.groups:
        (right, deviation), means = top(group, 1, interval), category_means(group, contest.coarse)
        name = group.label + (f" ({group.detail})" if group.detail else "")
        repeats = [" ".join(group.values(key)) or "-" for key in ("split", "seed")]
        ends = f"{percent(right.low)} to {percent(right.high)}"
        five = [plus_minus(*_value(top(group, 5)))] if many else []
        by_category = [percent(means.get(category, math.nan)) for category in contest.coarse]
        counted = [counted_classes(group)] if contest.multilabel else []
        figures = (plus_minus(right.value, deviation), ends, *five, *by_category, *counted)
        lines.append((name, str(len(group.entries)), *repeats, str(group.videos), *figures))
    return lines


def _value(found: tuple[Share, float]) -> tuple[float, float]:
    return found[0].value, found[1]


def _class_lines(contest: Contest) -> list[tuple[str, ...]]:
    columns = [class_means(group) for group in contest.groups]
    heads = [group.label + (f" ({group.detail})" if group.detail else "") for group in contest.groups]
    rows = [(name, *(percent(column[i]) for column in columns)) for i, name in enumerate(contest.classes)]
    return [("class", *heads), *rows]


def percent(value: float) -> str:
    """An accuracy in [0, 1] as per cent with two places, '-' for nan."""
    return "-" if math.isnan(value) else f"{100 * value:.2f}"


def plus_minus(mean: float, deviation: float) -> str:
    """Mean and deviation in per cent; without the deviation of a single run."""
    return percent(mean) + ("" if math.isnan(deviation) else f" ± {percent(deviation)}")


def rows(entries: Iterable[Entry], part: str) -> list[dict[str, Any]]:
    """Every run's every figure as one row: the run's facts, measure ("top1", "top5", "category", "class", and of calibration
    "ece", "nll", "brier"; of several labels a video "map" and each class's "ap"), of what, value in [0, 1] with its 95 %
    interval, and the number of videos. An "ap" and what is of calibration have no interval: `low` and `high` are absent."""
    made = []
    for entry in entries:
        facts = {"run": entry.name, **{key: entry.fact(key) for key in FACTS}, "part": part}
        scores = entry.scores
        by_class = [(c, float(value), int(n)) for c, value, n in zip(scores.classes, *class_figures(scores), strict=True) if n]
        if scores.multilabel:
            found = [("map", "", entry.figure)]
            found += [("ap", name, Share(value, math.nan, math.nan, n)) for name, value, n in by_class]
        else:
            found = [("top1", "", entry.figure), ("top5", "", accuracy(scores, 5))]
            found += [("category", name, right) for name, right in category_accuracies(scores, entry.coarse).items()]
            found += [("class", name, share(value, n)) for name, value, n in by_class]
            sure = calibration(scores)._asdict()
            sure.pop("bins")
            found += [(name, "", Share(value, math.nan, math.nan, entry.figure.videos)) for name, value in sure.items()]
        for measure, of, right in found:
            known = {key: value for key, value in right._asdict().items() if not math.isnan(value)}
            made.append(facts | {"measure": measure, "of": of, **known})
    return made


def write_csv(path: Path, entries: Iterable[Entry], part: str) -> None:
    """Write `rows` to `path`, its folder made when it is missing."""
    lines = rows(entries, part)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
