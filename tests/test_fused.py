"""The network's version for the CPU computes the same features, whatever the batches are."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reelbank.data.system.allocator import keep_freed_memory
from reelbank.data.video.sampling import Rows
from reelbank.extract.networks import build as networks
from reelbank.extract.networks.backbones.i3d import SamePool
from reelbank.extract.networks.fused import is_mostly_fused
from reelbank.extract.networks.pooling import max_pool3d, same_padding
from reelbank.extract.pipeline.batches import ClipBatches
from reelbank.extract.pipeline.forward import Forward
from reelbank.extract.pipeline.tracks import Track

CPU = torch.device("cpu")
# Each body uses conv1, conv2, bn and relu. Some of them must not be fused, or only in part.
BODIES = {
    "relu": "return self.relu(self.bn(self.conv1(x)))",
    "function": "return F.relu(self.conv1(x))",
    "method": "return self.conv1(x).relu_()",
    "relu6": "return self.relu6(self.conv1(x) * 20)",
    "fused relu6": "return self.relu6(self.conv1(x))",
    "sum": "return self.relu(self.conv2(self.conv1(x)) + x)",
    "sum in place": "y = self.conv1(x)\n        y += self.conv2(x)\n        return self.relu(y)",
    "sum of itself": "y = self.conv1(x)\n        return self.relu(y + y)",
    "sum with a number": "return self.relu(self.conv1(x) + 0.5)",
    "weighted sum": "return torch.add(self.conv1(x), x, alpha=0.5)",
    "two users": "y = self.conv1(x)\n        return self.relu(y) + y",
    "used again": "y = self.relu(self.conv1(x))\n        return self.relu(self.conv1(y) + y)",
    "sum for all inputs": "y = self.conv1(self.shift)\n        return self.relu(y + self.conv2(x) * 2)",
    "sum per channel": "y = self.conv2(x)\n        return self.relu(self.bn(self.shift[:, :, :1, :1]) + y)",
    "without activation": "return self.conv2(self.conv1(x)) + x",
    "groups": "return self.relu(self.grouped(x))",
    "same": "return self.relu(self.same(x))",
    "reflected": "return self.relu(self.reflected(x))",
    "linear": "return self.relu(self.conv1(x)).flatten(2).mean(2)",
}
OWN = """
import torch
import torch.nn.functional as F
from torch import nn


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, 2)
        self.conv1, self.conv2 = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=4)
        self.same = nn.Conv2d(8, 8, 3, padding="same")
        self.reflected = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")
        self.register_buffer("shift", torch.rand(1, 8, 15, 15))
        self.bn, self.relu, self.relu6 = nn.BatchNorm2d(8), nn.ReLU(), nn.ReLU6()

    def head(self, x):
        BODY

    def forward(self, x):
        return self.head(self.first(x)).flatten(2).mean(2)


def build():
    model = Own()
    model.input_size = (3, 32, 32)
    return model
"""


def pictures(count: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (count, *shape), dtype=torch.uint8, generator=generator)


def difference(features: Tensor, expected: Tensor) -> float:
    return ((features - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_fused_steps_give_the_features_of_the_network(tmp_path: Path, body: str) -> None:
    text = OWN.replace("BODY", body)
    if "flatten" in body:
        text = text.replace(
            "self.head(self.first(x)).flatten(2).mean(2)", "self.head(self.first(x))"
        )
    (tmp_path / "own.py").write_text(text)
    network = networks.build(f"{tmp_path / 'own.py'}:build")
    assert network.cpu_module is not network.module
    inputs = pictures(5, 3, 32, 32)
    with torch.inference_mode():
        expected = network.module(inputs)[0]
        assert difference(network.cpu_module(inputs)[0], expected) < 1e-5
    assert difference(Forward(network, "fp32", "0", CPU, 0)(inputs)[0], expected) < 1e-5


def test_a_network_that_fused_steps_would_change_stays_as_it_is(tmp_path, capsys) -> None:
    """The convolution would run after its input has been overwritten."""
    body = "y = self.conv1(x)\n        z = x.relu_()\n        return self.relu(y + z)"
    (tmp_path / "own.py").write_text(OWN.replace("BODY", body))
    network = networks.build(f"{tmp_path / 'own.py'}:build")
    assert network.cpu_module is network.module
    (note,) = capsys.readouterr().err.splitlines()
    assert "convolutions are not merged" in note and "the features do not change" in note


@pytest.mark.parametrize(
    ("name", "clip_frames"),
    [("i3d", 8), ("torchvision:r2plus1d_18", 4), ("torchvision:resnet18", 1)],
)
def test_published_networks_consist_of_fused_convolutions(name: str, clip_frames: int) -> None:
    network = networks.build(name, weights="random", clip_frames=clip_frames)
    assert is_mostly_fused(network.cpu_module) and not is_mostly_fused(network.module)
    assert not any(isinstance(part, nn.ReLU) for part in network.cpu_module.modules())
    inputs = pictures(2, *network.input_shape)
    with torch.inference_mode():
        features, expected = network.cpu_module(inputs)[0], network.module(inputs)[0]
    assert difference(features, expected) < 1e-5


def test_other_precisions_do_not_use_fused_steps(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN.replace("BODY", BODIES["sum"]))
    network = networks.build(f"{tmp_path / 'own.py'}:build")
    inputs = pictures(2, 3, 32, 32)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        expected = network.module(inputs)[0]
    assert Forward(network, "bf16", "0", CPU, 0)(inputs)[0].equal(expected)


@pytest.mark.parametrize("kernel", [(1, 3, 3), (3, 3, 3), (2, 2, 2), (3, 1, 2)])
@pytest.mark.parametrize("stride", [(1, 1, 1), (1, 2, 2), (2, 2, 2), (3, 2, 1)])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 3, 2), (3, 5, 4), (7, 8, 9)])
@pytest.mark.parametrize("sign", [1, -1])
def test_pooling_by_axes_is_exact(kernel, stride, sizes, sign) -> None:
    generator = torch.Generator().manual_seed(0)
    x = sign * torch.rand(2, 3, *sizes, generator=generator)
    x = x.contiguous(memory_format=torch.channels_last_3d)
    with torch.inference_mode():
        for padded in ((0, 0, 0), (0, 1, 1), (1, 1, 1)):
            if any(2 * pad > window for pad, window in zip(padded, kernel, strict=True)):
                continue
            if any(
                size + 2 * pad < window
                for size, pad, window in zip(sizes, padded, kernel, strict=True)
            ):
                continue
            front, top, left = ((pad, pad) for pad in padded)
            expected = F.max_pool3d(x, kernel, stride, padded)
            assert max_pool3d(x, kernel, stride, (front, top, left)).equal(expected)
        if all(window >= step for window, step in zip(kernel, stride, strict=True)):
            padding = same_padding(sizes, kernel, stride)
            expected = SamePool(kernel, stride)(x)
            assert max_pool3d(x, kernel, stride, padding, zeros=True).equal(expected)


def features_of(network: networks.Network, forward: Callable, inputs: Tensor, batch: int):
    """The features of clips with crops, (K, crops, 3, H, W), as the batches of a run give them."""
    clips, crops = inputs.shape[:2]
    batches = ClipBatches(forward, network, crops=crops, keep_crops=False, batch=batch, device=CPU)
    track = Track()
    track.start(Rows(np.arange(clips)[:, None], np.zeros(clips, np.uint8)), fields=False)
    for clip in range(clips):
        batches.free(1)[:] = inputs[clip]
        batches.add(track, [np.array([clip])])
    batches.finish()
    return track.values[0]


@pytest.mark.parametrize(
    ("crops", "batch", "clips", "sizes"),
    [
        (1, 4, 6, [4, 4]),
        (1, 4, 8, [4, 4]),
        (10, 30, 4, [30, 30]),
        (10, 4, 3, [2] * 15),  # a clip with more crops than a batch, in equal steps
        (5, 4, 1, [1] * 5),
        (2, 7, 4, [6, 6]),
    ],
)
def test_features_do_not_depend_on_the_other_clips_of_a_batch(
    tmp_path, crops, batch, clips, sizes
) -> None:
    (tmp_path / "own.py").write_text(OWN.replace("BODY", BODIES["relu"]))
    network = networks.build(f"{tmp_path / 'own.py'}:build")
    seen: list[int] = []

    def forward(inputs: Tensor) -> tuple[Tensor, ...]:
        seen.append(len(inputs))
        with torch.inference_mode():
            features: tuple[Tensor, ...] = network.module(inputs)
            return features

    inputs = pictures(clips * crops, 3, 32, 32).unflatten(0, (clips, crops))
    features = features_of(network, forward, inputs, batch)
    assert seen == sizes
    with torch.inference_mode():
        expected = network.module(inputs.flatten(0, 1))[0].unflatten(0, (clips, crops)).mean(1)
    assert np.abs(features - expected.numpy()).max() < 1e-3
    alone = [features_of(network, forward, clip[None], batch)[0] for clip in inputs]
    assert np.array_equal(alone, features)
    assert set(seen) == set(sizes)


ROUNDS_OF_MEMORY = """
import resource, sys
import torch
from reelbank.data.system.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
def rounds():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        layers = [torch.ones(2**23 + number) for number in range(3)]  # 32 MiB each
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
rounds()
print(rounds())
"""


@pytest.mark.long
def test_freed_memory_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    if not keep_freed_memory():
        pytest.skip("NOT TESTED: freed memory, because this C library always returns it")
    faults = {}
    for mode in ("keep", "return"):
        command = [sys.executable, "-c", ROUNDS_OF_MEMORY, mode]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        faults[mode] = int(done.stdout)
    assert faults["keep"] < faults["return"] / 10
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")  # a user's own setting
    assert not keep_freed_memory()


@pytest.mark.parametrize(("name", "compiles"), [("relu", False), ("linear only", True)])
def test_compile_auto_leaves_fused_convolutions_alone(
    tmp_path, monkeypatch, name, compiles
) -> None:
    text = OWN.replace("BODY", BODIES["relu"])
    if compiles:  # torch.fx cannot trace it
        text = text.replace(
            "        return self.relu(",
            "        if x.sum() > 1e9:\n            x = x * 2\n        return self.relu(",
        )
    (tmp_path / "own.py").write_text(text)
    network = networks.build(f"{tmp_path / 'own.py'}:build")
    asked: list[nn.Module] = []
    monkeypatch.setattr(torch, "compile", lambda module: asked.append(module) or module)
    monkeypatch.setattr("shutil.which", lambda program: f"/usr/bin/{program}")
    assert not asked
    Forward(network, "fp32", "auto", CPU, 100)
    assert not asked  # too few inputs
    forward = Forward(network, "fp32", "auto", CPU, 100_000)
    assert bool(asked) == compiles
    inputs = pictures(3, 3, 32, 32)
    expected = forward(inputs)[0]
    for _ in range(8):  # some of them decide whether the compiled network is kept
        assert difference(forward(inputs)[0], expected) < 1e-5
