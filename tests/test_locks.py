"""Locks on file systems without flock: a preloaded library lets flock fail as it does there. Writers
exclude each other by files, a dead writer is replaced, and one that lost its lock commits nothing."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from made_stores import check_holds, fill

from reelbank.data.errors import InputError
from reelbank.data.system.locks import STALE_SECONDS, lock

TESTS = str(Path(__file__).resolve().parent)

NO_FLOCK = """
#include <errno.h>
int flock(int fd, int operation) { (void)fd; (void)operation; errno = ENOLCK; return -1; }
"""

# Obeys the lines of its standard input: a number adds that video, "finish 9" finishes a store of
# nine. Every video is a part.
WRITER = """
import os, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from made_stores import *
from reelbank.data.errors import InputError
from reelbank.data.system import locks

path, shard, behaviour = sys.argv[1:]
if behaviour == "beats quickly":
    locks.HEARTBEAT_SECONDS = 0.02
if behaviour == "waits before it replaces the store":
    replace = Path.replace
    def waits(self, target):
        if Path(target) == Path(path):
            print("replaces", flush=True)
            sys.stdin.readline()
        return replace(self, target)
    Path.replace = waits
try:
    with StoreWriter(path, RECIPE, DATASET, part_videos=1, shard=shard) as writer:
        print("ready", flush=True)
        for line in sys.stdin:
            word, *counts = line.split()
            if word == "finish":
                assert writer.finish([made_video(number) for number in range(int(counts[0]))])
            else:
                number = int(word)
                writer.add(made_video(number), made_values(number), made_times(number))
            print("done", flush=True)
    print("closed", flush=True)
except InputError as error:
    print("error:", error, flush=True)
"""


class Child:
    """A process without flock, of which each line is answered by one line. `first` is its first
    answer."""

    def __init__(self, library: Path, code: str, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code.format(tests=TESTS), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env={**os.environ, "LD_PRELOAD": str(library)},
        )
        self.first = self.answer()

    def answer(self) -> str:
        return self.process.stdout.readline().rstrip("\n")

    def tell(self, line: str) -> str:
        self.process.stdin.write(f"{line}\n")
        return self.answer()

    def end(self) -> str:
        """What it prints when it has nothing more to do."""
        self.process.stdin.close()
        rest = self.process.stdout.read()
        self.process.wait()
        return rest.rstrip("\n")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that lets flock fail."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("NOT TESTED: locks without flock, which need Linux and a C compiler (gcc)")
    folder = tmp_path_factory.mktemp("no flock")
    (folder / "flock.c").write_text(NO_FLOCK)
    command = [compiler, "-shared", "-fPIC", "-o", str(folder / "flock.so"), "flock.c"]
    subprocess.run(command, check=True, cwd=folder)
    shutil.move(folder / "flock.so", folder.parent / "flock.so")  # LD_PRELOAD splits at spaces
    return folder.parent / "flock.so"


@pytest.fixture
def start(library: Path, no_waiting: None) -> Iterator:
    """Starts children, which end with the test."""
    with ExitStack() as stack:

        def started(code: str, *words: object) -> Child:
            child = Child(library, code, *map(str, words))
            stack.callback(child.kill)
            return child

        yield started


def age(path: Path, seconds: float) -> None:
    """Let the last heartbeat of a lock be so long ago."""
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "stores" / "made.h5"


def lock_of(store: Path, shard: str = "") -> Path:
    return store.with_suffix(".parts") / f"shard+{shard}.lock"


def test_two_writers_exclude_each_other(start, store) -> None:
    first = start(WRITER, store, "", "")
    assert first.first == "ready" and first.tell("0") == "done"
    refused = start(WRITER, store, "", "").first
    assert "another extraction into this store is running" in refused
    assert f"(host {os.uname().nodename}, process {first.process.pid})" in refused
    other_shard = start(WRITER, store, "other", "")
    assert other_shard.tell("1") == "done" and other_shard.end() == "closed"
    assert first.tell("finish 2") == "done" and first.end() == "closed"
    assert list(store.parent.iterdir()) == [store]
    check_holds(store, range(2))


def test_a_killed_writer_is_replaced_once_its_heartbeat_is_old(start, store) -> None:
    killed = start(WRITER, store, "", "")
    assert killed.tell("0") == "done"
    killed.kill()
    assert "is running" in start(WRITER, store, "", "").first
    age(lock_of(store), STALE_SECONDS + 1)
    second = start(WRITER, store, "", "")
    assert second.first == "ready"
    assert second.tell("1") == "done" and second.tell("finish 2") == "done"
    assert second.end() == "closed" and list(store.parent.iterdir()) == [store]
    check_holds(store, range(2))


def test_the_lock_of_a_live_writer_is_renewed(start, store) -> None:
    live = start(WRITER, store, "", "beats quickly")
    assert live.first == "ready"
    before = lock_of(store).stat().st_mtime
    age(lock_of(store), STALE_SECONDS + 1)
    while lock_of(store).stat().st_mtime < before:
        time.sleep(0.01)
    assert "is running" in start(WRITER, store, "", "").first
    assert live.tell("0") == "done" and live.end() == "closed"


def test_a_writer_that_lost_its_lock_commits_nothing(start, store) -> None:
    first = start(WRITER, store, "", "")
    assert first.tell("0") == "done"
    first.process.send_signal(signal.SIGSTOP)
    age(lock_of(store), STALE_SECONDS + 1)
    second = start(WRITER, store, "", "")
    assert second.first == "ready"
    first.process.send_signal(signal.SIGCONT)
    refused = first.tell("1")
    assert "has lost its lock" in refused and f"process {second.process.pid})" in refused
    assert first.end() == "" and first.process.returncode == 0
    # The first one removed nothing of the second when it ended.
    assert "is running" in start(WRITER, store, "", "").first
    assert second.tell("2") == "done" and second.tell("1") == "done"
    assert second.tell("finish 3") == "done" and second.end() == "closed"
    assert list(store.parent.iterdir()) == [store]
    check_holds(store, range(3))


def test_a_suspended_merger_does_not_replace_a_newer_store(start, store) -> None:
    slow = start(WRITER, store, "slow", "waits before it replaces the store")
    assert slow.tell("0") == "done"
    assert slow.tell("finish 1") == "replaces"  # it has just seen that the lock is its own
    age(store.with_suffix(".parts") / "merge.lock", STALE_SECONDS + 1)
    quick = start(WRITER, store, "quick", "")
    assert quick.tell("1") == "done" and quick.tell("finish 2") == "done"
    assert "has lost its lock" in slow.tell("go on")
    assert slow.end() == "" and quick.end() == "closed"
    assert list(store.parent.iterdir()) == [store]
    check_holds(store, range(2))


RUN = """
import sys
from pathlib import Path
from reelbank.data.errors import InputError
from reelbank.heads.runs.writing import locked, write_json
folder = Path(sys.argv[1])
try:
    with locked(folder):
        print("ready", flush=True)
        for line in sys.stdin:
            write_json(folder / "metrics.json", {{"by": line.strip()}})
            print("done", flush=True)
    print("closed", flush=True)
except InputError as error:
    print("error:", error, flush=True)
"""


def test_a_training_that_lost_its_run_writes_nothing(start, tmp_path) -> None:
    first = start(RUN, tmp_path)
    assert first.tell("first") == "done"
    assert "is being trained by another process (host" in start(RUN, tmp_path).first
    age(tmp_path / ".lock", STALE_SECONDS + 1)
    second = start(RUN, tmp_path)
    assert second.tell("second") == "done"
    assert "has lost its lock" in first.tell("first")
    assert second.end() == "closed"
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]
    assert '"second"' in (tmp_path / "metrics.json").read_text()


EXPORT = """
import sys
from pathlib import Path
from reelbank.data.store.exchange.exporting import export
from reelbank.data.store.exchange.sources import open_source
from reelbank.data.store.options import ExportOptions
store, file = sys.argv[1:]
export(ExportOptions(store=store, to=file))
with open_source(Path(file), "rgb") as source:
    print(len(source.names), flush=True)
"""


def test_hdf5_files_are_exported_and_imported(start, store) -> None:
    fill(store, range(3))
    child = start(EXPORT, store, store.with_name("features.h5"))
    assert [child.first, *child.end().splitlines()][-1] == "3"


FORKS = """
import os, sys, threading
from pathlib import Path
from reelbank.data.system.locks import lock
path = Path(sys.argv[1])
taken = lock(path, wait=False)
child = os.fork()
if not child:
    taken.release()
    os._exit(len(threading.enumerate()))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), taken.is_held(), flush=True)
taken.release()
print(len(threading.enumerate()), path.exists(), flush=True)
"""


def test_a_fork_does_not_hold_the_lock_and_a_released_lock_leaves_nothing(start, tmp_path) -> None:
    child = start(FORKS, tmp_path / "a.lock")
    assert child.first == "1 True"
    assert child.end() == "1 False"
    assert not list(tmp_path.iterdir())


# In every round four processes meet a dead lock at the same moment, and keep what they get.
CONTEST = """
import os, sys, threading
from multiprocessing import get_context
from pathlib import Path
from reelbank.data.system.locks import lock

def compete(path, barrier, answers):
    for _ in range(ROUNDS):
        barrier.wait()
        taken = lock(path, wait=False)
        answers.put(taken is not None)
        barrier.wait()
        if taken:
            taken.release()
            path.write_text(DEAD)
            os.utime(path, (0, 0))
        barrier.wait()

ROUNDS, DEAD = 200, sys.argv[2]
path, processes = Path(sys.argv[1]), get_context("fork")
path.write_text(DEAD)
os.utime(path, (0, 0))
barrier, answers = processes.Barrier(4), processes.SimpleQueue()
children = [processes.Process(target=compete, args=(path, barrier, answers)) for _ in range(4)]
for child in children:
    child.start()
print([sum(answers.get() for _ in range(4)) for _ in range(ROUNDS)].count(1), flush=True)
for child in children:
    child.join()
"""


@pytest.mark.parametrize("dead", ["", '{"token": "0123", "host": "gone", "process": 1}'])
def test_one_of_many_processes_takes_over_a_dead_lock(start, tmp_path, dead) -> None:
    contest = start(CONTEST, tmp_path / "a.lock", dead)
    assert contest.first == "200"
    contest.end()
    assert [path.name for path in tmp_path.iterdir()] == ["a.lock"]


# Another process removes the dead lock, and takes its own, while this one examines it.
GONE = """
import os, sys
from pathlib import Path
from reelbank.data.system.locks import lock

path, removed = Path(sys.argv[1]), []
path.write_text('{{"token": "0123"}}')
os.utime(path, (0, 0))
open_file, unlink = os.open, Path.unlink

def opened(name, flags, *mode):
    fd = open_file(name, flags, *mode)
    if str(name).endswith("a.lock.0123"):
        unlink(path)
    return fd

def unlinked(self, missing_ok=False):
    if self == path and not path.exists():
        removed.append("a lock that another process could have created")
    unlink(self, missing_ok)

os.open, Path.unlink = opened, unlinked
taken = lock(path, wait=False)
print(taken is not None, removed, flush=True)
taken.release()
"""


def test_a_dead_lock_that_is_gone_is_not_removed_again(start, tmp_path) -> None:
    child = start(GONE, tmp_path / "a.lock")
    assert child.first == "True []"
    child.end()
    assert not list(tmp_path.iterdir())


# Another process, which found the lock stale, has created a claim and removes it after a moment.
CLAIMED = """
import sys, threading
from pathlib import Path
from reelbank.data.system.locks import lock

path = Path(sys.argv[1])
taken = lock(path, wait=False)
claim = path.with_name(f"{{path.name}}.{{taken.token}}")
claim.touch()
threading.Timer(0.3, claim.unlink).start()
taken.release()
print(path.exists(), lock(path, wait=False) is not None, flush=True)
"""


def test_a_released_lock_is_removed_although_another_process_examines_it(start, tmp_path) -> None:
    assert start(CLAIMED, tmp_path / "a.lock").first == "False True"


def test_a_lock_file_that_is_a_link_to_nothing_is_refused(tmp_path: Path, no_waiting: None) -> None:
    (tmp_path / "a.lock").symlink_to("gone")
    with pytest.raises(InputError, match=r"a\.lock: must be a lock file .*remove it"):
        lock(tmp_path / "a.lock", wait=False)


def test_releasing_a_lock_does_not_remove_the_file_of_another(tmp_path: Path) -> None:
    """The folder was deleted and made again while the lock was held."""
    first = lock(tmp_path / "x" / "a.lock", wait=False)
    shutil.rmtree(tmp_path / "x")
    second = lock(tmp_path / "x" / "a.lock", wait=False)
    assert first and second
    first.release()
    assert (tmp_path / "x" / "a.lock").exists()
    assert lock(tmp_path / "x" / "a.lock", wait=False) is None
    second.release()
