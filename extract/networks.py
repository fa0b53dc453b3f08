"""Networks by name: `torchvision:resnet50`, `timm:inception_resnet_v2`, or a file of the user's own, `path/to/file.py:build`.

A network comes back ready to extract: uint8 crops in, one float32 tensor for each node out, with the preprocessing its
weights were trained with and everything that its features depend on written down for the recipe.
"""

import contextlib
import copy
import difflib
import hashlib
import importlib.util
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.fx.experimental.optimization import fuse

from reelbank.data.errors import InputError
from reelbank.data.recipe import extractor_name

EMBEDDING = "embedding"  # the node name of what the classifier reads
CLIP_FRAMES, STRIDE_FRAMES = 16, 8  # of video networks: what torchvision's were trained on, and half of it


@dataclass(frozen=True)
class Preprocessing:
    """What a picture goes through: resize (short side, or height and width), crop, (x / 255 - mean) / std."""

    resize_px: int | tuple[int, int]
    crop_px: int | tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"


@dataclass(frozen=True)
class Network:
    """A network ready for extraction.

    module: (B, 3, h, w) uint8, or (B, 3, s, h, w) for a video network -> tuple of float32 tensors (B, ...), one per node.
    weights: what it holds, JSON-able: source and SHA-256 of all parameters and buffers.
    """

    name: str
    module: nn.Module
    nodes: tuple[str, ...]
    preprocessing: Preprocessing
    is_video: bool
    weights: dict[str, Any]


class Forward(nn.Module):
    """Normalises on the device and runs the trunk: (B, 3, [s,] h, w) uint8 -> tuple of (B, ...) float32."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self, trunk: nn.Module, nodes: tuple[str, ...], preprocessing: Preprocessing, is_video: bool, pool: bool
    ) -> None:
        super().__init__()
        self.nodes = nodes
        shape = (1, -1, 1, 1, 1) if is_video else (1, -1, 1, 1)
        self.trunk, self.pool = trunk, pool
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(shape) * 255)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(shape) * 255)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = (pixels.float() - self.mean) / self.std
        x = x.contiguous(memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d)
        found = self.trunk(x)
        outputs = tuple(found[node] for node in self.nodes) if isinstance(found, dict) else (found,)
        return tuple((pooled(y) if self.pool else y).float().contiguous() for y in outputs)


def pooled(y: torch.Tensor) -> torch.Tensor:
    """Mean over space and time: (B, C, [t,] h, w), (B, [t,] h, w, C) or tokens (B, n, C) -> (B, C); vectors stay.

    Channels stand last where the two axes before the last are equal and the last is not (swin's maps).
    """
    if y.ndim == 3 or (y.ndim > 3 and y.shape[-3] == y.shape[-2] != y.shape[-1]):
        return y.flatten(1, -2).mean(1)
    return y.flatten(2).mean(2) if y.ndim > 3 else y


def build(name: str, nodes: tuple[str, ...] = (), weights: str = "", seed: int = 0, pool: bool = True) -> Network:
    """Build a network, load its weights, cut it at `nodes` (default: what its classifier reads).

    weights: "pretrained" (torchvision's or timm's own loader), "random" (seeded), "own" (the file's builder loads them),
    or a state dict's path. `pool` averages maps over space (and time). Raises InputError for unknown names, nodes or keys,
    and when pretrained weights cannot be fetched.
    """
    kind, _, rest = name.partition(":")
    if kind in ("torchvision", "timm"):
        weights = weights or "pretrained"
        if weights == "own":
            raise InputError(f"WEIGHTS=own is for a file of your own; for {name} choose pretrained, random or a path")
        model, preprocessing, is_video, source = (_torchvision if kind == "torchvision" else _timm)(rest, weights, seed)
        short_name = rest
    elif ".py:" in name:
        weights = weights or "own"
        short_name, model, preprocessing, is_video = _from_file(name, seed)
        if weights in ("pretrained", "random"):
            raise InputError(f"WEIGHTS={weights}: {name} makes its own weights (WEIGHTS=own), or give a state dict's path")
        source = "the builder's own"
    else:
        raise InputError(
            f"EXTRACTOR={name}: give torchvision:<model>, timm:<model> or path/to/file.py:<function>, "
            "for example torchvision:resnet50"
        )
    if weights not in ("pretrained", "random", "own"):
        _load_file(model, Path(weights), name)
        source = f"file {Path(weights).name}"
        if hasattr(model, "transform_input"):  # torchvision's loader sets it along with pretrained weights
            model.transform_input = True  # type: ignore[assignment]
    model.eval().requires_grad_(False)
    described = {"source": source, "sha256": state_hash(model)}
    if ".py:" in name:  # the same weights in other code are other features
        described["code_sha256"] = hashlib.sha256(Path(name.rpartition(":")[0]).read_bytes()).hexdigest()
    if len(set(nodes)) < len(nodes):
        raise InputError(f"NODE={' '.join(nodes)}: each node once")
    if preprocessing.interpolation not in ("bilinear", "bicubic", "nearest"):
        raise InputError(f"EXTRACTOR={name}: interpolation {preprocessing.interpolation} is none of bilinear, bicubic, nearest")
    trunk = _cut(model, nodes, name)
    whole = Forward(trunk, nodes, preprocessing, is_video, pool).eval()
    return Network(
        name=short_name,
        module=_folded(whole, preprocessing, is_video),
        nodes=nodes or (EMBEDDING,),
        preprocessing=preprocessing,
        is_video=is_video,
        weights=described,
    )


def state_hash(model: nn.Module) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of all parameters and buffers, 64 hex digits."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _torchvision(name: str, weights: str, seed: int) -> tuple[nn.Module, Preprocessing, bool, str]:
    from torchvision import models
    from torchvision.transforms._presets import ImageClassification, VideoClassification

    try:
        choice = models.get_model_weights(name).DEFAULT
    except ValueError:
        near = _nearest(name, models.list_models())
        raise InputError(f"EXTRACTOR=torchvision:{name}: torchvision has no such model{near}") from None
    preset = choice.transforms()
    if not isinstance(preset, (ImageClassification, VideoClassification)):
        raise InputError(f"EXTRACTOR=torchvision:{name} is not an image or video classifier")
    is_video = isinstance(preset, VideoClassification)
    if weights == "pretrained":
        cache = Path(torch.hub.get_dir()) / "checkpoints" / choice.url.rsplit("/", 1)[-1]
        with _fetching(name, choice.url, f"put the file at {cache}"):
            # First through the safe loader: the builder below reads the same file with torch.hub's default, which runs code.
            choice.get_state_dict(progress=True, check_hash=True, weights_only=True)
            model = models.get_model(name, weights=choice)
        source = f"pretrained {choice}"
    else:
        model = _seeded(seed, lambda: models.get_model(name, weights=None))
        source = f"random, seed {seed}"
    preprocessing = Preprocessing(
        resize_px=preset.resize_size[0] if len(preset.resize_size) == 1 else tuple(preset.resize_size),
        crop_px=_side(preset.crop_size),
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        interpolation=preset.interpolation.value,
    )
    return _without_classifier(model, is_video), preprocessing, is_video, source


def _timm(name: str, weights: str, seed: int) -> tuple[nn.Module, Preprocessing, bool, str]:
    import timm

    if not timm.is_model(name):
        near = _nearest(name.split(".")[0], timm.list_models())
        raise InputError(f"EXTRACTOR=timm:{name}: timm has no such model{near}")
    if weights == "pretrained":
        with _fetching(name, "the Hugging Face hub", "copy HF_HOME (~/.cache/huggingface) from a machine that has them"):
            model = timm.create_model(name, pretrained=True, num_classes=0)
    else:
        try:
            model = _seeded(seed, lambda: timm.create_model(name, pretrained=False, num_classes=0))
        except (RuntimeError, ValueError) as error:
            raise InputError(f"EXTRACTOR=timm:{name}: {str(error).splitlines()[0]}") from error
    config = timm.data.resolve_model_data_config(model)
    _, height, width = config["input_size"]
    resized = int(height / config["crop_pct"]), int(width / config["crop_pct"])
    preprocessing = Preprocessing(
        resize_px=resized if config["crop_mode"] == "squash" else min(resized),
        crop_px=_side((height, width)),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"],
    )
    cfg: Any = model.pretrained_cfg
    source = f"pretrained timm {name} {cfg.get('tag') or 'default'}" if weights == "pretrained" else f"random, seed {seed}"
    return model, preprocessing, False, source


def _from_file(name: str, seed: int) -> tuple[str, nn.Module, Preprocessing, bool]:
    """The user's own: a function without arguments that returns an nn.Module, (N, 3, h, w) or (N, 3, s, h, w) -> (N, D).

    Attributes read when there: mean, std (of x / 255), input_size (3, h, w), resize_px, interpolation, is_video.
    """
    file_name, _, function = name.rpartition(":")
    path = Path(file_name)
    if not path.is_file():
        raise InputError(f"EXTRACTOR={name}: there is no file {path}")
    spec = importlib.util.spec_from_file_location(f"reelbank_user_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickled classes of the user's look themselves up here
    try:
        spec.loader.exec_module(module)
        builder: Callable[[], nn.Module] | None = getattr(module, function, None)
        if builder is None:
            raise InputError(f"EXTRACTOR={name}: {path} has no function {function}")
        model = _seeded(seed, builder)
    except (Exception, SystemExit) as error:
        if isinstance(error, InputError):
            raise
        line = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise InputError(f"EXTRACTOR={name}: {reason} in {Path(line.filename).name}, line {line.lineno}") from error
    if not isinstance(model, nn.Module):
        raise InputError(f"EXTRACTOR={name}: {function}() returned {type(model).__name__}, not a torch.nn.Module")
    _, *size = getattr(model, "input_size", (3, 224, 224))
    crop_px = _side(size[-2:])
    preprocessing = Preprocessing(
        resize_px=getattr(model, "resize_px", round(min(size[-2:]) * 256 / 224)),
        crop_px=crop_px,
        mean=tuple(getattr(model, "mean", (0.485, 0.456, 0.406))),
        std=tuple(getattr(model, "std", (0.229, 0.224, 0.225))),
        interpolation=getattr(model, "interpolation", "bilinear"),
    )
    return extractor_name(name), model, preprocessing, bool(getattr(model, "is_video", False))


def _side(size: Sequence[int]) -> int | tuple[int, int]:
    """One number for a square."""
    return size[0] if size[0] == size[-1] else (size[0], size[-1])


def _seeded(seed: int, builder: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return builder()


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 3)
    return f"; did you mean {', '.join(near)}?" if near else ""


@contextlib.contextmanager
def _fetching(name: str, place: str, remedy: str) -> Iterator[None]:
    """Turns whatever a loader raises when it cannot fetch or read weights into what the user can do about it."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - urllib, requests, httpx and the hub's own errors share no base class
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise InputError(
            f"WEIGHTS=pretrained: {name}'s weights could not be loaded from {place} ({reason}). With no network, {remedy}, "
            "or give WEIGHTS=<path of a state dict>, or WEIGHTS=random"
        ) from error


def _load_file(model: nn.Module, path: Path, name: str) -> None:
    """A state dict from .safetensors or a torch file (weights_only); a missing classifier is no error, all else is."""
    if not path.is_file():
        raise InputError(f"WEIGHTS={path}: there is no such file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - whatever a damaged or hostile file raises, it is this file that is at fault
        raise InputError(f"WEIGHTS={path}: not a readable state dict ({str(error).strip().splitlines()[0]})") from error
    for nest in ("state_dict", "model_state", "model"):
        if isinstance(state, dict) and isinstance(state.get(nest), dict):
            state = state[nest]
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise InputError(f"WEIGHTS={path}: holds no state dict (names to tensors)")
    state = {key.removeprefix("module."): value for key, value in state.items()}
    dropped = getattr(model, "classifier_name", None)
    if dropped:
        state = {key: value for key, value in state.items() if not key.startswith(dropped + ".")}
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise InputError(f"WEIGHTS={path}: does not fit {name} ({str(error).splitlines()[1].strip()})") from error
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise InputError(
            f"WEIGHTS={path}: does not fit {name}: {len(missing)} names missing ({', '.join(missing[:3])}), "
            f"{len(unexpected)} unknown ({', '.join(unexpected[:3])})"
        )


def _without_classifier(model: nn.Module, is_video: bool) -> nn.Module:
    """Take the last layer out: what comes out is what the classifier read."""
    linear = [name for name, part in model.named_modules() if isinstance(part, nn.Linear) and "aux" not in name.lower()]
    classifier = next((n for n in reversed(linear) if n.split(".")[0] in ("fc", "classifier", "head", "heads")), None)
    stand_in: nn.Module = nn.Identity()
    if classifier is None:  # a 1x1 convolution classifies (s3d, squeezenet): its whole block goes, its pooling stays
        classifier, stand_in = "classifier", nn.Identity() if is_video else nn.AdaptiveAvgPool2d(1)
    parent, _, child = classifier.rpartition(".")
    setattr(model.get_submodule(parent), child, stand_in)
    model.classifier_name = classifier  # type: ignore[assignment]
    return model


def _cut(model: nn.Module, nodes: tuple[str, ...], name: str) -> nn.Module:
    if not nodes:
        return model
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    try:
        known = get_graph_node_names(model)[1]
    except Exception as error:  # noqa: BLE001 - torch.fx raises many kinds for a model that it cannot follow
        raise InputError(f"NODE={' '.join(nodes)}: {name} cannot be cut ({str(error).splitlines()[0]})") from error
    for node in nodes:
        if node not in known and not any(one.startswith(node + ".") for one in known):
            tops = list(dict.fromkeys(one.split(".")[0] for one in known))
            raise InputError(f"NODE={node}: {name} has no such node; the outermost are {', '.join(tops)}")
    cut = create_feature_extractor(model, return_nodes={node: node for node in nodes})
    return torch.fx.GraphModule(cut, cut.graph).eval()  # a plain one: torchvision's two-mode graph cannot be folded


def _folded(whole: Forward, preprocessing: Preprocessing, is_video: bool) -> Forward:
    """Batch norm folded into the convolution before it: equal features, less memory traffic.

    What was folded is checked against what was not, on one input; a network that cannot be followed, or that differs,
    stays as it is, with a warning.
    """
    folded = copy.copy(whole)
    folded._modules = dict(whole._modules)
    crop_px = preprocessing.crop_px
    h, w = (crop_px, crop_px) if isinstance(crop_px, int) else crop_px
    shape = (1, 3, CLIP_FRAMES, h, w) if is_video else (1, 3, h, w)
    pixels = torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    reason = ""
    try:
        folded.trunk = fuse(whole.trunk)
        with torch.inference_mode():
            pairs = list(zip(folded(pixels), whole(pixels), strict=True))
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
