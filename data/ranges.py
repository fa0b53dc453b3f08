"""Checks the values of options: type, range of numbers, choices, length of texts."""

import numbers
import os
import re
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from reelbank.data.console import nearest
from reelbank.data.errors import InputError
from reelbank.data.plugins import is_user_file

LONGEST_TEXT = 20_000  # characters; enough for several paths of PATH_MAX (4096 bytes)
HIGHEST_SEED = 2**63 - 1  # the largest int64; torch accepts seeds up to 2^64 - 1, numpy larger ones
MOST_WORKERS = 1024
MOST_PX = 16_384
MOST_FPS = 100_000  # more than any camera has
MOST_ROWS = 1_000_000  # frames, steps and rows of a video: eleven hours at 25 a second
# Frames of a timeline in a clip of a grid that is given in seconds. A flow field needs two, and the
# grid is the same for all streams.
LEAST_GRID_TICKS = 2
_PRACTICALLY_INFINITE = 1e30  # an upper limit that only guards arithmetic; the help omits it


class Form(NamedTuple):
    """The form of a text option: a regular expression for the whole text, and the same in words.

    meant: a regular expression for texts that do not have the form, but whose meaning is known; hint:
    what to do instead of these, for the message
    """

    pattern: str
    words: str
    meant: str = ""
    hint: str = ""


_ONE_DEVICE = r"(cpu|cuda:[0-9]{1,3})"
DEVICE = Form(
    r"auto|cpu|cuda(:[0-9]{1,3})?",
    "auto, cpu, cuda or cuda:<number>",
    meant=rf"all|{_ONE_DEVICE}([ ,]+{_ONE_DEVICE})+",
    hint="only 'extract' uses several devices by DEVICE; to train on several GPUs, start one Dask "
    "worker for each and give CLUSTER (docs/clusters.md)",
)
DEVICES = Form(
    rf"auto|all|cuda|{_ONE_DEVICE}([ ,]+{_ONE_DEVICE})*",
    "auto, all, cuda, or one or more of cpu and cuda:<number>, separated by spaces",
)
SCHEDULER = Form(
    r"((tcp|tls|ws|wss|ucx)://)?(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):[0-9]{1,5}",
    "the address of a Dask scheduler with its port, such as tcp://host:8786 or tls://host:8786",
)


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`, both finite and included. `above` excludes `low`, `below`
    excludes `high`."""

    low: float
    high: float
    above: bool = False
    below: bool = False

    def __contains__(self, number: float) -> bool:
        high_enough = number > self.low if self.above else number >= self.low
        return high_enough and (number < self.high if self.below else number <= self.high)

    def __str__(self) -> str:
        low, high = ("above" if self.above else "at least"), ("below" if self.below else "at most")
        return f"{low} {_shown(self.low)} and {high} {_shown(self.high)}"

    def brief(self) -> str:
        """For the help: '1 to 100', 'above 0, at most 1', 'at least 0, below 1'."""
        if not self.above and not self.below:
            high = "2^63 - 1" if self.high == HIGHEST_SEED else _shown(self.high)
            return f"{_shown(self.low)} to {high}"
        if self.above and not self.below and self.high >= _PRACTICALLY_INFINITE:
            return f"above {_shown(self.low)}"
        return str(self).replace(" and ", ", ")


def between(
    lowest: float | None,
    highest: float | None,
    above: float | None = None,
    below: float | None = None,
) -> Range | None:
    """The range of an option; None if no limit is given. Raises ValueError unless exactly one lower
    and one upper limit are given."""
    lows = [limit for limit in (lowest, above) if limit is not None]
    highs = [limit for limit in (highest, below) if limit is not None]
    if not lows and not highs:
        return None
    if len(lows) != 1 or len(highs) != 1:
        raise ValueError("the range of an option must have exactly one lower and one upper limit")
    return Range(lows[0], highs[0], above=above is not None, below=below is not None)


class Checked:
    """Base of a dataclass of options. The values of every instance are checked, whether it is made
    by a command, from a recipe or in Python."""

    def __post_init__(self) -> None:
        check_values(self)


def check_values(options: Any) -> None:
    """Raises InputError, which names the option, for a value of a wrong type, outside its range or
    not among its choices."""
    hints = hints_of(type(options))
    for field in fields(options):
        value = getattr(options, field.name)
        hint, optional = without_none(hints[field.name])
        if (value is None and optional) or (isinstance(value, str) and value == field.default):
            continue  # not set: the command chooses a value later
        is_list = typing.get_origin(hint) is tuple
        if is_list and not isinstance(value, tuple | list):
            raise InputError(
                f"{field.name.upper()}={_brief(value)}: must be a list (a tuple in Python)"
            )
        for item in value if is_list else (value,):
            check_value(
                field.name.upper(),
                item,
                typing.get_args(hint)[0] if is_list else hint,
                field.metadata,
            )


_HINTS: dict[Any, dict[str, Any]] = {}


def hints_of(options: Any) -> dict[str, Any]:
    """The types of a dataclass's fields, cached because evaluating them takes milliseconds."""
    if options not in _HINTS:
        hints = typing.get_type_hints(options)
        _HINTS[options] = {field.name: hints[field.name] for field in fields(options)}
    return _HINTS[options]


def check_value(name: str, value: Any, kind: type, allowed: typing.Mapping[str, Any]) -> None:
    """Check one value of the option `name`. allowed: the metadata of its field, with `choices`,
    `range`, `form` and `own_file`. Raises InputError."""
    choices: Sequence[Any] = allowed.get("choices", ())
    within: Range | None = allowed.get("range")
    form: Form | None = allowed.get("form")
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    fits = {
        int: is_number and isinstance(value, numbers.Integral),
        float: is_number,
        bool: isinstance(value, bool),
        str: isinstance(value, str | os.PathLike),
    }[kind]
    if not fits:
        expected = {int: "a whole number", float: "a number", bool: "1 or 0", str: "text"}[kind]
        raise InputError(f"{name}={_brief(value)}: must be {expected}")
    if kind is str:
        _check_text(name, str(value))
    own_file = bool(allowed.get("own_file"))
    if choices and value not in choices and not (own_file and is_user_file(str(value))):
        or_file = ", or give path/to/file.py:name" if own_file else ""
        hint = nearest(str(value), map(str, choices)) if kind is str else ""
        raise InputError(
            f"{name}={_brief(value)}: choose from {', '.join(map(str, choices))}{or_file}{hint}"
        )
    if form and not re.fullmatch(form.pattern, str(value)):
        hint = f"; {form.hint}" if form.meant and re.fullmatch(form.meant, str(value)) else ""
        raise InputError(f"{name}={_brief(value)}: must be {form.words}{hint}")
    if kind in (int, float) and within is not None and value not in within:
        raise InputError(f"{name}={_brief(value)}: must be {within}")


def _check_text(name: str, text: str) -> None:
    if len(text) > LONGEST_TEXT:
        raise InputError(f"{name}={_brief(text)}: must have at most {LONGEST_TEXT:,} characters")
    if "\0" in text:
        raise InputError(f"{name}={_brief(text)}: must not contain a NUL character; remove it")
    try:
        # Python represents bytes of file names that are not UTF-8 as surrogates, which pass this
        # check.
        os.fsencode(text)
    except UnicodeEncodeError:
        raise InputError(
            f"{name}={_brief(text)}: must not contain characters that cannot occur in file names; remove them"
        ) from None


class ValueType(NamedTuple):
    """The type of an option's value, and whether it may also be None."""

    kind: Any
    is_optional: bool


def without_none(hint: Any) -> ValueType:
    """int | None -> int, True."""
    if not isinstance(hint, types.UnionType):
        return ValueType(hint, is_optional=False)
    kind = next(kind for kind in typing.get_args(hint) if kind is not type(None))
    return ValueType(kind, is_optional=True)


def _shown(number: float) -> str:
    """A limit as text: 1,000,000 for the number 1e6, but 1e+38 for 1e38."""
    if float(number).is_integer() and abs(number) < 1e15:
        return f"{number:,.0f}"
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"


def _brief(value: Any, longest: int = 100) -> str:
    """A value as one line for a message."""
    text = " ".join(str(value).split())
    return text if len(text) <= longest else f"{text[:12]}... ({len(text):,} characters)"
