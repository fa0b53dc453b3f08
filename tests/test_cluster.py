"""CLUSTER=: work on the workers of a real Dask cluster on this machine."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cluster_functions
import numpy as np
import pytest
import torch
from conftest import testdata
from test_reproduce import NINTH
from test_train import make_store

import reelbank
from reelbank.data.errors import InputError
from reelbank.data.store.reader import Store
from reelbank.data.system.cluster import Answer, Tasks, cluster_tasks
from reelbank.heads.runs.folder import all_runs

pytest.importorskip("distributed", reason="needs reelbank[dask]")
import dask
import psutil  # a dependency of distributed

torch.set_num_threads(1)  # the tensors are tiny
WORDS = [
    *("extract", "DATASET=folder", "ROOT=videos", "STREAM=rgb flow audio", "FLOW=dis", "CROPS=1"),
    *("EXTRACTOR=torchvision:squeezenet1_1", "WEIGHTS=random", "T=3", "CLIP=flow=2", "COMPILE=0"),
    *("RESIZE=rgb=32 flow=32", "SIZE=rgb=32 flow=32 audio=32", "WORKERS=1"),
]
SWEEP = [
    *("sweep", "HEAD=gru", "LAYERS=1", "HIDDEN=4 8", "SEED=0 1", "LR=0.001", "BATCH=8"),
    *("PATIENCE=0", "REFIT=0", "DEVICE=cpu"),
]


class Cluster:
    """A Dask scheduler and worker processes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.processes = folder, []
        self.file = folder / "scheduler.json"
        words = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        self.scheduler = self._start("scheduler", *words)

    def _start(self, *words: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "distributed.cli.dask_" + words[0], *words[1:]]
        with (self.folder / f"{len(self.processes)}.log").open("w") as log:
            process = subprocess.Popen(
                [*command, "--scheduler-file", str(self.file)],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        self.processes.append(process)
        return process

    def add_worker(self) -> subprocess.Popen:
        return self._start(
            "worker", "--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", "--no-dashboard"
        )

    @property
    def workers(self) -> list[subprocess.Popen]:
        """The living workers, the oldest first."""
        return [process for process in self.processes[1:] if process.poll() is None]

    @property
    def address(self) -> str:
        until(self.file.exists)
        return json.loads(self.file.read_text())["address"]

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def until(condition: Callable[[], Any], seconds: float = 600.0) -> Any:
    """Wait until the condition is true, and return its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return value


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.end()


@pytest.fixture
def three_workers(cluster: Cluster) -> Cluster:
    """The cluster with three workers. Some may still be starting, because commands wait for them."""
    while len(cluster.workers) < 3:
        cluster.add_worker()
    return cluster


@contextmanager
def meanwhile(disturb: Callable[[], Any]) -> Iterator[None]:
    """Call a function in another thread. Its errors are raised at the end."""
    with ThreadPoolExecutor(1) as thread:
        disturbance = thread.submit(disturb)
        yield
        disturbance.result()


def link_clips(clips: list[Path]) -> None:
    """Make the folder videos/ with these clips in the working folder."""
    for clip in clips:
        target = Path("videos", clip.parent.name, clip.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(clip)


def features(bank: str) -> dict[tuple[str, str], np.ndarray]:
    """The features of all stores of a bank, by store and video."""
    found = {}
    for path in Path(bank, "stores").glob("*.h5"):
        with Store.open(path) as store:
            for video_id in store:
                found[path.name, video_id] = store.features(video_id)[0]
    return found


def check_same_features(expected: dict[tuple[str, str], np.ndarray]) -> None:
    found = features("cluster")
    assert found.keys() == expected.keys()
    for key, rows in expected.items():
        assert np.array_equal(found[key], rows), key
    assert not list(Path("cluster", "stores").glob("*.parts"))


def weights_of(run: Path) -> bytes:
    """The checkpoint of a run; b"" for a fused run."""
    path = run / "checkpoint.safetensors"
    return path.read_bytes() if path.exists() else b""


def check_same_runs(expected: str, found: str, count: int) -> None:
    """The runs of two banks have equal weights and figures."""
    runs, others = all_runs(expected), all_runs(found)
    assert [run.path.name for run in runs] == [run.path.name for run in others]
    assert len(runs) == count
    for run, other in zip(runs, others, strict=True):
        assert run.finished and other.finished
        assert weights_of(run.path) == weights_of(other.path), run.path.name
        assert run.metrics.parts == other.metrics.parts
        assert (run.metrics.leaks, run.metrics.notes) == (other.metrics.leaks, other.metrics.notes)


def trains(worker: subprocess.Popen, bank: str) -> Path | None:
    """The folder of the run that a worker trains at the moment."""
    opened = {file.path for file in psutil.Process(worker.pid).open_files()}
    for state in Path(bank, "runs").glob("*/state.safetensors"):
        if str(state.parent.absolute() / ".lock") in opened:
            return state.parent
    return None


def kill_one_that_trains(cluster: Cluster, bank: str) -> None:
    """Kill a worker in the middle of a run."""

    def is_killed() -> bool:
        for worker in cluster.workers:
            if run := trains(worker, bank):
                worker.kill()
                worker.wait()
                return not (run / "metrics.json").exists()
        return False

    until(is_killed)


def test_extraction_survives_a_killed_worker_and_a_killed_decoder(
    three_workers, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    link_clips(sorted(testdata("clips", "ucf101").rglob("*.avi"))[:120:5])
    assert reelbank.main([*WORDS, "BANK=alone"]) == 0

    def disturb():
        first, second, _ = three_workers.workers
        until(lambda: list(Path().glob("cluster/stores/*.parts/part+*")))
        first.send_signal(signal.SIGKILL)
        until(lambda: psutil.Process(second.pid).children())[0].kill()
        three_workers.add_worker()

    with meanwhile(disturb):
        assert reelbank.main([*WORDS, "BANK=cluster", f"CLUSTER={three_workers.address}"]) == 0
    printed = capsys.readouterr()
    assert re.search(rf"cluster {three_workers.address}: \d workers?\b", printed.out)
    assert re.search(r"\d+ videos under way on \d workers?\b", printed.err)
    expected = features("alone")
    assert len(expected) > 2 * 24  # some clips have sound
    check_same_features(expected)


@pytest.mark.long
def test_a_sweep_survives_a_killed_worker(three_workers, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_store(Path("alone"))
    shutil.copytree("alone", "cluster")
    words = [*SWEEP, "EPOCHS=40"]
    assert reelbank.main([*words, "BANK=alone", "TO=alone.csv"]) == 0
    capsys.readouterr()

    def disturb():
        kill_one_that_trains(three_workers, "cluster")
        three_workers.add_worker()

    with meanwhile(disturb):
        clustered = ["BANK=cluster", "TO=cluster.csv", f"CLUSTER={three_workers.address}"]
        assert reelbank.main([*words, *clustered]) == 0
    printed = capsys.readouterr().out
    assert printed.count("gru split 1 seed ") == 4 and "chosen" in printed
    check_same_runs("alone", "cluster", 4)
    assert [line.split(",")[:7] for line in Path("alone.csv").read_text().splitlines()] == [
        line.split(",")[:7] for line in Path("cluster.csv").read_text().splitlines()
    ]


@pytest.mark.long
def test_reproduce_and_pretrain(three_workers, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    link_clips(sorted(testdata("clips", "ucf101").rglob("*.avi"))[:12])
    Path("ninth.toml").write_text(NINTH)
    words = ["reproduce", "ninth.toml", "DATASET=folder", "ROOT=videos", "DEVICE=cpu"]
    assert reelbank.main([*words, "BANK=alone"]) == 0
    printed = capsys.readouterr().out
    assert reelbank.main([*words, "BANK=cluster", f"CLUSTER={three_workers.address}"]) == 0
    clustered = capsys.readouterr().out
    steps = [line for line in printed.splitlines() if line.startswith("== ")]
    assert {"== pretrain motion", "== extract colours", "== train motion"} <= {*steps}
    assert steps == [line for line in clustered.splitlines() if line.startswith("== ")]
    assert clustered.count(f"cluster {three_workers.address}: ") == 1  # not at each step
    weights = sorted(path.relative_to("alone") for path in Path("alone").glob("weights/*/*.saf*"))
    assert weights
    for path in weights:
        assert Path("alone", path).read_bytes() == Path("cluster", path).read_bytes()
    check_same_features(features("alone"))
    check_same_runs("alone", "cluster", len(all_runs("alone")))


@pytest.mark.long
def test_more_videos_maps_and_two_kills(three_workers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    link_clips(sorted(testdata("clips", "ucf101").rglob("*.avi"))[:120:5])
    address = three_workers.address
    maps = ["extract", *WORDS[1:3], "CROPS=1", "EXTRACTOR=torchvision:resnet18", "WEIGHTS=random"]
    maps += ["T=3", "FPS=10", "RESIZE=40", "SIZE=32", "AT=layer4.0", "COMPILE=0"]
    for words in (WORDS, maps):
        assert reelbank.main([*words, "BANK=alone"]) == 0

    def kill_two_that_extract():
        for count in (1, 4):
            until(lambda count=count: len(list(Path().glob("cluster/stores/*/part+*"))) >= count)
            three_workers.workers[0].kill()
            three_workers.add_worker()

    with meanwhile(kill_two_that_extract):
        assert reelbank.main([*WORDS, "BANK=cluster", f"CLUSTER={address}"]) == 0
    assert reelbank.main([*maps, "BANK=cluster", f"CLUSTER={address}"]) == 0
    check_same_features(features("alone"))

    sweep = [*SWEEP, "EPOCHS=40", "STREAM=rgb", "EXTRACTOR=torchvision:squeezenet1_1"]
    rrn = ["train", "HEAD=rrn", "SEED=0 1", "EPOCHS=1", "PATIENCE=0", "DEVICE=cpu"]
    rrn += ["EXTRACTOR=torchvision:resnet18"]
    for words in (sweep, rrn):
        assert reelbank.main([*words, "BANK=alone"]) == 0

    early = three_workers.workers

    def leave_only_late_workers():
        for _ in range(2):
            kill_one_that_trains(three_workers, "cluster")
            three_workers.add_worker()
        for worker in early:
            worker.kill()

    with meanwhile(leave_only_late_workers):
        assert reelbank.main([*sweep, "BANK=cluster", f"CLUSTER={address}"]) == 0
    assert reelbank.main([*rrn, "BANK=cluster", f"CLUSTER={address}"]) == 0
    check_same_runs("alone", "cluster", 4 + 2)


def test_a_task_that_fails_is_given_to_another_worker(three_workers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def answers(function: Callable[[str], str], text: str) -> list[Answer]:
        with cluster_tasks(three_workers.address, function, command="train", per_worker=1) as tasks:
            until(lambda: len(tasks.workers()) > 1)
            return list(tasks.run({"one": text}))

    note, answer = answers(cluster_functions.fails_once, "failed")
    assert "given to another worker" in note.lines[0] and "disk" in note.lines[0]
    assert answer == Answer("one", "by another worker")
    note, answer = answers(cluster_functions.busy_once, "busy")
    assert "busy is being trained by another process" in note.lines[0]
    assert answer == Answer("one", "done")
    with pytest.raises(InputError, match=r"ValueError: clip\.avi is damaged"):
        answers(cluster_functions.fails, "clip.avi")


def test_a_lost_scheduler_ends_the_command_with_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_store(Path("bank"))
    cluster = Cluster(tmp_path)
    waits: list[str] = []
    has_room = Tasks.has_room

    def told(tasks: Tasks) -> bool:
        waits.append("")
        return has_room(tasks)

    monkeypatch.setattr(Tasks, "has_room", told)

    def disturb():
        until(lambda: waits)
        cluster.scheduler.kill()

    try:
        with meanwhile(disturb):
            assert reelbank.main([*SWEEP, "BANK=bank", f"CLUSTER={cluster.address}"]) == 2
    finally:
        cluster.end()
    (line,) = capsys.readouterr().err.splitlines()
    assert "the connection to the Dask scheduler is lost" in line


@pytest.mark.parametrize(
    ("address", "settings", "reason"),
    [
        ("tcp://127.0.0.1:9", {}, "Timed out"),
        ("tls://127.0.0.1:9", {}, "TLS"),
        ("tcp://127.0.0.1:9", {"distributed.comm.require-encryption": True}, "encryption required"),
    ],
)
def test_a_scheduler_that_does_not_answer_is_told_even_if_nothing_is_left_to_do(
    address, settings, reason, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("reelbank.data.system.cluster.CONNECTS_SECONDS", 1)
    Path("videos").mkdir()
    Path("videos/a.avi").write_bytes(b"no video")
    words = ["extract", "DATASET=folder", "ROOT=videos", "EXTRACTOR=pixels"]
    assert reelbank.main(words) == 1  # the video has failed, and is not tried again
    capsys.readouterr()
    with dask.config.set(settings):
        assert reelbank.main([*words, f"CLUSTER={address}"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"CLUSTER={address}: the Dask scheduler cannot be reached" in line and reason in line
        assert reelbank.main([*words, f"CLUSTER={address}", "PLAN=1"]) == 0
    assert "not of the cluster" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "WORKERS=2"], "WORKERS=2: has no effect with CLUSTER"),
        (["sweep", "WORKERS=2"], "WORKERS=2: has no effect with CLUSTER"),
        (["train", "DEVICE=cuda:1"], "DEVICE=cuda:1: cannot be used with CLUSTER"),
        (["pretrain", "DEVICE=cuda:1"], "DEVICE=cuda:1: cannot be used with CLUSTER"),
        (["extract", "DEVICE=all"], "DEVICE=all: cannot be used with CLUSTER"),
        (["train", "DEVICE=all"], "start one Dask worker for each and give CLUSTER"),
        (["sweep", "DEVICE=cuda:0,cuda:1"], "start one Dask worker for each and give CLUSTER"),
        (["reproduce", "mrrn", "DEVICE=cuda:1"], "DEVICE=cuda:1: cannot be used with CLUSTER"),
    ],
)
def test_options_that_do_not_fit(words, message, tmp_path, capsys):
    if words[0] in ("train", "sweep"):
        make_store(tmp_path)
    assert reelbank.main([*words, f"BANK={tmp_path}", "CLUSTER=tcp://127.0.0.1:9"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "address", ["tcp://host", "host", "http://host:8786", "tcp://:8786", "1 2"]
)
@pytest.mark.parametrize("command", ["extract", "pretrain", "train", "sweep", "reproduce"])
def test_the_form_of_the_address_is_checked_with_the_other_options(command, address, capsys):
    assert reelbank.main([command, f"CLUSTER={address}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"CLUSTER={address}: must be the address of a Dask scheduler with its port" in line
