"""Evaluation: bootstrap intervals compared with scipy's, McNemar's test with statsmodels',
calibration with values by hand, and the command compare."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_runs import CLASSES, made_run, made_scores
from scipy import stats
from sklearn.metrics import brier_score_loss, log_loss
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar

from reelbank.data.errors import InputError
from reelbank.data.options import parse
from reelbank.data.scores import table as score_tables
from reelbank.data.scores.table import Scores
from reelbank.fusion.bootstrap import resample_blocks
from reelbank.fusion.evaluation.compare import CompareOptions, class_gains, compare, paired
from reelbank.fusion.evaluation.contests import confusions
from reelbank.fusion.evaluation.evaluate import EvaluateOptions, evaluate
from reelbank.fusion.evaluation.experiments import grouped
from reelbank.fusion.evaluation.selection import select
from reelbank.fusion.evaluation.significance import (
    bootstrap_share,
    calibration,
    error_reduction,
    mcnemar,
    paired_bootstrap,
)
from reelbank.fusion.metrics import accuracy, hits, mean_average_precision


def two(videos: int = 150, groups: int = 0) -> tuple[Scores, Scores]:
    """Two models on the same videos, in other orders; the videos of a group are right or wrong
    together."""
    tables = []
    for noise, skill in ((1, 2.5), (2, 1.5)):
        table = made_scores(videos, skill, noise=noise)
        names = tuple(f"g{i % groups}" for i in range(videos)) if groups else ()
        logits = table.logits.copy()
        if groups:
            rng = np.random.default_rng(noise)
            right = rng.random(groups) < (0.75 if noise == 1 else 0.5)
            for i in range(videos):
                logits[i] = 0
                logits[i, (table.labels[i] + (0 if right[i % groups] else 1)) % len(CLASSES)] = 1
        tables.append(Scores(table.video_ids, table.labels, table.classes, logits, {}, names))
    first, second = tables
    step = np.arange(videos)[::-1]
    names = tuple(second.groups[i] for i in step) if groups else ()
    return first, Scores(
        tuple(second.video_ids[i] for i in step),
        second.labels[step],
        CLASSES,
        second.logits[step],
        {},
        names,
    )


def test_interval_over_videos_is_scipys() -> None:
    table, _ = two()
    found = bootstrap_share([table], "videos", resamples=20_000)
    reference = stats.bootstrap(
        (hits(table).astype(float),), np.mean, n_resamples=20_000, method="percentile", rng=1
    )
    assert found.value == accuracy(table).value
    assert (found.low, found.high) == pytest.approx(tuple(reference.confidence_interval), abs=0.007)


def test_interval_over_groups_is_scipys_and_wider_where_groups_go_together() -> None:
    table, _ = two(600, groups=100)
    right, number = hits(table).astype(float), np.array([int(name[1:]) for name in table.groups])
    sums, sizes = np.bincount(number, right), np.bincount(number)

    def share(groups: np.ndarray, axis: int = -1) -> np.ndarray:
        return sums[groups].sum(axis) / sizes[groups].sum(axis)

    reference = stats.bootstrap(
        (np.arange(100),), share, n_resamples=20_000, method="percentile", rng=1
    ).confidence_interval
    found = bootstrap_share([table], "groups", resamples=20_000)
    assert (found.low, found.high) == pytest.approx(tuple(reference), abs=0.012)
    over_videos = bootstrap_share([table], "videos", resamples=20_000)
    assert found.high - found.low > 2 * (over_videos.high - over_videos.low)


def test_paired_bootstrap_is_scipys_on_the_differences() -> None:
    first, second = two()
    apart = (
        hits(first).astype(float) - hits(second).astype(float)[::-1]
    )  # second is in the other order
    reference = stats.bootstrap((apart,), np.mean, n_resamples=20_000, method="percentile", rng=1)
    found = paired_bootstrap([first], [second], resamples=20_000)
    assert found.value == pytest.approx(apart.mean())
    assert (found.low, found.high) == pytest.approx(tuple(reference.confidence_interval), abs=0.01)
    low = (reference.bootstrap_distribution <= 0).mean()
    assert found.p == pytest.approx(2 * low, abs=0.01)
    back = paired_bootstrap([second], [first], resamples=20_000)
    assert (back.value, back.p) == (pytest.approx(-found.value), found.p)
    same = paired_bootstrap([first], [first])
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_error_reduction_is_scipys_on_the_ratio_of_errors() -> None:
    first, second = two()
    wrong = [1.0 - hits(first), 1.0 - hits(second)[::-1]]  # second is in the other order

    def reduction(ours: np.ndarray, other: np.ndarray, axis: int = -1) -> np.ndarray:
        return 1 - ours.mean(axis) / other.mean(axis)

    reference = stats.bootstrap(
        wrong, reduction, paired=True, n_resamples=20_000, method="percentile", rng=1
    ).confidence_interval
    value, low, high = error_reduction([first], [second])
    assert value == pytest.approx(1 - wrong[0].mean() / wrong[1].mean())
    assert (low, high) == pytest.approx(tuple(reference), abs=0.03)
    assert error_reduction([first], [first])[:3] == (0, 0, 0)
    with pytest.raises(InputError, match="makes no errors"):
        error_reduction([first], [made_scores(150, 1e4)])


def test_several_seeds_on_the_same_videos_do_not_count_them_twice() -> None:
    table, _ = two()
    one = bootstrap_share([table], "videos")
    thrice = bootstrap_share([table, table, table], "videos")
    assert (thrice.value, thrice.low, thrice.high) == pytest.approx((one.value, one.low, one.high))
    assert thrice.videos == 150


def _turned(table: Scores, step: np.ndarray, columns: list[int]) -> Scores:
    """The same scores with videos and classes in another order."""
    labels = np.where(table.labels[step] < 0, -1, np.argsort(columns)[table.labels[step]])
    classes = tuple(table.classes[number] for number in columns)
    groups = tuple(table.groups[i] for i in step) if table.groups else ()
    ids = tuple(table.video_ids[i] for i in step)
    return Scores(ids, labels, classes, table.logits[np.ix_(step, columns)], table.about, groups)


def test_paired_bootstrap_pairs_by_video_and_class_not_by_row() -> None:
    """Of a model and itself in another order nothing is left, in no resample."""
    table, _ = two(90, groups=15)
    other = _turned(table, np.random.default_rng(0).permutation(90), [3, 1, 0, 5, 4, 2])
    for by in ("videos", "groups"):
        assert paired_bootstrap([table], [other], by)[:3] == (0.0, 0.0, 0.0)


def test_models_that_name_groups_otherwise_are_still_paired() -> None:
    table, _ = two(90, groups=15)
    names = tuple(f"other{i % 4}" for i in range(90))
    other = Scores(table.video_ids, table.labels, table.classes, table.logits, {}, names)
    assert paired_bootstrap([table], [other], "groups")[:3] == (0.0, 0.0, 0.0)


def test_videos_without_label_or_group_do_not_count() -> None:
    table, _ = two(50)
    labels = np.where(np.arange(50) < 10, -1, table.labels)
    some = Scores(table.video_ids, labels, table.classes, table.logits, {}, ("",) * 50)
    assert bootstrap_share([some], "videos").videos == 40
    assert some.groups == ()
    with pytest.raises(
        InputError, match="INTERVAL=groups: the scores of a model do not contain the videos' groups"
    ):
        bootstrap_share([some], "groups")


@given(st.lists(st.sampled_from(["", "a", "b", "c"]), min_size=1, max_size=30), st.integers(0, 100))
def test_groups_are_resampled_whole_and_ungrouped_videos_one_by_one(
    groups: list[str], seed: int
) -> None:
    (counts,) = resample_blocks(groups, 50, seed)
    assert counts.shape == (50, len(groups))
    whole = len({*(name for name in groups if name)}) + groups.count("")
    for name in set(groups) - {""}:
        rows = [i for i, own in enumerate(groups) if own == name]
        assert (counts[:, rows] == counts[:, rows[:1]]).all()
    first = [
        i for i, name in enumerate(groups) if name == "" or groups.index(name) == i
    ]  # one of each
    assert (counts[:, first].sum(axis=1) == whole).all()


def test_several_labels_have_an_interval_of_the_difference() -> None:
    first, second = (
        made_scores(80, 4, noise=1, several=True),
        made_scores(80, 0.5, noise=2, several=True),
    )
    found = paired_bootstrap([first], [second])
    values = [mean_average_precision(table).value for table in (first, second)]
    assert found.value == pytest.approx(values[0] - values[1])
    assert 0 < found.low < found.value < found.high
    assert found.p < 0.01
    with pytest.raises(InputError, match="use the paired bootstrap"):
        mcnemar(first, second)


@given(st.integers(1, 60), st.integers(0, 1000))
def test_mcnemar_is_statsmodels(videos: int, seed: int) -> None:
    first, second = (
        made_scores(videos, 1.5, seed=seed, noise=1),
        made_scores(videos, 1.0, seed=seed, noise=2),
    )
    right, others = hits(first), hits(second)
    square = [
        [(right & others).sum(), (right & ~others).sum()],
        [(~right & others).sum(), (~right & ~others).sum()],
    ]
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (square[0][1], square[1][0])
    assert found.p == pytest.approx(reference_mcnemar(np.array(square), exact=True).pvalue)


def test_mcnemar_by_hand() -> None:
    """8 videos only the first model has right, 1 only the second: p = 2 (1 + 9) / 2^9."""
    labels = [0] * 12
    first = Scores(
        tuple(map(str, range(12))), labels, ("x", "y"), [[1, 0]] * 8 + [[0, 1]] + [[1, 0]] * 3
    )
    second = Scores(
        tuple(map(str, range(12))), labels, ("x", "y"), [[0, 1]] * 8 + [[1, 0]] + [[1, 0]] * 3
    )
    assert mcnemar(first, second) == (8, 1, pytest.approx(20 / 512))
    assert mcnemar(first, first) == (0, 0, 1)


def test_calibration_by_hand_and_against_scikit_learn() -> None:
    shares = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.45, 0.55], [0.5, 0.5]])
    table = Scores(tuple("abcde"), [0, 1, 1, 0, -1], ("x", "y"), np.log(shares))
    found = calibration(table, bins=10)
    np.testing.assert_allclose(found.bins, [[0.55, 0, 1], [0.8, 1, 1], [0.9, 0.5, 2]], rtol=1e-5)
    assert found.ece == pytest.approx((0.55 + 0.2 + 2 * 0.4) / 4, rel=1e-5)
    assert found.nll == pytest.approx(log_loss([0, 1, 1, 0], shares[:4]), rel=1e-5)
    assert found.brier == pytest.approx(2 * brier_score_loss([0, 1, 1, 0], shares[:4, 1]), rel=1e-5)


def test_the_command_compares_two_models_split_by_split(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folders = {
        (head, split): made_run(tmp_path, head, "rgb", split, skill=skill)
        for head, skill in (("gru", 3.0), ("lstm", 1.0))
        for split in ("1", "2")
    }
    assert compare(parse(CompareOptions, [f"BANK={tmp_path}", "MOST=1"], "compare")) == 0
    printed = capsys.readouterr().out
    tables = {key: score_tables.load(folder / "scores-test.npz") for key, folder in folders.items()}
    assert printed.index("A: gru rgb net") < printed.index("B: lstm rgb net")
    for split in ("1", "2"):
        only_first, only_second, p = mcnemar(tables["gru", split], tables["lstm", split])
        (line,) = [line.split() for line in printed.splitlines() if line.startswith(f"{split} ")]
        values = [100 * accuracy(tables[head, split]).value for head in ("gru", "lstm")]
        assert line[3:5] == [f"{value:.2f}" for value in values]
        assert line[6:8] == [str(only_first), str(only_second)]
        assert p < 0.01
    sides = [[tables[head, split] for split in ("1", "2")] for head in ("gru", "lstm")]
    found = paired_bootstrap(*sides)
    assert (
        f"A - B: {100 * found.value:+.2f} points, 95 % interval {100 * found.low:+.2f} to {100 * found.high:+.2f}"
        in printed
    )
    assert (
        "no bootstrap over groups is possible, because the scores do not record the videos' groups"
        in printed
    )
    (path,) = (tmp_path / "reports").glob("compare-gru-*-lstm-*.csv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["class"] for row in rows} == set(CLASSES)
    gains = [float(row["gain"]) for row in rows]
    assert gains == sorted(gains, reverse=True)
    for row in rows:
        assert float(row["gain"]) == pytest.approx(float(row["first"]) - float(row["second"]))
    with pytest.raises(
        InputError,
        match=r"'reelbank compare' needs exactly two models, but 1 are selected \(gru rgb net\); name the runs",
    ):
        compare(CompareOptions(bank=str(tmp_path), head="gru"))
    with pytest.raises(InputError, match="split 2, seed 0: the model lstm rgb net .* has no run"):
        compare(
            CompareOptions(
                bank=str(tmp_path),
                runs=(*(folders["gru", s].name for s in "12"), folders["lstm", "1"].name),
            )
        )


def test_class_gains_are_by_name_and_count_a_video_once(tmp_path: Path) -> None:
    runs = {}
    for head, skill in (("gru", 3.0), ("lstm", 1.0)):
        for seed in (0, 1):
            folder = made_run(tmp_path, head, seed=seed, skill=skill)
            table = score_tables.load(folder / "scores-test.npz")
            if (head, seed) != ("gru", 0):  # written by something that orders classes otherwise
                table = _turned(
                    table, np.arange(60)[::-1], [5, 4, 3, 2, 1, 0] if seed else [1, 2, 3, 4, 5, 0]
                )
                score_tables.save(table, folder / "scores-test.npz")
            runs[head, seed] = table
    entries = select(CompareOptions(bank=str(tmp_path)), "test").entries
    for group in grouped(entries):  # one matrix of both seeds
        names = group.entries[0].scores.classes
        expected = np.zeros((6, 6), int)
        for table in (runs[group.label.split()[0], seed] for seed in (0, 1)):
            for label, guess in zip(table.labels, table.logits.argmax(axis=1), strict=True):
                expected[names.index(table.classes[label]), names.index(table.classes[guess])] += 1
        np.testing.assert_array_equal(confusions(group), expected)
    gains = {gain.name: gain for gain in class_gains(paired(*grouped(entries)))}
    first = runs["gru", 0]
    for name in CLASSES:
        means = []
        for head in ("gru", "lstm"):
            of_seeds = []
            for seed in (0, 1):
                table = runs[head, seed]
                own = table.labels == table.classes.index(name)
                of_seeds.append(
                    (table.logits[own].argmax(axis=1) == table.classes.index(name)).mean()
                )
            means.append(np.mean(of_seeds))
        assert gains[name][2:4] == pytest.approx(tuple(means))
        assert gains[name].videos == (first.labels == CLASSES.index(name)).sum()


def test_evaluate_takes_the_interval_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = made_run(tmp_path)
    table = score_tables.load(folder / "scores-test.npz")
    with pytest.raises(
        InputError, match="do not contain the videos' groups; train the model again"
    ):
        evaluate(EvaluateOptions(bank=str(tmp_path), interval="groups"))
    groups = tuple(name.partition("_c")[0] for name in table.video_ids)
    score_tables.save(
        Scores(table.video_ids, table.labels, table.classes, table.logits, table.about, groups),
        tmp_path / "a.npz",
    )
    capsys.readouterr()
    for by in ("videos", "groups"):
        assert (
            evaluate(
                EvaluateOptions(bank=str(tmp_path), runs=(str(tmp_path / "a.npz"),), interval=by)
            )
            == 0
        )
        found = bootstrap_share([score_tables.load(tmp_path / "a.npz")], by)
        assert f"{100 * found.low:.2f} to {100 * found.high:.2f}" in capsys.readouterr().out
