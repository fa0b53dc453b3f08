"""Compact forms of texts and numbers for the page's script, which `packing.js` reads.

A page with 100,000 videos has no element for each of them. It contains this data once.
"""

import base64
import os.path
import re
from collections.abc import Sequence

import numpy as np

from reelbank.data.console import drawable

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_MOST_SHARED = 36**2 - 1  # two digits
_LINE_END = re.compile("[\n\u2028\u2029]")
# Python counts characters, and JavaScript counts UTF-16 units: two for a character beyond U+FFFF.
_COUNTED_ALIKE = re.compile("[\0-\uffff]*")


def packed_texts(texts: Sequence[str]) -> str:
    """V texts as lines: two base-36 digits, the number of characters at the beginning that are those
    of the text before, and the rest. Sorted ids take a few bytes each. Characters that a page cannot
    show become U+FFFD."""
    lines = []
    before = ""
    for text in texts:
        text = shown(text)
        shared = _COUNTED_ALIKE.match(os.path.commonprefix([before, text]))
        length = min(shared.end() if shared else 0, _MOST_SHARED)
        lines.append(f"{_DIGITS[length // 36]}{_DIGITS[length % 36]}{text[length:]}")
        before = text
    return "\n".join(lines)


def shown(text: str) -> str:
    """A text as one line that a page can show."""
    return _LINE_END.sub("\N{REPLACEMENT CHARACTER}", drawable(text))


def packed_numbers(numbers: np.ndarray) -> str:
    """Whole numbers (V,) as text: "8:", "16:" or "32:", the bits of each, and base64 of unsigned
    little-endian integers of this width. Raises ValueError for a number that does not fit."""
    whole = np.rint(numbers)
    highest = int(whole.max(initial=0))
    bits = next((bits for bits in (8, 16, 32) if highest < 1 << bits), 0)
    if not bits or whole.min(initial=0) < 0:
        raise ValueError(f"numbers must be from 0 to {2**32 - 1}")
    data = base64.b64encode(whole.astype(f"<u{bits // 8}").tobytes())
    return f"{bits}:{data.decode('ascii')}"


def evenly(count: int, most: int) -> np.ndarray:
    """At most `most` of the numbers 0 to count - 1, evenly chosen, in order: (n,) int64."""
    chosen = min(count, most)
    return np.arange(chosen, dtype=np.int64) * count // max(chosen, 1)
