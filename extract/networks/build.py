"""Build networks for extraction: from uint8 crops (or log-mel examples) to one float32 tensor per
node. A network comes with the preprocessing of its weights and with the facts that recipes
record."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from reelbank.data.errors import InputError
from reelbank.data.plugins import is_user_file
from reelbank.extract.networks.inputs import (
    RGB,
    InputKind,
    InputSpec,
    NetworkKind,
    WaveInput,
)
from reelbank.extract.networks.module import NormalisedNetwork, Pixels
from reelbank.extract.networks.prepared import Modules
from reelbank.extract.networks.preprocessing import Preprocessing, pair
from reelbank.extract.networks.provenance import Provenance
from reelbank.extract.networks.sources import load_network
from reelbank.extract.networks.trained import TrainedWeights
from reelbank.extract.networks.types import NetworkRequest
from reelbank.extract.networks.weights import set_batch_norm_eps, state_hash
from reelbank.extract.pipeline.logmel import LOGMEL_PX

EMBEDDING = "embedding"  # node name of the input of the classifier
PIXELS = ("pixels", "clip_pixels")  # not networks: they store the input of a network
INTERPOLATIONS = ("bilinear", "bicubic", "nearest")  # those of pipeline/resize.py


@dataclass(frozen=True)
class Trunk:
    """A network without its classifier, to train or to extract with.

    model: float32 (N, C, [s,] h, w), or log-mel (N, 1, 96, 64) -> (N, D); kind: "image", "video" or
    "sound"; clip_frames: pictures, or flow fields, that it sees at once.
    """

    name: str
    model: nn.Module
    preprocessing: Preprocessing
    kind: NetworkKind
    clip_frames: int
    weights: Provenance
    width: float | None = None
    to_download: str = ""
    waves: WaveInput | None = None


@dataclass(frozen=True)
class Network:
    """A network ready for extraction.

    module: (B, C, h, w) uint8, (B, C, s, h, w) for a video network, (B, 96, 64) float32 log-mel for
    sound, or (B, *waves.shape) -> tuple of float32 tensors (B, ...), one per node. cpu_module: the
    module with equal features that is fastest in float32 on a CPU. Both are made when one is first
    used. channels: C. weights: as of Trunk.
    """

    name: str
    modules: Modules
    nodes: tuple[str, ...]
    preprocessing: Preprocessing
    kind: NetworkKind
    clip_frames: int
    channels: int
    weights: Provenance
    extractor: str  # as in EXTRACTOR; `name` is the short name
    width: float | None = None  # share of its units; None where it cannot be chosen
    to_download: str = ""
    waves: WaveInput | None = None  # of an audio network that reads samples

    @property
    def module(self) -> nn.Module:
        return self.modules.prepared.module

    @property
    def cpu_module(self) -> nn.Module:
        return self.modules.prepared.cpu_module

    @property
    def largest_step_bytes(self) -> int:
        """Memory that the largest layer reads and writes for one input, approximately."""
        return self.modules.prepared.largest_step_bytes

    @property
    def is_video(self) -> bool:
        return self.kind == "video"

    @property
    def is_pixels(self) -> bool:
        """Whether it stores the input of a network instead of features."""
        return self.name in PIXELS

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input without the batch."""
        if self.waves:
            return self.waves.shape
        if self.kind == "sound":
            return LOGMEL_PX
        h, w = pair(self.preprocessing.crop_px)
        return (self.channels, self.clip_frames, h, w) if self.is_video else (self.channels, h, w)

    @property
    def input_dtype(self) -> torch.dtype:
        is_rounded = self.kind != "sound" and self.preprocessing.rounded
        return torch.uint8 if is_rounded else torch.float32


def trunk(
    name: str,
    weights: str = "",
    seed: int = 0,
    *,
    inputs: InputSpec = RGB,
    width: float = 1.0,
    preset: str = "",
    trained: TrainedWeights | None = None,
    fetch: bool = True,
    trust_remote_code: bool = False,
    code_sha256: str | None = None,
) -> Trunk:
    """A network without its classifier, its parameters trainable.

    name, weights, seed, width, preset, fetch, trust_remote_code, code_sha256: see `NetworkRequest`;
    trained: weights that were trained here, used in place of `weights`. Raises InputError for an unknown
    network or weights, for an input that the network cannot read, and when weights cannot be
    downloaded.
    """
    if trained and preset:
        raise InputError(
            f"PRESET={preset}: weights of 'reelbank pretrain' include their preprocessing; "
            "leave PRESET out"
        )
    replaced = "own" if is_user_file(name) else "random"
    network = load_network(
        NetworkRequest(
            extractor=name,
            weights=replaced if trained else weights,
            preset=preset,
            seed=seed,
            channels=inputs.channels,
            width=width,
            fetch=fetch,
            trust_remote_code=trust_remote_code,
            code_sha256=code_sha256,
        )
    )
    inputs.check(name, network.kind)
    origin = network.origin
    if trained:
        _load_trained(network.model, trained, name)
        origin = trained.provenance
    origin = replace(origin, sha256="" if network.to_download else state_hash(network.model))
    if is_user_file(name):  # the same weights in other code give other features
        code = Path(name.rpartition(":")[0]).read_bytes()
        origin = replace(origin, code_sha256=hashlib.sha256(code).hexdigest())
    if network.preprocessing.interpolation not in INTERPOLATIONS:
        raise InputError(
            f"EXTRACTOR={name}: interpolation must be one of {', '.join(INTERPOLATIONS)} (got "
            f"{network.preprocessing.interpolation})"
        )
    reads_logmel = inputs.kind is InputKind.LOGMEL
    preprocessing = network.preprocessing
    if network.kind != "sound":
        preprocessing = inputs.adapt(preprocessing)
        if not isinstance(preprocessing, Preprocessing):
            raise InputError(
                f"STREAM={inputs.stream}: for_network() must return Preprocessing "
                f"(got {type(preprocessing).__name__})"
            )
    return Trunk(
        name=network.name,
        model=network.model,
        preprocessing=preprocessing,
        kind="sound" if reads_logmel else network.kind,
        clip_frames=network.clip_frames,
        weights=origin,
        width=network.width,
        to_download=network.to_download,
        waves=network.waves,
    )


def _load_trained(model: nn.Module, trained: TrainedWeights, name: str) -> None:
    try:
        model.load_state_dict(trained.state)
    except RuntimeError as error:
        raise InputError(
            f"WEIGHTS: the trained weights do not fit {name} ({str(error).splitlines()[1].strip()})"
        ) from error
    epsilon = trained.provenance.batch_norm_eps
    if epsilon is not None:
        set_batch_norm_eps(model, epsilon)


def build(
    name: str,
    nodes: tuple[str, ...] = (),
    weights: str = "",
    *,
    seed: int = 0,
    inputs: InputSpec = RGB,
    width: float = 1.0,
    preset: str = "",
    trained: TrainedWeights | None = None,
    fetch: bool = True,
    trust_remote_code: bool = False,
    code_sha256: str | None = None,
    pool: bool = True,
    clip_frames: int | None = None,
    sized: Callable[[Preprocessing], Preprocessing] = lambda of_weights: of_weights,
) -> Network:
    """A network for extraction: a trunk (see `trunk`), cut at `nodes` (default: what its classifier
    reads), with batch norm folded.

    pool: average maps over space and time; clip_frames: of a video network's clips; sized: changes
    resize and crop. Raises InputError as `trunk` does, for an unknown node, and when the network
    cannot read inputs of that size.
    """
    if name in PIXELS:
        return _pixels(name, inputs, clip_frames or 1, sized)
    base = trunk(
        name,
        weights,
        seed,
        inputs=inputs,
        width=width,
        preset=preset,
        trained=trained,
        fetch=fetch,
        trust_remote_code=trust_remote_code,
        code_sha256=code_sha256,
    )
    base.model.eval().requires_grad_(False)
    if len(set(nodes)) < len(nodes):
        raise InputError(f"NODE={' '.join(nodes)}: must name each node only once")
    parts = _cut(base.model, nodes, name) if nodes else base.model
    preprocessing = sized(base.preprocessing)
    kind = "waves" if base.waves else base.kind
    whole = NormalisedNetwork(parts, nodes, preprocessing, kind, pool=pool).eval()
    modules = Modules(name)
    network = Network(
        name=base.name,
        modules=modules,
        nodes=nodes or (EMBEDDING,),
        preprocessing=preprocessing,
        kind=base.kind,
        clip_frames=(clip_frames or base.clip_frames) if base.kind == "video" else 1,
        channels=inputs.channels,
        weights=base.weights,
        extractor=name,
        width=base.width,
        to_download=base.to_download,
        waves=base.waves,
    )
    modules.check(whole, network.input_shape)
    return network


def _cut(model: nn.Module, nodes: tuple[str, ...], name: str) -> nn.Module:
    # It loads torchvision, which takes seconds and which some networks do not need.
    from reelbank.extract.networks.cut import cut

    return cut(model, nodes, name)


def _pixels(
    name: str,
    inputs: InputSpec,
    clip_frames: int,
    sized: Callable[[Preprocessing], Preprocessing],
) -> Network:
    if inputs.kind is InputKind.LOGMEL:
        raise InputError(
            f"EXTRACTOR={name}: stores pictures, but STREAM={inputs.stream} consists of "
            "sound; use another EXTRACTOR"
        )
    return Network(
        name=name,
        modules=Modules(name, Pixels()),
        nodes=(EMBEDDING,),
        preprocessing=sized(Preprocessing((128, 170), (128, 170), (0.0,), (1.0,))),
        kind="video" if name == "clip_pixels" else "image",
        clip_frames=clip_frames,
        channels=inputs.channels,
        weights=replace(Provenance.without_weights(), sha256=""),
        extractor=name,
    )
