"""Training on feature maps: heads start with the rest of the store's network and its own weights,
and runs are found again."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from reelbank.data.errors import InputError
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter
from reelbank.extract.networks import build as networks
from reelbank.heads.predict import predicted
from reelbank.heads.runs.folder import Run, all_runs, load_run
from reelbank.heads.training.options import TrainOptions
from reelbank.heads.training.train import train

torch.set_num_threads(1)  # the tensors are small
CLASSES = ("jump", "run", "sit")
QUICK = TrainOptions(
    head="rlstm",
    optimiser="adam",
    lr=1e-3,
    batch=8,
    epochs=3,
    patience=0,
    refit=False,
    device="cpu",
)
OWN = """
from torch import nn

def build():
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.ReLU(), nn.Conv2d(8, 6, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""


def make_store(
    bank: Path,
    extractor: str = "torchvision:resnet18",
    node: str = "layer4.0",
    channels: int = 512,
    **weights: str,
) -> Path:
    """3 classes x 4 groups x 2 clips of 5 maps of 2 x 2; the one split tests group 0. weights: what
    the store says of them."""
    dataset = DatasetDescription(name="made", classes=list(CLASSES), splits=["1"], coarse={})
    if not weights:
        weights = {
            "source": "random, seed 3",
            "sha256": networks.trunk(extractor, "random", 3).weights.sha256,
        }
    recipe = {
        "stream": "rgb",
        "extractor": extractor,
        "node": node,
        "weights": weights,
        "clip_frames": 1,
        "pool": "none",
    }
    rng, videos = np.random.default_rng(0), []
    with StoreWriter(bank / "stores" / "a.h5", recipe, dataset) as writer:
        for number in range(24):
            label, group, clip = CLASSES[number % 3], number // 6, number // 3 % 2
            videos.append(
                StoredVideo(
                    id=f"{label}/g{group}_c{clip}",
                    label=label,
                    group=f"g{group}",
                    parts=["train" if group else "test"],
                )
            )
            values = np.maximum(
                rng.normal(size=(5, channels, 2, 2))
                + 3 * (np.arange(channels) % 3 == number % 3)[:, None, None],
                0,
            )
            writer.add(videos[-1], values, np.arange(5.0))
        assert writer.finish(videos)
    return writer.path


def trained(bank: Path, **changes: Any) -> Run:
    before = {run.path for run in all_runs(bank)}
    assert train(dataclasses.replace(QUICK, bank=str(bank), **changes)) == 0
    (run,) = [run for run in all_runs(bank) if run.path not in before]
    return run


@pytest.mark.parametrize(
    "options",
    [
        {"head": "rlstm", "sampling": "segments", "t": 3, "norm_momentum": 0.001},
        {"head": "rrn"},
        {"head": "rrn", "skip": "linear"},
        {"head": "tsn"},
        {"head": "rlstm", "trunk": "pool", "branches": "nonlocal"},
    ],
)
def test_it_learns_and_comes_back_the_same(tmp_path: Path, options: dict[str, Any]) -> None:
    path = make_store(tmp_path)
    run = trained(tmp_path, **options)
    assert run.metrics.train.top1 > 0.9
    table, own = predicted(run.path, path), run.scores("test")
    rows = [table.video_ids.index(name) for name in own.video_ids]
    np.testing.assert_allclose(table.logits[rows], own.logits, atol=1e-5)
    if options["head"] == "rrn":
        assert run.recipe["rows"]["sampling"] == "windows" and run.recipe["rows"]["steps"] == 2
        assert run.recipe["trunk"]["skips"] == ["layer4.1"]


def test_from_disk_and_from_memory_are_the_same_to_the_bit(tmp_path: Path) -> None:
    runs = []
    for read_from in ("memory", "disk"):
        make_store(tmp_path / read_from)
        runs.append(trained(tmp_path / read_from, head="rrn", read_from=read_from))
    one, other = (load_file(run.path / "checkpoint.safetensors") for run in runs)
    assert runs[0].signature == runs[1].signature and all(
        torch.equal(value, other[name]) for name, value in one.items()
    )


def test_training_begins_with_the_backbones_weights(tmp_path: Path) -> None:
    make_store(tmp_path)
    run = trained(tmp_path, lr=1e-12, epochs=1)
    after, backbone = (
        load_file(run.path / "checkpoint.safetensors"),
        networks.trunk("torchvision:resnet18", "random", 3).model,
    )
    for name, value in backbone.layer4[1].named_parameters():
        torch.testing.assert_close(after[f"head.trunk.layer4.1.{name}"], value, atol=1e-6, rtol=0)
        if "conv" in name:  # the non-local branch's own copy is newly initialised
            assert (after[f"head.own_trunk.layer4.1.{name}"] - value).abs().max() > 1e-3


def test_other_weights_than_the_stores_are_refused(tmp_path: Path) -> None:
    make_store(tmp_path, source="random, seed 4", sha256="ab" * 32)
    with pytest.raises(
        InputError,
        match=r"weights of torchvision:resnet18 \(random, seed 4\) differ from the weights that the store was extracted with",
    ):
        trained(tmp_path)
    assert trained(tmp_path, trunk="pool").finished  # which needs none


def test_weights_of_a_file_are_named_again(tmp_path: Path) -> None:
    model = networks.trunk("torchvision:resnet18", "random", 5).model
    save_file(
        {**model.state_dict(), "fc.weight": torch.zeros(1000, 512)}, tmp_path / "mine.safetensors"
    )
    found = networks.trunk(
        "torchvision:resnet18", str(tmp_path / "mine.safetensors")
    ).weights.to_json()
    assert found["source"] == "file mine.safetensors"
    make_store(tmp_path, **found)
    with pytest.raises(
        InputError,
        match="came from file mine.safetensors, whose path is not recorded; give TRUNK_WEIGHTS=",
    ):
        trained(tmp_path)
    run = trained(tmp_path, trunk_weights=str(tmp_path / "mine.safetensors"), lr=1e-12, epochs=1)
    after = load_file(run.path / "checkpoint.safetensors")
    torch.testing.assert_close(
        after["head.trunk.layer4.1.conv1.weight"],
        model.layer4[1].conv1.weight.detach(),
        atol=1e-6,
        rtol=0,
    )


def test_a_users_network_is_named_each_time_and_never_run_from_a_run_folder(
    tmp_path: Path,
) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    extractor = f"{tmp_path}/mine.py:build"
    torch.manual_seed(0)
    weights = networks.trunk(extractor).weights.to_json()
    path = make_store(tmp_path, "mine.build", "1", 8, **weights)
    with pytest.raises(
        InputError, match=r"your own network, build\(\) in mine.py; give EXTRACTOR="
    ):
        trained(tmp_path)
    run = trained(tmp_path, extractor=extractor)
    assert str(tmp_path / "mine.py") not in (run.path / "recipe.json").read_text()
    with pytest.raises(InputError, match="your own network"):
        load_run(run.path)
    table, own = predicted(run.path, path, extractor=extractor), run.scores("test")
    rows = [table.video_ids.index(name) for name in own.video_ids]
    np.testing.assert_allclose(table.logits[rows], own.logits, atol=1e-5)
    (tmp_path / "mine.py").write_text(
        OWN.replace("nn.ReLU()", "nn.Tanh()")
    )  # the same weights, another network
    for use in (
        lambda: trained(tmp_path, extractor=extractor, seed=(1,)),
        lambda: load_run(run.path, extractor),
    ):
        with pytest.raises(InputError, match="this file has changed since the store was extracted"):
            use()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"head": "rrn", "trunk": "pool"},
            "TRUNK=pool has no residual blocks for temporal skips",
        ),
        (
            {"head": "rrn", "context": 3},
            "SKIPS=layer3.1 layer4.1: all of these blocks must come after layer4.0",
        ),
        ({"head": "rrn", "skips": ("layer4.0",)}, "SKIP=identity needs .* but layer4.0"),
        (
            {"head": "rlstm", "pca": 3},
            "PCA=3: PCA cannot be applied to feature maps, which HEAD=rlstm takes",
        ),
    ],
)
def test_mistakes_get_one_clear_line(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    make_store(tmp_path)
    with pytest.raises(InputError, match=line) as error:
        trained(tmp_path, **changes)
    assert "\n" not in str(error.value)
