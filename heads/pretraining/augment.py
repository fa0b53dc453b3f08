"""Augmentation of uint8 training pictures on the device. Every video is cut to its box (TSN paper,
3.2)."""

import torch
from torch import Tensor, nn

from reelbank.extract.pipeline.boxes import Box


def augmented(pixels: Tensor, of_videos: list[Box], crop_px: tuple[int, int], flow: bool) -> Tensor:
    """Crop snippets (N, S, C, [s,] H, W) uint8 to (N, S, C, [s,] h, w) float32 in 0..255. Every
    snippet of a video is cut to the video's box, mirrored if the box is flipped, and resized to the
    crop's size.

    flow: the channels are x1 y1 x2 y2 ..., and mirroring also negates the x components
    (extract.flow.mirrored).
    """
    cut = []
    for snippets, box in zip(pixels, of_videos, strict=True):
        bottom, right = box.top + box.height, box.left + box.width
        part = snippets[..., box.top : bottom, box.left : right]  # (S, C, [s,] h', w')
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
    """The mirror image of (S, C, [s,] h, w) uint8. For flow, the C = 2 L channels are x1 y1 x2 y2
    ..., and the x components are negated too."""
    if not flow:
        return pixels.flip(-1)
    from reelbank.extract.flow.methods import mirrored

    fields = pixels.unflatten(1, (-1, 2))  # (S, L, 2, [s,] h, w)
    if fields.ndim == 6:
        return mirrored(fields.transpose(2, 3)).transpose(2, 3).flatten(1, 2)
    return mirrored(fields).flatten(1, 2)
