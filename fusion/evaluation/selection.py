"""Selection of the runs of a bank, and of other score files, for evaluation, comparison and
fusion."""

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reelbank.data.banks import AnyBank, Banks
from reelbank.data.errors import InputError
from reelbank.data.identity import in_file_name
from reelbank.data.scores import table as score_tables
from reelbank.data.scores.held_out import combined, judged, parts_of
from reelbank.data.scores.table import Scores
from reelbank.fusion.evaluation.experiments import FACTS, Entry
from reelbank.fusion.evaluation.names import JOINED
from reelbank.fusion.evaluation.options import Selection
from reelbank.fusion.evaluation.tables import Table, Tables
from reelbank.heads.runs.folder import Run, find_runs, matches, parts_in_run, read_run, read_runs
from reelbank.heads.runs.metrics import RunMetrics


@dataclass(frozen=True)
class Selected:
    """The result of `select`. entries: the selected runs; notes: lines about the runs that are left
    out and the reasons."""

    entries: list[Entry]
    notes: list[str]

    def explained(self, message: str) -> str:
        """The error message followed by the notes, which may explain why too few runs are left."""
        return "; ".join([message, *self.notes])


def select(selection: Selection, part: str, *, judged_at_once: bool = False) -> Selected:
    """The scores of `part` of all selected runs and files.

    judged_at_once: compute the figures of each run while its scores are in memory, for commands
    that use nothing else of most runs. Raises InputError when nothing is left, or a named run does
    not exist or has no such part.
    """
    requested = _requested_facts(selection)
    tables = Tables()
    entries: list[Entry] = []
    notes: list[str] = []
    without_part, damaged = [], []
    for source in _sources(selection, part):
        if not _fits(source.recipe, requested):
            continue
        if not (selection.runs or source.file.exists()):
            without_part.append(source.path.name)
            continue
        try:
            scores = source.read()
        except InputError as error:
            if selection.runs:  # a run selected by name is never left out silently
                raise
            damaged.append(f"a run is left out: {error}")
            continue
        if (recorded := scores.about.get("part", part)) != part:
            raise InputError(
                f"{source.path} contains scores of part '{recorded}'; give scores of part '{part}'"
            )
        scores, lines = judged(scores, part, source.path.name)
        entries.append(_entry(source, tables.table(scores, _read_again(source, part))))
        notes += lines
        if judged_at_once:
            entries[-1].table.judge()
    if not entries:
        raise InputError(_nothing_selected(selection, requested))
    newest_runs = newest(entries)
    notes += newest_runs.notes
    if without_part:
        notes.append(
            f"these runs are left out because they have no scores of part '{part}': "
            f"{', '.join(without_part)}"
        )
    return Selected(newest_runs.entries, notes + damaged)


def _requested_facts(selection: Selection) -> dict[str, str]:
    values = {key: getattr(selection, key, None) for key in FACTS}
    return {key: str(value) for key, value in values.items() if value not in (None, "")}


def _fits(recipe: Mapping[str, Any], requested: Mapping[str, str]) -> bool:
    facts = {key: str(recipe.get(key, "")) for key in requested}
    # a store may be given by the start of its hash
    facts["store"] = facts.get("store", "")[: len(requested.get("store", ""))]
    return matches(facts, **requested)


def _nothing_selected(selection: Selection, requested: Mapping[str, str]) -> str:
    words = [*selection.runs, *(f"{key.upper()}={value}" for key, value in requested.items())]
    what = f" for {' '.join(words)}" if words else ""
    if not selection.banks and not Path(selection.bank).is_dir():
        return (
            f"BANK={selection.bank}: no such folder; give the folder that 'reelbank train' wrote its "
            "runs to, or train a head first"
        )
    folder = selection.searched.shown("runs")
    if not any(read_runs(selection.searched)):
        return f"{folder} contains no run; make one with 'reelbank train'"
    return f"{folder} contains no finished run{what}; 'reelbank runs' lists all runs"


@dataclass(frozen=True)
class _Source:
    """A run, or a file with scores. path: the run's folder, or the file; file: the file with the
    scores; read: reads all of them."""

    path: Path
    file: Path
    recipe: dict[str, Any]
    read: Callable[[], Scores]
    metrics: RunMetrics = field(default_factory=RunMetrics)
    random_networks: tuple[str, ...] = ()


def _entry(source: _Source, table: Table) -> Entry:
    path, networks = source.path, source.random_networks
    return Entry(path.name, path, source.recipe, source.metrics, table, networks)


def _read_again(source: _Source, part: str) -> Callable[[], Scores]:
    """A function that reads the source's scores of the videos of `part`."""
    return lambda: judged(source.read(), part, source.path.name)[0]


def _sources(selection: Selection, part: str) -> Iterator[_Source]:
    """All finished runs, or the named runs in the order in which they are named."""
    if not selection.runs:
        for run in find_runs(selection.searched):
            yield _of_run(run, part)
        return
    words = list(dict.fromkeys(selection.runs))
    names = [word for word in words if Path(word).suffix != ".npz" and not Path(word).is_dir()]
    for name in names:
        if Path(name).suffix and Path(name).is_file():
            raise InputError(
                f"{name}: score files must be .npz files; convert this file with "
                f"'reelbank scores FILE={name} TO=scores.npz'"
            )
    runs = dict(zip(names, find_runs(selection.searched, names), strict=True)) if names else {}
    for word in words:
        path = Path(word)
        if path.suffix == ".npz":
            yield _of_file(path, selection.searched)
        elif path.is_dir():
            yield _of_run(_finished_run(path), part)
        else:
            yield _of_run(runs[word], part)


def _of_run(run: Run, part: str) -> _Source:
    file, read = run.path / f"scores-{part}.npz", functools.partial(run.scores, part)
    return _Source(run.path, file, run.recipe, read, run.metrics, run.random_networks)


def _finished_run(path: Path) -> Run:
    run = read_run(path)
    if not run.finished:
        raise InputError(f"{path}: this run is not finished; run its command again to finish it")
    return run


def _of_file(path: Path, bank: AnyBank) -> _Source:
    about = score_tables.load(path).about
    recipe = {key: about[key] for key in FACTS if key in about}
    name = about.get("name") or about.get("head")
    recipe["head"] = path.stem if not name or name in JOINED else name  # only a run has members
    with path.open("rb") as file:
        recipe["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    return _Source(
        path,
        path,
        recipe,
        lambda: with_parts(score_tables.load(path), bank),
        random_networks=_random_networks(about),
    )


def _random_networks(about: Mapping[str, Any]) -> tuple[str, ...]:
    """The extractors with random weights that a score file, or one of the files fused in it,
    records."""
    names: dict[str, None] = {}
    pending = [about]
    while pending:
        facts = pending.pop()
        recorded = facts.get("random_networks")
        names |= dict.fromkeys(map(str, recorded if isinstance(recorded, list) else ()))
        pending += _members(facts)
    return tuple(names)


def _members(about: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a fused score file records of each member."""
    members = about.get("members")
    return (
        [each for each in members if isinstance(each, Mapping)] if isinstance(members, list) else []
    )


def with_parts(scores: Scores, bank: AnyBank) -> Scores:
    """The table with the part of each video.

    Early versions of `predict` did not record parts, but the files name their runs. If these runs
    are still in the bank, the parts are taken from their scores. Otherwise the table is returned
    unchanged.
    """
    if parts_of(scores):
        return scores
    abouts = _members(scores.about) or [scores.about]
    parts_by_run = [_parts_by_run(about, bank) for about in abouts]
    if not all(parts_by_run):
        return scores
    parts = [
        combined(parts.get(video, "none") for parts in parts_by_run) for video in scores.video_ids
    ]
    return replace(scores, parts=tuple(parts))


def _parts_by_run(about: Mapping[str, Any], bank: AnyBank) -> dict[str, str]:
    """The part of each video in the run that a table names. It is {} if the run is not in the bank
    or is of another data set."""
    name = in_file_name(str(about.get("name", "")))
    paths = [folder / name for folder in Banks.of(bank).below("runs")]
    path = next((path for path in paths if (path / "recipe.json").is_file()), None)
    if path is None:
        return {}
    run = read_run(path)
    return parts_in_run(run) if run.recipe.get("dataset") == about.get("dataset") else {}


def newest(entries: Sequence[Entry]) -> Selected:
    """One entry for each experiment, split and seed. If a store grew between two trainings, there
    are two runs. The run with more videos is kept, or the run that finished last if both have
    equally many."""
    best: dict[tuple[str, ...], Entry] = {}
    for entry in entries:
        key = (entry.experiment, entry.fact("split"), entry.fact("seed"))
        best[key] = max(best[key], entry, key=_recency) if key in best else entry
    kept = list(best.values())
    kept_ids = {id(entry) for entry in kept}
    notes = [
        f"{entry.name} is left out because another run of the same experiment has more "
        "videos or is newer"
        for entry in entries
        if id(entry) not in kept_ids
    ]
    return Selected(kept, notes)


def leak_lines(entries: Iterable[Entry]) -> list[str]:
    """Lines on test videos that are not independent of the training videos, as the runs record
    them."""
    lines: dict[str, None] = {}
    for entry in entries:
        lines |= dict.fromkeys(entry.metrics.leaks or ())
    return list(lines)


def _recency(entry: Entry) -> tuple[int, float]:
    file = entry.path / "metrics.json" if entry.path.is_dir() else entry.path
    return len(entry.table.outline.video_ids), file.stat().st_mtime
