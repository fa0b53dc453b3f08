"""Heads on feature maps compared with loops written from their equations, and their copy of the
rest of the backbone."""

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision import models

from reelbank.data.errors import InputError
from reelbank.extract.networks.cut import cut, rest
from reelbank.heads.models.model import running_norms
from reelbank.heads.models.registry import head_spec
from reelbank.heads.models.rlstm import Relational, RelationalLSTM
from reelbank.heads.models.rrn import RRN
from reelbank.heads.models.temporal_skips import TemporalShortcut, add_skips, last_blocks
from reelbank.heads.models.trunk import build_trunk, context_skips, trunk_recipe
from reelbank.heads.recipe import TrunkRecipe

torch.set_num_threads(1)  # the tensors are small


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(3)


def about(
    extractor: str = "torchvision:resnet18", node: str = "layer4.0", **more: Any
) -> TrunkRecipe:
    return TrunkRecipe("backbone", extractor, node, stream="rgb", **more)


def nonlocal_by_hand(
    x: Tensor, y: Tensor, theta: nn.Linear, phi: nn.Linear, g: nn.Linear
) -> Tensor:
    """Equations 2 and 4, place by place: x (P, C), y (P, C') -> (P, C'')."""
    rows = []
    for x_i in x:
        weights = torch.stack([torch.exp(theta(x_i) @ phi(y_j)) for y_j in y])
        rows.append(
            sum(weight * g(y_j) for weight, y_j in zip(weights / weights.sum(), y, strict=True))
        )
    return torch.stack(rows)


def part(linear: nn.Linear, number: int, size: int) -> nn.Linear:
    """The number-th of the layers that stand one below the other in `linear`."""
    own = nn.Linear(linear.in_features, size)
    rows = slice(number * size, (number + 1) * size)
    own.load_state_dict({"weight": linear.weight[rows], "bias": linear.bias[rows]})
    return own


@pytest.mark.parametrize(("channels", "half"), [(6, 3), (5, 2), (1, 1)])
@torch.no_grad()
def test_rlstm_is_the_loop_over_steps_and_places(channels: int, half: int) -> None:
    module = Relational(channels).eval()
    module.norm.running_mean.normal_()
    module.norm.running_var.uniform_(0.5, 2)
    lengths = [4, 2, 1]
    x = torch.randn(3, 4, channels, 2, 3)
    valid = torch.arange(4) < torch.tensor(lengths)[:, None]
    x[~valid] = math.nan
    for linear in (module.of_x, module.of_h):
        linear.bias.normal_()  # it begins with none
    found = module(x, valid)
    # for each gate i, f, o, g: theta_x, phi_x, g_x, theta_h of X and phi_h, g_h of H
    of_x = [[part(module.of_x, 4 * gate + kind, half) for kind in range(4)] for gate in range(4)]
    of_h = [[part(module.of_h, 2 * gate + kind, half) for kind in range(2)] for gate in range(4)]
    for n, length in enumerate(lengths):
        state, memory = torch.zeros(6, half), torch.zeros(6, half)
        for t in range(length):
            x_t = module.norm(x[n : n + 1, t])[0].flatten(1).T  # (P, C)
            gates = []
            for (theta, phi, g, theta_h), (phi_h, g_h) in zip(of_x, of_h, strict=True):
                gates.append(
                    nonlocal_by_hand(x_t, x_t, theta, phi, g)
                    + nonlocal_by_hand(x_t, state, theta_h, phi_h, g_h)
                )
            i, f, o = (torch.sigmoid(gate) for gate in gates[:3])
            memory = f * memory + i * torch.tanh(gates[3])
            state = o * torch.tanh(memory)
        expected = module.widen(state.T.reshape(1, half, 2, 3))[0]
        torch.testing.assert_close(found[n], expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_branches_are_joined_local_first() -> None:
    trunk = nn.Sequential(nn.Conv2d(4, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    head = head_spec("rlstm").build(4, 3, trunk=trunk, trunk_dim=5).eval()
    x, lengths = torch.randn(2, 3, 4, 2, 2), torch.tensor([3, 2])
    logits, embedding = head(x, lengths)
    valid = torch.arange(3) < lengths[:, None]
    for n, length in enumerate(lengths.tolist()):
        local = head.trunk(x[n, :length]).mean(0)
        other = head.own_trunk(head.relational(x[n : n + 1], valid[n : n + 1]))[0]
        torch.testing.assert_close(embedding[n], torch.cat([local, other]), atol=1e-5, rtol=0)
    assert embedding.shape == (2, 10)
    assert copy.deepcopy(head).half()(x.half(), lengths)[0].dtype == torch.float16
    local = head_spec("rlstm").build(4, 3, trunk=trunk, trunk_dim=5, branches="local").eval()
    assert not any(name.startswith(("relational", "own_trunk")) for name in local.state_dict())
    torch.testing.assert_close(local(x, lengths)[1], embedding[:, :5], atol=1e-5, rtol=0)
    alone = head_spec("rlstm").build(4, 3, trunk=trunk, trunk_dim=5, branches="nonlocal")
    assert alone(x, lengths)[1].shape == (2, 5) and not any(
        name.startswith("trunk") for name in alone.state_dict()
    )


def test_the_nonlocal_branch_is_initialised_and_the_local_one_copies_the_backbone() -> None:
    trunk, size = build_trunk(about("timm:resnetv2_50", "stages.3.blocks.1"), (2048, 3, 3))
    with torch.no_grad():
        for part_of in trunk.modules():
            if isinstance(part_of, nn.BatchNorm2d):
                part_of.running_mean.fill_(7)
    before = copy.deepcopy(trunk.state_dict())
    head = head_spec("rlstm").build(2048, 3, trunk=trunk, trunk_dim=size)
    assert size == 2048 and all(
        torch.equal(value, before[name]) for name, value in head.trunk.state_dict().items()
    )
    own = head.own_trunk.state_dict()
    assert set(own) == set(before)
    for name, value in own.items():
        if name.endswith("running_mean"):
            assert (value == 0).all()
        if value.ndim == 4:  # Xavier-Glorot: uniform within sqrt(6 / (in + out))
            bound = (6 / (value[0].numel() + value.shape[0] * value[0, 0].numel())) ** 0.5
            assert not torch.equal(value, before[name]) and 0.9 * bound < value.abs().max() <= bound


@torch.no_grad()
def test_each_projection_of_the_relational_lstm_begins_within_its_own_bound() -> None:
    half = 32
    module = Relational(64)
    for stacked, count in ((module.of_x, 16), (module.of_h, 8)):
        assert (stacked.bias == 0).all() and stacked.out_features == count * half
        bound = (
            6 / (stacked.in_features + half)
        ) ** 0.5  # Xavier-Glorot of one, not of all of them as one layer
        for own in stacked.weight.split(half):
            assert 0.95 * bound < own.abs().max() <= bound


@torch.no_grad()
def test_norm_layers_of_any_kind_are_reset_in_the_nonlocal_branch() -> None:
    norms = [nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.LayerNorm([4, 2, 2])]
    for norm in norms:
        norm.weight.fill_(3)
    trunk = nn.Sequential(*norms, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    head = RelationalLSTM(4, 3, trunk=trunk, trunk_dim=4)
    assert all(
        (value == 1).all() for name, value in head.own_trunk.named_parameters() if "weight" in name
    )
    assert all(
        (value == 3).all() for name, value in head.trunk.named_parameters() if "weight" in name
    )


def test_trunk_is_the_rest_of_the_network() -> None:
    for extractor, node in (
        ("torchvision:resnet50", "layer4.1"),
        ("timm:resnetv2_50", "stages.3.blocks.1"),
    ):
        from reelbank.extract.networks.build import trunk as whole

        network = whole(extractor, "random", seed=1)
        trunk, size = build_trunk(
            about(extractor, node), (2048, 2, 2), network=whole(extractor, "random", seed=1)
        )
        with torch.no_grad():
            model, x = network.model.eval(), torch.randn(2, 3, 64, 64)
            maps = cut(model, (node,), "")(x)[node]
            torch.testing.assert_close(trunk.eval()(maps), model(x), atol=1e-4, rtol=1e-4)
        assert size == 2048


def by_hand(block: nn.Module, x: Tensor, term: Tensor | float) -> Tensor:
    """torchvision's BasicBlock, with what is added before its last ReLU."""
    out = block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(x)))))
    return torch.relu(out + x + term)


@pytest.mark.parametrize("kind", ["identity", "linear", "nonlinear"])
@torch.no_grad()
def test_rrn_is_two_frames_unrolled_by_hand(kind: str) -> None:
    trunk, size = build_trunk(about(skips=("layer4.1",), skip=kind), (512, 4, 4))
    head = head_spec("rrn").build(512, 3, trunk=trunk, trunk_dim=size).eval()
    plain = models.resnet18()
    own = {
        name.replace(".downsample.shortcut", ".downsample"): value
        for name, value in trunk.state_dict().items()
    }
    plain.load_state_dict(
        {name: value for name, value in own.items() if "convolution" not in name}, strict=False
    )
    block, (skip,) = (
        plain.layer4[1].eval(),
        [one for one in trunk.modules() if isinstance(one, TemporalShortcut)],
    )
    x = torch.randn(2, 2, 512, 4, 4)
    logits, embedding = head(x, torch.tensor([2, 1]))
    term = {
        "identity": lambda before: before,
        "linear": lambda before: skip.convolution(before),
        "nonlinear": lambda before: torch.relu(skip.convolution(before)),
    }[kind]
    second = by_hand(block, x[:1, 1], term(x[:1, 0])).mean((2, 3))
    first = by_hand(block, x[1:, 0], 0.0).mean((2, 3))  # nothing is added at t = 1
    torch.testing.assert_close(embedding, torch.cat([second, first]), atol=1e-5, rtol=0)
    torch.testing.assert_close(logits, head.classifier(embedding))


@torch.no_grad()
def test_n_skips_see_n_plus_1_frames() -> None:
    facts = about(node="layer3.0")
    assert context_skips(facts, 3) == ("layer3.1", "layer4.1")
    trunk, size = build_trunk(
        replace(facts, skips=("layer3.1", "layer4.1"), skip="identity"), (256, 4, 4)
    )
    head = head_spec("rrn").build(256, 3, trunk=trunk, trunk_dim=size).eval()
    x, lengths = torch.randn(1, 6, 256, 4, 4), torch.tensor([6])
    whole = head(x, lengths)[1]
    for t, is_seen in enumerate([False, False, False, True, True, True]):
        other = x.clone()
        other[:, t] += 1
        assert bool((head(other, lengths)[1] - whole).abs().max() > 1e-4) == is_seen, t
    torch.testing.assert_close(head(x[:, 3:], torch.tensor([3]))[1], whole, atol=1e-5, rtol=0)


def skipping(kind: str) -> RRN:
    """On maps after layer3 of a small network, two blocks of which have a skip: one changes its
    shape, one keeps it."""
    model = models.resnet18()
    model.fc = nn.Identity()
    add_skips(
        model, ("layer4.0", "layer4.1") if kind != "identity" else ("layer4.1",), kind, "resnet18"
    )
    return RRN(256, 3, rest(model, "layer3", "resnet18", (TemporalShortcut,)).train(), 512)


@pytest.mark.parametrize("kind", ["identity", "linear", "nonlinear"])
def test_no_sequence_sees_another_or_what_stands_after_its_end(kind: str) -> None:
    head, lengths = skipping(kind), torch.tensor([2, 4, 1, 3])
    x = torch.full((4, 4, 256, 4, 4), math.nan)
    for row, length in zip(x, lengths, strict=True):
        row[:length] = torch.randn(int(length), 256, 4, 4)
    # in training, batch norm is over the valid rows alone: the gradients are finite, and reach
    # everything
    head(x, lengths)[0].square().sum().backward()
    for name, parameter in head.named_parameters():
        assert (
            parameter.grad is not None
            and parameter.grad.isfinite().all()
            and parameter.grad.abs().sum() > 0
        ), name
    head.eval()
    with torch.no_grad():
        logits, embedding = head(x, lengths)
        for n, length in enumerate(lengths.tolist()):
            alone = head(x[n : n + 1, :length], lengths[n : n + 1])
            torch.testing.assert_close(
                alone, (logits[n : n + 1], embedding[n : n + 1]), atol=1e-5, rtol=0
            )
        again = skipping(kind)
        again.load_state_dict(head.state_dict())
        assert torch.equal(again.eval()(x, lengths)[0], logits)


@pytest.mark.parametrize("kind", ["identity", "linear", "nonlinear"])
@torch.no_grad()
def test_a_skip_is_added_to_the_sum_of_an_inverted_residual_block(kind: str) -> None:
    """No activation follows the sum of such a block, so y_t = f(x_t) + x_t + term as it is."""
    name = "timm:tf_efficientnet_lite0"
    facts = about(name, "blocks.5.2", skips=("blocks.5.3",), skip=kind)
    trunk, size = build_trunk(facts, (192, 3, 3))
    head = head_spec("rrn").build(192, 3, trunk=trunk, trunk_dim=size).eval()
    plain = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    own = {name.replace(".shortcut.", "."): value for name, value in trunk.state_dict().items()}
    weights = {name: value for name, value in own.items() if name in plain.state_dict()}
    assert {name for name in plain.state_dict() if name.startswith("blocks.5.3.")} <= set(weights)
    plain.load_state_dict(weights, strict=False)
    plain.eval()
    (skip,) = [one for one in trunk.modules() if isinstance(one, TemporalShortcut)]
    x = torch.randn(2, 2, 192, 3, 3)
    _, embedding = head(x, torch.tensor([2, 1]))
    term = x[:1, 0]
    if kind != "identity":
        term = skip.convolution(term)
    if kind == "nonlinear":
        term = torch.relu(term)
    block, x_t = plain.blocks[5][3], torch.stack([x[0, 1], x[1, 0]])
    y = block(x_t) + torch.cat([term, torch.zeros_like(term)])  # nothing is added at t = 1
    expected = plain.bn2(plain.conv_head(plain.blocks[6](y))).mean((2, 3))
    torch.testing.assert_close(embedding, expected, atol=1e-5, rtol=1e-4)


def test_skips_of_inverted_residual_blocks() -> None:
    model = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    assert last_blocks(model, 4) == ("blocks.4.2", "blocks.5.1", "blocks.5.2", "blocks.5.3")
    with pytest.raises(InputError, match=r"SKIPS=blocks.5.0: .*; did you mean blocks.5"):
        add_skips(model, ("blocks.5.0",), "linear", "lite0")  # it has no shortcut


def test_a_blur_that_strides_in_a_convolutions_place() -> None:
    model = timm.create_model("resnetblur18", pretrained=False, num_classes=0)
    add_skips(model, ("layer4.0",), "linear", "resnetblur18")
    head = RRN(256, 3, rest(model, "layer3", "resnetblur18", (TemporalShortcut,)), 512)
    assert head.eval()(torch.randn(1, 2, 256, 4, 4), torch.tensor([2]))[0].shape == (1, 3)
    with pytest.raises(
        InputError,
        match=r"SKIP=identity needs .* but layer3.0 .* \(128 to 256 channels, stride 2\)",
    ):
        add_skips(model, ("layer3.0",), "identity", "resnetblur18")


def test_a_block_has_one_skip() -> None:
    with pytest.raises(
        InputError, match="SKIPS=layer4.1: this block of resnet18 already has a skip"
    ):
        add_skips(models.resnet18(), ("layer4.1", "layer4.1"), "linear", "resnet18")


def test_contexts_of_the_paper() -> None:
    model = models.resnet50()
    assert [last_blocks(model, context - 1) for context in (2, 3, 5)] == [
        ("layer4.2",),
        ("layer4.1", "layer4.2"),
        ("layer3.4", "layer3.5", "layer4.1", "layer4.2"),
    ]
    with pytest.raises(
        InputError,
        match="CONTEXT=20: needs 19 residual blocks that do not change the shape, but the network has 12",
    ):
        last_blocks(model, 19)


@pytest.mark.parametrize(
    ("node", "skip", "shape"),
    [
        ("maxpool", "layer1.0", (64, 8, 8)),
        ("layer2.2", "layer2.3", (512, 4, 4)),
        ("layer3", "layer4.0", (1024, 4, 4)),
        ("layer4.1", "layer4.2", (2048, 2, 2)),
    ],
)
@pytest.mark.parametrize("kind", ["linear", "nonlinear"])
def test_positions_of_the_paper(node: str, skip: str, shape: tuple[int, ...], kind: str) -> None:
    """A skip in a block that changes its shape too (layer1.0, layer4.0): W_s takes its channels and
    stride."""
    trunk, size = build_trunk(about("torchvision:resnet50", node, skips=[skip], skip=kind), shape)
    head = head_spec("rrn").build(shape[0], 3, trunk=trunk, trunk_dim=size)
    x, lengths = torch.randn(2, 2, *shape), torch.tensor([2, 2])
    head(x, lengths)[0].square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())
    head.eval()
    other = x.clone()
    other[:, 0] += 1
    assert (head(other, lengths)[1] - head(x, lengths)[1]).abs().max() > 1e-6


def test_skips_in_networks_of_timm() -> None:
    trunk, size = build_trunk(
        about("timm:resnet26", "layer4.0", skips=("layer4.1",), skip="identity"), (2048, 2, 2)
    )
    head = head_spec("rrn").build(2048, 3, trunk=trunk, trunk_dim=size).eval()
    x, lengths = torch.randn(1, 2, 2048, 2, 2), torch.tensor([2])
    other = x.clone()
    other[:, 0] += 1
    assert (head(other, lengths)[1] - head(x, lengths)[1]).abs().max() > 1e-6


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        (about(skips=("layer4.7",), skip="identity"), "SKIPS=layer4.7: .* did you mean layer4.1"),
        (
            about("torchvision:resnet50", "maxpool", skips=("layer1.0",), skip="identity"),
            "SKIP=identity needs .* but layer1.0 .* give SKIP=linear",
        ),
        (
            about(skips=("layer3.1",), skip="identity"),
            "all of these blocks must come after layer4.0",
        ),
        (
            about(
                "timm:resnetv2_50",
                "stages.3.blocks.1",
                skips=("stages.3.blocks.2",),
                skip="identity",
            ),
            "has no residual block of this name",
        ),
        (about("torchvision:resnet999"), "torchvision does not have this model"),
        (about("evil.py:build"), "names the Python file evil.py:build as its extractor"),
        (about("mine.build"), r"a network of your own, build\(\) in mine.py; give EXTRACTOR="),
    ],
)
def test_networks_and_skips_that_cannot_be(facts: TrunkRecipe, line: str) -> None:
    with pytest.raises(InputError, match=line) as error:
        build_trunk(facts, (64, 4, 4) if facts.node == "maxpool" else (512, 4, 4))
    assert "\n" not in str(error.value)


def test_a_store_that_does_not_say_its_network_needs_the_pool() -> None:
    with pytest.raises(InputError, match="TRUNK=backbone needs the network and the node"):
        trunk_recipe({"stream": "rgb"}, "backbone")
    trunk, size = build_trunk(trunk_recipe({}, "pool"), (5, 3, 3))
    x = torch.randn(2, 5, 3, 3)
    assert size == 5 and torch.equal(trunk(x), x.mean((2, 3)))
    with pytest.raises(InputError, match="TRUNK=pool has no residual blocks"):
        context_skips(TrunkRecipe("pool"), 2)


def test_running_norms_by_hand() -> None:
    head = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
    names = list(head.state_dict())
    running_norms(head, 0.1)
    x = torch.randn(5, 3, 2, 2)
    for step in range(3):
        head.train()
        norm, maps = head[1], head[0](x)
        mean, variance = norm.running_mean.clone(), norm.running_var.clone()
        out = norm(maps)
        mean = 0.9 * mean + 0.1 * maps.mean((0, 2, 3))
        variance = 0.9 * variance + 0.1 * maps.var((0, 2, 3))
        torch.testing.assert_close(norm.running_mean, mean)
        torch.testing.assert_close(norm.running_var, variance)
        expected = (maps - mean[:, None, None]) / (variance[:, None, None] + norm.eps).sqrt()
        torch.testing.assert_close(out, expected)
        assert norm.training and norm.num_batches_tracked == step + 1
    head.eval()
    head(x)
    torch.testing.assert_close(head[1].running_mean, mean)  # evaluation moves nothing
    assert list(head.state_dict()) == names
    twin = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
    twin.load_state_dict(head.state_dict())
    torch.testing.assert_close(twin.eval()(x), head(x))  # what was learned is in the state
    twin, kept = copy.deepcopy(head).train(), head[1].running_mean.clone()
    twin(x)
    assert not torch.equal(twin[1].running_mean, kept) and torch.equal(head[1].running_mean, kept)


def test_running_norms_that_run_twice_before_a_backward() -> None:
    head = nn.Sequential(nn.BatchNorm2d(4))
    running_norms(head, 0.5)
    once, twice = torch.randn(2, 3, 4, 2, 2, requires_grad=True)
    first = head(once)
    variance = head[0].running_var.clone()  # what the first forward divided by
    (first.sum() + head(twice).sum()).backward()
    assert head[0].num_batches_tracked == 2 and not torch.equal(head[0].running_var, variance)


def test_running_norms_reach_into_the_rest_of_networks() -> None:
    trunk, size = build_trunk(about("timm:resnetv2_50", "stages.3.blocks.1"), (2048, 2, 2))
    head = head_spec("rlstm").build(2048, 3, trunk=trunk, trunk_dim=size)
    running_norms(head, 0.001)
    norms = {
        name: value.clone()
        for name, value in head.state_dict().items()
        if name.endswith("running_mean")
    }
    assert len(norms) == 9  # four of each trunk, one before the relational LSTM
    x = torch.randn(2, 3, 2048, 2, 2)
    head.train()(x, torch.tensor([3, 2]))
    now = head.state_dict()
    for name, before in norms.items():
        moved = (now[name] - before).abs()
        assert 0 < moved.max() < 0.1, name


@torch.no_grad()
def test_tsn_on_maps_by_hand() -> None:
    trunk, size = build_trunk(about(), (512, 2, 2))
    head = head_spec("tsn").build(512, 3, trunk=trunk, trunk_dim=size, pool="max").eval()
    x, lengths = torch.randn(2, 3, 512, 2, 2), torch.tensor([3, 1])
    logits, embedding = head(x, lengths)
    rows = head.trunk(x[0])
    torch.testing.assert_close(logits[0], head.classifier(rows).amax(0), atol=1e-5, rtol=0)
    torch.testing.assert_close(embedding[0], rows.mean(0), atol=1e-5, rtol=0)
