"""Options of the command `runs`."""

from dataclasses import dataclass

from reelbank.data.options import bank_option, json_option, option
from reelbank.data.ranges import Checked


@dataclass(frozen=True)
class RunsOptions(Checked):
    """Options of the command `runs`."""

    bank: str = bank_option()
    head: str = option("", "list only runs of this head")
    split: str = option("", "list only runs of this split")
    remove: tuple[str, ...] = option(
        (),
        "names of runs, or starts of their hashes, to delete permanently; damaged runs can be "
        "deleted too",
    )
    json: bool = json_option()
