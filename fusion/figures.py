"""The report's drawings as inline SVG: text stays text, and colours come from the page's style (light, dark, print)."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from reelbank.fusion.metrics import Share

Point = tuple[float, float]


def whisker(right: Share, chance: float, width_px: int = 150) -> str:
    """A dot at the accuracy, a line over its interval and a tick at chance, on a scale from 0 to 100 %."""
    x = [4 + (width_px - 8) * value for value in (right.low, right.value, right.high, chance)]
    said = f"{100 * right.value:.1f} %, 95 % interval {100 * right.low:.1f} to {100 * right.high:.1f} %"
    size = f'width="{width_px}" height="18" viewBox="0 0 {width_px} 18"'
    return (
        f'<svg class="whisker" {size} role="img" aria-label="{said}"><title>{said}</title>'
        f'<line class="scale" x1="4" x2="{width_px - 4}" y1="9" y2="9"/>'
        f'<line class="chance" x1="{x[3]:.1f}" x2="{x[3]:.1f}" y1="3" y2="15"/>'
        f'<line class="interval" x1="{x[0]:.1f}" x2="{x[2]:.1f}" y1="9" y2="9"/>'
        f'<circle cx="{x[1]:.1f}" cy="9" r="3.5"/></svg>'
    )


def curves(lines: Sequence[tuple[str, str, Sequence[Point]]], marks: Sequence[Point], axis: str, percent: bool) -> str:
    """A line chart over epochs. lines: (style class, name, points (epoch, value)); marks: the epochs that were kept."""
    width, height, left, right, top, bottom = 420, 250, 46, 10, 14, 38
    points = [point for _, _, some in lines for point in some]
    if not points:
        return ""
    last = max(max(x for x, _ in points), 2)
    low, high = (0.0, 1.0) if percent else (0.0, max(y for _, y in points) * 1.05 or 1.0)

    def at_x(x: float) -> str:
        return f"{left + (x - 1) / (last - 1) * (width - left - right):.1f}"

    def at_y(y: float) -> str:
        return f"{top + (high - y) / (high - low) * (height - top - bottom):.1f}"

    drawn = []
    for tick in ticks(low, high):
        label = f"{100 * tick:.0f}" if percent else f"{tick:g}"
        drawn.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{at_y(tick)}" y2="{at_y(tick)}"/>')
        drawn.append(f'<text x="{left - 7}" y="{at_y(tick)}" dy=".35em" text-anchor="end">{label}</text>')
    for tick in {1.0, *ticks(1, last)}:
        if tick == int(tick):
            drawn.append(f'<text x="{at_x(tick)}" y="{height - bottom + 18}" text-anchor="middle">{tick:g}</text>')
    drawn.append(f'<text x="{(width + left) / 2}" y="{height - 3}" text-anchor="middle">epoch</text>')
    for style, name, some in lines:
        if some:
            path = " ".join(f"{at_x(x)},{at_y(y)}" for x, y in some)
            drawn.append(f'<polyline class="{style}" points="{path}"><title>{escape(name)}</title></polyline>')
    for x, y in marks:
        drawn.append(f'<circle class="kept" cx="{at_x(x)}" cy="{at_y(y)}" r="3.2"><title>kept: epoch {x:g}</title></circle>')
    label = f'role="img" aria-label="{escape(axis)} by epoch"'
    return f'<svg class="curves" viewBox="0 0 {width} {height}" {label}>{"".join(drawn)}</svg>'


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) from `low` to `high`."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


class Cell(NamedTuple):
    """One filled cell of a matrix over classes: their numbers, style class, opacity in [0, 1], number shown, tooltip."""

    row: int
    column: int
    style: str
    strength: float
    number: str
    said: str


def matrix(counts: np.ndarray, classes: Sequence[str], categories: Mapping[str, Sequence[str]]) -> str:
    """A confusion matrix: rows true, columns predicted, the classes of a coarse category together.

    counts: (C, C). A cell's strength is its share of the row; right ones and wrong ones have each their colour. Numbers
    stand in the cells while they fit; the figures of every cell are in its tooltip.
    """
    totals = counts.sum(axis=1)
    cells = []
    for row, column in np.argwhere(counts):
        share, right = counts[row, column] / totals[row], row == column
        strength = 0.08 + 0.92 * (share if right else math.sqrt(share))
        names = f"{classes[row]} \N{RIGHTWARDS ARROW} {classes[column]}"
        said = f"{names}: {counts[row, column]} of {totals[row]} ({100 * share:.1f} %)"
        cells.append(Cell(int(row), int(column), "hit" if right else "miss", strength, f"{100 * share:.0f}", said))
    return _grid(cells, classes, categories, "confusion matrix, rows true, columns predicted")


def difference(first: np.ndarray, second: np.ndarray, classes: Sequence[str], categories: Mapping[str, Sequence[str]]) -> str:
    """The difference of two confusion matrices' row shares (Res-LSTM paper, Fig. 6): where the first model answers so more
    often and where less. first, second: counts (C, C) on the same videos."""
    apart = row_shares(first) - row_shares(second)
    cells = []
    for row, column in np.argwhere(apart):
        value = apart[row, column]
        good = (value > 0) == (row == column)  # more right answers, or fewer wrong ones
        names = f"{classes[row]} \N{RIGHTWARDS ARROW} {classes[column]}"
        said = f"{names}: {100 * value:+.1f} points"
        strength = 0.08 + 0.92 * math.sqrt(abs(value))
        cells.append(Cell(int(row), int(column), "hit" if good else "miss", strength, f"{100 * value:+.0f}", said))
    return _grid(cells, classes, categories, "difference of two confusion matrices")


def row_shares(counts: np.ndarray) -> np.ndarray:
    """Counts (C, C) -> each cell's share of its row, 0 in a row without videos."""
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def _grid(cells: Sequence[Cell], classes: Sequence[str], categories: Mapping[str, Sequence[str]], about: str) -> str:
    order, blocks = grouped_order(classes, categories)
    place_of = {number: place for place, number in enumerate(order)}
    names = [classes[i] for i in order]
    size = len(names)
    cell = 46 if size <= 8 else 34 if size <= 14 else 16 if size <= 60 else 10 if size <= 130 else 4
    font = 13 if size <= 14 else 11 if size <= 60 else 9
    labelled = size <= 130
    margin = round(min(max(map(len, names)), 26) * font * 0.66) + 24 if labelled else 22
    drawn = []
    for number, (start, stop) in enumerate(blocks.values()):
        at, length = margin + start * cell, (stop - start) * cell
        style = f'class="category c{number % 6}"'
        drawn.append(f'<rect {style} x="{margin - 9}" y="{at + 1}" width="5" height="{length - 2}"/>')
        drawn.append(f'<rect {style} x="{at + 1}" y="{margin - 9}" width="{length - 2}" height="5"/>')
    for one in sorted(cells, key=lambda one: (place_of[one.row], place_of[one.column])):
        x, y = margin + place_of[one.column] * cell, margin + place_of[one.row] * cell
        drawn.append(
            f'<rect class="{one.style}" x="{x}" y="{y}" width="{cell}" height="{cell}" '
            f'fill-opacity="{one.strength:.2f}"><title>{escape(one.said)}</title></rect>'
        )
        if cell >= 30:
            style = "number strong" if one.strength > 0.55 else "number"
            centre = f'x="{x + cell / 2}" y="{y + cell / 2 + 4.5}" text-anchor="middle"'
            drawn.append(f'<text class="{style}" {centre}>{one.number}</text>')
    end = margin + size * cell
    for at in [margin, *(margin + stop * cell for _, stop in blocks.values()), *([] if blocks else [end])]:
        drawn.append(f'<line class="rule" x1="{margin}" x2="{end}" y1="{at}" y2="{at}"/>')
        drawn.append(f'<line class="rule" x1="{at}" x2="{at}" y1="{margin}" y2="{end}"/>')
    if labelled:
        for i, name in enumerate(names):
            short = escape(name if len(name) <= 26 else name[:25] + "…")
            middle = margin + (i + 0.5) * cell + 0.35 * font
            drawn.append(f'<text x="{margin - 14}" y="{middle:.1f}" text-anchor="end">{short}</text>')
            drawn.append(f'<text transform="translate({middle:.1f} {margin - 14}) rotate(-90)">{short}</text>')
    side = end + 2
    return (
        f'<svg class="matrix" width="{side}" height="{side}" viewBox="0 0 {side} {side}" font-size="{font}" role="img" '
        f'aria-label="{about}">{"".join(drawn)}</svg>'
    )


def reliability(bins: np.ndarray) -> str:
    """How often a model is right against how sure it is; on the diagonal it is as sure as it should be. bins: (B, 3) of mean
    confidence, accuracy, videos (judge.Calibration). A dot's area goes with its videos."""
    side, margin = 260, 40

    def at(x: float, y: float) -> tuple[str, str]:
        length = side - margin - 20
        return f"{margin + x * length:.1f}", f"{10 + (1 - y) * length:.1f}"

    drawn = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        (x, y), (end, top) = at(tick, tick), at(1, 1)
        left, floor = at(0, 0)
        drawn.append(f'<line class="grid" x1="{left}" x2="{end}" y1="{y}" y2="{y}"/>')
        drawn.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{top}" y2="{floor}"/>')
        drawn.append(f'<text x="{margin - 6}" y="{y}" dy=".35em" text-anchor="end">{100 * tick:.0f}</text>')
        drawn.append(f'<text x="{x}" y="{side - margin + 8}" text-anchor="middle">{100 * tick:.0f}</text>')
    (x, y), (end, top) = at(0, 0), at(1, 1)
    drawn.append(f'<line class="diagonal" x1="{x}" y1="{y}" x2="{end}" y2="{top}"/>')
    points = [at(confidence, right) for confidence, right, _ in bins]
    drawn.append(f'<polyline class="reached" points="{" ".join(f"{x},{y}" for x, y in points)}"/>')
    for (x, y), (confidence, right, videos) in zip(points, bins, strict=True):
        radius = 2 + 7 * math.sqrt(videos / bins[:, 2].sum())
        said = f"{videos:.0f} videos: {100 * confidence:.1f} % sure, {100 * right:.1f} % right"
        drawn.append(f'<circle class="bin" cx="{x}" cy="{y}" r="{radius:.1f}"><title>{said}</title></circle>')
    drawn.append(f'<text x="{side / 2 + 12}" y="{side - 2}" text-anchor="middle">confidence, %</text>')
    label = 'role="img" aria-label="accuracy by confidence"'
    return f'<svg class="curves reliability" viewBox="0 0 {side} {side}" {label}>{"".join(drawn)}</svg>'


def bars(rows: Sequence[tuple[str, float, str]], signed: bool = False, strong: str | None = None, width: int = 300) -> str:
    """Horizontal bars with names and figures. rows: (name, value in [0, 1] or, signed, in [-1, 1], text). strong: the one name
    whose bar has the strong colour; None: all have it. width: of the longest bar, px."""
    height, font = 17, 11
    margin = round(min(max((len(name) for name, _, _ in rows), default=1), 30) * font * 0.66) + 12
    drawn = []
    zero = margin + (width / 2 if signed else 0)
    for number, (name, value, text) in enumerate(rows):
        y = number * height
        length = abs(value) * (width / 2 if signed else width)
        x = zero - length if value < 0 else zero
        short = escape(name if len(name) <= 30 else name[:29] + "…")
        drawn.append(f'<text x="{margin - 8}" y="{y + 12}" text-anchor="end">{short}</text>')
        style = "miss" if value < 0 else "hit" if strong in (None, name) else "other"
        drawn.append(f'<rect class="{style}" x="{x:.1f}" y="{y + 2}" width="{length:.1f}" height="{height - 4}"/>')
        drawn.append(f'<text class="figure" x="{margin + width + 8}" y="{y + 12}">{escape(text)}</text>')
    end = len(rows) * height
    drawn.append(f'<line class="rule" x1="{zero}" x2="{zero}" y1="0" y2="{end}"/>')
    whole = margin + width + 48
    return (
        f'<svg class="bars" width="{whole}" height="{end}" viewBox="0 0 {whole} {end}" font-size="{font}" role="img" '
        f'aria-label="bars">{"".join(drawn)}</svg>'
    )


def grouped_order(
    classes: Sequence[str], categories: Mapping[str, Sequence[str]]
) -> tuple[list[int], dict[str, tuple[int, int]]]:
    """Class numbers with those of a category together, and category -> (first, last + 1) place in that order. Classes of no
    category come last under "other"; without categories the order is the data set's and there are no blocks."""
    if not categories:
        return list(range(len(classes))), {}
    number_of = {name: i for i, name in enumerate(classes)}
    order: list[int] = []
    blocks = {}
    rest = [name for name in classes if not any(name in some for some in categories.values())]
    for category, some in [*categories.items(), ("other", rest)]:
        numbers = [number_of[name] for name in classes if name in set(some) and number_of[name] not in order]
        if numbers:
            blocks[category] = (len(order), len(order) + len(numbers))
            order += numbers
    return order, blocks
