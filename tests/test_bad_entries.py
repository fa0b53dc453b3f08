"""A bank may contain entries that are not stores, runs or weights: each command names them and
processes the rest."""

import contextlib
import dataclasses
import os
import shutil
import socket
from pathlib import Path

import pytest
from made_runs import made_run
from test_train import QUICK, make_store

import reelbank
from reelbank.data.errors import InputError
from reelbank.data.files import open_regular
from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter
from reelbank.extract.networks.trained import find_weights
from reelbank.fusion.report.anomalies import read_detectors
from reelbank.fusion.report.sweeps import read_sweeps
from reelbank.heads.training.train import train

pytestmark = pytest.mark.usefixtures("no_waiting")


def bad_files(folder: Path, ending: str, good: Path) -> dict[str, str]:
    """Bad entries in a folder, all of one ending: name -> what is to be said of it. good: a file of
    that kind."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {
        "folder": "must be a file (got a folder)",
        "pipe": "must be a file (got a pipe)",
        "socket": "must be a file (got a socket)",
        "device": "must be a file (got a device)",
        "nowhere": "is a link to a file that does not exist",
        "disk": "cannot be read (Input/output error)",
        "random": "",
        "empty": "",
        "cut": "",
        "secret": "",
        "two\nlines": "",
        os.fsdecode(b"no\xfftext"): "",
    }
    (folder / f"folder{ending}").mkdir()
    os.mkfifo(folder / f"pipe{ending}")
    with (
        contextlib.chdir(folder),
        socket.socket(socket.AF_UNIX) as bound,
    ):  # its whole path may be too long
        bound.bind(f"socket{ending}")
    (folder / f"device{ending}").symlink_to("/dev/zero")
    (folder / f"nowhere{ending}").symlink_to(folder / "gone")
    (folder / f"disk{ending}").symlink_to(
        "/proc/self/mem"
    )  # a regular file whose first bytes cannot be read
    (folder / f"random{ending}").write_bytes(bytes(range(256)) * 8)
    (folder / f"empty{ending}").touch()
    (folder / f"cut{ending}").write_bytes(good.read_bytes()[:700])
    (folder / f"secret{ending}").write_bytes(b"x")
    (folder / f"secret{ending}").chmod(0)
    for name in ("two\nlines", os.fsdecode(b"no\xfftext")):
        (folder / f"{name}{ending}").write_bytes(b"x" * 600)
    return {f"{name}{ending}": reason for name, reason in told.items()}


def shown(name: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def check_named(text: str, told: dict[str, str]) -> None:
    lines = text.splitlines()
    for name, reason in told.items():
        assert [line for line in lines if shown(name) in line and reason in line], (name, text)


def test_commands_name_entries_that_are_not_stores_and_continue(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    good = make_store(tmp_path)
    told = bad_files(tmp_path / "stores", ".h5", good)
    (tmp_path / "stores" / "file.parts").write_bytes(b"x")
    told["file.parts"] = "cannot be read as a store's folder of parts"
    assert reelbank.main(["stores", f"BANK={tmp_path}"]) == 0
    listed = capsys.readouterr()
    check_named(listed.out, told)
    assert "made:16" in listed.out
    assert reelbank.main(["verify", f"BANK={tmp_path}"]) == 1
    verified = capsys.readouterr().out
    check_named(verified, told)
    assert f"{good}: undamaged" in verified
    assert len(verified.splitlines()) == len(told) + 1  # a line each, whatever its name holds
    train(dataclasses.replace(QUICK, bank=str(tmp_path), epochs=1))
    noted = capsys.readouterr().err
    check_named(noted, told)
    assert len([line for line in noted.splitlines() if "left out" in line]) == len(told)


def test_a_bad_entry_that_is_asked_for_is_named_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    good = make_store(tmp_path)
    for name, reason in bad_files(tmp_path / "stores", ".h5", good).items():
        assert (
            reelbank.main(["inspect", f"BANK={tmp_path}", f"STORE={tmp_path / 'stores' / name}"])
            == 2
        )
        (line,) = capsys.readouterr().err.splitlines()
        assert reason in line and shown(name) in line


def test_parts_that_cannot_be_read_are_left_out_by_readers_and_kept_by_writers(
    tmp_path: Path,
) -> None:
    recipe, dataset = (
        {"stream": "rgb"},
        DatasetDescription(name="made", classes=[], splits=[], coarse={}),
    )
    meta = StoredVideo(id="a", label="", group="", parts=[], source={"bytes": 1})
    path = tmp_path / "made.h5"
    with StoreWriter(path, recipe, dataset) as writer:
        writer.add(meta, [[1.0, 2.0]], [0.0])
    (part,) = (tmp_path / "made.parts").glob("part*")
    told = bad_files(tmp_path / "made.parts", "+x.h5", part)
    for name in told:
        (tmp_path / "made.parts" / name).rename(tmp_path / "made.parts" / f"part+{name}")
    with Store.open(path) as store:
        assert store.video_ids == ["a"] and not store.finished
        check_named("\n".join(shown(reason) for reason in store.damaged.values()), told)
    with pytest.raises(
        InputError,
        match="must be a file.*; move it away|cannot be read|does not exist; remove the link",
    ):
        StoreWriter(path, recipe, dataset)
    assert all(os.path.lexists(tmp_path / "made.parts" / f"part+{name}") for name in told)
    for name in ("folder", "pipe", "socket", "device", "nowhere", "disk"):
        entry = tmp_path / "made.parts" / f"part+{name}+x.h5"
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    if os.geteuid():
        (tmp_path / "made.parts" / "part+secret+x.h5").chmod(0o600)
    with StoreWriter(path, recipe, dataset) as writer:  # damaged entries are written again
        assert writer.done == {"a": 1} and writer.finish([meta])


def test_commands_name_entries_that_are_not_runs_and_continue(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    good = [made_run(tmp_path, head=head) for head in ("gru", "lstm")]
    told = bad_files(tmp_path / "made", ".json", good[0] / "recipe.json")
    told = {name: reason for name, reason in told.items() if not name.startswith("secret")}
    for number, name in enumerate(told):
        for file in ("recipe.json", "metrics.json"):
            folder = tmp_path / "runs" / f"bad{number}{file[0]}"
            folder.mkdir()
            if file == "metrics.json":
                shutil.copy(good[0] / "recipe.json", folder)
            os.link(tmp_path / "made" / name, folder / file, follow_symlinks=False) if not (
                tmp_path / "made" / name
            ).is_dir() else (folder / file).mkdir()
    bad = sorted(path.name for path in (tmp_path / "runs").glob("bad*"))
    os.mkfifo(tmp_path / "runs" / "pipe")
    for command in (["runs"], ["evaluate"], ["compare", *(path.name for path in good)]):
        assert reelbank.main([*command, f"BANK={tmp_path}"]) == 0, command
        printed = capsys.readouterr()
        for name in bad:
            assert len([line for line in printed.err.splitlines() if f"{name}/" in line]) == 1, (
                command,
                name,
            )
        assert "runs/pipe is a file, but the folder runs/" in printed.err
    assert good[0].name in printed.out or "gru" in printed.out


def test_tables_that_are_not_regular_files_are_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    good = [made_run(tmp_path, head=head, seed=seed) for head in ("gru", "lstm") for seed in (0, 1)]
    (good[0] / "scores-test.npz").unlink()
    os.mkfifo(good[0] / "scores-test.npz")
    for kind in ("sweeps", "anomalies"):
        (tmp_path / kind).mkdir()
    os.mkfifo(tmp_path / "sweeps" / "pipe.csv")
    (tmp_path / "sweeps" / "folder.csv").mkdir()
    (tmp_path / "anomalies" / "bad").mkdir()
    os.mkfifo(tmp_path / "anomalies" / "bad" / "metrics.json")
    assert reelbank.main(["evaluate", f"BANK={tmp_path}"]) == 0
    printed = capsys.readouterr()
    assert (
        f"{good[0].name}/scores-test.npz must be a file (got a pipe)" in printed.out + printed.err
    )
    assert read_sweeps(tmp_path, ["made"]) == [] and read_detectors(str(tmp_path), ["made"]) == []
    noted = capsys.readouterr().err
    assert (
        "pipe.csv" in noted
        and "folder.csv" in noted
        and "anomalies/bad/metrics.json must be a file (got a pipe)" in noted
    )


def test_bad_weights_are_named_and_the_others_found(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name in ("net-rgb-01234567-split1", "net-rgb-89abcdef-split1"):
        (tmp_path / "weights" / name).mkdir(parents=True)
    os.mkfifo(tmp_path / "weights" / "net-rgb-01234567-split1" / "recipe.json")
    (tmp_path / "weights" / "net-rgb-89abcdef-split1" / "recipe.json").mkdir()
    with pytest.raises(InputError, match=r"recipe\.json must be a file \(got a pipe\)"):
        find_weights(tmp_path, "01234567")
    with pytest.raises(InputError, match=r"recipe\.json must be a file \(got a folder\)"):
        find_weights(tmp_path, "net-rgb-89")
    assert find_weights(tmp_path, "fedcba98") == {}  # of another name: not in the way
    assert capsys.readouterr().err == ""


def test_a_file_that_is_one_is_opened_through_links(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"text")
    (tmp_path / "link").symlink_to("real")
    with open_regular(tmp_path / "link") as file:
        assert file.readall() == b"text"
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none")
