"""Temporary files: a file is written completely or not at all, and files of dead processes are
removed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reelbank.data.files import replacing, sync_folder, temporary_folder

WRITER = """
import sys, time
from pathlib import Path
from reelbank.data.files import replacing, temporary_folder
folder = Path(sys.argv[1])
with replacing(folder / "table.csv") as name, temporary_folder("work", folder) as place:
    name.write_text("half")
    (place / "piece").write_text("half")
    print("ready", flush=True)
    time.sleep(1e6)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(
    tmp_path: Path,
) -> None:
    writers = []
    for _ in range(2):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        writers.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert writers[-1].stdout is not None and writers[-1].stdout.readline() == "ready\n"
    dead, living = writers
    dead.kill()
    dead.wait()
    assert len(names(tmp_path)) == 4
    with replacing(tmp_path / "table.csv") as name:
        name.write_text("whole")
    left = names(tmp_path)
    living.kill()
    living.wait()
    assert (
        len(left) == 3
        and "table.csv" in left
        and all(f"-{living.pid}-" in name for name in left if name != "table.csv")
    )
    assert (tmp_path / "table.csv").read_text() == "whole"


@pytest.mark.parametrize(("days", "stays"), [(0.5, True), (2.0, False)])
def test_a_file_of_another_machine_is_removed_once_it_is_old(
    tmp_path: Path, days: float, stays: bool
) -> None:
    """Also a file of before, whose name tells the process alone. What others have in the folder
    stays."""
    ours = [tmp_path / ".table.csv.0123abcd-1-99.tmp", tmp_path / ".table.csv.123.tmp"]
    others = [
        tmp_path / ".notes.123.tmp",
        tmp_path / "table.csv.0123abcd-1-99.tmp",
        tmp_path / ".table.csv.swp",
    ]
    for path in [*ours, *others]:
        path.write_text("half")
        os.utime(path, (time.time() - days * 86400,) * 2)
    with temporary_folder("work", tmp_path), replacing(tmp_path / "table.csv") as name:
        name.write_text("whole")
    assert [path.exists() for path in ours] == [stays, stays] and all(
        path.exists() for path in others
    )


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "table.csv") as name:
        name.write_text("half")
        raise ZeroDivisionError
    assert names(tmp_path) == ["table.csv"] and (tmp_path / "table.csv").read_text() == "old"


def test_a_file_system_that_cannot_sync_a_folder_is_good_enough() -> None:
    """As network and FUSE file systems may; /proc answers so everywhere."""
    fd = os.open("/proc", os.O_RDONLY)
    with pytest.raises(OSError, match="Invalid argument"):
        os.fsync(fd)
    os.close(fd)
    sync_folder(Path("/proc"))
