"""SRU compared with an independent implementation's outputs and with a loop over steps;
bidirectional heads and attention compared with torch's own."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from conftest import testdata
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call

from reelbank.heads.models.registry import head_spec
from reelbank.heads.models.rnn import Attention
from reelbank.heads.models.sru import SRULayer, scan

torch.set_num_threads(1)  # the tensors are tiny
D, C = 12, 4


@pytest.mark.parametrize(("case", "layers"), [("equal", 1), ("unequal", 1), ("stack3", 3)])
@torch.no_grad()
def test_sru_is_the_papers_cell(case: str, layers: int) -> None:
    """The reference interleaves columns by unit: x~, f, r[, projection]; biases f, then r; x and h
    are (T, N, D)."""
    reference = np.load(testdata("references", "sru_paper_cell.npz"))
    h = torch.from_numpy(reference[f"{case}_x"]).float().transpose(0, 1)
    for level in range(layers):
        weight, bias = reference[f"{case}_weight_{level}"], reference[f"{case}_bias_{level}"]
        hidden = len(bias) // 2
        layer = SRULayer(len(weight), hidden)
        by_gate = (
            weight.reshape(len(weight), hidden, -1).transpose(2, 1, 0).reshape(-1, len(weight))
        )
        layer.load_state_dict(
            {
                "weight": torch.from_numpy(by_gate.copy()).float(),
                "bias": torch.from_numpy(bias).float(),
            }
        )
        h = layer(h)
    torch.testing.assert_close(
        h.transpose(0, 1), torch.from_numpy(reference[f"{case}_h"]).float(), atol=1e-5, rtol=0
    )


def sru_by_steps(layer: SRULayer, x: Tensor, projects: bool) -> Tensor:
    """Equations 2 to 6, one step after the other: (T, D) -> (T, E)."""
    hidden = len(layer.bias) // 2
    w, w_f, w_r, *projection = layer.weight.split(hidden)
    b_f, b_r = layer.bias.split(hidden)
    c, out = torch.zeros(hidden, dtype=x.dtype), []
    for x_t in x:
        f, r = torch.sigmoid(w_f @ x_t + b_f), torch.sigmoid(w_r @ x_t + b_r)
        c = f * c + (1 - f) * (w @ x_t)
        out.append(r * torch.tanh(c) + (1 - r) * (projection[0] @ x_t if projects else x_t))
    return torch.stack(out)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 9), st.integers(0, 1000))
def test_sru_is_the_loop_over_steps_with_its_gradients(
    steps: int, size: int, hidden: int, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = SRULayer(size, hidden).double()
    nn.init.normal_(layer.bias)
    x = torch.randn(2, steps, size, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, steps, hidden, dtype=torch.float64)
    parameters = [x, *layer.parameters()]
    found = layer(x)
    expected = torch.stack([sru_by_steps(layer, one, size != hidden) for one in x])
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)
    gradients = torch.autograd.grad((found * weights).sum(), parameters)
    for one, other in zip(
        gradients, torch.autograd.grad((expected * weights).sum(), parameters), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=0)


@given(st.integers(1, 70), st.booleans(), st.integers(0, 99))
def test_scan_is_the_loop(steps: int, reverse: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    factors, values = rng.uniform(-1, 1, (2, steps, 3)), rng.normal(size=(2, steps, 3))
    expected, y = np.zeros_like(values), np.zeros((2, 3))
    for t in reversed(range(steps)) if reverse else range(steps):
        y = expected[:, t] = factors[:, t] * y + values[:, t]
    found = scan(torch.from_numpy(factors.copy()), torch.from_numpy(values.copy()), reverse)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_memory_that_keeps_all_stays_exact() -> None:
    """Forget gates at 1 or 0 to the last bit, over many steps: nothing is divided by them."""
    forget = torch.ones(1, 500, 1)
    forget[0, 250] = 0.0
    memory = scan(forget.clone(), (1 - forget) * 3.0)
    assert (memory[0, :250] == 0).all() and (memory[0, 250:] == 3).all()


@pytest.mark.parametrize("steps", range(1, 10))
@pytest.mark.parametrize("hidden", [3, 2])
def test_gradient_of_the_layer(steps: int, hidden: int) -> None:
    layer = SRULayer(3, hidden).double()
    x, bias = (
        torch.randn(2, steps, 3, dtype=torch.float64),
        torch.randn(2 * hidden, dtype=torch.float64),
    )

    def of(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(
        of, [one.detach().requires_grad_() for one in (x, layer.weight, bias)]
    )


@torch.no_grad()
def test_dropout_of_an_sru_layer_zeroes_the_same_inputs_in_all_steps() -> None:
    """With W = 1, f = 0 and r = 1/2 the output is (tanh(m x_t) + x_t) / 2, so m can be read off it:
    the skip is not dropped. Source: `rnn_dropout` of the SRU authors' library."""
    layer = SRULayer(40, 40, dropout=0.25).double()
    layer.weight.copy_(torch.cat([torch.eye(40), torch.zeros(80, 40)]))
    layer.bias.copy_(torch.cat([torch.full((40,), -1e9), torch.zeros(40)]))
    x = torch.rand(50, 7, 40, dtype=torch.float64) * 0.2 + 0.1  # (N, T, D)
    factors = torch.atanh(2 * layer.train()(x) - x) / x
    torch.testing.assert_close(factors, factors[:, :1].expand_as(factors))  # one for all steps
    kept = factors[:, 0].round(decimals=6)
    assert set(kept.flatten().tolist()) == {0.0, 1.333333}
    assert 0.7 < (kept > 0).double().mean() < 0.8
    assert len(kept.unique(dim=0)) == 50  # each sequence has its own
    torch.testing.assert_close(layer.eval()(x), (torch.tanh(x) + x) / 2)


@pytest.mark.parametrize("hidden", [3, 2])
def test_gradient_of_an_sru_layer_with_dropout(hidden: int) -> None:
    layer = SRULayer(3, hidden, dropout=0.5).double().train()
    x = torch.randn(4, 5, 3, dtype=torch.float64)

    def of(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        torch.manual_seed(1)  # the same inputs are dropped each time
        return functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(
        of, [one.detach().requires_grad_() for one in (x, layer.weight, layer.bias)]
    )


def test_every_layer_of_the_sru_head_drops_its_input() -> None:
    # of equal sizes: each layer's skip passes its input on to the next one
    head = head_spec("sru").build(D, C, layers=3, hidden=D, rnn_dropout=0.999).train()
    head(torch.randn(2, 6, D), torch.tensor([6, 6]))[0].sum().backward()
    # a weight whose input is dropped has no gradient
    for layer in head.layers:
        dropped = (layer.weight.grad == 0).all(0)
        assert dropped.double().mean() > 0.8


@pytest.mark.parametrize("pool", ["mean", "max"])
@torch.no_grad()
def test_sru_pools_the_logits_of_valid_steps(pool: str) -> None:
    head = head_spec("sru").build(D, C, layers=2, hidden=9, pool=pool).eval()
    x, lengths = torch.randn(3, 6, D), torch.tensor([6, 2, 1])
    logits, embedding = head(x, lengths)
    for n, length in enumerate(lengths.tolist()):
        h = x[n, :length]
        for layer in head.layers:
            h = sru_by_steps(layer, h, layer.weight.shape[1] != 9)
        each = head.classifier(torch.tanh(h))  # (T, C)
        torch.testing.assert_close(
            logits[n], each.mean(0) if pool == "mean" else each.amax(0), atol=1e-5, rtol=0
        )
        torch.testing.assert_close(embedding[n], torch.tanh(h).mean(0), atol=1e-5, rtol=0)


def test_sru_begins_orthogonal() -> None:
    for size, hidden in ((9, 9), (12, 9), (9, 12)):
        for matrix in SRULayer(size, hidden).weight.detach().split(hidden):
            small = matrix @ matrix.T if hidden <= size else matrix.T @ matrix
            torch.testing.assert_close(small, torch.eye(len(small)), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "kind"), [("bilstm", nn.LSTM), ("bigru", nn.GRU)])
@pytest.mark.parametrize("lengths", [[7, 3, 1, 5, 6], [4, 4, 4]])
@torch.no_grad()
def test_both_ways_end_where_torchs_own_end(
    name: str, kind: type[nn.RNNBase], lengths: list[int]
) -> None:
    head = head_spec(name).build(D, C, layers=2, hidden=9).eval()
    x = torch.randn(len(lengths), max(lengths), D)
    logits, embedding = head(x, torch.tensor(lengths))
    assert embedding.shape[1] == 18
    reference = kind(D, 9, num_layers=2, bidirectional=True, batch_first=True)
    reference.load_state_dict(head.rnn.state_dict())
    for n, length in enumerate(lengths):
        outputs, _ = reference(x[n : n + 1, :length])  # alone, without padding: (1, T, 18)
        last = torch.cat([outputs[0, -1, :9], outputs[0, 0, 9:]])
        torch.testing.assert_close(embedding[n], last, atol=1e-5, rtol=0)
        torch.testing.assert_close(logits[n], head.classifier(last), atol=1e-5, rtol=0)


def test_the_multistream_papers_embedding_has_1024_dimensions() -> None:
    assert head_spec("bigru").build(8, C, layers=2, hidden=512)(
        torch.zeros(1, 2, 8), torch.tensor([2])
    )[1].shape == (1, 1024)


@torch.no_grad()
def test_attention_by_hand() -> None:
    attention = Attention(D)
    x, lengths = torch.randn(2, 5, D), torch.tensor([5, 3])
    found = attention(x, torch.arange(5) < lengths[:, None])
    for n, length in enumerate(lengths.tolist()):
        own = x[n, :length]
        for t in range(length):
            scores = torch.stack(
                [attention.query(own[t]) @ attention.key(other) / math.sqrt(D) for other in own]
            )
            expected = sum(
                weight * attention.value(other)
                for weight, other in zip(scores.softmax(0), own, strict=True)
            )
            torch.testing.assert_close(found[n, t], expected, atol=1e-5, rtol=0)
        maps = [part(own) for part in (attention.query, attention.key, attention.value)]
        torch.testing.assert_close(
            found[n, :length], nn.functional.scaled_dot_product_attention(*maps), atol=1e-5, rtol=0
        )


@torch.no_grad()
def test_attention_comes_before_the_rnn() -> None:
    plain, attentive = (
        head_spec("lstm").build(D, C, hidden=9),
        head_spec("lstm").build(D, C, hidden=9, attention=True),
    )
    plain.load_state_dict(attentive.state_dict(), strict=False)
    x, lengths = torch.randn(2, 5, D), torch.tensor([5, 5])
    attended = attentive.attention(x, torch.ones(2, 5, dtype=torch.bool))
    torch.testing.assert_close(attentive(x, lengths), plain(attended, lengths), atol=1e-6, rtol=0)


WAYS = [(name, {}) for name in ("lstm", "gru", "bilstm", "bigru", "sru")]
WAYS += [("gru", {"attention": True}), ("bilstm", {"attention": True}), ("sru", {"pool": "max"})]


@pytest.mark.parametrize(("name", "options"), WAYS)
def test_nan_padding_never_changes_a_gradient(name: str, options: dict[str, Any]) -> None:
    head = head_spec(name).build(D, C, layers=2, hidden=9, **options)
    x, lengths = torch.randn(4, 7, D), torch.tensor([7, 2, 1, 4])
    gradients = []
    for filler in (0.0, math.nan):
        for row, length in zip(x, lengths, strict=True):
            row[length:] = filler
        head.zero_grad()
        nn.functional.cross_entropy(head(x, lengths)[0], torch.arange(4) % C).backward()
        gradients.append([parameter.grad.clone() for parameter in head.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
        assert one.abs().sum() > 0


def test_dropout_of_the_input() -> None:
    head = head_spec("gru").build(D, C, layers=1, hidden=5, input_dropout=0.5)
    x, lengths = torch.randn(2, 5, D), torch.tensor([5, 5])
    assert (head(x, lengths)[1] - head(x, lengths)[1]).abs().max() > 1e-3
    head.eval()
    torch.testing.assert_close(head(x, lengths)[1], head(x, lengths)[1])
