"""The commands as functions: keyword arguments in, objects out."""

from pathlib import Path

import pytest
from test_extract import ours  # noqa: F401

import reelbank
import reelbank.extract.run  # the package `reelbank.extract` and its functions go together
from reelbank.data.errors import InputError

TINY = {"dataset": "folder", "root": Path("videos"), "extractor": "tiny.py:build", "device": "cpu"}


def test_from_videos_to_a_report_with_keyword_arguments(ours, capsys):  # noqa: F811
    (store,) = reelbank.extract_features(
        **TINY, stream=["rgb"], crops=1, t=2, clip=1, classes=["left", "right"]
    )
    with store:
        assert len(store) == 24 and store.finished and store["left/clip_g00_c01"].shape[0] == 2
    (again,) = reelbank.extract_features(**TINY, stream="rgb", crops=1, t=2, clip=1)
    with again:
        assert again.identity == store.identity
    assert "24 already extracted, 0 to extract" in capsys.readouterr().out

    runs = reelbank.train(head="meanpool", epochs=1, seed=[0, 1], split=1, validation=0.3)
    assert [run.recipe["seed"] for run in runs] == [0, 1] and all(run.finished for run in runs)
    assert reelbank.train(head="meanpool", epochs=1, seed="0 1", split=1, validation=0.3) == runs

    evaluation = reelbank.evaluate(runs=runs)
    (record,) = evaluation.records()
    assert sorted(record["runs"]) == sorted(run.path.name for run in runs)
    assert 0 <= record["value"] <= 1 and "meanpool" in str(evaluation)

    page = reelbank.report(runs=runs[0].path.name, figures=False)
    assert page.suffix == ".html" and "meanpool" in page.read_text()
    assert reelbank.extract.run.extract  # still the package


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (
            "extract_features",
            {"dataste": "toy"},
            r"^unknown option dataste=; did you mean dataset=\?$",
        ),
        ("train", {"haed": "gru"}, r"^unknown option haed=; did you mean head=\?$"),
        ("train", {"batch_size": 8}, r"^unknown option batch_size=; did you mean batch=\?$"),
        ("train", {"xyzzy": 8}, "^unknown option xyzzy=; see 'reelbank train --help'$"),
        ("extract_features", {"crops": 7}, "^crops=7: choose from 1, 5, 10$"),
        ("train", {"seed": "many"}, "^seed=many: must be a list of whole numbers"),
        (
            "train",
            {"store": "zz", "bank": "."},
            "^store=zz: no store in .*; 'reelbank stores' lists",
        ),
        ("train", {"dataset": "toy"}, "make one with 'reelbank extract DATASET=toy'$"),
        ("train", {"bank": "nowhere"}, "no store of features in nowhere"),
        ("evaluate", {"bank": "nowhere"}, "nowhere"),
        ("report", {"out": "page.pdf"}, "^out=page.pdf: cannot write"),
    ],
)
def test_errors_are_input_errors(function, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        getattr(reelbank, function)(**options)
