"""Options of the command duplicates."""

from dataclasses import dataclass
from typing import ClassVar

from reelbank.data.banks import WithBanks
from reelbank.data.options import bank_option, banks_option, json_option, option
from reelbank.data.ranges import Checked

MOST_PAIRS = 100_000  # that are listed
BETWEEN = ("all", "groups", "parts")


@dataclass(frozen=True)
class DuplicatesOptions(Checked, WithBanks):
    """Options of the command `duplicates`."""

    GROUPS: ClassVar[dict[str, str]] = {
        "Videos": "store split between bank banks",
        "Similarity": "threshold count",
        "Output": "out groups json",
    }

    store: str = option(
        "",
        "feature store, given as the start of its hash or as the path of its file",
        positional=True,
        unset="the only store of the bank",
    )
    split: str = option(
        "", "split whose parts are compared", unset="the first split of the data set"
    )
    between: str = option(
        "all",
        "pairs to list: all pairs, only pairs of different groups, or only pairs of different parts "
        "(training, validation, test)",
        BETWEEN,
    )
    threshold: float | None = option(
        None,
        "list the pairs with a cosine similarity above this value",
        unset="a value that is measured on training videos, see docs/duplicates.md; with COUNT, no "
        "threshold",
        lowest=0,
        below=1,
    )
    count: int | None = option(
        None,
        "list at most this many pairs, the most similar ones",
        unset=f"all pairs above the threshold, up to {MOST_PAIRS:,}",
        lowest=1,
        highest=MOST_PAIRS,
    )
    out: str = option("", "CSV file to write the pairs to")
    groups: str = option(
        "",
        "for DATASET=folder: CSV file to write with proposed groups of related videos; you can give "
        "it to extract as CSV after you have checked it",
    )
    json: bool = json_option()
    bank: str = bank_option()
    banks: tuple[str, ...] = banks_option()
