"""Sweeps: every combination once, resumed after a kill, and the best chosen only by validation."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from test_train import COMMAND, make_store

from reelbank.data.errors import InputError
from reelbank.data.options import parse
from reelbank.heads.runs.folder import all_runs, find_runs
from reelbank.heads.training import sweep as sweeping
from reelbank.heads.training.sweep import combinations, sweep
from reelbank.heads.training.sweep_options import SweepOptions

torch.set_num_threads(1)  # the tensors are tiny
QUICK = ["LR=0.01", "BATCH=8", "EPOCHS=3", "REFIT=0", "DEVICE=cpu"]


def swept(bank: Path, *words: str) -> list[dict[str, str]]:
    """Sweep on the made store of `bank`; the rows of the table."""
    if not (bank / "stores").exists():
        make_store(bank)
    assert (
        sweep(
            parse(SweepOptions, [f"BANK={bank}", f"TO={bank}/table.csv", *QUICK, *words], "sweep")
        )
        == 0
    )
    with (bank / "table.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_combination_of_words_and_lists_that_stay_whole() -> None:
    given = {"head": "gru, lstm", "hidden": "8 16", "lr_drops": "1 2", "seed": "0 1", "dataset": ""}
    assert combinations(given) == [
        {"head": head, "hidden": hidden, "lr_drops": "1 2", "seed": "0 1"}
        for head in ("gru", "lstm")
        for hidden in ("8", "16")
    ]
    with pytest.raises(InputError, match="HIDDEN=8 8 contains the same value twice"):
        combinations({"hidden": "8 8"})


def test_a_sweep_trains_each_combination_once_per_split_and_seed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = swept(
        tmp_path, "HEAD=meanpool gru", "HIDDEN=4 8", "LAYERS=1", "T=2 3", "SPLIT=all", "SEED=0 1"
    )
    assert "6 combinations, 24 runs: 0 already trained, 24 to train" in capsys.readouterr().out
    kinds = {(row["head"], row["hidden"], row["t"]) for row in rows}
    # mean pooling has no units: it is trained once for each T
    assert kinds == {("meanpool", "-", "2"), ("meanpool", "-", "3")} | {
        ("gru", h, t) for h in ("4", "8") for t in ("2", "3")
    }
    runs = find_runs(tmp_path)
    assert len(runs) == 24 and {row["runs"] for row in rows} == {"4"}
    for row in rows:
        own = [run for run in runs if run.path.name in row["names"].split()]
        assert {(run.recipe["split"], run.recipe["seed"]) for run in own} == {
            (s, n) for s in ("1", "2") for n in (0, 1)
        }
        assert {str(run.recipe["rows"]["steps"]) for run in own} == {row["t"]}
        for part in ("validation", "test"):
            mean = sum(100 * run.metrics.figure(part) for run in own) / 4
            assert float(row[part]) == pytest.approx(mean, abs=0.006)
    again = swept(
        tmp_path, "HEAD=meanpool gru", "HIDDEN=4 8", "LAYERS=1", "T=2 3", "SPLIT=all", "SEED=0 1"
    )
    assert again == rows and "24 already trained, 0 to train" in capsys.readouterr().out


def test_the_best_is_chosen_on_validation_never_on_test(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = swept(tmp_path, "HEAD=meanpool", "LR=0.01 0.001 0.0001")
    assert [row["chosen"] for row in rows] == ["yes", "", ""]
    assert float(rows[0]["validation"]) == max(float(row["validation"]) for row in rows)
    (metrics,) = (tmp_path / "runs" / rows[2]["names"] / "metrics.json",)
    text = metrics.read_text()
    head, _, test = text.partition('"test"')
    metrics.write_text(
        head + '"test"' + test.replace('"top1": ', '"top1": 1.0, "was": ', 1)
    )  # a better test figure
    again = swept(tmp_path, "HEAD=meanpool", "LR=0.01 0.001 0.0001")
    assert [row["names"] for row in again] == [row["names"] for row in rows] and float(
        again[2]["test"]
    ) == 100


def test_without_validation_nothing_is_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = swept(tmp_path, "HEAD=meanpool", "LR=0.01 0.001", "VALIDATION=0", "PATIENCE=0")
    assert [row["chosen"] for row in rows] == ["", ""] and {row["validation"] for row in rows} == {
        ""
    }
    assert "no combination is chosen" in capsys.readouterr().out


def test_what_is_of_no_use_to_any_combination_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="HIDDEN=5 6: has no effect in any of these combinations"):
        swept(tmp_path, "HEAD=meanpool tsn", "HIDDEN=5 6")
    with pytest.raises(InputError, match="VALIDATION=0.2 0.4: must be a number"):
        swept(
            tmp_path, "HEAD=meanpool", "VALIDATION=0.2 0.4"
        )  # figures of other videos do not compare


def test_options_of_another_sampling_are_left_out(tmp_path: Path) -> None:
    rows = swept(tmp_path, "HEAD=meanpool", "SAMPLING=sigma windows", "T=2", "STRIDE=1 2")
    assert {(row["sampling"], row["stride"]) for row in rows} == {
        ("sigma", "-"),
        ("windows", "1"),
        ("windows", "2"),
    }


def test_an_impossible_combination_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="PCA=17 is larger than the number of feature dimensions, which is 16"
    ):
        swept(tmp_path, "HEAD=meanpool", "PCA=4 17")
    assert not all_runs(tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_half_way_it_goes_on(tmp_path: Path, workers: int) -> None:
    words = [
        "HEAD=gru",
        "HIDDEN=4 6 8",
        "LAYERS=1",
        "SEED=0 1",
        "EPOCHS=12",
        "PATIENCE=0",
        f"WORKERS={workers}",
    ]
    make_store(tmp_path)
    command = [sys.executable, "-c", COMMAND, "sweep", f"BANK={tmp_path}", *QUICK, *words]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and finished(tmp_path) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()  # the command alone: its workers end by themselves
    process.wait()
    while group_lives(process.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not group_lives(process.pid)
    done = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/metrics.json")}
    assert process.returncode == -signal.SIGKILL and 2 <= len(done) < 6
    rows = swept(tmp_path, *words)
    assert len(rows) == 3 and finished(tmp_path) == 6
    assert all(path.stat().st_mtime_ns == then for path, then in done.items())  # not trained twice
    calm = swept(tmp_path / "calm", *words)
    figures: list[dict[str, Any]] = [
        {row["names"]: (row["validation"], row["test"]) for row in table} for table in (rows, calm)
    ]
    assert figures[0] == figures[1]


def group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def finished(bank: Path) -> int:
    return len(list(bank.glob("runs/*/metrics.json")))


def test_runs_on_the_same_rows_load_the_store_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    train_missing = sweeping.train_missing
    monkeypatch.setattr(
        sweeping,
        "train_missing",
        lambda job, *rest: (calls.append(len(job.plans)), train_missing(job, *rest)),
    )
    swept(tmp_path, "HEAD=meanpool gru", "HIDDEN=4", "LAYERS=1", "T=2 3", "SEED=0 1")
    assert calls == [4, 4]
