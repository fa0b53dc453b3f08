"""Functions of a video's pictures that decode processes compute, so that the work uses all cores.

A later stage defines them. A decode process receives a PictureFunction as a pickle, so its class must
be defined in a module that can be imported, and that imports nothing slow.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:  # reading the options of a command must not import numpy
    import numpy as np


class UnfitPicture(Exception):
    """This video's picture cannot be shown to a network, or what is computed from it cannot be
    computed: a one-line reason."""


class Numbered(NamedTuple):
    """A result, of any shape and type, and the number of the picture that it belongs to."""

    number: int
    value: "np.ndarray"


class PictureWork(Protocol):
    """Computes the results of one video. Any exception, of which the reason of an UnfitPicture needs
    no further explanation, ends this function, but not the other ones of the video."""

    def see(self, number: int, picture: "np.ndarray") -> Iterator[Numbered]:
        """Process the next needed picture, (H, W, 3) uint8 RGB, whose memory is used again."""

    def end(self) -> Iterator[Numbered]:
        """The results that need all pictures."""


class PictureFunction(Protocol):
    """What to compute; picklable."""

    def needed(self, frames: int) -> "np.ndarray":
        """The numbers of the pictures that it needs of a video with this number of frames, which
        is a FrameCount with their times."""

    def begin(self, frames: int) -> PictureWork:
        """Begin such a video."""


def reason_of(error: Exception) -> str:
    """Why something could not be computed from a video, in one line."""
    if isinstance(error, UnfitPicture):
        return str(error)
    return " ".join(f"could not be computed: {type(error).__name__}: {error}".split())
