"""TRACK=tensorboard: the figures of a run are read back by TensorBoard's own reader, and a tracker
that fails does not cost the run."""

import csv
import dataclasses
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata as hparams_metadata
from test_train import COMMAND, QUICK, epochs_in, make_store

import reelbank
from reelbank.data.errors import InputError
from reelbank.heads.runs.folder import Run, all_runs
from reelbank.heads.training.options import TrainOptions
from reelbank.heads.training.train import train_runs

torch.set_num_threads(1)  # the tensors are tiny
TRACKED = dataclasses.replace(QUICK, epochs=3, patience=0, refit=True, track="tensorboard")


def trained(bank: Path, options: TrainOptions = TRACKED) -> Run:
    if not (bank / "stores").exists():
        make_store(bank)
    (run,) = train_runs(dataclasses.replace(options, bank=str(bank)))
    return run


def events(run: Run) -> EventAccumulator:
    reader = EventAccumulator(str(run.path / "tensorboard"))
    reader.Reload()
    return reader


def scalars(reader: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in reader.Scalars(tag)]


def column(run: Run, file: str, name: str) -> list[tuple[int, float]]:
    with (run.path / file).open(newline="") as lines:
        return [(int(row["epoch"]), float(row[name])) for row in csv.DictReader(lines)]


def check_epochs(run: Run) -> None:
    """Each epoch of both trainings once, with the figures of the history."""
    reader = events(run)
    for prefix, file, columns in (
        (
            "",
            "history.csv",
            {
                "loss/training": "train_loss",
                "loss/validation": "validation_loss",
                "accuracy/training": "train_accuracy",
                "accuracy/validation": "validation_accuracy",
                "learning_rate": "lr",
            },
        ),
        (
            "refit/",
            "refit-history.csv",
            {
                "loss/training": "train_loss",
                "accuracy/training": "train_accuracy",
                "learning_rate": "lr",
            },
        ),
    ):
        for tag, name in columns.items():
            expected = column(run, file, name)
            found = scalars(reader, prefix + tag)
            assert [step for step, _ in found] == [epoch for epoch, _ in expected]
            values = [value for _, value in expected]
            assert [value for _, value in found] == pytest.approx(values, rel=1e-6)
    assert "refit/loss/validation" not in reader.Tags()["scalars"]


def test_tensorboard_reads_every_epoch_the_results_and_the_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(tmp_path)
    untracked = "note: 1 run finished before, so TRACK=tensorboard does not send the figures"
    assert untracked not in capsys.readouterr().out
    trained(tmp_path)
    assert untracked in capsys.readouterr().out
    check_epochs(run)
    reader = events(run)
    assert run.metrics.test is not None and run.metrics.test.top1 is not None
    ((_, test),) = scalars(reader, "test/top1")
    assert test == pytest.approx(run.metrics.test.top1)
    assert {"validation/top1", "train/top1", "best_epoch"} <= set(reader.Tags()["scalars"])
    session = reader.SummaryMetadata(hparams_metadata.SESSION_START_INFO_TAG)
    start = hparams_metadata.parse_session_start_info_plugin_data(session.plugin_data.content)
    options = {
        name: value.string_value or value.number_value for name, value in start.hparams.items()
    }
    assert options["head"] == "meanpool" and options["training.lr"] == 0.01
    assert options["training.batch"] == 8 and options["classes"] == "jump run sit wave"


def test_the_tracker_is_not_a_part_of_the_recipe(tmp_path: Path) -> None:
    run = trained(tmp_path)
    without = dataclasses.replace(TRACKED, track="")
    assert trained(tmp_path / "other", without).path.name == run.path.name
    assert trained(tmp_path, without).path == run.path  # finished already


def test_a_run_that_is_trained_again_is_in_tensorboard_once(tmp_path: Path) -> None:
    run = trained(tmp_path)
    (run.path / "metrics.json").unlink()
    check_epochs(trained(tmp_path))


def test_a_tracker_that_fails_does_not_cost_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = trained(tmp_path / "other").path.name
    folder = tmp_path / "runs" / name
    folder.mkdir(parents=True)
    (folder / "tensorboard").write_text("a file, so that no event file can be written")
    capsys.readouterr()
    run = trained(tmp_path)
    assert run.finished and run.path == folder
    assert run.metrics.test == trained(tmp_path / "other").metrics.test
    (note,) = run.metrics.notes or ()
    assert note.startswith("TRACK=tensorboard failed, so not all figures of this run were sent (")
    assert f"note: {note}; training continues" in capsys.readouterr().out


def test_a_missing_package_ends_the_command_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    make_store(tmp_path)
    with pytest.raises(InputError, match=r"pip install 'reelbank\[tensorboard\]'$"):
        trained(tmp_path)
    assert not all_runs(tmp_path)


def test_a_sweep_tracks_each_run(tmp_path: Path) -> None:
    make_store(tmp_path)
    words = ("HEAD=meanpool", "EPOCHS=2", "LR=0.01 0.02", "BATCH=8", "DEVICE=cpu", "REFIT=0")
    assert reelbank.main(["sweep", f"BANK={tmp_path}", *words, "TRACK=tensorboard"]) == 0
    runs = all_runs(tmp_path)
    assert len(runs) == 2
    for run in runs:
        rates = [value for _, value in scalars(events(run), "learning_rate")]
        assert rates == pytest.approx(2 * [run.recipe["training"]["lr"]])


@pytest.mark.long
def test_a_run_that_was_killed_is_in_tensorboard_as_one_that_was_not(tmp_path: Path) -> None:
    make_store(tmp_path)
    words = ["HEAD=gru", "BATCH=2", "EPOCHS=15", "PATIENCE=0", "DEVICE=cpu", "TRACK=tensorboard"]
    run = [sys.executable, "-c", COMMAND, "train", f"BANK={tmp_path}", *words]
    with subprocess.Popen(run, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while epochs_in(tmp_path, "state.safetensors") < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert reelbank.main(["train", f"BANK={tmp_path}", *words]) == 0
    (resumed,) = all_runs(tmp_path)
    check_epochs(resumed)


@pytest.mark.long
def test_runs_in_worker_processes_are_tracked(tmp_path: Path) -> None:
    make_store(tmp_path)
    options = dataclasses.replace(TRACKED, bank=str(tmp_path), seed=(0, 1), workers=2)
    runs = train_runs(options)
    assert len(runs) == 2
    for run in runs:
        check_epochs(run)
