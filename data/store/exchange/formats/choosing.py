"""The format that FORMAT= or the ending of TO= selects."""

import re
from itertools import chain
from pathlib import Path

from reelbank.data.errors import InputError
from reelbank.data.options import check_ending
from reelbank.data.plugins import load_plugin
from reelbank.data.store.exchange.formats.registry import FOLDER_DEFAULT, FORMATS
from reelbank.data.store.exchange.formats.types import ExportFormat
from reelbank.data.store.options import ExportOptions

_FILE_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,9}")  # other than in a folder's name, `ucf-1.5`


def chosen_format(options: ExportOptions) -> ExportFormat:
    """The format in which TO= is to be written. Raises InputError for an ending that does not fit the
    format, and for an option that it does not use."""
    name = options.format or _by_ending(options.to)
    chosen = load_format(name)
    _check_name(options, chosen)
    for option_name in ExportOptions.OF_FORMATS:
        is_set = getattr(options, option_name) != getattr(ExportOptions, option_name)
        if is_set and option_name not in chosen.own_options:
            users = [key for key in FORMATS if option_name in load_format(key).own_options]
            raise InputError(
                f"{option_name.upper()} is used only with FORMAT={' or '.join(users)} (got "
                f"FORMAT={name}); leave it out"
            )
    return chosen


def load_format(name: str) -> ExportFormat:
    """The format with this name. Raises InputError if it does not exist."""
    chosen: ExportFormat = load_plugin(name, FORMATS, option="FORMAT")
    return chosen


def _by_ending(to: str) -> str:
    """The name of the format of files with the ending of TO=, or of the default for folders. Raises
    InputError for the ending of another kind of file."""
    if to.endswith("/"):
        return FOLDER_DEFAULT
    endings = {name: load_format(name).endings for name in FORMATS}
    check_ending(
        "TO",
        to,
        tuple(chain.from_iterable(endings.values())),
        ", or a new folder for .npy files, followed by '/' if its name contains a dot",
    )
    ending = Path(to).suffix.lower()
    return next((name for name in FORMATS if ending in endings[name]), FOLDER_DEFAULT)


def _check_name(options: ExportOptions, chosen: ExportFormat) -> None:
    ending = Path(options.to).suffix
    if chosen.endings and (options.to.endswith("/") or ending.lower() not in chosen.endings):
        raise InputError(
            f"TO={options.to}: FORMAT={options.format} writes {chosen.title}; give a name that ends "
            f"in {' or '.join(chosen.endings)}"
        )
    if not chosen.endings and not options.to.endswith("/") and _FILE_ENDING.fullmatch(ending):
        raise InputError(
            f"TO={options.to}: FORMAT={options.format} writes {chosen.title}; give the name of a new "
            "folder, followed by '/' if it contains a dot"
        )
