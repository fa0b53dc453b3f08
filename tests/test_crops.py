"""Resize and crops compared with those of torchvision and PIL."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from reelbank.extract.networks.preprocessing import Resize
from reelbank.extract.pipeline.crops import UnfitPicture, resize, take_crops


def picture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(
        np.random.default_rng(seed).integers(0, 256, (1, 3, height, width), dtype=np.uint8)
    )


@settings(max_examples=40, deadline=None)
@given(height=st.integers(32, 70), width=st.integers(32, 70), crop=st.integers(1, 32))
def test_crops_are_torchvisions(height, width, crop):
    frames = picture(height, width)
    ten = torch.stack(v2.TenCrop(crop)(frames), 1)
    assert torch.equal(take_crops(frames, crop, 10), ten)
    assert torch.equal(take_crops(frames, crop, 5), torch.stack(v2.FiveCrop(crop)(frames), 1))
    assert torch.equal(take_crops(frames, crop, 1)[:, 0], v2.CenterCrop(crop)(frames))


def test_crops_by_hand():
    frames = torch.arange(12, dtype=torch.uint8).view(1, 1, 3, 4)  # rows 0-3, 4-7, 8-11
    found = take_crops(frames, 2, 10)[0, :, 0].flatten(1).tolist()
    assert found[:5] == [[0, 1, 4, 5], [2, 3, 6, 7], [4, 5, 8, 9], [6, 7, 10, 11], [1, 2, 5, 6]]
    assert found[5:] == [[3, 2, 7, 6], [1, 0, 5, 4], [7, 6, 11, 10], [5, 4, 9, 8], [2, 1, 6, 5]]


@pytest.mark.parametrize("size", [(120, 160), (240, 320), (300, 200)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_resize_is_pils_but_for_a_grey_level_here_and_there(size, interpolation):
    smooth = v2.functional.gaussian_blur(picture(*size), [5, 5])
    ours = resize(smooth, Resize(96, interpolation))[0].permute(1, 2, 0).numpy().astype(int)
    pil = Image.fromarray(smooth[0].permute(1, 2, 0).numpy())
    width, height = (
        (96 * size[1] // size[0], 96) if size[0] < size[1] else (96, 96 * size[0] // size[1])
    )
    theirs = np.asarray(pil.resize((width, height), getattr(Image, interpolation.upper()))).astype(
        int
    )
    assert ours.shape == theirs.shape
    off = np.abs(ours - theirs)
    assert off.max() <= 2 and (off > 1).mean() < 1e-3 and off.mean() < 0.1


def test_a_hair_wide_picture_is_refused():
    with pytest.raises(UnfitPicture, match="4097 x 2"):
        resize(picture(2, 4097), Resize(256))
