"""Networks ready to extract: uint8 crops (or log-mel examples) in, one float32 tensor for each node out, with the preprocessing
their weights were trained with and everything that their features depend on written down for the recipe."""

import copy
import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from reelbank.data.errors import InputError
from reelbank.extract import zoo
from reelbank.extract.cut import cut
from reelbank.extract.preprocessing import Preprocessing
from reelbank.extract.weights import state_hash

EMBEDDING = "embedding"  # the node name of what the classifier reads
PIXELS = ("pixels", "clip_pixels")  # no network: what one would see, kept as it is

LOGMEL_PX = (96, 64)  # steps of 10 ms and mel bands of an example
LOGMEL_MEAN, LOGMEL_STD = (
    (-2.0,),
    (2.0,),
)  # bring log-mel values near those that image networks know; VGGish takes them as they are


@dataclass(frozen=True)
class Trunk:
    """A network without its classifier, to train or to extract with.

    model: float32 (N, C, [s,] h, w), or log-mel (N, 1, 96, 64) -> (N, D); kind: "image", "video" or "sound"; clip_frames:
    pictures, or flow fields, that it sees at once; weights: what it holds, JSON-able: source and SHA-256 of all parameters and
    buffers, and for weights trained here `family` and `saw` (data set, split, part).
    """

    name: str
    model: nn.Module
    preprocessing: Preprocessing
    kind: str
    clip_frames: int
    weights: dict[str, Any]


@dataclass(frozen=True)
class Network:
    """A network ready for extraction.

    module: (B, C, h, w) uint8, (B, C, s, h, w) for a video network, (B, 96, 64) float32 log-mel for sound -> tuple of float32
    tensors (B, ...), one per node. channels: C. weights: as of Trunk.
    """

    name: str
    module: nn.Module
    nodes: tuple[str, ...]
    preprocessing: Preprocessing
    kind: str
    clip_frames: int
    channels: int
    weights: dict[str, Any]
    extractor: str  # as it is asked for; `name` is the short one
    width: float = 1.0

    @property
    def is_video(self) -> bool:
        return self.kind == "video"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input without the batch."""
        h, w = pair(self.preprocessing.crop_px)
        if self.kind == "sound":
            return LOGMEL_PX
        return (self.channels, self.clip_frames, h, w) if self.is_video else (self.channels, h, w)


def pair(size_px: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width of a crop."""
    return (size_px, size_px) if isinstance(size_px, int) else size_px


class Forward(nn.Module):
    """Normalises on the device and runs the trunk: (B, C, [s,] h, w) uint8 or (B, 96, 64) log-mel -> tuple of float32."""

    mean: Tensor
    std: Tensor

    def __init__(self, trunk: nn.Module, nodes: tuple[str, ...], preprocessing: Preprocessing, kind: str, pool: bool) -> None:
        super().__init__()
        self.nodes, self.trunk, self.pool, self.kind = nodes, trunk, pool, kind
        self.bgr, self.size = preprocessing.order == "bgr", pair(preprocessing.crop_px)
        shape = (1, -1, 1, 1, 1) if kind == "video" else (1, -1, 1, 1)
        scale = 1 if kind == "sound" else 255
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(shape) * scale)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(shape) * scale)

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        if self.kind == "sound":
            x = inputs[:, None]  # (B, 1, 96, 64)
            x = x if tuple(x.shape[-2:]) == self.size else F.interpolate(x, self.size, mode="bilinear")
        else:
            x = (inputs.flip(1) if self.bgr else inputs).float()
        x = (x - self.mean) / self.std
        x = x.contiguous(memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d)
        found = self.trunk(x)
        outputs = tuple(found[node] for node in self.nodes) if isinstance(found, dict) else (found,)
        return tuple((pooled(y) if self.pool else y).float().contiguous() for y in outputs)


class Pixels(nn.Module):
    """What a network would be shown, uint8 as it is."""

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        return (inputs,)


def pooled(y: Tensor) -> Tensor:
    """Mean over space and time: (B, C, [t,] h, w), (B, [t,] h, w, C) or tokens (B, n, C) -> (B, C); vectors stay.

    Channels stand last where the two axes before the last are equal and the last is not (swin's maps).
    """
    if y.ndim == 3 or (y.ndim > 3 and y.shape[-3] == y.shape[-2] != y.shape[-1]):
        return y.flatten(1, -2).mean(1)
    return y.flatten(2).mean(2) if y.ndim > 3 else y


def trunk(
    name: str,
    weights: str = "",
    seed: int = 0,
    channels: int = 3,
    width: float = 1.0,
    stream: str = "rgb",
    trained: tuple[dict[str, Any], dict[str, Tensor]] | None = None,
) -> Trunk:
    """A network without its classifier, for inputs of `channels` channels, its parameters trainable.

    weights: "pretrained" (torchvision's or timm's own loader), "random" (seeded), "own" (the file's builder loads them), or a
    state dict's path; `trained`: what `trained.load_weights` gave, instead. A stream "flow" is scaled for flow (zero motion is
    0), "audio" for log-mel. Raises InputError for unknown names or keys, and when pretrained weights cannot be fetched.
    """
    usual = "own" if ".py:" in name else "random"  # replaced by the trained ones
    found = zoo.find(name, usual if trained else weights, seed, channels, width)
    described: dict[str, Any] = {"source": found.source}
    if trained:
        about, state = trained
        try:
            found.model.load_state_dict(state)
        except RuntimeError as error:
            raise InputError(f"WEIGHTS: trained weights do not fit {name} ({str(error).splitlines()[1].strip()})") from error
        described = dict(about)
    described["sha256"] = state_hash(found.model)
    if ".py:" in name:  # the same weights in other code are other features
        described["code_sha256"] = hashlib.sha256(Path(name.rpartition(":")[0]).read_bytes()).hexdigest()
    preprocessing = found.preprocessing
    if preprocessing.interpolation not in ("bilinear", "bicubic", "nearest"):
        raise InputError(f"EXTRACTOR={name}: interpolation {preprocessing.interpolation} is none of bilinear, bicubic, nearest")
    kind = found.kind
    if kind == "sound" and stream != "audio":
        raise InputError(f"EXTRACTOR={name}: hears, it takes STREAM=audio, not {stream}")
    if stream == "audio" and kind == "video":
        raise InputError(f"EXTRACTOR={name}: is a video network; STREAM=audio takes vggish or an image network")
    if stream == "flow":  # as TSN: 128, which is no motion, for all channels, and the mean of the deviations
        spread = sum(preprocessing.std) / len(preprocessing.std)
        preprocessing = replace(preprocessing, mean=(128 / 255,), std=(spread,), order="rgb")
    if stream == "audio" and kind == "image":
        kind = "sound"
        preprocessing = replace(preprocessing, resize_px=LOGMEL_PX, mean=LOGMEL_MEAN, std=LOGMEL_STD, order="rgb")
    return Trunk(found.name, found.model, preprocessing, kind, found.clip_frames, described)


def build(
    name: str,
    nodes: tuple[str, ...] = (),
    weights: str = "",
    seed: int = 0,
    pool: bool = True,
    channels: int = 3,
    width: float = 1.0,
    stream: str = "rgb",
    clip_frames: int | None = None,
    trained: tuple[dict[str, Any], dict[str, Tensor]] | None = None,
    sized: Callable[[Preprocessing], Preprocessing] = lambda own: own,
) -> Network:
    """Build a network for extraction: its trunk (see `trunk`), cut at `nodes` (default: what its classifier reads), batch norm
    folded. `pool` averages maps over space (and time); clip_frames: of a video network's clips; `sized` changes resize and
    crop. Raises InputError, also when the network does not take inputs of that size."""
    if name in PIXELS:
        return _pixels(name, stream, channels, clip_frames or 1, sized)
    base = trunk(name, weights, seed, channels, width, stream, trained)
    base.model.eval().requires_grad_(False)
    if len(set(nodes)) < len(nodes):
        raise InputError(f"NODE={' '.join(nodes)}: each node once")
    parts = cut(base.model, nodes, name) if nodes else base.model
    frames = (clip_frames or base.clip_frames) if base.kind == "video" else 1
    preprocessing = sized(base.preprocessing)
    whole = Forward(parts, nodes, preprocessing, base.kind, pool).eval()
    network = Network(
        name=base.name,
        module=whole,
        nodes=nodes or (EMBEDDING,),
        preprocessing=preprocessing,
        kind=base.kind,
        clip_frames=frames,
        channels=channels,
        weights=base.weights,
        extractor=name,
        width=width,
    )
    return replace(network, module=_folded(whole, network))


def _pixels(
    name: str, stream: str, channels: int, clip_frames: int, sized: Callable[[Preprocessing], Preprocessing]
) -> Network:
    preprocessing = sized(Preprocessing((128, 170), (128, 170), (0.0,), (1.0,)))
    kind = "video" if name == "clip_pixels" else "image"
    if stream == "audio":
        raise InputError(f"EXTRACTOR={name} keeps pictures; STREAM=audio has none")
    about = {"source": "none", "sha256": ""}
    return Network(name, Pixels(), (EMBEDDING,), preprocessing, kind, clip_frames, channels, about, name)


def _folded(whole: Forward, network: Network) -> Forward:
    """Batch norm folded into the convolution before it: equal features, less memory traffic.

    What was folded is checked against what was not, on one input; a network that cannot be followed, or that differs,
    stays as it is, with a warning. Raises InputError when the network itself does not take its input.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (1, *network.input_shape)
    inputs = (
        torch.randn(shape, generator=generator)
        if network.kind == "sound"
        else torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    )
    reason = ""
    try:
        with torch.inference_mode():
            expected = whole(inputs)
    except Exception as error:  # noqa: BLE001 - a network raises anything for an input that it was not made for
        shown = " x ".join(map(str, network.input_shape))
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"EXTRACTOR={network.extractor}: takes no input of {shown} ({why}); give another SIZE, or CLIP of a video network"
        ) from error
    folded = copy.copy(whole)
    folded._modules = dict(whole._modules)
    try:
        folded.trunk = fuse(whole.trunk)
        with torch.inference_mode():
            pairs = list(zip(folded(inputs), expected, strict=True))
        off = max(((a - b).norm() / b.norm().clamp_min(1e-12)).item() for a, b in pairs)
        reason = "" if off < 1e-4 else f"features would be {off:.1e} off"
    except Exception as error:  # noqa: BLE001 - torch.fx raises many kinds for a model that it cannot follow
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if reason:
        warnings.warn(f"batch norm is not folded, which is only slower: {reason}", stacklevel=2)
        folded = whole
    for parameter in folded.parameters():
        if parameter.ndim in (4, 5):
            layout = torch.channels_last if parameter.ndim == 4 else torch.channels_last_3d
            parameter.data = parameter.data.contiguous(memory_format=layout)
    return folded
