"""Several labels a video: average precision against scikit-learn's, score tables, and stage three on them."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import made_run
from sklearn.metrics import average_precision_score

from reelbank.data import scores as score_tables
from reelbank.data.errors import InputError
from reelbank.data.precision import Ranking, mean_average_precision
from reelbank.data.scores import Scores
from reelbank.fusion.evaluate import EvaluateOptions, evaluate
from reelbank.fusion.late import fuse
from reelbank.fusion.metrics import figure
from reelbank.fusion.report import ReportOptions, report

CLASSES = ("cook", "dress", "eat")


def table(videos: int = 40, seed: int = 0, values: int = 0, about: dict | None = None) -> Scores:
    """Random multi-label scores; `values`: so many different ones, so that many are equal."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((videos, 3)) < 0.3).astype(np.uint8)
    logits = rng.normal(size=(videos, 3)) + labels
    logits = np.round(logits * values) / values if values else logits
    return Scores(tuple(f"v{n}" for n in range(videos)), labels, CLASSES, logits, about or {})


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(0, 10_000), st.integers(0, 2), st.booleans())
def test_average_precision_is_scikit_learns(videos: int, seed: int, values: int, weighted: bool) -> None:
    made = table(videos, seed, values)
    weights = np.random.default_rng(seed).multinomial(videos, [1 / videos] * videos) if weighted else None
    found = Ranking(made.labels, made.logits).average_precisions(weights)
    for number in range(3):
        positive = made.labels[:, number].astype(bool)
        if not (positive if weights is None else positive & (weights > 0)).any():
            assert np.isnan(found[number])
            continue
        expected = average_precision_score(positive, made.logits[:, number], sample_weight=weights)
        assert found[number] == pytest.approx(expected, abs=1e-9)


def test_classes_without_positives_are_left_out_and_counted_and_no_action_is_negative() -> None:
    labels = np.array([[1, 0, 1], [0, 0, 1], [0, 0, 0]])
    logits = np.array([[2.0, 0.0, 3.0], [1.0, 0.0, 1.0], [3.0, 9.0, 2.0]])  # the last has no action and ranks first in class 0
    found = mean_average_precision(labels, logits)
    # class 0: its one positive is second, 1/2; class 2: first and third, (1 + 2/3) / 2
    assert found.value == pytest.approx((1 / 2 + (1 + 2 / 3) / 2) / 2) and (found.counted, found.without) == (2, 1)
    nothing = mean_average_precision(np.zeros((3, 3)), logits)
    assert np.isnan(nothing.value) and (nothing.counted, nothing.without) == (0, 3)
    assert mean_average_precision(np.ones((3, 3)), logits).value == 1


def test_a_table_is_saved_and_joined_by_name(tmp_path: Path) -> None:
    made = table()
    score_tables.save(made, tmp_path / "a.npz")
    read = score_tables.load(tmp_path / "a.npz")
    assert read.multilabel and read.labels.dtype == np.uint8
    np.testing.assert_array_equal(read.labels, made.labels)
    rows, columns = np.random.default_rng(1).permutation(40), [2, 0, 1]
    other = Scores(
        tuple(made.video_ids[row] for row in rows),
        made.labels[rows][:, columns],
        tuple(CLASSES[c] for c in columns),
        made.logits[rows][:, columns],
    )
    joined = score_tables.join([made, other])[1]
    np.testing.assert_array_equal(joined.labels, made.labels)
    np.testing.assert_array_equal(joined.logits, made.logits)
    wrong = made.labels.copy()
    wrong[3] = 1 - wrong[3]
    with pytest.raises(InputError, match="give 1 videos different labels: v3"):
        score_tables.join([made, Scores(made.video_ids, wrong, CLASSES, made.logits)])
    with pytest.raises(InputError, match="one has a single label a video, the other several"):
        score_tables.join([made, Scores(made.video_ids, np.zeros(40, int), CLASSES, made.logits)])


def test_labels_that_are_none_are_refused(tmp_path: Path) -> None:
    made = table()
    for labels, line in (
        (made.labels + 1, "must be 0 or 1"),
        (made.labels[:, :2], "need labels"),
        (made.labels * 0.5, "whole"),
    ):
        with pytest.raises(InputError, match=line):
            Scores(made.video_ids, labels, CLASSES, made.logits)
    score_tables.save(made, tmp_path / "a.npz")
    arrays = dict(np.load(tmp_path / "a.npz"))
    for labels in (made.labels.astype(np.float32), made.labels[:5], made.labels.astype(np.int64)):
        np.savez(tmp_path / "b.npz", **arrays | {"labels": labels})
        with pytest.raises(InputError, match="not a readable scores file"):
            score_tables.load(tmp_path / "b.npz")


def test_probabilities_are_sigmoids() -> None:
    made = table()
    np.testing.assert_allclose(score_tables.probabilities(made), 1 / (1 + np.exp(-made.logits.astype(float))), atol=1e-12)


def test_fusion_of_several_labels_by_hand() -> None:
    one, other = table(), table()
    other = Scores(one.video_ids, one.labels, CLASSES, -0.5 * one.logits + 1)
    p, q = (score_tables.probabilities(each) for each in (one, other))
    mixed = score_tables.probabilities(fuse([one, other], "sum", [3, 1]))
    np.testing.assert_allclose(mixed, (3 * p + q) / 4, atol=1e-6)
    product = score_tables.probabilities(fuse([one, other], "product", [2, 1]))
    np.testing.assert_allclose(product, p**2 * q / (p**2 * q + (1 - p) ** 2 * (1 - q)), atol=1e-6)
    logits = fuse([one, other], "logits", [2, 1]).logits
    np.testing.assert_allclose(logits, 2 * one.logits + other.logits, atol=1e-5)


def test_interval_of_mean_average_precision() -> None:
    made = table(200)
    found = figure(made)
    assert found.value == pytest.approx(mean_average_precision(made.labels, made.logits).value)
    assert found.low < found.value < found.high and found.videos == 200 and figure(made) == found  # seeded
    wide = figure(table(30))
    assert wide.high - wide.low > found.high - found.low


def several(bank: Path) -> None:
    """Two runs of several labels and one of a single label, in one bank."""
    for seed in (0, 1):
        made_run(bank, seed=seed, head="rlstm", videos=60, several=True)
    made_run(bank, head="gru")


def test_evaluate_tells_mean_average_precision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    several(tmp_path)
    assert evaluate(EvaluateOptions(bank=str(tmp_path))) == 0
    printed = capsys.readouterr().out
    assert "mAP" in printed and "top-1" in printed  # two tables: the kinds are not mixed
    with (tmp_path / "reports" / "evaluation-test.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    (folder, _) = sorted((tmp_path / "runs").glob("rlstm-*"))
    scores = score_tables.load(folder / "scores-test.npz")
    (row,) = [row for row in rows if row["run"] == folder.name and row["measure"] == "map"]
    assert float(row["value"]) == pytest.approx(mean_average_precision(scores.labels, scores.logits).value)
    each = [float(row["value"]) for row in rows if row["run"] == folder.name and row["measure"] == "ap"]
    assert np.mean(each) == pytest.approx(float(row["value"]))


def test_the_report_shows_mean_average_precision(tmp_path: Path) -> None:
    several(tmp_path)
    assert report(ReportOptions(bank=str(tmp_path), head="rlstm", name="several")) == 0
    page = (tmp_path / "reports" / "several.html").read_text()
    assert "mAP" in page and "confus" not in page.lower() and "nan" not in page.split("<body>")[1].split("<script>")[0].lower()
    first = json.loads(next((tmp_path / "runs").glob("rlstm-*/recipe.json")).read_text())["recipe"]["classes"][0]
    assert first.replace("<b>", "&lt;b&gt;").split("&")[0] in page
