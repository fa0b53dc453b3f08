"""The report as data. It contains everything that the templates show, in the order of the page.

Every text is plain text, which the templates escape. Only a Drawing contains markup, which
drawings/ makes. `template` names the file in templates/ that shows a block.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from reelbank.data import console


@dataclass(frozen=True)
class Drawing:
    """An SVG drawing. It is made in drawings/, which escapes the texts in it."""

    svg: str

    def __html__(self) -> str:
        """jinja2 inserts objects that have this method without escaping them."""
        return self.svg


@dataclass(frozen=True)
class Image:
    """A picture: base64 data with its type ("jpeg", "png"), the size in pixels, and the alternative
    text."""

    type: str
    data: str
    width: int
    height: int
    alt: str


# Cells of a table; `kind` names the macro in templates/cells.html.


@dataclass(frozen=True)
class RowName:
    """The name of a row. letter: the letter of a model; anchor: the target of the link to where its
    numbers come from."""

    kind: ClassVar[str] = "row_name"
    text: str
    detail: str = ""
    letter: str = ""
    anchor: str = ""
    code: str = ""


@dataclass(frozen=True)
class Text:
    """A cell with text. style: CSS classes; code: whether the text is set in a monospaced font."""

    kind: ClassVar[str] = "text"
    text: str
    style: str = ""
    code: bool = False


@dataclass(frozen=True)
class Number:
    """A figure as text, and the value that its column is sorted by (nan comes last)."""

    kind: ClassVar[str] = "number"
    value: float
    text: str
    best: bool = False

    @property
    def sorted_by(self) -> str:
        return f"{self.value if math.isfinite(self.value) else -1:.6g}"


@dataclass(frozen=True)
class Bar:
    """A share in [0, 1] (nan: unknown) as a figure on a bar."""

    kind: ClassVar[str] = "bar"
    value: float

    @property
    def sorted_by(self) -> str:
        return f"{self.value if math.isfinite(self.value) else -1:.6g}"

    @property
    def text(self) -> str:
        return percent(self.value)

    @property
    def length(self) -> str:
        return f"{self.value if math.isfinite(self.value) else 0:.4f}"


@dataclass(frozen=True)
class GainBar:
    """A difference in [-1, 1] (nan: unknown), on a bar that starts in the middle of the cell."""

    kind: ClassVar[str] = "gain_bar"
    value: float

    @property
    def _known(self) -> bool:
        return math.isfinite(self.value)

    @property
    def sorted_by(self) -> str:
        return f"{self.value if self._known else -2:.6g}"

    @property
    def text(self) -> str:
        return f"{100 * self.value:+.1f}" if self._known else "–"

    @property
    def length(self) -> str:
        return f"{abs(self.value) if self._known else 0:.4f}"

    @property
    def position(self) -> str:
        """The CSS background-position, which is the share of the cell's free width to the left of
        the bar."""
        if not self._known:
            return f"{0:.4f}"
        half = abs(self.value) / 2  # the bar's length as a share of the cell's width
        left = 0.5 if self.value > 0 else 0.5 - half
        return f"{left / (1 - half):.4f}"

    @property
    def hue(self) -> str:
        return "var(--bar)" if self._known and self.value > 0 else "var(--bar-miss)"


@dataclass(frozen=True)
class Whisker:
    """An interval as a drawing and in figures."""

    kind: ClassVar[str] = "whisker"
    drawing: Drawing
    text: str


Cell = RowName | Text | Number | Bar | GainBar | Whisker


@dataclass(frozen=True)
class Column:
    """A column's heading. number: whether its cells are figures, which are aligned to the right;
    sort: "descending" if the rows are already in this order; sortable: whether a click on it sorts
    the rows."""

    title: str
    number: bool = False
    sort: str = ""
    sortable: bool = True


# Blocks of a section.


@dataclass(frozen=True)
class Words:
    """A part of a paragraph."""

    text: str
    strong: bool = False


@dataclass(frozen=True)
class Paragraph:
    template: ClassVar[str] = "paragraph.html"
    words: tuple[Words, ...]
    quiet: bool = False


def paragraph(text: str) -> Paragraph:
    """A paragraph without emphasis."""
    return Paragraph((Words(text),))


def note(text: str) -> Paragraph:
    """A paragraph in small, grey type."""
    return Paragraph((Words(text),), quiet=True)


@dataclass(frozen=True)
class Heading:
    """A heading within a section. detail: text that follows in small type; anchor: target of
    links."""

    template: ClassVar[str] = "heading.html"
    text: str
    detail: str = ""
    anchor: str = ""


@dataclass(frozen=True)
class Table:
    """A table that scrolls horizontally if it is wider than the page. note: text above the table;
    it is not a <caption>, which would scroll with a wide table."""

    template: ClassVar[str] = "table.html"
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    style: str = ""


@dataclass(frozen=True)
class Key:
    """An entry of a legend. colour: CSS."""

    colour: str
    name: str


@dataclass(frozen=True)
class Legend:
    template: ClassVar[str] = "legend.html"
    keys: Sequence[Key]


@dataclass(frozen=True)
class Chart:
    caption: str
    drawing: Drawing


@dataclass(frozen=True)
class Charts:
    """Drawings side by side, as many in a row as fit."""

    template: ClassVar[str] = "charts.html"
    charts: Sequence[Chart]


@dataclass(frozen=True)
class WideDrawing:
    """A drawing that scrolls horizontally if it is wider than the page."""

    template: ClassVar[str] = "wide_drawing.html"
    drawing: Drawing


@dataclass(frozen=True)
class Code:
    template: ClassVar[str] = "code.html"
    text: str


@dataclass(frozen=True)
class Facts:
    """Pairs of a name and a value."""

    template: ClassVar[str] = "facts.html"
    facts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Details:
    """Blocks that a click on the summary shows and hides. detail: text after the summary in small
    type; after: text after the detail."""

    template: ClassVar[str] = "details.html"
    summary: str
    blocks: Sequence["Block"]
    detail: str = ""
    after: str = ""
    open: bool = False


@dataclass(frozen=True)
class Card:
    """A picture with lines below it, or the reason why there is no picture. drawing: a drawing
    below the lines; link: the address that the first line leads to, "" for none."""

    lines: Sequence[str] = ()
    image: Image | None = None
    reason: str = ""
    drawing: Drawing | None = None
    wide: bool = False
    link: str = ""


@dataclass(frozen=True)
class Gallery:
    """Cards side by side, as many in a row as fit."""

    template: ClassVar[str] = "gallery.html"
    cards: Sequence[Card]


@dataclass(frozen=True)
class VideoList:
    """A list of videos that can be sorted and filtered, of which the page shows a part at a time.
    data: `packed_answers` with links and splits; has_splits: whether it has a column of splits."""

    template: ClassVar[str] = "video_list.html"
    data: Mapping[str, object]
    has_splits: bool = False

    @property
    def columns(self) -> Sequence[tuple[str, str]]:
        """Key and title of the columns that can be sorted."""
        # The answer comes right after the name, so that both are visible on a phone.
        keys = ["video", "answer", "score", "class", "prediction"]
        return [(key, key.capitalize()) for key in [*keys, *(["split"] * self.has_splits)]]


@dataclass(frozen=True)
class VideoMap:
    """Videos as points, which the page's script draws. data: as `packed_map` makes it."""

    template: ClassVar[str] = "video_map.html"
    data: Mapping[str, object]


Block = (
    Paragraph
    | Heading
    | Table
    | Legend
    | Charts
    | WideDrawing
    | Code
    | Facts
    | Details
    | Gallery
    | VideoList
    | VideoMap
)


@dataclass(frozen=True)
class Section:
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Chapter:
    """Sections under one title; a chapter without a title follows the one before it."""

    title: str
    sections: Sequence[Section]


@dataclass(frozen=True)
class Page:
    title: str
    about: str
    notes: Sequence[str]
    chapters: Sequence[Chapter]


def percent(share: float) -> str:
    """A share in [0, 1] in per cent with one decimal place, or a dash for nan."""
    return "–" if math.isnan(share) else console.percent(share, places=1)


def plus_minus(mean: float, deviation: float) -> str:
    """Mean and deviation in per cent, or only the mean if there is no deviation (nan)."""
    return percent(mean) + ("" if math.isnan(deviation) else f" ± {percent(deviation)}")


def interval(low: float, high: float) -> str:
    """The ends of an interval in per cent."""
    return f"{percent(low)}–{percent(high)}"
