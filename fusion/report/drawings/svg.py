"""Elements of SVG, and round numbers for the axes of charts."""

import math
from html import escape


def element(name: str, *children: str, **attributes: object) -> str:
    """An element of SVG. children: SVG; attributes: any values, escaped here, under names with
    underscores for hyphens (class_ for class)."""
    written = [
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
    ]
    opening = name + "".join(written)
    return f"<{opening}>{''.join(children)}</{name}>" if children else f"<{opening}/>"


def text(words: str, **attributes: object) -> str:
    """A line of text."""
    return element("text", escape(words), **attributes)


def title(words: str) -> str:
    """A tooltip for the element around it."""
    return element("title", escape(words))


def cut(name: str, longest: int) -> str:
    """A name, shortened to at most `longest` characters."""
    return name if len(name) <= longest else name[: longest - 1] + "…"


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from `low` to `high`. The distance between them is 1, 2 or 5 times a power of
    ten."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]
