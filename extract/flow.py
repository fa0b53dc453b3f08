"""Optical flow by name, between pairs of pictures, and its form as features read it.

tvl1, raft_small and raft_large run on the device, dis and farneback (OpenCV's) on the CPU, pair by pair. Whatever the method, a
pair's flow does not depend on the pairs that it is computed with.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reelbank.data.errors import InputError
from reelbank.extract.tvl1 import Tvl1, grey, tvl1
from reelbank.extract.weights import fetching, fit_state, load_state, state_hash

METHODS = ("tvl1", "dis", "farneback", "raft_small", "raft_large")
BOUND_PX = 20.0  # K. Simonyan, A. Zisserman, NIPS 2014, and all two-stream work since: flow is clipped there
# What OpenCV's samples and most papers use.
FARNEBACK = {"pyr_scale": 0.5, "levels": 3, "winsize": 15, "iterations": 3, "poly_n": 5, "poly_sigma": 1.2, "flags": 0}
RAFT_UPDATES = 12  # torchvision's default
_RAFT_STEP_PX, _RAFT_SMALLEST_PX = 8, 128


@dataclass(frozen=True)
class FlowMethod:
    """first, second (n, 3, H, W) uint8 RGB -> (n, 2, H, W) float32 pixels, x before y, on the device of the pictures. Pixel
    (x, y) of `first` is found at (x, y) + flow in `second`. recipe: all that the flow depends on, JSON-able."""

    recipe: dict[str, Any]
    compute: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        if first.shape != second.shape or first.ndim != 4 or first.shape[1] != 3:
            raise ValueError(f"pictures of (n, 3, H, W) wanted, given {tuple(first.shape)} and {tuple(second.shape)}")
        with torch.inference_mode():
            if not first.numel():
                return torch.zeros(len(first), 2, *first.shape[2:], device=first.device)
            return self.compute(first, second)


def build_flow(method: str, device: torch.device | str, weights: str = "pretrained", seed: int = 0) -> FlowMethod:
    """A flow method by name. weights, of RAFT: "pretrained" (torchvision's), "random" (seeded), or a state dict's path.
    Raises InputError for an unknown name, and for weights that are not there or do not fit."""
    if method not in METHODS:
        raise InputError(f"FLOW={method}: no such method; choose one of {', '.join(METHODS)}")
    if method == "tvl1":
        return FlowMethod({"method": method, **asdict(Tvl1()), "rounded": "1/32 px"}, tvl1)
    if method in ("dis", "farneback"):
        return _opencv(method)
    return _raft(method, torch.device(device), weights, seed)


def to_uint8(fields: Tensor, bound_px: float = BOUND_PX) -> Tensor:
    """(..., 2, H, W) float32 pixels -> uint8: clipped to +-bound_px, then -bound_px is 0 and bound_px is 255; halves go to the
    even number, so no motion is 128."""
    return fields.clamp(-bound_px, bound_px).add_(bound_px).mul_(255 / (2 * bound_px)).round_().to(torch.uint8)


def mirrored(maps: Tensor) -> Tensor:
    """(..., 2, H, W) uint8 flow of mirrored pictures: the fields mirrored, and x the other way (255 - value)."""
    flipped = maps.flip(-1)
    flipped[..., 0, :, :] = 255 - flipped[..., 0, :, :]
    return flipped


def magnitude(fields: Tensor) -> Tensor:
    """(n, 2, H, W) -> (n,): mean length of the displacements, in pixels."""
    return torch.hypot(fields[:, 0], fields[:, 1]).flatten(1).mean(1)


def _opencv(method: str) -> FlowMethod:
    from reelbank.data.opencv import cv2

    none: Any = None  # no flow to start from, which OpenCV's types do not know
    farneback: dict[str, Any] = FARNEBACK
    recipe: dict[str, Any] = {"method": method} | ({"preset": "medium"} if method == "dis" else farneback)

    def work(a: np.ndarray, b: np.ndarray) -> Any:
        if method == "farneback":
            return cv2.calcOpticalFlowFarneback(a, b, none, **farneback)
        # A new one for each pair: it keeps memory, and a pair must not depend on the one before.
        return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(a, b, none)

    def compute(first: Tensor, second: Tensor) -> Tensor:
        pairs = zip(grey(first).cpu().numpy(), grey(second).cpu().numpy(), strict=True)
        fields = np.stack([work(a, b) for a, b in pairs])  # (n, H, W, 2)
        return torch.from_numpy(fields).permute(0, 3, 1, 2).contiguous().to(first.device)

    return FlowMethod(recipe, compute)


def _raft(method: str, device: torch.device, weights: str, seed: int) -> FlowMethod:
    """Z. Teed, J. Deng, "RAFT: recurrent all-pairs field transforms for optical flow", ECCV 2020, torchvision's."""
    from torchvision.models import get_model, get_model_weights

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = get_model(method, weights=None)
    source = f"random, seed {seed}"
    if weights == "pretrained":
        choice = get_model_weights(method).DEFAULT
        cache = Path(torch.hub.get_dir()) / "checkpoints" / choice.url.rsplit("/", 1)[-1]
        with fetching(method, choice.url, f"put the file at {cache}", "FLOW_WEIGHTS"):
            model.load_state_dict(choice.get_state_dict(progress=True, check_hash=True, weights_only=True))
        source = f"pretrained {choice}"
    elif weights != "random":
        state = load_state(Path(weights), "FLOW_WEIGHTS")
        fit_state(model, state, Path(weights), method, option="FLOW_WEIGHTS")
        source = f"file {Path(weights).name}"
    model = model.eval().requires_grad_(False)
    described = {"source": source, "sha256": state_hash(model)}
    model = model.to(device)

    def compute(first: Tensor, second: Tensor) -> Tensor:
        # One by one: the sums inside a convolution go in another order in a batch of another size.
        pairs = zip(first.split(1), second.split(1), strict=True)
        return torch.cat([_raft_pair(model, a.to(device), b.to(device)) for a, b in pairs]).to(first.device)

    return FlowMethod({"method": method, "updates": RAFT_UPDATES, "weights": described}, compute)


def _raft_pair(model: nn.Module, first: Tensor, second: Tensor) -> Tensor:
    """(1, 3, H, W) uint8 -> (1, 2, H, W). RAFT takes multiples of 8 px, at least 128: edges are repeated, and cut off again."""
    h, w = first.shape[2:]
    left, right, top, bottom = (*_margins(w), *_margins(h))
    wide = [F.pad(x.float() / 127.5 - 1, (left, right, top, bottom), mode="replicate") for x in (first, second)]
    field = model(*wide, num_flow_updates=RAFT_UPDATES)[-1]
    return field[:, :, top : top + h, left : left + w].float().contiguous()


def _margins(side_px: int) -> tuple[int, int]:
    """Pixels to add before and after."""
    missing = max(_RAFT_SMALLEST_PX, -(-side_px // _RAFT_STEP_PX) * _RAFT_STEP_PX) - side_px
    return missing // 2, missing - missing // 2
