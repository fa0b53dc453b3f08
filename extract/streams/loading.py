"""Streams by name, and checks of their attributes and of what their methods return."""

import re
from collections.abc import Sequence
from typing import Any

from reelbank.data.console import nearest_word
from reelbank.data.errors import InputError
from reelbank.data.plugins import load_plugin, plugin_name, user_error
from reelbank.extract.streams.base import Stream
from reelbank.extract.streams.registry import STREAMS


def load_stream(text: str) -> Stream:
    """The stream that a word of STREAM= names. Raises InputError for an unknown name and for an
    unusable file."""
    kind = load_plugin(text, STREAMS, option="STREAM")
    if not (isinstance(kind, type) and issubclass(kind, Stream)):
        raise InputError(
            f"STREAM={text}: must be a class derived from reelbank.extract.streams.Stream"
        )
    known = [name for name in dir(Stream) if not name.startswith("_")]
    for name in vars(kind):
        if name.startswith("_") or name in known:
            continue
        if similar := nearest_word(name, known, similarity=0.85):
            raise InputError(
                f"STREAM={text}: streams do not have the attribute '{name}'; did you mean "
                f"'{similar}'? "
                "Begin the names of your own attributes with an underscore"
            )
    _check_attributes(kind, text)
    try:
        stream = kind()
    except Exception as error:
        raise user_error(error, option="STREAM", text=text) from error
    stream.name = plugin_name(text)
    return stream


def _check_attributes(kind: type[Stream], text: str) -> None:
    """Raises InputError for an attribute of a stream's class that has another type than in
    Stream."""
    for name, usual in vars(Stream).items():
        value = getattr(kind, name)
        if name.startswith("_") or not isinstance(usual, bool | int | str | tuple):
            continue
        if type(value) is not type(usual):
            raise InputError(
                f"STREAM={text}: `{name}` must be of type {type(usual).__name__} (got {value!r})"
            )
    for name in ("reads_pairs", "uses_flow"):
        if getattr(kind, name) and kind.items is Stream.items:
            raise InputError(
                f"STREAM={text}: `{name}` is True, but the class does not define items(pictures, "
                f"following, flow), which computes its items; define it, or remove `{name}`"
            )
    if kind.input not in ("pictures", "sound"):
        raise InputError(
            f'STREAM={text}: `input` must be "pictures" or "sound" (got "{kind.input}")'
        )


def returned(stream: Stream, method: str, value: Any, kind: type) -> Any:
    """What a stream's method returned. Raises InputError unless it is of the class that Stream
    promises."""
    if not isinstance(value, kind):
        raise InputError(
            f"STREAM={stream.name}: {method}() of a stream of {stream.input} must return "
            f"{kind.__name__} (got {type(value).__name__})"
        )
    return value


def recorded_stream(name: str, user_streams: Sequence[str] = ()) -> Stream:
    """The stream that a store's or a run's recipe names; arguments and errors as of
    `stream_text`."""
    return load_stream(stream_text(name, user_streams))


def stream_text(name: str, user_streams: Sequence[str] = ()) -> str:
    """The value of STREAM for the stream that a recipe calls `name`.

    user_streams: streams that the user named, as file.py:Class. Recipes are untrusted, so code that
    they name is not run. Raises InputError for an unknown stream.
    """
    for text in (*STREAMS, *user_streams):
        if plugin_name(text) == name:
            return text
    stem, _, attribute = name.rpartition(".")
    if re.fullmatch(r"\w+", stem) and attribute.isidentifier():
        raise InputError(
            f"the features were made with your own stream, {attribute} of {stem}.py; give "
            f"STREAM=<path of {stem}.py>:{attribute}"
        )
    raise InputError(
        f"the features were made with the stream '{name}', which this version does not know (it "
        f"knows {', '.join(STREAMS)}); use the version of reelbank that made them, or extract "
        "again"
    )
