"""Late fusion: compared with values by hand and with published figures on real scores, and the
commands fuse and evaluate on run folders."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import testdata
from hypothesis import given
from hypothesis import strategies as st
from made_runs import CLASSES, made_run, made_scores

import reelbank
from reelbank.data.errors import InputError
from reelbank.data.options import parse
from reelbank.data.scores import table as score_tables
from reelbank.data.scores.table import Scores, probabilities
from reelbank.fusion.evaluation.evaluate import EvaluateOptions, evaluate, evaluate_runs
from reelbank.fusion.evaluation.experiments import grouped
from reelbank.fusion.evaluation.options import Selection
from reelbank.fusion.evaluation.selection import select
from reelbank.fusion.fuse import FuseOptions, fuse_runs
from reelbank.fusion.late import fuse, searched_weights, weightings
from reelbank.fusion.metrics import accuracy
from reelbank.fusion.report.page import ReportOptions, report
from reelbank.heads.runs.folder import find_runs


def of(distributions: list[list[float]], ids: str = "uv") -> Scores:
    """A table whose softmax is `distributions`."""
    return Scores(tuple(ids), [0, 1], ("x", "y", "z"), np.log(distributions))


RGB = of([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])
FLOW = of([[0.2, 0.7, 0.1], [0.1, 0.6, 0.3]])


def test_sum_by_hand() -> None:
    np.testing.assert_allclose(
        probabilities(fuse([RGB, FLOW], "sum")),
        [[0.35, 0.475, 0.175], [0.1, 0.35, 0.55]],
        rtol=1e-6,
    )
    weighted = fuse([FLOW, RGB], "sum", (1.5, 1))  # w_flow, w_rgb of the Res-LSTM paper
    np.testing.assert_allclose(
        probabilities(weighted), [[0.32, 0.52, 0.16], [0.1, 0.4, 0.5]], rtol=1e-6
    )


def test_product_by_hand() -> None:
    products = np.array([[0.5 * 0.2, 0.25 * 0.7, 0.25 * 0.1], [0.1 * 0.1, 0.1 * 0.6, 0.8 * 0.3]])
    expected = products / products.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities(fuse([RGB, FLOW], "product")), expected, rtol=1e-6)
    np.testing.assert_allclose(probabilities(fuse([RGB, FLOW])), expected, rtol=1e-6)


def test_logits_by_hand() -> None:
    a = Scores(tuple("uv"), [0, 1], ("x", "y"), [[1, 2], [3, 4]])
    b = Scores(tuple("uv"), [0, 1], ("x", "y"), [[5, -1], [0, 2]])
    np.testing.assert_allclose(fuse([a, b], "logits", (1, 1.5)).logits, [[8.5, 0.5], [3, 7]])


def test_fusion_is_by_id_never_by_row() -> None:
    turned = Scores(("v", "u"), [1, 0], ("x", "y", "z"), FLOW.logits[::-1])
    reordered = Scores(("v", "u"), [1, 2], ("z", "y", "x"), FLOW.logits[::-1, ::-1])
    for other in (turned, reordered):
        for how in ("sum", "product", "logits"):
            np.testing.assert_array_equal(
                fuse([RGB, other], how).logits, fuse([RGB, FLOW], how).logits
            )


def test_probabilities_too_small_for_a_float_still_fuse() -> None:
    sure = Scores(("u",), [0], ("x", "y"), [[0, 20_000]])
    other = Scores(("u",), [0], ("x", "y"), [[20_000, 0]])
    for how in ("sum", "product", "logits"):
        np.testing.assert_allclose(probabilities(fuse([sure, other], how)), [[0.5, 0.5]])
    np.testing.assert_allclose(probabilities(fuse([sure, sure], "sum")), [[0, 1]], atol=1e-30)


def test_the_least_difference_of_a_sum_decides() -> None:
    """0.5 against the next smaller float32: a logarithm coarser than the sum would make a tie of
    it."""
    below = float(np.nextafter(np.float32(0.5), np.float32(0)))
    table = Scores(("u",), [1], ("x", "y"), np.log([[below, 0.5]]))
    assert table.logits[0, 0] < table.logits[0, 1]
    for weight in np.linspace(0.3, 0.36, 13):
        assert fuse([table, table], "sum", (weight, weight)).logits.argmax() == 1


def real(*path: str) -> dict[str, Scores]:
    """The tables of one real file; flow's rows are turned round, so that a fusion by row would
    fail."""
    with np.load(testdata("scores", *path), allow_pickle=False) as file:
        arrays = dict(file)
    names, labels = arrays.pop("names").tolist(), arrays.pop("labels")
    tables = {}
    for stream, logits in arrays.items():
        step = -1 if stream.startswith("flow") else 1
        classes = tuple(map(str, range(logits.shape[1])))
        tables[stream] = Scores(tuple(names[::step]), labels[::step], classes, logits[::step])
    return tables


def top1(*tables: Scores, how: str = "product", weights: tuple[float, ...] = ()) -> float:
    return round(accuracy(fuse(tables, how, weights) if len(tables) > 1 else tables[0]).value, 4)


def test_real_ucf101_scores_of_three_streams() -> None:
    of_split = real("ucf101_seqvlad_split2.npz")
    rgb, flow, idt = of_split["rgb"], of_split["flow"], of_split["idt"]
    assert [top1(rgb), top1(flow), top1(idt)] == [0.8706, 0.9181, 0.8559]
    assert top1(rgb, flow, how="logits", weights=(1, 1.5)) == 0.9483
    assert top1(rgb, flow) == 0.9467
    assert top1(rgb, flow, idt) == 0.9534


def test_real_ucf101_scores_of_two_streams() -> None:
    of_split = real("ucf101_twostream", "plain_split1.npz")
    rgb, flow = of_split["rgb"], of_split["flow"]
    assert [top1(rgb), top1(flow)] == [0.8189, 0.8065]
    assert top1(rgb, flow, how="logits") == 0.8895
    assert top1(rgb, flow, how="sum") == 0.8488


@pytest.mark.parametrize(
    ("split", "logits", "product"), [(1, 0.7288, 0.7248), (2, 0.7039, 0.6902), (3, 0.7118, 0.7039)]
)
def test_real_hmdb51_scores(split: int, logits: float, product: float) -> None:
    of_split = real("hmdb51_seqvlad", f"plain_split{split}.npz")
    assert top1(of_split["rgb"], of_split["flow"], how="logits", weights=(1, 1.5)) == logits
    assert top1(of_split["rgb"], of_split["flow"]) == product


def bank_of_two_streams(bank: Path) -> dict[tuple[str, str, int], Path]:
    runs = [
        (stream, split, seed)
        for stream in ("rgb", "flow")
        for split in ("1", "2")
        for seed in (0, 1)
    ]
    return {run: made_run(bank, "gru", *run) for run in runs}


def test_the_command_fuses_split_by_split(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folders = bank_of_two_streams(tmp_path)
    assert fuse_runs(FuseOptions(bank=str(tmp_path), how="sum", weights=(1.0, 1.5), split="1")) == 0
    assert (
        fuse_runs(FuseOptions(bank=str(tmp_path), how="sum", weights=(1.0, 1.5))) == 0
    )  # split 1's is found the same
    printed = capsys.readouterr().out
    fused = find_runs(tmp_path, head="fused")
    assert sorted((run.recipe["split"], run.recipe["seed"]) for run in fused) == [
        ("1", 0),
        ("1", 1),
        ("2", 0),
        ("2", 1),
    ]
    weights = {"flow": 1.0, "rgb": 1.5}  # in the order of names, whatever the hashes are
    assert "weight 1: gru flow net\nweight 1.5: gru rgb net\n" in printed
    for run in fused:
        split, seed = run.recipe["split"], run.recipe["seed"]
        tables = [
            score_tables.load(folders[stream, split, seed] / "scores-test.npz")
            for stream in weights
        ]
        expected = fuse(tables, "sum", list(weights.values()))
        found = run.scores("test")
        order = [found.video_ids.index(name) for name in expected.video_ids]
        np.testing.assert_allclose(found.logits[order], expected.logits, rtol=1e-6)
        assert (
            run.metrics.test.top1
            == accuracy(expected).value
            > max(accuracy(table).value for table in tables)
        )
        assert {member.run for member in run.metrics.members} == {
            folders[s, split, seed].name for s in weights
        }
        assert f"{100 * accuracy(expected).value:.2f}" in printed
        assert run.path.name in printed
    groups = grouped(select(Selection(bank=str(tmp_path)), "test").entries)
    assert sorted(len(group.entries) for group in groups) == [4, 4, 4]


def test_runs_of_different_splits_are_never_mixed(tmp_path: Path) -> None:
    rgb, flow = (
        made_run(tmp_path, stream="rgb", split="1"),
        made_run(tmp_path, stream="flow", split="2"),
    )
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(
        InputError,
        match=r"split 1, seed 0: the model gru flow net \(for example the run gru-\w+\) has no run",
    ):
        fuse_runs(FuseOptions(bank=str(tmp_path), runs=(rgb.name, flow.name)))
    with pytest.raises(
        InputError, match=r"a fusion needs two or more models \(got 1 run of 1 model\); name more"
    ):
        fuse_runs(FuseOptions(bank=str(tmp_path), runs=(rgb.name,)))
    other = made_run(tmp_path / "other", stream="flow", split="1", dataset="else")
    with pytest.raises(InputError, match=r"different data sets \(else, made\)"):
        fuse_runs(FuseOptions(bank=str(tmp_path), runs=(rgb.name, str(other))))
    assert sorted(path for path in tmp_path.rglob("*") if "other" not in str(path)) == before


def test_score_files_from_elsewhere_join(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A file that says nothing of split and seed belongs to every run; one of another part is
    refused."""
    folder = made_run(tmp_path, seed=3)
    own = score_tables.load(folder / "scores-test.npz")
    outside = Scores(
        own.video_ids[::-1],
        own.labels[::-1],
        own.classes,
        made_scores(60, 2, seed=11, noise=5).logits[::-1],
    )
    score_tables.save(outside, tmp_path / "idt.npz")
    assert (
        fuse_runs(
            FuseOptions(bank=str(tmp_path), runs=(folder.name[:8], str(tmp_path / "idt.npz")))
        )
        == 0
    )
    (fused,) = find_runs(tmp_path, head="fused")
    np.testing.assert_array_equal(fused.scores("test").logits, fuse([own, outside]).logits)
    assert fused.recipe["seed"] == 3
    assert len(fused.recipe["members"][1]["sha256"]) == 64
    assert "idt.npz" in capsys.readouterr().out
    with pytest.raises(
        InputError, match="contains scores of part 'train'; give scores of part 'test'"
    ):
        fuse_runs(
            FuseOptions(bank=str(tmp_path), runs=(folder.name, str(folder / "scores-train.npz")))
        )


def test_evaluate_prints_means_and_writes_every_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folders = bank_of_two_streams(tmp_path)
    options = parse(EvaluateOptions, [f"BANK={tmp_path}", "STREAM=rgb", "PER_CLASS=1"], "evaluate")
    assert evaluate(options) == 0
    printed = capsys.readouterr().out
    tables = {
        key: score_tables.load(path / "scores-test.npz")
        for key, path in folders.items()
        if key[0] == "rgb"
    }
    values = [accuracy(table).value for table in tables.values()]
    assert f"{100 * np.mean(values):.2f} ± {100 * np.std(values, ddof=1):.2f}" in printed
    assert "gru flow" not in printed
    assert printed.endswith(
        f"results of every run as CSV: {tmp_path / 'reports' / 'evaluation-test.csv'}\n"
    )
    line = next(line for line in printed.splitlines() if line.startswith("gru rgb net"))
    assert line.split()[3:9] == [
        "4",
        "1",
        "2",
        "0",
        "1",
        "120",
    ]  # runs, splits, seeds, videos: two splits of 60, not 240
    assert all(f"\n{name} " in printed for name in CLASSES)
    with (tmp_path / "reports" / "evaluation-test.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for (_, split, seed), table in tables.items():
        own = [row for row in rows if (row["split"], row["seed"]) == (split, str(seed))]
        (first,) = [row for row in own if row["measure"] == "top1"]
        assert float(first["value"]) == accuracy(table).value
        assert first["run"] == folders["rgb", split, seed].name
        right = sum(
            float(row["value"]) * int(row["videos"]) for row in own if row["measure"] == "class"
        )
        assert right == pytest.approx(float(first["value"]) * 60)
        assert {row["of"] for row in own if row["measure"] == "category"} == {"with object", "body"}


def test_evaluation_is_an_object_with_the_printed_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folders = bank_of_two_streams(tmp_path)
    evaluation = evaluate_runs(EvaluateOptions(bank=str(tmp_path)))
    assert capsys.readouterr().out == ""
    evaluate(EvaluateOptions(bank=str(tmp_path)))
    assert capsys.readouterr().out == f"{evaluation}\n"
    records = json.loads(json.dumps(evaluation.records(), allow_nan=False))
    assert sorted(record["model"] for record in records) == ["gru flow net", "gru rgb net"]
    for record in records:
        stream = record["model"].split()[1]
        tables = [
            score_tables.load(path / "scores-test.npz")
            for key, path in folders.items()
            if key[0] == stream
        ]
        assert record["value"] == pytest.approx(np.mean([accuracy(t).value for t in tables]))
        assert record["top5"] == pytest.approx(np.mean([accuracy(t, 5).value for t in tables]))
        assert record["splits"] == ["1", "2"] and len(record["runs"]) == 4
        assert set(record["classes"]) == set(CLASSES)
    evaluation = evaluate_runs(EvaluateOptions(bank=str(tmp_path), split="1", seed=0))
    assert [record["deviation"] for record in evaluation.records()] == [None, None]


def test_runs_that_differ_in_an_option_are_distinguished(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for residual in (True, False):
        for split in ("1", "2"):
            made_run(
                tmp_path, "reslstm", split=split, head_options={"layers": 2, "residual": residual}
            )
    evaluate(EvaluateOptions(bank=str(tmp_path)))
    printed = capsys.readouterr().out
    assert "reslstm rgb net (residual True)" in printed
    assert "reslstm rgb net (residual False)" in printed


def test_a_run_made_again_on_more_videos_takes_the_old_ones_place(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    new, old = (
        made_run(tmp_path, videos=80, coverage="b"),
        made_run(tmp_path, videos=60, coverage="a"),
    )
    evaluate(EvaluateOptions(bank=str(tmp_path)))
    printed = capsys.readouterr().out
    assert f"note: {old.name} is left out" in printed
    assert f"note: {new.name}" not in printed


def test_selection_says_what_it_did_not_find(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(InputError, match="contains no run; make one with 'reelbank train'"):
        evaluate(EvaluateOptions(bank=str(tmp_path)))
    with pytest.raises(InputError, match="^BANK=.*/gone: no such folder; give the folder that"):
        evaluate(EvaluateOptions(bank=str(tmp_path / "gone")))
    folder = made_run(tmp_path)
    with pytest.raises(InputError, match="no finished run for HEAD=lstm"):
        evaluate(EvaluateOptions(bank=str(tmp_path), head="lstm"))
    store = json.loads((folder / "recipe.json").read_text())["recipe"]["store"]
    assert len(select(Selection(bank=str(tmp_path), store=store[:5], seed=0), "test").entries) == 1
    (folder / "scores-validation.npz").unlink()
    other = made_run(tmp_path, "lstm")
    evaluate(EvaluateOptions(bank=str(tmp_path), part="validation"))
    assert (
        f"note: these runs are left out because they have no scores of part 'validation': {folder.name}\n"
        in capsys.readouterr().out
    )
    with pytest.raises(InputError, match="no scores of part 'validation'"):
        evaluate(
            EvaluateOptions(bank=str(tmp_path), part="validation", runs=(folder.name, other.name))
        )
    (folder / "metrics.json").unlink()
    with pytest.raises(InputError, match="not finished"):
        evaluate(EvaluateOptions(bank=str(tmp_path), runs=(str(folder),)))


@pytest.mark.parametrize("ending", [".parquet", ".json", ".xlsx", ".png"])
@pytest.mark.parametrize(
    "command", [["evaluate"], ["compare"], ["report"], ["scores", "FILE=scores.npz"]]
)
def test_an_ending_that_is_not_written_is_refused_before_the_work(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    ending: str,
    command: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = [made_run(tmp_path / "bank", head=head) for head in ("gru", "lstm")]
    (tmp_path / "scores.npz").write_bytes((runs[0] / "scores-test.npz").read_bytes())
    there = sorted(tmp_path.rglob("*"))
    assert (
        reelbank.main([*command, f"{'TO' if command[0] == 'scores' else 'OUT'}=out{ending}"]) == 2
    )
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        f"=out{ending}" in line
        and {"report": ".html", "scores": ".npz"}.get(command[0], ".csv") in line
    )
    assert sorted(tmp_path.rglob("*")) == there


def test_files_of_another_ending_are_not_taken_for_names_of_runs_or_stores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    made_run(tmp_path / "bank")
    for name, command, told in (
        ("scores.csv", "evaluate scores.csv", "scores.csv: score files must be .npz"),
        (
            "store.hdf5",
            "inspect STORE=store.hdf5",
            "STORE=store.hdf5: the file of a store must end in .h5",
        ),
    ):
        Path(name).touch()
        assert reelbank.main(command.split()) == 2
        assert told in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    made_run(tmp_path)
    (tmp_path / "file").write_text("")
    out = str(tmp_path / "file" / "x")
    for write in (
        lambda: evaluate(EvaluateOptions(bank=str(tmp_path), out=out)),
        lambda: report(ReportOptions(bank=str(tmp_path), out=out)),
    ):
        with pytest.raises(InputError, match=r"OUT=.*file/x: cannot be written"):
            write()


def test_damaged_runs_end_neither_evaluation_nor_fusion(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    made_run(tmp_path, stream="rgb")
    made_run(tmp_path, stream="flow")
    cut, scores = made_run(tmp_path, seed=1), made_run(tmp_path, seed=2)
    (cut / "recipe.json").write_text("{")
    (scores / "scores-test.npz").write_bytes(b"PK")
    assert evaluate(EvaluateOptions(bank=str(tmp_path))) == 0
    said = capsys.readouterr()
    assert (
        f"note: a run is left out: {scores / 'scores-test.npz'}" in said.out
        and "gru flow net" in said.out
    )
    assert f"note: a run is left out: {cut / 'recipe.json'}" in said.err
    assert report(ReportOptions(bank=str(tmp_path))) == 0
    assert fuse_runs(FuseOptions(bank=str(tmp_path))) == 0
    reason = r"cannot be read as a score file \(it is damaged, or not an .npz file\)"
    with pytest.raises(InputError, match=reason):
        evaluate(EvaluateOptions(bank=str(tmp_path), runs=(scores.name,)))


def test_the_data_set_folder_is_every_folders(tmp_path: Path) -> None:
    mine = made_run(tmp_path, dataset="folder-clips-0a1b2c")
    made_run(tmp_path, dataset="folders")
    assert [
        entry.path
        for entry in select(Selection(bank=str(tmp_path), dataset="folder"), "test").entries
    ] == [mine]


def test_geometric_mean_by_hand() -> None:
    """(p^w q^v)^(1 / (w + v)), normalised: as sure as one member, where the product is surer than
    either."""
    p, q = (
        np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]),
        np.array([[0.2, 0.7, 0.1], [0.1, 0.6, 0.3]]),
    )
    for w, v in ((1.0, 1.0), (1.0, 3.0)):
        mean = (p**w * q**v) ** (1 / (w + v))
        found = probabilities(fuse([RGB, FLOW], "geometric", (w, v)))
        np.testing.assert_allclose(found, mean / mean.sum(axis=1, keepdims=True), rtol=1e-6)
    np.testing.assert_allclose(probabilities(fuse([RGB, RGB, RGB], "geometric")), p, rtol=1e-6)


def test_ranks_by_hand() -> None:
    """Borda: of 2 others RGB's u has x above 2, y and z above half a one; FLOW's has y above 2, x
    above 1."""
    found = probabilities(fuse([RGB, FLOW], "rank"))
    np.testing.assert_allclose(found[0], np.array([1 + 0.5, 0.25 + 1, 0.25 + 0]) / 3, rtol=1e-6)
    np.testing.assert_allclose(found[1], np.array([0.25 + 0, 0.25 + 1, 1 + 0.5]) / 3, rtol=1e-6)
    surer = Scores(FLOW.video_ids, FLOW.labels, FLOW.classes, 50 * FLOW.logits)
    np.testing.assert_allclose(probabilities(fuse([RGB, surer], "rank")), found, rtol=1e-6)
    weighted = probabilities(fuse([RGB, FLOW], "rank", (1, 3)))
    np.testing.assert_allclose(weighted[0], np.array([1 + 1.5, 0.25 + 3, 0.25]) / 6, rtol=1e-6)


def test_ranks_of_several_labels_order_the_videos_of_a_class() -> None:
    labels = np.array([[1, 0], [0, 1], [1, 1]])
    one = Scores(tuple("uvw"), labels, ("x", "y"), [[3, 0], [2, 5], [1, 9]])
    other = Scores(tuple("uvw"), labels, ("x", "y"), [[30, -1], [10, -1], [20, 7]])
    fused = fuse([one, other], "rank")
    np.testing.assert_allclose(
        probabilities(fused), np.array([[3, 1.25], [1.5, 1.75], [1.5, 3]]) / 4, rtol=1e-6
    )


def test_a_video_missing_from_one_member_is_scored_by_the_others() -> None:
    sound = Scores(
        ("v", "w"),
        [1, 2],
        ("z", "y", "x"),
        np.log([[0.2, 0.2, 0.6], [0.7, 0.2, 0.1]]),
        groups=("g1", "g2"),
    )
    with pytest.raises(
        InputError,
        match=r"different videos: 2 in the first and 2 in the second; only in the first: u; only in the second: w",
    ):
        fuse([Scores(RGB.video_ids, [0, 1], RGB.classes, RGB.logits), _labelled(sound, [1, 0])])
    sound = _labelled(sound, [1, 0])  # of its own classes: v is y as in RGB, w is z
    fused = fuse([RGB, sound], "sum", (1, 3), missing="allow")
    assert fused.video_ids == ("u", "v", "w")
    assert fused.labels.tolist() == [0, 1, 2]
    expected = [[0.5, 0.25, 0.25], np.array([0.1 + 1.8, 0.1 + 0.6, 0.8 + 0.6]) / 4, [0.1, 0.2, 0.7]]
    np.testing.assert_allclose(probabilities(fused), expected, rtol=1e-6)
    for how in ("product", "logits", "geometric", "rank"):
        found = probabilities(fuse([RGB, sound], how, (1, 3), missing="allow"))
        alone = probabilities(fuse([RGB], how))
        np.testing.assert_allclose(found[0], alone[0], rtol=1e-6)
    assert fuse([sound, RGB], missing="allow").groups == ("g1", "g2", "")
    with pytest.raises(InputError, match="all members with scores for the video 'u' have weight 0"):
        fuse([RGB, sound], weights=(0, 1), missing="allow")


def _labelled(scores: Scores, labels: list[int]) -> Scores:
    return Scores(
        scores.video_ids, labels, scores.classes, scores.logits, scores.about, scores.groups
    )


def test_multi_label_fusion_with_a_missing_member() -> None:
    labels = np.array([[1, 0], [0, 1]])
    one = Scores(("u", "v"), labels, ("x", "y"), [[1, 2], [3, 4]])
    other = Scores(("v", "w"), [[1, 0], [1, 1]], ("y", "x"), [[-4, 2], [0.5, 7]])
    fused = fuse([one, other], "logits", (1, 2), missing="allow")
    np.testing.assert_allclose(fused.logits, [[1, 2], [3 + 4, 4 - 8], [14, 1]])
    assert fused.labels.tolist() == [[1, 0], [0, 1], [1, 1]]


@pytest.mark.parametrize("key", ["dataset", "split", "part"])
def test_tables_that_say_they_are_of_something_else_are_refused(key: str) -> None:
    tables = [
        Scores(RGB.video_ids, RGB.labels, RGB.classes, RGB.logits, {key: said})
        for said in ("1", "2")
    ]
    with pytest.raises(InputError, match=rf"scores of different {key}s \(1, 2\) cannot be fused"):
        fuse(tables)
    silent = Scores(RGB.video_ids, RGB.labels, RGB.classes, RGB.logits)
    assert fuse([tables[0], silent]).video_ids == RGB.video_ids


def test_a_member_of_weight_0_takes_no_part() -> None:
    for how in ("sum", "product", "logits", "geometric", "rank"):
        np.testing.assert_array_equal(
            fuse([RGB, FLOW], how, (2, 0)).logits, fuse([RGB], how, (2,)).logits
        )
    for wrong in ((0, 0), (1, -1), (1, float("nan")), (1,)):
        with pytest.raises(
            InputError,
            match="give 2 numbers, one for each member; each must be at least 0, and at least one must be above 0",
        ):
            fuse([RGB, FLOW], weights=wrong)


@given(st.integers(2, 12))
def test_a_search_tries_a_grid_over_the_simplex_with_equal_weights_first(members: int) -> None:
    tried = weightings(members)
    assert 1 < len(tried) <= 1101
    np.testing.assert_allclose(tried.sum(axis=1), members)
    assert (tried >= 0).all() and (tried[0] == 1).all()
    assert len({tuple(np.round(row, 9)) for row in tried}) == len(tried)
    for member in range(members):  # each alone is among them
        assert np.isclose(tried, members * np.eye(members)[member]).all(axis=1).any()


def test_searched_weights_are_the_best_of_those_tried() -> None:
    good, bad = made_scores(200, 3, noise=1), made_scores(200, 0, noise=2)
    weights = searched_weights([bad, good], "logits")
    best = max(accuracy(fuse([bad, good], "logits", row)).value for row in weightings(2))
    assert accuracy(fuse([bad, good], "logits", weights)).value == best
    assert weights[1] > 5 * weights[0]
    assert searched_weights([good, good], "sum") == [1, 1]  # of equals the nearest to equal weights
    with pytest.raises(InputError, match="60 members are too many"):
        searched_weights([good] * 60)


@pytest.mark.parametrize("members", [2, 6, 8])
def test_a_weight_search_with_missing_videos_gives_each_member_some_weight(members: int) -> None:
    tables = [made_scores(80, 3 if number == 1 else 0, noise=number) for number in range(members)]
    weights = searched_weights(tables, "logits", missing="allow")
    assert min(weights) > 0 and sum(weights) == pytest.approx(members)
    assert weights[1] == max(weights) > 1.5  # the one that knows anything
    assert accuracy(fuse(tables, "logits", weights)).value > accuracy(fuse(tables, "logits")).value


def test_ranks_of_several_labels_are_of_the_videos_that_a_member_has() -> None:
    whole, part = (
        made_scores(20, 2, several=True, noise=1),
        made_scores(20, 2, several=True, noise=2),
    )
    kept = np.arange(5, 20)
    some = Scores(
        tuple(part.video_ids[i] for i in kept), part.labels[kept], part.classes, part.logits[kept]
    )
    fused = probabilities(fuse([whole, some], "rank", missing="allow"))
    ranks = (1 + np.argsort(np.argsort(whole.logits[:, 0]))) / 21
    np.testing.assert_allclose(fused[:5, 0], ranks[:5], rtol=1e-5)
    of_some = (1 + np.argsort(np.argsort(some.logits[:, 0]))) / 16
    np.testing.assert_allclose(fused[5:, 0], (ranks[5:] + of_some) / 2, rtol=1e-5)


def test_weights_are_never_searched_on_test_videos(tmp_path: Path) -> None:
    words = []
    for number in range(2):
        table = made_scores(60, 2, noise=number)
        for part in ("test", "validation"):
            about = {"part": part, "name": f"model{number}", "split": "1"}
            some = slice(None) if part == "test" else slice(40, None)  # a third of them
            one = Scores(
                table.video_ids[some], table.labels[some], table.classes, table.logits[some], about
            )
            score_tables.save(one, tmp_path / f"{part}{number}.npz")
            words.append(str(tmp_path / f"{part}{number}.npz"))
    runs, validation = tuple(words[0::2]), tuple(words[1::2])
    with pytest.raises(
        InputError, match="SEARCH=1: the test part also contains 20 validation videos"
    ):
        fuse_runs(FuseOptions(bank=str(tmp_path), runs=runs, search=True, validation=validation))
    assert not (tmp_path / "runs").exists()


def test_the_command_searches_on_validation_and_never_looks_at_test(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    good, bad = (
        made_run(tmp_path, "gru", "rgb", skill=3),
        made_run(tmp_path, "gru", "flow", skill=0.1),
    )
    assert fuse_runs(FuseOptions(bank=str(tmp_path), how="logits", search=True)) == 0
    (run,) = find_runs(tmp_path, head="fused")
    validation = [
        score_tables.load(folder / "scores-validation.npz") for folder in (bad, good)
    ]  # flow, rgb
    weights = searched_weights(validation, "logits")
    assert [member.weight for member in run.metrics.members] == weights != [1, 1]
    assert run.recipe["weights"] == "searched"
    assert run.metrics.validation.top1 == accuracy(fuse(validation, "logits", weights)).value
    assert "weight from the search: gru flow net" in capsys.readouterr().out
    for folder in (good, bad):  # other test labels, the same weights
        table = score_tables.load(folder / "scores-test.npz")
        other = Scores(
            table.video_ids, (table.labels + 1) % 6, table.classes, table.logits, table.about
        )
        score_tables.save(other, folder / "scores-test.npz")
    assert fuse_runs(FuseOptions(bank=str(tmp_path), how="logits", search=True)) == 0
    (again,) = find_runs(tmp_path, head="fused")
    assert [member.weight for member in again.metrics.members] == weights
    with pytest.raises(InputError, match="WEIGHTS and SEARCH=1"):
        fuse_runs(FuseOptions(bank=str(tmp_path), search=True, weights=(1.0, 2.0)))
    files = [str(folder / "scores-test.npz") for folder in (good, bad)]
    with pytest.raises(
        InputError, match="2 of the members are score files, but VALIDATION names 0"
    ):
        fuse_runs(FuseOptions(bank=str(tmp_path), runs=tuple(files), search=True))
    with pytest.raises(
        InputError,
        match=r"must contain scores of part 'validation' \(got 'test'\)",
    ):
        fuse_runs(
            FuseOptions(bank=str(tmp_path), runs=tuple(files), search=True, validation=tuple(files))
        )


def test_searches_on_other_validation_files_are_other_runs(tmp_path: Path) -> None:
    words: list[str] = []
    for number in range(6):
        table = made_scores(60, 2, seed=10 + number // 2, noise=number)
        about = {
            "part": "test" if number < 2 else "validation",
            "name": f"model{number % 2}",
            "split": "1",
        }
        score_tables.save(
            Scores(table.video_ids, table.labels, table.classes, table.logits, about),
            tmp_path / f"{number}.npz",
        )
        words.append(str(tmp_path / f"{number}.npz"))
    for validation in (words[2:4], words[4:]):
        assert (
            fuse_runs(
                FuseOptions(
                    bank=str(tmp_path),
                    runs=tuple(words[:2]),
                    search=True,
                    validation=tuple(validation),
                )
            )
            == 0
        )
    assert len(find_runs(tmp_path, head="fused")) == 2


def test_weights_searched_on_one_half_of_real_videos_hold_on_the_other() -> None:
    """A test of the machinery: these are test scores, halved by group."""
    of_split = real("ucf101_seqvlad_split2.npz")
    tables = [of_split[name] for name in ("rgb", "flow", "idt")]
    number = {name: int(name.partition("_g")[2][:2]) for name in tables[0].video_ids}
    halves = [[name for name in tables[0].video_ids if number[name] % 2 == side] for side in (0, 1)]
    assert not {number[name] for name in halves[0]} & {number[name] for name in halves[1]}
    for searched, judged in (halves, halves[::-1]):
        weights = searched_weights([_some(table, searched) for table in tables], "logits")
        others = [_some(table, judged) for table in tables]
        assert (
            accuracy(fuse(others, "logits", weights)).value
            > max(accuracy(table).value for table in others) + 0.02
        )


def _some(table: Scores, names: list[str]) -> Scores:
    rows = [table.video_ids.index(name) for name in names]
    return Scores(tuple(names), table.labels[rows], table.classes, table.logits[rows])
