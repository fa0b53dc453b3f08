"""Options that select runs, and options of the commands evaluate, compare and scores."""

from dataclasses import dataclass
from typing import ClassVar

from reelbank.data.options import bank_option, json_option, option
from reelbank.data.ranges import HIGHEST_SEED, Checked

# Options that select runs, in the help of each command that does.
SELECTING = "bank runs dataset stream store head split seed"
PARTS = ("train", "validation", "test")
INTERVALS = ("wilson", "videos", "groups")
ORDERS = ("auto", "list", "sorted")
SCALES = ("auto", "logits", "probabilities", "percent")


@dataclass(frozen=True)
class Selection(Checked):
    """The selection of runs. It takes the named runs, or all finished runs of the bank, and keeps
    those that match the options."""

    bank: str = bank_option()
    runs: tuple[str, ...] = option(
        (),
        "runs to use: their names, starts of their hashes or their folders; or score files (.npz)",
        positional=True,
        unset="all finished runs that match the options below",
    )
    dataset: str = option("", "use only runs on this data set")
    stream: str = option("", "use only runs on this stream")
    store: str = option("", "use only runs on the store whose hash starts with this")
    head: str = option("", "use only runs of this head")
    split: str = option("", "use only runs of this split")
    seed: int | None = option(None, "use only runs with this seed", lowest=0, highest=HIGHEST_SEED)


@dataclass(frozen=True)
class EvaluateOptions(Selection):
    """Options of the command `evaluate`."""

    GROUPS: ClassVar[dict[str, str]] = {
        "Which runs": SELECTING,
        "Evaluation": "part interval per_class",
        "Output": "out json",
    }

    part: str = option("test", "part of the split to evaluate on", PARTS)
    per_class: bool = option(False, "also print a table of all classes")
    interval: str = option(
        "wilson",
        "method of the 95 % confidence intervals: Wilson's formula, or a bootstrap over "
        "videos or over groups of videos",
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

    part: str = option("test", "part of the split to compare on", PARTS)
    most: int = option(
        10,
        "number of classes with the largest gains to print; the same number of classes with the "
        "largest losses is printed too",
        lowest=0,
        highest=1_000_000,
    )
    out: str = option(
        "",
        "CSV file to write the results of all classes to",
        unset="reports/compare-<first>-<second>.csv in the bank",
    )


@dataclass(frozen=True)
class ScoresOptions(Checked):
    """Options of the command `scores`."""

    GROUPS: ClassVar[dict[str, str]] = {
        "Files": "file to key bank",
        "Rows and classes": "list order classes like scale",
        "Description of the scores": "name dataset split stream part",
    }

    file: str = option(
        "",
        "score file to read: an .npz of reelbank, TSN or CoViAR, or with other arrays; a pickle "
        "of mmaction2; or a CSV",
        positional=True,
    )
    to: str = option(
        "",
        "file to write the scores to; its ending sets the format: .npz (reelbank), .tsn.npz "
        "(TSN) or .csv",
        unset="none, the file is only described",
    )
    key: str = option(
        "", "name of the array to read from an .npz that contains several score arrays"
    )
    list: str = option(
        "", "file with the video names of the rows, one per line, for a score file without names"
    )
    order: str = option(
        "auto",
        "order of the score file's rows: 'list' is the order of LIST, 'sorted' is LIST sorted by "
        "name, 'auto' assumes the order of the tool that wrote the file and checks it against the "
        "labels",
        ORDERS,
    )
    classes: str = option("", "file with the class names, one per line, or UCF's classInd.txt")
    like: str = option(
        "", "run or reelbank score file from which to take video ids, labels, classes and groups"
    )
    scale: str = option(
        "auto",
        "scale of the scores; 'auto' detects the scale: rows that sum to 1 are probabilities, rows "
        "that sum to 100 are percentages, and negative values are logits",
        SCALES,
    )
    name: str = option("", "name of the model that made the scores", unset="the name of the file")
    dataset: str = option("", "data set of the videos")
    split: str = option("", "split of the data set")
    stream: str = option("", "stream that the model takes as input")
    part: str = option(
        "",
        "part of the split that the videos belong to",
        PARTS,
        unset="the part that the file states, otherwise test",
    )
    bank: str = bank_option()
