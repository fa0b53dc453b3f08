"""Augmentation of training pictures, on the device and from uint8: corner and scale jitter, and flips (TSN paper, 3.2)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

SCALES = (1.0, 0.875, 0.75, 0.66)
MOST_STEPS_APART = 1  # of height and width in SCALES: distorts the aspect by an eighth or so, no more
# Of what is left beside a crop, in quarters (down, right): corners, centre, middles of the sides, quarters.
PLACES = ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2), (2, 0), (2, 4), (4, 2), (0, 2), (1, 1), (1, 3), (3, 1), (3, 3))


@dataclass(frozen=True)
class Box:
    """A part of a picture, in pixels, and whether it is mirrored."""

    top: int
    left: int
    height: int
    width: int
    flipped: bool = False


def centre(picture_px: tuple[int, int], crop_px: tuple[int, int]) -> Box:
    """The crop in the middle, where extraction takes it (extract.crops)."""
    return Box(round((picture_px[0] - crop_px[0]) / 2), round((picture_px[1] - crop_px[1]) / 2), *crop_px)


def crop_sizes(picture_px: tuple[int, int], crop_px: tuple[int, int]) -> list[tuple[int, int]]:
    """Every (height, width) that jitter may cut: SCALES of the largest box of the crop's aspect, which for a square crop is the
    picture's short side, in height and width apart by one step at most."""
    share = min(whole / side for whole, side in zip(picture_px, crop_px, strict=True))
    heights, widths = ([int(round(side * share, 6) * scale) for scale in SCALES] for side in crop_px)
    steps = range(len(SCALES))
    return [(heights[i], widths[j]) for i in steps for j in steps if abs(i - j) <= MOST_STEPS_APART]


def boxes(
    rng: np.random.Generator, count: int, picture_px: tuple[int, int], crop_px: tuple[int, int], jitter: bool, flip: bool
) -> list[Box]:
    """A box for each of `count` videos, drawn from `rng`; without `jitter` the centre crop, without `flip` none mirrored."""
    sizes = crop_sizes(picture_px, crop_px)
    drawn = []
    for _ in range(count):
        size, place, side = rng.integers(len(sizes)), rng.integers(len(PLACES)), rng.integers(2)
        box = centre(picture_px, crop_px)
        if jitter:
            # quarters are whole pixels, as in TSN's code
            down, right = (
                quarters * ((whole - own) // 4)
                for quarters, whole, own in zip(PLACES[place], picture_px, sizes[size], strict=True)
            )
            box = Box(down, right, *sizes[size])
        drawn.append(Box(box.top, box.left, box.height, box.width, flip and bool(side)))
    return drawn


def augmented(pixels: Tensor, of_videos: list[Box], crop_px: tuple[int, int], flow: bool) -> Tensor:
    """(N, S, C, [s,] H, W) uint8 -> (N, S, C, [s,] h, w) float32 in 0..255: every snippet of a video cut to the video's box,
    mirrored when the box says so, and resized to the crop's size.

    flow: channels are x1 y1 x2 y2 ..., whose mirror image runs the other way (extract.flow.mirrored).
    """
    cut = []
    for own, box in zip(pixels, of_videos, strict=True):
        part = own[..., box.top : box.top + box.height, box.left : box.left + box.width]  # (S, C, [s,] h', w')
        if box.flipped:
            part = flipped(part, flow)
        part = part.float()
        if part.shape[-2:] != crop_px:
            flat = part.flatten(0, -3)[None]  # (1, S C [s], h', w')
            flat = nn.functional.interpolate(flat, crop_px, mode="bilinear", antialias=True)
            part = flat[0].unflatten(0, part.shape[:-2])
        cut.append(part)
    return torch.stack(cut)


def flipped(pixels: Tensor, flow: bool) -> Tensor:
    """The mirror image of (S, C, [s,] h, w) uint8; of flow, C = 2 L as x1 y1 x2 y2 ..., with x turned round."""
    if not flow:
        return pixels.flip(-1)
    from reelbank.extract.flow import mirrored

    fields = pixels.unflatten(1, (-1, 2))  # (S, L, 2, [s,] h, w)
    if fields.ndim == 6:
        return mirrored(fields.transpose(2, 3)).transpose(2, 3).flatten(1, 2)
    return mirrored(fields).flatten(1, 2)
