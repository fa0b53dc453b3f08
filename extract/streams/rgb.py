"""RGB pictures."""

from reelbank.extract.streams.base import Stream


class RGB(Stream):
    features_version = 2
