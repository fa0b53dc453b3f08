"""What a format of `export` defines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reelbank.data.store.options import ExportOptions
from reelbank.data.store.reader import Store


@dataclass(frozen=True)
class Export:
    """What is exported.

    store: open for reading. path: the new file or folder to write; it does not exist yet. target: the
    name that it gets when it is complete, for files that contain paths. options: of the command.
    """

    store: Store
    path: Path
    target: Path
    options: ExportOptions


@dataclass(frozen=True)
class Written:
    """What was exported. notes: lines to print at the end. left_out: number of videos of the store that
    the files do not contain."""

    notes: Sequence[str] = ()
    left_out: int = 0


@dataclass(frozen=True)
class ExportFormat:
    """A format of `export`.

    title: names the format in messages. write: writes the clean rows of all videos, and raises
    InputError for a store that the format cannot hold.
    endings: with which the name of the file can end, () if the format is a folder. has_table:
    whether `<to>.csv` is written too. has_recipe: whether the files contain the recipe, and so what
    the network was trained on. own_options: the names of
    the options in ExportOptions.OF_FORMATS that the format uses.
    """

    title: str
    write: Callable[[Export], Written]
    endings: tuple[str, ...] = ()
    has_table: bool = False
    has_recipe: bool = False
    own_options: tuple[str, ...] = ()
