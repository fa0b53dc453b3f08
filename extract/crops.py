"""Resize and crops, as uint8 on the device: the network's float input is made only inside the forward pass."""

import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from reelbank.extract.flow import mirrored

CROPS = (1, 5, 10)


class UnfitPicture(Exception):
    """This video's picture cannot be shown to a network: a one-line reason."""


# A picture is resized whole, so one that is a hair wide would become gigabytes.
MAX_ASPECT = 32


def resize(frames: torch.Tensor, size_px: int | tuple[int, int], interpolation: str) -> torch.Tensor:
    """(n, 3, H, W) uint8 -> (n, 3, H', W') uint8, antialiased; an int is the short side, a pair is (H', W').

    torchvision's uint8 path is PIL's, but for a grey level here and there. Raises UnfitPicture for one more than
    MAX_ASPECT times as long as wide.
    """
    height, width = frames.shape[-2:]
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise UnfitPicture(f"the picture is {width} x {height}: more than {MAX_ASPECT} times as long as wide")
    size = [size_px] if isinstance(size_px, int) else list(size_px)
    return F.resize(frames, size, interpolation=InterpolationMode(interpolation), antialias=True)


def take_crops(frames: torch.Tensor, crop_px: int | tuple[int, int], crops: int, flow: bool = False) -> torch.Tensor:
    """(n, C, H, W) uint8 -> (n, crops, C, h, w) uint8, in torchvision's order; C is 3, or 2 for flow (x, y).

    1: the centre. 5: top left, top right, bottom left, bottom right, centre. 10: these five, then the same five of the
    mirrored picture (Res-LSTM paper, 3.3: "four corners and the center of each frame, along with their mirrors").
    """
    h, w = (crop_px, crop_px) if isinstance(crop_px, int) else crop_px
    five = _five(frames, h, w)[:, 4:] if crops == 1 else _five(frames, h, w)
    return five if crops < 10 else torch.cat([five, _five(_mirrored(frames, flow), h, w)], 1)


def view_crop(
    frames: torch.Tensor, crop_px: int | tuple[int, int], place: tuple[float, float, bool], flow: bool = False
) -> torch.Tensor:
    """An augmented view's one crop: (n, C, H, W) uint8 -> (n, 1, C, h, w). place: how far down and right of what is possible,
    in [0, 1), and whether the picture is mirrored first."""
    h, w = (crop_px, crop_px) if isinstance(crop_px, int) else crop_px
    down, right, is_mirrored = place
    frames = _mirrored(frames, flow) if is_mirrored else frames
    y, x = int(down * (frames.shape[-2] - h + 1)), int(right * (frames.shape[-1] - w + 1))
    return frames[:, None, :, y : y + h, x : x + w]


def _mirrored(frames: torch.Tensor, flow: bool) -> torch.Tensor:
    return mirrored(frames) if flow else frames.flip(-1)


def _five(frames: torch.Tensor, h: int, w: int) -> torch.Tensor:
    """(n, C, H, W) -> (n, 5, C, h, w): the corners and the centre."""
    height, width = frames.shape[-2:]
    bottom, right = height - h, width - w
    places = [(0, 0), (0, right), (bottom, 0), (bottom, right), (round(bottom / 2), round(right / 2))]
    return torch.stack([frames[..., y : y + h, x : x + w] for y, x in places], 1)
