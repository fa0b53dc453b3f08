"""Training as a command: the contents of a run folder, the data it is fitted on, and equal results
after kills and repetitions."""

import csv
import dataclasses
import fcntl
import json
import math
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import made_stores
import numpy as np
import pytest
import torch
from conftest import testdata
from safetensors import safe_open
from safetensors.torch import load_file

from reelbank.data.errors import InputError
from reelbank.data.options import parse
from reelbank.data.scores.table import Scores
from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter
from reelbank.heads.models.registry import head_spec
from reelbank.heads.predict import predicted
from reelbank.heads.recipe import Rule, Scoring, Training
from reelbank.heads.runs.folder import Run, all_runs, load_run
from reelbank.heads.training.batches import loaded
from reelbank.heads.training.fit import EpochRecord, best_epoch, finished, fit, learning_rate
from reelbank.heads.training.material import RunMaterial, SequenceExamples, evaluate
from reelbank.heads.training.options import TrainOptions
from reelbank.heads.training.planning.parts import chosen_classes
from reelbank.heads.training.results import part_metrics, summary
from reelbank.heads.training.sequences import tables
from reelbank.heads.training.train import train

torch.set_num_threads(1)  # the tensors are tiny
CLASSES = ("jump", "run", "sit", "wave")
SLOW = ("torchvision", "scipy.stats", "sklearn", "pandas")
QUICK = TrainOptions(head="meanpool", lr=0.01, batch=8, epochs=6, refit=False, device="cpu")


def make_store(
    bank: Path,
    changed: tuple[str, ...] = (),
    labels: bool = True,
    groups: int = 5,
    crops_kept: bool | None = None,
) -> Path:
    """4 classes x `groups` groups x 2 clips, 3 to 6 rows of 16 features; split 1 tests group 0,
    split 2 group 1. `changed`: ids whose rows are other ones. `crops_kept`, when given: rows of 2 x
    16, and what the recipe says of them."""
    rng = np.random.default_rng(0)
    dataset = DatasetDescription(
        name="made", classes=list(CLASSES), splits=["1", "2"], coarse={"still": ["sit"]}
    )
    recipe: dict[str, Any] = {"stream": "rgb", "extractor": "made:16"}
    recipe |= {} if crops_kept is None else {"crops_kept": crops_kept}
    centres = rng.normal(size=(len(CLASSES), 16))
    videos = []
    with StoreWriter(bank / "stores" / "made-rgb-16.h5", recipe, dataset) as writer:
        for number, label in enumerate(CLASSES):
            for group in range(groups):
                for clip in range(2):
                    rows = 3 + (number + group + clip) % 4
                    values = 2 * centres[number] + rng.normal(size=(rows, 16)) + 3
                    name = f"{label}/g{group}_c{clip}"
                    values = values * 40 + 7 if name in changed else values
                    values = values if crops_kept is None else np.stack([values, values], 1)
                    parts = ["test" if group == split else "train" for split in range(2)]
                    videos.append(
                        StoredVideo(
                            id=name,
                            label=label if labels else "",
                            group=f"g{group}",
                            parts=parts,
                            source={},
                        )
                    )
                    writer.add(videos[-1], values, np.arange(rows) / 2)
        assert writer.finish(videos)
    return writer.path


def trained(bank: Path, options: TrainOptions = QUICK, **changes: Any) -> list[Run]:
    """Train on the made store of `bank`; the runs that are new."""
    before = {run.path for run in all_runs(bank)}
    if not (bank / "stores").exists():
        make_store(bank)
    assert train(dataclasses.replace(options, bank=str(bank), **changes)) == 0
    return [run for run in all_runs(bank) if run.path not in before]


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.path / "checkpoint.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def history(run: Run) -> list[dict[str, str]]:
    with (run.path / "history.csv").open(newline="") as file:
        return [
            {key: value for key, value in row.items() if key != "seconds"}
            for row in csv.DictReader(file)
        ]


def test_a_run_folder_holds_all_and_the_model_comes_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run,) = trained(tmp_path, head="reslstm", layers=2, hidden=8, epochs=12)
    names = {
        "recipe.json",
        "checkpoint.safetensors",
        "history.csv",
        "metrics.json",
        "embeddings.h5",
        ".lock",
    }
    names |= {f"scores-{part}.npz" for part in ("train", "validation", "test")}
    assert {path.name for path in run.path.iterdir()} == names
    assert run.path.name == f"reslstm-{run.signature[:12]}"
    assert len(history(run)) == run.metrics.epochs and run.metrics.test.videos == 8
    assert f"{100 * run.metrics.test.top1:.2f}" in capsys.readouterr().out

    model, recipe = load_run(run.path)
    assert recipe.to_json() == run.recipe and not model.training
    with (
        Store.open(tmp_path / "stores" / "made-rgb-16.h5") as store,
        Store.open(run.path / "embeddings.h5") as embedded,
    ):
        assert (
            embedded.finished
            and sorted(embedded.video_ids) == sorted(store.video_ids)
            and embedded.row_shape == (8,)
        )
        table = run.scores("test")
        assert sorted(table.video_ids) == sorted(
            f"{label}/g0_c{clip}" for label in CLASSES for clip in range(2)
        )
        assert table.about["part"] == "test" and table.about["coarse"] == {"still": ["sit"]}
        for name, label, logits in zip(table.video_ids, table.labels, table.logits, strict=True):
            assert table.classes[label] == name.split("/")[0]
            values, times_seconds = store.features(name)
            with torch.no_grad():
                alone, embedding = model(
                    torch.from_numpy(values).float()[None], torch.tensor([len(values)])
                )
            np.testing.assert_allclose(alone[0], logits, atol=1e-5)
            kept, when = embedded.features(name)
            np.testing.assert_allclose(kept[0], embedding[0], atol=1e-3)
            assert when.tolist() == [times_seconds.mean()]
    right = np.mean(table.logits.argmax(1) == table.labels)
    assert run.metrics.test.top1 == right
    best = max(float(row["validation_accuracy"]) for row in history(run))
    assert run.metrics.validation.top1 == pytest.approx(best)


def test_the_same_command_trains_nothing_again(tmp_path: Path) -> None:
    runs = trained(tmp_path, seed=(0, 1), split=("1", "2"))
    assert len(runs) == 4

    def seen() -> dict[Path, tuple[int, int]]:
        files = (path for path in (tmp_path / "runs").rglob("*"))
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}

    before = seen()
    assert trained(tmp_path, seed=(0, 1), split=("all",)) == []
    assert seen() == before
    assert len(trained(tmp_path, seed=(0, 1), split=("1",), epochs=7)) == 2


def test_a_seed_gives_the_same_weights_to_the_bit(tmp_path: Path) -> None:
    options = dataclasses.replace(QUICK, head="gru", layers=2, hidden=8, dropout=0.3)
    (one,) = trained(tmp_path / "a", options)
    (two,) = trained(tmp_path / "b", options)
    (other,) = trained(tmp_path / "b", options, seed=(1,))
    assert (
        one.signature == two.signature
        and same(weights(one), weights(two))
        and history(one) == history(two)
    )
    assert not same(weights(two), weights(other))


def test_parallel_runs_are_the_same_runs(tmp_path: Path) -> None:
    options = dataclasses.replace(QUICK, head="lstm", layers=1, hidden=8, split=("1", "2"))
    alone, together = trained(tmp_path / "a", options), trained(tmp_path / "b", options, workers=2)
    assert len(together) == 2
    in_memory = [weights(run) for run in together]
    for run in together:
        (run.path / "metrics.json").unlink()
    trained(tmp_path / "b", options, workers=2, read_from="disk")
    for one, other, before in zip(alone, together, in_memory, strict=True):
        assert (other.path / "metrics.json").exists()
        for name, value in weights(one).items():
            torch.testing.assert_close(weights(other)[name], value, atol=1e-5, rtol=0)
            torch.testing.assert_close(before[name], value, atol=1e-5, rtol=0)


def test_validation_is_whole_groups_of_the_training_part(tmp_path: Path) -> None:
    runs = trained(tmp_path, split=("1", "2"), seed=(0, 1))
    for run in runs:
        ids = {part: run.scores(part).video_ids for part in ("train", "validation", "test")}
        groups = {part: {name.split("/")[1][:2] for name in names} for part, names in ids.items()}
        assert sum(map(len, ids.values())) == 40 and len(ids["validation"]) == 8
        for name in ids[
            "validation"
        ]:  # of a held out group no clip of the same class is trained on
            assert not any(other.startswith(name[:-1]) for other in ids["train"])
        assert groups["test"] == {"g0" if run.recipe["split"] == "1" else "g1"}
        assert not groups["test"] & (groups["train"] | groups["validation"])
    same_split = [run for run in runs if run.recipe["split"] == "1"]
    assert (
        same_split[0].scores("validation").video_ids == same_split[1].scores("validation").video_ids
    )


@pytest.mark.parametrize("part", ["validation", "test"])
def test_fitted_only_on_training_rows(tmp_path: Path, part: str) -> None:
    options = dataclasses.replace(QUICK, pca=6, epochs=1)
    (one,) = trained(tmp_path / "a", options)
    make_store(tmp_path / "b", changed=one.scores(part).video_ids)
    (two,) = trained(tmp_path / "b", options)
    assert same(weights(one), weights(two))
    assert not np.allclose(one.scores(part).logits, two.scores(part).logits)
    make_store(tmp_path / "c", changed=one.scores("train").video_ids[:3])
    (three,) = trained(tmp_path / "c", options)
    for name in ("mean", "deviation", "components"):
        assert not torch.allclose(
            weights(one)[f"normalise.{name}"], weights(three)[f"normalise.{name}"]
        )


def test_changed_features_are_trained_on_again(tmp_path: Path) -> None:
    (one,) = trained(tmp_path)
    shutil.rmtree(tmp_path / "stores")
    make_store(
        tmp_path, changed=one.scores("train").video_ids[:1]
    )  # as many rows, the same ids, labels and parts
    (two,) = trained(tmp_path)
    assert one.signature != two.signature and not same(weights(one), weights(two))
    shutil.rmtree(tmp_path / "stores")
    make_store(tmp_path)
    assert trained(tmp_path) == []  # the first run's features are back, and it is found


def test_only_kept_crops_are_averaged(tmp_path: Path) -> None:
    (plain,) = trained(tmp_path / "plain")
    make_store(tmp_path / "crops", crops_kept=True)
    (crops,) = trained(tmp_path / "crops")  # twice the same crop: their mean is the plain row
    np.testing.assert_array_equal(crops.scores("test").logits, plain.scores("test").logits)
    assert predicted(crops.path, tmp_path / "crops" / "stores" / "made-rgb-16.h5").logits.shape == (
        40,
        4,
    )
    make_store(tmp_path / "tokens", crops_kept=False)
    with pytest.raises(InputError, match="rows have shape 2 x 16"):
        trained(tmp_path / "tokens")


def test_refit_trains_on_training_and_validation_part(tmp_path: Path) -> None:
    (plain,) = trained(tmp_path)
    (refitted,) = trained(tmp_path, refit=True)
    assert set(refitted.scores("train").video_ids) == {
        *plain.scores("train").video_ids,
        *plain.scores("validation").video_ids,
    }
    with Store.open(tmp_path / "stores" / "made-rgb-16.h5") as store:
        values = store.load(refitted.scores("train").video_ids)[0].astype(np.float64)
    np.testing.assert_allclose(weights(refitted)["normalise.mean"], values.mean(0), atol=1e-4)
    np.testing.assert_array_equal(
        refitted.scores("validation").logits, plain.scores("validation").logits
    )
    assert (refitted.path / "refit-history.csv").read_text().count(
        "\n"
    ) == 1 + plain.metrics.best_epoch


def test_classes_are_relabelled_in_the_data_sets_order(tmp_path: Path) -> None:
    (run,) = trained(tmp_path, classes=("wave", "run"))
    table = run.scores("test")
    assert table.classes == ("run", "wave") and table.logits.shape == (4, 2)
    assert all(
        table.classes[label] == name.split("/")[0]
        for name, label in zip(table.video_ids, table.labels, strict=True)
    )


def test_fewer_steps_are_another_run(tmp_path: Path) -> None:
    (full,) = trained(tmp_path)
    (two,) = trained(tmp_path, t=2)
    with Store.open(tmp_path / "stores" / "made-rgb-16.h5") as store:
        name = two.scores("test").video_ids[0]
        values, _ = store.features(name)
    model, _ = load_run(two.path)
    ends = torch.from_numpy(values[[0, -1]]).float()[None]  # sigma(t) for T = 2
    np.testing.assert_allclose(
        model(ends, torch.tensor([2]))[0].detach()[0], two.scores("test").logits[0], atol=1e-5
    )
    assert full.signature != two.signature


COMMAND = (
    "import sys, torch, reelbank; torch.set_num_threads(1); sys.exit(reelbank.main(sys.argv[1:]))"
)


@pytest.mark.long
def test_killed_and_resumed_ends_in_the_same_weights(tmp_path: Path) -> None:
    options = {
        "head": "gru",
        "layers": "2",
        "hidden": "16",
        "dropout": "0.3",
        "batch": "2",
        "epochs": "15",
        "patience": "0",
    }
    words = [f"{name.upper()}={value}" for name, value in options.items()] + [
        "DEVICE=cpu",
        "REFIT=1",
        "SCHEDULE=cosine",
    ]
    make_store(tmp_path)

    def start() -> subprocess.Popen[str]:
        run = [sys.executable, "-c", COMMAND, "train", f"BANK={tmp_path}", *words]
        return subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    for pattern, epochs in (("state.safetensors", 4), ("refit-state.safetensors", 2)):
        process = start()
        deadline = time.monotonic() + 120
        while (
            process.poll() is None
            and epochs_in(tmp_path, pattern) < epochs
            and time.monotonic() < deadline
        ):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL, process.communicate()[0]
        assert epochs_in(tmp_path, pattern) >= epochs
        assert not list(tmp_path.glob("runs/*/metrics.json"))
    same_command = parse(TrainOptions, words, "train")
    trained(tmp_path, same_command)
    (killed,) = all_runs(tmp_path)
    (calm,) = trained(tmp_path / "calm", same_command)
    assert killed.signature == calm.signature
    assert same(weights(killed), weights(calm)) and history(killed) == history(calm)
    np.testing.assert_array_equal(killed.scores("test").logits, calm.scores("test").logits)
    assert not list(killed.path.glob("*state*")) and not list(killed.path.glob(".*.tmp"))


def epochs_in(bank: Path, name: str) -> int:
    for path in bank.glob(f"runs/*/{name}"):
        with safe_open(path, "pt") as file:
            return len(json.loads(file.metadata()["history"]))
    return 0


def test_killed_before_the_metrics_writes_the_outputs_again(tmp_path: Path) -> None:
    (run,) = trained(tmp_path)
    before = weights(run)
    (run.path / "metrics.json").unlink()
    (run.path / "scores-test.npz").unlink()
    (run.path / "embeddings.h5").write_bytes(b"half")
    trained(tmp_path)
    (again,) = all_runs(tmp_path)
    assert same(before, weights(again)) and again.scores("test")
    with Store.open(again.path / "embeddings.h5") as embedded:
        assert len(embedded.video_ids) == 40


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"split": ("9",)}, "SPLIT=9: made does not have this split; it has 1, 2"),
        ({"classes": ("jmup",)}, "did you mean jump"),
        ({"layers": 3}, "LAYERS=3: the head meanpool has no such option"),
        ({"pca": 17}, "dimensions, which is 16"),
        ({"schedule": "plateau", "validation": 0.0}, "SCHEDULE=plateau needs a validation part"),
        ({"schedule": "step"}, "LR_DROPS"),
        ({"lr": 0.0}, "LR=0.0"),
        ({"validation": 1.0}, "VALIDATION"),
        ({"seed": ()}, "SEED"),
        ({"dataset": "ucf101"}, "no store"),
        ({"optimiser": "sgd", "lr": 1e38}, "training diverged"),
    ],
)
def test_bad_input_gets_one_clear_line(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError, match=line) as error:
        trained(tmp_path, **changes)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("runs/*/metrics.json"))


def test_a_store_without_labels_is_refused(tmp_path: Path) -> None:
    make_store(tmp_path, labels=False)
    with pytest.raises(InputError, match="no class labels"):
        trained(tmp_path)


def test_one_group_leaves_no_validation_part_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_store(tmp_path, groups=2)  # one group tests, one trains
    (run,) = trained(tmp_path)
    assert "no validation part" in capsys.readouterr().out
    assert (
        run.metrics.validation is None
        and run.metrics.epochs == run.metrics.best_epoch == QUICK.epochs
    )
    with pytest.raises(InputError, match="no scores of part 'validation'"):
        run.scores("validation")


def test_a_class_without_test_videos_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a small folder of videos: a class with a single group is used only for training."""
    dataset = DatasetDescription("made", CLASSES[:3], ("1",))
    with StoreWriter(tmp_path / "stores" / "s.h5", {"stream": "rgb"}, dataset) as writer:
        videos = []
        for number in range(24):
            label = CLASSES[number % 3]
            part = "test" if label != "sit" and number < 6 else "train"
            group = "" if label != "sit" else "one"
            videos.append(StoredVideo(f"{label}/{number}", label, group, (part,), {}))
            writer.add(videos[-1], np.full((2, 4), number, np.float32), np.arange(2.0))
        assert writer.finish(videos)
    trained(tmp_path, epochs=1, dataset="made")
    notes = [line for line in capsys.readouterr().out.splitlines() if "no video" in line]
    assert notes[-1] == "note: split 1: the test part has no video of these classes: sit"


def test_a_run_in_training_is_not_trained_twice(tmp_path: Path) -> None:
    (run,) = trained(tmp_path)
    (run.path / "metrics.json").unlink()
    with (run.path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process"):
            trained(tmp_path)


def test_the_best_epoch_is_kept_and_comes_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(120, 16)).astype(np.float32)
    ids = tuple(map(str, range(40)))
    learn, score = tables([np.zeros(3, np.uint8)] * 40, Rule(), ids)
    labels = torch.from_numpy(
        rng.integers(0, 4, 40)
    )  # nothing to learn: what is learned by heart makes validation worse
    material = RunMaterial(loaded(ids, values, np.arange(41) * 3), learn, score, labels, Scoring())
    train_part, validation = torch.arange(24), torch.arange(24, 40)
    training = Training(
        "adam", 0.01, 0.0, 8, epochs=12, schedule="constant", lr_drops=(), patience=0, seed=0
    )

    examples = SequenceExamples(material, train_part, validation, training)

    def fitted() -> tuple[torch.nn.Module, list[EpochRecord]]:
        torch.manual_seed(0)
        head = head_spec("gru").build(16, 4, layers=1, hidden=8)
        return head, fit(head, examples, training, tmp_path / "state")

    head, past = fitted()
    best = best_epoch(past)
    assert best < len(past) and past[best - 1].validation_loss != past[-1].validation_loss
    judged = evaluate(head, material, validation)
    assert (judged.loss, judged.accuracy) == pytest.approx(
        (past[best - 1].validation_loss, past[best - 1].validation_accuracy)
    )
    again, nothing_new = fitted()  # from the state of the last epoch
    assert nothing_new == past and same(head.state_dict(), again.state_dict())


def record(epoch: int, accuracy: float | None, loss: float | None) -> EpochRecord:
    return EpochRecord(epoch, 1.0, 0.5, loss, accuracy, lr=0.1, seconds=0.0)


def made_history(accuracies: list[float], losses: list[float]) -> list[EpochRecord]:
    rows = enumerate(zip(accuracies, losses, strict=True), 1)
    return [record(epoch, accuracy, loss) for epoch, (accuracy, loss) in rows]


def test_best_epoch_and_patience() -> None:
    training = Training(
        "adam", 1e-3, 0.0, 8, epochs=10, schedule="constant", lr_drops=(), patience=2, seed=0
    )
    past = made_history([0.5, 0.8, 0.8, 0.7], [2.0, 1.0, 0.9, 0.1])
    assert best_epoch(past) == 3
    assert not finished(training, past)
    assert finished(training, [*past, dataclasses.replace(past[-1], epoch=5)])
    assert finished(dataclasses.replace(training, epochs=4, patience=0), past)
    assert best_epoch(past, "loss") == 4 and not finished(
        dataclasses.replace(training, best_by="loss"), past
    )
    assert best_epoch([record(1, None, None), record(2, None, None)]) == 2


def test_alpha_of_rmsprop_sets_the_running_mean_of_squared_gradients(tmp_path: Path) -> None:
    """After one step the running mean is (1 - alpha) g^2, so every weight has moved by
    lr / sqrt(1 - alpha) (Tieleman and Hinton 2012)."""
    one_step = {"head": "meanpool", "epochs": 1, "batch": 1000, "lr": 1e-3, "validation": 0.0}
    (usual,) = trained(tmp_path, **one_step)
    (lecture,) = trained(tmp_path, **one_step, rmsprop_alpha=0.9)
    assert "rmsprop_alpha" not in usual.recipe["training"]  # such runs keep their names
    assert lecture.recipe["training"]["rmsprop_alpha"] == 0.9
    name = "head.classifier.weight"
    moved = (weights(usual)[name] - weights(lecture)[name]).abs()
    expected = 1e-3 * (0.01**-0.5 - 0.1**-0.5)
    torch.testing.assert_close(moved, torch.full_like(moved, expected), rtol=1e-2, atol=0)
    with pytest.raises(InputError, match="RMSPROP_ALPHA=0.9: applies only to OPTIMISER=rmsprop"):
        trained(tmp_path, head="meanpool", optimiser="adam", rmsprop_alpha=0.9)


def test_learning_rate_schedules() -> None:
    training = Training(
        "adam", 0.1, 0.0, 8, epochs=4, schedule="step", lr_drops=(1, 3), patience=0, seed=0
    )
    flat = made_history([0.5] * 20, [1.0] * 20)
    assert [learning_rate(training, flat[:n]) for n in range(4)] == pytest.approx(
        [0.1, 0.01, 0.01, 0.001]
    )
    cosine = dataclasses.replace(training, schedule="cosine")
    assert [learning_rate(cosine, flat[:n]) for n in range(4)] == pytest.approx(
        [0.1, 0.05 * (1 + math.sqrt(0.5)), 0.05, 0.05 * (1 - math.sqrt(0.5))]
    )
    plateau = dataclasses.replace(training, schedule="plateau")
    assert [learning_rate(plateau, flat[:n]) for n in (5, 6, 10, 11)] == pytest.approx(
        [0.1, 0.01, 0.01, 0.001]
    )
    falling = made_history([0.5] * 8, [1.0 / n for n in range(1, 9)])
    assert learning_rate(plateau, falling) == 0.1
    assert learning_rate(dataclasses.replace(plateau, lr=2e-6), flat) == pytest.approx(1e-6)
    without = [record(1, None, None), record(2, None, None)]
    assert (
        learning_rate(plateau, without, rates=(0.1, 0.1, 0.01)) == 0.01
    )  # refit: as they were when there was a plateau


def test_accuracies_and_summary_by_hand() -> None:
    logits = np.tile(np.arange(7.0), (3, 1))
    made = Scores(("a", "b", "c"), np.array([6, 2, 1]), tuple("abcdefg"), logits)
    assert part_metrics(made).to_json() == {"videos": 3, "top1": 1 / 3, "top5": 2 / 3}
    assert summary({"1": [90.0, 92.0], "2": [94.0, 96.0]}) == (
        "mean 93.00, standard deviation 2.58 over 4 runs and 2.83 over the means of 2 splits"
    )
    assert summary({"1": [90.0]}) == "mean 90.00"


@pytest.fixture(scope="module")
def real_bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VGG16 fc6 features of 938 clips of UCF-101 as a store."""
    path = testdata("features", "ucf101_vgg16_fc6.h5")
    bank = tmp_path_factory.mktemp("real")
    with h5py.File(path) as file:
        names = [name.decode() for name in file["name"][:]]
        values, tests, groups = file["features"][:], file["is_test_split123"][:], file["group"][:]
    labels = [name.split("_")[1] for name in names]
    dataset = DatasetDescription(
        name="ucf101", classes=list(dict.fromkeys(labels)), splits=["1", "2", "3"], coarse={}
    )
    metas = [
        StoredVideo(
            id=name,
            label=label,
            group=f"g{group:02}",
            parts=["test" if t else "train" for t in test],
            source={},
        )
        for name, label, group, test in zip(names, labels, groups, tests, strict=True)
    ]
    with StoreWriter(
        bank / "stores" / "real.h5",
        {"stream": "rgb", "extractor": "vgg16"},
        dataset,
        part_videos=1000,
    ) as writer:
        for meta, own in zip(metas, values, strict=True):
            writer.add(meta, own, np.arange(25.0))
        assert writer.finish(metas)
    return bank


@pytest.mark.long
def test_meanpool_on_real_features(real_bank: Path) -> None:
    (run,) = trained(real_bank, TrainOptions(head="meanpool"))
    assert run.metrics.test.videos == 260 and run.metrics.test.top1 >= 0.94


def test_gru_learns_real_features_in_three_epochs(real_bank: Path) -> None:
    (run,) = trained(real_bank, TrainOptions(head="gru", layers=1, hidden=128, epochs=3))
    assert run.metrics.test.top1 >= 0.85


@pytest.mark.long
@pytest.mark.parametrize(
    "options",
    [
        {"head": "sru", "layers": 2, "hidden": 256, "epochs": 4},
        {"head": "bigru", "layers": 2, "hidden": 64, "epochs": 4},
        {"head": "gru", "layers": 1, "hidden": 128, "epochs": 4, "classifier": "svm"},
    ],
)
def test_recurrent_heads_on_real_features(real_bank: Path, options: dict[str, Any]) -> None:
    (run,) = trained(real_bank, TrainOptions(optimiser="adam", lr=1e-3, refit=False, **options))
    assert run.metrics.test.top1 >= 0.88


@pytest.mark.parametrize(
    ("stream", "wanted", "said"),
    [("audio", "fly", " with sound in it"), ("rgb", "digg", "; did you mean dig?")],
)
def test_a_class_without_a_video_is_named_with_its_likely_cause(
    tmp_path: Path, stream: str, wanted: str, said: str
) -> None:
    recipe = made_stores.RECIPE | {"stream": stream}
    if stream == "audio":
        recipe["front_end"] = "vggish log-mel, 16 kHz"
    with StoreWriter(tmp_path / "s.h5", recipe, made_stores.DATASET) as writer:
        metas = [made_stores.made_video(number) for number in (0, 2)]  # only of class dig
        for meta in metas:
            writer.add(meta, np.zeros((1, 5)), np.zeros(1))
        assert writer.finish(metas)
    with Store.open(tmp_path / "s.h5") as store, pytest.raises(InputError) as caught:
        chosen_classes(store, (wanted,))
    assert str(caught.value) == f"CLASSES: s.h5 has no video of class '{wanted}'{said}"


def test_a_head_is_trained_and_used_without_packages_that_other_commands_need(
    tmp_path: Path,
) -> None:
    """Importing them takes longer than training a small head."""
    store = make_store(tmp_path).stem
    code = f"""
import sys, reelbank
bank = {f"BANK={tmp_path}"!r}
assert reelbank.main(["train", bank, "HEAD=meanpool", "SPLIT=1", "EPOCHS=1", "DEVICE=cpu"]) == 0
assert reelbank.main(["predict", bank, "STORE={store}", "RUN=meanpool"]) == 0
import reelbank.fusion.fuse, reelbank.fusion.reproduce.batch_times
sys.exit(", ".join(set({SLOW}) & set(sys.modules)) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
