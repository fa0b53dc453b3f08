"""The steps of the Dockerfile as a shell script, for a machine that cannot run Docker:

    python3 tests/dockerfile_steps.py TORCH=cuda > steps.sh

`sh -e steps.sh` runs them as root in a fresh Debian system, in the folder of the clone. Both stages run
in the same system, so a file of the first stage is where the second one copies it.
"""

import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Instruction(NamedTuple):
    """name: in upper case, such as RUN; text: what follows it, on one line."""

    name: str
    text: str


def instructions() -> list[Instruction]:
    """The instructions of the Dockerfile in order, without comments."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    lines = [line for line in text.split("\n") if line.strip() and not line.startswith("#")]
    return [Instruction(*line.split(maxsplit=1)) for line in lines]


def context() -> list[str]:
    """The names at the top of the clone that .dockerignore leaves in."""
    text = (ROOT / ".dockerignore").read_text(encoding="utf-8")
    lines = [line for line in text.split("\n") if line and not line.startswith("#")]
    assert lines[0] == "*"  # everything, except:
    return [line[1:] for line in lines if line.startswith("!")]


def script(arguments: Sequence[str]) -> Iterator[str]:
    """The lines of a shell script. arguments: NAME=value of --build-arg."""
    given = dict(word.split("=", 1) for word in arguments)
    folder = "/"
    for name, text in instructions():
        if name == "ARG":
            argument, _, default = text.partition("=")
            yield f"{argument}={shlex.quote(given.get(argument, default))}"
        elif name == "ENV":
            yield f"export {text}"
        elif name == "RUN":
            yield f"(cd {folder}; {text})"
        elif name == "COPY" and not text.startswith("--from="):
            source, target = text.split()
            names = context() if source == "." else [source]
            yield f"mkdir -p {Path(target if target.endswith('/') else Path(target).parent)}"
            yield f"cp -r {' '.join(str(ROOT / name) for name in names)} {target}"
        elif name == "WORKDIR":
            folder = text
            yield f"mkdir -p {folder}"


if __name__ == "__main__":
    print("set -ex", *script(sys.argv[1:]), sep="\n")
