"""Stores, runs, score files and weights may come from somebody else: a Python file that one of them
names is never run, only one that the user names."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from made_runs import made_run
from made_stores import DATASET, RECIPE, made_times, made_video
from safetensors.torch import save_file
from tiny_networks import LAYERED

import reelbank
from reelbank.data.datasets.registry import loadable_name
from reelbank.data.errors import InputError
from reelbank.data.store.writer import StoreWriter
from reelbank.extract.networks.build import trunk
from reelbank.extract.networks.trained import folder_name
from reelbank.extract.options import ExtractOptions
from reelbank.extract.plan import plan_streams
from reelbank.heads.models.trunk import build_trunk
from reelbank.heads.recipe import TrunkRecipe

MAPS = {"extractor": "torchvision:squeezenet1_0", "node": "features.11", "pool": "none"}


@pytest.fixture
def stranger(tmp_path: Path) -> tuple[str, Path]:
    """The name of an object in a file that leaves a mark when it is run, and the mark."""
    mark = tmp_path / "mark"
    (tmp_path / "stranger.py").write_text(
        f"open({str(mark)!r}, 'w')\n"
        "from reelbank.extract.streams import Stream\n"
        "class Evil(Stream):\n    pass\n" + LAYERED
    )
    return f"{tmp_path}/stranger.py", mark


def map_store(bank: Path, stream: str) -> Path:
    path = bank / "stores" / "maps.h5"
    path.parent.mkdir(parents=True)
    recipe = RECIPE | MAPS | {"stream": stream, "weights": {"source": "random, seed 0"}}
    videos = [made_video(number) for number in range(9)]
    with StoreWriter(path, recipe, DATASET) as writer:
        for number, video in enumerate(videos):
            values = np.zeros((1 + number % 4, 512, 2, 2), np.float32)
            writer.add(video, values, made_times(number))
        writer.finish(videos)
    return path


def test_the_stream_of_a_store_of_maps(
    tmp_path: Path, stranger: tuple[str, Path], capsys: pytest.CaptureFixture
) -> None:
    text, mark = stranger
    words = (f"STORE={map_store(tmp_path, f'{text}:Evil')}", "HEAD=tsn", f"BANK={tmp_path}")
    assert reelbank.main(["train", *words, "DEVICE=cpu"]) == 2
    assert "which this version does not know" in capsys.readouterr().err
    assert not mark.exists()


def test_the_stream_of_a_run_on_maps(stranger: tuple[str, Path]) -> None:
    text, mark = stranger
    names = {"extractor": "torchvision:squeezenet1_0", "node": "features.11"}
    recipe = TrunkRecipe("backbone", stream=f"{text}:Evil", **names)
    with pytest.raises(InputError, match="which this version does not know"):
        build_trunk(recipe, (512, 2, 2))
    assert not mark.exists()
    by_name = TrunkRecipe("backbone", stream="stranger.Evil", **names)
    with pytest.raises(InputError, match=r"of stranger\.py; give STREAM="):
        build_trunk(by_name, (512, 2, 2))
    assert build_trunk(by_name, (512, 2, 2), streams=(f"{text}:Evil",))[1] == 512
    assert mark.exists()  # now the user named it


def test_the_data_set_of_a_run_in_a_report(
    tmp_path: Path, stranger: tuple[str, Path], capsys: pytest.CaptureFixture
) -> None:
    text, mark = stranger
    made_run(tmp_path, dataset=f"{text}:build")
    assert reelbank.main(["report", f"BANK={tmp_path}", f"ROOT={tmp_path}"]) == 2
    assert "(ucf101, hmdb51" in capsys.readouterr().err
    assert not mark.exists()


def test_a_data_set_is_loaded_by_its_registered_name_or_the_users_file() -> None:
    assert loadable_name("folder-clips-1f2e3d") == "folder"
    assert loadable_name("ucf101") == "ucf101"
    assert loadable_name("gait.GAIT", "code/gait.py:GAIT") == "code/gait.py:GAIT"
    with pytest.raises(InputError, match=r"'gait\.GAIT' is not one of .*; give DATASET="):
        loadable_name("gait.GAIT")


def test_the_network_of_weights(tmp_path: Path, stranger: tuple[str, Path]) -> None:
    text, mark = stranger
    recipe = {
        "extractor": f"{text}:build",
        "stream": "rgb",
        "split": "1",
        "dataset": "made",
        "validation": 0.1,
        "seen": {"train": "", "validation": ""},
        "initial": {},
        "width": 1.0,
        "clip_frames": 1,
        "flow_name": "",
        "preprocessing": {
            "resize_px": 16,
            "crop_px": 16,
            "mean": [0.5] * 3,
            "std": [0.5] * 3,
            "interpolation": "bilinear",
        },
    }
    folder = tmp_path / "weights" / folder_name(recipe)
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_text(json.dumps({"recipe": recipe}))
    (folder / "metrics.json").write_text("{}")
    own = tmp_path / "own" / "stranger.py"  # the user's file of the same name
    own.parent.mkdir()
    own.write_text(LAYERED)
    state = trunk(f"{own}:build").model.state_dict()
    tensors = {f"trunk.{name}": torch.zeros_like(value) for name, value in state.items()}
    save_file(tensors, folder / "checkpoint.safetensors")
    words = {"stream": ("rgb",), "weights": str(folder), "bank": str(tmp_path), "device": "cpu"}
    with pytest.raises(InputError, match="run only if an option names the file; give EXTRACTOR="):
        plan_streams(ExtractOptions(**words), "made", None)
    (plan,) = plan_streams(ExtractOptions(**words, extractor=f"{own}:build"), "made", None)
    assert plan.network and plan.network.extractor == f"{own}:build"
    assert not mark.exists()
