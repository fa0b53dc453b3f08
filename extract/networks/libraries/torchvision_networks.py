"""Networks of torchvision, without their classifier."""

import dataclasses
from pathlib import Path
from typing import Any

from torch import nn

from reelbank.data.console import nearest
from reelbank.data.errors import InputError
from reelbank.extract.networks.preprocessing import Preprocessing
from reelbank.extract.networks.presets import print_preset, size_px
from reelbank.extract.networks.provenance import Provenance
from reelbank.extract.networks.published import (
    fetching,
    torchvision_absent,
    torchvision_cache,
    torchvision_origin,
    torchvision_state,
)
from reelbank.extract.networks.types import VIDEO_CLIP_FRAMES, LoadedNetwork, NetworkRequest
from reelbank.extract.networks.weights import seeded

CLASSIFIERS = ("fc", "classifier", "head", "heads")  # torchvision's names of the last layer


def load_torchvision(request: NetworkRequest, name: str) -> LoadedNetwork:
    """name: as torchvision knows the model."""
    from torchvision import models

    published = _published_weights(request, name)
    usual = torchvision_preset(published.DEFAULT)
    if usual is None:
        raise request.error("is not an image or video classifier")
    preprocessing = usual
    if request.preset:
        if request.preset not in published.__members__:
            presets = ", ".join(published.__members__)
            raise InputError(f"PRESET={request.preset}: must be a preset of {name} ({presets})")
        preprocessing = torchvision_preset(published[request.preset]) or usual
    if request.weights_file:
        _print_preset(request, published)
    absent = ""
    if request.weights == "pretrained" and not request.fetch:
        absent = torchvision_absent(published.DEFAULT)
    if request.weights == "pretrained" and not absent:
        model = _pretrained(name, published.DEFAULT)
    else:
        model = seeded(request.seed, lambda: models.get_model(name, weights=None))
    origin = Provenance.random(request.seed)
    if request.weights == "pretrained":
        origin = torchvision_origin(published.DEFAULT)
    is_video = is_torchvision_video(name)
    return LoadedNetwork(
        name=name,
        model=_without_classifier(model, is_video=is_video),
        preprocessing=preprocessing,
        kind="video" if is_video else "image",
        origin=dataclasses.replace(origin, preset=request.preset if preprocessing != usual else ""),
        clip_frames=VIDEO_CLIP_FRAMES if is_video else 1,
        to_download=absent,
    )


def is_torchvision_video(name: str) -> bool:
    from torchvision import models

    return name in models.list_models(module=models.video)


def torchvision_preset(weights: Any) -> Preprocessing | None:
    """What a member of a torchvision weights enum does to pictures; None where it is not the
    preprocessing of a classifier."""
    from torchvision.transforms._presets import ImageClassification, VideoClassification

    preset = weights.transforms()
    if not isinstance(preset, ImageClassification | VideoClassification):
        return None
    resize_px = preset.resize_size
    # VideoClassification has no such setting and never antialiases.
    is_antialiased = isinstance(preset, ImageClassification) and preset.antialias is not False
    return Preprocessing(
        resize_px=resize_px[0] if len(resize_px) == 1 else tuple(resize_px),
        crop_px=size_px(preset.crop_size),
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        interpolation=preset.interpolation.value,
        antialias=is_antialiased,
    )


def _published_weights(request: NetworkRequest, name: str) -> Any:
    """The enum of a model's weights."""
    from torchvision import models

    try:
        return models.get_model_weights(name)
    except ValueError:
        hint = nearest(name, models.list_models())
        raise request.error(f"torchvision does not have this model{hint}") from None


def _print_preset(request: NetworkRequest, published: Any) -> None:
    presets = {}
    for weights in published:
        if preset := torchvision_preset(weights):
            presets[weights.name] = preset
    file = Path(request.weights_file).name
    names = [weights.name for weights in published if weights.url.rpartition("/")[2] == file]
    print_preset(
        request.weights_file,
        request.preset or published.DEFAULT.name,
        presets,
        names[0] if names else "",
    )


def _pretrained(name: str, weights: Any) -> nn.Module:
    from torchvision import models

    # get_model would run code in the file, so the file is read safely first.
    torchvision_state(name, weights)
    with fetching(name, weights.url, f"put the file at {torchvision_cache(weights)}"):
        return models.get_model(name, weights=weights)


def _without_classifier(model: nn.Module, *, is_video: bool) -> nn.Module:
    """Replace the last layer by the identity: the output is then what the classifier read."""
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and "aux" not in name.lower()
    ]
    last = [name for name in linear if name.split(".")[0] in CLASSIFIERS]
    replacement: nn.Module = nn.Identity()
    if last:
        classifier = last[-1]
    else:
        # The classifier is a 1x1 convolution (s3d, squeezenet). Its block is removed; the pooling
        # that the block contains is kept.
        classifier = "classifier"
        replacement = nn.Identity() if is_video else nn.AdaptiveAvgPool2d(1)
    parent, _, child = classifier.rpartition(".")
    setattr(model.get_submodule(parent), child, replacement)
    model.classifier_name = classifier
    return model
