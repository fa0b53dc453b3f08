"""Text for terminals, pages and drawings. It may contain names and reasons from untrusted files, so
it is cleaned here."""

import difflib
import html
import json
import math
import os
import re
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Any, TextIO, TypedDict


def printable(text: str) -> str:
    """Text from a file as one line for a terminal: characters that are not visible (control and
    format characters, line ends, surrogates) become '?'."""
    return "".join(character if character.isprintable() else "?" for character in text)


def shortened(text: str, longest: int = 1500) -> str:
    """A message that may contain a value of any length. A text longer than `longest` is reduced to
    its beginning and its end."""
    return text if len(text) <= longest else f"{text[: longest - 500]} ... {text[-450:]}"


# Characters that XML 1.0 (and therefore SVG) cannot contain and that browsers do not display, and
# characters that change the direction of the text after them.
_UNDRAWABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069]"
)


def drawable(document: str) -> str:
    """A page or drawing in HTML or SVG, with forbidden characters replaced by U+FFFD."""
    return _UNDRAWABLE.sub("\N{REPLACEMENT CHARACTER}", document)


def markdown_text(text: str) -> str:
    """Text from a file, for one cell or line of Markdown."""
    return html.escape(printable(text), quote=False).replace("|", "/")


def as_run(message: str) -> str:
    """A message with its commands in the form in which the user runs them. Messages contain them as
    the installed package has them, in quotation marks: 'reelbank extract ROOT=videos'. The Makefile
    of a clone sets REELBANK_RUN_BY=make, and the same command is then 'make extract ROOT=videos'."""
    if os.environ.get("REELBANK_RUN_BY") != "make":
        return message

    def of_make(match: re.Match[str]) -> str:
        words = match[1]
        program = ".venv/bin/reelbank" if "--help" in words.split() else "make"
        return f"'{program} {words}"

    return _COMMAND.sub(of_make, message)


# The beginning of a command in quotation marks, up to its closing one.
_COMMAND = re.compile(r"'reelbank ([^']*)")


def counted(number: int, noun: str) -> str:
    """'1 video', '2,000 videos'."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


class BarOptions(TypedDict, total=False):
    """Keyword arguments of a tqdm bar."""

    disable: bool


def bar_options(*, hidden: bool = False) -> BarOptions:
    """The options of a tqdm bar that is shown only on a terminal, and never if `hidden`. `disable`
    is not set on a terminal, because tqdm reads TQDM_DISABLE only if it is not set."""
    return {"disable": True} if hidden or not sys.stderr.isatty() else {}


def print_lines(*lines: str, file: TextIO | None = None, flush: bool = False) -> None:
    """Print each text as one `printable` line to `file` (default: stdout). Every command prints
    with this function, so that text from a file can neither contain control codes of a terminal nor
    imitate a line of the program."""
    print(*map(printable, lines), sep="\n", file=file or sys.stdout, flush=flush)


def print_json(value: Any) -> None:
    """Print a value as one JSON document on stdout, in ASCII."""
    print_lines(*json.dumps(value, indent=2, allow_nan=False).split("\n"))


def warning_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """A library's warning as one printable line; replaces `warnings.formatwarning`, because a
    warning may contain text from a file."""
    return printable(f"{filename}:{lineno}: {category.__name__}: {message}") + "\n"


def table_lines(rows: Iterable[Sequence[str]]) -> list[str]:
    """A table as lines of text: columns as wide as their longest word, left-aligned; the first row
    is the heading."""
    cells = [[printable(word) for word in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def print_table(rows: Iterable[Sequence[str]]) -> None:
    """Print `table_lines`."""
    for line in table_lines(rows):
        print_lines(line)


def size_text(size_bytes: float) -> str:
    """'512 B', '3.9 KiB', '1.7 TiB'."""
    if size_bytes < 1024:
        return f"{size_bytes:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        size_bytes /= 1024
        if size_bytes < 1023.95:  # above, it would be rounded to 1024.0
            return f"{size_bytes:.1f} {unit}"
    return f"{size_bytes / 1024:,.1f} TiB"


def duration_text(seconds: float) -> str:
    """'about 30 s', 'about 5 min', 'about 2.5 h'."""
    if seconds < 90:
        return f"about {math.ceil(seconds)} s"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:,.1f} h"


def percent(share: float | None, places: int = 2) -> str:
    """A share in [0, 1] as per cent; '-' for nan and None."""
    return "-" if share is None or math.isnan(share) else f"{100 * share:.{places}f}"


def some(names: Iterable[str], limit: int = 3) -> str:
    """'a, b, c and 4 more'."""
    listed = list(names)
    more = len(listed) - limit
    return ", ".join(listed[:limit]) + (f" and {more:,} more" if more > 0 else "")


def nearest(word: str, candidates: Iterable[str]) -> str:
    """'; did you mean X?', or '' if no candidate is similar."""
    similar = nearest_word(word, candidates)
    return f"; did you mean {similar}?" if similar else ""


def nearest_word(word: str, candidates: Iterable[str], *, similarity: float = 0.6) -> str:
    """The most similar candidate, '' if none has this similarity (0 to 1, as difflib measures it).
    Letter case is ignored."""
    by_folded = {name.casefold(): name for name in candidates}
    matches = difflib.get_close_matches(word.casefold(), by_folded, 1, similarity)
    return by_folded[matches[0]] if matches else ""


def class_hint(name: str, class_names: Collection[str]) -> str:
    """A hint for a class in CLASSES that is not among `class_names`: how to write a name with a
    comma, '; did you mean X?', or ''."""
    for class_name in sorted(class_names):
        pieces = [piece.strip() for piece in class_name.split(",")]
        if len(pieces) > 1 and name in pieces:
            return (
                "; a class name that contains a comma needs double quotation marks: "
                f"CLASSES='\"{class_name}\"'"
            )
    return nearest(name, class_names)
