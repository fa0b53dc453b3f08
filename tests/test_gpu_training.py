"""Training, pretraining and prediction on the simulated device of the real data (gpu/README.md),
and deterministic algorithms."""

import warnings
from pathlib import Path

import pytest
import test_pretrain
import test_streaming
import test_train_maps
import torch
from simulated_gpu import run_on_simulated_gpu
from test_predict import encode
from tiny_networks import LAYERED

from reelbank.heads.training.repeatable import notes_on, repeatable

COMMANDS = """
import numpy as np
import reelbank
from reelbank.data.store.reader import Store
from reelbank.fusion.predict import predict
from reelbank.heads.models.registry import HEADS
from reelbank.heads.pretraining.plan import PretrainOptions
from reelbank.heads.pretraining.pretrain import pretrain_on

quick = ["EPOCHS=1", "OPTIMISER=adam", "BATCH=8"]
on_maps = ["rrn", "rlstm", "tsn"]
for bank, heads in (("vectors", [name for name in HEADS if name not in on_maps[:2]]), ("maps", on_maps)):
    for head in heads:
        options = ["COMPONENTS=2"] if head == "fisher" else quick
        command = ["train", f"BANK={bank}", f"HEAD={head}", "DEVICE=cuda", *options]
        assert reelbank.main(command) == 0, command

with Store.open("pixels/stores/made-pixels.h5") as store:
    assert pretrain_on(store, PretrainOptions(
        bank="pixels", extractor="tiny.py:build", dataset="folder", stream="rgb", epochs=1, batch=6, device="cuda",
    )) == 0

small = ["EXTRACTOR=tiny.py:build", "RESIZE=20", "SIZE=16", "T=2", "CROPS=1", "COMPILE=0", "WORKERS=1"]
assert reelbank.main(["extract", "DATASET=folder", "ROOT=videos", "DEVICE=cuda", *small]) == 0
assert reelbank.main(["train", "HEAD=meanpool", "DEVICE=cuda", "VALIDATION=0", *quick]) == 0
(run,) = reelbank.find_runs("bank")
of_cpu, of_gpu = (
    predict("videos", run.path, device=device, workers=1, extractor="tiny.py:build") for device in ("cpu", "cuda")
)
assert of_cpu.video_ids == of_gpu.video_ids
np.testing.assert_allclose(of_gpu.logits, of_cpu.logits, atol=1e-3)
"""


@pytest.mark.long
def test_all_heads_pretraining_and_prediction_keep_the_rules_of_a_gpu(tmp_path: Path) -> None:
    test_streaming.make_store(tmp_path / "vectors" / "stores" / "a.h5", views=1)
    test_train_maps.make_store(tmp_path / "maps")
    test_pretrain.make_pixels(tmp_path / "pixels")
    (tmp_path / "tiny.py").write_text(LAYERED)
    for number in range(8):
        label = ("left", "down")[number % 2]
        encode(tmp_path / "videos" / label / f"clip_g0{number // 2}_c01.avi", number, 5)
    run_on_simulated_gpu(tmp_path, COMMANDS)


def test_on_a_gpu_algorithms_are_deterministic_and_exceptions_are_noted() -> None:
    x = torch.zeros(3)
    with (
        pytest.warns(UserWarning, match="another warning"),
        repeatable(torch.device("cuda")) as found,
    ):
        assert torch.are_deterministic_algorithms_enabled()
        for _ in range(2):
            x.put_(torch.tensor([0]), torch.tensor([1.0]))  # has no deterministic algorithm
        warnings.warn("another warning", stacklevel=1)
    assert found == ["put_"]
    assert not torch.are_deterministic_algorithms_enabled()
    (note,) = notes_on(found)
    assert "put_" in note and notes_on([]) == ()


def test_on_the_cpu_nothing_changes() -> None:
    with repeatable(torch.device("cpu")) as found:
        assert not torch.are_deterministic_algorithms_enabled()
    assert found == []
