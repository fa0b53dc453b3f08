"""Figures say how they were selected, and networks with random weights are called random."""

import json
from pathlib import Path

import numpy as np
import pytest
from made_runs import made_run

from reelbank.data.store.commands import stores
from reelbank.data.store.options import StoresOptions
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter
from reelbank.fusion.evaluation.evaluate import evaluate_runs
from reelbank.fusion.evaluation.options import EvaluateOptions
from reelbank.fusion.fuse import make_fused
from reelbank.fusion.options import FuseOptions
from reelbank.fusion.report.options import ReportOptions
from reelbank.fusion.report.page import write_report
from reelbank.heads.runs.commands import runs
from reelbank.heads.runs.options import RunsOptions


def page(bank: Path, **options: object) -> str:
    written = write_report(ReportOptions(bank=str(bank), figures=False, **options))
    return written.path.read_text()


def title_line(bank: Path, **options: object) -> str:
    return next(evaluate_runs(EvaluateOptions(bank=str(bank), **options)).lines())


def test_the_highest_of_several_models_is_said_to_be_selected(tmp_path):
    made_run(tmp_path, "gru")
    assert "<p>On 6 classes: " in page(tmp_path)
    assert "selected" not in title_line(tmp_path) and "best of" not in title_line(tmp_path)
    for split in ("1", "2"):  # two splits are one model
        made_run(tmp_path, "lstm", split=split)
    made_run(tmp_path, "meanpool", classes=("clap", "dive", "eat"))  # other classes, other models
    made_run(tmp_path, "meanpool")
    assert "The best of 3 models, selected on the test part (6 classes): " in page(tmp_path)
    assert "the best of 3 models, selected on the test part" in title_line(tmp_path)
    on_validation = title_line(tmp_path, part="validation")
    assert "the best of 3 models, selected on the validation part" in on_validation


def test_a_report_on_some_models_counts_those_that_it_leaves_out(tmp_path):
    first, second = made_run(tmp_path, "gru"), made_run(tmp_path, "lstm")
    made_run(tmp_path, "meanpool")
    (other := tmp_path / "other").mkdir()
    made_run(other, "gru")
    assert "One of 3 models in the bank (6 classes): " in page(tmp_path, runs=(first.name,))
    both = (first.name, second.name)
    expected = "the best of 2 models shown here (3 in the bank), selected on the test part"
    assert expected in title_line(tmp_path, runs=both)


def test_weights_of_a_fusion_that_were_tried_count_as_models(tmp_path):
    members = tuple(made_run(tmp_path, head).name for head in ("gru", "lstm"))
    options = {"bank": str(tmp_path), "runs": members}
    notes = []
    for weights in ((1.0, 1.0), (1.0, 2.0), (1.0, 2.0), (1.0, 3.0)):
        fused = make_fused(FuseOptions(**options, weights=weights))
        notes.append([line for line in fused.heading if "selected on the test part" in line])
    assert [len(lines) for lines in notes] == [0, 1, 1, 1]
    assert notes[-1] == [
        "note: the bank contains 3 fusions of these members; if you report the best one, it was "
        "selected on the test part. Use SEARCH=1 to choose the weights on validation data"
    ]
    assert "The best of 5 models, selected on the test part" in page(tmp_path)
    last = page(tmp_path, runs=(fused.folders[0].name,))
    assert "One of 5 models in the bank (6 classes): " in last


def with_network(run: Path, source: str) -> Path:
    document = json.loads((run / "recipe.json").read_text())
    extractor = document["recipe"]["extractor"]
    document["store_recipes"] = [{"extractor": extractor, "weights": {"source": source}}]
    (run / "recipe.json").write_text(json.dumps(document))
    return run


def test_a_network_with_random_weights_is_called_random(tmp_path, capsys):
    network = "torchvision:resnet18"
    made = with_network(made_run(tmp_path, "gru", extractor=network), "random, seed 4")
    other = with_network(
        made_run(tmp_path, "lstm", extractor=network), "pretrained ResNet18_Weights.IMAGENET1K_V1"
    )
    table = "\n".join(evaluate_runs(EvaluateOptions(bank=str(tmp_path))).lines())
    assert f"gru rgb {network} (random)" in table and f"lstm rgb {network} " in table
    assert f"lstm rgb {network} (random)" not in table
    fused = make_fused(FuseOptions(bank=str(tmp_path), runs=(made.name, other.name)))
    assert f"gru rgb {network} (random)" in "\n".join(fused.lines())
    name = fused.folders[0].name
    assert f"of gru, lstm rgb {network} (random)" in page(tmp_path, runs=(name,))
    text = page(tmp_path, runs=(made.name,))
    assert text.count(f"{network} (random)") >= 3  # the table, the headline, and the origins
    capsys.readouterr()
    runs(RunsOptions(bank=str(tmp_path), head="sru"))
    assert capsys.readouterr().out == f"no runs for HEAD=sru in {tmp_path / 'runs'}\n"
    runs(RunsOptions(bank=str(tmp_path / "empty")))
    assert capsys.readouterr().out.endswith("; 'reelbank train' makes one\n")
    runs(RunsOptions(bank=str(tmp_path)))
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert f"{network} (random)" in lines[made.name] and "(random)" not in lines[other.name]


@pytest.mark.parametrize(
    ("weights", "is_random"),
    [
        ({"source": "random, seed 0"}, True),
        ("random", True),
        ({"source": "file random.pth"}, False),
        ({"source": "none"}, False),
        (None, False),
    ],
)
def test_the_table_of_stores_calls_random_weights_random(tmp_path, capsys, weights, is_random):
    recipe = {"stream": "rgb", "extractor": "torchvision:resnet18", "weights": weights}
    path = tmp_path / "stores" / "made.h5"
    video = StoredVideo("a", "run", "", ("train",), {"bytes": 1})
    with StoreWriter(path, recipe, DatasetDescription("made", ("run",), ("1",))) as writer:
        writer.add(video, np.zeros((1, 4), np.float32), np.zeros(1))
        writer.finish([video])
    stores(StoresOptions(bank=str(tmp_path)))
    assert ("torchvision:resnet18 (random)" in capsys.readouterr().out) == is_random
