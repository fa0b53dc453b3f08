"""Limits of every command that decodes videos."""

from functools import partial

from reelbank.data.options import option

PICTURE_PX = 64_000_000  # largest picture by default: twice that of 8K
_MOST = 1_000_000_000  # highest value of each limit: in effect none

picture_option = partial(
    option,
    PICTURE_PX / 1e6,
    "maximum size of a picture in megapixels (10^6 pixels); videos with larger pictures "
    "are rejected",
    above=0,
    highest=_MOST,
)
in_flight_option = partial(
    option,
    256.0,
    "maximum total size, in megapixels, of the pictures that are decoded at the same time "
    "(one picture per video is counted); further videos wait",
    above=0,
    highest=_MOST,
)
slowness_option = partial(
    option,
    100.0,
    "maximum processor time for decoding one second of video, in core-seconds; videos "
    "that need more are rejected",
    above=0,
    highest=_MOST,
)
