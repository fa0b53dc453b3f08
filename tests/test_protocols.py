"""Training protocols other than the standard one: windows, segments, crops, multi-label data, mid
fusion, an SVM."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score
from sklearn.svm import LinearSVC

from reelbank.data.errors import InputError
from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter
from reelbank.heads.models.linear_svm import c_of_lambda, fitted_svm
from reelbank.heads.predict import predicted
from reelbank.heads.runs.folder import Run, all_runs, folder_name, load_run
from reelbank.heads.training.options import TrainOptions
from reelbank.heads.training.train import train

torch.set_num_threads(1)  # the tensors are tiny
CLASSES = ("jump", "run", "sit", "wave")
QUICK = TrainOptions(
    head="meanpool", lr=0.01, batch=8, epochs=5, patience=0, refit=False, device="cpu"
)


def make_store(
    path: Path,
    rows: int = 8,
    row_shape: tuple[int, ...] = (10,),
    several: bool = False,
    seed: int = 0,
    shift_seconds: float = 0.0,
    left_out: tuple[str, ...] = (),
    **recipe: Any,
) -> str:
    """4 classes x 5 groups x 2 clips of `rows` rows; the one split tests group 0. `several`: test
    videos have their own class and the next one, those of clip 1 none at all. Returns the
    identity."""
    dataset = DatasetDescription("made", CLASSES, ["1"], multilabel=several)
    rng, videos = np.random.default_rng(seed), []
    centres = rng.normal(size=(len(CLASSES), *row_shape))
    recipe = {"stream": "rgb", "extractor": "net", "stride_frames": 5, **recipe}
    with StoreWriter(path, recipe, dataset) as writer:
        for number, label in enumerate(CLASSES):
            for group in range(5):
                for clip in range(2):
                    name, is_test = f"{label}/g{group}_c{clip}", group == 0
                    if several and is_test:
                        label_text = (
                            ";".join(sorted({label, CLASSES[(number + 1) % 4]}))
                            if clip == 0
                            else ""
                        )
                    else:
                        label_text = label
                    values = centres[number] + rng.normal(size=(rows, *row_shape))
                    if name in left_out:
                        continue
                    videos.append(
                        StoredVideo(
                            id=name,
                            label=label_text,
                            group=f"g{group}",
                            parts=["test" if is_test else "train"],
                            source={"fps": 25.0},
                        )
                    )
                    writer.add(videos[-1], values, np.arange(rows) / 5 + shift_seconds)
        assert writer.finish(videos)
        return writer.identity


def trained(bank: Path, options: TrainOptions = QUICK, **changes: Any) -> list[Run]:
    before = {run.path for run in all_runs(bank)}
    assert train(dataclasses.replace(options, bank=str(bank), **changes)) == 0
    return [run for run in all_runs(bank) if run.path not in before]


@torch.no_grad()
def no_grad(
    model: torch.nn.Module, x: torch.Tensor, lengths: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    return model(x, lengths)


def rows_of(bank: Path, name: str) -> torch.Tensor:
    (path,) = (bank / "stores").glob("*.h5")
    with Store.open(path) as store:
        return torch.from_numpy(store.features(name)[0]).float()


def test_a_videos_windows_are_scored_one_by_one_and_averaged(tmp_path: Path) -> None:
    make_store(tmp_path / "stores" / "a.h5")
    (run,) = trained(tmp_path, head="gru", layers=1, hidden=6, sampling="windows", t=4, stride=2)
    model, _ = load_run(run.path)
    table = run.scores("test")
    for name, logits in zip(table.video_ids, torch.from_numpy(table.logits), strict=True):
        x = rows_of(tmp_path, name)
        windows = torch.stack([x[first : first + 4] for first in (0, 2, 4)])
        expected, embeddings = no_grad(model, windows, torch.full((3,), 4))
        torch.testing.assert_close(
            logits.softmax(0), expected.softmax(1).mean(0), atol=1e-5, rtol=0
        )
        with Store.open(run.path / "embeddings.h5") as embedded:
            np.testing.assert_allclose(embedded.features(name)[0][0], embeddings.mean(0), atol=2e-3)
    (again,) = trained(
        tmp_path,
        head="gru",
        layers=1,
        hidden=6,
        sampling="windows",
        t=4,
        stride=2,
        average="logits",
    )
    assert again.signature != run.signature


def test_positions_times_crops_are_averaged_before_softmax(tmp_path: Path) -> None:
    make_store(tmp_path / "stores" / "a.h5", rows=8, row_shape=(3, 10), crops_kept=True)
    options = {
        "sampling": "segments",
        "t": 2,
        "positions": 4,
        "crops": "each",
        "views": "one",
        "average": "logits",
    }
    (run,) = trained(tmp_path, **options)
    model, _ = load_run(run.path)
    table = run.scores("test")
    x = rows_of(tmp_path, table.video_ids[3])  # (8, 3, 10)
    logits = [
        no_grad(model, x[[p, 4 + p], crop][None], torch.tensor([2]))[0][0]
        for p in range(4)
        for crop in range(3)
    ]
    torch.testing.assert_close(
        torch.from_numpy(table.logits[3]), torch.stack(logits).mean(0), atol=1e-5, rtol=0
    )


def test_maps_serve_heads_that_take_vectors(tmp_path: Path) -> None:
    make_store(tmp_path / "stores" / "a.h5", row_shape=(10, 3, 2))
    (run,) = trained(tmp_path)
    model, _ = load_run(run.path)
    table = run.scores("test")
    x = rows_of(tmp_path, table.video_ids[0]).mean((2, 3))
    found = no_grad(model, x[None], torch.tensor([8]))[0][0]
    torch.testing.assert_close(found, torch.from_numpy(table.logits[0]), atol=2e-3, rtol=0)


def test_several_labels_are_judged_by_mean_average_precision(tmp_path: Path) -> None:
    make_store(tmp_path / "stores" / "a.h5", several=True)
    (run,) = trained(tmp_path, epochs=20)
    table = run.scores("test")
    assert len(table.video_ids) == 8 and table.labels.shape == (8, 4)
    by_name = dict(zip(table.video_ids, table.labels.tolist(), strict=True))
    assert by_name["jump/g0_c0"] == [1, 1, 0, 0] and by_name["wave/g0_c0"] == [1, 0, 0, 1]
    assert by_name["sit/g0_c1"] == [0, 0, 0, 0]  # no action: negative for every class
    expected = np.mean(
        [average_precision_score(table.labels[:, c], table.logits[:, c]) for c in range(4)]
    )
    assert run.metrics.test.map == pytest.approx(expected, abs=1e-9)
    assert run.metrics.test.classes_counted == 4 and run.metrics.validation.map == 1.0
    assert run.metrics.epochs == 20
    scored = predicted(run.path, tmp_path / "stores" / "a.h5")
    assert (
        scored.labels.shape == (40, 4)
        and scored.labels[scored.video_ids.index("run/g0_c1")].tolist() == [0] * 4
    )


def test_several_labels_are_learned_by_binary_cross_entropy(tmp_path: Path) -> None:
    make_store(tmp_path / "stores" / "a.h5", several=True)
    (run,) = trained(tmp_path, epochs=1, lr=1e-9)
    history = (run.path / "history.csv").read_text().splitlines()
    loss = float(dict(zip(history[0].split(","), history[1].split(","), strict=True))["train_loss"])
    table = run.scores("train")
    logits, labels = torch.from_numpy(table.logits), torch.from_numpy(table.labels).float()
    assert loss == pytest.approx(
        float(torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)), abs=1e-4
    )


def test_the_highest_of_a_videos_clips_counts(tmp_path: Path) -> None:
    """Charades: the store has two windows of four rows of each video."""
    make_store(tmp_path / "stores" / "a.h5", several=True, windows=2, window_frames=20)
    (run,) = trained(tmp_path, over_clips="max")
    model, _ = load_run(run.path)
    table = run.scores("test")
    x = rows_of(tmp_path, table.video_ids[5])
    clips = no_grad(model, torch.stack([x[:4], x[4:]]), torch.tensor([4, 4]))[0].sigmoid()
    torch.testing.assert_close(
        torch.from_numpy(table.logits[5]).sigmoid(), clips.amax(0), atol=1e-5, rtol=0
    )


def test_mid_fusion_joins_rows_of_two_stores(tmp_path: Path) -> None:
    make_store(tmp_path / "stores" / "a.h5", left_out=("jump/g1_c0",))
    make_store(
        tmp_path / "stores" / "b.h5",
        stream="flow",
        seed=1,
        shift_seconds=0.1,
        left_out=("run/g2_c1",),
    )
    (run,) = trained(tmp_path, stream="rgb+flow", mid="product")
    assert run.recipe["stream"] == "rgb+flow" and run.recipe["mid"]["how"] == "product"
    ids = {name for part in ("train", "validation", "test") for name in run.scores(part).video_ids}
    assert len(ids) == 38 and not ids & {"jump/g1_c0", "run/g2_c1"}  # only in one of the two
    assert run.metrics.notes[0] == (
        "2 videos are left out because at least one of the 2 stores does not contain them: jump/g1_c0, run/g2_c1"
    )
    model, _ = load_run(run.path)
    table = run.scores("test")
    with (
        Store.open(tmp_path / "stores" / "a.h5") as one,
        Store.open(tmp_path / "stores" / "b.h5") as other,
    ):
        rgb, flow = (
            torch.from_numpy(store.features(table.video_ids[0])[0]).float()
            for store in (one, other)
        )
    parts = [part(x[None]) for part, x in zip(model.normalise.parts, (rgb, flow), strict=True)]
    expected = model.head(parts[0] * parts[1], torch.tensor([8]))[0][0].detach()
    torch.testing.assert_close(torch.from_numpy(table.logits[0]), expected, atol=1e-5, rtol=0)
    streamed = trained(tmp_path, stream="rgb+flow", mid="product", seed=(1,), read_from="disk")
    in_memory = trained(tmp_path, stream="flow+rgb", mid="product", seed=(1,))
    assert len(streamed) == len(in_memory) == 1
    scored = predicted(run.path, tmp_path / "stores" / "a.h5", tmp_path / "stores" / "b.h5")
    np.testing.assert_allclose(
        scored.logits[scored.video_ids.index(table.video_ids[0])], table.logits[0], atol=1e-5
    )
    with pytest.raises(InputError, match="must name 2 stores .got 1."):
        predicted(run.path, tmp_path / "stores" / "a.h5")


@pytest.mark.parametrize(
    ("other", "line"),
    [
        (
            {"shift_seconds": 0.102},
            r"have rows for the video jump/g0_c0 that are 0.102 s apart, which is more than half a stride",
        ),
        ({"rows": 7}, r"a.h5 and b.h5 have different numbers of rows \(8 and 7\) for the video "),
        (
            {"row_shape": (9,)},
            r"\(got 10 and 9\); give PCA=<number> to reduce all streams to the same number, or MID=concat",
        ),
        ({"several": True}, "different labels"),
        ({"views_seed": 3}, r"different values of views_seed \(none and 3\)"),
        ({"row_shape": (2, 10), "crops_kept": True}, "different values of crops_kept"),
    ],
)
def test_rows_that_do_not_belong_together_are_refused(
    tmp_path: Path, other: dict[str, Any], line: str
) -> None:
    make_store(tmp_path / "stores" / "a.h5")
    make_store(
        tmp_path / "stores" / "b.h5", stream="flow", **other
    )  # a stride is 5 frames at 25 a second: half of it 0.1 s
    with pytest.raises(InputError, match=line):
        trained(tmp_path, stream="rgb+flow")


def test_maps_and_vectors_join_as_vectors(tmp_path: Path) -> None:
    make_store(tmp_path / "stores" / "a.h5")
    make_store(tmp_path / "stores" / "b.h5", stream="flow", row_shape=(10, 2, 2))
    for order in ("rgb+flow", "flow+rgb"):
        (memory,) = trained(tmp_path, stream=order)
        with Store.open(tmp_path / "stores" / "b.h5") as maps:
            values = maps.load(memory.scores("train").video_ids)[0].astype(np.float32).mean((2, 3))
        model, _ = load_run(memory.path)
        np.testing.assert_allclose(
            model.normalise.parts[order == "rgb+flow"].mean, values.mean(0), atol=1e-3
        )


def test_embeddings_of_several_streams_are_joined_whatever_their_times(tmp_path: Path) -> None:
    """The multi-stream paper's fusion: embeddings side by side, a linear SVM."""
    make_store(tmp_path / "stores" / "a.h5")
    make_store(tmp_path / "stores" / "b.h5", stream="flow", seed=1, shift_seconds=0.3)
    paths = [
        str(trained(tmp_path, stream=stream)[0].path / "embeddings.h5")
        for stream in ("rgb", "flow")
    ]
    (run,) = trained(tmp_path, store="+".join(paths), mid="concat", classifier="svm")
    assert run.recipe["mid"]["dims"] == [10, 10] and run.metrics.test.top1 > 0.5


def test_a_stores_path_may_hold_a_plus(tmp_path: Path) -> None:
    make_store(tmp_path / "c++" / "a.h5")
    (run,) = trained(tmp_path, store=str(tmp_path / "c++" / "a.h5"))
    assert run.finished


def test_a_seed_given_twice_is_one_run(tmp_path: Path) -> None:
    make_store(tmp_path / "stores" / "a.h5")
    assert len(trained(tmp_path, seed=(0, 0), split=("1", "1"))) == 1


def test_refit_takes_the_rates_again(tmp_path: Path) -> None:
    make_store(tmp_path / "stores" / "a.h5")
    wild = {"head": "gru", "layers": 1, "hidden": 4, "lr": 3.0}  # an epoch before the last is best
    (run,) = trained(tmp_path, schedule="cosine", epochs=8, refit=True, **wild)
    first, second = (
        (run.path / f"{name}history.csv").read_text().splitlines() for name in ("", "refit-")
    )
    rate = first[0].split(",").index("lr")
    rates = [[line.split(",")[rate] for line in lines[1:]] for lines in (first, second)]
    assert 1 < run.metrics.best_epoch < 8
    assert len(rates[1]) == run.metrics.best_epoch and rates[1] == rates[0][: len(rates[1])]


def test_an_svm_stands_in_the_softmaxs_place(tmp_path: Path) -> None:
    make_store(tmp_path / "stores" / "a.h5")
    (run,) = trained(tmp_path, classifier="svm", svm_lambda=0.02)
    with Store.open(run.path / "embeddings.h5") as embedded:
        train_ids, test_ids = run.scores("train").video_ids, run.scores("test").video_ids
        x, test = (embedded.load(ids)[0].astype(np.float64) for ids in (train_ids, test_ids))
    svm = LinearSVC(C=1 / (2 * 0.02 * len(x)), loss="hinge", random_state=0, max_iter=100_000)
    svm.fit(x, run.scores("train").labels)
    np.testing.assert_allclose(
        run.scores("test").logits, svm.decision_function(test), atol=0.02
    )  # embeddings are float16
    (plain,) = trained(tmp_path)
    assert plain.signature != run.signature
    assert np.abs(plain.scores("test").logits - run.scores("test").logits).max() > 0.1


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 4))
def test_svm_weights_are_scikit_learns(seed: int, known: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(known), rng.integers(0, known, 30)])
    x = (rng.normal(size=(len(labels), 6)) + labels[:, None]).astype(np.float32)
    weight, bias = fitted_svm(x, labels, 5, c_of_lambda(0.01, len(x)))
    svm = LinearSVC(C=1 / (0.02 * len(x)), loss="hinge", random_state=0, max_iter=100_000).fit(
        x.astype(np.float64), labels
    )
    margins = svm.decision_function(x)
    margins = np.stack([-margins, margins], 1) if known == 2 else margins
    np.testing.assert_allclose((x @ weight.T + bias)[:, :known], margins, atol=1e-3)
    assert (weight[known:] == 0).all() and (
        bias[known:] == -1
    ).all()  # classes without a training video never win


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"sampling": "windows"}, "SAMPLING=windows needs T"),
        ({"stride": 3}, "STRIDE=3: applies only to SAMPLING=windows, not to sigma"),
        ({"positions": 3}, "POSITIONS=3: applies only to SAMPLING=segments"),
        ({"crops": "each"}, "does not contain the crops separately"),
        (
            {"head": "rlstm"},
            "takes feature maps, but the store's rows have shape 10; extract with AT=",
        ),
        ({"head": "rrn"}, "takes feature maps"),
        ({"skips": ("layer4.1",)}, "SKIPS=layer4.1: the head meanpool has no such option"),
        ({"context": 1}, "CONTEXT=1"),
        (
            {"norm_momentum": 0.1},
            "NORM_MOMENTUM=0.1: applies only to heads that take feature maps, but meanpool takes vectors",
        ),
        (
            {"head": "tsn", "norm_momentum": 0.1},
            "NORM_MOMENTUM=0.1: applies only to heads that take feature maps",
        ),
        (
            {"over_clips": "max"},
            "OVER_CLIPS=max: applies only to stores whose videos were cut into windows",
        ),
        ({"best_by": "loss", "validation": 0.0}, "BEST_BY=loss needs a validation part"),
        (
            {"stream": "rgb flow"},
            "to combine the stores by mid fusion, give STREAM=rgb.flow; to train one head on each",
        ),
        (
            {"stream": "rgb+flow+audio", "store": "a+b"},
            r"must name the same number of stores \(got 3 and 2\)",
        ),
        ({"stream": "rgb+flow"}, "no store of features in .* with STREAM=flow"),
    ],
)
def test_mistakes_get_one_clear_line(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    make_store(tmp_path / "stores" / "a.h5")
    with pytest.raises(InputError, match=line) as error:
        trained(tmp_path, **changes)
    assert "\n" not in str(error.value) and not all_runs(tmp_path)


@pytest.mark.parametrize(
    ("groups", "options", "reason"),
    [
        ((0, 1), {}, "no class has at least two groups of related videos; give another BEST_BY"),
        (
            (0, 1, 4),
            {"validation_store": "b.h5"},
            "no training video belongs to a group that VALIDATION_STORE=b.h5 holds out; give another BEST_BY",
        ),
    ],
)
def test_the_best_loss_needs_videos_that_can_be_held_out(
    tmp_path: Path, groups: tuple[int, ...], options: dict[str, Any], reason: str
) -> None:
    names = {g: [f"{label}/g{g}_c{clip}" for label in CLASSES for clip in (0, 1)] for g in range(5)}
    absent = sum((names[group] for group in range(5) if group not in groups), [])
    make_store(tmp_path / "stores" / "a.h5", left_out=tuple(absent))
    make_store(tmp_path / "stores" / "b.h5", left_out=(*names[1], *names[4]))
    with pytest.raises(InputError, match=reason):
        trained(tmp_path, store="a.h5", best_by="loss", **options)


@pytest.mark.parametrize(("views", "most"), [("one", 32), ("all", 96), ("none", 96)])
def test_one_crop_of_each_sequence_is_drawn_an_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, views: str, most: int
) -> None:
    make_store(tmp_path / "stores" / "a.h5", row_shape=(3, 10), crops_kept=True)
    sizes: list[int] = []
    from reelbank.heads.models.meanpool import MeanPool

    forward = MeanPool.forward
    monkeypatch.setattr(
        MeanPool,
        "forward",
        lambda self, x, n: (sizes.append(len(x) * self.training), forward(self, x, n))[1],
    )
    trained(tmp_path, crops="each", views=views, validation=0.0, epochs=2)
    assert sum(sizes) == 2 * most  # 32 training videos, three crops each


def test_batches_are_a_share_of_the_training_sequences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_store(tmp_path / "stores" / "a.h5")
    sizes: list[int] = []
    from reelbank.heads.models.meanpool import MeanPool

    forward = MeanPool.forward
    monkeypatch.setattr(
        MeanPool,
        "forward",
        lambda self, x, n: (sizes.append(len(x) * self.training), forward(self, x, n))[1],
    )
    trained(tmp_path, sampling="windows", t=2, batch_share=0.1, batch=32, validation=0.0, epochs=1)
    training = [size for size in sizes if size]
    assert training == [13] * 9 + [11]  # a tenth of 32 videos x 4 windows


def test_a_run_that_another_version_made_is_told(tmp_path: Path) -> None:
    make_store(tmp_path / "stores" / "a.h5")
    (run,) = trained(tmp_path)
    recipe = {key: value for key, value in run.recipe.items() if key not in ("rows", "scoring")}
    older = tmp_path / "runs" / folder_name(recipe)
    older.mkdir()
    (older / "recipe.json").write_text(json.dumps({"recipe": recipe}))
    with pytest.raises(
        InputError,
        match="the run's recipe was written by another version and has no entry rows, scoring; train the run again",
    ):
        predicted(older, tmp_path / "stores" / "a.h5")
