"""The report's sections on classes. They show the figure of each class for every model, and which
classes are confused with each other."""

import itertools
from collections.abc import Sequence

import numpy as np

from reelbank.data.console import counted
from reelbank.fusion.evaluation.contests import (
    Contest,
    class_means,
    confusions,
    videos_of_classes,
)
from reelbank.fusion.report.drawings import matrices
from reelbank.fusion.report.view import (
    Bar,
    Block,
    Cell,
    Column,
    Details,
    Key,
    Legend,
    Number,
    RowName,
    Section,
    Table,
    Text,
    WideDrawing,
    note,
    paragraph,
    percent,
)

# With more models, the columns of the table of classes have letters as headings, because names
# would make the table wider than the page.
MOST_NAMED = 6
CONFUSIONS_LISTED = 10


def classes_section(contest: Contest, letters: Sequence[str]) -> Section:
    named = len(contest.groups) <= MOST_NAMED
    means = np.array([class_means(group) for group in contest.groups])  # (G, C)
    entries = itertools.chain(*(group.entries for group in contest.groups))
    videos = videos_of_classes(entries)
    category_of: dict[str, str] = {}
    for category, names in contest.coarse.items():
        category_of |= dict.fromkeys(names, category)
    columns = [Column("Class")]
    for number, (letter, group) in enumerate(zip(letters, contest.groups, strict=True)):
        title = f"{letter} {group.label}" if named else letter
        columns.append(Column(title, number=True, sort="" if number else "descending"))
    columns.append(Column("Videos", number=True))
    if contest.coarse:
        columns.append(Column("Category"))
    rows = []
    for i in np.argsort(-np.nan_to_num(means[0], nan=-1), kind="stable"):
        name = contest.classes[i]
        cells: list[Cell] = [RowName(name), *(Bar(float(value)) for value in means[:, i])]
        cells.append(Number(videos[i], str(videos[i])))
        if contest.coarse:
            cells.append(Text(category_of.get(name, "–"), "quiet"))
        rows.append(cells)
    figure = "Average precision" if contest.multilabel else "Accuracy"
    about = f"{figure} of each class in %, averaged over runs. Click a heading to sort."
    if not named:
        about += " The letters denote the models as in the table of results."
    return Section("Classes", [Table(columns, rows, about, "classes")])


def confusion_section(contest: Contest, letters: Sequence[str]) -> Section:
    """A confusion matrix for each model (single-label data only)."""
    # with more classes, cells show no numbers
    unit = ", in %" if len(contest.classes) <= 14 else ""
    blocks: list[Block] = [
        note(
            "Rows are true classes and columns are predicted classes. A stronger colour means a "
            f"larger share of the row{unit}. Hover over a cell to see its count."
        ),
        Legend([Key("var(--accent)", "right"), Key("var(--miss)", "wrong")]),
    ]
    _, categories = matrices.grouped_order(contest.classes, contest.coarse)
    if categories:
        keys = [Key(f"var(--c{number % 6})", name) for number, name in enumerate(categories)]
        blocks.append(Legend(keys))
    for number, (letter, group) in enumerate(zip(letters, contest.groups, strict=True)):
        counts = confusions(group)  # (C, C)
        runs = len(group.entries)
        blocks.append(
            Details(
                f"{letter}\N{EN SPACE}{group.label}",
                [
                    WideDrawing(matrices.matrix(counts, contest.classes, contest.coarse)),
                    _most_frequent(counts, contest.classes),
                ],
                detail=group.detail,
                after=f", summed over {counted(runs, 'run')}" if runs > 1 else "",
                open=number == 0,
            )
        )
    return Section("Confusion", blocks)


def _most_frequent(counts: np.ndarray, classes: Sequence[str]) -> Block:
    """The most frequent confusions, sorted by their share of the true class's videos."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    videos = counts.sum(axis=1)
    shares = wrong / np.maximum(videos, 1)[:, None]
    order = np.argsort(-shares, axis=None, kind="stable")[:CONFUSIONS_LISTED]
    rows: list[list[Cell]] = []
    for place in order.tolist():
        true, predicted = divmod(place, len(classes))
        count, share = int(wrong[true, predicted]), float(shares[true, predicted])
        if count:
            names = [Text(classes[true]), Text(classes[predicted])]
            of_videos = f"{count} of {videos[true]}"
            rows.append([*names, Number(share, percent(share)), Number(count, of_videos)])
    if not rows:
        return paragraph("All videos were classified correctly.")
    columns = [
        Column("True class"),
        Column("Predicted class"),
        Column("%", number=True),
        Column("Videos", number=True),
    ]
    about = "The most frequent confusions, sorted by their share of the true class’s videos."
    return Table(columns, rows, about)
