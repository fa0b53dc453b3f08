"""Resize and crops, as uint8 on the device: the network's float input is made only inside the
forward pass."""

from collections.abc import Callable

import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from reelbank.extract.networks.preprocessing import Resize, UnfitPicture
from reelbank.extract.pipeline.boxes import Box
from reelbank.extract.pipeline.resize import resize_exactly

# The whole picture is resized to the given short side, so a very narrow one would need gigabytes.
MAX_ASPECT = 32


def resize(frames: torch.Tensor, how: Resize) -> torch.Tensor:
    """(n, 3, H, W) uint8 -> (n, 3, H', W') uint8, the same bytes on every device; a size of one
    number is the short side.

    On the CPU, torchvision's uint8 path gives PIL's result, except for differences of one grey
    level in a few pixels. Raises UnfitPicture for a picture whose long side is more than MAX_ASPECT
    times its short side.
    """
    height, width = frames.shape[-2:]
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise UnfitPicture(
            f"a picture of {width} x {height} is more than {MAX_ASPECT} times as long as wide"
        )
    size = _resized_px(height, width, how)
    if frames.device.type == "cpu":
        frames = F.resize(
            frames,
            list(size),
            interpolation=InterpolationMode(how.interpolation),
            antialias=how.antialias,
        )
    else:
        frames = resize_exactly(frames, size, how.interpolation, how.antialias)
    if how.fill and isinstance(how.size_px, tuple):
        return _bordered(frames, how.size_px, how.fill)
    return frames


def _resized_px(height: int, width: int, how: Resize) -> tuple[int, int]:
    """Height and width after a resize, rounded as torchvision does, or with a border as timm
    does."""
    if isinstance(how.size_px, int):
        if width <= height:
            return int(how.size_px * height / width), how.size_px
        return how.size_px, int(how.size_px * width / height)
    if how.fill is None:
        return how.size_px
    shrunk = max(height / how.size_px[0], width / how.size_px[1])
    return max(1, round(height / shrunk)), max(1, round(width / shrunk))


def _bordered(
    frames: torch.Tensor, size_px: tuple[int, int], fill: tuple[int, ...]
) -> torch.Tensor:
    """Centre (n, C, H, W) in (n, C, *size_px); the border has the grey level `fill` of each
    channel."""
    height, width = frames.shape[-2:]
    top, left = (size_px[0] - height) // 2, (size_px[1] - width) // 2
    whole = (
        torch.tensor(fill, dtype=torch.uint8, device=frames.device)
        .view(1, -1, 1, 1)
        .repeat(len(frames), 1, *size_px)
    )
    whole[..., top : top + height, left : left + width] = frames
    return whole


def flipped(items: torch.Tensor) -> torch.Tensor:
    """Mirrored pictures."""
    return items.flip(-1)


def take_crops(
    frames: torch.Tensor,
    crop_px: int | tuple[int, int],
    crops: int,
    mirrored: Callable[[torch.Tensor], torch.Tensor] = flipped,
) -> torch.Tensor:
    """(n, C, H, W) uint8 -> (n, crops, C, h, w) uint8, in torchvision's order. mirrored: mirrors
    pictures, or the items computed from them.

    1: the centre. 5: top left, top right, bottom left, bottom right, centre. 10: these five, then
    the same five of the mirrored picture (Res-LSTM paper, 3.3: "four corners and the center of each
    frame, along with their mirrors").
    """
    h, w = (crop_px, crop_px) if isinstance(crop_px, int) else crop_px
    five = _five(frames, h, w)[:, 4:] if crops == 1 else _five(frames, h, w)
    return five if crops < 10 else torch.cat([five, _five(mirrored(frames), h, w)], 1)


def view_crop(
    frames: torch.Tensor,
    crop_px: int | tuple[int, int],
    place: tuple[float, float, bool],
    mirrored: Callable[[torch.Tensor], torch.Tensor] = flipped,
) -> torch.Tensor:
    """The crop of an augmented view: (n, C, H, W) uint8 -> (n, 1, C, h, w).

    place: (down, right, is_mirrored), with offsets as a share of the possible ones, in [0, 1);
    mirrored: as in `take_crops`
    """
    h, w = (crop_px, crop_px) if isinstance(crop_px, int) else crop_px
    down, right, is_mirrored = place
    frames = mirrored(frames) if is_mirrored else frames
    y, x = int(down * (frames.shape[-2] - h + 1)), int(right * (frames.shape[-1] - w + 1))
    return frames[:, None, :, y : y + h, x : x + w]


def box_crop(
    frames: torch.Tensor,
    box: Box,
    how: Resize,
    mirrored: Callable[[torch.Tensor], torch.Tensor] = flipped,
) -> torch.Tensor:
    """The crop of an augmented view whose size varies: (n, C, H, W) uint8 -> (n, 1, C, h, w).

    The box is cut out, mirrored if it says so, and resized. how: its size_px is height and width;
    mirrored: as in `take_crops`
    """
    cut = frames[..., box.top : box.top + box.height, box.left : box.left + box.width]
    return resize(mirrored(cut) if box.flipped else cut, how)[:, None]


def _five(frames: torch.Tensor, h: int, w: int) -> torch.Tensor:
    """(n, C, H, W) -> (n, 5, C, h, w): the corners and the centre."""
    height, width = frames.shape[-2:]
    bottom, right = height - h, width - w
    places = [
        (0, 0),
        (0, right),
        (bottom, 0),
        (bottom, right),
        (round(bottom / 2), round(right / 2)),
    ]
    return torch.stack([frames[..., y : y + h, x : x + w] for y, x in places], 1)
