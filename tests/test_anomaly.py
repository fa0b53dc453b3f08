"""Anomalies: found off the plane of the normal, by what is learned from normal training videos alone."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from reelbank.data.errors import InputError
from reelbank.data.recipe import parse, signature
from reelbank.data.store import StoreWriter
from reelbank.fusion.anomaly import (
    AnomalyOptions,
    anomaly,
    baselines,
    load_detector,
    read_material,
    reconstruction_errors,
    run_once,
)
from reelbank.fusion.anomaly_table import read_detectors
from reelbank.fusion.judge import draws
from reelbank.heads.options import TrainOptions
from reelbank.heads.runs import find_runs
from reelbank.heads.train import train

CLASSES = ("walk", "sit", "fall")


def make_store(
    path: Path,
    strange: float = 3.0,
    shape: tuple[int, ...] = (12,),
    change: str = "",
    dataset: str = "made",
    saw: str = "",
    unlabelled: int = 0,
    several: bool = False,
) -> None:
    """180 videos of three classes in 30 groups; walk and sit lie near a plane of 3 of 12 dimensions, fall off it. change: the
    part or class whose vectors are other ones; saw: the split whose videos the backbone was trained on; unlabelled: how many of
    the first videos have no label."""
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"name": dataset, "classes": list(CLASSES), "splits": ["1"], "coarse": {}, "multilabel": several}
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(3, 12))
    metas, rows = [], []
    for i in range(180):
        label, part = CLASSES[i % 3], "test" if i // 6 % 3 == 0 else "train"
        value = rng.normal(size=3) @ plane + 0.1 * rng.normal(size=12) + strange * rng.normal(size=12) * (label == "fall")
        value += 5 * (change in (part, label))
        told = label if i >= unlabelled else ""
        metas.append({"id": f"{label}/v{i:03}", "label": told, "group": f"g{i // 6}", "parts": [part], "source": {"bytes": 1}})
        rows.append(np.broadcast_to(value.reshape(12, *[1] * (len(shape) - 1)), (2, *shape)).astype(np.float32))
    weights: dict = {"source": "random"}
    if saw:
        seen = "".join(signature({"dataset": dataset, "id": meta["id"]})[:12] for meta in metas if meta["parts"] == ["test"])
        weights["saw"] = {"dataset": dataset, "split": saw, "videos": seen, "validation_videos": ""}
    recipe = {"stream": "rgb", "extractor": "net", "weights": weights, "strange": strange}
    with StoreWriter(path, recipe, about) as writer:
        for meta, row in zip(metas, rows, strict=True):
            writer.add(meta, row, np.array([0.5, 1.5]))
        assert writer.finish(metas)


def options(bank: Path, **more) -> AnomalyOptions:
    chosen = {"abnormal": ("fall",), "bottleneck": 3, "hidden": 32, "false_alarms": (0.1, 0.2)} | more
    return AnomalyOptions(bank=str(bank), store=str(bank / "stores" / "a.h5"), **chosen)


def folder_of(bank: Path) -> Path:
    (folder,) = (bank / "anomalies").iterdir()
    return folder


def test_a_detector_judges_the_videos_of_another_store(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    make_store(tmp_path / "stores" / "a.h5")
    assert anomaly(options(tmp_path)) == 0
    folder = folder_of(tmp_path)
    make_store(tmp_path / "stores" / "b.h5", change="test")  # as extracted, other videos: those of the test part lie elsewhere
    capsys.readouterr()
    judge = {"bank": str(tmp_path), "detector": folder.name.rpartition("-")[2][:6]}
    assert anomaly(AnomalyOptions(**judge, store=str(tmp_path / "stores" / "b.h5"))) == 0
    said = capsys.readouterr().out
    (scored,) = folder.glob("scored-*.csv")
    with scored.open(newline="") as file:
        rows = {row["video_id"]: row for row in csv.DictReader(file)}
    assert len(rows) == 180
    numbers = {name: int(name.rpartition("v")[2]) for name in rows}
    moved = [row["alarm at 10 %"] == "1" for name, row in rows.items() if numbers[name] // 6 % 3 == 0]
    usual = [row["alarm at 10 %"] == "1" for name, row in rows.items() if numbers[name] // 6 % 3 and row["label"] != "fall"]
    assert all(moved) and np.mean(usual) < 0.25
    assert f"{sum(row['alarm at 20 %'] == '1' for row in rows.values())} of 180 videos above the threshold of 20 %" in said

    make_store(tmp_path / "stores" / "c.h5", strange=2.0)  # another recipe
    with pytest.raises(InputError, match=r"c\.h5: was not extracted as the detector's store was: strange: 3.0, not 2.0"):
        anomaly(AnomalyOptions(**judge, store=str(tmp_path / "stores" / "c.h5")))
    with pytest.raises(InputError, match=r"DETECTOR=nothing: 0 fit; there are made-"):
        anomaly(AnomalyOptions(bank=str(tmp_path), detector="nothing", store=str(tmp_path / "stores" / "b.h5")))


def test_what_lies_off_the_plane_is_found(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    make_store(tmp_path / "stores" / "a.h5")
    assert anomaly(options(tmp_path)) == 0
    folder = folder_of(tmp_path)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["auc"]["autoencoder"] > 0.97
    assert f"{metrics['auc']['autoencoder']:.3f}" in capsys.readouterr().out
    with (folder / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    test = [row for row in rows if row["part"] == "test"]
    wrong = np.array([row["normal"] == "0" for row in test])
    for method, auc in metrics["auc"].items():
        values = np.array([float(row[method]) for row in test])
        assert auc == pytest.approx(roc_auc_score(wrong, values))
        high, low = values[wrong], values[~wrong]
        assert auc == pytest.approx(np.mean((high[:, None] > low) + 0.5 * (high[:, None] == low)))  # by counting pairs
    assert metrics["interval"][0] <= metrics["auc"]["autoencoder"] <= metrics["interval"][1]
    held = np.array([float(row["autoencoder"]) for row in rows if row["part"] == "validation"])
    for one in metrics["thresholds"]:
        assert (held > one["threshold"]).mean() <= one["asked"] <= (held >= one["threshold"]).mean()
        over = np.array([float(row["autoencoder"]) > one["threshold"] for row in test])
        assert (one["false_alarms"], one["detected"]) == (over[~wrong].mean(), over[wrong].mean())
    groups = {
        part: {int(row["video_id"][-3:]) // 6 for row in rows if row["part"] == part and row["normal"] == "1"}
        for part in ("train", "validation")
    }
    assert groups["validation"] and not groups["validation"] & groups["train"]


def test_videos_like_the_normal_are_not_told_apart(tmp_path: Path) -> None:
    make_store(tmp_path / "stores" / "a.h5", strange=0.0)
    assert anomaly(options(tmp_path)) == 0
    auc = json.loads((folder_of(tmp_path) / "metrics.json").read_text())["auc"]
    assert all(0.25 < value < 0.75 for value in auc.values())


@pytest.mark.parametrize("change", ["test", "fall"])
def test_nothing_of_test_or_abnormal_videos_is_learned(tmp_path: Path, change: str) -> None:
    models = []
    for name in ("nothing", change):
        make_store(tmp_path / name / "stores" / "a.h5", change=name)
        assert anomaly(options(tmp_path / name, epochs=20)) == 0
        models.append(load_detector(folder_of(tmp_path / name)))
    for name in models[0]:
        np.testing.assert_array_equal(models[0][name], models[1][name])


def test_saved_and_loaded_it_says_the_same_and_is_found_done(tmp_path: Path) -> None:
    make_store(tmp_path / "stores" / "a.h5")
    wanted = options(tmp_path, epochs=30)
    material = read_material(wanted)
    first = run_once(wanted, material, ("fall",), 0)
    folder = folder_of(tmp_path)
    with (folder / "scores.csv").open(newline="") as file:
        said = [float(row["autoencoder"]) for row in csv.DictReader(file)]
    np.testing.assert_allclose(reconstruction_errors(load_detector(folder), material.vectors), said, rtol=1e-6)
    before = (folder / "checkpoint.safetensors").stat().st_mtime_ns
    assert run_once(wanted, material, ("fall",), 0) == first
    assert (folder / "checkpoint.safetensors").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="do not fit a model"):
        reconstruction_errors(load_detector(folder), material.vectors[:, :5])
    (folder / "checkpoint.safetensors").write_bytes(b"\x80\x04.")
    with pytest.raises(InputError, match="cannot be read"):
        load_detector(folder)


def test_every_class_in_turn(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    make_store(tmp_path / "stores" / "a.h5")
    assert anomaly(options(tmp_path, abnormal=(), each=True, epochs=10, seed=(0, 1))) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:5]] == ["fall", "sit", "walk", "mean"]
    assert len(list((tmp_path / "anomalies").iterdir())) == 6


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"abnormal": ("run",)}, "there is no class 'run'; there are fall, sit, walk"),
        ({"abnormal": ()}, "ABNORMAL='class class' or EACH=1: give one of them"),
        ({"abnormal": CLASSES}, "needs normal and abnormal videos"),
        ({"split": "2"}, "has the splits 1"),
        ({"false_alarms": (0.001,)}, "tell no share below"),
        ({"false_alarms": (1.5,)}, "are shares: above 0 and below 1"),
        ({"bottleneck": 0}, "BOTTLENECK=0: must be above 0"),
        ({"run": "gru"}, "STORE= or RUN=: give one of them"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, more: dict, said: str) -> None:
    make_store(tmp_path / "stores" / "a.h5")
    with pytest.raises(InputError, match=said):
        anomaly(dataclasses.replace(options(tmp_path), **more))


def test_what_a_head_learned_is_said_of_its_embeddings(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    make_store(tmp_path / "stores" / "a.h5")
    words = ["HEAD=meanpool", "EPOCHS=1", "SPLIT=1", f"BANK={tmp_path}", f"STORE={tmp_path}/stores/a.h5"]
    assert train(parse(TrainOptions, words, "train")) == 0
    (run,) = find_runs(tmp_path)
    capsys.readouterr()
    wanted = AnomalyOptions(bank=str(tmp_path), run=run.path.name, abnormal=("fall",), epochs=3, false_alarms=(0.2,))
    assert anomaly(wanted) == 0
    assert "note: the head of these embeddings learned fall, so figures flatter" in capsys.readouterr().out
    assert train(parse(TrainOptions, [*words, "CLASSES=walk sit"], "train")) == 0
    (run,) = [run for run in find_runs(tmp_path) if len(run.recipe["classes"]) == 2]
    capsys.readouterr()
    assert anomaly(dataclasses.replace(wanted, run=run.path.name)) == 0
    assert "flatter" not in capsys.readouterr().out


def test_baselines_see_what_the_autoencoder_learns_from_alone(tmp_path: Path) -> None:
    """What they say of every video is what they say when fitted on the training rows alone."""
    make_store(tmp_path / "stores" / "a.h5")
    wanted = options(tmp_path, epochs=3)
    material = read_material(wanted)
    run_once(wanted, material, ("fall",), 0)
    with (folder_of(tmp_path) / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    kept = np.array([row["part"] == "train" and row["normal"] == "1" for row in rows])
    assert any(row["part"] == "validation" for row in rows)
    for method, found in baselines(material.vectors[kept], material.vectors, 0).items():
        np.testing.assert_allclose([float(row[method]) for row in rows], found, rtol=1e-9)


def test_embeddings_whose_head_saw_the_test_videos_are_refused(tmp_path: Path) -> None:
    make_store(tmp_path / "stores" / "a.h5", saw="1")
    with pytest.raises(InputError, match="SPLIT=1: 60 of the 60 test videos of split 1 were in what the backbone"):
        anomaly(options(tmp_path))


def test_videos_without_a_label_are_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    make_store(tmp_path / "stores" / "a.h5", unlabelled=7)
    wanted = options(tmp_path, epochs=3)
    assert len(read_material(wanted).ids) == 173
    assert anomaly(wanted) == 0
    assert "note: 7 videos without a label are left out" in capsys.readouterr().out


def test_videos_of_several_labels_are_refused(tmp_path: Path) -> None:
    make_store(tmp_path / "stores" / "a.h5", several=True)
    with pytest.raises(InputError, match="a.h5: its videos have several labels each"):
        anomaly(options(tmp_path))


def test_a_data_set_called_like_a_path_stays_in_the_folder(tmp_path: Path) -> None:
    make_store(tmp_path / "bank" / "stores" / "a.h5", dataset="../../out")
    assert anomaly(options(tmp_path / "bank", epochs=3)) == 0
    assert folder_of(tmp_path / "bank").name.startswith("_.._out-") and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("what", ["auc", "interval", "thresholds", "normal_videos"])
def test_figures_of_other_types_are_said_to_be_damaged(tmp_path: Path, what: str) -> None:
    make_store(tmp_path / "stores" / "a.h5")
    assert anomaly(options(tmp_path, epochs=3)) == 0
    path = folder_of(tmp_path) / "metrics.json"
    whole = json.loads(path.read_text())
    for wrong in (None, "text", ["a", "b"], {"autoencoder": 1}, [{"asked": "x"}]):
        path.write_text(json.dumps(whole | {what: wrong}))
        with pytest.raises(InputError, match=r"metrics\.json cannot be read: .*; remove the folder and run it again"):
            read_detectors(str(tmp_path), ["made"])


def test_its_interval_is_over_groups(tmp_path: Path) -> None:
    make_store(tmp_path / "stores" / "a.h5", strange=1.0)
    wanted = options(tmp_path, epochs=3)
    material = read_material(wanted)
    assert anomaly(wanted) == 0
    with (folder_of(tmp_path) / "scores.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["part"] == "test"]
    group_of = dict(zip(material.ids, material.groups, strict=True))
    strange, error = [row["normal"] == "0" for row in rows], [float(row["autoencoder"]) for row in rows]
    ends = {}
    for by in ("groups", "videos"):
        counts = draws([group_of[row["video_id"]] if by == "groups" else "" for row in rows], 1000)
        ends[by] = np.quantile([roc_auc_score(strange, error, sample_weight=draw) for draw in counts], [0.025, 0.975])
    said = json.loads((folder_of(tmp_path) / "metrics.json").read_text())["interval"]
    np.testing.assert_allclose(said, ends["groups"], atol=1e-6)
    assert np.abs(said - ends["videos"]).max() > 1e-3


def test_maps_are_refused(tmp_path: Path) -> None:
    make_store(tmp_path / "stores" / "a.h5", shape=(12, 2, 2))
    with pytest.raises(InputError, match="its rows are maps of shape"):
        anomaly(options(tmp_path))
