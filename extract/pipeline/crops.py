"""Resize and crops, as uint8 on the device: the network's float input is made only inside the
forward pass."""

from collections.abc import Callable

import numpy as np
import torch

from reelbank.data.video.functions import UnfitPicture
from reelbank.extract.in_decoders.filters import resized_px
from reelbank.extract.networks.preprocessing import Resize, pair
from reelbank.extract.pipeline.boxes import Box
from reelbank.extract.pipeline.copying import copy_crops, on_device
from reelbank.extract.pipeline.resize import resize_exactly


def resize(frames: torch.Tensor, how: Resize) -> torch.Tensor:
    """(n, 3, H, W) uint8 -> (n, 3, H', W') uint8, the same bytes on every device, or float32 if it
    is not rounded; a size of one number is the short side.

    The result is PIL's, except for differences of one grey level in a few pixels. Raises
    UnfitPicture as `resized_px` does.
    """
    size = resized_px(frames.shape[-2], frames.shape[-1], how)
    if not how.rounded:
        return _resize_by_torch(frames.float(), size, how)
    # Without AVX, torch resizes by another rule: through float32.
    if frames.device.type == "cpu" and "AVX" in torch.backends.cpu.get_cpu_capability():
        frames = _resize_by_torch(frames, size, how)
    else:
        frames = resize_exactly(frames, size, how.interpolation, how.antialias)
    if how.fill and isinstance(how.size_px, tuple):
        return _bordered(frames, how.size_px, how.fill)
    return frames


def _resize_by_torch(frames: torch.Tensor, size: tuple[int, int], how: Resize) -> torch.Tensor:
    """As torchvision's `resize` does it: loading torchvision takes seconds."""
    if frames.shape[-2:] == size:
        return frames
    is_smooth = how.interpolation != "nearest"
    return torch.nn.functional.interpolate(
        frames,
        size,
        mode=how.interpolation,
        align_corners=False if is_smooth else None,
        antialias=how.antialias and is_smooth,
    )


def _bordered(
    frames: torch.Tensor, size_px: tuple[int, int], fill: tuple[int, ...]
) -> torch.Tensor:
    """Centre (n, C, H, W) in (n, C, *size_px); the border has the grey level `fill` of each
    channel."""
    height, width = frames.shape[-2:]
    top, left = (size_px[0] - height) // 2, (size_px[1] - width) // 2
    grey = on_device(np.array(fill, np.uint8), frames.device).view(1, -1, 1, 1)
    whole = grey.repeat(len(frames), 1, *size_px)
    whole[..., top : top + height, left : left + width] = frames
    return whole


def flipped(items: torch.Tensor) -> torch.Tensor:
    """Mirrored pictures."""
    return items.flip(-1)


def corners(
    picture_px: tuple[int, int], crop_px: int | tuple[int, int], crops: int, centre: str = "even"
) -> list[tuple[int, int]]:
    """(top, left) of the crops of a picture, without mirrored ones, in torchvision's order. 1: the
    centre. 5, 10: top left, top right, bottom left, bottom right, centre. centre: as of
    Preprocessing. Raises UnfitPicture if the picture is smaller than a crop."""
    h, w = pair(crop_px)
    bottom, right = picture_px[0] - h, picture_px[1] - w
    if min(bottom, right) < 0:
        raise UnfitPicture(
            f"a picture of {picture_px[1]} x {picture_px[0]} is smaller than the crop, {w} x {h}"
        )
    middle = (round(bottom / 2), round(right / 2))
    if centre == "down":
        middle = (bottom // 2, right // 2)
    if crops == 1:
        return [middle]
    return [(0, 0), (0, right), (bottom, 0), (bottom, right), middle]


def view_corner(
    picture_px: tuple[int, int], crop_px: int | tuple[int, int], offset: tuple[float, float]
) -> tuple[int, int]:
    """(top, left) of the crop of an augmented view. offset: (down, right), as a share of the
    possible ones, in [0, 1)."""
    (h, w), (down, right) = pair(crop_px), offset
    return int(down * (picture_px[0] - h + 1)), int(right * (picture_px[1] - w + 1))


def take_crops(
    frames: torch.Tensor,
    crop_px: int | tuple[int, int],
    crops: int,
    mirrored: Callable[[torch.Tensor], torch.Tensor] = flipped,
) -> torch.Tensor:
    """(n, C, H, W) uint8 -> (n, crops, C, h, w) uint8. mirrored: mirrors pictures, or the items
    computed from them.

    1, 5: as in `corners`. 10: these five, then the same five of the mirrored picture (Res-LSTM
    paper, 3.3: "four corners and the center of each frame, along with their mirrors").
    """
    places = corners((frames.shape[-2], frames.shape[-1]), crop_px, crops)
    versions = torch.stack([frames, mirrored(frames)]) if crops == 10 else frames[None]
    shape = (len(frames), len(versions), len(places), 1, frames.shape[1], *pair(crop_px))
    inputs = frames.new_empty(shape)
    copy_crops(inputs, versions, np.arange(len(frames))[:, None], places)
    return inputs.flatten(1, 3)


def box_crop(
    frames: torch.Tensor,
    box: Box,
    how: Resize,
    mirrored: Callable[[torch.Tensor], torch.Tensor] = flipped,
) -> torch.Tensor:
    """The crop of an augmented view whose size varies: (n, C, H, W) uint8 -> (n, C, h, w).

    The box is cut out, mirrored if it says so, and resized. how: its size_px is height and width;
    mirrored: as in `take_crops`
    """
    cut = frames[..., box.top : box.top + box.height, box.left : box.left + box.width]
    return resize(mirrored(cut) if box.flipped else cut, how)
