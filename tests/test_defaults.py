"""The defaults of `train`: when a training stops, what earlier defaults named, and the progress that is
shown."""

import csv
import dataclasses
import io
import json
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_train import made_history, make_store, trained
from tqdm import tqdm

from reelbank.data.errors import InputError
from reelbank.data.options import parse
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter
from reelbank.heads.recipe import Training
from reelbank.heads.runs.folder import Run
from reelbank.heads.training.fit import best_epoch, finished
from reelbank.heads.training.options import TrainOptions
from reelbank.heads.training.planning.filled import with_defaults
from reelbank.heads.training.train import train_runs

torch.set_num_threads(1)  # the tensors are tiny


def hard_store(bank: Path) -> None:
    """4 classes x 6 groups of one video with 4 rows of 32 features, whose noise is far stronger than
    the difference between classes. The validation part has 4 videos, so its accuracy has steps of 25
    points, and the 16 other training videos are one batch."""
    rng = np.random.default_rng(0)
    centres, videos = rng.normal(size=(4, 32)), []
    dataset = DatasetDescription(name="made", classes=list("abcd"), splits=["1"], coarse={})
    recipe = {"stream": "rgb", "extractor": "made"}
    with StoreWriter(bank / "stores" / "hard.h5", recipe, dataset) as writer:
        for number, label in enumerate("abcd"):
            for group in range(6):
                part = "test" if group == 0 else "train"
                name = f"{number}/{group}"
                videos.append(StoredVideo(name, label, f"g{group}", [part], source={}))
                values = centres[number] + 5 * rng.normal(size=(4, 32))
                writer.add(videos[-1], values, np.arange(4.0))
        assert writer.finish(videos)


def ran(bank: Path, **changes: Any) -> Run:
    options = TrainOptions(head="gru", lr=2e-3, seed=(3,), refit=False, device="cpu")
    (run,) = train_runs(dataclasses.replace(options, bank=str(bank), **changes))
    return run


def history(run: Run) -> list[dict[str, float]]:
    with (run.path / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{key: float(value) for key, value in row.items() if value} for row in rows]


def test_a_coarse_accuracy_does_not_end_a_training_whose_loss_falls(tmp_path: Path) -> None:
    """By chance, the accuracy is high in the first epoch. It falls, and is as high again with a lower
    loss in epoch 5, the last that is better than all before it."""
    hard_store(tmp_path)
    early = ran(tmp_path, patience=3)
    assert (early.metrics.epochs, early.metrics.best_epoch) == (4, 1)
    usual = ran(tmp_path)
    assert (usual.metrics.epochs, usual.metrics.best_epoch) == (60, 5)  # fewer than 100 steps
    chosen, first = (history(usual)[number] for number in (4, 0))
    assert chosen["validation_loss"] < first["validation_loss"]
    assert chosen["validation_accuracy"] >= first["validation_accuracy"]
    shorter = ran(tmp_path, patience_steps=20)
    assert (shorter.metrics.epochs, shorter.metrics.best_epoch) == (25, 5)


def test_training_waits_for_steps_and_for_epochs() -> None:
    """The accuracy is highest in epoch 1 and the loss is lowest in epoch 4."""
    training = Training(
        *("adam", 1e-3, 0.0, 8),
        epochs=50,
        schedule="constant",
        lr_drops=(),
        patience=3,
        seed=0,
        patience_steps=10,
    )
    losses = [2.0, 1.9, 1.8, 1.7, 1.7, *[1.8] * 5]
    past = made_history([0.5, *[0.4] * 9], losses)
    assert best_epoch(past) == 1

    def last(training: Training, steps: int) -> int:
        return next(n for n in range(1, 11) if finished(training, past[:n], steps))

    assert last(training, steps=2) == 9  # 5 epochs are 10 steps
    assert last(training, steps=3) == 8  # 4 epochs are 12 steps
    assert last(training, steps=100) == 7  # 3 epochs are the fewest
    assert last(dataclasses.replace(training, patience_steps=0), steps=2) == 4  # since epoch 1
    higher = made_history([0.5, *[0.4] * 6, 0.6, 0.4, 0.4], losses)
    assert not finished(training, higher, steps=2)
    unvalidated = [dataclasses.replace(one, validation_loss=None) for one in past]
    assert not finished(training, unvalidated, steps=100)


def test_earlier_defaults_find_earlier_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_store(tmp_path)
    (former,) = trained(tmp_path, patience=3)
    capsys.readouterr()
    (usual,) = trained(tmp_path)
    assert f"{former.path.name} was trained with the defaults of earlier versions" in (
        printed := capsys.readouterr().out
    )
    assert "add PATIENCE=3 to use it" in printed
    assert trained(tmp_path, patience=3) == []  # it is found
    assert trained(tmp_path) == []
    assert "earlier versions" not in capsys.readouterr().out
    recipes = [run.recipe["training"] for run in (former, usual)]
    assert recipes[0] | {"patience_steps": 100} == recipes[1]
    assert "patience_steps" not in recipes[0]
    (former.path / "metrics.json").rename(former.path / "state.safetensors")  # as if killed
    shutil.rmtree(usual.path)
    assert len(trained(tmp_path)) == 1
    assert f"{former.path.name} is partly trained with" in capsys.readouterr().out
    # A training that cannot stop early has one name.
    for changes in ({"epochs": 3}, {"validation": 0.0}):
        assert len(trained(tmp_path, patience=3, **changes)) == 1
        assert trained(tmp_path, **changes) == []


def test_a_wait_that_never_ends_has_no_steps(tmp_path: Path) -> None:
    make_store(tmp_path)
    with pytest.raises(InputError, match="PATIENCE_STEPS=20: has no effect with PATIENCE=0"):
        trained(tmp_path, patience=0, patience_steps=20)


@pytest.mark.parametrize("system", ["reslstm", "rrn", "mrrn", "multistream", "rlstm"])
def test_recipes_of_papers_state_their_patience(system: str) -> None:
    options = parse(TrainOptions, [f"RECIPE={system}"], "train")
    assert options.patience is not None and options.patience_steps is None
    assert with_defaults(options).patience_steps == 0


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_the_progress_of_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    (run,) = trained(tmp_path, refit=True)
    shown = terminal.getvalue()
    for row in history(run):
        epoch, loss = int(row["epoch"]), row["train_loss"]
        accuracy = 100 * row["validation_accuracy"]
        assert f"epoch={epoch}/6, loss={loss:.3f}, validation={accuracy:.1f} %" in shown
    # time, time left and rate; the training part has 24 videos
    assert re.search(r"24/144 \[\d\d:\d\d<\d\d:\d\d, +[\d.]+ ?sequences/s, epoch=1/6", shown)
    assert f"refit-{run.path.name}" in shown  # without a validation part
    best = json.loads((run.path / "metrics.json").read_text())["best_epoch"]
    assert re.search(rf"epoch={best}/{best}, loss=[\d.]+\]", shown)


@pytest.mark.parametrize("reason", ["no terminal", "TQDM_DISABLE"])
def test_the_progress_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    errors = io.StringIO() if reason == "no terminal" else Terminal()
    monkeypatch.setattr("sys.stderr", errors)
    if reason == "TQDM_DISABLE":  # tqdm reads it when it is imported
        monkeypatch.setattr("reelbank.heads.training.run.tqdm", partial(tqdm, disable=True))
    assert len(trained(tmp_path)) == 1
    assert not errors.getvalue()
