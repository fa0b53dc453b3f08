"""Options as frozen dataclasses. One definition gives the command line, its help, and the recorded
settings of a run.

A dataclass whose fields are made by `option(...)` is an interface: `parse(Options, words)` reads
`--name value`, `--name=value` and make's `NAME=value`, and rejects unknown options. The class
variable `GROUPS`, title -> names separated by spaces, groups the options in the help.
"""

import csv
import dataclasses
import json
import re
import typing
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from reelbank.data.console import nearest, nearest_word
from reelbank.data.errors import InputError
from reelbank.data.identity import brief
from reelbank.data.ranges import (
    DEVICE,
    SCHEDULER,
    Form,
    between,
    check_value,
    hints_of,
    without_none,
)

Options = TypeVar("Options")
_SWITCH_VALUES = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off", ""), False),
}


def option(
    default: Any,
    help: str,
    choices: Sequence[Any] = (),
    *,
    positional: bool = False,
    unset: str = "",
    lowest: float | None = None,
    highest: float | None = None,
    above: float | None = None,
    below: float | None = None,
    form: Form | None = None,
    own_file: bool = False,
) -> Any:
    """A dataclass field with its help and the values that it accepts.

    help: description of the option; its default, choices and range are added when it is printed.
    unset: for the help, the value that is used if `default` is empty (None, "" or an empty tuple).
    positional: words without a name are values of this option; all of them if it is a tuple,
    otherwise one. own_file: in addition to `choices` the value may be `path/to/file.py:name`, an
    object in the user's own file (plugins.py).

    lowest, highest: the smallest and largest accepted number, for a list of each item; above,
    below: the same, but excluded. Every number needs a lower and an upper limit, or `choices`. A
    text may also have a range, for a number that is later read from it. `Checked`, the base of the
    dataclass, checks all values.
    """
    metadata = {
        "help": help,
        "choices": tuple(choices),
        "choices_of_items": (),
        "positional": positional,
        "unset": unset,
        "range": between(lowest, highest, above, below),
        "form": form,
        "own_file": own_file,
    }
    return dataclasses.field(default=default, metadata=metadata)


# Options of many commands.
bank_option = partial(option, "bank", "folder that contains all stores, runs and reports")
banks_option = partial(
    option,
    (),
    "folders of other banks, whose stores, runs and weights are found too; only BANK is written",
)
device_option = partial(
    option,
    "auto",
    "device to compute on; 'auto' uses the GPU with the most free memory, or the CPU if there is no "
    "GPU",
    form=DEVICE,
)
cluster_option = partial(
    option,
    "",
    "Dask scheduler. The workers of its cluster do the work. BANK, the videos and the working folder "
    "must have the same paths on all machines. Needs reelbank[dask]; see docs/clusters.md",
    form=SCHEDULER,
)
trust_option = partial(
    option,
    False,
    "run the Python code that comes with a model of transformers (EXTRACTOR=hf:...) that transformers "
    "itself does not contain. The code can read, change and send all your files, so read it first. "
    "Without this option, it is never run",
)
json_option = partial(
    option, False, "print the result as one JSON document; other messages go to standard error"
)


def groups_of(options: Any) -> dict[str, list[str]]:
    """The options of a dataclass by group, in the order of the help. Options that no group names
    are in the last group."""
    names = [field.name for field in dataclasses.fields(options)]
    groups = {title: text.split() for title, text in getattr(options, "GROUPS", {}).items()}
    grouped = set(chain.from_iterable(groups.values()))
    ungrouped = [name for name in names if name not in grouped]
    if ungrouped:
        groups["Other options" if groups else "Options"] = ungrouped
    return groups


def is_switch(options: Any, name: str) -> bool:
    """Whether the option is on or off, so that its name without a value sets it."""
    return without_none(hints_of(options)[name]).kind is bool


def is_list(options: Any, name: str) -> bool:
    return typing.get_origin(without_none(hints_of(options)[name]).kind) is tuple


def check_ending(name: str, path: str, endings: Sequence[str], instead: str = "") -> None:
    """Raises InputError if the file name `path` of option `name` has the ending of a format that is
    not in `endings`. A name without an ending, or with a number as its ending (`ucf101-1.5`), is
    accepted. instead: other possibilities, for the message."""
    ending = Path(path).suffix
    if re.fullmatch(r"\.[A-Za-z][A-Za-z0-9]{0,9}", ending) and ending.lower() not in endings:
        raise InputError(
            f"{name}={path}: cannot write {ending} files; use a name that ends in "
            f"{' or '.join(endings)}{instead}"
        )


class UnfitValue(ValueError):
    """A text that an option's type does not accept. The message begins with "must be"."""


def converted(text: str, hint: Any) -> Any:
    """An option's value from its text. Raises UnfitValue."""
    kind, _ = without_none(hint)  # int | None: a typed value is an int
    if typing.get_origin(kind) is tuple:
        return _items(text, typing.get_args(kind)[0])
    if kind is str:
        return text
    if kind is bool:
        if text.lower() not in _SWITCH_VALUES:
            raise UnfitValue("must be 1 or 0 (or yes, no, true, false, on, off)")
        return _SWITCH_VALUES[text.lower()]
    return _number(text, kind)


def _number(text: str, kind: type) -> Any:
    try:
        if not text.isascii():  # int() and float() also read the digits of other scripts
            raise ValueError
        return kind(text)
    except ValueError:
        expected = "a whole number" if kind is int else "a number"
        raise UnfitValue(f"must be {expected}") from None


def _items(text: str, kind: type) -> tuple:
    """The items of a list. If the text contains a comma, only commas separate items: "ride bike,
    run" are two classes. As in a CSV, an item that contains a comma is written in quotation
    marks."""
    by_commas = "," in text or text.lstrip().startswith('"')
    try:
        words = next(csv.reader([text], skipinitialspace=True), []) if by_commas else text.split()
        stripped = [word.strip() for word in words if word.strip()]
        return tuple(word if kind is str else _number(word, kind) for word in stripped)
    except (UnfitValue, csv.Error):
        expected = {int: "whole numbers", float: "numbers"}.get(kind, "texts")
        raise UnfitValue(f"must be a list of {expected}, separated by spaces or commas") from None


def check_data(options: type, name: str, value: Any) -> None:
    """Raises InputError if the option `name` does not accept `value`, a value from TOML. "" means
    that the option is not set."""
    if value == "":
        return
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str | int | float) for item in items):
        raise InputError(
            f"{name} must be a string, a number, true, false or a list of these (got "
            f"{brief(value)})"
        )
    kind, _ = without_none(hints_of(options)[name])
    if kind is not bool and any(isinstance(item, bool) for item in items):
        raise InputError(
            f"{name} = {json.dumps(value)}: the values true and false are only for switches, and "
            f"{name} is not a switch"
        )
    try:
        read = converted(as_text(value), kind)
    except UnfitValue as error:
        raise InputError(f"{name}={brief(as_text(value), 100)}: {error}") from None
    metadata = options.__dataclass_fields__[name].metadata  # type: ignore[attr-defined]
    item_kind = typing.get_args(kind)[0] if is_list(options, name) else kind
    for item in read if is_list(options, name) else (read,):
        check_value(name, item, item_kind, metadata)


def words_of(values: Mapping[str, Any]) -> list[str]:
    """Options by name as the words of a command line, for `parse`; None values are left out."""
    return [
        f"{_dashed(name)}={as_text(value)}" for name, value in values.items() if value is not None
    ]


def parse(options: type[Options], words: Sequence[str], command: str) -> Options:
    """Build `options` from the words of a command line. If the dataclass has a function
    `recipe_sets`, it gives the values of options that are not typed.

    Raises InputError for an unknown option (with the nearest known one) and for a value that the
    option does not accept.
    """
    reader = _Reader(options, command)
    values = reader.values(words)
    recipe_sets = getattr(options, "recipe_sets", None)
    if recipe_sets:
        from_recipe = {
            name: reader.value(name, as_text(value))
            for name, value in recipe_sets(values).items()
            if value not in ("", None)
        }
        values = {**from_recipe, **values}
    return options(**values)


class _Reader:
    """Reads the words of one command."""

    def __init__(self, options: Any, command: str) -> None:
        self.options, self.command = options, command
        self.names = [field.name for field in dataclasses.fields(options)]
        self.positional = next(
            (field.name for field in dataclasses.fields(options) if field.metadata["positional"]),
            "",
        )

    def value(self, name: str, text: str) -> Any:
        try:
            return converted(text, hints_of(self.options)[name])
        except UnfitValue as error:
            raise InputError(f"{name.upper()}={brief(text, 100)}: {error}") from None

    def values(self, words: Sequence[str]) -> dict[str, Any]:
        """The value of each option in `words`; if it occurs several times, the last value
        counts."""
        values: dict[str, Any] = {}
        bare: list[str] = []
        left = list(words)
        while left:
            word = left.pop(0)
            if word == "--":
                bare += left
                break
            name, text = split_word(word)
            if not name:
                bare.append(word)
                continue
            self._check_known(name, word)
            if text is None:
                text = self._next_value(name, left)
            if name == self.positional and is_list(self.options, name):
                bare += [text] if _exists(text) else text.split()
            else:
                values[name] = self.value(name, text)
        return {**values, **self._positional_value(bare, values)}

    def _next_value(self, name: str, left: list[str]) -> str:
        """The value that follows `--name`; a switch does not need one."""
        if is_switch(self.options, name):
            follows = left and left[0] and left[0].lower() in _SWITCH_VALUES
            return left.pop(0) if follows else "1"
        if not left or left[0].startswith("--"):
            raise InputError(f"{name.upper()} needs a value: {_dashed(name)}=VALUE")
        return left.pop(0)

    def _positional_value(self, bare: Sequence[str], values: Mapping[str, Any]) -> dict[str, Any]:
        if not bare:
            return {}
        if not self.positional:
            raise InputError(
                f"'{brief(bare[0])}' is not an option{nearest(bare[0], self.names)}; options are "
                f"written NAME=value or --name value, see 'reelbank {self.command} --help'"
            )
        name = self.positional
        if is_list(self.options, name):
            return {name: tuple(bare)}
        if len(bare) > 1 or name in values:
            both = " and ".join([*([values[name]] if name in values else []), *bare][:2])
            raise InputError(f"'reelbank {self.command}' takes one {name.upper()} (got {both})")
        return {name: bare[0]}

    def _check_known(self, name: str, word: str) -> None:
        if name in self.names:
            return
        typed = brief(word.split("=")[0])
        similar = similar_option(name, self.names).upper()
        raise InputError(f"unknown option {typed}{unknown_hint(similar, self.command)}")


def similar_option(name: str, names: Sequence[str]) -> str:
    """The option among `names` that an unknown name probably means; "" if none is similar."""
    begins = [option_name for option_name in names if name.startswith(f"{option_name}_")]
    return nearest_word(name, begins or names)


def unknown_hint(similar: str, command: str) -> str:
    """The end of a message about an unknown option. similar: the option that is probably meant."""
    return f"; did you mean {similar}?" if similar else f"; see 'reelbank {command} --help'"


class TypedWord(NamedTuple):
    """A word of a command line. name: of the option, "" for a bare word; text: of the value, None
    if the word contains none."""

    name: str
    text: str | None


def split_word(word: str) -> TypedWord:
    """Parse `--name=text`, `NAME=text` or `--name`. A word NAME=text that is the name of an
    existing file is a bare word."""
    if match := re.fullmatch(r"--([^=]+)(?:=(.*))?", word, re.DOTALL):
        return TypedWord(match[1].replace("-", "_"), match[2])
    match = re.fullmatch(r"([A-Z][A-Z0-9_]*)=(.*)", word, re.DOTALL)
    if match and not _exists(word):
        return TypedWord(match[1].lower(), match[2])
    return TypedWord("", None)


def _dashed(name: str) -> str:
    return "--" + name.replace("_", "-")


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):  # too long for a file name, or with a NUL
        return False


def as_text(value: Any) -> str:
    """An option's value in the form in which it is typed."""
    if isinstance(value, tuple | list):
        words = [_quoted(str(item)) for item in value]
        by_commas = any(" " in word or '"' in word for word in words)
        return ",".join([*words, ""]) if by_commas else " ".join(words)
    return str(int(value) if isinstance(value, bool) else value)


def _quoted(word: str) -> str:
    """An item of a list, in quotation marks if its comma would split it."""
    return '"' + word.replace('"', '""') + '"' if "," in word or word.startswith('"') else word
