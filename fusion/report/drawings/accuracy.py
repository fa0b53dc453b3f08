"""Drawings of one accuracy with its interval, and of accuracy against confidence."""

import math

import numpy as np

from reelbank.fusion.metrics import Share
from reelbank.fusion.report.drawings.svg import element, text, title
from reelbank.fusion.report.view import Drawing, percent


def whisker(accuracy: Share, chance: float, *, width: int = 150) -> Drawing:
    """A dot at the accuracy, a line over its interval and a tick at chance, on a scale from 0 to
    100 %. width: in px."""
    low, value, high, tick = (
        f"{4 + (width - 8) * share:.1f}"
        for share in (accuracy.low, accuracy.value, accuracy.high, chance)
    )
    about = (
        f"{percent(accuracy.value)} %, "
        f"95 % interval {percent(accuracy.low)} to {percent(accuracy.high)} %"
    )
    svg = element(
        "svg",
        title(about),
        element("line", class_="scale", x1=4, x2=width - 4, y1=9, y2=9),
        element("line", class_="chance", x1=tick, x2=tick, y1=3, y2=15),
        element("line", class_="interval", x1=low, x2=high, y1=9, y2=9),
        element("circle", cx=value, cy=9, r=3.5),
        class_="whisker",
        width=width,
        height=18,
        viewBox=f"0 0 {width} 18",
        role="img",
        aria_label=about,
    )
    return Drawing(svg)


def reliability(bins: np.ndarray) -> Drawing:
    """A diagram of accuracy against confidence, which are equal on the diagonal. bins: (B, 3) of
    mean confidence, accuracy and number of videos (significance.Calibration). The area of a dot
    grows with its number of videos."""
    side, margin = 260, 40

    def at(x: float, y: float) -> tuple[str, str]:
        length = side - margin - 20
        return f"{margin + x * length:.1f}", f"{10 + (1 - y) * length:.1f}"

    (left, floor), (right, top) = at(0, 0), at(1, 1)
    drawn = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = at(tick, tick)
        label = f"{100 * tick:.0f}"
        drawn.append(element("line", class_="grid", x1=left, x2=right, y1=y, y2=y))
        drawn.append(element("line", class_="grid", x1=x, x2=x, y1=top, y2=floor))
        drawn.append(text(label, x=margin - 6, y=y, dy=".35em", text_anchor="end"))
        drawn.append(text(label, x=x, y=side - margin + 8, text_anchor="middle"))
    drawn.append(element("line", class_="diagonal", x1=left, y1=floor, x2=right, y2=top))
    points = [at(confidence, accuracy) for confidence, accuracy, _ in bins]
    path = " ".join(f"{x},{y}" for x, y in points)
    drawn.append(element("polyline", class_="reached", points=path))
    for (x, y), (confidence, accuracy, videos) in zip(points, bins, strict=True):
        radius = 2 + 7 * math.sqrt(videos / bins[:, 2].sum())
        about = (
            f"{videos:.0f} videos: confidence {percent(confidence)} %, "
            f"accuracy {percent(accuracy)} %"
        )
        drawn.append(element("circle", title(about), class_="bin", cx=x, cy=y, r=f"{radius:.1f}"))
    drawn.append(text("confidence, %", x=side / 2 + 12, y=side - 2, text_anchor="middle"))
    svg = element(
        "svg",
        *drawn,
        class_="curves reliability",
        viewBox=f"0 0 {side} {side}",
        role="img",
        aria_label="accuracy by confidence",
    )
    return Drawing(svg)
