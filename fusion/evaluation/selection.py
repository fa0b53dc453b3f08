"""Selection of the runs of a bank, and of other score files, for evaluation, comparison and
fusion."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reelbank.data.banks import AnyBank, Banks
from reelbank.data.errors import InputError
from reelbank.data.identity import in_file_name
from reelbank.data.scores import table as score_tables
from reelbank.data.scores.held_out import combined, judged, parts_of
from reelbank.data.scores.table import Scores
from reelbank.fusion.evaluation.experiments import FACTS, Entry
from reelbank.fusion.evaluation.options import Selection
from reelbank.heads.runs.folder import Run, find_runs, matches, parts_in_run, read_run, read_runs
from reelbank.heads.runs.metrics import RunMetrics
from reelbank.heads.runs.repetition import experiment


@dataclass(frozen=True)
class Selected:
    """The result of `select`. entries: the selected runs; notes: lines about the runs that are left
    out and the reasons."""

    entries: list[Entry]
    notes: list[str]

    def explained(self, message: str) -> str:
        """The error message followed by the notes, which may explain why too few runs are left."""
        return "; ".join([message, *self.notes])


def select(selection: Selection, part: str) -> Selected:
    """The scores of `part` of all selected runs and files.

    Raises InputError when nothing is left, or a named run does not exist or has no such part.
    """
    requested = _requested_facts(selection)
    entries: list[Entry] = []
    without_part, damaged = [], []
    for run in _candidates(selection):
        if not _fits(run.recipe, requested):
            continue
        if isinstance(run, Entry):
            entries.append(run)
        elif selection.runs:  # a run selected by name is never left out silently
            entries.append(_entry(run, part))
        elif not (run.path / f"scores-{part}.npz").exists():
            without_part.append(run.path.name)
        else:
            try:
                entries.append(_entry(run, part))
            except InputError as error:
                damaged.append(f"a run is left out: {error}")
    if not entries:
        raise InputError(_nothing_selected(selection, requested))
    for entry in entries:
        if (recorded := entry.scores.about.get("part", part)) != part:
            raise InputError(
                f"{entry.path} contains scores of part '{recorded}'; give scores of part '{part}'"
            )
    kept = _rows_of_part(entries, part)
    newest_runs = newest(kept.entries)
    notes = kept.notes + newest_runs.notes
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
    folder = selection.searched.shown("runs")
    if not any(read_runs(selection.searched)):
        return f"{folder} contains no run; make one with 'reelbank train'"
    return f"{folder} contains no finished run{what}; 'reelbank runs' lists all runs"


def _entry(run: Run, part: str) -> Entry:
    scores = run.scores(part)
    return Entry(run.path.name, run.path, run.recipe, run.metrics, scores, run.random_networks)


def _rows_of_part(entries: Sequence[Entry], part: str) -> Selected:
    """The entries reduced to the videos of `part`."""
    kept, notes = [], []
    for entry in entries:
        scores, lines = judged(entry.scores, part, entry.name)
        kept.append(replace(entry, scores=scores))
        notes += lines
    return Selected(kept, notes)


def _candidates(selection: Selection) -> Iterator[Entry | Run]:
    """All finished runs, or the named runs in the order in which they are named."""
    if not selection.runs:
        yield from find_runs(selection.searched)
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
            yield _from_file(path, selection.searched)
        elif path.is_dir():
            yield _finished_run(path)
        else:
            yield runs[word]


def _finished_run(path: Path) -> Run:
    run = read_run(path)
    if not run.finished:
        raise InputError(f"{path}: this run is not finished; run its command again to finish it")
    return run


def _from_file(path: Path, bank: AnyBank) -> Entry:
    scores = with_parts(score_tables.load(path), bank)
    about = scores.about
    recipe = {key: about[key] for key in FACTS if key in about}
    recipe["head"] = about.get("name") or about.get("head") or path.stem
    recipe["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return Entry(path.name, path, recipe, RunMetrics(), scores)


def with_parts(scores: Scores, bank: AnyBank) -> Scores:
    """The table with the part of each video.

    Early versions of `predict` did not record parts, but the files name their runs. If these runs
    are still in the bank, the parts are taken from their scores. Otherwise the table is returned
    unchanged.
    """
    if parts_of(scores):
        return scores
    abouts = scores.about.get("members", [scores.about])
    parts_by_run = [_parts_by_run(about, bank) for about in abouts if isinstance(about, Mapping)]
    if not parts_by_run or not all(parts_by_run):
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
        key = (experiment(entry.recipe), entry.fact("split"), entry.fact("seed"))
        best[key] = max(best.get(key, entry), entry, key=_recency)
    kept = list(best.values())
    notes = [
        f"{entry.name} is left out because another run of the same experiment has more "
        "videos or is newer"
        for entry in entries
        if entry not in kept
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
    return len(entry.scores.video_ids), file.stat().st_mtime
