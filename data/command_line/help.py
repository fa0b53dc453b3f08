"""The text of --help: of the program, and of each command from its options dataclass."""

import dataclasses
import shutil
import textwrap
import typing
from collections.abc import Iterator
from typing import Any

from reelbank.data.command_line.table import COMMANDS
from reelbank.data.options import as_text, groups_of, is_list, is_switch
from reelbank.data.ranges import hints_of, without_none

NAME_COLUMNS = 24  # width of the column of names; help texts begin to the right of it
LEAST_COLUMNS, MOST_COLUMNS = 50, 110  # longer lines are hard to read


def program_help() -> str:
    """The commands by group, one line each."""
    lines = ["usage: reelbank COMMAND [NAME=value | --name value ...]", ""]
    group = ""
    for name, command in COMMANDS.items():
        if command.group != group:
            group = command.group
            lines += [f"{group}:"]
        lines += _entry(f"  {name}", command.about, 14)
    lines += ["", "'reelbank COMMAND --help' lists the options of a command; 'reelbank --version'"]
    return "\n".join([*lines, "prints the version."])


def command_help(command: str) -> str:
    """The options of a command by group: name, text, choices, range and default of each."""
    entry = COMMANDS[command]
    options = entry.load_options()
    lines = [usage(command, options), "", *_wrapped(f"{_sentence(entry.about)}.")]
    for title, names in groups_of(options).items():
        lines += ["", f"{title}:"]
        for name in names:
            field = options.__dataclass_fields__[name]
            default = default_of(field)
            facts = accepted_of(field) + ([f"default: {default}"] if default else [])
            text = field.metadata["help"] + (f" ({'; '.join(facts)})" if facts else "")
            lines += _entry(f"  {option_name(options, name)}", text, NAME_COLUMNS)
    name = next(iter(groups_of(options).values()))[0]
    dashed = name.replace("_", "-")
    text = f"Options can also be written NAME=value: --{dashed} x is {name.upper()}=x."
    lines += ["", *_wrapped(text)]
    return "\n".join(lines)


def usage(command: str, options: Any) -> str:
    return f"usage: reelbank {command}{_words(options)} [NAME=value | --name value ...]"


def _words(options: Any) -> str:
    """The values that a command accepts without an option's name, for the usage line."""
    for field in dataclasses.fields(options):
        if field.metadata["positional"]:
            more = " ..." if is_list(options, field.name) else ""
            return f" [{field.name.upper()}{more}]"
    return ""


def option_name(options: Any, name: str) -> str:
    """How an option is written: `--batch N`, `--bank BANK`, `--plan` for a switch."""
    dashed = "--" + name.replace("_", "-")
    if is_switch(options, name):
        return dashed
    kind, _ = without_none(hints_of(options)[name])
    item = typing.get_args(kind)[0] if is_list(options, name) else kind
    value = {int: "N", float: "X"}.get(item, name.upper())
    return f"{dashed} {value}{' ...' if is_list(options, name) else ''}"


def accepted_of(field: dataclasses.Field[Any]) -> list[str]:
    """The values that an option accepts, as phrases for the help."""
    facts = []
    or_file = " or FILE.py:NAME" if field.metadata["own_file"] else ""
    if field.metadata["choices"]:
        facts.append(f"one of {', '.join(map(str, field.metadata['choices']))}{or_file}")
    if field.metadata["choices_of_items"]:
        items = ", ".join(map(str, field.metadata["choices_of_items"]))
        facts.append(f"one or more of {items}{or_file}")
    if field.metadata["form"]:
        facts.append(field.metadata["form"].words)
    if field.metadata["range"]:
        facts.append(field.metadata["range"].brief())
    return facts


def default_of(field: dataclasses.Field[Any]) -> str:
    """The default as text; "" if the option is off or empty by default."""
    empty = field.default is None or field.default == "" or field.default == ()
    return field.metadata["unset"] if empty else as_text(field.default)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _width() -> int:
    columns = shutil.get_terminal_size().columns
    return max(LEAST_COLUMNS, min(columns, MOST_COLUMNS)) - 1


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _width(), break_on_hyphens=False)


def _entry(name: str, text: str, column: int) -> Iterator[str]:
    """The lines of a name with its text to the right, or below it if the name is too long."""
    lines = textwrap.wrap(
        text, max(_width() - column, 20), break_on_hyphens=False, break_long_words=False
    )
    if len(name) + 2 > column:
        yield name
    else:
        yield f"{name:<{column}}{lines.pop(0)}"
    yield from (" " * column + line for line in lines)
