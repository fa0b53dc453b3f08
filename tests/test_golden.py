"""Banks of earlier versions (tests/golden): their stores and runs open, and the same options find
them."""

import json
import runpy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reelbank
from reelbank.data.store.reader import Store
from reelbank.heads.runs.folder import find_runs, load_run

GOLDEN = Path(__file__).parent / "golden"
BANK_86 = GOLDEN / "86d6a64"
MADE = runpy.run_path(str(GOLDEN / "make.py"))  # the options that the stores were made with


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    """A copy of the bank of commit 86d6a64."""
    return shutil.copytree(BANK_86, tmp_path / "bank")


def run(command: str, options: str, **places: Path) -> int:
    return reelbank.main(
        [command, *options.split(), *(f"{name}={path}" for name, path in places.items())]
    )


def held(path: Path) -> dict[str, str]:
    """Each video of a store with the digest of its values."""
    with Store.open(path) as store:
        return {video_id: MADE["digest"](*store.features(video_id)) for video_id in store.video_ids}


def test_stores_of_86d6a64_hold_their_values(bank: Path, capsys: pytest.CaptureFixture) -> None:
    values = json.loads((bank / "values.json").read_text())
    assert {name: held(bank / "stores" / name) for name in values} == values
    assert run("verify", "", BANK=bank) == 0
    assert run("stores", "", BANK=bank) == 0
    listed = capsys.readouterr().out
    assert all(name.rpartition("-")[2][:8] in listed for name in values)


@pytest.mark.parametrize("kind", ["rgb", "flow"])
def test_the_same_options_find_the_stores_of_86d6a64(
    bank: Path, kind: str, capsys: pytest.CaptureFixture
) -> None:
    names = sorted(path.name for path in (bank / "stores").iterdir())
    before = {path: path.read_bytes() for path in (bank / "stores").glob("*.h5")}
    options = f"DATASET=ucf101 DEVICE=cpu {MADE['EXTRACTIONS'][kind]}"
    assert run("extract", f"{options} PLAN=1", ROOT=bank / "clips", BANK=bank) == 0
    assert "6 videos, 6 already extracted, 0 to extract" in capsys.readouterr().out
    assert run("extract", options, ROOT=bank / "clips", BANK=bank) == 0
    assert "6 videos, 6 already extracted, 0 to extract" in capsys.readouterr().out
    assert sorted(path.name for path in (bank / "stores").iterdir()) == names
    assert {path: path.read_bytes() for path in before} == before


def test_an_unfinished_store_of_86d6a64_is_continued(
    bank: Path, capsys: pytest.CaptureFixture
) -> None:
    (unfinished,) = (bank / "stores").glob("*.parts")
    early = held(unfinished)
    options = f"DATASET=ucf101 DEVICE=cpu {MADE['EXTRACTIONS']['unfinished']}"
    assert run("extract", options, ROOT=bank / "clips", BANK=bank) == 0
    assert "6 videos, 3 already extracted, 3 to extract" in capsys.readouterr().out
    finished = held(unfinished.with_suffix(".h5"))
    assert len(finished) == 6
    assert {video_id: finished[video_id] for video_id in early} == early
    assert not unfinished.exists()


def test_runs_of_86d6a64_are_listed_and_used(bank: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("runs", "", BANK=bank) == 0
    listed = capsys.readouterr().out
    runs = find_runs(bank)
    assert sorted(one.recipe["head"] for one in runs) == ["gru", "meanpool"]
    with Store.open(next((bank / "stores").glob("*flow*.h5"))) as store:
        for one in runs:
            assert one.path.name in listed
            kept = one.scores("test")
            model, _ = load_run(one.path)
            assert model is not None
            assert set(kept.video_ids) <= set(store.video_ids)
    assert run("evaluate", " ".join(one.path.name for one in runs), BANK=bank) == 0


@pytest.mark.parametrize("number", [0, 1])
def test_the_same_training_finds_the_run_of_86d6a64(bank: Path, number: int) -> None:
    names = sorted(path.name for path in (bank / "runs").iterdir())
    before = {path: path.read_bytes() for path in (bank / "runs").glob("*/metrics.json")}
    options = f"DATASET=ucf101 STREAM=flow SPLIT=1 DEVICE=cpu {MADE['TRAININGS'][number]}"
    assert run("train", options, BANK=bank) == 0
    assert sorted(path.name for path in (bank / "runs").iterdir()) == names
    assert {
        path: path.read_bytes() for path in before
    } == before  # with the seconds that the training took


def test_runs_of_86d6a64_predict_what_they_predicted(bank: Path) -> None:
    video_id = "Biking/v_Biking_g01_c01"
    for one in find_runs(bank):
        kept = one.scores("test")
        scores: Any = reelbank.predict(bank / "clips" / f"{video_id}.mp4", [one.path])
        expected = kept.logits[kept.video_ids.index(video_id)]
        # The flow of other OpenCV versions differs a little: 4.10 moves a logit by 0.012.
        np.testing.assert_allclose(scores.logits[0], expected, atol=2e-2)
