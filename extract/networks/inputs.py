"""The inputs that streams give to networks. Imported without torch, as streams are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal

from reelbank.data.errors import InputError
from reelbank.extract.networks.preprocessing import Preprocessing

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from reelbank.data.video.sampling import SoundWindows

NetworkKind = Literal["image", "video", "sound"]


class InputKind(Enum):
    """What a stream gives a network: uint8 (B, C, [s,] h, w), or float32 log-mel (B, h, w)."""

    PICTURES = "pictures"
    LOGMEL = "log-mel"


@dataclass(frozen=True, kw_only=True)
class WaveInput:
    """The input of an audio network that reads the samples themselves, by its own front end.

    windows: how a sound track is cut into examples, and at which rate
    prepare: examples (n, samples) float32 -> network inputs (n, *shape) float32, on the CPU
    about: the front end, for recipes
    """

    windows: "SoundWindows"
    prepare: "Callable[[np.ndarray], Tensor]"
    shape: tuple[int, ...]
    about: Mapping[str, Any]


def _unchanged(preprocessing: Preprocessing) -> Preprocessing:
    return preprocessing


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """The input of a network.

    channels: of one picture; of a stack of flow fields two for each field
    adapt: from the preprocessing that the weights were trained with to that of this input; not used
        for audio networks, which are trained on log-mel
    stream: its name, for messages
    """

    kind: InputKind = InputKind.PICTURES
    channels: int = 3
    adapt: Callable[[Preprocessing], Preprocessing] = _unchanged
    stream: str = ""

    def check(self, extractor: str, kind: NetworkKind) -> None:
        """Raises InputError if a network of this kind cannot read the input."""
        if kind == "sound" and self.kind is not InputKind.LOGMEL:
            raise InputError(
                f"EXTRACTOR={extractor} is an audio network; use STREAM=audio (got {self.stream})"
            )
        if kind == "video" and self.kind is InputKind.LOGMEL:
            raise InputError(
                f"EXTRACTOR={extractor} is a video network, but STREAM={self.stream} needs "
                "an audio or image network"
            )


RGB = InputSpec()
