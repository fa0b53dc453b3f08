"""CLUSTER=: extraction by the workers of a real Dask cluster on this machine."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import testdata

import reelbank
from reelbank.data.store.reader import Store

pytest.importorskip("distributed", reason="needs reelbank[dask]")
import psutil  # a dependency of distributed

WORDS = [
    *("extract", "DATASET=folder", "ROOT=videos", "STREAM=rgb flow audio", "FLOW=dis", "CROPS=1"),
    *("EXTRACTOR=torchvision:squeezenet1_1", "WEIGHTS=random", "T=3", "CLIP=flow=2", "COMPILE=0"),
    *("RESIZE=rgb=32 flow=32", "SIZE=rgb=32 flow=32 audio=32", "WORKERS=1"),
]


class Cluster:
    """A Dask scheduler and worker processes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.processes = folder, []
        self.file = folder / "scheduler.json"
        self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")

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
    def address(self) -> str:
        until(self.file.exists)
        return json.loads(self.file.read_text())["address"]

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def until(condition, seconds: float = 120.0):
    """Wait until the condition is true, and return its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return value


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A scheduler without workers; the working folder has real clips."""
    monkeypatch.chdir(tmp_path)
    clips = sorted(testdata("clips", "ucf101").rglob("*.avi"))[:120:4]
    for clip in clips:
        target = tmp_path / "videos" / clip.parent.name / clip.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(clip)
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.end()


def features(bank: str) -> dict[tuple[str, str], np.ndarray]:
    """The features of all stores of a bank, by store and video."""
    found = {}
    for path in Path(bank, "stores").glob("*.h5"):
        with Store.open(path) as store:
            for video_id in store:
                found[path.name, video_id] = store.features(video_id)[0]
    return found


def test_a_killed_worker_a_killed_decoder_and_a_late_worker_change_nothing(cluster):
    first, second, _ = (cluster.add_worker() for _ in range(3))
    command = [sys.executable, "-c", "import sys, reelbank; sys.exit(reelbank.main(sys.argv[1:]))"]
    words = [*WORDS, "BANK=cluster", f"CLUSTER={cluster.address}"]
    with Path("extract.log").open("w") as log:
        extraction = subprocess.Popen(
            [*command, *words],
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
    cluster.processes.append(extraction)
    assert reelbank.main([*WORDS, "BANK=alone"]) == 0
    until(lambda: list(Path().glob("cluster/stores/*.parts/part+*")))
    first.send_signal(signal.SIGKILL)
    decoder = until(lambda: psutil.Process(second.pid).children())[0]
    decoder.kill()
    cluster.add_worker()
    assert extraction.wait(300) == 0, Path("extract.log").read_text()
    expected, found = features("alone"), features("cluster")
    assert len(expected) > 2 * 30 and found.keys() == expected.keys()  # some clips have sound
    for key, rows in expected.items():
        assert np.array_equal(found[key], rows), key
    assert not list(Path("cluster", "stores").glob("*.parts"))


def test_no_scheduler(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("reelbank.data.system.cluster.CONNECTS_SECONDS", 1)
    Path("videos").mkdir()
    Path("videos/a.avi").write_bytes(b"no video")
    words = [
        "extract",
        "DATASET=folder",
        "ROOT=videos",
        "EXTRACTOR=pixels",
        "CLUSTER=tcp://127.0.0.1:9",
    ]
    assert reelbank.main(words) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert "CLUSTER=tcp://127.0.0.1:9: the Dask scheduler cannot be reached" in message
