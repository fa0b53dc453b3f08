"""The map of the bank as a drawing: points in two dimensions, with a mark for each category."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reelbank.fusion.report.drawings.svg import cut, element, text, title
from reelbank.fusion.report.view import Drawing

COLOURS = SHAPES = 6
_SIDE_PX = 560
_MARGIN_PX = 14
_MOST_NAMED = 36  # from then on, pairs of colour and shape repeat
# Around the centre of a mark of radius 1; the first two are dots with round and square ends.
_OUTLINES = (
    "h0",
    "h0",
    "m0,-1.15l1.1,1.95h-2.2z",
    "m0,-1.25l1.1,1.25l-1.1,1.25l-1.1,-1.25z",
    "m-1.2,0h2.4m-1.2,-1.2v2.4",
    "m-0.9,-0.9l1.8,1.8m-1.8,0l1.8,-1.8",
)
_ENDS = ("round", "square", "butt", "butt", "butt", "butt")
_WIDTHS = (2.0, 1.7, 0.0, 0.0, 0.55, 0.55)  # of the stroke


@dataclass(frozen=True)
class Category:
    """name: in the legend; colour: number of one of COLOURS, -1 for grey; shape: of one of
    SHAPES."""

    name: str
    colour: int
    shape: int


def categories_of(names: Sequence[str]) -> list[Category]:
    """A category for each name, with a mark that differs in colour and shape from the others, for
    up to 36 names."""
    return [
        Category(name, i % COLOURS, (i + i // COLOURS) % SHAPES) for i, name in enumerate(names)
    ]


def scatter(positions: np.ndarray, categories: Sequence[Category], numbers: np.ndarray) -> Drawing:
    """Points at positions (V, 2), with the same scale in both directions. numbers: (V,) the category
    of each point; later categories are drawn above earlier ones."""
    low, high = positions.min(axis=0), positions.max(axis=0)
    side = float((high - low).max()) or 1.0
    places = _MARGIN_PX + (positions - low) * (_SIDE_PX / side)
    height = round(float((high - low)[1]) * _SIDE_PX / side) + 2 * _MARGIN_PX
    places[:, 1] = height - places[:, 1]
    radius = float(np.clip(0.18 * _SIDE_PX / np.sqrt(len(positions)), 1, 4))
    drawn = []
    present = np.unique(numbers).tolist()
    for number in present:
        category = categories[number]
        points = places[numbers == number]
        drawn.append(_marks(points, category, radius))
    left = _SIDE_PX + 2 * _MARGIN_PX + 10
    for row, number in enumerate(present[:_MOST_NAMED]):
        y = _MARGIN_PX + 16 * row
        drawn.append(_marks(np.array([[left, y]]), categories[number], 4))
        drawn.append(text(cut(categories[number].name, 28), x=left + 12, y=y + 4))
    if len(present) > _MOST_NAMED:
        more = f"and {len(present) - _MOST_NAMED} more, with the same marks"
        drawn.append(text(more, x=left, y=_MARGIN_PX + 16 * _MOST_NAMED + 4))
    named = min(len(present), _MOST_NAMED + 1)
    width, height = left + 220, max(height, 16 * named + 2 * _MARGIN_PX)
    svg = element(
        "svg",
        *drawn,
        class_="map",
        width=width,
        height=height,
        viewBox=f"0 0 {width} {height}",
        font_size=11,
        role="img",
        aria_label="map of the videos",
    )
    return Drawing(svg)


def _marks(points: np.ndarray, category: Category, radius: float) -> str:
    """All points (n, 2) of a category as one path, because 100,000 elements take minutes."""
    outline = _OUTLINES[category.shape]
    scaled = (points / radius).round(2).tolist()
    colour = "unknown" if category.colour < 0 else f"k{category.colour}"
    return element(
        "path",
        title(category.name),
        class_=f"{colour} {'dots' if _WIDTHS[category.shape] else 'shapes'}",
        d="".join(f"M{x:g},{y:g}{outline}" for x, y in scaled),
        transform=f"scale({radius:.3f})",
        stroke_width=_WIDTHS[category.shape],
        stroke_linecap=_ENDS[category.shape],
    )
