"""A bank that may only be read: commands that have nothing to write work, others say where they can
write. And several banks: stores and runs of all of them are found, and one is written."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from made_runs import made_run
from test_extract import encode
from test_train import make_store

import reelbank
from reelbank.data.errors import InputError
from reelbank.data.store.bank import find_store
from reelbank.heads.runs.folder import find_runs

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
        "inspect folder-videos",
        "verify",
    ]
    extract, evaluate, compare, report, *others = read_only(
        *reading, "evaluate OUT=figures.csv", f"{' '.join(PIXELS[:-1])} T=3", "fuse"
    )
    *_, own_place, more_rows, fuse = others
    for output in [extract, evaluate, compare, report, *others[:-2]]:
        assert output.endswith("exit code 0\n"), output
    assert "(finished, only read)" in extract and "4 already extracted, 0 to extract" in extract
    assert "the bank is read-only; OUT=<file>.csv writes the results of every run" in evaluate
    assert "the bank is read-only; OUT=<file>.csv writes the results of every class" in compare
    assert "the bank is read-only, so the report is in the current folder" in report
    assert "figures.csv" in own_place
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "figures.csv",
        "made.html",
    ]
    # There something would have to be written.
    assert more_rows.endswith("exit code 2\n") and "choose another BANK" in more_rows
    assert fuse.endswith("exit code 2\n") and "give BANKS=bank to use the stores" in fuse


def run(*words: object) -> int:
    return reelbank.main([str(word) for word in words])


def contents(folder: Path) -> dict[Path, int]:
    """Every file and folder, and when it was changed."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture
def mine(lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder next to the laboratory's videos, whose bank no test may change."""
    (tmp_path / "videos").symlink_to(lab / "videos")
    monkeypatch.chdir(tmp_path)
    before = contents(lab / "bank")
    yield tmp_path / "bank"
    assert contents(lab / "bank") == before


def test_extract_finds_a_finished_store_in_another_bank(
    lab: Path, mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (found,) = (lab / "bank" / "stores").iterdir()
    for words, text in (([], f"store {found} (finished, only read)"), (["PLAN=1"], "4 videos")):
        assert run(*PIXELS, f"BANKS={lab / 'bank'}", *words) == 0
        output = capsys.readouterr().out
        assert text in output and "4 already extracted, 0 to extract" in output
        assert not mine.exists()
    (store,) = reelbank.extract_features(
        dataset="folder", root="videos", extractor="pixels", crops=1, t=2, banks=[lab / "bank"]
    )
    with store:
        assert store.path == found and len(store) == 4
    assert not mine.exists()
    assert run(*PIXELS[:-1], "T=3", f"BANKS={lab / 'bank'}") == 0
    assert len(list((mine / "stores").iterdir())) == 1


def test_extract_makes_a_store_that_another_bank_has_in_part(
    lab: Path, mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (found,) = (lab / "bank" / "stores").iterdir()
    new_video = lab / "videos" / "left" / "clip_g09_c01.avi"
    encode(new_video, 6, 9)
    try:
        assert run(*PIXELS, f"BANKS={lab / 'bank'}") == 0
    finally:
        new_video.unlink()
    captured = capsys.readouterr()
    assert "0 already extracted, 5 to extract" in captured.out
    assert f"note: {found} is not used, because it does not have all videos" in captured.err
    assert [path.name for path in (mine / "stores").iterdir()] == [found.name]


def test_commands_find_the_stores_and_runs_of_other_banks(
    lab: Path, mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (store,) = (lab / "bank" / "stores").iterdir()
    runs = sorted(path.name for path in (lab / "bank" / "runs").iterdir())
    others = f"BANKS={lab / 'bank'}"
    start = store.stem.rpartition("-")[2]
    its_bank = f" {lab / 'bank'}\n"
    shown = {
        ("stores",): [start, its_bank],
        ("runs",): [*runs, its_bank],
        ("inspect", start): [str(store), "4 videos"],
        ("verify",): [f"{store}: undamaged"],
        ("export", start, "TO=features"): ["features"],
        ("evaluate",): ["gru rgb net", "lstm rgb net", "bank/reports/evaluation-test.csv"],
        ("compare",): ["gru rgb net", "bank/reports/compare-"],
        ("fuse",): ["fused-"],
        ("report",): ["bank/reports/made.html"],
    }
    for words, texts in shown.items():
        assert run(*words, "BANKS=nowhere") == 2
        assert "BANKS=nowhere: must be the folder of a bank" in capsys.readouterr().err
        for inside in ("stores", "runs"):
            assert run(*words, f"BANKS={lab / 'bank' / inside}") == 2
            assert f"folder inside a bank; give BANKS={lab / 'bank'}" in capsys.readouterr().err
        assert run(*words, others) == 0
        output = capsys.readouterr().out
        assert [text for text in texts if text not in output] == []
    assert [path.name for path in sorted(mine.iterdir())] == ["reports", "runs"]
    (fused,) = (mine / "runs").iterdir()
    assert fused.name.startswith("fused-")


def test_nothing_is_removed_from_another_bank(
    lab: Path, mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (store,) = (lab / "bank" / "stores").iterdir()
    run_folder = sorted((lab / "bank" / "runs").iterdir())[0]
    for words in (
        ("remove", f"STORE={store.stem.rpartition('-')[2]}", "YES=1"),
        ("remove", f"STORE={store}", "YES=1"),
        ("runs", f"REMOVE={run_folder.name}"),
    ):
        assert run(*words, f"BANKS={lab / 'bank'}") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"it is in another bank; give BANK={lab / 'bank'} to remove it" in line


def test_the_bank_itself_takes_precedence(
    lab: Path, mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (theirs,) = (lab / "bank" / "stores").iterdir()
    shutil.copytree(lab / "bank", mine)
    with pytest.raises(InputError, match="no store in .* or "):
        find_store(mine, "zzz", banks=[lab / "bank"])
    for _ in range(2):
        assert (
            find_store(mine, "folder-videos", banks=[lab / "bank"]) == mine / "stores" / theirs.name
        )
        assert {one.path.parent for one in find_runs(mine, banks=[lab / "bank"])} == {mine / "runs"}
    told = capsys.readouterr().err
    assert told.count(f"note: {theirs} is not used, because {mine}") == 1
    assert run("remove", f"STORE={theirs.name}", "YES=1", f"BANKS={lab / 'bank'}") == 0
    assert find_store(mine, "folder-videos", banks=[lab / "bank"]) == theirs


def test_heads_are_trained_on_the_stores_of_another_bank(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lab, mine, other = (tmp_path / name for name in ("lab", "mine", "other"))
    store = make_store(lab)
    before = contents(lab)
    words = ["HEAD=meanpool", "EPOCHS=2", "LR=0.01", "BATCH=8", "REFIT=0", "DEVICE=cpu"]
    assert run("train", *words, f"BANK={mine}", f"BANKS={lab}") == 0
    assert f"store {store}\n" in capsys.readouterr().out
    (trained,) = find_runs(mine)
    assert contents(lab) == before
    before = contents(mine)
    for command, text in (("train", trained.path.name), ("sweep", "1 already trained")):
        capsys.readouterr()
        assert run(command, *words, f"BANK={other}", f"BANKS={lab} {mine}") == 0
        assert text in capsys.readouterr().out
        assert not (other / "runs").exists()
    assert run("predict", f"RUN={trained.path.name}", f"STORE={store.name}", "TO=scores.npz") == 2
    words = [f"RUN={trained.path.name}", f"STORE={store.stem}", f"TO={tmp_path / 'scores.npz'}"]
    assert run("predict", *words, f"BANK={other}", f"BANKS={lab},{mine}") == 0
    (evaluated,) = reelbank.evaluate(bank=other, banks=[lab, mine]).records()
    assert evaluated["runs"] == [trained.path.name]
    assert contents(mine) == before
