"""Networks by name, with their weights, without their classifier: of torchvision, of timm, of
transformers, our own backbones, or of a user's file."""

import dataclasses
from pathlib import Path

from reelbank.data.errors import InputError
from reelbank.data.plugins import is_user_file
from reelbank.extract.networks.backbones.registry import BACKBONES, load_backbone
from reelbank.extract.networks.huggingface.load import kind_of_transformers, load_transformers
from reelbank.extract.networks.inputs import NetworkKind
from reelbank.extract.networks.libraries.timm_networks import load_timm
from reelbank.extract.networks.libraries.torchvision_networks import (
    is_torchvision_video,
    load_torchvision,
)
from reelbank.extract.networks.libraries.user_networks import load_user_network
from reelbank.extract.networks.provenance import Provenance
from reelbank.extract.networks.types import LoadedNetwork, NetworkRequest
from reelbank.extract.networks.weights import fit_state, load_state, seeded, widen_input

_TRANSFORMERS = "hf"
LIBRARIES = {"torchvision": load_torchvision, "timm": load_timm}


def load_network(request: NetworkRequest) -> LoadedNetwork:
    """Raises InputError for an unknown network, options that it does not have, and weights that are
    missing or do not fit."""
    library, _, name = request.extractor.partition(":")
    _check_preset(request, library)
    if request.extractor in BACKBONES:
        network = _load_backbone(request)
    elif library in LIBRARIES and name:
        network = _load_library_network(request, library, name)
    elif library == _TRANSFORMERS and name:
        network = load_transformers(request)
    elif is_user_file(request.extractor):
        network = _load_user_network(request)
    else:
        raise request.error(
            f"must be torchvision:<model>, timm:<model>, hf:<model>, {', '.join(BACKBONES)} or "
            "path/to/file.py:<function>, for example torchvision:resnet50"
        )
    if request.width != 1.0 and network.width is None:
        raise InputError(
            f"WIDTH={request.width:g}: {request.extractor} has a fixed width; leave WIDTH out"
        )
    return _with_weights_of_file(network, request) if request.weights_file else network


def kind_of(extractor: str, *, trust_remote_code: bool = False) -> NetworkKind:
    """What a network takes, found without loading weights; a user's network is built for it.
    trust_remote_code: as of `NetworkRequest`."""
    if extractor in BACKBONES:
        return load_backbone(extractor).kind
    library, _, name = extractor.partition(":")
    if library == "torchvision":
        return "video" if is_torchvision_video(name) else "image"
    if library == _TRANSFORMERS:
        return kind_of_transformers(extractor, trust_remote_code=trust_remote_code)
    if is_user_file(extractor):
        return load_user_network(NetworkRequest(extractor=extractor)).kind
    return "video" if extractor == "clip_pixels" else "image"


def _check_preset(request: NetworkRequest, library: str) -> None:
    if request.preset and library not in LIBRARIES:
        raise InputError(
            f"PRESET={request.preset}: only networks of torchvision and timm have presets "
            f"(got {request.extractor}); leave PRESET out"
        )
    if request.preset and request.weights in ("", "pretrained"):
        raise InputError(
            f"PRESET={request.preset}: this option is only for weights from a file "
            "(WEIGHTS=<path>), because pretrained weights have their own preset; leave PRESET out"
        )


def _load_library_network(request: NetworkRequest, library: str, name: str) -> LoadedNetwork:
    if request.weights == "own":
        raise InputError(
            "WEIGHTS=own: this value is only for a network in your own Python file; for "
            f"EXTRACTOR={request.extractor} give pretrained, random or the path of a state dict"
        )
    request = dataclasses.replace(request, weights=request.weights or "pretrained")
    network = LIBRARIES[library](request, name)
    if request.channels != 3:
        _widen(network, request, is_random=request.weights == "random")
    return network


def _load_user_network(request: NetworkRequest) -> LoadedNetwork:
    if request.weights in ("pretrained", "random"):
        raise InputError(
            f"WEIGHTS={request.weights}: {request.extractor} sets its own weights; give WEIGHTS=own or the path of a state dict"
        )
    network = load_user_network(request)
    if request.channels != 3 and getattr(network.model, "channels", 0) != request.channels:
        _widen(network, request, is_random=False)
    return network


def _load_backbone(request: NetworkRequest) -> LoadedNetwork:
    name = request.extractor
    if request.weights in ("", "pretrained", "own"):
        reason = f"WEIGHTS={request.weights}" if request.weights else f"EXTRACTOR={name}"
        raise InputError(
            f"{reason}: {name} has no weights to download; set WEIGHTS to the path of a public "
            "checkpoint (docs/streams.md), to random, or to weights made by 'reelbank pretrain "
            f"EXTRACTOR={name}'. For several streams, give WEIGHTS='rgb=... audio=...'"
        )
    backbone = load_backbone(name)
    settings = {"width": request.width} if backbone.has_width else {}
    return LoadedNetwork(
        name=name,
        model=seeded(request.seed, lambda: backbone.build(request.channels, **settings)),
        preprocessing=backbone.preprocessing,
        kind=backbone.kind,
        origin=Provenance.random(request.seed),
        clip_frames=backbone.clip_frames,
        width=request.width if backbone.has_width else None,
        checkpoints=backbone.checkpoints,
    )


def _with_weights_of_file(network: LoadedNetwork, request: NetworkRequest) -> LoadedNetwork:
    path, format = Path(request.weights_file), network.checkpoints
    names = fit_state(
        network.model, load_state(path), path, request.extractor, translate=format.translate
    )
    origin = dataclasses.replace(
        Provenance.of_file(path),
        preset=network.origin.preset,
        batch_norm_eps=format.settle(network.model, names),
    )
    if hasattr(network.model, "transform_input"):
        # Torchvision's inception: its loader sets this together with pretrained weights.
        network.model.transform_input = request.channels == 3  # type: ignore[assignment]
    return dataclasses.replace(network, origin=origin)


def _widen(network: LoadedNetwork, request: NetworkRequest, *, is_random: bool) -> None:
    seeded(
        request.seed,
        lambda: widen_input(
            network.model, request.channels, request.extractor, is_random=is_random
        ),
    )
