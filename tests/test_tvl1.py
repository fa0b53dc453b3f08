"""TV-L1 compared with OpenCV's own flow, and its parts with OpenCV's parts."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from conftest import testdata
from hypothesis import given, settings
from hypothesis import strategies as st

from reelbank.data.errors import InputError
from reelbank.extract.flow.median import Median5
from reelbank.extract.flow.methods import to_uint8
from reelbank.extract.flow.tvl1 import Tvl1, grey, resized, tvl1

PAIRS = ("HorseRiding", "HighJump")


def texture(h: int, w: int, seed: int = 0) -> np.ndarray:
    """Smooth random grey values, uint8."""
    noise = np.random.default_rng(seed).random((h, w)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    return (255 * (smooth - smooth.min()) / (smooth.max() - smooth.min())).astype(np.uint8)


@pytest.fixture(scope="module")
def reference():
    with np.load(testdata("references", "tvl1_dev.npz"), allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays if "_a" in key or "_b" in key or "_cv2_" in key}


@pytest.fixture(scope="module")
def flows(reference):
    first, second = (
        torch.from_numpy(np.stack([reference[f"{name}_{x}"] for name in PAIRS])) for x in "ab"
    )
    return tvl1(first, second)  # (2, 2, 240, 320)


@pytest.mark.parametrize("number", [0, 1])
def test_flow_is_opencvs(reference, flows, number):
    wanted = torch.from_numpy(reference[f"{PAIRS[number]}_cv2_dualtvl1"]).permute(2, 0, 1)
    assert (flows[number] - wanted).norm(dim=0).mean() <= 0.02
    as_read = to_uint8(flows[number]).permute(1, 2, 0).numpy()
    assert (as_read == reference[f"{PAIRS[number]}_cv2_u8_bound20"]).all(-1).mean() >= 0.85


def test_a_flow_does_not_depend_on_its_neighbours(reference):
    # The second stops at once, the first goes on for long: stopping together would show.
    first = torch.from_numpy(np.stack([reference[f"HighJump_{x}"][60:140, 80:200] for x in "aa"]))
    second = torch.from_numpy(np.stack([reference[f"HighJump_{x}"][60:140, 80:200] for x in "ba"]))
    both = tvl1(first, second)
    assert torch.equal(both[:1], tvl1(first[:1], second[:1]))
    assert torch.equal(both[1:], tvl1(first[1:], second[1:]))
    assert both[1].abs().max() < 1e-6 < 1 < both[0].abs().max()


def test_items_batched_as_on_a_gpu_equal_single_items():
    from reelbank.extract.flow import tvl1 as module

    first = torch.from_numpy(np.stack([texture(40, 50, seed) for seed in range(3)]))
    second = torch.stack([first[0].roll(2, -1), first[1], first[2].roll(1, -2)])
    alone = tvl1(first, second)
    with torch.inference_mode():
        batched = module._flow(first.float(), second.float(), Tvl1(), batched=True)
    assert torch.allclose(batched, alone, atol=1e-5)


@pytest.mark.parametrize("shift", [(3, 0), (-2, 1), (0.5, -0.25)])
def test_a_translation_is_recovered(shift):
    x, y = shift
    first = texture(96, 128)
    second = cv2.warpAffine(
        first,
        np.float32([[1, 0, x], [0, 1, y]]),
        (128, 96),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT,
    )
    flow = tvl1(torch.from_numpy(first)[None], torch.from_numpy(second)[None])[0, :, 16:-16, 16:-16]
    assert flow[0].mean() == pytest.approx(x, abs=0.05) and flow[1].mean() == pytest.approx(
        y, abs=0.05
    )
    assert flow.flatten(1).std(1).max() < 0.2


@pytest.mark.parametrize("size", [(16, 16), (15, 40), (5, 3), (1, 1)])
def test_small_pictures_work(size):
    first, second = (torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8) for _ in range(2))
    flow = tvl1(first, second)
    assert flow.shape == (2, 2, *size) and flow.isfinite().all()
    assert tvl1(first[:0], second[:0]).shape == (0, 2, *size)


def test_grey_is_opencvs():
    colours = torch.randint(0, 256, (1, 3, 300, 300), dtype=torch.uint8)
    wanted = cv2.cvtColor(
        np.ascontiguousarray(colours[0].permute(1, 2, 0).numpy()), cv2.COLOR_RGB2GRAY
    )
    assert np.array_equal(grey(colours)[0].numpy(), wanted)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**31))
def test_median_is_opencvs(h, w, seed):
    plane = (
        np.random.default_rng(seed).integers(-9, 9, (2, h, w)).astype(np.float32)
    )  # few values: many are equal
    median = Median5(torch.from_numpy(plane))(torch.from_numpy(plane)).numpy()
    for given_plane, found in zip(plane, median, strict=True):
        assert np.array_equal(cv2.medianBlur(given_plane, 5), found)


@pytest.mark.parametrize(
    ("size", "to", "step"), [((120, 161), (96, 129), 1.25), ((98, 131), (123, 164), 0.0)]
)
def test_resize_is_opencvs(size, to, step):
    plane = np.random.default_rng(0).normal(0, 50, size).astype(np.float32)
    wanted = (
        cv2.resize(plane, None, fx=1 / step, fy=1 / step, interpolation=cv2.INTER_LINEAR)
        if step
        else cv2.resize(plane, to[::-1], interpolation=cv2.INTER_LINEAR)
    )
    np.testing.assert_allclose(
        resized(torch.from_numpy(plane), to, step).numpy(), wanted, atol=1e-3
    )


def test_parameters_count():
    first = torch.from_numpy(texture(48, 64))[None]
    second = first.roll(1, -1)
    usual = tvl1(first, second)
    for change in (
        {"lambda_": 0.02},
        {"theta": 0.1},
        {"tau": 0.1},
        {"warps": 1},
        {"scales": 1},
        {"median_px": 0},
        {"epsilon": 0.3},
    ):
        assert (tvl1(first, second, replace(Tvl1(), **change)) - usual).abs().max() > 1e-4, change
    with pytest.raises(InputError, match="median_px"):
        Tvl1(median_px=3)
