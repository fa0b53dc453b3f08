"""Heads compared with loops written from the equations and with torch.nn; padding, gradients,
normalisation."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from reelbank.data.errors import InputError
from reelbank.data.video.clips import sigma
from reelbank.heads.models.normalise import MidFusion, Normalise
from reelbank.heads.models.registry import HEADS, head_spec
from reelbank.heads.recipe import Rule
from reelbank.heads.training.batches import RowReading, loaded
from reelbank.heads.training.sequences import Table, tables

torch.set_num_threads(1)  # the tensors are tiny

N, T, D, C = 5, 7, 12, 4
OPTIONS = {
    name: {}
    if name in ("meanpool", "tsn", "rrn", "rlstm", "fisher")
    else {"layers": 2, "hidden": 9}
    for name in HEADS
}
# every way in which a head may be built that changes what is computed
WAYS = {
    **{name: (name, options) for name, options in OPTIONS.items()},
    "fisher": ("fisher", {"components": 3, "blocks": [4, 8]}),
    "gru, attention": ("gru", {**OPTIONS["gru"], "attention": True}),
    "bigru, attention": ("bigru", {**OPTIONS["bigru"], "attention": True}),
    "sru, one width": ("sru", {"layers": 3}),
    "sru, max": ("sru", {**OPTIONS["sru"], "pool": "max"}),
    "tsn, max": ("tsn", {"pool": "max"}),
    "tsn on maps": ("tsn", {"trunk": None, "trunk_dim": 6}),
    "rlstm, local": ("rlstm", {"branches": "local"}),
    "rlstm, nonlocal": ("rlstm", {"branches": "nonlocal"}),
}


def made(way: str, **more: Any) -> nn.Module:
    name, options = WAYS[way]
    if takes_maps(way):
        layers = [
            nn.Conv2d(D, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        ]
        more |= {"trunk": nn.Sequential(*layers), "trunk_dim": 6}
    return head_spec(name).build(D, C, **options | more)


def takes_maps(way: str) -> bool:
    return way.split(",")[0] in ("rrn", "rlstm", "tsn on maps")


def given(way: str, lengths: list[int], filler: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """What `padded` gives, as maps for the heads that take maps."""
    x, lengths_of = padded(lengths, filler)
    if takes_maps(way):
        x = x[..., None, None] + torch.randn(len(lengths), max(lengths), D, 3, 2)
    return x, lengths_of


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(3)


def padded(lengths: list[int], filler: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.full((len(lengths), max(lengths), D), filler)
    for row, length in zip(x, lengths, strict=True):
        row[:length] = torch.randn(length, D)
    return x, torch.tensor(lengths)


def cell_of(layer: nn.LSTM) -> nn.LSTMCell:
    cell = nn.LSTMCell(layer.input_size, layer.hidden_size)
    cell.load_state_dict(
        {name.removesuffix("_l0"): value for name, value in layer.state_dict().items()}
    )
    return cell


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("hidden", [0, 8])
@torch.no_grad()
def test_reslstm_is_the_loop_of_equation_1(layers: int, hidden: int) -> None:
    head = head_spec("reslstm").build(D, C, layers=layers, hidden=hidden)
    x, lengths = padded([7, 3, 1, 5, 6])
    logits, embedding = head(x, lengths)
    cells = [cell_of(layer) for layer in head.layers]
    for n in range(N):
        m = [torch.zeros(1, hidden or D) for _ in cells]
        c = [torch.zeros(1, hidden or D) for _ in cells]
        for t in range(int(lengths[n])):
            below = head.projection(x[n : n + 1, t])  # x_t^0
            for level, cell in enumerate(cells):
                m[level], c[level] = cell(below, (m[level], c[level]))
                below = m[level] + below  # x_t^l = m_t^l + x_t^{l-1}
        torch.testing.assert_close(embedding[n], m[-1][0], atol=1e-5, rtol=0)
        torch.testing.assert_close(
            logits[n],
            (m[-1] @ head.classifier.weight.T + head.classifier.bias)[0],
            atol=1e-5,
            rtol=0,
        )


@torch.no_grad()
def test_reslstm_without_residual_is_stacked_lstm() -> None:
    head = head_spec("reslstm").build(D, C, layers=3, residual=False)
    stack = nn.LSTM(D, D, num_layers=3)
    names = {
        f"{kind}_l{level}": f"layers.{level}.{kind}_l0"
        for level in range(3)
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }
    stack.load_state_dict({own: head.state_dict()[other] for own, other in names.items()})
    x, _ = padded([T] * N)
    outputs, _ = stack(x.transpose(0, 1))
    logits, embedding = head(x, torch.full((N,), T))
    torch.testing.assert_close(embedding, outputs[-1], atol=1e-5, rtol=0)
    with_residual = head_spec("reslstm").build(D, C, layers=3)
    with_residual.load_state_dict(head.state_dict())
    assert (with_residual(x, torch.full((N,), T))[0] - logits).abs().max() > 1e-3


@pytest.mark.parametrize(("name", "kind"), [("lstm", nn.LSTM), ("gru", nn.GRU)])
@torch.no_grad()
def test_rnn_is_torchs_own_on_packed_sequences(name: str, kind: type[nn.RNNBase]) -> None:
    head = head_spec(name).build(D, C, layers=2, hidden=9)
    reference = kind(D, 9, num_layers=2, batch_first=True)
    reference.load_state_dict(head.rnn.state_dict())
    x, lengths = padded([7, 3, 1, 5, 6])
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    state = reference(packed)[1]
    last = (state[0] if name == "lstm" else state)[-1]  # (N, 9), top layer at each sequence's end
    logits, embedding = head(x, lengths)
    torch.testing.assert_close(embedding, last, atol=1e-5, rtol=0)
    torch.testing.assert_close(logits, head.classifier(last), atol=1e-5, rtol=0)


@torch.no_grad()
def test_meanpool_is_the_mean_of_valid_steps() -> None:
    head = head_spec("meanpool").build(D, C)
    x, lengths = padded([7, 3, 1, 5, 6], filler=float("inf"))
    logits, embedding = head(x, lengths)
    for n, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(embedding[n], x[n, :length].mean(0), atol=1e-6, rtol=0)
    torch.testing.assert_close(logits, head.classifier(embedding))


@pytest.mark.parametrize("filler", [50.0, math.inf, math.nan])
@pytest.mark.parametrize("way", WAYS)
@torch.no_grad()
def test_padding_never_changes_a_result(way: str, filler: float) -> None:
    head = made(way).eval()
    x, lengths = given(way, [7, 3, 1, 5, 6], filler)
    logits, embedding = head(x, lengths)
    for n, length in enumerate(lengths.tolist()):
        alone = head(x[n : n + 1, :length], lengths[n : n + 1])
        torch.testing.assert_close(alone[0][0], logits[n], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone[1][0], embedding[n], atol=1e-5, rtol=0)


@pytest.mark.parametrize("way", WAYS)
def test_gradients_reach_every_parameter(way: str) -> None:
    head = made(way)
    x, lengths = given(way, [7, 3, 1, 5, 6])
    nn.functional.cross_entropy(head(x, lengths)[0], torch.tensor([0, 1, 2, 3, 0])).backward()
    for parameter_name, parameter in head.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize("way", WAYS)
def test_overfits_eight_videos(way: str) -> None:
    head = made(way)
    x, lengths = given(way, [7, 3, 1, 5, 6, 2, 4, 7])
    labels = torch.arange(8) % C
    optimiser = torch.optim.Adam(head.parameters(), lr=0.03)
    for _ in range(150):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(head(x, lengths)[0], labels)
        loss.backward()
        optimiser.step()
    assert loss < 0.1 and (head(x, lengths)[0].argmax(1) == labels).all()


@pytest.mark.parametrize("way", WAYS)
@torch.no_grad()
def test_saved_and_rebuilt_it_gives_the_same_and_a_seed_makes_the_same_head(
    way: str, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    head = made(way)
    x, lengths = given(way, [7, 3, 1, 5, 6])
    head(x, lengths)  # batch norms' statistics are part of it
    save_file(head.state_dict(), tmp_path / "head.safetensors")
    torch.manual_seed(5)
    again = made(way)
    fresh, seeded = again.state_dict(), dict(head.named_parameters())
    assert all(torch.equal(fresh[name], value) for name, value in seeded.items())
    torch.manual_seed(6)
    other = made(way)
    assert (other.eval()(x, lengths)[0] - head.eval()(x, lengths)[0]).abs().max() > 1e-4
    other.load_state_dict(load_file(tmp_path / "head.safetensors"), strict=True)
    for one, wanted in zip(other(x, lengths), head(x, lengths), strict=True):
        assert torch.equal(one, wanted)


@pytest.mark.parametrize("way", [way for way in WAYS if way != "fisher"])  # is not trained
def test_dropout_acts_only_in_training(way: str) -> None:
    head = made(way, dropout=0.5)
    x, lengths = given(way, [7, 3, 1, 5, 6])
    assert (head(x, lengths)[0] - head(x, lengths)[0]).abs().max() > 1e-3
    head.eval()
    torch.testing.assert_close(head(x, lengths), head(x, lengths))


@pytest.mark.parametrize("way", [way for way in WAYS if not way.endswith("max")])
@torch.no_grad()
def test_the_classifier_reads_the_embedding(way: str) -> None:
    """So a linear SVM can take its place."""
    head = made(way).eval()
    logits, embedding = head(*given(way, [7, 3, 1, 5, 6]))
    torch.testing.assert_close(head.classifier(embedding), logits, atol=1e-5, rtol=0)


def test_znorm_and_pca_by_hand() -> None:
    rows = np.random.default_rng(0).normal(3, 2, (50, D)) * np.arange(1, D + 1)
    rows[:, 4] = 7.0  # a constant feature is centred, never blown up
    given = rows.astype(np.float16)
    expected = given.astype(np.float64)
    deviation = expected.std(0)
    deviation[4] = 1.0
    expected = (expected - expected.mean(0)) / deviation
    normalise = Normalise(D)
    normalise.fit(lambda: [given])
    np.testing.assert_allclose(
        normalise(torch.from_numpy(given).float()[None])[0], expected, atol=1e-4
    )

    both = Normalise(D, pca=3)
    both.fit(lambda: [given])
    reduced = both(torch.from_numpy(given).float()[None])[0].numpy()
    values, vectors = np.linalg.eigh(np.cov(expected.T))
    np.testing.assert_allclose(np.cov(reduced.T), np.diag(values[::-1][:3]), atol=1e-3)
    np.testing.assert_allclose(
        np.abs(reduced), np.abs(expected @ vectors[:, ::-1][:, :3]), atol=1e-3
    )

    neither = Normalise(D, znorm=False)
    neither.fit(lambda: [given])
    assert not neither.state_dict() and torch.equal(neither(torch.ones(2, D)), torch.ones(2, D))


def test_pca_without_whitening_centres_and_keeps_the_scale() -> None:
    rows = np.random.default_rng(1).normal(5, 1, (40, D)).astype(np.float32)
    normalise = Normalise(D, znorm=False, pca=D)
    normalise.fit(lambda: [rows])
    out = normalise(torch.from_numpy(rows)[None])[0].numpy()
    np.testing.assert_allclose(out.mean(0), 0, atol=1e-5)
    centred = rows - rows.mean(0)
    np.testing.assert_allclose(out @ out.T, centred @ centred.T, atol=1e-3)  # a rotation


def test_pca_needs_rows_and_dimensions() -> None:
    with pytest.raises(InputError, match="the training part has only 5;"):
        Normalise(D, pca=6).fit(lambda: [np.ones((5, D), np.float32)])
    with pytest.raises(InputError, match="dimensions, which is 12"):
        Normalise(D, pca=13)


def test_maps_are_normalised_channel_by_channel() -> None:
    maps = (
        np.random.default_rng(3).normal(2, 3, (20, D, 2, 3)) * np.arange(1, D + 1)[:, None, None]
    ).astype(np.float32)
    normalise = Normalise(D)
    normalise.fit(lambda: [maps[:7], maps[7:]])
    out = normalise(torch.from_numpy(maps).reshape(4, 5, D, 2, 3))
    assert out.shape == (4, 5, D, 2, 3)
    expected = (maps - maps.mean((0, 2, 3))[:, None, None]) / maps.std((0, 2, 3))[:, None, None]
    np.testing.assert_allclose(out.reshape(maps.shape), expected, atol=1e-4)


@pytest.mark.parametrize("how", ["sum", "product", "concat"])
def test_mid_fusion_normalises_each_stream_and_joins_them(how: str) -> None:
    rng = np.random.default_rng(4)
    rgb, flow = (
        rng.normal(5, 2, (40, 6)).astype(np.float32),
        rng.normal(-1, 9, (40, 6)).astype(np.float32),
    )
    joined = MidFusion((6, 6), how)
    joined.fit(lambda: [np.concatenate([rgb, flow], 1)])
    one, other = ((x - x.mean(0)) / x.std(0) for x in (rgb, flow))
    expected = {
        "sum": one + other,
        "product": one * other,
        "concat": np.concatenate([one, other], 1),
    }[how]
    out = joined(torch.from_numpy(np.concatenate([rgb, flow], 1))[None])[0]
    np.testing.assert_allclose(out, expected, atol=1e-4)
    assert joined.output_dim == expected.shape[1]


def test_mid_fusion_of_unequal_sizes_needs_pca_or_concat() -> None:
    with pytest.raises(InputError, match=r"\(got 6 and 4\); give PCA=<number>"):
        MidFusion((6, 4), "sum")
    assert (
        MidFusion((6, 4), "sum", pca=3).output_dim == 3
        and MidFusion((6, 4), "concat").output_dim == 10
    )


def arrays(
    counts: list[int], shape: tuple[int, ...] = (D,)
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    values = np.random.default_rng(2).normal(size=(sum(counts), *shape)).astype(np.float16)
    return tuple(f"v{i}" for i in range(len(counts))), values, np.cumsum([0, *counts])


def table_of(counts: list[int], **rule: Any) -> Table:
    return tables(
        [np.zeros(count, np.uint8) for count in counts],
        Rule(**rule),
        [f"v{n}" for n in range(len(counts))],
    )[1]


def test_batches_pad_to_the_longest_of_the_batch() -> None:
    ids, values, offsets = arrays([3, 1, 6, 2])
    data, table = loaded(ids, values, offsets), table_of([3, 1, 6, 2])
    ((x, lengths),) = data.batches(table, [torch.tensor([3, 0])])
    assert x.shape == (2, 3, D) and lengths.tolist() == [2, 3] and x.dtype == torch.float32
    np.testing.assert_array_equal(x[0, :2], values[10:12].astype(np.float32))
    np.testing.assert_array_equal(x[1], values[0:3].astype(np.float32))
    assert not x[0, 2:].any()
    np.testing.assert_array_equal(
        np.concatenate(list(data.row_chunks(table, torch.tensor([1, 3])))), values[[3, 10, 11]]
    )


def test_steps_take_rows_by_sigma() -> None:
    ids, values, offsets = arrays([30, 2, 5])
    ((x, lengths),) = loaded(ids, values, offsets).batches(
        table_of([30, 2, 5], steps=5), [torch.arange(3)]
    )
    assert lengths.tolist() == [5, 5, 5]
    for video, (start, count) in enumerate(((0, 30), (30, 2), (32, 5))):
        np.testing.assert_array_equal(x[video], values[start + sigma(count, 5)].astype(np.float32))
    assert sigma(30, 5).tolist() == [0, 7, 14, 21, 29]


def test_kept_crops_are_averaged_or_taken_one_by_one() -> None:
    averaged = RowReading(average_crops=True)
    for shape in ((10, D), (2, 4, 3, 3)):  # vectors, maps
        _, values, _ = arrays([2, 3], shape)
        np.testing.assert_allclose(averaged(values), values.astype(np.float32).mean(1), atol=1e-3)
        assert averaged(values).dtype == np.float16
    pictures = np.random.default_rng(0).integers(0, 256, (2, 3, D), np.uint8)
    np.testing.assert_allclose(averaged(pictures), pictures.astype(np.float32).mean(1), rtol=1e-3)
    ids, values, offsets = arrays([2, 3], (10, D))
    data, table = loaded(ids, values, offsets, crops=True), table_of([2, 3], crops=10)
    ((x, _),) = data.batches(table, [torch.tensor([13])])  # the second video's fourth crop
    np.testing.assert_array_equal(x[0], values[2:, 3].astype(np.float32))
    np.testing.assert_array_equal(
        np.concatenate(list(data.row_chunks(table, torch.tensor([4])))), values[:2, 4]
    )
    assert data.row_shape == (D,)


def test_maps_are_averaged_over_space_for_heads_that_take_vectors() -> None:
    _, values, _ = arrays([2, 3], (2, 4, 3, 3))
    exact = values.astype(np.float32)
    np.testing.assert_allclose(
        RowReading(pool=True)(values[:, 0]), exact[:, 0].mean((2, 3)), atol=1e-3
    )
    np.testing.assert_allclose(RowReading(True, True)(values), exact.mean((1, 3, 4)), atol=1e-3)


def test_features_that_are_not_finite_are_named() -> None:
    ids, values, offsets = arrays([2, 3])
    values[3, 1] = np.inf
    with pytest.raises(InputError, match="video v1 "):
        loaded(ids, values, offsets)
