"""Frames of videos with bars of the classes that models predict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reelbank.fusion.report.drawings.bar_charts import (
    NamedValue,
    bar_elements,
    bars_drawing,
    name_width,
)
from reelbank.fusion.report.drawings.svg import cut, element, text, title
from reelbank.fusion.report.view import Drawing, Image


@dataclass(frozen=True)
class Predicted:
    """A video with what each model, by name, predicts. image: a frame of it, or None with the
    reason."""

    video: str
    true: str
    likeliest: Mapping[str, Sequence[NamedValue]]
    image: Image | None = None
    reason: str = ""


def predictions(rows: Sequence[Sequence[Predicted]]) -> Drawing:
    """Frames of videos side by side, each with its true class and bars of the most likely classes of
    each model; the bar of the true class has the strong colour. Models are named if there are
    several."""
    picture, gap, line = (220, 165), 24, 16  # px
    names = []
    for row in rows:
        for card in row:
            for likeliest in card.likeliest.values():
                names += [bar.name for bar in likeliest]
    bar_width = 60
    card_width = max(picture[0], name_width(names) + bar_width + 48) + gap
    drawn, y = [], 0
    for row in rows:
        tallest = max((_bars_height(card) for card in row), default=0)
        for column, card in enumerate(row):
            x = column * card_width
            if card.image:
                place = {"x": x, "y": y, "width": picture[0], "height": picture[1]}
                data = f"data:image/{card.image.type};base64,{card.image.data}"
                drawn.append(
                    element(
                        "image",
                        title(card.image.alt),
                        href=data,
                        preserveAspectRatio="xMinYMid",
                        **place,
                    )
                )
            else:
                drawn.append(text(cut(card.reason, 34), x=x, y=y + picture[1] / 2))
            below = y + picture[1] + line
            drawn.append(text(cut(card.video, 34), class_="figure", x=x, y=below))
            drawn.append(text(f"true: {cut(card.true, 28)}", x=x, y=below + line))
            under = below + line + 6
            for model, likeliest in card.likeliest.items():
                if len(card.likeliest) > 1:
                    drawn.append(text(cut(model, 34), class_="figure", x=x, y=under + 11))
                    under += line
                bars_of_model, _, height = bar_elements(
                    likeliest, signed=False, strong=card.true, width=bar_width
                )
                drawn.append(element("g", *bars_of_model, transform=f"translate({x} {under})"))
                under += height + 4
        y += picture[1] + 3 * line + tallest + gap if row else 0
    width = max(map(len, rows)) * card_width - gap
    return bars_drawing(drawn, width_px=width, height_px=y, label="predictions")


def _bars_height(card: Predicted) -> int:
    """Height of the bars of all models under a frame, px."""
    heights = [17 * len(likeliest) + 4 for likeliest in card.likeliest.values()]
    return sum(heights) + (16 * len(heights) if len(heights) > 1 else 0)
