"""The commands of docs/tutorial.md and what they print."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Step(NamedTuple):
    """A block of commands, and the output that the page shows below it."""

    commands: str
    shown: str


def draw_program() -> str:
    """The program that the page saves as draw.py."""
    (program,) = (text for kind, text in _BLOCK.findall(PAGE.read_text()) if kind == "python")
    return program


def steps() -> list[Step]:
    """The blocks of commands in order."""
    blocks = [block for block in _BLOCK.findall(PAGE.read_text()) if block[0] != "python"]
    assert [kind for kind, _ in blocks] == ["sh", "text"] * (len(blocks) // 2)
    return [
        Step(commands, shown)
        for (_, commands), (_, shown) in zip(blocks[::2], blocks[1::2], strict=True)
    ]


def printed(commands: str, folder: Path) -> str:
    """The standard output of commands of the page, run in `folder`. Raises CalledProcessError if
    they fail."""
    python = shlex.quote(sys.executable)
    functions = f'reelbank() {{ {python} -m reelbank "$@"; }}\npython() {{ {python} "$@"; }}\n'
    done = subprocess.run(
        ["bash", "-euc", functions + commands],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{commands}: {done.stderr}"
    return done.stdout
