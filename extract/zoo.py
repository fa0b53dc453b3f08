"""Where networks come from: torchvision, timm, our own backbones, or a file of the user's; built, with their weights, uncut."""

import difflib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from reelbank.data.errors import InputError
from reelbank.data.recipe import extractor_name
from reelbank.extract.preprocessing import Preprocessing
from reelbank.extract.weights import fetching, fit_state, load_state, widen_input

# Our own, each a file in backbones/.
BACKBONES = ("i3d", "c3d", "vggish", "bn_inception", "motion_cnn")

VIDEO_CLIP_FRAMES = 16  # what torchvision's video networks were trained on


@dataclass(frozen=True)
class Found:
    """A network as it was built. model: float (N, C, [s,] h, w) -> (N, D); kind: "image", "video" or "sound"; source: where its
    weights come from, in words; translate: public checkpoints' names -> the model's."""

    name: str
    model: nn.Module
    preprocessing: Preprocessing
    kind: str
    source: str
    clip_frames: int = 1
    translate: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]] = lambda state: state


def find(name: str, weights: str, seed: int, channels: int, width: float = 1.0) -> Found:
    """Build `name` for inputs of `channels` channels. weights: "pretrained", "random", "own", "" (the network's usual) or a
    state dict's path. Raises InputError for an unknown name, and for weights that are not there or do not fit."""
    kind, _, rest = name.partition(":")
    if width != 1.0 and name != "motion_cnn":
        raise InputError(f"WIDTH={width:g}: only motion_cnn has a width, not {name}")
    if name in BACKBONES:
        found = _backbone(name, weights, seed, channels, width)
    elif kind in ("torchvision", "timm") and rest:
        weights = weights or "pretrained"
        if weights == "own":
            raise InputError(f"WEIGHTS=own is for a file of your own; for {name} choose pretrained, random or a path")
        found = (_torchvision if kind == "torchvision" else _timm)(rest, weights, seed)
        if channels != 3:
            _widen(found, channels, weights == "random", seed, name)
    elif ".py:" in name:
        weights = weights or "own"
        if weights in ("pretrained", "random"):
            raise InputError(f"WEIGHTS={weights}: {name} makes its own weights (WEIGHTS=own), or give a state dict's path")
        found = _from_file(name, seed)
        if channels != 3 and getattr(found.model, "channels", 0) != channels:
            _widen(found, channels, False, seed, name)
    else:
        raise InputError(
            f"EXTRACTOR={name}: give torchvision:<model>, timm:<model>, {', '.join(BACKBONES)} or path/to/file.py:<function>, "
            "for example torchvision:resnet50"
        )
    if weights not in ("pretrained", "random", "own", ""):
        fit_state(found.model, load_state(Path(weights)), Path(weights), name, found.translate)
        found = replace(found, source=f"file {Path(weights).name}")
        if hasattr(found.model, "transform_input"):  # torchvision's loader sets it along with pretrained weights
            found.model.transform_input = channels == 3  # type: ignore[assignment]
    return found


def kind_of(name: str) -> str:
    """ "image", "video" or "sound": what `find` would give, without weights."""
    if name in BACKBONES:
        return importlib.import_module(f"reelbank.extract.backbones.{name}").KIND
    if name.startswith("torchvision:"):
        from torchvision import models

        return "video" if name.partition(":")[2] in models.list_models(module=models.video) else "image"
    if ".py:" in name:
        return _from_file(name, 0).kind
    return "video" if name == "clip_pixels" else "image"


def _widen(found: Found, channels: int, fresh: bool, seed: int, name: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        widen_input(found.model, channels, fresh, name)


def _backbone(name: str, weights: str, seed: int, channels: int, width: float) -> Found:
    if weights in ("", "pretrained", "own"):
        given = f"WEIGHTS={weights}" if weights else f"no WEIGHTS are given for {name}"
        raise InputError(
            f"{given}: there are none that could be fetched; give a public checkpoint's path (docs/streams.md), random, "
            f"or weights that 'reelbank pretrain EXTRACTOR={name}' made; of several streams 'rgb=... audio=...'"
        )
    module: ModuleType = importlib.import_module(f"reelbank.extract.backbones.{name}")
    options = {"width": width} if name == "motion_cnn" else {}
    model = _seeded(seed, lambda: module.build(channels, **options))
    return Found(
        name, model, module.PREPROCESSING, module.KIND, f"random, seed {seed}", module.CLIP_FRAMES, module.from_checkpoint
    )


def _torchvision(name: str, weights: str, seed: int) -> Found:
    from torchvision import models
    from torchvision.transforms._presets import ImageClassification, VideoClassification

    try:
        choice = models.get_model_weights(name).DEFAULT
    except ValueError:
        near = _nearest(name, models.list_models())
        raise InputError(f"EXTRACTOR=torchvision:{name}: torchvision has no such model{near}") from None
    preset = choice.transforms()
    if not isinstance(preset, ImageClassification | VideoClassification):
        raise InputError(f"EXTRACTOR=torchvision:{name} is not an image or video classifier")
    is_video = isinstance(preset, VideoClassification)
    if weights == "pretrained":
        cache = Path(torch.hub.get_dir()) / "checkpoints" / choice.url.rsplit("/", 1)[-1]
        with fetching(name, choice.url, f"put the file at {cache}"):
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
    model = _without_classifier(model, is_video)
    return Found(name, model, preprocessing, "video" if is_video else "image", source, VIDEO_CLIP_FRAMES if is_video else 1)


def _timm(name: str, weights: str, seed: int) -> Found:
    import timm

    if not timm.is_model(name):
        near = _nearest(name.split(".")[0], timm.list_models())
        raise InputError(f"EXTRACTOR=timm:{name}: timm has no such model{near}")
    if weights == "pretrained":
        with fetching(name, "the Hugging Face hub", "copy HF_HOME (~/.cache/huggingface) from a machine that has them"):
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
    return Found(name, model, preprocessing, "image", source)


def _from_file(name: str, seed: int) -> Found:
    """The user's own: a function without arguments that returns an nn.Module, (N, 3, h, w) or (N, 3, s, h, w) -> (N, D).

    Attributes read when there: mean, std (of x / 255), input_size (3, h, w), resize_px, interpolation, is_video, channels.
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
    preprocessing = Preprocessing(
        resize_px=getattr(model, "resize_px", round(min(size[-2:]) * 256 / 224)),
        crop_px=_side(size[-2:]),
        mean=tuple(getattr(model, "mean", (0.485, 0.456, 0.406))),
        std=tuple(getattr(model, "std", (0.229, 0.224, 0.225))),
        interpolation=getattr(model, "interpolation", "bilinear"),
    )
    is_video = bool(getattr(model, "is_video", False))
    kind, clip_frames = ("video", VIDEO_CLIP_FRAMES) if is_video else ("image", 1)
    return Found(extractor_name(name), model, preprocessing, kind, "the builder's own", clip_frames)


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
