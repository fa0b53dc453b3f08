"""Anomaly detection: anomalies off the plane of the normal videos are found, and only normal
training videos are learned from."""

import csv
import dataclasses
import json
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from reelbank.data.errors import InputError
from reelbank.data.identity import signature
from reelbank.data.options import parse
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter
from reelbank.fusion.anomaly import anomaly, detect_anomalies, judge_store
from reelbank.fusion.bootstrap import resample_blocks
from reelbank.fusion.detectors.auc import resampled_aucs
from reelbank.fusion.detectors.autoencoder import load_detector, reconstruction_errors
from reelbank.fusion.detectors.baselines import baseline_scores
from reelbank.fusion.detectors.fit import fit_detector
from reelbank.fusion.detectors.videos import read_videos
from reelbank.fusion.options import AnomalyOptions
from reelbank.fusion.report.anomalies import read_detectors
from reelbank.heads.runs.folder import find_runs
from reelbank.heads.training.options import TrainOptions
from reelbank.heads.training.train import train, train_runs

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
    without: Collection[str] = (),
) -> None:
    """180 videos of three classes in 30 groups; walk and sit lie near a plane of 3 of 12
    dimensions, fall off it. change: the part or class whose vectors are other ones; saw: the split
    whose videos the backbone was trained on; unlabelled: how many of the first videos have no
    label; without: videos that are missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    about = DatasetDescription(
        name=dataset, classes=list(CLASSES), splits=["1"], coarse={}, multilabel=several
    )
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(3, 12))
    metas, rows = [], []
    for i in range(180):
        label, part = CLASSES[i % 3], "test" if i // 6 % 3 == 0 else "train"
        value = (
            rng.normal(size=3) @ plane
            + 0.1 * rng.normal(size=12)
            + strange * rng.normal(size=12) * (label == "fall")
        )
        value += 5 * (change in (part, label))
        told = label if i >= unlabelled else ""
        metas.append(
            StoredVideo(
                id=f"{label}/v{i:03}",
                label=told,
                group=f"g{i // 6}",
                parts=[part],
                source={"bytes": 1},
            )
        )
        rows.append(
            np.broadcast_to(value.reshape(12, *[1] * (len(shape) - 1)), (2, *shape)).astype(
                np.float32
            )
        )
    weights: dict = {"source": "random"}
    if saw:
        seen = "".join(
            signature({"dataset": dataset, "id": meta.id})[:12]
            for meta in metas
            if meta.parts == ("test",)
        )
        weights["saw"] = {"dataset": dataset, "split": saw, "videos": seen, "validation_videos": ""}
    recipe = {"stream": "rgb", "extractor": "net", "weights": weights, "strange": strange}
    with StoreWriter(path, recipe, about) as writer:
        for meta, row in zip(metas, rows, strict=True):
            if meta.id not in without:
                writer.add(meta, row, np.array([0.5, 1.5]))
        assert writer.finish([meta for meta in metas if meta.id not in without])


def options(bank: Path, **more) -> AnomalyOptions:
    chosen = {
        "abnormal": ("fall",),
        "bottleneck": (3,),
        "hidden": 32,
        "false_alarms": (0.1, 0.2),
    } | more
    return AnomalyOptions(bank=str(bank), store=str(bank / "stores" / "a.h5"), **chosen)


def folder_of(bank: Path) -> Path:
    (folder,) = (bank / "anomalies").iterdir()
    return folder


def test_a_detector_judges_the_videos_of_another_store(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    make_store(tmp_path / "stores" / "a.h5")
    assert anomaly(options(tmp_path)) == 0
    folder = folder_of(tmp_path)
    make_store(
        tmp_path / "stores" / "b.h5", change="test"
    )  # as extracted, other videos: those of the test part lie elsewhere
    capsys.readouterr()
    judge = {"bank": str(tmp_path), "detector": folder.name.rpartition("-")[2][:6]}
    assert anomaly(AnomalyOptions(**judge, store=str(tmp_path / "stores" / "b.h5"))) == 0
    said = capsys.readouterr().out
    (scored,) = folder.glob("scored-*.csv")
    with scored.open(newline="") as file:
        rows = {row["video_id"]: row for row in csv.DictReader(file)}
    assert len(rows) == 180
    numbers = {name: int(name.rpartition("v")[2]) for name in rows}
    moved = [
        row["alarm at 10 %"] == "1" for name, row in rows.items() if numbers[name] // 6 % 3 == 0
    ]
    usual = [
        row["alarm at 10 %"] == "1"
        for name, row in rows.items()
        if numbers[name] // 6 % 3 and row["label"] != "fall"
    ]
    assert all(moved) and np.mean(usual) < 0.25
    assert (
        f"{sum(row['alarm at 20 %'] == '1' for row in rows.values())} of 180 videos above the threshold for 20 % false alarms"
        in said
    )

    make_store(tmp_path / "stores" / "c.h5", strange=2.0)  # another recipe
    with pytest.raises(
        InputError,
        match=r"c\.h5 was not extracted with the same options as the store .* \(strange: 3.0, not 2.0\)",
    ):
        anomaly(AnomalyOptions(**judge, store=str(tmp_path / "stores" / "c.h5")))
    with pytest.raises(
        InputError,
        match=r"DETECTOR=nothing must match exactly one fitted detector, but it matches 0; choose from made-",
    ):
        anomaly(
            AnomalyOptions(
                bank=str(tmp_path), detector="nothing", store=str(tmp_path / "stores" / "b.h5")
            )
        )


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
        assert auc == pytest.approx(
            np.mean((high[:, None] > low) + 0.5 * (high[:, None] == low))
        )  # by counting pairs
    assert metrics["interval"][0] <= metrics["auc"]["autoencoder"] <= metrics["interval"][1]
    held = np.array([float(row["autoencoder"]) for row in rows if row["part"] == "validation"])
    for one in metrics["thresholds"]:
        assert (held > one["threshold"]).mean() <= one["asked"] <= (held >= one["threshold"]).mean()
        over = np.array([float(row["autoencoder"]) > one["threshold"] for row in test])
        assert (one["false_alarms"], one["detected"]) == (over[~wrong].mean(), over[wrong].mean())
    groups = {
        part: {
            int(row["video_id"][-3:]) // 6
            for row in rows
            if row["part"] == part and row["normal"] == "1"
        }
        for part in ("train", "validation")
    }
    assert groups["validation"] and not groups["validation"] & groups["train"]


def test_videos_like_the_normal_ones_score_at_chance(tmp_path: Path) -> None:
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
    videos = read_videos(wanted)
    first = fit_detector(wanted, videos, ("fall",), 0)
    folder = folder_of(tmp_path)
    with (folder / "scores.csv").open(newline="") as file:
        said = [float(row["autoencoder"]) for row in csv.DictReader(file)]
    np.testing.assert_allclose(
        reconstruction_errors(load_detector(folder), videos.vectors), said, rtol=1e-6
    )
    before = (folder / "checkpoint.safetensors").stat().st_mtime_ns
    assert fit_detector(wanted, videos, ("fall",), 0) == first
    assert (folder / "checkpoint.safetensors").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="but the detector was fitted on vectors of shape"):
        reconstruction_errors(load_detector(folder), videos.vectors[:, :5])
    (folder / "checkpoint.safetensors").write_bytes(b"\x80\x04.")
    with pytest.raises(InputError, match="cannot be read"):
        load_detector(folder)


def test_the_size_is_chosen_on_validation_videos(tmp_path: Path) -> None:
    """Of several sizes the one of highest AUC between held-out normal videos and the abnormal
    videos of the training part. Other test videos change neither size nor threshold."""
    chosen = []
    for change in ("", "test"):
        bank = tmp_path / (change or "same")
        make_store(bank / "stores" / "a.h5", change=change)
        assert anomaly(options(bank, bottleneck=(12, 1, 3), epochs=60)) == 0
        folder = folder_of(bank)
        metrics = json.loads((folder / "metrics.json").read_text())
        aucs = metrics["validation_auc"]
        assert set(aucs) == {"1", "3", "12"}
        assert aucs[str(metrics["bottleneck"])] == max(aucs.values())
        assert load_detector(folder)["network.2.weight"].shape[0] == metrics["bottleneck"]
        with (folder / "scores.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        tuned = [
            row
            for row in rows
            if row["part"] == "validation" or (row["part"] == "train" and row["normal"] == "0")
        ]
        wrong = [row["normal"] == "0" for row in tuned]
        errors = [float(row["autoencoder"]) for row in tuned]
        assert max(aucs.values()) == pytest.approx(roc_auc_score(wrong, errors))
        limits = [threshold["threshold"] for threshold in metrics["thresholds"]]
        chosen.append((metrics["bottleneck"], aucs, limits))
    assert chosen[0] == chosen[1]
    detectors = read_detectors(str(tmp_path / "same"), ["made"])
    assert detectors[0].sizes == (1, 3, 12) and detectors[0].bottleneck == (chosen[0][0],)


def test_a_single_size_is_found_under_its_earlier_name(tmp_path: Path) -> None:
    make_store(tmp_path / "stores" / "a.h5")
    assert anomaly(options(tmp_path, epochs=3)) == 0
    assert folder_of(tmp_path).name == "made-eda3685343a7"
    document = json.loads((folder_of(tmp_path) / "recipe.json").read_text())["recipe"]
    assert document["bottleneck"] == 3 and "held_out" not in document


def test_embeddings_of_several_runs_are_joined(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Two heads that know walk and sit: the detector's validation videos are those that neither
    head was trained on, and a video without the second stream has zeros and a mask."""
    make_store(tmp_path / "stores" / "a.h5")
    make_store(tmp_path / "stores" / "b.h5", strange=2.0, without=["fall/v002"])
    for name in "ab":
        words = f"HEAD=meanpool EPOCHS=2 REFIT=0 BANK={tmp_path} STORE={tmp_path}/stores/{name}.h5"
        assert train(parse(TrainOptions, [*words.split(), "CLASSES=walk sit"], "train")) == 0
    runs = find_runs(tmp_path)
    capsys.readouterr()
    wanted = AnomalyOptions(
        bank=str(tmp_path),
        run=tuple(run.path.name for run in runs),
        abnormal=("fall",),
        epochs=3,
        false_alarms=(0.2,),
        seed=(3,),
    )
    videos = read_videos(wanted)
    assert len(videos.ids) == 180 and videos.vectors.shape == (180, 12 + 12 + 2)
    mask = videos.vectors[:, -2:]
    assert mask.sum() == 359
    (without,) = np.nonzero(mask.min(axis=1) == 0)[0]
    assert videos.ids[without] == "fall/v002" and np.sum(videos.vectors[without] == 0) == 12 + 1
    assert anomaly(wanted) == 0
    assert "optimistic" not in capsys.readouterr().out
    with (folder_of(tmp_path) / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    held_out = {row["video_id"] for row in rows if row["part"] == "validation"}
    for run in runs:
        assert held_out and held_out == set(run.scores("validation").video_ids)
    judge = {"bank": str(tmp_path), "detector": folder_of(tmp_path).name}
    with pytest.raises(InputError, match="fitted on the joined embeddings of several runs"):
        anomaly(AnomalyOptions(**judge, store=str(tmp_path / "stores" / "a.h5")))


def test_held_out_videos_are_those_that_no_head_learned(tmp_path: Path) -> None:
    """The second stream has fewer videos, so its head holds out others; with VALIDATION_STORE it
    holds out the same ones, and the detector loses none of them."""
    absent = {f"{CLASSES[i % 3]}/v{i:03}" for i in range(48)}  # 8 of 30 groups
    make_store(tmp_path / "stores" / "a.h5")
    make_store(tmp_path / "stores" / "b.h5", strange=2.0, without=absent)
    chosen = []
    for more in ("STORE=a.h5", "STORE=b.h5", "STORE=b.h5 VALIDATION_STORE=a.h5"):
        words = f"HEAD=meanpool EPOCHS=1 REFIT=0 BANK={tmp_path} {more}"
        chosen += train_runs(parse(TrainOptions, [*words.split(), "CLASSES=walk sit"], "train"))
    held = [set(run.scores("validation").video_ids) for run in chosen]
    assert held[1] != held[0] - absent and held[2] == held[0] - absent
    assert any("VALIDATION_STORE=a.h5" in note for note in chosen[2].metrics.notes)
    first = chosen[0]
    for second, wanted in ((chosen[1], None), (chosen[2], held[0])):
        names = (first.path.name, second.path.name)
        detect_anomalies(
            AnomalyOptions(
                bank=str(tmp_path), run=names, abnormal=("fall",), epochs=1, false_alarms=(0.5,)
            )
        )
        (folder,) = (tmp_path / "anomalies").iterdir()
        with (folder / "scores.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        validation = {row["video_id"] for row in rows if row["part"] == "validation"}
        for run in (first, second):
            assert validation and not validation & set(run.scores("train").video_ids)
        assert wanted in (None, validation)
        folder.rename(tmp_path / second.path.name)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("VALIDATION_STORE=nothing", "VALIDATION_STORE=nothing: .*nothing"),
        (
            "VALIDATION_STORE=other.h5",
            "contains the data set other with the splits 1; give a store of the data set made",
        ),
        ("VALIDATION_STORE=a.h5 VALIDATION=0", "VALIDATION_STORE=a.h5 needs a validation part"),
    ],
)
def test_a_validation_store_must_fit(tmp_path: Path, more: str, said: str) -> None:
    make_store(tmp_path / "stores" / "a.h5")
    make_store(tmp_path / "stores" / "other.h5", dataset="other")
    words = f"HEAD=meanpool EPOCHS=1 BANK={tmp_path} STORE=a.h5 {more}"
    with pytest.raises(InputError, match=said):
        train_runs(parse(TrainOptions, words.split(), "train"))


def test_every_class_in_turn(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    make_store(tmp_path / "stores" / "a.h5")
    assert anomaly(options(tmp_path, abnormal=(), each=True, epochs=10, seed=(0, 1))) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:5]] == [
        "fall",
        "sit",
        "walk",
        "mean",
    ]
    assert len(list((tmp_path / "anomalies").iterdir())) == 6


def test_results_are_objects_with_the_printed_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    make_store(tmp_path / "stores" / "a.h5")
    fitted = detect_anomalies(options(tmp_path, epochs=10))
    (folder,) = (tmp_path / "anomalies").iterdir()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert json.loads(json.dumps(fitted.records()))[0]["seeds"] == [metrics]
    judged = judge_store(
        AnomalyOptions(
            bank=str(tmp_path), detector=folder.name, store=str(tmp_path / "stores" / "a.h5")
        )
    )
    record = judged.records()
    errors = np.array(list(record["errors"].values()))
    for threshold in record["thresholds"]:
        assert threshold["videos_above"] == (errors > threshold["threshold"]).sum()
    assert capsys.readouterr().out == ""  # printing is the command's part
    anomaly(options(tmp_path, epochs=10))
    assert capsys.readouterr().out == f"{fitted}\n"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"abnormal": ("run",)}, "the data has no class 'run'; choose from fall, sit, walk"),
        ({"abnormal": ()}, "give exactly one of ABNORMAL='class class' "),
        ({"abnormal": CLASSES}, "must contain both normal and abnormal videos"),
        ({"split": "2"}, "does not have this split; it has 1"),
        ({"false_alarms": (0.001,)}, "the rate must be at least"),
        ({"false_alarms": (1.5,)}, "must be above 0 and below 1"),
        ({"bottleneck": (0,)}, "BOTTLENECK=0: must be at least 1"),
        ({"run": ("gru",)}, "give exactly one of STORE= and RUN="),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, more: dict, said: str) -> None:
    make_store(tmp_path / "stores" / "a.h5")
    with pytest.raises(InputError, match=said):
        anomaly(dataclasses.replace(options(tmp_path), **more))


def test_what_a_head_learned_is_said_of_its_embeddings(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    make_store(tmp_path / "stores" / "a.h5")
    words = [
        "HEAD=meanpool",
        "EPOCHS=1",
        "SPLIT=1",
        f"BANK={tmp_path}",
        f"STORE={tmp_path}/stores/a.h5",
    ]
    assert train(parse(TrainOptions, words, "train")) == 0
    (run,) = find_runs(tmp_path)
    capsys.readouterr()
    wanted = AnomalyOptions(
        bank=str(tmp_path), run=(run.path.name,), abnormal=("fall",), epochs=3, false_alarms=(0.2,)
    )
    assert anomaly(wanted) == 0
    assert (
        "note: the head or the backbone that computed these features was trained on the abnormal "
        "classes fall, so the results are too optimistic" in capsys.readouterr().out
    )
    assert train(parse(TrainOptions, [*words, "CLASSES=walk sit"], "train")) == 0
    (run,) = [run for run in find_runs(tmp_path) if len(run.recipe["classes"]) == 2]
    capsys.readouterr()
    assert anomaly(dataclasses.replace(wanted, run=(run.path.name,))) == 0
    assert "optimistic" not in capsys.readouterr().out


def test_baselines_are_fitted_only_on_the_autoencoders_training_videos(tmp_path: Path) -> None:
    """What they say of every video is what they say when fitted on the training rows alone."""
    make_store(tmp_path / "stores" / "a.h5")
    wanted = options(tmp_path, epochs=3)
    videos = read_videos(wanted)
    fit_detector(wanted, videos, ("fall",), 0)
    with (folder_of(tmp_path) / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    kept = np.array([row["part"] == "train" and row["normal"] == "1" for row in rows])
    assert any(row["part"] == "validation" for row in rows)
    for method, found in baseline_scores(videos.vectors[kept], videos.vectors, 0).items():
        np.testing.assert_allclose([float(row[method]) for row in rows], found, rtol=1e-9)


def test_embeddings_whose_head_saw_the_test_videos_are_refused(tmp_path: Path) -> None:
    make_store(tmp_path / "stores" / "a.h5", saw="1")
    with pytest.raises(
        InputError,
        match="SPLIT=1: 60 of the 60 test videos of split 1 were used to train the backbone",
    ):
        anomaly(options(tmp_path))


def test_videos_without_a_label_are_left_out_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    make_store(tmp_path / "stores" / "a.h5", unlabelled=7)
    wanted = options(tmp_path, epochs=3)
    assert len(read_videos(wanted).ids) == 173
    assert anomaly(wanted) == 0
    assert "note: videos without a label are left out (7 videos)" in capsys.readouterr().out


def test_videos_of_several_labels_are_refused(tmp_path: Path) -> None:
    make_store(tmp_path / "stores" / "a.h5", several=True)
    with pytest.raises(InputError, match="a.h5 is multi-label"):
        anomaly(options(tmp_path))


def test_a_data_set_called_like_a_path_stays_in_the_folder(tmp_path: Path) -> None:
    make_store(tmp_path / "bank" / "stores" / "a.h5", dataset="../../out")
    assert anomaly(options(tmp_path / "bank", epochs=3)) == 0
    assert (
        folder_of(tmp_path / "bank").name.startswith("_.._out-")
        and len(list(tmp_path.iterdir())) == 1
    )


@pytest.mark.parametrize("what", ["auc", "interval", "thresholds", "normal_videos"])
def test_figures_of_other_types_are_said_to_be_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture, what: str
) -> None:
    make_store(tmp_path / "stores" / "a.h5")
    assert anomaly(options(tmp_path, epochs=3)) == 0
    path = folder_of(tmp_path) / "metrics.json"
    whole = json.loads(path.read_text())
    for wrong in (None, "text", ["a", "b"], {"autoencoder": 1}, [{"asked": "x"}]):
        path.write_text(json.dumps(whole | {what: wrong}))
        capsys.readouterr()
        assert read_detectors(str(tmp_path), ["made"]) == []  # left out of the report, and named
        (line,) = capsys.readouterr().err.splitlines()
        assert "metrics.json cannot be read: " in line and line.endswith(
            "; remove the folder and run the command again"
        )


def test_its_interval_is_over_groups(tmp_path: Path) -> None:
    make_store(tmp_path / "stores" / "a.h5", strange=1.0)
    wanted = options(tmp_path, epochs=3)
    videos = read_videos(wanted)
    assert anomaly(wanted) == 0
    with (folder_of(tmp_path) / "scores.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["part"] == "test"]
    group_of = dict(zip(videos.ids, videos.groups, strict=True))
    strange = np.array([row["normal"] == "0" for row in rows])
    error = np.array([float(row["autoencoder"]) for row in rows])
    ends = {}
    for by in ("groups", "videos"):
        groups = [group_of[row["video_id"]] if by == "groups" else "" for row in rows]
        aucs = resampled_aucs(strange, error, resample_blocks(groups, 1000))
        ends[by] = np.quantile(aucs, [0.025, 0.975])
    said = json.loads((folder_of(tmp_path) / "metrics.json").read_text())["interval"]
    np.testing.assert_allclose(said, ends["groups"], atol=1e-6)
    assert np.abs(said - ends["videos"]).max() > 1e-3


def test_the_areas_of_resamples_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 6, 30) / 4  # many are equal
    abnormal = generator.random(30) < 0.4
    counts = generator.integers(0, 3, (40, 30)).astype(np.int32)
    counts[3, abnormal], counts[5, ~abnormal] = 0, 0  # these two have no area
    expected = [
        roc_auc_score(abnormal, scores, sample_weight=draw)
        for number, draw in enumerate(counts)
        if number not in (3, 5)
    ]
    found = resampled_aucs(abnormal, scores, [counts[:7], counts[7:]])
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_maps_are_refused(tmp_path: Path) -> None:
    make_store(tmp_path / "stores" / "a.h5", shape=(12, 2, 2))
    with pytest.raises(InputError, match="contains feature maps of shape"):
        anomaly(options(tmp_path))
