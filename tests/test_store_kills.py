"""Kills at random moments and at every call that creates, removes or syncs a name, and full disks:
committed data stays."""

import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from made_stores import check_holds, fill, made_video

from reelbank.data.store.catalog import scan
from reelbank.data.store.reader import Store

TESTS = str(Path(__file__).resolve().parent)

WRITER = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from made_stores import *
from reelbank.data.store import StoreWriter
path, count, log = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]).open("a")
metas = [made_video(number) for number in range(count)]
with StoreWriter(path, RECIPE, DATASET, part_videos=3) as writer:
    committed = set(writer.done)
    print("ready", flush=True)
    for number, meta in enumerate(metas):
        if meta.id not in committed:
            log.write(meta.id + "\\n")
            log.flush()
            writer.add(meta, made_values(number, (40,)), made_times(number))
            time.sleep(0.004)
    assert writer.finish(metas)
"""


@pytest.mark.long
def test_killed_twenty_times_it_goes_on_and_loses_at_most_the_open_part(tmp_path):
    path, log, count = tmp_path / "made.h5", tmp_path / "added.txt", 240
    command = [sys.executable, "-c", WRITER.format(tests=TESTS), str(path), str(count), str(log)]
    chance = random.Random(0)
    committed: set[str] = set()
    for kill in range(21):
        log.write_text("")
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        if kill < 20:
            process.stdout.read(6)
            time.sleep(chance.uniform(0, 0.06))
            process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        assert process.returncode == (-signal.SIGKILL if kill < 20 else 0)
        assert not committed & set(
            log.read_text().split()
        )  # nothing that was committed is added again
        catalog = scan(path)
        assert not catalog.damaged and catalog.where.keys() >= committed
        committed |= catalog.where.keys()
        catalog.close()
        assert path.exists() == (kill == 20)
    assert sorted(name.name for name in tmp_path.iterdir()) == ["added.txt", "made.h5"]
    fill(tmp_path / "calm.h5", range(count), (40,))
    with Store.open(path) as killed, Store.open(tmp_path / "calm.h5") as calm:
        assert killed.video_ids == calm.video_ids and killed.verify() == []
        for one, other in zip(killed.load(), calm.load(), strict=True):
            np.testing.assert_array_equal(one, other)


FULL_DISK = """
import resource, sys
sys.path.insert(0, {tests!r})
from made_stores import *
from reelbank.data.errors import InputError
from reelbank.data.store import StoreWriter
path, limit, compression = sys.argv[1], int(sys.argv[2]), sys.argv[3]
metas = [made_video(number) for number in range(30)]
with StoreWriter(path, RECIPE, DATASET, part_videos=4, compression=compression) as writer:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        for number in range(12, 30):
            writer.add(metas[number], made_values(number, (3000,)), made_times(number))
        writer.finish(metas)
    except InputError as error:
        print("told:", error)
"""


@pytest.mark.parametrize("compression", ["", "gzip"])
@pytest.mark.parametrize("limit", [0, 3000, 70000, 300000])
def test_a_write_that_fails_leaves_what_was_stored_and_says_so(tmp_path, limit, compression):
    path = tmp_path / "made.h5"
    fill(path, range(12), (3000,), finish=False, part_videos=4, compression=compression)
    command = [
        sys.executable,
        "-c",
        FULL_DISK.format(tests=TESTS),
        str(path),
        str(limit),
        compression,
    ]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert re.search(
        r"told: .*cannot be written \(File too large\).*are safe. Check its folder and the disk and run",
        ended.stdout,
    )
    with Store.open(path) as store:
        assert not store.damaged and store.verify() == []
        assert {made_video(number).id for number in range(12)} <= set(store.video_ids)
    assert not list((tmp_path / "made.parts").glob("tmp+*"))
    assert fill(path, range(30), (3000,), compression=compression)
    check_holds(path, range(30), (3000,))


EVERY_CALL = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from made_stores import *
from reelbank.data.store.catalog import scan

def kill_at(wanted):
    calls = 0
    def count():
        nonlocal calls
        calls += 1
        if calls == wanted:
            os.kill(os.getpid(), signal.SIGKILL)
    def counted(real):
        def call(*args, **options):
            count()
            return real(*args, **options)
        return call
    for name in ("fsync", "replace", "unlink", "rmdir", "mkdir", "open"):
        setattr(os, name, counted(getattr(os, name)))

folder = Path(sys.argv[1])
wanted, committed_at = 0, set()
while True:
    wanted += 1
    path = folder / str(wanted) / "made.h5"
    child = os.fork()
    if not child:
        path.parent.mkdir()
        fill(path, range(2))
        kill_at(wanted)
        fill(path, range(5), part_videos=2)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    catalog = scan(path)
    assert not catalog.damaged and len(catalog.where) >= 2, wanted
    committed_at.add((len(catalog.where), catalog.finished))
    catalog.close()
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL
    before = scan(path).where.keys()
    with StoreWriter(path, RECIPE, DATASET) as writer:
        assert writer.done.keys() == before, wanted
    fill(path, range(5), part_videos=2)
    assert os.listdir(path.parent) == ["made.h5"], (wanted, os.listdir(path.parent))
    check_holds(path, range(5))
print(wanted - 1, sorted(committed_at))
"""


def test_killed_at_every_call_that_makes_removes_or_syncs_a_name(tmp_path):
    command = [sys.executable, "-c", EVERY_CALL.format(tests=TESTS), str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    kills, states = ended.stdout.split(maxsplit=1)
    assert int(kills) > 30
    for state in ("(2, True)", "(4, False)", "(5, False)", "(5, True)"):
        assert state in states
