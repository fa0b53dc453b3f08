"""The Makefile passes every value on exactly as typed, and never executes it."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Stands in for .venv/bin/reelbank: writes down its words, each ended by a NUL.
STUB = """#!/bin/sh
for word in "$@"; do printf '%s\\0' "$word" >> words; done
"""
VALUES = [
    "/x/my$bank",
    "/x/my$$bank",
    "$(shell touch ran)",
    "${shell touch ran}",
    "$(eval $(shell touch ran))",
    "$(error stopped)",
    "`touch ran`",
    "$(touch ran)",
    "; touch ran;",
    "a' ; touch ran; 'b",
    "'one' and \"two\"",
    "back\\slash \\$x \\",
    "per%cent # no comment",
    "trailing spaces  ",
    "(un)balanced ((, {",
    "a=b := c",
    "$@ $< $(HOME) $HOME ~",
    "two\nlines\n",
    "$\n(shell touch ran)",
    "\u00e4 \u4f60 \t tab",
    "",
]


def clone(folder: Path, versions: str = "tested") -> Path:
    """A clone whose environment seems to be made."""
    (folder / "versions").mkdir(parents=True)
    for name in ("pyproject.toml", "versions/tested.txt", "versions/lowest.txt", "Makefile"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in ("reelbank", "python"):
        (folder / ".venv" / "bin" / name).write_text(STUB)
        (folder / ".venv" / "bin" / name).chmod(0o755)
    (folder / ".venv" / "versions").write_text(f"{versions}\n")
    (folder / ".venv" / "python").write_text("python3\n")
    (folder / ".venv" / f"made-with-{versions}").touch()
    return folder


def make_alone(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """make without the variables of a `make test` that runs these tests, which it would take
    over."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    (folder / "words").unlink(missing_ok=True)
    return subprocess.run(
        ["make", *words], cwd=folder, env=inherited | environment, capture_output=True, text=True
    )


def make(folder: Path, *words: str, **environment: str) -> list[str]:
    """The words that the command was called with. Nothing that a value says was run."""
    done = make_alone(folder, *words, **environment)
    assert done.returncode == 0, done.stderr
    assert not (folder / "ran").exists()
    return (folder / "words").read_text().split("\0")[:-1]


@pytest.mark.parametrize("value", VALUES)
def test_a_value_reaches_the_command_as_it_was_typed(tmp_path: Path, value: str) -> None:
    folder = clone(tmp_path / "clone")
    assert make(folder, "train", f"BANK={value}") == ["train", f"BANK={value}"]
    if value:
        assert make(folder, "train", BANK=value) == ["train", f"BANK={value}"]
        assert make(folder, "-e", "train", BANK=value) == ["train", f"BANK={value}"]
    assert make(folder, "train", "HEAD=gru", f"CLASSES={value}", BANK="/y") == [
        *("train", "BANK=/y", f"CLASSES={value}", "HEAD=gru"),
    ]


def test_other_banks_are_passed_to_the_commands_that_read_them(tmp_path: Path) -> None:
    folder = clone(tmp_path / "clone")
    for target in ("extract", "train", "evaluate", "stores", "remove"):
        assert make(folder, target, BANKS="/a /b") == [target, "BANKS=/a /b"]
    for target in ("import", "doctor"):
        assert make(folder, target, BANK="/x", BANKS="/a /b") == [target, "BANK=/x"]


def test_values_pass_through_a_make_that_calls_make(tmp_path: Path) -> None:
    folder = clone(tmp_path / "clone")
    (folder / "outer.mk").write_text("all:\n\t@$(MAKE) --no-print-directory train\n")
    for value in ("/x/my$bank", "a b 'c'", "$(shell touch ran)", "per%cent # none \\"):
        assert make(folder, "-f", "outer.mk", BANK=value) == ["train", f"BANK={value}"]


def test_makes_own_variables_run_nothing_either(tmp_path: Path) -> None:
    folder = clone(tmp_path / "clone")
    for words in (
        ["LONG=$(shell touch ran)"],
        ["BIN=$(shell touch ran)"],
        ["READY=$(shell touch ran)"],
    ):
        make(folder, "test", *words)
    done = make_alone(folder, "train", "VERSIONS=$(shell touch ran)")
    assert (
        done.returncode
        and "VERSIONS=$(shell touch ran): choose tested, newest or lowest" in done.stderr
    )
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("name", ["py $x", "$(shell touch ran)", "my 'python'", "p%y#"])
def test_a_python_of_any_name_makes_the_environment(tmp_path: Path, name: str) -> None:
    """It lies in a folder of that name, stands in for python3, and writes down its words."""
    folder = clone(tmp_path / "clone")
    (folder / name).mkdir()
    stub = '#!/bin/sh\nprintf "%s\\0" "$0" "$1" "$2" >> words\n'
    stub += '[ "$1" = -c ] || { mkdir -p .venv/bin; printf "#!/bin/sh\\n" > .venv/bin/python; chmod +x .venv/bin/python; }\n'
    (folder / name / "python").write_text(stub)
    (folder / name / "python").chmod(0o755)
    for words, environment in (
        ([f"PYTHON=./{name}/python"], {}),
        ([], {"PYTHON": f"./{name}/python"}),
    ):
        found = make(folder, "setup", *words, **environment)
        assert found[0] == found[3] == f"./{name}/python" and found[4:] == ["-m", "venv"]
        assert (folder / ".venv" / "python").read_text() == f"./{name}/python\n"
        (folder / ".venv" / "python").write_text("another\n")
    assert make(
        folder, "setup", f"PYTHON=./{name}/python"
    )  # and again where it is the one that is there
    done = make_alone(folder, "setup", f"PYTHON=./{name}/python")
    assert done.returncode == 0 and not (folder / "words").exists()
