"""The resize that runs on any device equals torch's own on the CPU, byte for byte."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from reelbank.extract.networks.preprocessing import Resize
from reelbank.extract.pipeline.crops import resize
from reelbank.extract.pipeline.resize import resize_exactly

WITHOUT_AVX = """
import sys
from pathlib import Path
import numpy as np
import torch
import reelbank
from reelbank.extract.networks.preprocessing import Resize
from reelbank.extract.pipeline.crops import resize

assert torch.backends.cpu.get_cpu_capability() == "DEFAULT"
pictures = torch.from_numpy(np.load(Path(sys.argv[1], "pictures.npy")))
np.save(Path(sys.argv[1], "resized.npy"), resize(pictures, Resize(128)).numpy())
"""

SIDES = st.one_of(st.integers(2, 40), st.integers(2, 400))


def drawn(shape: tuple[int, ...], seed: int, is_harsh: bool) -> torch.Tensor:
    """Noise; harsh: of black and white alone, where bicubic filters leave the range of grey
    levels."""
    noise = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return torch.from_numpy(np.where(noise > 127, 255, 0).astype(np.uint8) if is_harsh else noise)


@settings(max_examples=250, deadline=None)
@given(
    old_px=st.tuples(SIDES, SIDES),
    new_px=st.tuples(SIDES, SIDES),
    channels=st.integers(1, 5),  # torch has other code for more than four
    interpolation=st.sampled_from(["bilinear", "bicubic", "nearest"]),
    antialias=st.booleans(),
    channels_last=st.booleans(),
    is_harsh=st.booleans(),
    seed=st.integers(0, 1000),
)
@example((240, 320), (256, 341), 3, "bilinear", True, True, False, 0)
@example((240, 320), (128, 171), 3, "bilinear", False, True, False, 0)
@example((1080, 640), (256, 151), 3, "bicubic", True, True, True, 0)
@example((12, 12), (12, 30), 3, "bicubic", False, False, True, 0)  # one side stays
def test_it_is_torchs_own_of_the_cpu(
    old_px, new_px, channels, interpolation, antialias, channels_last, is_harsh, seed
):
    pictures = drawn((2, channels, *old_px), seed, is_harsh)
    if channels_last:  # as decoded
        pictures = pictures.contiguous(memory_format=torch.channels_last)
    expected = F.resize(
        pictures, list(new_px), interpolation=InterpolationMode(interpolation), antialias=antialias
    )
    assert torch.equal(resize_exactly(pictures, new_px, interpolation, antialias), expected)


def test_a_processor_without_avx_gives_the_same_bytes(tmp_path):
    """There, torch resizes through float32."""
    pictures = drawn((2, 3, 240, 320), 0, is_harsh=False)
    np.save(tmp_path / "pictures.npy", pictures.numpy())
    expected = resize(pictures, Resize(128)).numpy()
    environment = os.environ | {"ATEN_CPU_CAPABILITY": "default"}
    code = [sys.executable, "-c", WITHOUT_AVX, str(tmp_path)]
    subprocess.run(code, env=environment, check=True)
    assert np.array_equal(np.load(tmp_path / "resized.npy"), expected)


def test_grey_levels_by_hand():
    """Two pixels become one, or four; halves are rounded up."""
    row = torch.tensor([[[[0, 91]]]], dtype=torch.uint8)
    assert resize_exactly(row, (1, 1), "bilinear", True).flatten().tolist() == [46]
    assert resize_exactly(row, (1, 4), "bilinear", False).flatten().tolist() == [
        0,
        23,
        68,
        91,
    ]  # 22.75, 68.25
    assert resize_exactly(row, (1, 4), "nearest", False).flatten().tolist() == [0, 0, 91, 91]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize(
    "how",
    [Resize(64), Resize(80, "bicubic"), Resize((40, 50), antialias=False), Resize(30, "nearest")],
)
def test_a_gpu_gives_the_cpus_bytes(how):
    pictures = drawn((3, 3, 97, 131), 0, False)
    assert torch.equal(resize(pictures.cuda(), how).cpu(), resize(pictures, how))
