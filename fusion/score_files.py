"""Command `scores`: what a file of scores holds; other tools' scores into ours, and ours into theirs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelbank.data import scores as score_tables
from reelbank.data.errors import InputError
from reelbank.data.recipe import option
from reelbank.data.score_formats import SCALES, as_table, read_names, read_scores, write_scores
from reelbank.data.scores import Scores
from reelbank.data.shelf import printable
from reelbank.fusion.metrics import accuracy
from reelbank.heads.runs import PARTS, find_runs, read_run, written_to


@dataclass(frozen=True)
class ScoresOptions:
    """Options of the command `scores`."""

    file: str = option("", "a file of scores: ours or an npz of arrays, TSN's npz, mmaction2's pickle of results, a CSV")
    to: str = option("", "write it here: .npz (ours), .tsn.npz or .csv; without it the file is only described")
    key: str = option("", "which of several score arrays of an npz")
    list: str = option("", "file with the rows' videos, one a line, where the file has no names")
    classes: str = option("", "file with the classes' names, one a line (UCF's classInd.txt too)")
    like: str = option("", "a run or score file of ours whose video ids, labels, classes and groups are taken")
    scale: str = option(
        "auto", "what its numbers are; probabilities become their logarithms; auto: rows that sum to 1 are", SCALES
    )
    name: str = option("", "what the model is called (default: the file's name)")
    dataset: str = option("", "data set that the scores are of")
    split: str = option("", "split that they are of")
    stream: str = option("", "stream that the model saw")
    part: str = option("test", "part of the split", PARTS)
    bank: str = option("bank", "folder that holds stores, runs and reports")


def score_file(options: ScoresOptions) -> int:
    """Describe the file, and write it in another form when TO is given; returns the exit code. Raises InputError for a file
    that is none, or whose videos or classes are not known."""
    if not options.file:
        raise InputError("FILE= is not given: a file of scores")
    like = _like(options) if options.like else None
    path = Path(options.file)
    if _is_ours(path):
        table, form, taken = score_tables.load(path), "Reelbank's npz", "logits"
    else:
        found = read_scores(path, options.key)
        names = read_names(options.list, "LIST") if options.list else []
        classes = read_names(options.classes, "CLASSES") if options.classes else []
        stem = f"{path.name.partition('.')[0]}-{options.key}" if options.key else path.name.partition(".")[0]
        about: dict[str, Any] = {"name": options.name or stem, "part": options.part}
        about |= {key: value for key in ("dataset", "split", "stream") if (value := getattr(options, key))}
        if like is not None:
            about = {key: like.about[key] for key in ("dataset", "split", "coarse") if key in like.about} | about
        table, taken = as_table(found, names, classes, like, options.scale, about)
        form = found.form
    known = int((table.labels >= 0).sum()) if not table.multilabel else len(table.labels)
    judged = f", top-1 {100 * accuracy(table).value:.2f} %" if known and not table.multilabel else ""
    grouped = f", {len(set(table.groups))} groups" if table.groups else ""
    described = f"{len(table.video_ids)} videos ({known} labelled{grouped}), {len(table.classes)} classes"
    print(printable(f"{path}: {form}, {taken}, {described}{judged}"))
    if options.to:
        with written_to("TO", options.to):
            write_scores(table, options.to)
        print(printable(f"written: {options.to}"))
    return 0


def _is_ours(path: Path) -> bool:
    """Whether a file is one of our tables, by its first member's name: one that is and is damaged is then said to be."""
    if path.suffix != ".npz" or not path.is_file():
        return False
    with path.open("rb") as file:
        return b"format.npy" in file.read(64)


def _like(options: ScoresOptions) -> Scores:
    path = Path(options.like)
    if path.suffix == ".npz":
        return score_tables.load(path)
    run = read_run(path) if path.is_dir() else find_runs(options.bank, [options.like])[0]
    return run.scores(options.part)
