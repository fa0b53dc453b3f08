"""How the processor of a model of transformers prepares pictures, as our own preprocessing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reelbank.data.errors import InputError
from reelbank.extract.networks.inputs import NetworkKind
from reelbank.extract.networks.preprocessing import Preprocessing, pair
from reelbank.extract.networks.presets import size_px

# PIL's numbers of the filters that `pipeline/resize.py` has.
_FILTERS = {0: "nearest", 2: "bilinear", 3: "bicubic"}
# Height and width of the picture on which both are compared: with an odd margin at the centre crop,
# which rounding down and rounding to an even number place differently.
_TRIAL_PX = ((96, 127), (131, 90))
# Between prepared pictures, whose values are about -3 to 3. A grey level is about 0.01.
_LARGEST_ERROR = 1e-3
# These resize before they round to grey levels.
_UNROUNDED = ("DINOv3ViTImageProcessor", "DINOv3ViTImageProcessorFast")


def load_processor(folder: Path, kind: NetworkKind, *, trust_remote_code: bool) -> Any:
    """The model's own processor of pictures or clips, that of torchvision if there are several.
    trust_remote_code: whether code in the folder may be run."""
    from transformers import AutoImageProcessor, AutoVideoProcessor

    settings = {"local_files_only": True, "trust_remote_code": trust_remote_code}
    if kind == "video":
        try:
            return AutoVideoProcessor.from_pretrained(folder, **settings)
        except (OSError, ValueError):
            pass  # X-CLIP and early checkpoints prepare clips with an image processor
    return AutoImageProcessor.from_pretrained(folder, **settings)


def preprocessing_of(processor: Any, kind: NetworkKind, extractor: str) -> Preprocessing:
    """The preprocessing that gives the same inputs as a processor. Raises InputError for a processor
    that does more than resizing, cropping and normalising, found by comparing both on a picture."""
    where = f"EXTRACTOR={extractor}: {type(processor).__name__}"
    resize = _size(getattr(processor, "size", None))
    if not getattr(processor, "do_resize", True) or resize is None:
        raise InputError(
            f"{where} does not resize pictures to a fixed size, which is not supported"
        )
    crop: int | tuple[int, int] | None = resize
    if getattr(processor, "do_center_crop", False):
        crop = _size(getattr(processor, "crop_size", None))
    elif isinstance(resize, int):
        crop = None
    if crop is None:
        raise InputError(
            f"{where} keeps the aspect ratio of pictures without cropping them, so that each video "
            "would have inputs of another size, which is not supported"
        )
    resample = getattr(processor, "resample", 2)
    if int(resample if resample is not None else 2) not in _FILTERS:
        raise InputError(f"{where} resizes with a filter other than {', '.join(_FILTERS.values())}")
    mean, std = _normalisation(processor)
    preprocessing = Preprocessing(
        resize_px=resize,
        crop_px=size_px(pair(crop)),
        mean=mean,
        std=std,
        interpolation=_FILTERS[int(resample if resample is not None else 2)],
        rounded=type(processor).__name__ not in _UNROUNDED,
        centre="down",
    )
    _check(processor, preprocessing, kind, where)
    return preprocessing


def _size(size: Any) -> int | tuple[int, int] | None:
    """The short side, or height and width, of a processor's size."""
    if isinstance(size, int):
        return size
    if size is None:
        return None
    entries: Mapping[str, Any] = size if isinstance(size, Mapping) else vars(size)
    height, width = entries.get("height"), entries.get("width")
    if height and width:
        return int(height), int(width)
    short = entries.get("shortest_edge")
    return int(short) if short and not entries.get("longest_edge") else None


def _normalisation(processor: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """mean and std with which (x / 255 - mean) / std is what the processor makes of grey levels x."""
    scale, offset = 1.0, 0.0
    if getattr(processor, "do_rescale", True):
        scale = 255 * float(getattr(processor, "rescale_factor", 1 / 255))
        # ViViT moves the scaled levels to -1 to 1 before it normalises them.
        moves = getattr(processor, "offset", type(processor).__name__ == "VivitVideoProcessor")
        offset = -1.0 if moves else 0.0
    else:
        scale = 255.0
    mean, std = (0.0,) * 3, (1.0,) * 3
    if getattr(processor, "do_normalize", True):
        mean, std = _three(processor.image_mean), _three(processor.image_std)
    if abs(scale - 1) < 1e-9:
        scale = 1.0
    return (
        tuple((value - offset) / scale for value in mean),
        tuple(value / scale for value in std),
    )


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = [values] * 3 if isinstance(values, int | float) else values
    return float(red), float(green), float(blue)


def processed(processor: Any, kind: NetworkKind, pictures: np.ndarray) -> Tensor:
    """What a processor makes of (n, H, W, 3) uint8: (n, 3, h, w) float32."""
    if kind == "image":
        batch = processor(images=list(pictures), return_tensors="pt")
        return batch["pixel_values"].float()
    if hasattr(processor, "sample_frames"):
        batch = processor(videos=[pictures], return_tensors="pt", do_sample_frames=False)
    else:
        batch = processor(list(pictures), return_tensors="pt")
    (pixels,) = [value for name, value in batch.items() if name.startswith("pixel_values")]
    return pixels[0].float()


def _check(processor: Any, ours: Preprocessing, kind: NetworkKind, where: str) -> None:
    """Raises InputError if the processor prepares a picture differently."""
    from reelbank.extract.pipeline.crops import corners, resize

    generator = np.random.default_rng(0)
    for height, width in _TRIAL_PX:
        # Blocks of colour, so that a shift by a pixel shows, and smoothing does not hide it.
        blocks = generator.integers(0, 256, (1, height // 6 + 1, width // 6 + 1, 3), np.uint8)
        picture = np.kron(blocks, np.ones((1, 6, 6, 1), np.uint8))[:, :height, :width]
        theirs = processed(processor, kind, np.repeat(picture, 2 if kind == "video" else 1, 0))[0]
        resized = resize(torch.from_numpy(picture).movedim(-1, 1), ours.resize)
        (h, w), size = pair(ours.crop_px), (resized.shape[-2], resized.shape[-1])
        if size[0] < h or size[1] < w:
            raise InputError(f"{where} pads pictures, which is not supported")
        ((top, left),) = corners(size, ours.crop_px, 1, ours.centre)
        cut = resized[0, :, top : top + h, left : left + w].float() / 255
        mean, std = torch.tensor(ours.mean)[:, None, None], torch.tensor(ours.std)[:, None, None]
        prepared = (cut - mean) / std
        if theirs.shape == prepared.shape:
            difference = (theirs - prepared).abs().max().item()
            if difference < _LARGEST_ERROR:
                continue
            reason = f"values of prepared pictures differ by up to {difference:.2g}"
        else:
            reason = f"pictures have the shape {tuple(theirs.shape)} (got {tuple(prepared.shape)})"
        raise InputError(
            f"{where} prepares pictures in a way that is not supported: {reason}, compared with "
            "resizing, cropping and normalising by its settings"
        )
