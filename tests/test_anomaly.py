"""Anomalies: found off the plane of the normal, by what is learned from normal training videos alone."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from reelbank.data.errors import InputError
from reelbank.data.store import StoreWriter
from reelbank.fusion.anomaly import AnomalyOptions, anomaly, load_detector, read_material, reconstruction_errors, run_once

CLASSES = ("walk", "sit", "fall")


def make_store(path: Path, strange: float = 3.0, shape: tuple[int, ...] = (12,), change: str = "") -> None:
    """180 videos of three classes in 30 groups; walk and sit lie near a plane of 3 of 12 dimensions, fall off it. change: the
    part or class whose vectors are other ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset = {"name": "made", "classes": list(CLASSES), "splits": ["1"], "coarse": {}}
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(3, 12))
    metas, rows = [], []
    for i in range(180):
        label, part = CLASSES[i % 3], "test" if i // 6 % 3 == 0 else "train"
        value = rng.normal(size=3) @ plane + 0.1 * rng.normal(size=12) + strange * rng.normal(size=12) * (label == "fall")
        value += 5 * (change in (part, label))
        metas.append({"id": f"{label}/v{i:03}", "label": label, "group": f"g{i // 6}", "parts": [part], "source": {"bytes": 1}})
        rows.append(np.broadcast_to(value.reshape(12, *[1] * (len(shape) - 1)), (2, *shape)).astype(np.float32))
    recipe = {"stream": "rgb", "extractor": "net", "weights": {"source": "random"}, "strange": strange}
    with StoreWriter(path, recipe, dataset) as writer:
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


def test_maps_are_refused(tmp_path: Path) -> None:
    make_store(tmp_path / "stores" / "a.h5", shape=(12, 2, 2))
    with pytest.raises(InputError, match="its rows are maps of shape"):
        anomaly(options(tmp_path))
