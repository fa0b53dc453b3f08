"""Options as frozen dataclasses: one definition gives the command line, its help, and the signature of what was done.

A dataclass whose fields are made by `option(...)` is an interface: `parse(Options, words)` reads `--name value`,
`--name=value` and make's `NAME=value` alike, and refuses what it does not know.
"""

import argparse
import dataclasses
import difflib
import hashlib
import json
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, NoReturn, TypeVar

from reelbank.data.errors import InputError

Options = TypeVar("Options")


def option(default: Any, help: str, choices: Sequence[str] = (), positional: bool = False) -> Any:
    """A dataclass field with its help; `positional` gathers the words that are not options (a tuple field)."""
    return dataclasses.field(default=default, metadata={"help": help, "choices": tuple(choices), "positional": positional})


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see 'reelbank {self.prog.split()[-1]} --help'")


def _boolean(text: str) -> bool:
    values = {
        "1": True,
        "true": True,
        "yes": True,
        "on": True,
        "0": False,
        "false": False,
        "no": False,
        "off": False,
        "": False,
    }
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"'{text}' is neither 1 nor 0")
    return values[text.lower()]


def _words(item: type) -> Any:
    def convert(text: str) -> tuple:
        try:
            # with a comma in it, only commas part: "ride bike, run" are two classes, one of them of two words
            words = text.split(",") if "," in text else text.split()
            return tuple(item(word.strip()) for word in words if word.strip())
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is not a list of {item.__name__}") from None

    return convert


def _number(kind: type) -> Any:
    def convert(text: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is not a number of type {kind.__name__}") from None

    return convert


def _converter(hint: Any) -> Any:
    if isinstance(hint, types.UnionType):  # int | None: given, it is the int
        hint = next(arg for arg in typing.get_args(hint) if arg is not type(None))
    if typing.get_origin(hint) is tuple:
        return _words(typing.get_args(hint)[0])
    return {bool: _boolean, str: str, int: _number(int), float: _number(float)}[hint]


def words_of(values: Mapping[str, Any]) -> list[str]:
    """Options by name as the words of a command line, for `parse`; what is None is left out."""
    return [f"--{name.replace('_', '-')}={as_text(value)}" for name, value in values.items() if value is not None]


def parse(options: type[Options], words: Sequence[str], command: str, about: str = "") -> Options:
    """Build `options` from command-line words, and from what its `preset` sets beside them, when it has one. Raises
    InputError for an unknown option (with the nearest known one) or a value that does not fit; exits after printing when --help
    is asked for."""
    hints = typing.get_type_hints(options)
    fields = dataclasses.fields(options)  # type: ignore[arg-type]
    parser = _Parser(
        prog=f"reelbank {command}",
        description=about,
        allow_abbrev=False,
        epilog="Options may also be written NAME=value, as make does.",
    )
    names = {f.name for f in fields if not f.metadata["positional"]}
    for f in fields:
        shown = "" if f.default in (None, "", ()) else f" (default: {as_text(f.default)})"
        help_text = (f.metadata["help"] + shown).replace("%", "%%")
        if f.metadata["positional"]:
            parser.add_argument(f.name, nargs="*", metavar=f.name.upper(), help=help_text)
            continue
        is_switch = bool in (hints[f.name], *typing.get_args(hints[f.name]))
        extra: dict[str, Any] = {"nargs": "?", "const": "1"} if is_switch else {}
        parser.add_argument(
            "--" + f.name.replace("_", "-"),
            dest=f.name,
            type=_converter(hints[f.name]),
            default=argparse.SUPPRESS,
            metavar="|".join(f.metadata["choices"]) or f.name.upper(),
            help=help_text,
            **extra,
        )
    lists = {f.name for f in fields if f.metadata["positional"]}
    plain = [flag for word in words for flag in _as_flags(word, lists)]
    found, unknown = parser.parse_known_args(plain)
    preset_of = getattr(options, "preset", None)
    if preset_of and not unknown:  # what a recipe sets comes first, so that what is given wins
        preset = {name: value for name, value in preset_of(vars(found)).items() if value != ""}
        found = parser.parse_args([*words_of(preset), *plain])
    for word in unknown:
        name = word.lstrip("-").split("=")[0]
        near = difflib.get_close_matches(name.replace("-", "_").lower(), names, 1)
        hint = f"; did you mean {near[0].upper()}?" if near else f"; see 'reelbank {command} --help'"
        raise InputError(f"unknown option {name}{hint}")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in vars(found).items()}
    for f in fields:
        allowed, given = f.metadata["choices"], values.get(f.name)
        for one in given if isinstance(given, tuple) else () if given is None else (given,):
            if allowed and one not in allowed:
                raise InputError(f"{f.name.upper()}={one}: choose from {', '.join(allowed)}")
    return options(**values)


def _as_flags(word: str, lists: set[str]) -> list[str]:
    """make's NAME=value as --name=value; of a list of positional words (RUNS="a b") its words; a file's name stays."""
    match = re.match(r"([A-Z][A-Z0-9_]*)=", word)
    if not match or Path(word).exists():
        return [word]
    name, value = match[1].lower(), word[match.end() :]
    return value.split() if name in lists else [f"--{name.replace('_', '-')}={value}"]


def as_text(value: Any) -> str:
    """An option's value as it would be typed."""
    if isinstance(value, tuple | list):
        words = [str(one) for one in value]
        return ",".join([*words, ""]) if any(" " in word for word in words) else " ".join(words)
    return str(int(value) if isinstance(value, bool) else value)


def extractor_name(extractor: str) -> str:
    """How recipes name an extractor: a user's file by stem and function, wherever it lies (its weights have a hash)."""
    file_name, _, function = extractor.rpartition(":")
    return f"{PurePath(file_name).stem}.{function}" if file_name.endswith(".py") else extractor


def canonical(recipe: Mapping[str, Any]) -> str:
    """The recipe as JSON with sorted keys: the same recipe is the same text."""
    return json.dumps(recipe, sort_keys=True, separators=(",", ":"), allow_nan=False)


def in_file_name(text: str) -> str:
    """A name that somebody's file may say, as part of a file's name: nothing of it leads out of a folder."""
    return re.sub(r"[^\w.-]+", "_", text).lstrip(".") or "_"


def signature(recipe: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical recipe, 64 hex digits: the identity of a store or a run."""
    return hashlib.sha256(canonical(recipe).encode()).hexdigest()


def brief(value: Any, longest: int = 60) -> str:
    """A value as text; what is longer than `longest` by its first 12 characters and how many there are."""
    text = str(value)
    return text if len(text) <= longest else f"{text[:12]}... ({len(text):,} characters)"


def differences(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Lines 'name: a, not b' for every value in which two recipes differ, nested names joined with dots; long values in
    brief."""
    lines = []
    for key in sorted(one.keys() | other.keys()):
        a, b = one.get(key), other.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            lines.append(f"{prefix}{key}: {brief(a)}, not {brief(b)}")
    return lines
