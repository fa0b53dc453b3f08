"""Whether compiled features count as equal to eager ones, at each precision."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from reelbank.extract.networks import build as networks
from reelbank.extract.pipeline.forward import Forward, compare

DEEP = """
from torch import nn

def build():
    layers = [nn.Conv2d(3, 16, 3, 2)]
    for _ in range(8):
        layers += [nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1)]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model.input_size = (3, 32, 32)
    return model
"""


def to_tf32(x: Tensor) -> Tensor:
    """Round float32 to the 10 bits of TF32, as an NVIDIA GPU does with the factors of a product."""
    return ((x.view(torch.int32) + (1 << 12)) & ~((1 << 13) - 1)).view(torch.float32)


def features(rounded: Callable[[Tensor], Tensor], parts: int, error: float = 0.0) -> Tensor:
    """The features of 12 inputs after 24 layers. parts: number of sums that each sum consists of;
    error: relative, of one layer."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(12, 64, generator=generator)
    for layer in range(24):
        weight = torch.randn(64, 64, generator=generator) / 6
        products = zip(rounded(x).chunk(parts, 1), rounded(weight).chunk(parts), strict=True)
        x = sum(a @ b for a, b in products).relu()
        x = x * (1 + error * (layer == 12) * torch.randn(64, generator=generator))
    return x


def test_rounding_to_tf32_is_no_difference_but_a_mistake_is():
    exact = (features(lambda x: x, 1)[:8],)
    eager, compiled = (features(to_tf32, 1),), (features(to_tf32, 16),)
    comparison = compare(compiled, eager, exact)
    assert comparison.is_equal and comparison.difference > 1e-4
    assert not compare((features(to_tf32, 16, error=0.03),), eager, exact).is_equal
    assert not compare((torch.full_like(eager[0], torch.nan),), eager, exact).is_equal


def test_fp32_allows_only_another_order_of_sums():
    eager = (features(lambda x: x, 1),)
    assert compare((features(lambda x: x, 16),), eager, eager).is_equal
    assert not compare((features(to_tf32, 1),), eager, eager).is_equal


class Fused(nn.Module):
    """Computes a module as fused code does, which keeps float32 between its steps."""

    def __init__(self, module: nn.Module, error: float) -> None:
        super().__init__()
        self.module, self.error = module, error

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast("cpu", enabled=False):
            (values,) = self.module(inputs)
        return (values * (1 + self.error * torch.linspace(-1, 1, values.shape[1])),)


@pytest.mark.parametrize(
    ("precision", "error", "kept"),
    [("bf16", 0.0, True), ("bf16", 0.5, False), ("fp32", 0.0, True), ("fp32", 0.001, False)],
)
def test_compiled_code_is_kept_if_its_features_are_equal_at_the_precision(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    precision: str,
    error: float,
    kept: bool,
) -> None:
    (tmp_path / "deep.py").write_text(DEEP)
    monkeypatch.setattr(torch, "compile", lambda module: Fused(module, error))
    network = networks.build(f"{tmp_path / 'deep.py'}:build")
    forward = Forward(network, precision, "1", torch.device("cpu"), 0)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(256, (10, 3, 32, 32), dtype=torch.uint8, generator=generator)
    eager = Forward(network, precision, "0", torch.device("cpu"), 0)(inputs)[0]
    assert forward(inputs)[0].equal(eager)  # the features of the first batch are the eager ones
    assert forward(inputs)[0].equal(eager) == (not kept or precision == "fp32")
    assert ("runs without it" in capsys.readouterr().out) == (not kept)
