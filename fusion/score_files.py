"""Command `scores`: what a file of scores holds; other tools' scores into ours, and ours into theirs."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reelbank.data import scores as score_tables
from reelbank.data.errors import InputError
from reelbank.data.printing import printable
from reelbank.data.recipe import option
from reelbank.data.score_formats import SCALES, as_table, read_names, read_scores, write_scores
from reelbank.data.scores import Scores
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
    part: str = option("", "part of the split (default: test, or what a file of ours says)", PARTS)
    bank: str = option("bank", "folder that holds stores, runs and reports")


def score_file(options: ScoresOptions) -> int:
    """Describe the file, and write it in another form when TO is given; returns the exit code. Raises InputError for a file
    that is none, or whose videos or classes are not known."""
    if not options.file:
        raise InputError("FILE= is not given: a file of scores")
    path = Path(options.file)
    if _is_ours(path):
        table, form, taken = _renamed(score_tables.load(path), options), "Reelbank's npz", "logits"
    else:
        like = _like(options) if options.like else None
        found = read_scores(path, options.key)
        names = read_names(options.list, "LIST") if options.list else []
        classes = read_names(options.classes, "CLASSES") if options.classes else []
        stem = f"{path.name.partition('.')[0]}-{options.key}" if options.key else path.name.partition(".")[0]
        about: dict[str, Any] = {"name": stem, "part": "test"} | _facts(options)
        if like is not None:
            about = {key: like.about[key] for key in ("dataset", "split", "coarse") if key in like.about} | about
        table, taken = as_table(found, names, classes, like, options.scale, about)
        form = found.form
        if like is not None and not (found.classes or classes or (found.labels is not None and (found.labels >= 0).any())):
            print("note: the file names neither classes nor labels; its classes are taken to be in LIKE's order")
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


def _facts(options: ScoresOptions) -> dict[str, str]:
    """What the options say of the scores."""
    return {key: value for key in ("name", "dataset", "split", "stream", "part") if (value := getattr(options, key))}


def _renamed(table: Scores, options: ScoresOptions) -> Scores:
    """A table of ours, with what the options say of it in place of what it says of itself. Raises InputError for options that
    would tell what it says already."""
    told = {name: getattr(options, name) for name in ("key", "list", "classes", "like")}
    if options.scale != "auto":
        told["scale"] = options.scale
    if given := [f"{name.upper()}={value}" for name, value in told.items() if value]:
        raise InputError(f"{given[0]}: {options.file} is a file of ours, it holds its own ids, classes and scale; leave it out")
    facts = _facts(options)
    changed = {key for key, value in facts.items() if key != "name" and table.about.get(key, value) not in (value, "")}
    if changed:
        key = min(changed)
        raise InputError(f"{key.upper()}={facts[key]}: {options.file} says {table.about[key]!r} of itself")
    return replace(table, about=table.about | facts)


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
    return run.scores(options.part or "test")
