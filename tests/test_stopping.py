"""Commands that are stopped or run out of memory: one line, the right exit code, and all finished
work is kept."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from test_extract import any_store, children, encode, failures, run
from test_sweep import group_lives
from test_train import make_store

from reelbank.data.store.reader import Store

NETWORK = """
import os, time
import torch
from torch import nn

class Tiny(nn.Module):
    mean = std = (0.5, 0.5, 0.5)
    input_size = (3, 32, 32)

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 5, 4)

    def forward(self, x):
        if x.mean() > -9:  # which torch.fx cannot follow
            what = os.environ.get("DOES", "")
            if what == "memory":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            if what == "deaf":
                try:
                    print("begins", flush=True)
                    time.sleep(1e6)
                except KeyboardInterrupt:
                    print("goes on", flush=True)
                    time.sleep(1e6)
            time.sleep(0.2 if what == "slow" else 0)
        return self.conv(x).relu().mean((2, 3))

def build():
    return Tiny()
"""
EXTRACT = (
    "extract",
    "DATASET=folder",
    "ROOT=videos",
    "EXTRACTOR=tiny.py:build",
    "CROPS=1",
    "T=2",
    "BATCH=2",
    "PART_SECONDS=0.1",
)
PRETRAIN = (
    "pretrain",
    "DATASET=folder",
    "ROOT=videos",
    "EXTRACTOR=tiny.py:build",
    "T=2",
    "RESIZE=40",
    "EPOCHS=1",
)


@pytest.fixture
def ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of 4 small videos in two classes, and a network that is slow, deaf or too large when
    it is told so."""
    monkeypatch.chdir(tmp_path)
    for number in range(4):
        encode(
            tmp_path
            / "videos"
            / ("left", "right")[number % 2]
            / f"clip_g{number // 2:02d}_c01.avi",
            6,
            number,
        )
    (tmp_path / "tiny.py").write_text(NETWORK)
    return tmp_path


def hear(*numbers: int) -> None:
    """What a shell starts with & is deaf to Ctrl-C, and so would its children be."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL if number in numbers else signal.SIG_IGN)


ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def started(
    *words: str, does: str = "slow", hears: tuple[int, ...] = ALL
) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "reelbank", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"DOES": does},
        preexec_fn=partial(hear, *hears),
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def committed() -> bool:
    return any(Path("bank").rglob("part+*.h5"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_keeps_what_is_done_and_is_the_exit_code(ours: Path, number: int) -> None:
    with started(*EXTRACT) as process:
        wait_for(committed)
        workers = children(process.pid)
        process.send_signal(number)
        said = process.communicate()[1]
    assert process.returncode == 128 + number, said
    assert "stopped. Finished work is kept" in said and "Traceback" not in said
    wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    with Store.open(any_store()) as store:
        assert store.video_ids and not store.finished
    assert not failures(any_store()) and not list(Path("bank").rglob("tmp+*"))
    assert run(*EXTRACT) == 0


DISCARDS = """
import os, signal, time
from reelbank.data.system import stopping

class Discards:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(100):
            time.sleep(0.001)

stopping.{heed}()
try:
    discards = Discards()
    del discards
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("heed", ["heed_signals", "heed_first_signal"])
def test_a_signal_during_a_finalizer_is_not_lost(heed: str) -> None:
    """Python discards the exceptions of finalizers and weakref callbacks."""
    code = DISCARDS.format(heed=heed)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("interrupted\n", "", 0)


def test_a_second_ctrl_c_ends_at_once(ours: Path) -> None:
    """SIGHUP is ignored where nohup has protected the command from it."""
    with started(*EXTRACT, does="deaf", hears=(signal.SIGINT, signal.SIGTERM)) as process:
        assert process.stdout is not None
        wait_for(lambda: process.stdout.readline() == "begins\n")
        workers = children(process.pid)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "goes on\n"
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1]
    assert process.returncode == 130
    assert said.endswith(
        "stopped at once. Committed work is kept; run the same command again to continue\n"
    )
    assert "Traceback" not in said
    wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    assert run(*EXTRACT) == 0


@pytest.mark.long
def test_ctrl_c_ends_parallel_training_in_one_line(tmp_path: Path) -> None:
    """The terminal sends it to all processes of the command."""
    make_store(tmp_path)
    words = [
        f"BANK={tmp_path}",
        "HEAD=gru",
        "HIDDEN=8",
        "LAYERS=1",
        "SEED=0 1",
        "DEVICE=cpu",
        "WORKERS=2",
    ]
    with started("train", *words, "EPOCHS=100000", "PATIENCE=0") as process:
        wait_for(lambda: len(list(tmp_path.glob("runs/*/state.safetensors"))) == 2)
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate()[1]
        assert process.returncode == 130 and "Traceback" not in said, said
        wait_for(lambda: not group_lives(process.pid))
    assert "stopped. Finished work is kept" in said


@pytest.mark.parametrize("words", [EXTRACT, PRETRAIN])
def test_a_gpu_that_is_full_gets_one_line(
    ours: Path,
    words: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DOES", "memory")
    assert run(*words) == 2
    told = r"reelbank: error: the memory of the GPU is full; use a smaller BATCH.*, or DEVICE=cpu\. Finished work is kept"
    said = capsys.readouterr().err
    assert re.fullmatch(told, said.splitlines()[-1]) and "Traceback" not in said


FULL = """
import resource, sys, reelbank
import reelbank.heads.training.train
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (1 << 30), resource.RLIM_INFINITY))
sys.exit(reelbank.main(sys.argv[1:]))
"""


def test_a_computer_that_is_full_gets_one_line(tmp_path: Path) -> None:
    make_store(tmp_path)
    words = [
        "train",
        f"BANK={tmp_path}",
        "HEAD=gru",
        "HIDDEN=20000",
        "LAYERS=1",
        "DEVICE=cpu",
        "EPOCHS=1",
    ]
    ended = subprocess.run([sys.executable, "-c", FULL, *words], capture_output=True, text=True)
    assert ended.returncode == 2 and "Traceback" not in ended.stderr, ended.stderr
    assert (
        "the memory of the computer is full; use a smaller BATCH" in ended.stderr.splitlines()[-1]
    )
