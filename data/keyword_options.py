"""Options of a command as keyword arguments of a function, for notebooks."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from reelbank.data.options import parse, words_of

Options = TypeVar("Options")


def options_from(options: type[Options], values: Mapping[str, Any], command: str) -> Options:
    """The options of a command from keyword arguments of the same names in lower case.

    A value may have its own type, or be text as it is typed on the command line: `seed=[0, 1]` and
    `seed="0 1"` are the same. Raises InputError as `parse` does.
    """
    positional = [
        field.name
        for field in dataclasses.fields(options)  # type: ignore[arg-type]
        if field.metadata["positional"]
    ]
    named = {name: value for name, value in values.items() if name not in positional}
    words = words_of(named)
    for name in positional:
        if values.get(name) is not None:
            words += ["--", *_items(values[name])]
    return parse(options, words, command)


def _items(value: Any) -> list[str]:
    """Paths or names. A text is one path if it exists, otherwise names separated by spaces."""
    if isinstance(value, os.PathLike) or (isinstance(value, str) and Path(value).exists()):
        return [os.fspath(value)]
    return value.split() if isinstance(value, str) else [os.fspath(item) for item in value]
