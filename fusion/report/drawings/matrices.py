"""Drawings of matrices over classes: confusion matrices and their differences."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reelbank.fusion.report.drawings.svg import cut, element, text, title
from reelbank.fusion.report.view import Drawing, percent


@dataclass(frozen=True)
class MatrixCell:
    """A filled cell of a matrix over classes. row, column: numbers of classes; strength: opacity in
    [0, 1]; number: the text in the cell if it fits; about: the tooltip."""

    row: int
    column: int
    good: bool
    strength: float
    number: str
    about: str


def matrix(
    counts: np.ndarray, classes: Sequence[str], categories: Mapping[str, Sequence[str]]
) -> Drawing:
    """A confusion matrix. Rows are true classes and columns are predicted classes. The classes of a
    coarse category are adjacent.

    counts: (C, C). A cell's strength is its share of the row; correct and wrong predictions have
    different colours. Cells show numbers while they fit; the figures of every cell are in its
    tooltip.
    """
    totals = counts.sum(axis=1)
    cells = []
    for row, column in np.argwhere(counts).tolist():
        count, share = counts[row, column], counts[row, column] / totals[row]
        names = f"{classes[row]} \N{RIGHTWARDS ARROW} {classes[column]}"
        cells.append(
            MatrixCell(
                row,
                column,
                good=row == column,
                # the square root makes even a few wrong predictions visible
                strength=0.08 + 0.92 * (share if row == column else math.sqrt(share)),
                number=f"{100 * share:.0f}",
                about=f"{names}: {count} of {totals[row]} ({percent(share)} %)",
            )
        )
    about = "confusion matrix; rows are true classes, columns are predicted classes"
    return _grid(cells, classes, categories, about=about)


def difference(
    first: np.ndarray,
    second: np.ndarray,
    classes: Sequence[str],
    categories: Mapping[str, Sequence[str]],
) -> Drawing:
    """The difference of two confusion matrices' row shares (Res-LSTM paper, Fig. 6): which
    predictions the first model makes more often, and which less often. first, second: counts (C, C)
    on the same videos."""
    differences = row_shares(first) - row_shares(second)
    cells = []
    for row, column in np.argwhere(differences).tolist():
        value = float(differences[row, column])
        names = f"{classes[row]} \N{RIGHTWARDS ARROW} {classes[column]}"
        cells.append(
            MatrixCell(
                row,
                column,
                good=(value > 0) == (row == column),  # more correct ones, or fewer wrong ones
                strength=0.08 + 0.92 * math.sqrt(abs(value)),
                number=f"{100 * value:+.0f}",
                about=f"{names}: {100 * value:+.1f} points",
            )
        )
    return _grid(cells, classes, categories, about="difference of two confusion matrices")


def row_shares(counts: np.ndarray) -> np.ndarray:
    """The share of each cell in its row for counts (C, C). It is 0 in a row without videos."""
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


# (maximum number of classes, side of a cell in px, size of its text in px)
_SIZES = ((8, 46, 13), (14, 34, 13), (60, 16, 11), (130, 10, 9))
_UNLABELLED = (4, 9)  # for more classes, whose names would be too small to read


def _grid(
    cells: Sequence[MatrixCell],
    classes: Sequence[str],
    categories: Mapping[str, Sequence[str]],
    *,
    about: str,
) -> Drawing:
    order, blocks = grouped_order(classes, categories)
    place_of = {number: place for place, number in enumerate(order)}
    names = [classes[i] for i in order]
    fitting = (sizes for most, *sizes in _SIZES if len(names) <= most)
    labelled = len(names) <= _SIZES[-1][0]
    side, font = next(fitting, _UNLABELLED)
    margin = round(min(max(map(len, names)), 26) * font * 0.66) + 24 if labelled else 22
    end = margin + len(names) * side
    borders = [margin, *(margin + stop * side for _, stop in blocks.values())]

    drawn = _category_bars(blocks, margin=margin, side=side)
    for cell in sorted(cells, key=lambda cell: (place_of[cell.row], place_of[cell.column])):
        x, y = margin + place_of[cell.column] * side, margin + place_of[cell.row] * side
        drawn += _matrix_cell(cell, x, y, side=side)
    for at in borders if blocks else [margin, end]:
        drawn.append(element("line", class_="rule", x1=margin, x2=end, y1=at, y2=at))
        drawn.append(element("line", class_="rule", x1=at, x2=at, y1=margin, y2=end))
    if labelled:
        for place, name in enumerate(names):
            middle = f"{margin + (place + 0.5) * side + 0.35 * font:.1f}"
            upright = f"translate({middle} {margin - 14}) rotate(-90)"
            drawn.append(text(cut(name, 26), x=margin - 14, y=middle, text_anchor="end"))
            drawn.append(text(cut(name, 26), transform=upright))
    svg = element(
        "svg",
        *drawn,
        class_="matrix",
        width=end + 2,
        height=end + 2,
        viewBox=f"0 0 {end + 2} {end + 2}",
        font_size=font,
        role="img",
        aria_label=about,
    )
    return Drawing(svg)


def _category_bars(blocks: Mapping[str, tuple[int, int]], *, margin: int, side: int) -> list[str]:
    """A coloured bar along the rows and the columns of each category."""
    drawn = []
    for number, (start, stop) in enumerate(blocks.values()):
        style = f"category c{number % 6}"
        at, length = margin + start * side + 1, (stop - start) * side - 2
        drawn.append(element("rect", class_=style, x=margin - 9, y=at, width=5, height=length))
        drawn.append(element("rect", class_=style, x=at, y=margin - 9, width=length, height=5))
    return drawn


def _matrix_cell(cell: MatrixCell, x: int, y: int, *, side: int) -> list[str]:
    square = element(
        "rect",
        title(cell.about),
        class_="hit" if cell.good else "miss",
        x=x,
        y=y,
        width=side,
        height=side,
        fill_opacity=f"{cell.strength:.2f}",
    )
    if side < 30:
        return [square]
    style = "number strong" if cell.strength > 0.55 else "number"
    number = text(
        cell.number, class_=style, x=x + side / 2, y=y + side / 2 + 4.5, text_anchor="middle"
    )
    return [square, number]


def grouped_order(
    classes: Sequence[str], categories: Mapping[str, Sequence[str]]
) -> tuple[list[int], dict[str, tuple[int, int]]]:
    """The class numbers with the classes of a category adjacent, and the (first, last + 1) place of
    each category in this order. Classes without a category come last under "other". Without
    categories, the order is that of the data set and there are no blocks."""
    if not categories:
        return list(range(len(classes))), {}
    number_of = {name: i for i, name in enumerate(classes)}
    categorised = set(itertools.chain(*categories.values()))
    others = [name for name in classes if name not in categorised]
    order: list[int] = []
    blocks = {}
    for category, members in [*categories.items(), ("other", others)]:
        # a class of two categories is listed under the first
        numbers = [number_of[name] for name in classes if name in set(members)]
        numbers = [number for number in numbers if number not in order]
        if numbers:
            blocks[category] = (len(order), len(order) + len(numbers))
            order += numbers
    return order, blocks
