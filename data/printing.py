"""Text for a terminal. Names and facts come from files of anybody."""

from collections.abc import Iterable, Sequence


def printable(text: str) -> str:
    """Text from a file, fit for a terminal: control characters become '?'."""
    return "".join(character if character.isprintable() else "?" for character in text)


def print_table(rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as their longest word, left-aligned; the first row is the heading."""
    lines = [[printable(word) for word in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip())
