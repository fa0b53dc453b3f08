"""Options of the command `runs`."""

from dataclasses import dataclass

from reelbank.data.banks import WithBanks
from reelbank.data.options import bank_option, banks_option, json_option, option
from reelbank.data.ranges import Checked


@dataclass(frozen=True)
class RunsOptions(Checked, WithBanks):
    """Options of the command `runs`."""

    bank: str = bank_option()
    head: str = option("", "list only runs with this head")
    split: str = option("", "list only runs on this split")
    remove: tuple[str, ...] = option(
        (),
        "runs to delete permanently, given as names or as starts of their hashes; damaged "
        "runs can be deleted too",
    )
    json: bool = json_option()
    banks: tuple[str, ...] = banks_option()
