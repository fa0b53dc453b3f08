"""Line charts, of values over epochs and of accuracies over an option."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from reelbank.fusion.report.drawings.svg import element, text, ticks, title
from reelbank.fusion.report.view import Drawing, percent

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One run's line in a chart over epochs. part: "train" or "validation", which is also its CSS
    class; points: (epoch, value)."""

    run: str
    part: str
    points: Sequence[Point]


def curves(lines: Sequence[Line], kept: Sequence[Point], *, axis: str, as_percent: bool) -> Drawing:
    """A line chart over epochs. kept: the points of the epochs whose weights were kept; axis: the
    label of the values; as_percent: whether the values are shares, shown from 0 to 100 %."""
    width, height, left, right, top, bottom = 420, 250, 46, 10, 14, 38
    points = list(itertools.chain(*(line.points for line in lines)))
    last = max(max(x for x, _ in points), 2)
    low, high = (0.0, 1.0) if as_percent else (0.0, max(y for _, y in points) * 1.05 or 1.0)

    def at_x(x: float) -> str:
        return f"{left + (x - 1) / (last - 1) * (width - left - right):.1f}"

    def at_y(y: float) -> str:
        return f"{top + (high - y) / (high - low) * (height - top - bottom):.1f}"

    drawn = []
    for tick in ticks(low, high):
        y = at_y(tick)
        label = f"{100 * tick:.0f}" if as_percent else f"{tick:g}"
        drawn.append(element("line", class_="grid", x1=left, x2=width - right, y1=y, y2=y))
        drawn.append(text(label, x=left - 7, y=y, dy=".35em", text_anchor="end"))
    for tick in {1.0, *ticks(1, last)}:
        if tick == int(tick):
            x = at_x(tick)
            drawn.append(text(f"{tick:g}", x=x, y=height - bottom + 18, text_anchor="middle"))
    drawn.append(text("epoch", x=(width + left) / 2, y=height - 3, text_anchor="middle"))
    for line in lines:
        if line.points:
            path = " ".join(f"{at_x(x)},{at_y(y)}" for x, y in line.points)
            about = title(f"{line.run}, {line.part}")
            drawn.append(element("polyline", about, class_=line.part, points=path))
    for epoch, value in kept:
        about = title(f"kept epoch {epoch:g}")
        drawn.append(element("circle", about, class_="kept", cx=at_x(epoch), cy=at_y(value), r=3.2))
    svg = element(
        "svg",
        *drawn,
        class_="curves",
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_label=f"{axis} by epoch",
    )
    return Drawing(svg)


@dataclass(frozen=True)
class ChartLine:
    """A line of `line_chart`. points: (number of a place, share in [0, 1]); colour: 0 to 5."""

    name: str
    points: Sequence[tuple[int, float]]
    colour: int = 0
    dashed: bool = False


def line_chart(lines: Sequence[ChartLine], places: Sequence[str], *, x_axis: str) -> Drawing:
    """Accuracies as lines over places at equal distances, with a legend on the right. places: the
    texts below the chart; x_axis: what they are."""
    width, height, left, top, bottom = 440, 280, 46, 14, 38
    key_width = round(max(len(line.name) for line in lines) * 12 * 0.6) + 60
    shares = [share for line in lines for _, share in line.points]
    low, high = math.floor(min(shares) * 20 - 0.01) / 20, math.ceil(max(shares) * 20 + 0.01) / 20
    low, high = max(low, 0.0), min(high, 1.0)

    def at_x(place: int) -> float:
        return left + 24 + place / max(len(places) - 1, 1) * (width - left - 58)

    def at_y(share: float) -> float:
        return top + (high - share) / (high - low) * (height - top - bottom)

    drawn = []
    for tick in ticks(100 * low, 100 * high):
        y = f"{at_y(tick / 100):.1f}"
        drawn.append(element("line", class_="grid", x1=left, x2=width - 10, y1=y, y2=y))
        drawn.append(text(f"{tick:g}", x=left - 7, y=y, dy=".35em", text_anchor="end"))
    for number, words in enumerate(places):
        drawn.append(
            text(words, x=f"{at_x(number):.1f}", y=height - bottom + 18, text_anchor="middle")
        )
    drawn.append(text(x_axis, x=(width + left) / 2, y=height - 3, text_anchor="middle"))
    for number, line in enumerate(lines):
        dashes = {"stroke_dasharray": "5 4"} if line.dashed else {}
        style = f"s{line.colour % 6}"
        points = [(f"{at_x(place):.1f}", f"{at_y(share):.1f}") for place, share in line.points]
        path = " ".join(f"{x},{y}" for x, y in points)
        drawn.append(element("polyline", title(line.name), class_=style, points=path, **dashes))
        for (x, y), (place, share) in zip(points, line.points, strict=True):
            about = title(f"{line.name}, {x_axis} {places[place]}: {percent(share)} %")
            drawn.append(element("circle", about, class_=f"c{line.colour % 6}", cx=x, cy=y, r=3))
        y_key = top + 10 + number * 18
        ends = f"{width + 8},{y_key} {width + 36},{y_key}"
        drawn.append(element("polyline", class_=style, points=ends, **dashes))
        drawn.append(text(line.name, x=width + 44, y=y_key, dy=".35em"))
    whole, tall = width + key_width, max(height, top + 20 + len(lines) * 18)
    svg = element(
        "svg",
        *drawn,
        class_="lines",
        width=whole,
        height=tall,
        viewBox=f"0 0 {whole} {tall}",
        font_size=12,
        role="img",
        aria_label=f"accuracy in % by {x_axis}",
    )
    return Drawing(svg)
