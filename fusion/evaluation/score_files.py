"""The command `scores`. It describes a file of scores, and converts score files between our format
and the formats of other tools."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reelbank.data.console import counted, percent, print_lines
from reelbank.data.errors import InputError
from reelbank.data.scores import table as score_tables
from reelbank.data.scores.conversion import as_table
from reelbank.data.scores.foreign import ForeignScores
from reelbank.data.scores.formats import read_scores
from reelbank.data.scores.joining import rows_of
from reelbank.data.scores.rows import check_names, ordered, read_classes, read_list
from reelbank.data.scores.table import Scores
from reelbank.data.scores.writing import write_scores
from reelbank.fusion.evaluation.options import ScoresOptions
from reelbank.fusion.metrics import accuracy
from reelbank.heads.runs.folder import find_runs, read_run
from reelbank.heads.runs.writing import written_to


@dataclass(frozen=True)
class ScoreFile:
    """A file of scores that was read. form: the format of the file; scale: the scale of its
    numbers; written: the path of the converted file, "" for none."""

    path: Path
    form: str
    scale: str
    scores: Scores
    notes: tuple[str, ...] = ()
    written: str = ""

    def lines(self) -> Iterator[str]:
        """The description as lines of text."""
        for note in self.notes:
            yield f"note: {note}"
        yield f"{self.path}: {self.form}, {self.scale}, {_described(self.scores)}"
        if self.written:
            yield f"written to {self.written}"

    def __str__(self) -> str:
        return "\n".join(self.lines())


def score_file(options: ScoresOptions) -> int:
    """Run the command and print the description. Returns the exit code."""
    print_lines(*read_score_file(options).lines())
    return 0


def read_score_file(options: ScoresOptions) -> ScoreFile:
    """Read the file, and write it in another format if TO is given.

    Raises InputError for a file that does not contain scores, or whose videos or classes are
    unknown.
    """
    if not options.file:
        raise InputError("FILE= (a file of scores) is required")
    path = Path(options.file)
    file = _own_file(path, options) if _is_own(path) else _other_file(path, options)
    if not options.to:
        return file
    with written_to("TO", options.to):
        write_scores(file.scores, options.to)
    return replace(file, written=options.to)


def _own_file(path: Path, options: ScoresOptions) -> ScoreFile:
    return ScoreFile(path, "Reelbank's npz", "logits", _renamed(score_tables.load(path), options))


def _other_file(path: Path, options: ScoresOptions) -> ScoreFile:
    """Read a file of another tool."""
    like = _like(options) if options.like else None
    found = read_scores(path, options.key)
    if options.order != "auto" and (found.names or not options.list):
        raise InputError(
            f"ORDER={options.order}: applies only if the score file contains no video "
            "names and LIST= gives them; omit ORDER"
        )
    classes = read_classes(options.classes) if options.classes else []
    rows = _row_names(found, options, like, classes) if options.list else RowNames()
    name = path.name.partition(".")[0] + (f"-{options.key}" if options.key else "")
    about: dict[str, Any] = {"name": name, "part": "test"} | _facts(options)
    if like is not None:
        shared = {key: like.about.get(key) for key in ("dataset", "split", "coarse")}
        about = {key: value for key, value in shared.items() if key in like.about} | about
    table, scale = as_table(found, rows.names, classes, like=like, scale=options.scale, about=about)
    notes = [rows.note] if rows.note else []
    has_labels = found.labels is not None and bool((found.labels >= 0).any())
    if like is not None and not (found.classes or classes or has_labels):
        notes.append(
            "the file contains neither class names nor labels; its classes are assumed "
            "to have the same order as those of LIKE"
        )
    return ScoreFile(path, found.form, scale, table, tuple(notes))


def _described(table: Scores) -> str:
    """Number of videos, classes and groups, and the accuracy on the videos that were held out."""
    labelled = len(table.labels) if table.multilabel else int((table.labels >= 0).sum())
    facts = [f"{labelled} labelled"]
    if table.groups:
        facts.append(counted(len(set(table.groups)), "group"))
    if table.parts:
        counts = [f"{part} {count}" for part, count in Counter(table.parts).most_common()]
        facts.append(f"parts: {', '.join(counts)}")
    videos = f"{counted(len(table.video_ids), 'video')} ({', '.join(facts)})"
    text = f"{videos}, {len(table.classes)} classes"
    held_out = table
    if table.parts:
        learned = ("train", "validation")
        rows = [row for row, part in enumerate(table.parts) if part not in learned]
        held_out = rows_of(table, rows)
    if table.multilabel or not (held_out.labels >= 0).any():
        return text
    text += f", top-1 {percent(accuracy(held_out).value)} %"
    return text + (f" on the {len(held_out.labels)} held-out videos" if table.parts else "")


@dataclass(frozen=True)
class RowNames:
    """The videos of the file's rows, and a note if the order of LIST was inferred."""

    names: Sequence[str] = ()
    note: str = ""


def _row_names(
    found: ForeignScores, options: ScoresOptions, like: Scores | None, classes: Sequence[str]
) -> RowNames:
    """The videos from the file, or from LIST."""
    listed = read_list(options.list)
    if found.names:
        check_names(found.names, found.labels, listed)
        return RowNames(found.names)
    if len(listed.names) != len(found.scores):
        raise InputError(
            f"LIST names {len(listed.names)} videos, but the file has scores of "
            f"{len(found.scores)}; give the list that belongs to the file"
        )
    own = found.classes or classes or (like.classes if like else ())
    listed, note = ordered(
        listed, found.labels, sorts=found.sorts, order=options.order, like=like, classes=own
    )
    return RowNames(listed.names, note)


def _facts(options: ScoresOptions) -> dict[str, str]:
    """The facts about the scores that the options give."""
    names = ("name", "dataset", "split", "stream", "part")
    values = {name: getattr(options, name) for name in names}
    return {name: value for name, value in values.items() if value}


def _renamed(table: Scores, options: ScoresOptions) -> Scores:
    """A table in our format with the facts that the options give. Raises InputError for options
    that contradict the table or that it does not need."""
    given = {name: getattr(options, name) for name in ("key", "list", "classes", "like")}
    for name in ("scale", "order"):
        given[name] = getattr(options, name).removeprefix("auto")
    for name, value in given.items():
        if value:
            raise InputError(
                f"{name.upper()}={value}: {options.file} was written by Reelbank and already "
                f"contains the ids, classes and scale; omit {name.upper()}"
            )
    facts = _facts(options)
    for key in sorted(facts.keys() - {"name"}):
        recorded = table.about.get(key, "")
        if recorded not in (facts[key], ""):
            raise InputError(
                f"{key.upper()}={facts[key]} contradicts {options.file}, which records "
                f"{recorded!r}; omit {key.upper()}"
            )
    return replace(table, about=table.about | facts)


def _is_own(path: Path) -> bool:
    """Whether a file is a table in our format. Only the name of its first member is checked, so
    that a damaged table is reported as damaged."""
    if path.suffix != ".npz" or not path.is_file():
        return False
    with path.open("rb") as file:
        return b"format.npy" in file.read(64)


def _like(options: ScoresOptions) -> Scores:
    path = Path(options.like)
    if path.suffix == ".npz":
        return score_tables.load(path)
    run = read_run(path) if path.is_dir() else find_runs(options.searched, [options.like])[0]
    return run.scores(options.part or "test")
