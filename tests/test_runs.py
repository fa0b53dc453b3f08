"""Run folders are found by hash or recipe, listed and removed; changed or damaged ones are
refused."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_runs import made_run
from safetensors.torch import load_file, save_file
from test_train import QUICK, make_store, trained

from reelbank.data.errors import InputError
from reelbank.data.scores import table as score_tables
from reelbank.data.scores.table import Scores
from reelbank.data.store.reader import Store
from reelbank.data.store.records import StoredVideo
from reelbank.data.store.writer import StoreWriter
from reelbank.fusion.evaluation.evaluate import evaluate_runs
from reelbank.fusion.evaluation.options import EvaluateOptions
from reelbank.fusion.fuse import make_fused
from reelbank.fusion.options import FuseOptions, PredictOptions
from reelbank.fusion.predict import predict_videos as predict
from reelbank.heads.runs.commands import RunsOptions, runs
from reelbank.heads.runs.folder import Run, all_runs, find_runs, load_run
from reelbank.heads.runs.metrics import RunMetrics


@pytest.fixture
def three(tmp_path: Path) -> list[Run]:
    """meanpool on splits 1 and 2, gru on split 1."""
    options = dataclasses.replace(QUICK, epochs=1)
    return [
        *trained(tmp_path, options, split=("1", "2")),
        *trained(tmp_path, options, head="gru", layers=1, hidden=4),
    ]


def bank_of(made: list[Run]) -> Path:
    return made[0].path.parent.parent


def test_runs_are_found_by_recipe_hash_and_name(three: list[Run]) -> None:
    bank = bank_of(three)
    assert {run.path for run in find_runs(bank)} == {run.path for run in three}
    assert [run.path for run in find_runs(bank, head="gru")] == [three[2].path]
    assert [run.recipe["split"] for run in find_runs(bank, head="meanpool", split="2")] == ["2"]
    wanted = [three[2].signature[:8], three[0].path.name]
    assert [run.path for run in find_runs(bank, wanted)] == [three[2].path, three[0].path]
    with pytest.raises(InputError, match=r"but it matches 2 \(meanpool"):
        find_runs(bank, ["meanpool"])
    with pytest.raises(InputError, match="matches none in"):
        find_runs(bank, ["nothing"])
    (three[2].path / "metrics.json").unlink()
    assert not find_runs(bank, head="gru")
    assert find_runs(bank / "empty") == []


def test_the_table_lists_unfinished_ones_too(
    three: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    (three[2].path / "metrics.json").unlink()
    capsys.readouterr()
    assert runs(RunsOptions(bank=str(bank_of(three)))) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    of_run = {line.split()[0]: line.split() for line in lines[1:]}
    assert of_run[three[2].path.name][-2:] == ["-", "no"]
    assert of_run[three[0].path.name][-2:] == [
        f"{100 * three[0].metrics.test.top1:.2f}",
        "yes",
    ]
    assert runs(RunsOptions(bank=str(bank_of(three)), head="gru")) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_removing_takes_exactly_the_named(three: list[Run]) -> None:
    bank = str(bank_of(three))
    with pytest.raises(InputError, match=r"must match exactly one run, but it matches 2"):
        runs(RunsOptions(bank=bank, remove=("gru", "meanpool")))
    assert all(run.path.exists() for run in three)  # nothing went before all were known
    assert runs(RunsOptions(bank=bank, remove=(three[1].signature[:6],))) == 0
    assert [run.path.exists() for run in three] == [True, False, True]


def test_a_changed_recipe_is_refused(three: list[Run]) -> None:
    path = three[0].path / "recipe.json"
    document = json.loads(path.read_text())
    document["recipe"]["seed"] = 7
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="changed"):
        load_run(three[0].path)
    path.write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        load_run(three[0].path)


def test_a_checkpoint_that_does_not_fit_is_refused(three: list[Run]) -> None:
    path = three[0].path / "checkpoint.safetensors"
    tensors = load_file(path)
    model, _ = load_run(three[0].path)
    assert all(torch.equal(value, tensors[name]) for name, value in model.state_dict().items())
    save_file(tensors | {"more": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="cannot be read"):
        load_run(three[0].path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="cannot be read"):
        load_run(three[0].path)


def test_predict_gives_the_runs_own_scores(
    three: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    bank, run = bank_of(three), three[2]
    capsys.readouterr()
    target = bank / "all.npz"
    assert predict(PredictOptions(bank=str(bank), run=run.path.name, top=2, to=str(target))) == 0
    table, own = score_tables.load(target), run.scores("test")
    assert len(table.video_ids) == 40
    row_of = {name: row for row, name in enumerate(table.video_ids)}
    rows = [row_of[name] for name in own.video_ids]
    np.testing.assert_allclose(table.logits[rows], own.logits, atol=1e-5)
    np.testing.assert_array_equal(table.labels[rows], own.labels)
    line = next(
        line
        for line in capsys.readouterr().out.splitlines()
        if line.startswith(own.video_ids[0] + ":")
    )
    assert line.split()[1] == own.classes[int(own.logits[0].argmax())] and line.count("%") == 2


def test_predict_refuses_a_store_made_in_another_way(three: list[Run]) -> None:
    bank = bank_of(three)
    with Store.open(bank / "stores" / "made-rgb-16.h5") as store:
        values, times_seconds = store.features("run/g0_c0")
        other, dataset = {**store.recipe, "extractor": "other:16"}, store.dataset
    meta = StoredVideo(id="new", label="", group="", parts=["", ""], source={})
    with StoreWriter(bank / "stores" / "other.h5", other, dataset) as writer:
        writer.add(meta, values, times_seconds)
        assert writer.finish([meta])
    with pytest.raises(InputError, match="extractor: other:16, not made:16"):
        predict(PredictOptions(bank=str(bank), run=three[0].path.name, store="other.h5"))
    with pytest.raises(InputError, match="RUN= is required"):
        predict(PredictOptions(bank=str(bank)))


def test_damaged_folders_are_noted_and_stop_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, cut, renamed, bare, number = (made_run(tmp_path, seed=seed) for seed in range(5))
    (cut / "recipe.json").write_text("{")
    copy = shutil.copytree(good, good.with_name(good.name + "-copy"))
    renamed = renamed.rename(renamed.with_name("mine\x1b[2J"))
    (bare / "recipe.json").unlink()
    (number / "metrics.json").write_text("[NaN]")
    assert runs(RunsOptions(bank=str(tmp_path))) == 0
    said = capsys.readouterr()
    assert [line.split()[0] for line in said.out.splitlines()] == ["run", good.name]
    lines = said.err.splitlines()
    assert len(lines) == 5 and all(line.startswith("note: a run is left out: ") for line in lines)
    assert all(any(str(path) in line for line in lines) for path in (cut, copy, bare, number))
    assert "\x1b" not in said.err and "mine?[2J" in said.err
    assert [run.path for run in find_runs(tmp_path, [good.name])] == [good]
    for path in (cut, copy, bare, number, renamed):
        assert runs(RunsOptions(bank=str(tmp_path), remove=(path.name,))) == 0
        assert not path.exists() and good.exists()


def test_a_runs_whole_name_is_it_and_no_copys(tmp_path: Path) -> None:
    good = made_run(tmp_path)
    copy = shutil.copytree(good, good.with_name(good.name + "-copy"))
    assert runs(RunsOptions(bank=str(tmp_path), remove=(good.name,))) == 0
    assert copy.exists() and not good.exists()


def test_an_untrusted_recipe_is_escaped_for_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_run(tmp_path, extractor="net\x1b[2J")
    assert runs(RunsOptions(bank=str(tmp_path))) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "net?[2J" in out


def test_runs_are_found_by_extractor_file_and_folder_data_set(tmp_path: Path) -> None:
    mine = made_run(tmp_path, extractor="mine.build", dataset="folder-clips-0a1b2c")
    named = made_run(tmp_path, dataset="folders")
    assert [run.path for run in find_runs(tmp_path, extractor="some/place/mine.py:build")] == [mine]
    assert [run.path for run in find_runs(tmp_path, dataset="folder")] == [mine]
    assert [run.path for run in find_runs(tmp_path, dataset="folders")] == [named]
    assert [run.path for run in find_runs(tmp_path, dataset="folder-clips-0a1b2c")] == [mine]
    assert find_runs(tmp_path, dataset="folder", extractor="mine.py:other") == []


def test_a_fused_run_has_no_model(tmp_path: Path) -> None:
    fused = made_run(tmp_path, head="fused", how="sum", weights=[1.0], members=[])
    with pytest.raises(InputError, match="is a fused run, which has no model of its own"):
        load_run(fused)
    with pytest.raises(InputError, match="the recipe does not name the members of this fusion"):
        predict(PredictOptions(bank=str(tmp_path), run=fused.name, store=str(make_store(tmp_path))))


def test_scores_of_a_store_by_several_runs_are_used_as_a_file(three: list[Run]) -> None:
    """Of named runs, and of a fused run, whose members are fused as it records."""
    bank = bank_of(three)
    members = tuple(run.path.name for run in three if run.recipe["split"] == "1")
    make_fused(FuseOptions(bank=str(bank), runs=members, how="sum", weights=(1.0, 3.0)))
    (fused,) = (run for run in all_runs(bank) if run.recipe["head"] == "fused")
    tables = []
    for words, options in (
        (" ".join(members), {"how": "sum", "weights": (1.0, 3.0)}),
        (fused.path.name, {}),
    ):
        file = bank / f"{len(tables)}.npz"
        predict(PredictOptions(bank=str(bank), run=words, store="made", to=str(file), **options))
        tables.append(score_tables.load(file))
    with Store.open(bank / "stores" / "made-rgb-16.h5") as store:
        assert [table.groups for table in tables] == [tuple(store.groups)] * 2
    assert tables[0].video_ids == tables[1].video_ids
    np.testing.assert_array_equal(tables[0].logits, tables[1].logits)
    recorded = score_tables.load(fused.path / "scores-test.npz")
    rows = [tables[0].video_ids.index(name) for name in recorded.video_ids]
    np.testing.assert_allclose(tables[0].logits[rows], recorded.logits, rtol=1e-5, atol=1e-6)
    evaluation = evaluate_runs(EvaluateOptions(bank=str(bank), runs=(str(bank / "0.npz"),)))
    assert [model.name for model in evaluation.tables[0].models] == ["0 rgb made:16"]


def test_a_score_file_marks_random_weights_and_is_no_fusion(tmp_path: Path) -> None:
    ids, labels = ("a", "b"), np.array([0, 1])
    member = {"extractor": "x", "random_networks": ["x"], "name": "gru-1"}
    for name, about in (
        ("one", member),
        (
            "two",
            {"head": "fused", "extractor": "x", "coarse": 1, "members": [{"members": [member]}]},
        ),
        ("three", {"head": "svm", "name": "fused", "extractor": "x", "coarse": {"k": 5}}),
    ):
        table = Scores(ids, labels, ("k", "l"), np.eye(2, dtype=np.float32), about)
        score_tables.save(table, tmp_path / f"{name}.npz")
    files = tuple(str(tmp_path / f"{name}.npz") for name in ("one", "two", "three"))
    evaluation = evaluate_runs(EvaluateOptions(bank=str(tmp_path), runs=files))
    names = sorted(model.name for model in evaluation.tables[0].models)
    assert names == ["gru-1 x (random)", "three x", "two x (random)"]


def test_a_score_file_whose_facts_are_not_json_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Scores(("a",), np.array([0]), ("k",), np.ones((1, 1)), {"name": "old"})
    with monkeypatch.context() as changed:
        changed.setattr(json, "dumps", lambda *_, **__: '{"name": NaN}')
        score_tables.save(table, tmp_path / "x.npz")
    with pytest.raises(
        InputError, match=r"x\.npz: cannot be read as a score file .NaN is not valid JSON"
    ):
        score_tables.load(tmp_path / "x.npz")


def test_predict_says_where_it_cannot_write(three: list[Run]) -> None:
    options = PredictOptions(
        bank=str(bank_of(three)), run=three[0].path.name, to=str(bank_of(three) / "no" / "x.npz")
    )
    with pytest.raises(
        InputError,
        match=r"TO=.*no/x.npz: cannot be written, because the folder .*no does not exist; ",
    ):
        predict(options)


@pytest.mark.parametrize(
    "metrics",
    [
        {"test": {"top1": "high"}},
        {"test": {"map": True}},
        {"test": [1]},
        {"seconds": "long"},
        {"notes": 3},
        {"sequences": [1, 2]},
        {"members": [{"weight": 1.0}]},
    ],
)
def test_metrics_that_cannot_be_read_are_noted(
    tmp_path: Path, metrics: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made_run(tmp_path)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    assert all_runs(tmp_path) == []
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"note: a run is left out: {folder}/metrics.json cannot be read: ")


TRAINED = {
    "train": {"videos": 6, "top1": 0.5, "top5": 1.0},
    "validation": None,
    "test": {"videos": 3, "map": None, "classes_counted": 0, "classes_without": 4},
    "best_epoch": 2,
    "epochs": 3,
    "training_seconds": 0.5,
    "notes": ["a note"],
    "leaks": ["split 1: a video is a copy"],
    "sequences": {"train": 6, "validation": 0, "test": 3},
    "seconds": 1.25,
}
SVM = {
    "test": {"videos": 3, "top1": 0.5, "top5": 1.0, "low": 0.25, "high": 0.75},
    "c": 2,
    "cross_validation": {},
    "members": [{"run": "gru-1", "top1": 0.5}],
}
FUSED = {
    "test": {
        "videos": 3,
        "map": 0.5,
        "classes_counted": 4,
        "classes_without": 0,
        "low": 0.25,
        "high": 0.75,
    },
    "members": [{"run": "gru-1", "weight": 1.0, "map": 0.5}],
}


@pytest.mark.parametrize("metrics", [TRAINED, SVM, FUSED])
def test_metrics_are_written_as_they_were_read(metrics: dict[str, Any]) -> None:
    assert json.dumps(RunMetrics.from_json(metrics).to_json()) == json.dumps(metrics)
