"""Late fusion: by hand, on real scores to the published digits, and the commands fuse and evaluate on run folders."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import testdata
from made_runs import CLASSES, made_run, made_scores

from reelbank.data import scores as score_tables
from reelbank.data.errors import InputError
from reelbank.data.recipe import parse
from reelbank.data.scores import Scores, probabilities
from reelbank.fusion.entries import Selection, grouped, select
from reelbank.fusion.evaluate import EvaluateOptions, evaluate
from reelbank.fusion.fuse import FuseOptions, fuse_runs
from reelbank.fusion.late import fuse
from reelbank.fusion.metrics import accuracy
from reelbank.fusion.report import ReportOptions, report
from reelbank.heads.runs import find_runs


def of(distributions: list[list[float]], ids: str = "uv") -> Scores:
    """A table whose softmax is `distributions`."""
    return Scores(tuple(ids), [0, 1], ("x", "y", "z"), np.log(distributions))


RGB = of([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])
FLOW = of([[0.2, 0.7, 0.1], [0.1, 0.6, 0.3]])


def test_sum_by_hand() -> None:
    np.testing.assert_allclose(probabilities(fuse([RGB, FLOW], "sum")), [[0.35, 0.475, 0.175], [0.1, 0.35, 0.55]], rtol=1e-6)
    weighted = fuse([FLOW, RGB], "sum", (1.5, 1))  # w_flow, w_rgb of the Res-LSTM paper
    np.testing.assert_allclose(probabilities(weighted), [[0.32, 0.52, 0.16], [0.1, 0.4, 0.5]], rtol=1e-6)


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
            np.testing.assert_array_equal(fuse([RGB, other], how).logits, fuse([RGB, FLOW], how).logits)


def test_probabilities_too_small_for_a_float_still_fuse() -> None:
    sure = Scores(("u",), [0], ("x", "y"), [[0, 20_000]])
    other = Scores(("u",), [0], ("x", "y"), [[20_000, 0]])
    for how in ("sum", "product", "logits"):
        np.testing.assert_allclose(probabilities(fuse([sure, other], how)), [[0.5, 0.5]])
    np.testing.assert_allclose(probabilities(fuse([sure, sure], "sum")), [[0, 1]], atol=1e-30)


def test_the_least_difference_of_a_sum_decides() -> None:
    """0.5 against the next smaller float32: a logarithm coarser than the sum would make a tie of it."""
    below = float(np.nextafter(np.float32(0.5), np.float32(0)))
    table = Scores(("u",), [1], ("x", "y"), np.log([[below, 0.5]]))
    assert table.logits[0, 0] < table.logits[0, 1]
    for weight in np.linspace(0.3, 0.36, 13):
        assert fuse([table, table], "sum", (weight, weight)).logits.argmax() == 1


def real(*path: str) -> dict[str, Scores]:
    """The tables of one real file; flow's rows are turned round, so that a fusion by row would fail."""
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


@pytest.mark.parametrize(("split", "logits", "product"), [(1, 0.7288, 0.7248), (2, 0.7039, 0.6902), (3, 0.7118, 0.7039)])
def test_real_hmdb51_scores(split: int, logits: float, product: float) -> None:
    of_split = real("hmdb51_seqvlad", f"plain_split{split}.npz")
    assert top1(of_split["rgb"], of_split["flow"], how="logits", weights=(1, 1.5)) == logits
    assert top1(of_split["rgb"], of_split["flow"]) == product


def bank_of_two_streams(bank: Path) -> dict[tuple[str, str, int], Path]:
    runs = [(stream, split, seed) for stream in ("rgb", "flow") for split in ("1", "2") for seed in (0, 1)]
    return {run: made_run(bank, "gru", *run) for run in runs}


def test_the_command_fuses_split_by_split(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folders = bank_of_two_streams(tmp_path)
    assert fuse_runs(FuseOptions(bank=str(tmp_path), how="sum", weights=(1.0, 1.5), split="1")) == 0
    assert fuse_runs(FuseOptions(bank=str(tmp_path), how="sum", weights=(1.0, 1.5))) == 0  # split 1's is found the same
    printed = capsys.readouterr().out
    fused = find_runs(tmp_path, head="fused")
    assert sorted((run.recipe["split"], run.recipe["seed"]) for run in fused) == [("1", 0), ("1", 1), ("2", 0), ("2", 1)]
    weights = {"flow": 1.0, "rgb": 1.5}  # in the order of names, whatever the hashes are
    assert "weight 1: gru flow net\nweight 1.5: gru rgb net\n" in printed
    for run in fused:
        split, seed = run.recipe["split"], run.recipe["seed"]
        tables = [score_tables.load(folders[stream, split, seed] / "scores-test.npz") for stream in weights]
        expected = fuse(tables, "sum", list(weights.values()))
        found = run.scores("test")
        order = [found.video_ids.index(name) for name in expected.video_ids]
        np.testing.assert_allclose(found.logits[order], expected.logits, rtol=1e-6)
        assert run.metrics["test"]["top1"] == accuracy(expected).value > max(accuracy(table).value for table in tables)
        assert {member["run"] for member in run.metrics["members"]} == {folders[s, split, seed].name for s in weights}
        assert f"{100 * accuracy(expected).value:.2f}" in printed
        assert run.path.name in printed
    groups = grouped(select(Selection(bank=str(tmp_path)), "test")[0])
    assert sorted(len(group.entries) for group in groups) == [4, 4, 4]


def test_runs_of_different_splits_are_never_mixed(tmp_path: Path) -> None:
    rgb, flow = made_run(tmp_path, stream="rgb", split="1"), made_run(tmp_path, stream="flow", split="2")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=r"split 1, seed 0: gru flow net \(as gru-\w+\) is not there"):
        fuse_runs(FuseOptions(bank=str(tmp_path), runs=(rgb.name, flow.name)))
    with pytest.raises(InputError, match="nothing to fuse: 1 runs of 1 model"):
        fuse_runs(FuseOptions(bank=str(tmp_path), runs=(rgb.name,)))
    other = made_run(tmp_path / "other", stream="flow", split="1", dataset="else")
    with pytest.raises(InputError, match=r"different data sets \(else, made\)"):
        fuse_runs(FuseOptions(bank=str(tmp_path), runs=(rgb.name, str(other))))
    assert sorted(path for path in tmp_path.rglob("*") if "other" not in str(path)) == before


def test_score_files_from_elsewhere_join(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A file that says nothing of split and seed belongs to every run; one of another part is refused."""
    folder = made_run(tmp_path, seed=3)
    own = score_tables.load(folder / "scores-test.npz")
    outside = Scores(own.video_ids[::-1], own.labels[::-1], own.classes, made_scores(60, 2, seed=11, noise=5).logits[::-1])
    score_tables.save(outside, tmp_path / "idt.npz")
    assert fuse_runs(FuseOptions(bank=str(tmp_path), runs=(folder.name[:8], str(tmp_path / "idt.npz")))) == 0
    (fused,) = find_runs(tmp_path, head="fused")
    np.testing.assert_array_equal(fused.scores("test").logits, fuse([own, outside]).logits)
    assert fused.recipe["seed"] == 3
    assert len(fused.recipe["members"][1]["sha256"]) == 64
    assert "idt.npz" in capsys.readouterr().out
    with pytest.raises(InputError, match="scores of part 'train', not of part 'test'"):
        fuse_runs(FuseOptions(bank=str(tmp_path), runs=(folder.name, str(folder / "scores-train.npz"))))


def test_evaluate_prints_means_and_writes_every_figure(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folders = bank_of_two_streams(tmp_path)
    options = parse(EvaluateOptions, [f"BANK={tmp_path}", "STREAM=rgb", "PER_CLASS=1"], "evaluate")
    assert evaluate(options) == 0
    printed = capsys.readouterr().out
    tables = {key: score_tables.load(path / "scores-test.npz") for key, path in folders.items() if key[0] == "rgb"}
    values = [accuracy(table).value for table in tables.values()]
    assert f"{100 * np.mean(values):.2f} ± {100 * np.std(values, ddof=1):.2f}" in printed
    assert "gru flow" not in printed
    line = next(line for line in printed.splitlines() if line.startswith("gru rgb net"))
    assert line.split()[3:9] == ["4", "1", "2", "0", "1", "120"]  # runs, splits, seeds, videos: two splits of 60, not 240
    assert all(f"\n{name} " in printed for name in CLASSES)
    with (tmp_path / "reports" / "evaluation-test.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for (_, split, seed), table in tables.items():
        own = [row for row in rows if (row["split"], row["seed"]) == (split, str(seed))]
        (first,) = [row for row in own if row["measure"] == "top1"]
        assert float(first["value"]) == accuracy(table).value
        assert first["run"] == folders["rgb", split, seed].name
        right = sum(float(row["value"]) * int(row["videos"]) for row in own if row["measure"] == "class")
        assert right == pytest.approx(float(first["value"]) * 60)
        assert {row["of"] for row in own if row["measure"] == "category"} == {"with object", "body"}


def test_runs_that_differ_in_an_option_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for residual in (True, False):
        for split in ("1", "2"):
            made_run(tmp_path, "reslstm", split=split, head_options={"layers": 2, "residual": residual})
    evaluate(EvaluateOptions(bank=str(tmp_path)))
    printed = capsys.readouterr().out
    assert "reslstm rgb net (residual True)" in printed
    assert "reslstm rgb net (residual False)" in printed


def test_a_run_made_again_on_more_videos_takes_the_old_ones_place(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    new, old = made_run(tmp_path, videos=80, coverage="b"), made_run(tmp_path, videos=60, coverage="a")
    evaluate(EvaluateOptions(bank=str(tmp_path)))
    printed = capsys.readouterr().out
    assert f"note: {old.name} is left out" in printed
    assert f"note: {new.name}" not in printed


def test_selection_says_what_it_did_not_find(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(InputError, match="no finished run in .*reelbank runs"):
        evaluate(EvaluateOptions(bank=str(tmp_path)))
    folder = made_run(tmp_path)
    with pytest.raises(InputError, match="no finished run for HEAD=lstm"):
        evaluate(EvaluateOptions(bank=str(tmp_path), head="lstm"))
    store = json.loads((folder / "recipe.json").read_text())["recipe"]["store"]
    assert len(select(Selection(bank=str(tmp_path), store=store[:5], seed=0), "test")[0]) == 1
    (folder / "scores-validation.npz").unlink()
    other = made_run(tmp_path, "lstm")
    evaluate(EvaluateOptions(bank=str(tmp_path), part="validation"))
    assert f"note: left out, having no scores of part 'validation': {folder.name}\n" in capsys.readouterr().out
    with pytest.raises(InputError, match="no scores of part 'validation'"):
        evaluate(EvaluateOptions(bank=str(tmp_path), part="validation", runs=(folder.name, other.name)))
    (folder / "metrics.json").unlink()
    with pytest.raises(InputError, match="not finished"):
        evaluate(EvaluateOptions(bank=str(tmp_path), runs=(str(folder),)))


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


def test_damaged_runs_end_neither_evaluation_nor_fusion(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    made_run(tmp_path, stream="rgb")
    made_run(tmp_path, stream="flow")
    cut, scores = made_run(tmp_path, seed=1), made_run(tmp_path, seed=2)
    (cut / "recipe.json").write_text("{")
    (scores / "scores-test.npz").write_bytes(b"PK")
    assert evaluate(EvaluateOptions(bank=str(tmp_path))) == 0
    said = capsys.readouterr()
    assert f"note: left out: {scores / 'scores-test.npz'}" in said.out and "gru flow net" in said.out
    assert f"note: left out: {cut / 'recipe.json'}" in said.err
    assert report(ReportOptions(bank=str(tmp_path))) == 0
    assert fuse_runs(FuseOptions(bank=str(tmp_path))) == 0
    with pytest.raises(InputError, match="not a readable scores file"):
        evaluate(EvaluateOptions(bank=str(tmp_path), runs=(scores.name,)))


def test_the_data_set_folder_is_every_folders(tmp_path: Path) -> None:
    mine = made_run(tmp_path, dataset="folder-clips-0a1b2c")
    made_run(tmp_path, dataset="folders")
    assert [entry.path for entry in select(Selection(bank=str(tmp_path), dataset="folder"), "test")[0]] == [mine]
