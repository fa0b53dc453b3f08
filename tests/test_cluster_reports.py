"""What `extract` shows about a cluster while it works, without a cluster."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from test_extract import encode
from tqdm import tqdm

import reelbank
from reelbank.data.errors import InputError
from reelbank.data.system.cluster import Answer, tell_cluster, told_once

torch.set_num_threads(1)
WORDS = [
    *("extract", "DATASET=folder", "ROOT=videos", "STREAM=rgb", "T=2", "CROPS=1", "COMPILE=0"),
    *("EXTRACTOR=torchvision:squeezenet1_1", "WEIGHTS=random", "RESIZE=32", "SIZE=32", "WORKERS=1"),
]


class Here:
    """Tasks of a cluster with one worker, which is this process."""

    def __init__(self, function: Callable[[str], str]) -> None:
        self.function, self.answers = function, list[Answer]()

    def workers(self) -> list[str]:
        return ["here"]

    def has_room(self) -> bool:
        return len(self.answers) < 2

    def start(self, name: str, text: str) -> None:
        self.answers.append(Answer(name, self.function(text)))

    def next(self) -> list[Answer]:
        return [self.answers.pop(0)]


def test_the_status_of_a_cluster_stays_while_videos_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(8):
        path = Path("videos", "ab"[number % 2], f"{number}.avi")
        path.parent.mkdir(parents=True, exist_ok=True)
        encode(path, 6, number)
    shown: list[str] = []

    class Recorded(tqdm):
        def set_postfix_str(self, s: str = "", refresh: bool = True) -> None:
            shown.append(s)
            super().set_postfix_str(s, refresh)

    @contextlib.contextmanager
    def tasks_here(
        address: str, function: Callable[[str], str], *, release: Callable[[], None], **_: Any
    ) -> Iterator[Here]:
        yield Here(function)
        release()

    monkeypatch.setattr("reelbank.extract.run.tqdm", Recorded)
    monkeypatch.setattr("reelbank.extract.run.tell_cluster", lambda address: None)
    monkeypatch.setattr("reelbank.extract.devices.cluster.cluster_tasks", tasks_here)
    assert reelbank.main([*WORDS, "BANK=bank", "CLUSTER=tcp://127.0.0.1:9"]) == 0
    assert len(list(Path("bank", "stores").glob("*.h5"))) == 1
    assert 1 < len(shown) <= 6  # not two for each video
    assert all(text.endswith(" under way on 1 worker") for text in shown)
    assert all(text != after for text, after in zip(shown, shown[1:], strict=False))


def test_each_wrong_address_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="needs reelbank[dask]")
    monkeypatch.setattr("reelbank.data.system.cluster.CONNECTS_SECONDS", 1)
    with told_once():
        for address in ("tcp://127.0.0.1:9", "tcp://127.0.0.1:11"):
            with pytest.raises(InputError, match=f"CLUSTER={address}: "):
                tell_cluster(address)
