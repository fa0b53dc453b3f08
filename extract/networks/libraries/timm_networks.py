"""Networks of timm, without their classifier."""

import dataclasses
from typing import Any

from reelbank.data.console import nearest
from reelbank.data.errors import InputError
from reelbank.extract.networks.libraries import efficientnet_lite
from reelbank.extract.networks.preprocessing import Preprocessing
from reelbank.extract.networks.presets import print_preset, size_px
from reelbank.extract.networks.provenance import Provenance
from reelbank.extract.networks.published import (
    HUB_REMEDY,
    fetching,
    timm_absent,
    timm_revision,
    timm_state,
)
from reelbank.extract.networks.types import CheckpointFormat, LoadedNetwork, NetworkRequest
from reelbank.extract.networks.weights import seeded


def load_timm(request: NetworkRequest, name: str) -> LoadedNetwork:
    """name: architecture[.tag], as timm knows the model."""
    import timm

    if not timm.is_model(name):
        hint = nearest(name.split(".")[0], timm.list_models())
        raise request.error(f"timm does not have this model{hint}")
    tags = _tags(name)
    if request.preset and request.preset not in tags:
        raise InputError(
            f"PRESET={request.preset}: must be a preset of {name} ({', '.join(tags) or '(none)'})"
        )
    is_pretrained = request.weights == "pretrained"
    absent = ""
    model = _pretrained(name) if is_pretrained and request.fetch else _random(request, name)
    config: Any = model.pretrained_cfg
    model.classifier_name = config.get("classifier") or ()  # names in a file that are left out
    if is_pretrained and not request.fetch:
        absent = timm_absent(timm.get_pretrained_cfg(name), model)
        model = model if absent else _pretrained(name)
    preprocessing = timm_preset(config)
    usual = timm_preset(_config(name)) if request.preset else preprocessing
    if request.weights_file:
        tag = config.get("tag") or "the usual preset"
        presets = {tag: timm_preset(_config(f"{_architecture(name)}.{tag}")) for tag in tags}
        print_preset(request.weights_file, tag, presets | {tag: preprocessing})
    origin = Provenance.random(request.seed)
    if is_pretrained:
        origin = Provenance.of_timm(name, config.get("tag"))
        revision = timm_revision(timm.get_pretrained_cfg(name))
        stated = str(config.get("license") or "").replace("unknown", "")
        origin = dataclasses.replace(origin, revision=revision, license=stated)
    return LoadedNetwork(
        name=name,
        model=model,
        preprocessing=preprocessing,
        kind="image",
        origin=dataclasses.replace(origin, preset=request.preset if preprocessing != usual else ""),
        to_download=absent,
        checkpoints=_checkpoints(name, model),
    )


def _checkpoints(name: str, model: Any) -> CheckpointFormat:
    """Files with other names than timm's that also hold weights of this network."""
    if _architecture(name) != efficientnet_lite.NAME:
        return CheckpointFormat()
    lengths = [len(stage) for stage in model.blocks]
    return CheckpointFormat(lambda state: efficientnet_lite.timm_names(state, lengths))


def timm_preset(pretrained_cfg: dict[str, Any]) -> Preprocessing:
    """What timm does to pictures for a network with this configuration."""
    import timm

    config = timm.data.resolve_data_config(pretrained_cfg=pretrained_cfg)
    _, height, width = config["input_size"]
    resized = int(height / config["crop_pct"]), int(width / config["crop_pct"])
    mode, mean = config["crop_mode"], tuple(config["mean"])
    return Preprocessing(
        resize_px=resized if mode in ("squash", "border") else min(resized),
        crop_px=size_px((height, width)),
        mean=mean,
        std=tuple(config["std"]),
        interpolation=config["interpolation"],
        fill=tuple(round(255 * value) for value in mean) if mode == "border" else None,
    )


def _architecture(name: str) -> str:
    return name.split(".")[0]


def _tags(name: str) -> list[str]:
    """The tags of an architecture's published weights."""
    import timm

    models = timm.list_models(f"{_architecture(name)}.*", pretrained=True)
    return [model.partition(".")[2] for model in models]


def _config(name: str) -> dict[str, Any]:
    import timm

    config = timm.get_pretrained_cfg(name)
    assert config is not None  # every name that timm lists has one
    return config.to_dict()


def _random(request: NetworkRequest, name: str) -> Any:
    import timm

    variant = f"{_architecture(name)}.{request.preset}" if request.preset else name
    try:
        return seeded(
            request.seed, lambda: timm.create_model(variant, pretrained=False, num_classes=0)
        )
    except (RuntimeError, ValueError) as error:
        raise request.error(str(error).splitlines()[0]) from error


def _pretrained(name: str) -> Any:
    import timm

    state = timm_state(name, timm.get_pretrained_cfg(name))
    with fetching(name, "the Hugging Face hub", HUB_REMEDY):
        if state is None:
            return timm.create_model(name, pretrained=True, num_classes=0)
        overlay = {"state_dict": state}
        model: Any = timm.create_model(
            name, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay
        )
    model.pretrained_cfg.pop("state_dict", None)
    return model
