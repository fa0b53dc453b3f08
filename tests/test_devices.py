"""DEVICE= with several devices: one process for each, which share the videos and the stores."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from test_extract import encode

import reelbank
from reelbank.data.errors import InputError
from reelbank.data.store.reader import Store
from reelbank.extract.device import chosen_device, chosen_devices
from reelbank.extract.devices.lease_worker import LeaseWorker
from reelbank.extract.fill import with_defaults
from reelbank.extract.options import ExtractOptions

# A network that kills its process when some features are committed, as often as there are files
# `kill*`. With a file `stop`, it stops the command after some videos like a scheduler that signals
# all processes. Only processes that this test's process has started are killed.
DEADLY = """
import os, pathlib, signal
import torch
from torch import nn

def takes(name):
    for path in pathlib.Path().glob(name):
        try:
            path.unlink()  # only one process can do it
        except FileNotFoundError:
            continue
        return True
    return False

class Tiny(nn.Module):
    mean = std = (0.5, 0.5, 0.5)
    input_size = (3, 16, 16)

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 5, 4)
        self.calls = 0

    def forward(self, x):
        if x.mean() > -9 and os.getppid() == int(os.environ["TEST_PROCESS"]):
            self.calls += 1
            if self.calls == 3:
                print("third batch")
            if list(pathlib.Path().glob("*/stores/*.parts/part+*")) and takes("kill*"):
                os.kill(os.getpid(), signal.SIGKILL)
            if self.calls == 6 and takes("stop"):
                try:
                    os.kill(os.getpid(), signal.SIGTERM)
                finally:
                    os.kill(os.getpid(), signal.SIGTERM)
                    os.kill(os.getppid(), signal.SIGTERM)
        return self.conv(x).relu().mean((2, 3))

def build():
    print("network built")
    return Tiny()
"""
WORDS = [
    *(
        "extract",
        "DATASET=folder",
        "ROOT=videos",
        "EXTRACTOR=tiny.py:build",
        "SIZE=16",
        "RESIZE=20",
    ),
    *("CROPS=1", "T=2", "BATCH=2", "PART_SECONDS=0.01", "COMPILE=0"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with 16 small videos, a broken one, and the network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TEST_PROCESS", str(os.getpid()))
    for number in range(16):
        encode(tmp_path / "videos" / ("left", "right")[number % 2] / f"{number}.avi", 5, number)
    (tmp_path / "videos" / "left" / "broken.avi").write_bytes(b"RIFF not a video")
    (tmp_path / "tiny.py").write_text(DEADLY)
    return tmp_path


def rows_of(bank: str) -> tuple[dict[str, np.ndarray], set[str]]:
    """The features of the only store of a bank by video, and the videos that failed."""
    (path,) = Path(bank, "stores").glob("*.h5")
    with Store.open(path) as store:
        return {video_id: store.features(video_id)[0] for video_id in store}, set(store.failures)


def test_a_killed_process_loses_nothing_and_the_store_is_the_same(folder, capsys):
    assert reelbank.main([*WORDS, "BANK=one", "DEVICE=cpu"]) == 1  # the broken video
    expected, failed = rows_of("one")
    assert len(expected) == 16 and failed == {"left/broken"}

    Path("kill1").touch()
    capsys.readouterr()
    assert reelbank.main([*WORDS, "BANK=two", "DEVICE=cpu cpu"]) == 1
    printed = capsys.readouterr()
    assert not Path("kill1").exists()
    assert printed.out.count("network built") == printed.out.count("third batch") == 1
    assert re.search(
        r"note: process [12] of 2 \(cpu\) ended \(SIGKILL: out of memory\?\); \d+ of its last \d+ videos "
        "are committed",
        printed.out,
    )
    assert "17/17" in printed.err  # the progress counts each video once
    assert re.search(r"decoded .* without the last videos of processes that died\n", printed.out)
    assert "16 of 17 videos stored; finished" in printed.out
    found, failed_too = rows_of("two")
    assert failed_too == failed and found.keys() == expected.keys()
    for video_id, rows in expected.items():
        assert np.array_equal(found[video_id], rows), video_id
    assert not list(Path("two", "stores").glob("*.parts"))


def test_without_any_process_left_the_command_fails_and_continues_later(folder, capsys):
    Path("kill1").touch()
    Path("kill2").touch()
    assert reelbank.main([*WORDS, "DEVICE=cpu cpu"]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert "no other process is left" in message and "Run the same command to continue" in message
    assert reelbank.main([*WORDS, "DEVICE=cpu"]) == 1
    assert "17 videos, 0 already extracted" not in capsys.readouterr().out
    assert len(rows_of("bank")[0]) == 16


@pytest.mark.long
def test_processes_that_are_stopped_several_times_keep_what_they_have_extracted(folder, capsys):
    words = [word for word in WORDS if not word.startswith("PART_SECONDS")]
    Path("stop").touch()
    assert reelbank.main([*words, "PART_SECONDS=1000", "DEVICE=cpu cpu"]) == 128 + 15
    assert not Path("stop").exists()
    assert "stopped. Finished work is kept" in capsys.readouterr().err
    assert not list(Path("bank").glob("stores/*.parts/shard*"))  # every process has ended
    (folder_of_parts,) = Path("bank").glob("stores/*.parts")
    assert list(folder_of_parts.glob("part+*device*"))
    assert reelbank.main([*WORDS, "DEVICE=cpu"]) == 1
    assert len(rows_of("bank")[0]) == 16


def test_two_gpus_and_the_one_with_more_free_memory(monkeypatch, capsys):
    free_bytes = {0: 10, 1: 30, 2: 20}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: (free_bytes[number], 40))
    assert list(map(str, chosen_devices("all"))) == ["cuda:0", "cuda:1", "cuda:2"]
    assert chosen_device("auto") == torch.device("cuda:1")
    assert "cuda:1" in (note := capsys.readouterr().out) and "DEVICE=all" in note
    with pytest.raises(InputError, match="must name each GPU only once"):
        chosen_devices("cuda:1 cuda:1")


@pytest.mark.long
def test_only_the_stores_that_no_other_bank_has_are_filled(folder, capsys):
    words = [*WORDS[:3], "EXTRACTOR=pixels", "RESIZE=20", "CROPS=1", "T=2", "GRID=2"]
    assert reelbank.main([*words, "STREAM=rgb", "BANK=lab"]) == 1
    words += ["STREAM=rgb flow", "FLOW=dis", "CLIP=flow=1"]
    assert reelbank.main([*words, "BANKS=lab", "DEVICE=cpu,cpu"]) == 1
    (store,) = Path("bank", "stores").iterdir()
    assert "-flow-" in store.name and "finished, only read" in capsys.readouterr().out
    assert len(rows_of("bank")[0]) == 16


def test_a_machine_that_would_fill_other_stores_refuses(folder):
    options = ExtractOptions(dataset="folder", root="videos", extractor="pixels", crops=1, t=2)
    with pytest.raises(
        InputError, match=r"would fill the stores .*-pixels-.* instead of other\.h5"
    ):
        LeaseWorker(
            with_defaults(options), torch.device("cpu"), "one", ["other.h5"], expected_videos=2
        )


@pytest.mark.parametrize("names", ["cpu;cpu", "cuda:0 all", "gpu", "all cpu"])
def test_what_is_not_a_list_of_devices(names):
    with pytest.raises(InputError, match="DEVICE="):
        chosen_devices(names)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_all_needs_a_gpu():
    with pytest.raises(
        InputError, match=r"DEVICE=all: PyTorch does not find a GPU; use DEVICE=cpu"
    ):
        chosen_devices("all")
