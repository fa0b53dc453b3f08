"""The report's section on results. It shows the figures of every model with their intervals, the
highest first."""

import math
from collections.abc import Sequence

from reelbank.data.console import counted
from reelbank.fusion.evaluation.contests import (
    Contest,
    MeanFigure,
    category_means,
    counted_classes,
    mean_figure,
)
from reelbank.fusion.evaluation.evaluate import LEAST_CLASSES_FOR_TOP5
from reelbank.fusion.evaluation.experiments import Group
from reelbank.fusion.report.drawings.accuracy import whisker
from reelbank.fusion.report.view import (
    Block,
    Cell,
    Column,
    Number,
    Paragraph,
    RowName,
    Section,
    Table,
    Text,
    Whisker,
    Words,
    interval,
    percent,
    plus_minus,
)


def results_section(
    contest: Contest, letters: Sequence[str], *, anchor: str, interval_kind: str, selected: str
) -> Section:
    """anchor: prefix of the anchors of the models' origins; interval_kind: one of INTERVALS;
    selected: how the highest figure was selected (`tried.selection`)."""
    blocks: tuple[Block, ...] = (
        _highest(contest, selected),
        _table(contest, letters, anchor=anchor, interval_kind=interval_kind),
    )
    return Section("Results", blocks)


def _highest(contest: Contest, selected: str) -> Paragraph:
    first = contest.groups[0]
    figure = mean_figure(first)
    classes = f"{len(contest.classes)} classes"
    beginning = f"{selected[0].upper()}{selected[1:]} ({classes})" if selected else f"On {classes}"
    return Paragraph(
        (
            Words(f"{beginning}: "),
            Words(first.label, strong=True),
            Words(", "),
            Words(f"{_plus_minus(figure)} %", strong=True),
            Words(
                f" {contest.measure} ({_repeats(first)}). Chance is {percent(contest.chance)} %."
            ),
        )
    )


def _repeats(group: Group) -> str:
    counts = [(len(group.values("split")), "split"), (len(group.values("seed")), "seed")]
    words = [counted(number, what) for number, what in counts if number]
    return ", ".join([*words, counted(group.videos, "video")])


def _plus_minus(figure: MeanFigure) -> str:
    return plus_minus(figure.value, figure.deviation)


def _has_top_five(contest: Contest) -> bool:
    return len(contest.classes) >= LEAST_CLASSES_FOR_TOP5 and not contest.multilabel


def _table(contest: Contest, letters: Sequence[str], *, anchor: str, interval_kind: str) -> Table:
    # The figure comes right after the name, so that both are visible on a phone without horizontal
    # scrolling.
    columns = [
        Column("Model"),
        Column("mAP %" if contest.multilabel else "Top-1 %", number=True),
        Column("95 % interval (scale 0 to 100 %)", sortable=False),
        *([Column("Top-5 %", number=True)] if _has_top_five(contest) else []),
        Column("Splits"),
        Column("Seeds"),
        Column("Videos", number=True),
        *([Column("Classes", number=True)] if contest.multilabel else []),
        *(Column(category, number=True) for category in contest.coarse),
    ]
    categories = [category_means(group, contest.coarse) for group in contest.groups]
    best_of_category = {
        category: max(means.get(category, -math.inf) for means in categories)
        for category in contest.coarse
    }
    rows = []
    for letter, group, means in zip(letters, contest.groups, categories, strict=True):
        name = RowName(group.label, group.detail, letter, f"{anchor}{letter}")
        figures = _figures(contest, group, interval_kind=interval_kind)
        by_category = [
            Number(
                means.get(category, math.nan),
                percent(means.get(category, math.nan)),
                best=means.get(category) == best,
            )
            for category, best in best_of_category.items()
        ]
        rows.append([name, *figures, *by_category])
    return Table(columns, rows, _note(contest, interval_kind))


def _figures(contest: Contest, group: Group, *, interval_kind: str) -> list[Cell]:
    figure = mean_figure(group, 1, interval_kind)
    best = figure.value == mean_figure(contest.groups[0]).value
    cells: list[Cell] = [
        Number(figure.value, _plus_minus(figure), best=best),
        Whisker(whisker(figure.share, contest.chance), interval(figure.low, figure.high)),
    ]
    if _has_top_five(contest):
        top_five = mean_figure(group, 5)
        cells.append(Number(top_five.value, _plus_minus(top_five)))
    cells += [Text(", ".join(group.values(key)) or "–", "w") for key in ("split", "seed")]
    cells.append(Number(group.videos, str(group.videos)))
    if contest.multilabel:
        classes = counted_classes(group)
        cells.append(Number(int(classes.split()[0]), classes))
    return cells


def _note(contest: Contest, interval_kind: str) -> str:
    sentences = []
    if any(len(group.entries) > 1 for group in contest.groups):
        sentences.append("Mean ± standard deviation over runs (splits and seeds).")
    if contest.multilabel:
        sentences.append(
            "mAP is the mean average precision over the classes that have a video in this part. "
            "The column Classes gives their number."
        )
    sentences += [
        f"The interval is {_method(contest, interval_kind)}.",
        "The dashed tick marks chance"
        + (
            ", which is the value if all videos had the same scores." if contest.multilabel else "."
        ),
    ]
    if contest.coarse:
        sentences.append(
            "The column of a category gives the share of the videos of this category "
            "that were classified correctly."
        )
    return " ".join(sentences)


def _method(contest: Contest, interval_kind: str) -> str:
    if interval_kind != "wilson":
        return f"from a bootstrap over {interval_kind}"
    if contest.multilabel:
        return "from a bootstrap over videos"
    return "Wilson’s interval for the mean, with each video counted once"
