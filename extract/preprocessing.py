"""What a picture goes through before a network sees it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Preprocessing:
    """Resize (short side, or height and width), crop, (x / 255 - mean) / std, in the channel order the weights were trained in.

    Log-mel examples are not resized or cropped by it: crop_px is what they are brought to (height, width), and mean and std are
    those of the log-mel values themselves.
    """

    resize_px: int | tuple[int, int]
    crop_px: int | tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    order: str = "rgb"  # or "bgr"
