"""Code, help and documentation are in plain English: phrases that a native engineer would stop at do not
occur (CONTRIBUTING.md, "Language")."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import reelbank
from reelbank.data.command_line.table import COMMANDS

ROOT = Path(reelbank.__file__).parent
# Phrase -> what to write instead.
PHRASES = {
    r"(?<!there )\bis no (?!longer\b)\w+": "is not a ...",
    r"(?<!there )\bare no (?!longer\b)\w+ (?!of|in|for|and)": "are not ...",
    r"\bseveral labels a\b": "multi-label",
    r"\bbeside\b": "next to, with, in addition to",
    r"\black(s|ed|ing)?\b": "does not have, is missing",
    r"\banew\b": "again",
    r"\bof \w+ alone\b": "only of",
    r"\bwho decodes\b": "the decoder",
    r"\btold apart\b": "distinguished",
    r"\bstrangers\b": "untrusted",
    r"\bwhat is there already\b": "existing ...",
    r"\bto be had\b": "available",
    r"\bof one's own\b": "own",
    r"\bin their place\b": "instead",
}

# A line that stores keep of damaged videos: it must stay as it was.
STORED = "its file lacks"


def texts() -> Iterator[tuple[str, int, str]]:
    """(file, line number, line) of all code and documentation, and of each command's help."""
    files = [ROOT / name for name in ("reelbank.py", "README.md", "CONTRIBUTING.md", "Makefile")]
    for folder in ("data", "extract", "heads", "fusion", "docs", "recipes", "benchmarks", "tests"):
        files += [
            path
            for path in (ROOT / folder).rglob("*")
            if path.suffix in (".py", ".md", ".toml", ".html")
        ]
    for path in sorted(files):
        if path.name != Path(__file__).name:
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                yield str(path.relative_to(ROOT)), number, line


def hits(lines: Iterator[tuple[str, int, str]]) -> list[str]:
    """One line for each phrase found."""
    pattern = re.compile("|".join(PHRASES), re.IGNORECASE)
    return [
        f"{name}:{number}: {match[0]!r}"
        for name, number, line in lines
        if (match := pattern.search(line.replace(STORED, "")))
    ]


def test_code_and_documentation_are_in_plain_english() -> None:
    found = hits(texts())
    assert not found, "\n".join(["rewrite these (PHRASES says how):", *found])


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_in_plain_english(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert reelbank.main([command, "--help"]) == 0
    # a phrase may be broken by the end of a line
    shown = " ".join(capsys.readouterr().out.split())
    assert not hits(iter([(command, 1, shown)]))


def test_the_check_sees_a_phrase() -> None:
    lines = ["TRUNK is no head", "trained anew", "a clip beside another", "it is no longer there"]
    assert len(hits(("x", 1, line) for line in lines)) == 3
