"""Our backbones against the public code that their checkpoints were made with: names, shapes and outputs."""

import pytest
import torch
from filled import filled, pixels, reference, sample
from torch import Tensor, nn
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor

from reelbank.data.errors import InputError
from reelbank.extract import networks
from reelbank.extract.backbones import bn_inception, c3d, i3d, motion_cnn, vggish
from reelbank.extract.preprocessing import Preprocessing


def loaded(module, state: dict[str, Tensor], channels: int) -> nn.Module:
    """Ours with a public state dict; strict: nothing missing, nothing unexpected."""
    model = module.build(channels)
    model.load_state_dict(module.from_checkpoint(state), strict=True)
    return model.eval()


def assert_same(found: Tensor, expected: list[float]) -> None:
    """Equal to 1e-4 of the largest value, as the norm is."""
    *values, norm = sample(found)
    *expected_values, expected_norm = expected
    scale = max(abs(value) for value in expected_values)
    assert max(abs(a - b) for a, b in zip(values, expected_values, strict=True)) < 1e-4 * scale
    assert abs(norm - expected_norm) < 1e-4 * expected_norm
    assert scale > 0.1 and len({round(value, 6) for value in expected_values}) > 8  # the comparison is about something


@pytest.mark.parametrize(
    ("module", "features", "gain"), [(i3d, 1024, 1), (c3d, 4096, 1), (vggish, 128, 1), (bn_inception, 1024, 100)]
)
def test_public_state_dict_loads_strictly_and_gives_the_public_codes_output(module, features, gain):
    name = module.__name__.rpartition(".")[2]
    public = reference(name)
    shapes = public["shapes"]
    if module is vggish:
        shapes = {key: shape for key, shape in shapes.items() if not key.startswith("pproc.")}
    model = loaded(module, filled(shapes), public["input"][1])
    with torch.inference_mode():
        found = model(gain * pixels(*public["input"]))
    assert found.shape == (public["input"][0], features)
    assert_same(found, public["output"])
    if module is vggish:  # the same checkpoint with its PCA
        model = loaded(module, filled(public["shapes"]), 1)
        with torch.inference_mode():
            assert_same(model(pixels(*public["input"])), public["output_pca"])
