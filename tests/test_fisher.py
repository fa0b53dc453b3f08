"""The head that is fitted in closed form: Fisher vectors compared with gradients of the likelihood,
SVMs with scikit-learn's, and runs of it."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.svm import SVC
from test_train import make_store

from reelbank.data.errors import InputError
from reelbank.data.options import parse
from reelbank.data.scores.table import load
from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter
from reelbank.heads.models.fisher import Fisher, _Block
from reelbank.heads.models.linear_svm import one_against_rest
from reelbank.heads.predict import predicted
from reelbank.heads.runs.folder import Run, all_runs, load_run
from reelbank.heads.training.options import TrainOptions
from reelbank.heads.training.train import train

torch.set_num_threads(1)  # the tensors are tiny


def small_block(seed: int = 0) -> _Block:
    """Three Gaussians in two of four dimensions."""
    torch.manual_seed(seed)
    block = _Block(4, 3)
    block.shares.copy_(torch.tensor([0.2, 0.3, 0.5]))
    block.deviations.copy_(torch.rand(3, 2) + 0.5)
    block.mean.copy_(torch.randn(4))
    block.axes.copy_(torch.linalg.qr(torch.randn(4, 2))[0])
    return block


def test_a_fisher_vector_is_the_gradient_of_the_log_likelihood_in_units_of_its_deviation() -> None:
    """dL/dmu = sqrt(w) / sigma * G_mu and dL/dsigma = sqrt(2 w) / sigma * G_sigma, of the mean
    log-likelihood (autograd)."""
    block, rows = small_block(), torch.randn(7, 4, dtype=torch.float64)
    found = block(rows)
    means = block.means.double().requires_grad_()
    deviations = block.deviations.double().requires_grad_()
    x = (rows - block.mean) @ block.axes.double()
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(block.shares.double()),
        torch.distributions.Independent(torch.distributions.Normal(means, deviations), 1),
    )
    mixture.log_prob(x).mean().backward()
    assert means.grad is not None and deviations.grad is not None
    root = block.shares.double().sqrt()[:, None]
    by_mean = means.grad * deviations.detach() / root
    by_deviation = deviations.grad * deviations.detach() / (2**0.5 * root)
    torch.testing.assert_close(
        found, torch.cat([by_mean.flatten(), by_deviation.flatten()]), atol=1e-6, rtol=1e-6
    )


def test_a_fisher_vector_is_the_papers_loop() -> None:
    """Perronnin et al. 2010, row by row and Gaussian by Gaussian; then root and length, block by
    block."""
    head = Fisher(8, 2, components=3, blocks=[4, 4])
    head.parts[0], head.parts[1] = small_block(1), small_block(2)
    rows = torch.randn(5, 8)
    whole = []
    for number, block in enumerate(head._blocks()):
        x = ((rows[:, 4 * number : 4 * number + 4] - block.mean) @ block.axes).double().numpy()
        shares, means, deviations = (
            one.double().numpy() for one in (block.shares, block.means, block.deviations)
        )
        by_mean, by_deviation = np.zeros((3, 2)), np.zeros((3, 2))
        for row in x:
            density = [
                w * np.prod(np.exp(-0.5 * ((row - m) / s) ** 2) / (s * np.sqrt(2 * np.pi)))
                for w, m, s in zip(shares, means, deviations, strict=True)
            ]
            for k in range(3):
                share = density[k] / sum(density)
                away = (row - means[k]) / deviations[k]
                by_mean[k] += share * away / (len(x) * np.sqrt(shares[k]))
                by_deviation[k] += share * (away**2 - 1) / (len(x) * np.sqrt(2 * shares[k]))
        vector = np.concatenate([by_mean.ravel(), by_deviation.ravel()])
        vector = np.sign(vector) * np.sqrt(np.abs(vector))
        whole.append(vector / np.linalg.norm(vector))
    expected = np.concatenate(whole)
    logits, embedding = head(rows[None], torch.tensor([5]))
    np.testing.assert_allclose(embedding[0], expected, atol=1e-4)
    torch.testing.assert_close(logits, head.classifier(embedding))


def test_a_mixture_is_found_again_and_pca_keeps_what_varies() -> None:
    """Rows around three far points of a plane in six dimensions."""
    rng = np.random.default_rng(0)
    points = np.array([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]])
    plane = np.linalg.qr(rng.normal(size=(6, 2)))[0].T
    shares, deviations = (0.5, 0.3, 0.2), (0.5, 0.8, 1.1)
    of = rng.choice(3, 4000, p=shares)
    flat = points[of] + rng.normal(size=(4000, 2)) * np.array(deviations)[of, None]
    rows = (flat @ plane + rng.normal(size=(4000, 6)) * 0.01 + 5).astype(np.float32)
    head = Fisher(6, 2, components=3)
    head.fit(lambda: [rows[:1000], rows[1000:]], 4000, 0)
    (block,) = head._blocks()
    order = block.shares.argsort(descending=True)
    np.testing.assert_allclose(block.shares[order], shares, atol=0.03)
    back = (block.means @ block.axes[:, :3].T)[order] + block.mean
    np.testing.assert_allclose(back, points @ plane + 5, atol=0.15)
    spread = block.deviations[order][:, :2].mean(1)
    np.testing.assert_allclose(spread, deviations, atol=0.1)
    with pytest.raises(InputError, match="COMPONENTS=3 needs at least 3 rows .* has only 2"):
        head.fit(lambda: [rows[:2]], 2, 0)


def test_svms_by_products_are_scikit_learns_own() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 5000)).astype(
        np.float32
    )  # more columns than are multiplied at once
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    positive = np.stack(
        [np.arange(40) % 3 == 0, np.arange(40) % 3 == 1, np.zeros(40, bool), np.ones(40, bool)], 1
    )
    weight, bias = one_against_rest(vectors, positive, 100.0)
    for number in (0, 1):
        theirs = SVC(C=100.0, kernel="linear").fit(vectors.astype(np.float64), positive[:, number])
        margins = vectors @ weight[number] + bias[number]
        np.testing.assert_allclose(margins, theirs.decision_function(vectors), atol=5e-3)
    assert not weight[2:].any() and bias[2:].tolist() == [-1.0, 1.0]


# Fewer than classes: a Gaussian that is one class's alone has no gradient that tells of it.
WORDS = ["HEAD=fisher", "COMPONENTS=2", "DEVICE=cpu"]
HALVED = "DIMS=half"  # what the head did before it had the option


def trained(bank: Path, *words: str) -> list[Run]:
    """The runs that are new."""
    before = {run.path for run in all_runs(bank)}
    if not (bank / "stores").exists():
        make_store(bank)
    assert train(parse(TrainOptions, [f"BANK={bank}", *WORDS, *words], "train")) == 0
    return [run for run in all_runs(bank) if run.path not in before]


def checkpoint(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.path / "checkpoint.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_of_it_is_a_run_like_any_other(tmp_path: Path) -> None:
    runs = trained(tmp_path, "SPLIT=all", "SEED=0 1", HALVED)
    assert {(run.recipe["split"], run.recipe["seed"]) for run in runs} == {
        (s, n) for s in ("1", "2") for n in (0, 1)
    }
    run = runs[0]
    assert run.recipe["head_options"] == {"components": 2, "blocks": [16]}
    assert (
        run.recipe["classifier"] == {"kind": "svm", "c": 100.0}
        and not run.recipe["normalise"]["znorm"]
    )
    with (run.path / "history.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["epoch"] == "1" and float(row["train_accuracy"]) > 0.9
    assert run.metrics.test.top1 > 0.5 and run.metrics.best_epoch == 1
    model, _ = load_run(run.path)
    assert all(
        torch.equal(value, checkpoint(run)[name]) for name, value in model.state_dict().items()
    )
    scores = load(run.path / "scores-test.npz")
    store = next((tmp_path / "stores").glob("*.h5"))
    again = predicted(run.path, store)
    rows = [again.video_ids.index(name) for name in scores.video_ids]
    np.testing.assert_allclose(again.logits[rows], scores.logits, atol=1e-5)
    with Store.open(run.path / "embeddings.h5") as embeddings:
        values = embeddings.load(embeddings.video_ids)[0].astype(np.float32)
    np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1, atol=2e-3)  # of one block
    assert values.shape[1] == 2 * 2 * 8


def test_trained_twice_it_is_the_same_and_a_seed_makes_another(tmp_path: Path) -> None:
    (one,), (other,) = trained(tmp_path / "a", HALVED), trained(tmp_path / "b", HALVED)
    assert same(checkpoint(one), checkpoint(other))
    assert not same(checkpoint(one), checkpoint(trained(tmp_path / "a", HALVED, "SEED=1")[0]))
    (streamed,) = trained(tmp_path / "c", HALVED, "READ_FROM=disk")
    assert same(checkpoint(one), checkpoint(streamed))


def test_it_is_fitted_only_on_the_training_part(tmp_path: Path) -> None:
    (one,) = trained(tmp_path / "a")
    (tmp_path / "b").mkdir()
    tested = tuple(
        f"{label}/g0_c{clip}" for label in ("jump", "run", "sit", "wave") for clip in (0, 1)
    )
    make_store(tmp_path / "b", changed=tested)
    (other,) = trained(tmp_path / "b")
    assert same(checkpoint(one), checkpoint(other)) and one.path.name != other.path.name
    (tmp_path / "c").mkdir()
    make_store(tmp_path / "c", changed=("jump/g1_c0",))
    assert not same(checkpoint(one), checkpoint(trained(tmp_path / "c")[0]))


def test_dimensions_are_chosen_on_the_validation_part(tmp_path: Path) -> None:
    """As many as alone have the highest validation accuracy, then the lowest loss; the refit, the
    loaded model and its embeddings have them too."""
    tried = ("1", "half", "all")
    ranks = {}
    for dims in tried:
        (run,) = trained(tmp_path, f"DIMS={dims}")
        with (run.path / "history.csv").open(newline="") as file:
            (row,) = csv.DictReader(file)
        ranks[dims] = float(row["validation_accuracy"]), -float(row["validation_loss"])
    assert len(set(ranks.values())) == 3
    best = max(tried, key=ranks.__getitem__)
    (chosen,) = trained(tmp_path, f"DIMS={' '.join(tried)}")
    (alone,) = (run for run in all_runs(tmp_path) if dims_of(run) == [best])
    assert same(checkpoint(chosen), checkpoint(alone))
    assert f"DIMS={best} has the highest validation accuracy" in chosen.metrics.notes
    model, _ = load_run(chosen.path)
    assert same(dict(model.state_dict()), checkpoint(chosen))
    store = next((tmp_path / "stores").glob("*.h5"))
    scores = load(chosen.path / "scores-test.npz")
    again = predicted(chosen.path, store)
    rows = [again.video_ids.index(name) for name in scores.video_ids]
    np.testing.assert_allclose(again.logits[rows], scores.logits, atol=1e-5)
    size = {"1": 1, "half": 8, "all": 16}[best]
    with Store.open(chosen.path / "embeddings.h5") as embeddings:
        assert embeddings.row_shape == (2 * 2 * size,)
    # 100 and all are the same, and there is no validation part to choose on.
    (first,) = trained(tmp_path, "DIMS=100 all 1", "VALIDATION=0")
    assert checkpoint(first)["head.parts.0.axes"].shape == (16, 16)
    assert "DIMS=100 is used because it is tried first" in "".join(first.metrics.notes)


def dims_of(run: Run) -> list[str]:
    return run.recipe["head_options"].get("dims", ["half"])


def test_by_default_rows_that_are_not_trajectories_are_tried_in_several_dimensions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (halved,) = trained(tmp_path, HALVED)
    capsys.readouterr()
    (usual,) = trained(tmp_path)
    assert f"{halved.path.name} was trained with the defaults of earlier" in capsys.readouterr().out
    assert dims_of(usual) == ["half", "64", "32", "128"]
    assert "dims" not in halved.recipe["head_options"]


def idt_store(bank: Path) -> None:
    """Three classes of 8 groups, 30 rows of 426 each, whose stream is idt."""
    rng = np.random.default_rng(0)
    dataset = DatasetDescription(name="made", classes=["a", "b", "c"], splits=["1"], coarse={})
    centres = rng.normal(size=(3, 426))
    videos: list[dict[str, Any]] = []
    with StoreWriter(
        bank / "stores" / "made-idt.h5", {"stream": "idt", "extractor": "trajectories"}, dataset
    ) as writer:
        for number in range(24):
            label = "abc"[number % 3]
            part = "test" if number < 6 else "train"
            videos.append(
                StoredVideo(
                    id=f"{label}/{number}",
                    label=label,
                    group=f"g{number // 3}",
                    parts=[part],
                    source={},
                )
            )
            writer.add(
                videos[-1],
                0.1 * (centres[number % 3] + rng.normal(size=(30, 426))),
                np.arange(30.0),
            )
        assert writer.finish(videos)


def test_rows_of_trajectories_are_cut_into_their_five_descriptors(tmp_path: Path) -> None:
    idt_store(tmp_path)
    (run,) = trained(tmp_path, "REFIT=0")
    assert run.recipe["head_options"] == {"components": 2, "blocks": [30, 96, 108, 192]}
    assert run.metrics.test.top1 == 1.0
    with Store.open(run.path / "embeddings.h5") as embeddings:
        assert embeddings.row_shape == (2 * 2 * (15 + 48 + 54 + 48 + 48),)
    (reduced,) = trained(tmp_path, "REFIT=0", "PCA=20")
    assert reduced.recipe["head_options"]["blocks"] == [20]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["EPOCHS=5"], "EPOCHS=5: has no effect because this head fits Gaussian"),
        (["LR=0.1"], "LR=0.1: has no effect because this head fits Gaussian"),
        (["OPTIMISER=adam"], "OPTIMISER=adam: has no effect because this head fits Gaussian"),
        (["CLASSIFIER=svm"], "CLASSIFIER=svm: has no effect because this head fits Gaussian"),
        (["VIEWS=one"], "VIEWS=one: has no effect because this head fits Gaussian"),
        (["LAYERS=3"], "LAYERS=3: the head fisher has no such option"),
        (["COMPONENTS=0"], "COMPONENTS=0: must be at least 1"),
        (["DIMS=0"], "DIMS=0: must be half, all or a number from 1 to 999,999"),
        (["COMPONENTS=5000"], "COMPONENTS=5000 needs at least 5000 rows of training data"),
        (["HEAD=gru", "COMPONENTS=4"], "COMPONENTS=4: the head gru has no such option"),
        (["CLASSES=jump"], "needs at least two classes"),
    ],
)
def test_what_it_cannot_be_asked_is_refused(tmp_path: Path, words: list[str], said: str) -> None:
    make_store(tmp_path)
    with pytest.raises(InputError, match=said):
        trained(tmp_path, *words)
