"""Options of a command as keyword arguments of a function, for notebooks."""

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from reelbank.data.errors import InputError
from reelbank.data.identity import brief
from reelbank.data.options import parse, similar_option, unknown_hint, words_of

Options = TypeVar("Options")


def options_from(options: type[Options], values: Mapping[str, Any], command: str) -> Options:
    """The options of a command from keyword arguments of the same names in lower case.

    A value may have its own type, or be text as it is typed on the command line: `seed=[0, 1]` and
    `seed="0 1"` are the same. Raises InputError as `parse` does.
    """
    fields = dataclasses.fields(options)  # type: ignore[arg-type]
    names = [field.name for field in fields]
    if unknown := [name for name in values if name not in names]:
        similar = similar_option(unknown[0], names)
        hint = unknown_hint(f"{similar}=" if similar else "", command)
        raise InputError(f"unknown option {brief(unknown[0])}={hint}")
    positional = [field.name for field in fields if field.metadata["positional"]]
    named = {name: value for name, value in values.items() if name not in positional}
    words = words_of(named)
    for name in positional:
        if values.get(name) is not None:
            words += ["--", *_items(values[name])]
    return parse(options, words, command)


@contextmanager
def named_as_keywords(names: Mapping[str, Any]) -> Iterator[None]:
    """A context in which an InputError names the options in `names` as keyword arguments: `crops=7`,
    not CROPS=7. Commands in quotation marks stay as they are typed in a terminal."""
    try:
        yield
    except InputError as error:
        raise InputError(_with_keywords(str(error), names)) from error


def _with_keywords(message: str, names: Mapping[str, Any]) -> str:
    if not names:
        return message
    option = re.compile(rf"(?<![\w/.=-])({'|'.join(name.upper() for name in names)})=")
    parts = re.split(r"('reelbank [^']*')", message)
    for number in range(0, len(parts), 2):  # every second part is a command
        parts[number] = option.sub(lambda match: f"{match[1].lower()}=", parts[number])
    return "".join(parts)


def _items(value: Any) -> list[str]:
    """Paths or names. A text is one path if it exists, otherwise names separated by spaces."""
    if isinstance(value, os.PathLike) or (isinstance(value, str) and Path(value).exists()):
        return [os.fspath(value)]
    return value.split() if isinstance(value, str) else [os.fspath(item) for item in value]
