"""Command `compare`: is one model better than another? Paired tests on the same videos, and what each class gains."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.printing import print_table, printable
from reelbank.data.recipe import option
from reelbank.data.replacing import replacing
from reelbank.data.scores import with_classes
from reelbank.fusion.entries import Group, Selection, by_repetition, grouped, select
from reelbank.fusion.evaluate import calibration_means, class_means, percent, plus_minus, top
from reelbank.fusion.judge import INTERVALS, Difference, mcnemar, paired_bootstrap
from reelbank.heads.runs import PARTS, written_to


@dataclass(frozen=True)
class CompareOptions(Selection):
    """Options of the command `compare`."""

    part: str = option("test", "which videos are judged", PARTS)
    most: int = option(10, "classes printed that gain and lose most")
    out: str = option("", "CSV file of every class; without it reports/compare-<first>-<second>.csv in the bank")


class Gain(NamedTuple):
    """What a class gains: the two models' figures in [0, 1] and the first's less the second's; nan without a video."""

    name: str
    videos: int
    first: float
    second: float
    gain: float


@dataclass(frozen=True)
class Pair:
    """Two experiments whose runs go together split by split and seed by seed."""

    first: Group
    second: Group

    def difference(self, by: str) -> Difference:
        """The first's mean figure less the second's, by paired bootstrap over "videos" or "groups"."""
        sides = [[entry.scores for entry in group.entries] for group in (self.first, self.second)]
        return paired_bootstrap(sides[0], sides[1], by)

    @property
    def has_groups(self) -> bool:
        """Whether each pair of runs knows its videos' groups."""
        runs = zip(self.first.entries, self.second.entries, strict=True)
        return all(one.scores.groups or other.scores.groups for one, other in runs)


def paired(first: Group, second: Group) -> Pair:
    """The runs of both in the same order, their classes in that of the first. Raises InputError when a split and seed is there
    of one alone, or their videos or classes are not the same."""
    together = by_repetition([*first.entries, *second.entries])
    order = first.entries[0].scores.classes
    sides = []
    for side, group in enumerate((first, second)):
        entries = tuple(replace(two[side], scores=with_classes(two[side].scores, order)) for two in together.values())
        sides.append(replace(group, entries=entries))
    return Pair(*sides)


def compare(options: CompareOptions) -> int:
    """Print what tells the two selected models apart, and write each class's gain as CSV; returns the exit code. Raises
    InputError unless the selection is of two models on the same videos."""
    entries, notes = select(options, options.part)
    for note in notes:
        print(printable(f"note: {note}"))
    groups = grouped(entries)
    if len(groups) != 2:
        names = ", ".join(group.label for group in groups[:6])
        raise InputError(
            f"compare takes two models, the selection has {len(groups)} ({names}); name their runs or give HEAD= ..."
        )
    pair = paired(*groups)
    multilabel = pair.first.multilabel
    for mark, group in zip("AB", (pair.first, pair.second), strict=True):
        name = group.label + (f" ({group.detail})" if group.detail else "")
        print(printable(f"{mark}: {name}, {plus_minus(top(group)[0].value, top(group)[1])} %{_sureness(group)}"))
    lines = [("split", "seed", "videos", "A %", "B %", "A - B", *(() if multilabel else ("only A", "only B", "McNemar p")))]
    for one, other in zip(pair.first.entries, pair.second.entries, strict=True):
        values = (one.figure.value, other.figure.value)
        facts = [one.fact(key) or other.fact(key) or "-" for key in ("split", "seed")]
        tested = [] if multilabel else list(mcnemar(one.scores, other.scores))
        shown = [str(tested[0]), str(tested[1]), p_value(tested[2])] if tested else []
        lines.append((*facts, str(one.figure.videos), *map(percent, values), _signed(values[0] - values[1]), *shown))
    print_table(lines)
    for by in INTERVALS[1:]:
        if by == "groups" and not pair.has_groups:
            print("the scores name no groups, so there is no interval over groups")
            continue
        found = pair.difference(by)
        ends = f"{_signed(found.low)} to {_signed(found.high)}"
        print(f"A - B: {_signed(found.value)} points, 95 % {ends}, p {p_value(found.p)} (paired bootstrap over {by})")
    rows = class_gains(pair)
    counted = [row for row in rows if np.isfinite(row.gain)]
    print()
    print_table([("class", "videos", "A %", "B %", "A - B"), *map(_shown, _extremes(counted, options.most))])
    starts = "-".join(group.entries[0].name.removesuffix(".npz") for group in (pair.first, pair.second))
    out = Path(options.out or Path(options.bank, "reports", f"compare-{starts}.csv"))
    with written_to("OUT", out):
        write_gains(out, rows)
    print(f"every class: {out}")
    return 0


def _sureness(group: Group) -> str:
    if group.multilabel:
        return ""
    ece, nll, brier = calibration_means(group)
    return f"; calibration error {100 * ece:.2f} %, negative log likelihood {nll:.3f}, Brier {brier:.3f}"


def p_value(p: float) -> str:
    """A p for people; below 0.0001 no more is said."""
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def class_gains(pair: Pair) -> list[Gain]:
    """Every class's gain, what gained most first."""
    first, second = class_means(pair.first), class_means(pair.second)  # (C,)
    videos = _videos_of_classes(pair.first)  # (C,)
    gains = first - second
    order = np.argsort(-np.nan_to_num(gains, nan=-2), kind="stable")
    classes = pair.first.entries[0].scores.classes
    return [Gain(classes[i], int(videos[i]), float(first[i]), float(second[i]), float(gains[i])) for i in order]


def _videos_of_classes(group: Group) -> list[int]:
    """How many different videos of each class the runs judge together: a second seed judges the same ones."""
    found: list[set[str]] = [set() for _ in group.entries[0].scores.classes]
    for entry in group.entries:
        table = entry.scores
        for video, label in zip(table.video_ids, table.labels, strict=True):
            for number in np.flatnonzero(label) if table.multilabel else [label] if label >= 0 else []:
                found[number].add(video)
    return [len(videos) for videos in found]


def _extremes(rows: Sequence[Gain], most: int) -> Sequence[Gain]:
    return rows if len(rows) <= 2 * most else [*rows[:most], *rows[-most:]]


def _shown(row: Gain) -> tuple[str, ...]:
    return row.name, str(row.videos), percent(row.first), percent(row.second), _signed(row.gain)


def _signed(value: float) -> str:
    return f"{100 * value:+.2f}"


def write_gains(path: Path, rows: Sequence[Gain]) -> None:
    """`class_gains` as CSV, its folder made when it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows([("class", "videos", "first", "second", "gain"), *rows])
