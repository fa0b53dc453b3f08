"""A bank that may only be read: commands that have nothing to write work, others say where they can
write."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from made_runs import made_run
from test_extract import encode

import reelbank

PIXELS = ("extract", "DATASET=folder", "ROOT=videos", "EXTRACTOR=pixels", "CROPS=1", "T=2")

# Runs commands, each a line of words, and prints its exit code after its output.
COMMANDS = """
import sys
import reelbank
for line in sys.argv[1:]:
    print("$", line, flush=True)
    print("exit code", reelbank.main(line.split()), flush=True)
"""
READ_ONLY = 'mount --bind bank bank && mount -o remount,bind,ro bank && exec "$@"'


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four videos, and a bank with their pixels and two runs."""
    folder = tmp_path_factory.mktemp("lab")
    for number in range(4):
        label = ("left", "right")[number % 2]
        encode(folder / "videos" / label / f"clip_g{number:02d}_c01.avi", 6, number)
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert reelbank.main([*PIXELS]) == 0
    finally:
        os.chdir(before)
    for head in ("gru", "lstm"):
        made_run(folder / "bank", head=head)
    return folder


def in_namespace() -> list[str]:
    """The words before a command that may mount folders for itself alone; [] if that is not
    permitted."""
    for words in (["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"]):
        trial = [*words, "mount", "--bind", "/tmp", "/tmp"]  # noqa: S108
        if shutil.which("unshare") and not subprocess.run(trial, capture_output=True).returncode:
            return words
    return []


def by_mount(folder: Path) -> list[str]:
    namespace = in_namespace()
    if not namespace:
        pytest.skip("NOT TESTED: a read-only mount, because mounting is not permitted here")
    return [*namespace, "sh", "-c", READ_ONLY, "sh"]


def by_permissions(folder: Path) -> list[str]:
    if os.geteuid() == 0:
        pytest.skip("NOT TESTED: a bank without write permission, because root may write anywhere")
    for path in [folder / "bank", *(folder / "bank").rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    return []


@pytest.fixture(params=[by_mount, by_permissions])
def read_only(request: pytest.FixtureRequest, lab: Path, tmp_path: Path) -> Iterator:
    """Runs command lines in a folder in which the bank is read-only; returns the lines that each
    prints."""
    shutil.copytree(lab / "bank", tmp_path / "bank")
    (tmp_path / "videos").symlink_to(lab / "videos")
    prefix = request.param(tmp_path)
    before = sorted((tmp_path / "bank").rglob("*"))

    def run(*lines: str) -> list[str]:
        words = [*prefix, sys.executable, "-c", COMMANDS, *lines]
        ended = subprocess.run(
            words,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        )
        return ended.stdout.split("$ ")[1:]

    yield run
    assert sorted((tmp_path / "bank").rglob("*")) == before
    for path in (tmp_path / "bank").rglob("*"):
        path.chmod(path.stat().st_mode | 0o200)


def test_a_bank_may_be_read_only(read_only: Callable[..., list[str]], tmp_path: Path) -> None:
    reading = [
        " ".join(PIXELS),
        "evaluate",
        "compare",
        "report",
        "runs",
        "stores",
        "inspect",
        "verify",
    ]
    extract, evaluate, compare, report, *others = read_only(
        *reading, "evaluate OUT=figures.csv", f"{' '.join(PIXELS[:-1])} T=3"
    )
    *_, own_place, more_rows = others
    for output in [extract, evaluate, compare, report, *others[:-1]]:
        assert output.endswith("exit code 0\n"), output
    assert "(is only read)" in extract and "4 already extracted, 0 to extract" in extract
    assert "the bank is read-only; OUT=<file>.csv writes every run's figures" in evaluate
    assert "the bank is read-only; OUT=<file>.csv writes the gain of every class" in compare
    assert "the bank is read-only, so the report is in the current folder" in report
    assert "every run's figures: figures.csv" in own_place
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "figures.csv",
        "made.html",
    ]
    # There something would have to be written.
    assert more_rows.endswith("exit code 2\n") and "choose another BANK" in more_rows
