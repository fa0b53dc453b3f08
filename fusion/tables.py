"""Tables of the report, as HTML."""

import math
from collections.abc import Sequence
from html import escape


def table(heads: str, rows: Sequence[str], caption: str, style: str = "") -> str:
    """A table that scrolls by itself where it is wider than the page; heads, rows: HTML of `th` and of table rows."""
    said = f'<p class="quiet">{caption}</p>' if caption else ""  # no <caption>: it would scroll away with a wide table
    body = f"<thead><tr>{heads}</tr></thead><tbody>\n{chr(10).join(rows)}\n</tbody>"
    return f'{said}<div class="scroll"><table class="{style}">{body}</table></div>'


def th(text: str, number: bool = False, sort: str = "") -> str:
    """A heading that sorts its column when it is clicked."""
    attributes = (' class="n"' if number else "") + (f' aria-sort="{sort}"' if sort else "")
    return f"<th{attributes}><button>{escape(text)}</button></th>"


def td(value: float, text: str, style: str = "") -> str:
    """A cell of a figure: what is shown, and the value that it is sorted by."""
    return f'<td class="{f"n {style}".strip()}" data-v="{value if math.isfinite(value) else -1:.6g}">{escape(text)}</td>'


def per_cent(value: float) -> str:
    """A share in [0, 1] in per cent with one place, a dash for nan."""
    return "–" if math.isnan(value) else f"{100 * value:.1f}"
