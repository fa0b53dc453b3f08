"""INIT=<run>: a head starts from another run's weights."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_train_maps import make_store as make_maps

from reelbank.data.errors import InputError
from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter
from reelbank.fusion.evaluation.experiments import grouped
from reelbank.fusion.evaluation.options import Selection
from reelbank.fusion.evaluation.selection import select
from reelbank.heads.runs.folder import Run, find_runs, load_run
from reelbank.heads.training.options import TrainOptions
from reelbank.heads.training.train import train_runs

torch.set_num_threads(1)  # the tensors are small
CLASSES = ("jump", "run", "sit")
STILL = 1e-30  # a learning rate that changes no weight
OPTIONS = TrainOptions(head="gru", layers=1, hidden=4, znorm=False, epochs=2, device="cpu")


def make_store(
    bank: Path, stream: str, features: int = 6, classes: tuple[str, ...] = CLASSES, parts: str = ""
) -> Path:
    """3 classes x 4 groups x 2 clips of vectors; split 1 tests group 0, split 2 group 1. parts
    "turned": split 1 tests group 1 and split 2 group 0."""
    dataset = DatasetDescription("made", classes, ("1", "2"), {})
    recipe = {"stream": stream, "extractor": "torchvision:resnet18"}
    rng, videos = np.random.default_rng(len(stream)), []
    tested = (1, 0) if parts == "turned" else (0, 1)
    with StoreWriter(bank / "stores" / f"{stream}.h5", recipe, dataset) as writer:
        for number in range(24):
            group = number // 6
            label = classes[number % 3]
            videos.append(
                StoredVideo(
                    id=f"v{number:02d}",
                    label=label,
                    group=f"g{group}",
                    parts=tuple("test" if group == one else "train" for one in tested),
                )
            )
            writer.add(videos[-1], rng.normal(size=(5, features)), np.arange(5.0))
        assert writer.finish(videos)
    return writer.path


def trained(bank: Path, stream: str, **changes: Any) -> list[Run]:
    options = {"bank": str(bank), "stream": stream, "dataset": "made", **changes}
    return train_runs(dataclasses.replace(OPTIONS, **options))


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.path / "checkpoint.safetensors")


def test_a_head_starts_from_the_weights_of_the_run_and_its_recipe_says_so(tmp_path: Path) -> None:
    for stream in ("rgb", "flow"):
        make_store(tmp_path, stream)
    (rgb,) = trained(tmp_path, "rgb", lr=0.05)
    (new,) = trained(tmp_path, "flow", lr=STILL)
    (flow,) = trained(tmp_path, "flow", lr=STILL, init=(rgb.path.name,))
    assert "initial" not in new.recipe and "initial" not in rgb.recipe
    assert flow.recipe["initial"]["sha256"] == rgb.signature
    assert flow.path != new.path
    for name, value in weights(rgb).items():
        torch.testing.assert_close(weights(flow)[name], value)
    assert any(not torch.equal(weights(new)[name], value) for name, value in weights(rgb).items())
    (again,) = trained(tmp_path, "flow", lr=STILL, init=(rgb.signature[:10],))
    assert again.path == flow.path
    load_run(flow.path)


@pytest.mark.long
def test_a_network_on_flow_starts_from_the_trained_network_on_pictures(tmp_path: Path) -> None:
    head = {"head": "rlstm", "optimiser": "adam", "refit": False, "stream": "rgb"}
    head |= {"layers": None, "hidden": 0, "znorm": None}
    make_maps(tmp_path)
    (rgb,) = trained(tmp_path, lr=1e-2, **head)
    (flow,) = trained(tmp_path, lr=STILL, init=(rgb.path.name,), norm_momentum=1e-9, **head)
    for name, value in weights(rgb).items():
        if value.is_floating_point():  # not the number of batches that a norm has seen
            torch.testing.assert_close(weights(flow)[name], value, rtol=1e-3, atol=1e-5)
    (local,) = trained(tmp_path, lr=1e-2, branches="local", **head)
    with pytest.raises(InputError, match=r"head_options.branches: local, not both"):
        trained(tmp_path, lr=STILL, init=(local.path.name,), **head)


def test_each_split_starts_from_its_own_run_and_all_are_one_experiment(tmp_path: Path) -> None:
    for stream in ("rgb", "flow"):
        make_store(tmp_path, stream)
    rgb = trained(tmp_path, "rgb", split=("1", "2"))
    flow = trained(
        tmp_path, "flow", split=("all",), init=tuple(run.path.name for run in reversed(rgb))
    )
    assert [run.recipe["initial"]["sha256"] for run in flow] == [run.signature for run in rgb]
    plain = trained(tmp_path, "flow", split=("1", "2"))
    chosen = tuple(run.path.name for run in [*flow, *plain])
    groups = grouped(select(Selection(bank=str(tmp_path), runs=chosen), "test").entries)
    assert [len(group.entries) for group in groups] == [2, 2]
    assert "of " in groups[0].detail


def test_what_the_run_saw_is_part_of_what_the_new_run_saw(tmp_path: Path) -> None:
    for stream in ("rgb", "flow"):
        make_store(tmp_path, stream)
    (rgb,) = trained(tmp_path, "rgb")
    (flow,) = trained(tmp_path, "flow", init=(rgb.path.name,), refit=False)
    saw = {}
    for run in (rgb, flow):
        with Store.open(run.path / "embeddings.h5") as store:
            saw[run.path] = store.recipe["weights"]["saw"]
    assert saw[flow.path]["before"] == saw[rgb.path]
    assert any("INIT" in note and "REFIT=0" in note for note in flow.metrics.notes)
    (honest,) = trained(tmp_path, "rgb", refit=False)
    (flow,) = trained(tmp_path, "flow", init=(honest.path.name,), refit=False)
    assert not any("INIT" in note for note in flow.metrics.notes)


def test_a_run_that_does_not_fit_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    for stream in ("rgb", "flow"):
        make_store(tmp_path, stream)
    (rgb,) = trained(tmp_path, "rgb", epochs=1)
    init = {"init": (rgb.path.name,)}
    for changes, message in (
        ({"split": ("2",)}, "INIT must contain exactly one run to start from for split 2"),
        (
            {"hidden": 5},
            r"the weights of this run do not fit the new head \(head_options.hidden: 4, not 5\)",
        ),
        ({"head": "lstm"}, r"\(head: gru, not lstm\)"),
        (
            {"classes": ("run", "sit")},
            "trained on 3 classes, which differ from the 2 classes of the new run",
        ),
        (
            {"init": ("nothing",)},
            "INIT=nothing: the run name 'nothing' must match exactly one finished run",
        ),
    ):
        with pytest.raises(InputError, match=message):
            trained(tmp_path, "flow", **{**init, **changes})
    make_store(tmp_path, "wide", features=7)
    with pytest.raises(InputError, match=r"\(features: 6, not 7\)"):
        trained(tmp_path, "wide", **init)
    trained(tmp_path, "flow", dropout=0.5, epochs=1, **init)
    assert len(find_runs(tmp_path)) == 2
    with pytest.raises(InputError, match="INIT=.*: has no effect because this head fits Gaussian"):
        fisher = {"head": "fisher", "layers": None, "hidden": 0, "znorm": None, "epochs": 60}
        trained(tmp_path, "flow", **fisher, **init)


def test_weights_that_have_seen_test_videos_are_refused(tmp_path: Path) -> None:
    make_store(tmp_path, "rgb")
    (rgb,) = trained(tmp_path, "rgb", epochs=1)
    shutil.rmtree(tmp_path / "stores")
    make_store(tmp_path, "flow", parts="turned")
    with pytest.raises(
        InputError, match="6 of the 6 test videos of split 1 were used to train this run"
    ):
        trained(tmp_path, "flow", init=(rgb.path.name,))
