"""Bar charts with a name and a figure for each bar."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reelbank.fusion.report.drawings.svg import cut, element, text, title
from reelbank.fusion.report.view import Drawing, percent

BAR_FONT_PX = 11


@dataclass(frozen=True)
class NamedValue:
    """A bar, with its name, its length in [0, 1] (negative lengths extend to the left) and its
    figure as text."""

    name: str
    value: float
    text: str


def bars(
    rows: Sequence[NamedValue], *, signed: bool = False, strong: str | None = None, width: int = 300
) -> Drawing:
    """Horizontal bars with names and figures. signed: whether values are in [-1, 1], with 0 in the
    middle; strong: the name whose bar has the strong colour (None: all bars); width: width of the
    longest bar in px."""
    drawn, whole, end = bar_elements(rows, signed=signed, strong=strong, width=width)
    return bars_drawing(drawn, width_px=whole, height_px=end, label="bars")


def grouped_bars(
    names: Sequence[str], series: Mapping[str, Sequence[float]], *, width: int = 420
) -> Drawing:
    """Horizontal bars, one of each series under each name, with a legend above them. series: its
    name -> shares in [0, 1], one for each of `names` (nan: no bar); width: of the longest bar,
    px."""
    bar, gap, top = 10, 8, 26
    margin = name_width(names)
    height = len(series) * bar + gap
    drawn = []
    at = float(margin)
    for number, label in enumerate(series):
        drawn.append(element("rect", class_=f"c{number % 6}", x=at, y=4, width=9, height=9))
        drawn.append(text(label, x=at + 14, y=12))
        at += 34 + len(label) * BAR_FONT_PX * 0.6
    for place, name in enumerate(names):
        y = top + place * height
        middle = y + (height - gap) / 2 + 4
        drawn.append(text(cut(name, 30), x=margin - 8, y=middle, text_anchor="end"))
        for number, (label, values) in enumerate(series.items()):
            value, line = values[place], y + number * bar
            figure = percent(value)
            words = text(figure, class_="figure", x=margin + width + 8, y=line + 8, font_size=9)
            drawn.append(words)
            if math.isfinite(value):
                box = element(
                    "rect",
                    title(f"{name}, {label}: {figure} %"),
                    class_=f"c{number % 6}",
                    x=margin,
                    y=line + 1,
                    width=f"{value * width:.1f}",
                    height=bar - 2,
                )
                drawn.append(box)
    end = top + len(names) * height
    whole = max(margin + width + 48, round(at))
    drawn.append(element("line", class_="rule", x1=margin, x2=margin, y1=top - 4, y2=end - gap + 4))
    return bars_drawing(drawn, width_px=whole, height_px=end, label=f"bars of {', '.join(series)}")


def bars_drawing(
    elements: Sequence[str], *, width_px: int, height_px: float, label: str
) -> Drawing:
    """A drawing of these elements. label: its description for screen readers."""
    svg = element(
        "svg",
        *elements,
        class_="bars",
        width=width_px,
        height=height_px,
        viewBox=f"0 0 {width_px} {height_px}",
        font_size=BAR_FONT_PX,
        role="img",
        aria_label=label,
    )
    return Drawing(svg)


def bar_elements(
    rows: Sequence[NamedValue], *, signed: bool, strong: str | None, width: int
) -> tuple[list[str], int, int]:
    """The elements of `bars`, with the width and height that they need, px."""
    height = 17
    margin = name_width([row.name for row in rows])
    zero = margin + (width / 2 if signed else 0)
    drawn = []
    for number, row in enumerate(rows):
        y = number * height
        length = abs(row.value) * (width / 2 if signed else width)
        box = element(
            "rect",
            class_=_bar_style(row, strong),
            x=f"{zero - length if row.value < 0 else zero:.1f}",
            y=y + 2,
            width=f"{length:.1f}",
            height=height - 4,
        )
        drawn.append(text(cut(row.name, 30), x=margin - 8, y=y + 12, text_anchor="end"))
        drawn.append(box)
        drawn.append(text(row.text, class_="figure", x=margin + width + 8, y=y + 12))
    end, whole = len(rows) * height, margin + width + 48
    drawn.append(element("line", class_="rule", x1=zero, x2=zero, y1=0, y2=end))
    return drawn, whole, end


def name_width(names: Sequence[str]) -> int:
    """Width for a column of names of at most 30 characters, px."""
    return round(min(max(map(len, names), default=1), 30) * BAR_FONT_PX * 0.66) + 12


def _bar_style(row: NamedValue, strong: str | None) -> str:
    if row.value < 0:
        return "miss"
    return "hit" if strong in (None, row.name) else "other"
