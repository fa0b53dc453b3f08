"""Evaluating many runs: their score tables stay on disk, and the results are those of whole
tables."""

import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_runs import CLASSES, made_run, made_scores

import reelbank
from reelbank.data.scores import table as score_tables
from reelbank.data.scores.top_k import best_classes, in_top_k
from reelbank.data.text_files import csv_file, csv_rows
from reelbank.fusion.evaluation.options import Selection
from reelbank.fusion.evaluation.selection import select
from reelbank.fusion.evaluation.significance import calibration
from reelbank.fusion.metrics import accuracy, category_accuracies, class_figures, confusion


@pytest.mark.parametrize("several", [False, True])
def test_the_figures_of_a_run_are_those_of_its_whole_table(tmp_path: Path, several: bool) -> None:
    made_run(tmp_path, several=several)
    (entry,) = select(Selection(bank=str(tmp_path)), "test", judged_at_once=True).entries
    scores = entry.scores
    np.testing.assert_array_equal(entry.table.class_figures.values, class_figures(scores).values)
    np.testing.assert_array_equal(entry.table.class_figures.videos, class_figures(scores).videos)
    if not several:
        assert entry.figure == accuracy(scores)
        assert entry.table.accuracy(3) == accuracy(scores, 3)
        np.testing.assert_array_equal(entry.table.confusion(), confusion(scores))
        shares = category_accuracies(scores, entry.coarse)
        assert entry.table.category_accuracies(entry.coarse) == shares
        whole = calibration(scores)
        assert entry.table.calibration[:3] == whole[:3]
        np.testing.assert_array_equal(entry.table.calibration.bins, whole.bins)


def test_videos_without_a_label_do_not_count(tmp_path: Path) -> None:
    scores = made_scores(50, 2.0, about={"part": "test", "head": "some"})
    labels = scores.labels.copy()
    labels[:20] = -1
    score_tables.save(replace(scores, labels=labels), tmp_path / "some.npz")
    selection = Selection(bank=str(tmp_path), runs=(str(tmp_path / "some.npz"),))
    (entry,) = select(selection, "test").entries
    assert entry.table.evaluated_ids == scores.video_ids[20:]
    assert entry.figure == accuracy(entry.scores) and entry.figure.videos == 30
    assert entry.table.calibration[:3] == calibration(entry.scores)[:3]


def test_a_table_that_left_memory_is_read_again(tmp_path: Path) -> None:
    classes = tuple(f"class {number}" for number in range(200))
    for seed in range(5):  # of 24 MB each, more than stays in memory
        scores = made_scores(30_000, 3.0, classes, about={"part": "test", "seed": seed}, noise=seed)
        score_tables.save(scores, tmp_path / f"s{seed}.npz")
    words = tuple(str(tmp_path / f"s{seed}.npz") for seed in range(5))
    entries = select(Selection(bank=str(tmp_path), runs=words), "test").entries
    for entry, word in zip(entries, words, strict=True):
        np.testing.assert_array_equal(entry.scores.logits, score_tables.load(word).logits)


def test_the_columns_of_a_table_follow_the_first_run(tmp_path: Path) -> None:
    first = made_scores(40, 1.0, about={"part": "test", "name": "one model", "seed": 0})
    score_tables.save(first, tmp_path / "a.npz")
    order = [3, 1, 5, 0, 2, 4]
    turned = replace(
        first,
        classes=tuple(CLASSES[number] for number in order),
        logits=first.logits[:, order],
        labels=np.argsort(order)[first.labels],
    )
    score_tables.save(turned, tmp_path / "b.npz")
    words = [str(tmp_path / name) for name in ("a.npz", "b.npz")]
    tables = [
        reelbank.evaluate(runs=[word], bank=tmp_path, out=str(tmp_path / "x.csv")).tables[0]
        for word in words
    ]
    # As text, because NaN (the deviation of one run) is not equal to itself.
    assert str(tables[0].models[0].figure) == str(tables[1].models[0].figure)
    assert tables[0].models[0].classes == tables[1].models[0].classes


def test_ranks_of_many_videos_are_those_of_a_sort() -> None:
    rng = np.random.default_rng(0)
    logits = rng.integers(9, size=(3000, 23)).astype(np.float32)  # many blocks, many ties
    labels = rng.integers(23, size=3000)
    for k in (1, 2, 5, 22):
        listed = (best_classes(logits, k) == labels[:, None]).any(axis=1)
        np.testing.assert_array_equal(in_top_k(logits, labels, k), listed)


def test_rows_that_begin_alike_are_written_like_others(tmp_path: Path) -> None:
    start = ('a "quoted", cell', "=1+1", 0.25)
    rows = [("@x", 1), ("line\nbreak", None), ("", -2.5)]
    for path, is_prefixed in ((tmp_path / "a.csv", False), (tmp_path / "b.csv", True)):
        with csv_file(path) as writer:
            if is_prefixed:
                writer.after(start).writerows(rows)
            else:
                writer.writerows((*start, *row) for row in rows)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert next(csv_rows((tmp_path / "b.csv").read_text()))[0] == start[0]


def test_evaluate_and_runs_do_not_import_torch_or_scipy(tmp_path: Path) -> None:
    """Importing them takes longer than evaluating a hundred runs."""
    made_run(tmp_path)
    code = f"""
import sys, reelbank
for words in (["runs", {f"BANK={tmp_path}"!r}], ["evaluate", {f"BANK={tmp_path}"!r}]):
    assert reelbank.main(words) == 0
sys.exit(", ".join({{"torch", "scipy", "sklearn"}} & set(sys.modules)) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_the_memory_of_evaluate_does_not_grow_with_tables(tmp_path: Path) -> None:
    """100 runs with 160 MB of scores need less than 100 MB more than 2 runs."""
    classes = tuple(f"class {number:03}" for number in range(200))
    peaks = []
    for count in (2, 100):
        bank = tmp_path / str(count)
        for seed in range(count):
            made_run(bank, seed=seed, videos=2000, classes=classes)
            for part in ("train", "validation"):
                for path in bank.glob(f"runs/*/scores-{part}.npz"):
                    path.unlink()
        code = f"""
import resource, reelbank
assert reelbank.main(["evaluate", "BANK={bank}"]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout.splitlines()[-1]))
        with (bank / "reports" / "evaluation-test.csv").open(newline="") as file:
            runs = {row["run"] for row in csv.DictReader(file)}
        assert len(runs) == count
    assert peaks[1] - peaks[0] < 100
