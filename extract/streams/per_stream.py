"""Options whose value may differ between streams, written 'stream=value stream=value', and the
options of a recipe that a set of streams uses."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from reelbank.data.errors import InputError
from reelbank.data.plugins import plugin_name
from reelbank.extract.streams.loading import load_stream
from reelbank.extract.streams.registry import STREAMS

PER_STREAM = (
    "extractor",
    "weights",
    "width",
    "node",
    "at",
    "clip",
    "resize",
    "size",
    "antialias",
    "preset",
)
# Options that only streams with the option in `own_options` use.
OF_SOME_STREAMS = ("trajectories",)


def applicable(shared: Mapping[str, Any], streams: Sequence[str]) -> dict[str, Any]:
    """Select the options of a recipe that these streams use.

    shared: options that the recipe sets for all of its stores. Of 'stream=value' texts, only the
    parts of these streams are kept.
    """
    kinds = [load_stream(text) for text in streams]
    unused = set(OF_SOME_STREAMS).difference(*(kind.own_options for kind in kinds))
    if len(kinds) == 1:
        unused |= set(kinds[0].unused_options)
    if not _takes_width(str(shared.get("extractor", ""))):
        unused |= {"width"}
    used = {}
    for name, value in shared.items():
        if name in unused:
            continue
        if name in PER_STREAM and isinstance(value, str) and value:
            value = _text_of(value, streams)
            if not value:
                continue
        used[name] = value
    return used


def _takes_width(extractors: str) -> bool:
    """Whether WIDTH applies to at least one network of a value of EXTRACTOR."""
    from reelbank.extract.networks.backbones.registry import BACKBONES, load_backbone

    values = {word.rpartition("=")[2] for word in extractors.split()}
    return any(load_backbone(name).has_width for name in values & BACKBONES.keys())


def by_stream(name: str, text: str, streams: Sequence[str]) -> dict[str, str]:
    """'rgb=a flow=b' -> {"rgb": "a", "flow": "b"}.

    A value without a stream's name applies to every stream that uses the option and does not
    require its name (`named_options`); if no stream is left, to all of them. Raises InputError for
    a stream that is not extracted.
    """
    names = [plugin_name(stream) for stream in streams]
    unnamed = [
        plugin_name(stream)
        for stream in streams
        if name not in (*load_stream(stream).unused_options, *load_stream(stream).named_options)
    ]
    values: dict[str, str] = {}
    for piece in _pieces(text, streams):
        before, equals, value = piece.partition("=")
        stream = plugin_name(before)
        if equals and stream in names:
            values[stream] = value.strip()
        elif equals and before in STREAMS:
            raise InputError(
                f"{name.upper()}={text}: the stream {before} is not extracted; use one of "
                f"STREAM={' '.join(streams)}"
            )
        elif piece:
            values = dict.fromkeys(unnamed or names, piece) | values
    return values


def _pieces(text: str, streams: Sequence[str]) -> list[str]:
    """Split a text where a 'stream=value' begins."""
    names = {*streams, *map(plugin_name, streams), *STREAMS}
    begins = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.split(rf"(?:^|\s+)(?=(?:{begins})=)", text.strip())


def _text_of(text: str, streams: Sequence[str]) -> str:
    """The parts of a per-stream value that concern these streams."""
    others = STREAMS.keys() - set(streams)
    pieces = [piece for piece in _pieces(text, streams) if piece.partition("=")[0] not in others]
    return " ".join(pieces).strip()
