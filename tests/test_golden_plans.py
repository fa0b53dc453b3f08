"""The same options give the same names of stores and runs as in earlier versions. A name contains
the hash of the whole recipe, so equal names mean that existing stores and runs are found."""

import dataclasses
import json
import runpy
import shlex
from pathlib import Path
from typing import Any

import pytest

from reelbank.data.datasets import load_dataset
from reelbank.data.options import parse
from reelbank.data.store import DatasetDescription, Store, StoredVideo, StoreWriter
from reelbank.extract.options import ExtractOptions
from reelbank.extract.planned import planned_stores
from reelbank.heads.training.options import TrainOptions
from reelbank.heads.training.planning.plan import plan_runs

GOLDEN = Path(__file__).parent / "golden"
CASES: dict[str, Any] = runpy.run_path(str(GOLDEN / "cases.py"))
PLANS: dict[str, Any] = json.loads((GOLDEN / "ed07f68" / "plans.json").read_text())
RUN_NAMES: dict[str, Any] = json.loads((GOLDEN / "30e7df5" / "runs.json").read_text())
UCF101 = load_dataset("ucf101", str(GOLDEN / "86d6a64" / "clips"))


def extraction_cases() -> list[Any]:
    """One parameter for each case; those with large networks take long."""
    cases = []
    for case in PLANS["extract"]:
        text = f"{case['dataset']} {case['options']}"
        marks = [pytest.mark.long] if any(word in text for word in CASES["LARGE"]) else []
        cases.append(pytest.param(case, id=text, marks=marks))
    return cases


@pytest.mark.parametrize("case", extraction_cases())
def test_stores_keep_their_names(case: dict[str, Any], tmp_path: Path) -> None:
    words = shlex.split(case["options"].format(tests=GOLDEN.parent))
    kind = "folder" if case["dataset"].startswith("folder") else case["dataset"]
    words += [f"DATASET={kind}", "DEVICE=cpu", f"BANK={tmp_path}"]
    dataset = dataclasses.replace(UCF101, name=case["dataset"])
    stores = planned_stores(parse(ExtractOptions, words, "extract"), dataset)
    assert [store.path.name for store in stores] == list(case["stores"])


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores with the golden recipes, filled with values that depend on the video's number alone."""
    folder = tmp_path_factory.mktemp("bank")
    by_options = {(case["dataset"], case["options"]): case for case in PLANS["extract"]}
    about = DatasetDescription(UCF101.name, UCF101.classes, UCF101.splits)
    videos = [
        {"id": video.id, "label": video.label, "group": video.group, "parts": list(video.parts)}
        for video in UCF101.videos
    ]
    for name, (case, number, shape) in CASES["STORES"].items():
        recipe = json.loads(list(by_options[CASES["EXTRACT"][case]]["stores"].values())[number])
        with StoreWriter(folder / f"{name}.h5", recipe, about) as writer:
            CASES["fill_store"](writer, videos, recipe, shape, as_video=StoredVideo)
    return folder


def former_defaults(options: str) -> list[str]:
    """The options that must be given today for what was the default when the names were made.
    Recipes of papers state their own values."""
    if "HEAD=fisher" in options:
        return ["DIMS=half"]
    return [] if "PATIENCE=" in options or "RECIPE=" in options else ["PATIENCE=3"]


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=f"{case['stores']} {case['options']}") for case in PLANS["train"]],
)
def test_runs_keep_their_names(case: dict[str, Any], bank: Path) -> None:
    words = [*shlex.split(case["options"]), *former_defaults(case["options"])]
    options = parse(TrainOptions, [f"BANK={bank}", *words], "train")
    stores = [Store.open(bank / f"{name}.h5") for name in case["stores"].split()]
    assert [plan.path.name for plan in plan_runs(stores, options)] == case["runs"]
    for store in stores:
        store.close()


@pytest.mark.parametrize("stores_and_options", RUN_NAMES)
def test_runs_of_the_defaults_since_30e7df5_keep_their_names(
    stores_and_options: str, bank: Path
) -> None:
    names, _, words = stores_and_options.partition(": ")
    options = parse(TrainOptions, [f"BANK={bank}", *shlex.split(words)], "train")
    stores = [Store.open(bank / f"{name}.h5") for name in names.split()]
    planned = [plan.path.name for plan in plan_runs(stores, options)]
    assert planned == RUN_NAMES[stores_and_options]
    for store in stores:
        store.close()
