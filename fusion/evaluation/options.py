"""Options that select runs, and options of the commands evaluate, compare and scores."""

from dataclasses import dataclass
from typing import ClassVar

from reelbank.data.banks import WithBanks
from reelbank.data.options import bank_option, banks_option, json_option, option
from reelbank.data.ranges import HIGHEST_SEED, Checked

# Options that select runs, in the help of each command that does.
SELECTING = "bank banks runs dataset stream store head split seed"
PARTS = ("train", "validation", "test")
INTERVALS = ("wilson", "videos", "groups")
ORDERS = ("auto", "list", "sorted")
SCALES = ("auto", "logits", "probabilities", "percent")


@dataclass(frozen=True)
class Selection(Checked, WithBanks):
    """The selection of runs. It takes the named runs, or all finished runs of the bank, and keeps
    those that match the options."""

    bank: str = bank_option()
    runs: tuple[str, ...] = option(
        (),
        "runs to use, given as names, starts of their hashes or their folders. Score files "
        "(.npz) can be given too",
        positional=True,
        unset="all finished runs that match the options below",
    )
    dataset: str = option("", "use only runs on this data set")
    stream: str = option("", "use only runs on this stream")
    store: str = option("", "use only runs on this store, given as the start of its hash")
    head: str = option("", "use only runs with this head")
    split: str = option("", "use only runs on this split")
    seed: int | None = option(None, "use only runs with this seed", lowest=0, highest=HIGHEST_SEED)
    banks: tuple[str, ...] = banks_option()


@dataclass(frozen=True)
class EvaluateOptions(Selection):
    """Options of the command `evaluate`."""

    GROUPS: ClassVar[dict[str, str]] = {
        "Which runs": SELECTING,
        "Evaluation": "part interval per_class",
        "Output": "out json",
    }

    part: str = option("test", "part of the split whose videos are evaluated", PARTS)
    per_class: bool = option(False, "also print the result of each class")
    interval: str = option(
        "wilson",
        "method for the 95 % confidence intervals: 'wilson' is Wilson's formula, 'videos' is "
        "a bootstrap over videos, 'groups' is a bootstrap over groups of related videos",
        INTERVALS,
    )
    out: str = option(
        "", "CSV file to write the results to", unset="reports/evaluation-<part>.csv in the bank"
    )
    json: bool = json_option()


@dataclass(frozen=True)
class CompareOptions(Selection):
    """Options of the command `compare`."""

    GROUPS: ClassVar[dict[str, str]] = {
        "Which runs": SELECTING,
        "Comparison": "part most out",
    }

    part: str = option("test", "part of the split whose videos are compared", PARTS)
    most: int = option(
        10,
        "number of classes with the largest gains to print; the same number of classes with "
        "the largest losses is printed too",
        lowest=0,
        highest=1_000_000,
    )
    out: str = option(
        "",
        "CSV file to write the results of all classes to",
        unset="reports/compare-<first>-<second>.csv in the bank",
    )


@dataclass(frozen=True)
class ScoresOptions(Checked, WithBanks):
    """Options of the command `scores`."""

    GROUPS: ClassVar[dict[str, str]] = {
        "Files": "file to key bank banks",
        "Rows and classes": "list order classes like scale",
        "Description of the scores": "name dataset split stream part",
    }

    file: str = option(
        "",
        "score file to read: an .npz file (from reelbank, TSN, CoViAR or another tool), a "
        "pickle of mmaction2, or a CSV file",
        positional=True,
    )
    to: str = option(
        "",
        "file to write the scores to; its extension sets the format: .npz (reelbank), "
        ".tsn.npz (TSN) or .csv",
        unset="no file is written, and the scores are only described",
    )
    key: str = option(
        "", "name of the score array to read, if the .npz file contains more than one"
    )
    list: str = option(
        "",
        "text file with the video name of each row, one per line; required if the score file "
        "does not contain video names",
    )
    order: str = option(
        "auto",
        "order of the rows in the score file: 'list' is the order of the names in LIST, "
        "'sorted' is their alphabetical order, 'auto' is the order that the tool usually "
        "writes, which is checked against the labels",
        ORDERS,
    )
    classes: str = option(
        "", "text file with the class names, one per line, or the file classInd.txt of UCF101"
    )
    like: str = option(
        "", "run or reelbank score file from which to take video ids, labels, classes and groups"
    )
    scale: str = option(
        "auto",
        "type of the scores; 'auto' detects it: rows that sum to 1 are probabilities, rows "
        "that sum to 100 are percentages, and rows with negative values are logits",
        SCALES,
    )
    name: str = option(
        "", "name of the model that computed the scores", unset="the name of the file"
    )
    dataset: str = option("", "data set that contains the videos")
    split: str = option("", "split on which the model was trained")
    stream: str = option("", "stream that the model takes as input")
    part: str = option(
        "",
        "part of the split that contains the videos",
        PARTS,
        unset="the part that the score file states, otherwise test",
    )
    bank: str = bank_option()
    banks: tuple[str, ...] = banks_option()
