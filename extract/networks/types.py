"""The request for a network, and the network that a source returns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from reelbank.data.errors import InputError
from reelbank.extract.networks.inputs import NetworkKind, WaveInput
from reelbank.extract.networks.preprocessing import Preprocessing
from reelbank.extract.networks.provenance import Provenance

State = dict[str, Tensor]

VIDEO_CLIP_FRAMES = 16  # torchvision's video networks were trained on clips of this length


@dataclass(frozen=True, kw_only=True)
class NetworkRequest:
    """A network as the options name it.

    weights: "pretrained", "random", "own", a path, or "" for the network's usual ones
    preset: of a file or random weights, whose preprocessing they use; "" for the usual one
    channels: of the input
    width: share of the network's units, for networks where it can be chosen
    fetch: whether pretrained weights that are not on this machine are downloaded
    trust_remote_code: whether code that comes with a model of transformers may be run
    code_sha256: if the request comes from a recipe, the hash of the only such code that may be run; ""
        for none
    """

    extractor: str
    weights: str = ""
    preset: str = ""
    seed: int = 0
    channels: int = 3
    width: float = 1.0
    fetch: bool = True
    trust_remote_code: bool = False
    code_sha256: str | None = None

    @property
    def weights_file(self) -> str:
        """The path of a state dict, or ""."""
        return "" if self.weights in ("", "pretrained", "random", "own") else self.weights

    def error(self, reason: str) -> InputError:
        return InputError(f"EXTRACTOR={self.extractor}: {reason}")


@dataclass(frozen=True)
class CheckpointFormat:
    """How the names in a network's public checkpoints relate to its own.

    translate: names of the checkpoint -> names of the network
    settle: sets the epsilon of batch norm according to the names, and returns it if it differs from
        the network's own
    """

    translate: Callable[[State], State] = lambda state: state
    settle: Callable[[nn.Module, Mapping[str, Tensor]], float | None] = lambda model, names: None


@dataclass(frozen=True, kw_only=True)
class LoadedNetwork:
    """A network as a source builds it, without its classifier.

    name: short, for file names
    model: float (N, C, [s,] h, w) -> (N, D)
    clip_frames: pictures of a clip; 1 for networks other than video networks
    to_download: pretrained weights that are missing, as text; the model's are then random
    width: share of its units, None where that cannot be chosen
    waves: of an audio network that reads samples; None for one that reads log-mel examples
    """

    name: str
    model: nn.Module
    preprocessing: Preprocessing
    kind: NetworkKind
    origin: Provenance
    clip_frames: int = 1
    to_download: str = ""
    width: float | None = None
    checkpoints: CheckpointFormat = CheckpointFormat()
    waves: WaveInput | None = None
