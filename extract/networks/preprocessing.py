"""Preprocessing of pictures: resize, crop and normalisation."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reelbank.data.errors import InputError
from reelbank.data.identity import brief
from reelbank.data.ranges import MOST_PX

RGB_ORDER = "rgb"  # of the channels


@dataclass(frozen=True)
class Resize:
    """size_px: short side, or height and width; interpolation: "bilinear", "bicubic" or "nearest";
    antialias: smooth pictures when they are reduced; fill: grey levels of a border that fills up a
    picture of another aspect ratio to height and width (None: the picture is stretched); rounded:
    to whole grey levels, uint8."""

    size_px: int | tuple[int, int]
    interpolation: str = "bilinear"
    antialias: bool = True
    fill: tuple[int, ...] | None = None
    rounded: bool = True


@dataclass(frozen=True)
class Preprocessing:
    """Resize (short side, or height and width), crop, (x / 255 - mean) / std, in the channel order
    the weights were trained in.

    rounded: as of Resize; centre: how half a pixel in the corner of the centre crop is rounded, to
    an even number ("even", as torchvision does) or down ("down", as transformers does).

    Log-mel examples are not resized or cropped by it: crop_px is what they are brought to (height,
    width), and mean and std are those of the log-mel values themselves.
    """

    resize_px: int | tuple[int, int]
    crop_px: int | tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    order: str = RGB_ORDER  # or "bgr"
    antialias: bool = True
    fill: tuple[int, ...] | None = None
    rounded: bool = True
    centre: str = "even"

    @property
    def resize(self) -> Resize:
        return Resize(
            self.resize_px, self.interpolation, self.antialias, self.fill, rounded=self.rounded
        )

    def to_json(self) -> dict[str, Any]:
        """The entry of a recipe. Some settings are left out if they have their usual values, so
        that earlier recipes, which do not contain them, stay equal."""
        values = dataclasses.asdict(self)
        usual = {"antialias": True, "fill": None, "rounded": True, "centre": "even"}
        kept = {
            name: value
            for name, value in values.items()
            if name not in usual or value != usual[name]
        }
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in kept.items()
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Preprocessing":
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()
        }
        return cls(**values)


def read_resize(text: str) -> int | tuple[int, int]:
    """The value of RESIZE: "256" is the short side, "256x340" height and width, "" is 0, the
    network's own. Raises InputError for other texts and for sizes outside the range."""
    if not text:
        return 0
    if not re.fullmatch(r"[0-9]+(x[0-9]+)?", text):
        raise InputError(
            f"RESIZE={brief(text)}: must be the short side in pixels, such as 256, or height x width, "
            "such as 256x340"
        )
    # A number of thousands of digits would be an error in int().
    sides_px = [int(side) if len(side) < 10 else MOST_PX + 1 for side in text.split("x")]
    if not all(1 <= side <= MOST_PX for side in sides_px):
        raise InputError(f"RESIZE={brief(text)}: must be at least 1 and at most {MOST_PX:,}")
    return sides_px[0] if len(sides_px) == 1 else (sides_px[0], sides_px[1])


def resize_text(resize_px: int | Sequence[int]) -> str:
    """The inverse of `read_resize`: "256", or "256x340"."""
    return str(resize_px) if isinstance(resize_px, int) else "x".join(map(str, resize_px))


def typical_px(resize_px: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width after the resize, for estimates: of a 4:3 picture, unless both are given."""
    return (resize_px, resize_px * 4 // 3) if isinstance(resize_px, int) else resize_px


def pair(size_px: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width of a crop."""
    return (size_px, size_px) if isinstance(size_px, int) else size_px
