"""Kills at every file operation while a store of several files is added to, and several writers and
readers at once: nothing is lost, and nothing wrong is read."""

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = str(Path(__file__).resolve().parent)

# What is killed, in a store that has videos 0 to 11 in two or more files.
ACTIONS = {
    "first": "fill(path, range(12), LARGE, part_videos=5, largest_file_bytes=1 << 20)",
    "add": "fill(path, [12, 13], LARGE)",
    "merge": "fill(path, [12, 13, 14, 15, 16, 17, 18], LARGE)",
    "divide": "fill(path, range(12, 24), LARGE, part_videos=5, largest_file_bytes=1 << 20)",
    "label": "relabel(path)",
    "pack": "pack(PackOptions(store=str(path)))",
}
PREPARED = """
import os, shutil, signal, sys
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, {tests!r})
from made_stores import *
from reelbank.data.store.catalog import scan
from reelbank.data.store.merging.pack import pack
from reelbank.data.store.options import PackOptions

LARGE = (64, 512)

def prepare(path):
    path.parent.mkdir()
    if {action!r} != "first":
        first = path.parent.parent / "first" / "made.h5"
        if not first.exists():
            fill(first, range(8), LARGE)
            fill(first, range(8, 12), LARGE)
            assert list(first.with_suffix(".parts").iterdir())
        shutil.copytree(first.parent, path.parent, dirs_exist_ok=True)

def relabel(path):
    changed = [replace(made_video(number), group="k") for number in (2, 9)]
    with StoreWriter(path, RECIPE, DATASET) as writer:
        assert writer.finish(changed)

def act(path):
    {code}
    return None

def held(path):
    # Every video that can be read, after all values were compared.
    if not path.exists() and not path.with_suffix(".parts").exists():
        return set()
    catalog = scan(path)
    names = set(catalog.where)
    assert not catalog.damaged and len(names) == len(catalog.where) == len(list(catalog.where))
    is_any = bool(catalog.files)
    catalog.close()
    if is_any:
        with Store.open(path) as store:
            assert store.verify() == []
            for number in range(24):
                name = made_video(number).id
                if name in store:
                    expected = made_values(number, LARGE).astype(np.float16)
                    assert (store[name] == expected).all(), name
    return names
"""
EVERY_OPERATION = (
    PREPARED
    + """
def kill_at(wanted):
    calls = 0
    def counted(real):
        def call(*args, **options):
            nonlocal calls
            calls += 1
            if calls == wanted:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **options)
        return call
    for name in {operations!r}:
        setattr(os, name, counted(getattr(os, name)))

folder = Path(sys.argv[1])
prepare(folder / "prepared" / "made.h5")
before = held(folder / "prepared" / "made.h5")
wanted = 0
while True:
    wanted += 1
    path = folder / str(wanted) / "made.h5"
    shutil.copytree(folder / "prepared", path.parent)
    child = os.fork()
    if not child:
        kill_at(wanted)
        try:
            act(path)
        finally:
            os._exit(0)
    status = os.waitpid(child, 0)[1]
    after = held(path)
    assert after >= before, (wanted, before - after)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        act(path)
        assert held(path) >= after
    names = [name for name in os.listdir(path.with_suffix(".parts"))] if (
        path.with_suffix(".parts").exists()) else []
    assert all(name.startswith("more+") for name in names), (wanted, names)
    with Store.open(path) as store:
        assert store.finished and len(store) in (12, 14, 19, 24)
        groups = dict(zip(store.video_ids, store.groups))
        for number in (2, 9):
            wanted_group = "k" if {action!r} == "label" else made_video(number).group
            assert groups[made_video(number).id] == wanted_group
    if not os.WIFSIGNALED(status):
        break
    shutil.rmtree(path.parent)
print(wanted - 1)
"""
)
NAMES = ("fsync", "replace", "unlink", "rmdir", "mkdir", "open")


def kills(tmp_path: Path, action: str, operations: tuple[str, ...]) -> int:
    """How many operations a kill was tried at."""
    code = EVERY_OPERATION.format(
        tests=TESTS, action=action, code=ACTIONS[action], operations=operations
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return int(ended.stdout.splitlines()[-1])


# The other actions have many calls, and `test_killed_at_every_file_operation` includes these.
FEW_CALLS = sorted(set(ACTIONS) - {"first", "merge", "divide"})


@pytest.mark.parametrize("action", FEW_CALLS)
def test_killed_at_every_call_that_makes_removes_or_syncs_a_name(tmp_path, action):
    assert kills(tmp_path, action, NAMES) > 8


@pytest.mark.long
@pytest.mark.parametrize("action", ACTIONS)
def test_killed_at_every_file_operation(tmp_path, action):
    # A kill at a call that only reads or closes leaves the same files as one at the next of these.
    operations = (*NAMES, "pwrite", "write", "ftruncate")
    assert kills(tmp_path, action, operations) > 10


AT_ONCE = (
    PREPARED
    + """
import random, time
path, role, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
chance = random.Random(seed)
if role == "writer":
    for number in range(seed * 12, seed * 12 + 12):
        with StoreWriter(path, RECIPE, DATASET, shard=f"s{{seed}}") as writer:
            writer.add(made_video(number), made_values(number, LARGE), made_times(number))
            if chance.random() < 0.7:
                writer.finish([made_video(number)])
    with StoreWriter(path, RECIPE, DATASET, shard=f"s{{seed}}") as writer:
        assert writer.finish([])
else:
    from reelbank.data.errors import InputError
    seen, told = set(), 0
    while not Path(sys.argv[4]).exists():
        try:
            with Store.open(path) as store:
                names = set(store.video_ids)
                assert names >= seen, seen - names
                seen = names
                time.sleep(chance.uniform(0, 0.02))
                for number in chance.sample(range(24), 6):
                    if made_video(number).id in store:
                        values = store[made_video(number).id]
                        assert (values == made_values(number, LARGE).astype(np.float16)).all()
        except InputError as error:
            assert "open the store again" in str(error) or "no videos yet" in str(error) or (
                "does not exist" in str(error)), error
            told += 1
    print(len(seen), told)
"""
)


def test_two_writers_and_a_reader_at_once(tmp_path):
    path, ended = tmp_path / "made.h5", tmp_path / "ended"
    code = AT_ONCE.format(tests=TESTS, action="first", code="")
    command = [sys.executable, "-c", code, str(path)]
    reader = subprocess.Popen(
        [*command, "reader", "5", str(ended)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    writers = [
        subprocess.Popen([*command, "writer", str(seed)], stderr=subprocess.PIPE, text=True)
        for seed in range(2)
    ]
    for writer in writers:
        _, errors = writer.communicate(timeout=300)
        assert writer.returncode == 0, errors
    ended.touch()
    output, errors = reader.communicate(timeout=60)
    assert reader.returncode == 0, errors
    assert int(output.split()[0]) > 0
    check = PREPARED.format(tests=TESTS, action="first", code="")
    check += "assert len(held(Path(sys.argv[1]))) == 24"
    subprocess.run([sys.executable, "-c", check, str(path)], check=True)
