"""Multi-label data: average precision compared with scikit-learn's, score tables, and stage three
on them."""

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import made_run
from sklearn.metrics import average_precision_score
from test_report import Page
from test_scores import members, npy, write

from reelbank.data.errors import InputError
from reelbank.data.scores import joining as score_joining
from reelbank.data.scores import table as score_tables
from reelbank.data.scores.average_precision import Ranking, mean_average_precision
from reelbank.data.scores.table import Scores
from reelbank.fusion import metrics
from reelbank.fusion.evaluation.evaluate import EvaluateOptions, evaluate
from reelbank.fusion.fuse import FuseOptions, fuse_runs
from reelbank.fusion.late import fuse
from reelbank.fusion.metrics import figure
from reelbank.fusion.report.page import ReportOptions, report
from reelbank.heads.runs.commands import RunsOptions, runs
from reelbank.heads.runs.folder import find_runs
from reelbank.heads.training.results import part_metrics, print_results, print_run

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
def test_average_precision_is_scikit_learns(
    videos: int, seed: int, values: int, weighted: bool
) -> None:
    made = table(videos, seed, values)
    weights = (
        np.random.default_rng(seed).multinomial(videos, [1 / videos] * videos) if weighted else None
    )
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
    logits = np.array(
        [[2.0, 0.0, 3.0], [1.0, 0.0, 1.0], [3.0, 9.0, 2.0]]
    )  # the last has no action and ranks first in class 0
    found = mean_average_precision(labels, logits)
    # class 0: its one positive is second, 1/2; class 2: first and third, (1 + 2/3) / 2
    assert found.value == pytest.approx((1 / 2 + (1 + 2 / 3) / 2) / 2) and (
        found.counted,
        found.without,
    ) == (2, 1)
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
    joined = score_joining.join([made, other])[1]
    np.testing.assert_array_equal(joined.labels, made.labels)
    np.testing.assert_array_equal(joined.logits, made.logits)
    wrong = made.labels.copy()
    wrong[3] = 1 - wrong[3]
    with pytest.raises(InputError, match="have different labels for 1 videos: v3"):
        score_joining.join([made, Scores(made.video_ids, wrong, CLASSES, made.logits)])
    with pytest.raises(InputError, match="only one of them is multi-label"):
        score_joining.join([made, Scores(made.video_ids, np.zeros(40, int), CLASSES, made.logits)])


def test_an_empty_table_stays_one_of_several_labels(tmp_path: Path) -> None:
    score_tables.save(
        Scores((), np.zeros((0, 3), np.uint8), CLASSES, np.zeros((0, 3))), tmp_path / "a.npz"
    )
    read = score_tables.load(tmp_path / "a.npz")
    assert read.multilabel and read.labels.shape == (0, 3)


def test_labels_that_are_none_are_refused() -> None:
    made = table()
    for labels, line in (
        (made.labels + 1, r"labels must be 0 or 1 \(got 1 to 2\)"),
        (made.labels.astype(int) - 1, r"labels must be 0 or 1 \(got -1 to 0\)"),
        (made.labels[:, :2], r"labels must have shape \(40,\) or \(40, 3\)"),
        (made.labels * 0.5, "whole numbers"),
    ):
        with pytest.raises(InputError, match=line):
            Scores(made.video_ids, labels, CLASSES, made.logits)


def test_hostile_labels_in_a_file_are_refused(tmp_path: Path) -> None:
    made = table()
    score_tables.save(made, tmp_path / "a.npz")
    good = members(tmp_path / "a.npz")
    declared = good["labels.npy"].replace(b"(40, 3), }" + b" " * 8, b"(40000000, 3000), }")
    assert declared != good["labels.npy"]
    for labels, line in (
        (npy(made.labels.astype(np.float32)), "float32 with 2 axes"),
        (npy(made.labels.astype(np.int64)), "int64 with 2 axes"),
        (npy(made.labels[:, 0]), "uint8 with 1 axes"),
        (npy(made.labels[None]), "uint8 with 3 axes"),
        (npy(made.labels[:5]), "labels must have shape"),
        (npy(made.labels + 1), "must be 0 or 1"),
        (npy(made.labels.astype(object), allow_pickle=True), "object with 2 axes"),
        (good["labels.npy"][:-1], "declares .* bytes, but stores"),
        (declared, "declares .* bytes, but stores"),
    ):
        with pytest.raises(
            InputError, match=rf"^[^\n]*b\.npz: cannot be read as a score file \(.*{line}"
        ):
            score_tables.load(write(tmp_path / "b.npz", good | {"labels.npy": labels}))


def test_probabilities_are_sigmoids() -> None:
    made = table()
    np.testing.assert_allclose(
        score_tables.probabilities(made), 1 / (1 + np.exp(-made.logits.astype(float))), atol=1e-12
    )


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


def test_a_sum_ranks_where_probabilities_round_to_one() -> None:
    """Logits of 40 and 60 are both 1 as probabilities, yet the videos differ; and nothing
    overflows."""
    logits = np.array([[40.0], [60.0], [-200.0], [-300.0], [3e38], [-3e38]])
    sure = Scores(tuple("uvwxyz"), np.array([[0], [1], [1], [0], [1], [0]]), ("c",), logits)
    np.testing.assert_allclose(fuse([sure, sure], "sum", [1, 3]).logits, sure.logits, rtol=1e-6)


def test_fusion_of_several_labels_is_by_name() -> None:
    one, other = table(), table(seed=0, about={"name": "b"})
    turned = Scores(
        one.video_ids[::-1], one.labels[::-1, ::-1], CLASSES[::-1], -0.3 * one.logits[::-1, ::-1]
    )
    straight = Scores(one.video_ids, one.labels, CLASSES, -0.3 * other.logits)
    for how in ("sum", "product", "logits"):
        found = fuse([one, turned], how)
        np.testing.assert_array_equal(found.logits, fuse([one, straight], how).logits)
        np.testing.assert_array_equal(found.labels, one.labels)


def charades_average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Of one class as Charades_v1_classify.m has it: the precision at each positive, in the order
    of falling scores."""
    positive = labels[np.argsort(-scores, kind="stable")] == 1
    return float((np.cumsum(positive) / np.arange(1, len(positive) + 1))[positive].mean())


def test_without_videos_of_no_action_it_is_the_official_figure_of_charades() -> None:
    """docs/fusion.md: the official script ranks videos without any action last."""
    made = table(100, seed=3)
    acts = made.labels.any(axis=1)
    assert not acts.all()
    last = np.where(acts[:, None], made.logits, -np.inf)
    official = np.mean(
        [charades_average_precision(made.labels[:, c], last[:, c]) for c in range(3)]
    )
    assert mean_average_precision(made.labels[acts], made.logits[acts]).value == pytest.approx(
        official, abs=1e-12
    )
    assert mean_average_precision(made.labels, made.logits).value < official


def test_interval_of_mean_average_precision() -> None:
    made = table(200)
    found = figure(made)
    assert found.value == mean_average_precision(made.labels, made.logits).value
    assert (
        found.low < found.value < found.high and found.videos == 200 and figure(made) == found
    )  # seeded
    wide = figure(table(30))
    assert wide.high - wide.low > found.high - found.low


def test_the_interval_covers_independently_drawn_sets() -> None:
    """With few positives per class, as in Charades, the half width is 1.96 standard deviations over
    independently drawn sets of videos. (Percentiles of the resamples would lie above the value.)"""

    def drawn(seed: int) -> Scores:
        rng = np.random.default_rng(seed)
        labels = (rng.random((400, 40)) < 0.03).astype(np.uint8)
        return Scores(
            tuple(map(str, range(400))),
            labels,
            tuple(map(str, range(40))),
            rng.normal(size=(400, 40)) + labels,
        )

    spread = np.std(
        [
            mean_average_precision(each.labels, each.logits).value
            for each in map(drawn, range(100, 300))
        ],
        ddof=1,
    )
    found = [figure(drawn(seed)) for seed in range(4)]
    assert np.mean([each.high - each.low for each in found]) / 2 == pytest.approx(
        1.96 * spread, rel=0.2
    )
    assert all(each.low < each.value < each.high for each in found)


def test_no_positive_at_all_is_refused() -> None:
    nothing = Scores(("a", "b"), np.zeros((2, 3), np.uint8), CLASSES, np.zeros((2, 3)))
    with pytest.raises(
        InputError, match="the scores of 2 videos have no label, so average precision"
    ):
        figure(nothing)
    assert np.isnan(metrics.average_precisions(nothing)).all()
    assert part_metrics(nothing).to_json() == {
        "videos": 2,
        "map": None,
        "classes_counted": 0,
        "classes_without": 3,
    }


def several(bank: Path) -> list[Path]:
    """Two runs of several labels; in the bank is one of a single label too, of the same data set
    and classes."""
    made = [made_run(bank, seed=seed, head="rlstm", videos=60, several=True) for seed in (0, 1)]
    made_run(bank, head="gru")
    return made


def test_evaluate_tells_mean_average_precision(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = several(tmp_path)
    assert evaluate(EvaluateOptions(bank=str(tmp_path), per_class=True)) == 0
    printed = capsys.readouterr().out
    of_several = next(part for part in printed.split("\n\n") if "mean average precision" in part)
    tables = [score_tables.load(folder / "scores-test.npz") for folder in folders]
    found = [mean_average_precision(each.labels, each.logits).value for each in tables]
    head, line = (
        row.split() for row in of_several.splitlines() if row.startswith(("model", "rlstm"))
    )
    assert head == [
        "model",
        "runs",
        "splits",
        "seeds",
        "videos",
        "mAP",
        "95",
        "%",
        "interval",
        "classes",
    ]
    assert (
        line[3:8] == ["2", "1", "0", "1", "60"] and line[-1] == "6"
    )  # runs, split, seeds, videos ... classes
    assert f"{100 * np.mean(found):.2f} ± {100 * np.std(found, ddof=1):.2f}" in of_several
    low, high = float(line[-4]), float(line[-2])
    assert low < 100 * np.mean(found) < high
    assert f"chance is {100 * tables[0].labels.mean():.2f}" in of_several
    assert "gru" not in of_several and "top-" not in of_several  # the kinds are not mixed
    with (tmp_path / "reports" / "evaluation-test.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for folder, scores, value in zip(folders, tables, found, strict=True):
        own = [row for row in rows if row["run"] == folder.name]
        assert {row["measure"] for row in own} == {"map", "ap"}
        (row,) = [row for row in own if row["measure"] == "map"]
        assert float(row["value"]) == value and float(row["low"]) < value < float(row["high"])
        each = {row["of"]: row for row in own if row["measure"] == "ap"}
        for number, name in enumerate(scores.classes):
            expected = average_precision_score(scores.labels[:, number], scores.logits[:, number])
            assert float(each[name]["value"]) == pytest.approx(expected, abs=1e-9)
            assert (
                int(each[name]["videos"]) == scores.labels[:, number].sum()
                and each[name]["low"] == ""
            )


def test_a_class_without_positives_is_counted_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = np.array([[1, 0, 1], [0, 0, 1], [0, 0, 0]])
    logits = np.array([[2.0, 0.0, 3.0], [1.0, 0.0, 1.0], [3.0, 9.0, 2.0]])
    score_tables.save(Scores(tuple("abc"), labels, CLASSES, logits), tmp_path / "mine.npz")
    assert (
        evaluate(
            EvaluateOptions(bank=str(tmp_path), runs=(str(tmp_path / "mine.npz"),), per_class=True)
        )
        == 0
    )
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if line.startswith("mine"))
    assert (
        line.split()[5] == f"{100 * (1 / 2 + (1 + 2 / 3) / 2) / 2:.2f}" and line.split()[-1] == "2"
    )
    assert [row.split() for row in printed.splitlines() if row.startswith(CLASSES)] == [
        ["cook", "50.00"],
        ["dress", "-"],
        ["eat", "83.33"],
    ]
    assert report(ReportOptions(bank=str(tmp_path), runs=(str(tmp_path / "mine.npz"),))) == 0
    page = Page((tmp_path / "reports" / "scores.html").read_text())
    assert "66.7" in page.text and "nan" not in " ".join(page.text).lower()


def test_the_command_fuses_several_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [made_run(tmp_path, "rlstm", stream, several=True) for stream in ("flow", "rgb")]
    assert fuse_runs(FuseOptions(bank=str(tmp_path), how="sum", weights=(1.0, 1.5))) == 0
    printed = capsys.readouterr().out
    (run,) = find_runs(tmp_path, head="fused")
    tables = [score_tables.load(folder / "scores-test.npz") for folder in folders]
    expected = fuse(tables, "sum", (1, 1.5))
    np.testing.assert_allclose(run.scores("test").logits, expected.logits, rtol=1e-6)
    np.testing.assert_array_equal(run.scores("test").labels, expected.labels)
    values = [
        mean_average_precision(each.labels, each.logits).value for each in (*tables, expected)
    ]
    test = run.metrics.test
    assert test.map == pytest.approx(values[2]) and test.low < values[2] < test.high
    assert (test.videos, test.classes_counted, test.classes_without) == (
        60,
        6,
        0,
    ) and test.top5 is None
    assert [member.map for member in run.metrics.members] == pytest.approx(values[:2])
    assert (
        "mAP" in printed
        and "top-1" not in printed
        and all(f" {100 * value:.2f} " in printed for value in values)
    )
    made_run(tmp_path, "gru")
    with pytest.raises(InputError, match="only one of them is multi-label"):
        fuse_runs(FuseOptions(bank=str(tmp_path)))


def test_the_report_shows_mean_average_precision(tmp_path: Path) -> None:
    folders = several(tmp_path)
    assert report(ReportOptions(bank=str(tmp_path), head="rlstm", name="several")) == 0
    page = Page((tmp_path / "reports" / "several.html").read_text())
    text = " ".join(page.text)
    assert "confus" not in text.lower() and "nan" not in text.lower() and "top-" not in text.lower()
    shares = [figure(score_tables.load(folder / "scores-test.npz")) for folder in folders]
    values = [each.value for each in shares]
    assert f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=1):.1f}" in text
    for each in shares:
        assert (
            f"{100 * each.value:.1f}" in page.text
            and f"{100 * each.low:.1f}–{100 * each.high:.1f}" in page.text
        )
    assert {"mAP %", "Classes", "Test mAP %", "Validation mAP %"} <= set(page.text)
    bars = [float(cell["data-v"] or "") for cell in page.of("td") if cell.get("class") == "bar"]
    assert len(bars) == 6 and math.isclose(
        np.mean(bars), np.mean(values), rel_tol=1e-5
    )  # every class has a positive
    assert len(page.of("polyline")) == 2 * 2 * 2  # loss and figure of both parts, of two runs


def test_both_kinds_stand_apart_in_one_report(tmp_path: Path) -> None:
    several(tmp_path)
    assert report(ReportOptions(bank=str(tmp_path), name="both")) == 0
    text = " ".join(Page((tmp_path / "reports" / "both.html").read_text()).text)
    assert "made, 6 classes, multi-label" in text
    assert text.count("Results") == 2 and text.count("Confusion") == text.count("Top-5 %") == 1


def test_what_is_printed_of_runs_says_the_measure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = table()
    found = part_metrics(made).to_json()
    value = mean_average_precision(made.labels, made.logits).value
    assert found == {"videos": 40, "map": value, "classes_counted": 3, "classes_without": 0}
    folders = several(tmp_path)
    for folder in folders:
        metrics = json.loads((folder / "metrics.json").read_text())
        (folder / "metrics.json").write_text(
            json.dumps(metrics | {"train": found, "validation": None, "test": found})
        )
    shown = find_runs(tmp_path, head="rlstm")
    print_run(shown[0])
    print_results(shown)
    printed = capsys.readouterr().out
    assert f"validation - %, test {100 * value:.2f} % (mAP)" in printed
    assert (
        "train mAP %" in printed
        and f"test mAP %: mean {100 * value:.2f}, standard deviation 0.00 over 2 runs" in printed
    )
    assert "top-1" not in printed
    shutil.rmtree(folders[1])
    runs(RunsOptions(bank=str(tmp_path)))
    of_run = {
        line.split()[0].split("-")[0]: line.split()[-4:]
        for line in capsys.readouterr().out.splitlines()[1:]
    }
    assert of_run == {
        "rlstm": ["mAP", "-", f"{100 * value:.2f}", "yes"],
        "gru": ["top-1", "-", "50.00", "yes"],
    }
