"""Streams: what is extracted from the pictures or the sound of a video. One class per file, listed
in `registry`."""

from typing import TYPE_CHECKING

from reelbank.data.lazy import lazy_names

if TYPE_CHECKING:
    from reelbank.extract.streams.base import Stream
    from reelbank.extract.streams.loading import load_stream
    from reelbank.extract.streams.registry import STREAMS

__all__ = ["STREAMS", "Stream", "load_stream"]

__getattr__ = lazy_names(
    __name__, {"STREAMS": "registry", "Stream": "base", "load_stream": "loading"}
)
