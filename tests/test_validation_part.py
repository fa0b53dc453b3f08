"""A split with a validation part of its own: it is stored, and models are chosen on it. Test videos
are used for nothing but the last figures."""

import csv
import dataclasses
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from tiny_networks import LAYERED

from reelbank.data.store.commands import inspect
from reelbank.data.store.exchange.exporting import export
from reelbank.data.store.exchange.importing import import_store
from reelbank.data.store.options import ExportOptions, ImportOptions, InspectOptions
from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter
from reelbank.fusion.anomaly import anomaly
from reelbank.fusion.options import AnomalyOptions
from reelbank.heads.pretraining.options import PretrainOptions
from reelbank.heads.pretraining.pretrain import pretrain_on
from reelbank.heads.runs.folder import Run, all_runs
from reelbank.heads.training.options import TrainOptions
from reelbank.heads.training.train import train

torch.set_num_threads(1)
CLASSES = ("jump", "run")
PARTS = ("train", "train", "train", "validation", "test", "")  # of videos 0, 1, ... of a class
OPTIONS = TrainOptions(head="meanpool", lr=0.01, epochs=2, batch=4, device="cpu")


def write_store(bank: Path, changed: str = "") -> Path:
    """Six videos of each class. changed: a part whose videos have other labels and features."""
    dataset = DatasetDescription("folder-made", CLASSES, ("1",))
    videos = []
    with StoreWriter(bank / "stores" / "made.h5", {"stream": "rgb"}, dataset) as writer:
        for number in range(2 * len(PARTS)):
            part = PARTS[number // 2]
            is_changed = part == changed
            label = CLASSES[(number + is_changed) % 2]
            video = StoredVideo(f"v{number:02}", label, f"g{number}", (part,), {"bytes": number})
            rows = np.random.default_rng(number + 100 * is_changed).normal(size=(3, 8))
            writer.add(video, rows, np.arange(3) / 2)
            videos.append(video)
        assert writer.finish(videos)
    return writer.path


def trained(bank: Path, **changes: object) -> Run:
    before = {run.path for run in all_runs(bank)}
    assert train(dataclasses.replace(OPTIONS, bank=str(bank), **changes)) == 0  # type: ignore[arg-type]
    (run,) = [run for run in all_runs(bank) if run.path not in before]
    return run


def test_the_part_has_code_3_and_is_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_store(tmp_path)
    with h5py.File(path) as file:
        assert file["parts"][:, 0].tolist() == [1] * 6 + [3] * 2 + [2] * 2 + [0] * 2
    with Store.open(path) as store:
        assert [parts[0] for parts in store.parts] == [part for part in PARTS for _ in range(2)]
    assert inspect(InspectOptions(str(tmp_path), "made")) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "split train validation test neither" in lines and "1 6 2 2 2" in lines


def test_the_best_epoch_is_chosen_on_the_validation_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_store(tmp_path)
    run = trained(tmp_path, refit=False)
    assert {part: list(run.scores(part).video_ids) for part in ("train", "validation", "test")} == {
        "train": [f"v{number:02}" for number in range(6)],
        "validation": ["v06", "v07"],
        "test": ["v08", "v09"],
    }
    said = capsys.readouterr().out
    assert "validation uses the 2 videos of its validation part, and no training videos" in said
    refitted = trained(tmp_path, refit=True)
    seen = refitted.scores("train").video_ids  # the second training takes both
    assert list(seen) == [f"v{number:02}" for number in range(8)]


def test_without_validation_the_part_is_not_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_store(tmp_path)
    run = trained(tmp_path, validation=0.0)
    assert len(run.scores("train").video_ids) == 6 and run.metrics.parts["validation"] is None
    assert "VALIDATION=0, so the 2 videos of its validation part are not used" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(("part", "is_chosen_on"), [("test", False), ("validation", True)])
def test_only_the_validation_part_changes_what_is_chosen(
    tmp_path: Path, part: str, is_chosen_on: bool
) -> None:
    histories = []
    for name, changed in (("one", ""), ("other", part)):
        write_store(tmp_path / name, changed)
        run = trained(tmp_path / name, refit=False)
        rows = (run.path / "history.csv").read_text().splitlines()
        histories.append([row.rpartition(",")[0] for row in rows])  # without seconds
    assert (histories[0] != histories[1]) == is_chosen_on


def test_a_group_of_the_validation_part_that_is_trained_on_is_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "stores" / "made.h5"
    dataset = DatasetDescription("made", CLASSES, ("1",))
    rows = np.random.default_rng(0).normal(size=(12, 3, 8))
    parts = ["train"] * 6 + ["validation"] * 4 + ["test"] * 2
    groups = ["a", "b", "c", "d", "e", "f", "a", "h", "i", "j", "h", "k"]
    with StoreWriter(path, {"stream": "rgb"}, dataset) as writer:
        videos = [
            StoredVideo(f"v{number}", CLASSES[number % 2], groups[number], (parts[number],))
            for number in range(12)
        ]
        for video, values in zip(videos, rows, strict=True):
            writer.add(video, values, np.arange(3) / 2)
        writer.finish(videos)
    trained(tmp_path)
    said = capsys.readouterr().out
    of_related = "from groups of related videos that are also in the"
    assert f"the validation part contains 1 video {of_related} training part. Groups: a" in said
    assert f"the test part contains 1 video {of_related} validation part. Groups: h" in said


def test_an_exported_part_is_imported_again(tmp_path: Path) -> None:
    write_store(tmp_path)
    target = tmp_path / "rows.h5"
    assert export(ExportOptions("made", str(target), bank=str(tmp_path))) == 0
    imported = ImportOptions(
        file=str(target), csv=str(tmp_path / "rows.h5.csv"), bank=str(tmp_path / "other")
    )
    assert import_store(imported) == 0
    (path,) = (tmp_path / "other" / "stores").glob("*.h5")
    with Store.open(path) as store:
        assert sorted(parts[0] for parts in store.parts) == sorted(2 * PARTS)


def test_an_extractor_is_trained_on_training_videos_and_chosen_on_the_validation_part(
    tmp_path: Path,
) -> None:
    (tmp_path / "tiny.py").write_text(LAYERED)
    dataset = DatasetDescription("made", CLASSES, ("1",))
    pictures = np.random.default_rng(0).integers(0, 256, (12, 2, 3, 20, 24), np.uint8)
    recipe = {"stream": "rgb", "extractor": "pixels"}
    with StoreWriter(tmp_path / "stores" / "made.h5", recipe, dataset) as writer:
        videos = [
            StoredVideo(f"v{number:02}", CLASSES[number % 2], f"g{number}", (PARTS[number // 2],))
            for number in range(12)
        ]
        for video, values in zip(videos, pictures, strict=True):
            writer.add(video, values, np.arange(2.0))
        writer.finish(videos)
    options = PretrainOptions(
        dataset="folder",
        stream="rgb",
        extractor=f"{tmp_path / 'tiny.py'}:build",
        epochs=1,
        batch=4,
        device="cpu",
        bank=str(tmp_path),
    )
    with Store.open(writer.path) as store:
        assert pretrain_on(store, options) == 0
    (path,) = (tmp_path / "weights").glob("*/seen.json")
    assert json.loads(path.read_text()) == {
        "train": [f"v{number:02}" for number in range(6)],
        "validation": ["v06", "v07"],
    }


def test_thresholds_of_anomalies_come_from_the_validation_part(tmp_path: Path) -> None:
    """From its normal videos; the autoencoder learns from the normal videos of the training part."""
    rng = np.random.default_rng(0)
    dataset = DatasetDescription("made", CLASSES, ("1",))
    parts = ["train"] * 12 + ["validation"] * 8 + ["test"] * 8
    videos = [
        StoredVideo(f"v{i:02}", CLASSES[i % 4 == 3], f"g{i}", (part,))
        for i, part in enumerate(parts)
    ]
    with StoreWriter(tmp_path / "stores" / "made.h5", {"stream": "rgb"}, dataset) as writer:
        for video in videos:
            writer.add(video, rng.normal(size=(1, 4)), np.zeros(1))
        writer.finish(videos)
    options = AnomalyOptions(
        abnormal=("run",),
        bottleneck=(2,),
        hidden=8,
        epochs=5,
        false_alarms=(0.5,),
        store="made",
        bank=str(tmp_path),
    )
    assert anomaly(options) == 0
    (path,) = (tmp_path / "anomalies").glob("*/scores.csv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    used: dict[str, list[str]] = {part: [] for part in ("train", "validation", "test")}
    for row in rows:
        if row["part"] == "test" or row["normal"] == "1":
            used[row["part"]].append(row["video_id"])
    assert used == {
        "train": [f"v{i:02}" for i in range(12) if i % 4 != 3],
        "validation": [f"v{i:02}" for i in range(12, 20) if i % 4 != 3],
        "test": [f"v{i:02}" for i in range(20, 28)],
    }
