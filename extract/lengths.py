"""Lengths of clips and strides, in frames or in seconds."""

import math
import re
from typing import NamedTuple

from reelbank.data.errors import InputError
from reelbank.data.identity import brief
from reelbank.data.ranges import Range, check_value

SECONDS_PATTERN = r"([0-9]+(\.[0-9]*)?|\.[0-9]+)s"
_SECONDS_RANGE = Range(0.001, 86_400)


class Length(NamedTuple):
    """Either of the two is 0, or both if an option is not set."""

    frames: int = 0
    seconds: float = 0.0


def is_in_seconds(text: str) -> bool:
    """Whether the value of an option is in seconds."""
    return re.fullmatch(SECONDS_PATTERN, text) is not None


def read_length(name: str, text: str, most_frames: int) -> Length:
    """The value of the option `name`: a number of frames, from 1 to `most_frames`, or of seconds, as
    in "0.5s". "" means that it is not set. Raises InputError."""
    if not text:
        return Length()
    if is_in_seconds(text):
        seconds = float(text[:-1])
        if seconds not in _SECONDS_RANGE:
            raise InputError(f"{name}={brief(text)}: must be {_SECONDS_RANGE} seconds")
        return Length(seconds=seconds)
    if not re.fullmatch(r"-?[0-9]+", text):
        raise InputError(
            f"{name}={brief(text)}: must be a number of frames, as in 8, or of seconds, as in 0.5s"
        )
    frames = int(text) if len(text) < 20 else most_frames + 1
    check_value(name, frames, int, {"range": Range(1, most_frames)})
    return Length(frames)


def seconds_text(seconds: float) -> str:
    """The value of an option from a number of seconds, for `read_length`."""
    return f"{seconds!r}".removesuffix(".0") + "s"


def whole_ticks(seconds: float, fps: float) -> int:
    """The number of frames of a timeline in a span of time, at least 1."""
    return max(1, math.floor(seconds * fps + 0.5))
