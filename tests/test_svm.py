"""The SVM on joined embeddings: equal to scikit-learn's, saved without pickle, with masks for missing
videos, and C chosen over whole groups."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.svm import LinearSVC

from reelbank.data.errors import InputError
from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter
from reelbank.fusion.embeddings import concatenated
from reelbank.fusion.svm import (
    SvmOptions,
    cross_validated,
    load_svm,
    margins,
    svm_runs,
)
from reelbank.heads.runs.folder import find_runs
from reelbank.heads.runs.metrics import RunMetrics
from reelbank.heads.training.options import TrainOptions
from reelbank.heads.training.train import train

CLASSES = ("a", "b", "c")


def make_store(bank: Path, stream: str, seed: int, missing: tuple[int, ...] = ()) -> None:
    """A store of 72 videos of three classes in 12 groups, a third of the groups in test, without the
    videos in `missing`."""
    bank.joinpath("stores").mkdir(exist_ok=True)
    recipe = {"stream": stream, "extractor": "net", "weights": {"source": "random", "seed": seed}}
    dataset = DatasetDescription(name="made", classes=list(CLASSES), splits=["1"], coarse={})
    metas = [
        StoredVideo(
            id=f"{CLASSES[i % 3]}/v{i:02}",
            label=CLASSES[i % 3],
            group=f"g{i // 6}",
            parts=["test" if i // 6 % 3 == 0 else "train"],
            source={"bytes": 1, "frames": 8, "fps": 4.0},
        )
        for i in range(72)
    ]
    kept = [i for i in range(72) if i not in missing]
    rng = np.random.default_rng(seed)
    middle = rng.normal(size=(3, 6))
    with StoreWriter(bank / "stores" / f"{stream}.h5", recipe, dataset) as writer:
        for i in range(72):
            values = middle[i % 3] + rng.normal(size=(2, 6)) * 1.2
            if i in kept:
                writer.add(metas[i], values.astype(np.float32), np.array([0.5, 1.5]))
        assert writer.finish([metas[i] for i in kept])


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three streams with a mean-pool run on each; some videos have no sound."""
    folder = tmp_path_factory.mktemp("bank")
    for stream, seed, missing in (("rgb", 1, ()), ("flow", 2, ()), ("audio", 3, (0, 7, 40, 41))):
        make_store(folder, stream, seed, missing)
        assert (
            train(
                TrainOptions(
                    bank=str(folder), dataset="made", stream=stream, head="meanpool", epochs=10
                )
            )
            == 0
        )
    return folder


def members(bank: Path, *streams: str) -> list:
    return [
        next(run for run in find_runs(bank, head="meanpool") if run.recipe["stream"] == stream)
        for stream in streams
    ]


def matrix(runs: list, part: str) -> tuple[np.ndarray, np.ndarray]:
    """What a user would do by hand: embeddings side by side (V, E), labels (V,), in the first run's
    order."""
    table = runs[0].scores(part)
    columns = []
    for run in runs:
        with Store.open(run.path / "embeddings.h5") as store:
            columns.append(
                np.concatenate([store.features(name)[0] for name in table.video_ids]).astype(
                    np.float64
                )
            )
    return np.concatenate(columns, axis=1), table.labels


def fitted(bank: Path, **options) -> tuple[dict[str, np.ndarray], RunMetrics, Path]:
    before = {run.path for run in find_runs(bank, head="svm")}
    assert svm_runs(SvmOptions(bank=str(bank), **options)) == 0
    (run,) = [run for run in find_runs(bank, head="svm") if run.path not in before]
    return load_svm(run.path)[0], run.metrics, run.path


@pytest.mark.parametrize(
    ("options", "c"),
    [({"c": 0.5}, 0.5), ({"svm_lambda": 0.02}, 1 / (2 * 0.02 * 48)), ({}, 1 / (2 * 0.01 * 48))],
)
def test_it_is_scikit_learns_linear_svc_and_is_loaded_without_pickle(
    bank: Path, options: dict, c: float
) -> None:
    runs = members(bank, "flow", "rgb")
    model, metrics, folder = fitted(bank, runs=tuple(run.path.name for run in runs), **options)
    x, labels = matrix(runs, "train")
    test, true = matrix(runs, "test")
    reference = LinearSVC(C=c, loss="hinge", random_state=0, max_iter=100_000).fit(x, labels)
    np.testing.assert_array_equal(model["weight"], reference.coef_)
    np.testing.assert_array_equal(model["bias"], reference.intercept_)
    np.testing.assert_allclose(
        margins(model, test), reference.decision_function(test), rtol=1e-12, atol=1e-12
    )
    (run,) = [run for run in find_runs(bank) if run.path == folder]
    np.testing.assert_array_equal(
        run.scores("test").logits, reference.decision_function(test).astype(np.float32)
    )
    assert metrics.test.top1 == reference.score(test, true)
    assert metrics.c == c
    assert run.scores("test").groups[0].startswith("g")
    assert {file.suffix for file in folder.iterdir()} <= {".json", ".npz", ".safetensors"}


def test_one_model_is_nothing_to_join(bank: Path) -> None:
    (run,) = members(bank, "rgb")
    with pytest.raises(
        InputError, match=r"an SVM needs two or more models \(got 1 run of 1 model\)"
    ):
        svm_runs(SvmOptions(bank=str(bank), runs=(run.path.name,)))


def test_z_norm_is_of_the_training_part(bank: Path) -> None:
    runs = members(bank, "flow", "rgb")
    model, _, _ = fitted(bank, runs=tuple(run.path.name for run in runs), znorm=True, c=1.0)
    x, labels = matrix(runs, "train")
    np.testing.assert_allclose(model["mean"], x.mean(axis=0))
    np.testing.assert_allclose(model["scale"], x.std(axis=0))
    reference = LinearSVC(C=1, loss="hinge", random_state=0, max_iter=100_000).fit(
        (x - x.mean(0)) / x.std(0), labels
    )
    np.testing.assert_allclose(model["weight"], reference.coef_, rtol=1e-6)


def test_a_run_with_missing_videos_is_refused_or_masked(
    bank: Path, capsys: pytest.CaptureFixture
) -> None:
    names = tuple(run.path.name for run in members(bank, "rgb", "audio"))
    with pytest.raises(InputError, match="have scores of different videos"):
        svm_runs(SvmOptions(bank=str(bank), runs=names))
    model, metrics, folder = fitted(bank, runs=names, missing="allow")
    assert model["weight"].shape == (3, 6 + 6 + 2)
    assert metrics.test.videos == 24
    (run,) = [run for run in find_runs(bank) if run.path == folder]
    assert (
        "a/v00" in run.scores("test").video_ids
        and "a/v00" not in members(bank, "audio")[0].scores("test").video_ids
    )
    one, other = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[5.0], [np.nan]])
    np.testing.assert_array_equal(
        concatenated([one, other], with_mask=True), [[1, 2, 5, 1, 1], [3, 4, 0, 1, 0]]
    )
    with pytest.raises(InputError, match="has scores, but no embeddings, for some videos"):
        concatenated([one, other], with_mask=False)


def test_c_is_chosen_over_whole_groups_as_scikit_learn_does(bank: Path) -> None:
    runs = members(bank, "flow", "rgb")
    x, labels = matrix(runs, "train")
    groups = runs[0].scores("train").groups
    cs = [0.001, 0.01, 0.1, 1.0]
    numbers = np.unique([f"group {name}" for name in groups], return_inverse=True)[1]
    grid = {"C": cs}
    search = GridSearchCV(
        LinearSVC(loss="hinge", random_state=0, max_iter=100_000), grid, cv=GroupKFold(4)
    ).fit(x, labels, groups=numbers)
    chosen = cross_validated(x, labels, groups, 4, cs)
    c, shares = chosen.c, chosen.accuracies
    assert c == search.best_params_["C"]
    np.testing.assert_allclose(
        list(shares.values()), search.cv_results_["mean_test_score"], atol=0.02
    )  # folds of unequal size
    _, metrics, _ = fitted(bank, runs=tuple(run.path.name for run in runs), cv=4, cs=tuple(cs))
    assert (metrics.c, metrics.cross_validation) == (c, shares)
    with pytest.raises(InputError, match="CV=9: the training part has only 8 groups"):
        svm_runs(SvmOptions(bank=str(bank), runs=tuple(run.path.name for run in runs), cv=9))
    with pytest.raises(InputError, match="do not record the groups"):
        cross_validated(x, labels, (), 4, cs)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"c": 1.0, "svm_lambda": 1.0}, "C and SVM_LAMBDA cannot be given together"),
        ({"c": -1.0}, "C=-1.0: must be above 0"),
        ({"svm_lambda": float("nan")}, "SVM_LAMBDA=nan: must be above 0"),
        ({"cs": (1.0,)}, "CS lists the values of C to try"),
        ({"cv": 1}, "CV must be 0 or at least 2 folds"),
    ],
)
def test_options_that_mean_nothing_are_refused(bank: Path, options: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        svm_runs(SvmOptions(bank=str(bank), **options))


def test_a_damaged_or_foreign_folder_is_refused(bank: Path) -> None:
    runs = members(bank, "flow", "rgb")
    _, _, folder = fitted(bank, runs=tuple(run.path.name for run in runs), c=0.123)
    with pytest.raises(InputError, match="is a run of head 'meanpool'; give a run of 'svm'"):
        load_svm(runs[0].path)
    arrays = load_file(folder / "checkpoint.safetensors")
    save_file(arrays | {"mean": arrays["mean"][:-1].copy()}, folder / "checkpoint.safetensors")
    with pytest.raises(InputError, match="the shapes of its arrays do not match"):
        load_svm(folder)
    (folder / "checkpoint.safetensors").write_bytes(b"\x80\x04cos\nsystem\n")
    with pytest.raises(InputError, match="cannot be read"):
        load_svm(folder)
    with pytest.raises(
        InputError,
        match="has no embeddings, but 'reelbank svm' combines the embeddings of runs of 'reelbank train'",
    ):
        svm_runs(SvmOptions(bank=str(bank), runs=(folder.name, runs[0].path.name)))


def test_the_leak_guard_holds_for_embeddings(bank: Path) -> None:
    """An SVM's recipe names its members, and their embeddings say what their heads saw."""
    (run,) = members(bank, "rgb")
    with Store.open(run.path / "embeddings.h5") as store:
        assert store.recipe["weights"]["saw"]["split"] == "1"
    names = tuple(run.path.name for run in members(bank, "flow", "rgb"))
    _, _, folder = fitted(bank, runs=names, c=0.7)
    recipe = json.loads((folder / "recipe.json").read_text())["recipe"]
    assert [member["head"] for member in recipe["members"]] == ["meanpool", "meanpool"]


def test_a_stream_without_videos_of_a_class_takes_part(tmp_path: Path) -> None:
    """Half of UCF-101's classes have no sound: with MISSING=allow the SVM knows all classes of all
    members."""
    make_store(tmp_path, "rgb", 1)
    make_store(tmp_path, "audio", 3, missing=tuple(range(2, 72, 3)))  # class c
    for stream in ("rgb", "audio"):
        words = {"dataset": "made", "stream": stream, "head": "meanpool", "epochs": 3}
        assert train(TrainOptions(bank=str(tmp_path), **words)) == 0
    audio, rgb = members(tmp_path, "audio", "rgb")
    assert audio.recipe["classes"] == ["a", "b"]
    names = (audio.path.name, rgb.path.name)
    with pytest.raises(InputError, match="have scores of different classes"):
        svm_runs(SvmOptions(bank=str(tmp_path), runs=names))
    _, metrics, folder = fitted(tmp_path, runs=names, missing="allow")
    (run,) = [run for run in find_runs(tmp_path) if run.path == folder]
    scores = run.scores("test")
    assert sorted(scores.classes) == ["a", "b", "c"] and metrics.test.videos == 24
    for name, label in zip(scores.video_ids, scores.labels, strict=True):
        assert name.startswith(scores.classes[label])


def test_classes_may_be_left_out(tmp_path: Path) -> None:
    make_store(tmp_path, "rgb", 1)
    options = TrainOptions(
        bank=str(tmp_path), dataset="made", head="meanpool", epochs=1, without=("b",)
    )
    assert train(options) == 0
    (run,) = find_runs(tmp_path)
    assert run.recipe["classes"] == ["a", "c"]
    with pytest.raises(InputError, match="WITHOUT: made has no class 'bb'; did you mean b?"):
        train(dataclasses.replace(options, without=("bb",)))
