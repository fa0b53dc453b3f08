"""Optical flow of a pair of pictures with OpenCV. Decode processes compute it, so this module does not
import torch."""

from typing import Any

import numpy as np

from reelbank.data.video.functions import UnfitPicture
from reelbank.data.video.opencv import cv2

# The values of OpenCV's samples and of most papers.
FARNEBACK: dict[str, Any] = {
    "pyr_scale": 0.5,
    "levels": 3,
    "winsize": 15,
    "iterations": 3,
    "poly_n": 5,
    "poly_sigma": 1.2,
    "flags": 0,
}
# OpenCV's DIS reads beyond its memory in a picture whose short side is below the first limit and
# whose width is above the second: it chooses a scale at which no pixels remain. The process then
# crashes, or the flow is NaN.
_DIS_SMALLEST_PX, _DIS_WIDEST_PX = 16, 45
_NONE: Any = None  # no initial flow: OpenCV's type stubs do not allow None


def opencv_recipe(method: str) -> dict[str, Any]:
    """Everything that the flow depends on, as JSON values."""
    return {"method": method} | ({"preset": "medium"} if method == "dis" else FARNEBACK)


def opencv_flow(method: str, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The flow from `first` to `second`, both (H, W) uint8: (H, W, 2) float32 pixels, x before y. It
    does not depend on the number of threads. Raises UnfitPicture for pictures that DIS cannot
    process."""
    if method == "farneback":
        return cv2.calcOpticalFlowFarneback(first, second, _NONE, **FARNEBACK)
    if min(first.shape) < _DIS_SMALLEST_PX and first.shape[1] > _DIS_WIDEST_PX:
        raise UnfitPicture(
            f"FLOW=dis cannot process pictures of {first.shape[1]} x {first.shape[0]} pixels, which "
            f"is their size after resizing; give RESIZE={_DIS_SMALLEST_PX} or more"
        )
    # A new object for each pair, because it keeps state from the previous pair.
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return dis.calc(first, second, _NONE)
