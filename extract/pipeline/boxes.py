"""Boxes of a picture for training: corner and scale jitter, and mirroring (TSN paper, 3.2)."""

from dataclasses import dataclass

import numpy as np

SCALES = (1.0, 0.875, 0.75, 0.66)
# Height and width are at most this many steps of SCALES apart, which changes the aspect ratio by at
# most about an eighth.
MOST_STEPS_APART = 1
# Offsets of a crop (down, right), in quarters of the space that it leaves free: corners, centre,
# middles of the sides, quarters.
PLACES = (
    (0, 0),
    (0, 4),
    (4, 0),
    (4, 4),
    (2, 2),
    (2, 0),
    (2, 4),
    (4, 2),
    (0, 2),
    (1, 1),
    (1, 3),
    (3, 1),
    (3, 3),
)


@dataclass(frozen=True)
class Box:
    """A part of a picture, in pixels, and whether it is mirrored."""

    top: int
    left: int
    height: int
    width: int
    flipped: bool = False


def centre(picture_px: tuple[int, int], crop_px: tuple[int, int]) -> Box:
    """The centre crop, at the position that extraction uses (`crops.take_crops`)."""
    height, width = crop_px
    top = round((picture_px[0] - height) / 2)
    left = round((picture_px[1] - width) / 2)
    return Box(top, left, height, width)


def crop_sizes(picture_px: tuple[int, int], crop_px: tuple[int, int]) -> list[tuple[int, int]]:
    """Every (height, width) that jitter may cut: SCALES of the largest box with the crop's aspect
    ratio (for a square crop, the picture's short side), where height and width are at most
    MOST_STEPS_APART steps of SCALES apart."""
    share = min(whole / side for whole, side in zip(picture_px, crop_px, strict=True))
    heights, widths = (
        [int(round(side * share, 6) * scale) for scale in SCALES] for side in crop_px
    )
    sizes = []
    for i, height in enumerate(heights):
        first = max(0, i - MOST_STEPS_APART)
        sizes += [(height, width) for width in widths[first : i + MOST_STEPS_APART + 1]]
    return sizes


def boxes(
    rng: np.random.Generator,
    count: int,
    picture_px: tuple[int, int],
    crop_px: tuple[int, int],
    *,
    jitter: bool,
    flip: bool,
) -> list[Box]:
    """A box for each of `count` videos, drawn from `rng`. Without `jitter` it is the centre crop;
    without `flip` it is not mirrored."""
    sizes = crop_sizes(picture_px, crop_px)
    drawn = []
    for _ in range(count):
        size, place, side = rng.integers(len(sizes)), rng.integers(len(PLACES)), rng.integers(2)
        box = centre(picture_px, crop_px)
        if jitter:
            # quarters are whole pixels, as in TSN's code
            down, right = (
                quarters * ((whole - side_px) // 4)
                for quarters, whole, side_px in zip(
                    PLACES[place], picture_px, sizes[size], strict=True
                )
            )
            box = Box(down, right, *sizes[size])
        drawn.append(Box(box.top, box.left, box.height, box.width, flip and bool(side)))
    return drawn
