"""Networks cut in two: both parts together compute the whole network, and the second part can be
trained."""

import copy

import pytest
import timm
import torch
from torch import nn
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor

from reelbank.data.errors import InputError
from reelbank.extract.networks.cut import cut, rest

MODELS = {
    "resnet18": lambda: models.resnet18(weights=None),
    "resnet50": lambda: models.resnet50(weights=None),
    "r3d_18": lambda: models.video.r3d_18(weights=None),
    "resnetv2_50": lambda: timm.create_model("resnetv2_50", pretrained=False, num_classes=0),
}
SHAPES = {"r3d_18": (2, 3, 4, 32, 32)}


def made(name: str) -> tuple[nn.Module, torch.Tensor]:
    """A seeded network in evaluation mode, its running statistics no longer 0 and 1, and an
    input."""
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    for part in model.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 2)
    return model, torch.randn(SHAPES.get(name, (2, 3, 40, 40)))


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and bool((a - b).norm() <= 1e-6 * b.norm()) and bool(b.norm() > 0)


@pytest.mark.parametrize(
    ("name", "node", "channels"),
    [
        ("resnet18", "layer3", 256),
        ("resnet18", "layer4.1", 512),
        ("resnet18", "conv1", 64),
        ("resnet18", "bn1", 64),  # the ReLU after it writes in place
        ("resnet18", "layer4.1.add", 512),
        ("resnet18", "avgpool", 512),
        ("resnet50", "layer3", 1024),
        ("resnet50", "layer4.1", 2048),
        ("r3d_18", "layer3", 256),
        ("resnetv2_50", "stages.2", 1024),
        ("resnetv2_50", "norm", 2048),
    ],
)
def test_the_two_parts_are_the_whole(name, node, channels):
    model, x = made(name)
    state = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        whole = model(x)
        found = cut(model, (node,), name)(x)[node]
        after = rest(model, node, name)
        before = found.clone()
        assert found.shape[1] == channels
        assert close(after(found), whole)
    assert torch.equal(found, before), "the caller's maps were written into"
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    own = after.state_dict()
    assert set(own) < set(state) and all(
        torch.equal(value, state[key]) for key, value in own.items()
    )


@pytest.mark.parametrize("name", ["resnet50", "resnetv2_50"])
def test_rest_trains_as_the_whole_does(name):
    """In training mode, the part before the cut fixed: the same outputs, gradients and
    statistics."""
    node = {"resnet50": "layer4.1", "resnetv2_50": "stages.3.blocks.1"}[name]
    model, x = made(name)
    x = torch.cat([x, x.flip(3) * 2])
    model.requires_grad_(False)
    after = rest(model, node, name).train()
    assert all(parameter.requires_grad for parameter in after.parameters())
    with torch.no_grad():
        found = cut(model, (node,), name)(x)[node]

    # the reference: the same modules, called by the network's own forward, fed `found` at the node
    # by a hook
    reference = copy.deepcopy(model).requires_grad_(True).train()
    reference.get_submodule(node).register_forward_hook(lambda module, inputs, output: found)
    wanted = reference(x)
    got = after(found)
    assert close(got, wanted)
    got.square().sum().backward()
    wanted.square().sum().backward()
    gradients = {
        key: parameter.grad
        for key, parameter in reference.named_parameters()
        if parameter.grad is not None
    }
    assert {key for key, _ in after.named_parameters()} == set(gradients)
    for key, parameter in after.named_parameters():
        assert (
            parameter.grad is not None
            and (parameter.grad - gradients[key]).norm() <= 1e-4 * gradients[key].norm()
        ), key
    now, begun = after.state_dict(), model.state_dict()
    statistics = [key for key in now if "running" in key]
    counted = [key for key in now if "num_batches" in key]
    assert len(statistics) >= 6 and len(counted) >= 3
    for key in statistics:
        assert not torch.equal(now[key], begun[key])
        assert torch.allclose(now[key], reference.state_dict()[key], atol=1e-6), key
    assert all(now[key] == 1 for key in counted)
    assert all(begun[key] == 0 for key in counted)  # the model's own are untouched


def test_batch_norms_of_rest_are_modules_whose_mode_and_momentum_can_be_set():
    model, x = made("resnetv2_50")
    after = rest(model, "stages.3.blocks.1", "resnetv2_50").train()
    norms = [part for part in after.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == 4  # three of the last block, and the last
    for part in norms:
        part.eval()
    with torch.no_grad():
        found = cut(model, ("stages.3.blocks.1",), "")(x)["stages.3.blocks.1"]
        assert close(after(found), model(x))  # running statistics, in training mode


class Halving(nn.Module):
    def forward(self, x):
        return x / 2 if x.max() > 1 else x  # what torch.fx cannot follow


def test_leaves_of_rest_stay_whole():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 3, 1), nn.Sequential(Halving(), nn.Conv2d(3, 4, 1)), nn.Flatten()
    )
    with pytest.raises(InputError, match="own cannot be cut"):
        rest(model, "0", "own")
    after = rest(model, "0", "own", leaves=(Halving,))
    assert [name for name, part in after.named_modules() if isinstance(part, Halving)] == ["1.0"]
    with torch.no_grad():
        for scale in (0.01, 100):  # both ways through it
            x = scale * torch.randn(2, 2, 3, 3)
            assert close(after(model[0](x)), model(x))


def test_gradients_reach_the_input_of_rest():
    model, x = made("resnet18")
    after = rest(model, "bn1", "resnet18")
    found = torch.randn(1, 64, 8, 8, requires_grad=True)
    after(found).sum().backward()
    assert found.grad is not None and found.grad.abs().sum() > 0


def test_several_nodes_in_one_pass_also_inside_each_other():
    model, x = made("resnet18")
    nodes = ("layer4", "bn1", "layer2", "layer4.1", "layer4.1.bn2")
    with torch.no_grad():
        found = cut(model, nodes, "resnet18")(x)
    read = {}

    def keep(node: str, output: torch.Tensor) -> None:
        read[node] = output.clone()  # the ReLU after bn1 writes in place

    for node in nodes:
        model.get_submodule(node).register_forward_hook(
            lambda module, inputs, output, node=node: keep(node, output)
        )
    with torch.no_grad():
        model(x)
    assert set(found) == set(nodes)
    for node in nodes:
        assert close(found[node], read[node]), node


def test_cut_is_torchvisions_feature_extractor_without_what_follows():
    model, x = made("r3d_18")
    with torch.no_grad():
        mine, theirs = cut(model, ("layer2",), ""), create_feature_extractor(model, ["layer2"])
        assert torch.equal(mine(x)["layer2"], theirs(x)["layer2"])
    assert not [key for key in mine.state_dict() if key.startswith(("layer3", "layer4", "fc"))]
    assert cut(model, (), "") is model


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (
            "layer4.1.conv1",
            ["layer4.0.relu", "use layer4.0 or layer4"],
        ),  # the skip of the block, or rather its input
        ("layer3.0.bn2", ["layer2.1.relu", "use layer2 or layer3.0"]),
        ("layer9", ["no such node", "conv1, bn1, relu, maxpool, layer1"]),
        ("layer", ["no such node"]),
    ],
)
def test_a_cut_inside_a_skip_connection_is_refused_and_a_valid_one_suggested(node, words):
    model, _ = made("resnet18")
    with pytest.raises(InputError) as caught:
        rest(model, node, "resnet18")
    line = str(caught.value)
    assert line.startswith(f"NODE={node}: ") and "\n" not in line
    for word in words:
        assert word in line, line


def test_the_named_alternatives_work():
    model, x = made("resnet18")
    with torch.no_grad():
        for node in ("layer2", "layer3.0", "layer4.0", "layer4"):
            assert close(rest(model, node, "")(cut(model, (node,), "")(x)[node]), model(x))


class Numbered(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_1, self.conv_2, self.relu, self.relu_1 = (
            nn.Conv2d(3, 4, 1),
            nn.Conv2d(4, 5, 1),
            nn.ReLU(),
            nn.Sigmoid(),
        )

    def forward(self, x):
        x = self.relu(self.conv_1(x)) + 1
        return self.relu_1(self.relu(self.conv_2(x)))


def test_modules_whose_names_end_in_numbers_keep_them():
    torch.manual_seed(0)
    model, x = Numbered().eval(), torch.randn(2, 3, 4, 4)
    first = model.conv_1(x)
    second = model.conv_2(model.relu(first) + 1)
    values = {
        "conv_1": first,
        "conv_2": second,
        "relu_2": second.relu(),
        "relu_1": second.relu().sigmoid(),
    }
    with torch.no_grad():
        found = cut(model, tuple(values), "own")(x)
        for (
            node,
            value,
        ) in values.items():  # relu_2 is the second call of relu: relu_1 is another module
            assert torch.equal(found[node], value)
            assert torch.equal(rest(model, node, "own")(value), model(x))


class Branching(nn.Module):
    def forward(self, x):
        return x * 2 if x.sum() > 0 else x


@pytest.mark.parametrize(
    "take", [lambda model: cut(model, ("mul",), "own"), lambda model: rest(model, "mul", "own")]
)
def test_a_network_that_cannot_be_followed_is_refused(take):
    with pytest.raises(InputError, match="NODE=mul: own cannot be cut"):
        take(Branching())


def test_tracing_leaves_the_model_in_its_mode():
    model, _ = made("resnet18")
    model.train()
    model.layer2.eval()
    assert not cut(model, ("layer1",), "").training
    assert rest(model, "layer1", "").training
    assert model.training and not model.layer2.training and not model.layer2[0].bn1.training
