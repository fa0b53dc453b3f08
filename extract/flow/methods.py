"""Optical flow methods by name, and the conversion of flow fields to uint8.

tvl1, raft_small and raft_large run on the device, tvl1 on a GPU in fused kernels. dis and farneback
(from OpenCV) run on the CPU, one pair of pictures at a time, in decode processes where a stream needs
nothing but the flow (see `in_decoders.fields`). On the CPU, the flow of a pair does
not depend on the other pairs of the batch. On a GPU, RAFT computes several pairs together, which
changes it by rounding only.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reelbank.data.errors import InputError
from reelbank.data.feature_recipe import FlowPart
from reelbank.data.store.weights import PublishedWeights
from reelbank.extract.flow.tvl1 import Tvl1, grey
from reelbank.extract.flow.tvl1_triton import tvl1_on_device
from reelbank.extract.networks.provenance import Provenance
from reelbank.extract.networks.published import (
    fetching,
    torchvision_absent,
    torchvision_cache,
    torchvision_origin,
    torchvision_state,
)
from reelbank.extract.networks.weights import fit_state, load_state, seeded, state_hash

OPENCV_METHODS = ("dis", "farneback")
METHODS = ("tvl1", *OPENCV_METHODS, "raft_small", "raft_large")
# Flow is clipped to +-20 pixels, as in K. Simonyan, A. Zisserman, NIPS 2014, and later two-stream
# work.
BOUND_PX = 20.0
RAFT_UPDATES = 12  # torchvision's default
_RAFT_STEP_PX, _RAFT_SMALLEST_PX = 8, 128
# Pairs that a GPU computes together. RAFT starts about 1,500 kernels however many pairs a batch has,
# and its largest array compares every 8 x 8 pixels of one picture with all of the other.
_RAFT_MOST_PAIRS, _RAFT_BATCH_BYTES = 32, 1 << 30


@dataclass(frozen=True)
class FlowMethod:
    """first, second (n, 3, H, W) uint8 RGB -> (n, 2, H, W) float32 pixels, x before y, on the
    device of the pictures. Pixel (x, y) of `first` is found at (x, y) + flow in `second`.

    recipe: everything that the flow depends on, as JSON values; to_download: weights that are not
    on this machine, so that random ones are used instead; of_opencv: the method's name if it is one
    of OpenCV's, which decode processes compute; published: what their publisher says about the
    weights.
    """

    recipe: dict[str, Any]
    compute: Callable[[Tensor, Tensor], Tensor]
    to_download: str = ""
    of_opencv: str = ""
    published: PublishedWeights | None = None

    @property
    def recipe_part(self) -> FlowPart:
        """The flow's share of a feature recipe."""
        return FlowPart(self.recipe, BOUND_PX)

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        if first.shape != second.shape or first.ndim != 4 or first.shape[1] != 3:
            raise ValueError(
                f"pictures must be (n, 3, H, W) (got {tuple(first.shape)} and {tuple(second.shape)})"
            )
        with torch.inference_mode():
            if not first.numel():
                return torch.zeros(len(first), 2, *first.shape[2:], device=first.device)
            return self.compute(first, second)


def build_flow(
    method: str,
    device: torch.device | str,
    weights: str = "pretrained",
    seed: int = 0,
    *,
    fetch: bool = True,
) -> FlowMethod:
    """A flow method by name.

    weights: of RAFT: "pretrained" (torchvision's), "random" (seeded), or the path of a state dict
    fetch: whether pretrained weights that are missing on this machine are downloaded

    Raises InputError for an unknown name, and for weights that are missing or do not fit.
    """
    if method not in METHODS:
        raise InputError(f"FLOW={method}: must be one of {', '.join(METHODS)}")
    if method == "tvl1":
        return FlowMethod(
            {"method": method, **asdict(Tvl1()), "rounded": "1/32 px"}, tvl1_on_device
        )
    if method in OPENCV_METHODS:
        return _opencv(method)
    return _raft(method, torch.device(device), weights, seed, fetch)


def to_uint8(fields: Tensor, bound_px: float = BOUND_PX) -> Tensor:
    """(..., 2, H, W) float32 pixels -> uint8: clipped to +-bound_px, then -bound_px becomes 0 and
    bound_px becomes 255. Halves are rounded to the even number, so zero motion becomes 128."""
    return (
        fields.clamp(-bound_px, bound_px)
        .add_(bound_px)
        .mul_(255 / (2 * bound_px))
        .round_()
        .to(torch.uint8)
    )


def mirrored(maps: Tensor) -> Tensor:
    """The (..., 2, H, W) uint8 flow of mirrored pictures: the fields are mirrored, and the sign of
    x changes (255 - value)."""
    flipped = maps.flip(-1)
    flipped[..., 0, :, :] = 255 - flipped[..., 0, :, :]
    return flipped


def magnitude(fields: Tensor) -> Tensor:
    """(n, 2, H, W) -> (n,): mean length of the displacements, in pixels."""
    return torch.hypot(fields[:, 0], fields[:, 1]).flatten(1).mean(1)


def _opencv(method: str) -> FlowMethod:
    from reelbank.extract.flow.opencv import opencv_flow, opencv_recipe

    def compute(first: Tensor, second: Tensor) -> Tensor:
        pairs = zip(grey(first).cpu().numpy(), grey(second).cpu().numpy(), strict=True)
        fields = np.stack([opencv_flow(method, a, b) for a, b in pairs])  # (n, H, W, 2)
        return torch.from_numpy(fields).permute(0, 3, 1, 2).contiguous().to(first.device)

    return FlowMethod(opencv_recipe(method), compute, of_opencv=method)


def _raft(method: str, device: torch.device, weights: str, seed: int, fetch: bool) -> FlowMethod:
    """Z. Teed, J. Deng, "RAFT: recurrent all-pairs field transforms for optical flow", ECCV 2020,
    in torchvision's implementation."""
    from torchvision.models import get_model, get_model_weights

    model = seeded(seed, lambda: get_model(method, weights=None))
    origin, absent = Provenance.random(seed), ""
    if weights == "pretrained":
        choice = get_model_weights(method).DEFAULT
        absent = "" if fetch else torchvision_absent(choice)
        if not absent:
            state = torchvision_state(method, choice, "FLOW_WEIGHTS")
            with fetching(
                method, choice.url, f"put the file at {torchvision_cache(choice)}", "FLOW_WEIGHTS"
            ):
                model.load_state_dict(state)
        origin = torchvision_origin(choice)
    elif weights != "random":
        state = load_state(Path(weights), "FLOW_WEIGHTS")
        fit_state(model, state, Path(weights), method, option="FLOW_WEIGHTS")
        origin = Provenance.of_file(Path(weights))
    model = model.eval().requires_grad_(False)
    origin = replace(origin, sha256="" if absent else state_hash(model))
    model = model.to(device)

    def compute(first: Tensor, second: Tensor) -> Tensor:
        pairs = _raft_pairs(first.shape[2:]) if device.type == "cuda" else 1
        return raft_fields(model, first.to(device), second.to(device), pairs).to(first.device)

    return FlowMethod(
        {"method": method, "updates": RAFT_UPDATES, "weights": origin.to_json()},
        compute,
        absent,
        published=origin.published,
    )


def raft_fields(model: nn.Module, first: Tensor, second: Tensor, pairs: int) -> Tensor:
    """The flow of RAFT, computed for `pairs` pairs of pictures at a time.

    first, second: (n, 3, H, W) uint8 -> (n, 2, H, W) float32 pixels. RAFT needs sides that are
    multiples of 8 and at least 128 pixels: the edges are repeated, and the result is cropped.

    The order of sums inside a convolution depends on the number of pairs in a batch. So the last
    batch is filled up with copies of its last pair. The flow of a pair differs from that of a batch
    of one by less than 0.001 pixels.
    """
    h, w = first.shape[2:]
    left, right, top, bottom = (*_margins(w), *_margins(h))
    fields = []
    for batch in zip(first.split(pairs), second.split(pairs), strict=True):
        count = len(batch[0])
        full = [torch.cat([x, x[-1:].expand(pairs - count, -1, -1, -1)]) for x in batch]
        wide = [
            F.pad(x.float() / 127.5 - 1, (left, right, top, bottom), mode="replicate") for x in full
        ]
        field = model(*wide, num_flow_updates=RAFT_UPDATES)[-1]  # (pairs, 2, H', W')
        fields.append(field[:count, :, top : top + h, left : left + w].float())
    return torch.cat(fields).contiguous()


def _raft_pairs(picture_px: Sequence[int]) -> int:
    """The number of pairs of pictures (height, width) that a GPU computes together."""
    cells = 1
    for side_px in picture_px:
        cells *= (side_px + sum(_margins(side_px))) // _RAFT_STEP_PX
    bytes_per_pair = 4 * cells**2 * 4 // 3  # float32, with three coarser levels
    return max(1, min(_RAFT_MOST_PAIRS, _RAFT_BATCH_BYTES // bytes_per_pair))


def _margins(side_px: int) -> tuple[int, int]:
    """The number of pixels to add before and after."""
    missing = max(_RAFT_SMALLEST_PX, -(-side_px // _RAFT_STEP_PX) * _RAFT_STEP_PX) - side_px
    return missing // 2, missing - missing // 2
