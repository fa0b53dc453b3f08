"""The command `fuse`. It combines the scores of the selected runs for each split and seed and
stores the results as runs of the bank."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reelbank.data.console import counted, print_lines
from reelbank.data.errors import InputError
from reelbank.data.identity import signature
from reelbank.data.scores import held_out
from reelbank.data.scores import table as score_tables
from reelbank.data.scores.joining import completed, join
from reelbank.data.scores.table import Scores
from reelbank.fusion.evaluation.experiments import Entry, by_repetition
from reelbank.fusion.joined_runs import (
    JoinedRow,
    JoinedRuns,
    joined_recipe,
    member_rows,
    select_members,
    write_run,
)
from reelbank.fusion.late import fuse, searched_weights
from reelbank.fusion.metrics import figure
from reelbank.fusion.options import FuseOptions
from reelbank.heads.runs.folder import folder_name, read_runs
from reelbank.heads.runs.metrics import MemberMetrics, RunMetrics
from reelbank.heads.runs.repetition import experiment


def fuse_runs(options: FuseOptions) -> int:
    """Run the command and print the members and the figures. Returns the exit code."""
    print_lines(*make_fused(options).lines())
    return 0


@dataclass(frozen=True)
class Validation:
    """The members' validation scores. tables: [] if a member has none and no search needs them."""

    tables: list[Scores] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def make_fused(options: FuseOptions) -> JoinedRuns:
    """Fuse the test scores of the selected runs, for each split and seed, into runs of the bank.

    Raises InputError for fewer than two models, members that do not match, and options that
    contradict each other.
    """
    members = select_members(options, "a fusion")
    _check_options(options)
    option_weights = list(options.weights or [1.0] * len(members.groups))
    heading = [f"note: {note}" for note in members.notes]
    # `late.fuse` rejects a wrong number of weights
    for weight, name in zip(option_weights, members.names, strict=False):
        heading.append(
            f"weight {'from the search' if options.search else format(weight, 'g')}: {name}"
        )
    rows: list[JoinedRow] = []
    folders = []
    for (split, seed), entries in by_repetition(members.entries).items():
        validation = _validation(entries, options)
        heading += [f"note: {note}" for note in validation.notes]
        weights = option_weights
        if options.search:
            _check_unseen(entries, validation.tables)
            weights = searched_weights(validation.tables, options.how, options.missing)
            heading.append(_search_line(split, seed, weights, members.names))
        recipe = _recipe(entries, options, weights, split, seed)
        folder = Path(options.bank, "runs", folder_name(recipe))
        tables = [entry.scores for entry in entries]
        scored = {"test": fuse(tables, options.how, weights, options.missing)}
        if validation.tables:
            scored["validation"] = fuse(validation.tables, options.how, weights, options.missing)
        metrics = RunMetrics(members=_single_figures(entries, weights))
        write_run(folder, recipe, scored, entries, metrics)
        folders.append(folder)
        rows += member_rows(entries, split, seed)
        fused = figure(scored["test"])
        rows.append(
            JoinedRow(split, seed, f"{options.how} of the models above", fused, folder.name)
        )
    heading += _notes_on_weights(options, recipe)
    measure = "mAP" if members.entries[0].table.outline.multilabel else "top-1"
    return JoinedRuns(tuple(folders), tuple(rows), measure, "the fused runs", tuple(heading))


def _notes_on_weights(options: FuseOptions, recipe: Mapping[str, Any]) -> list[str]:
    """A line when the bank has other fusions of the same members: whoever takes the highest has
    selected it on test."""
    members = _members_of(recipe)
    runs, _ = read_runs(options.searched)
    fusions = {
        signature({key: run.recipe.get(key) for key in ("how", "weights", "missing")})
        for run in runs
        if run.finished and run.recipe.get("head") == "fused" and _members_of(run.recipe) == members
    }
    if len(fusions) < 2 or options.search:
        return []
    return [
        f"note: the bank contains {len(fusions)} fusions of these members; if you report "
        "the best one, it was selected on the test part. Use SEARCH=1 to choose the "
        "weights on validation data"
    ]


def _members_of(recipe: Mapping[str, Any]) -> list[str]:
    return [experiment(member) for member in recipe.get("members", [])]


def _check_options(options: FuseOptions) -> None:
    if options.search and options.weights:
        raise InputError("WEIGHTS and SEARCH=1 cannot be given together; omit one of them")
    if options.validation and not options.search:
        raise InputError("VALIDATION is used only with SEARCH=1; give both, or omit VALIDATION")


def _single_figures(
    entries: Sequence[Entry], weights: Sequence[float]
) -> tuple[MemberMetrics, ...]:
    measure = "map" if entries[0].table.outline.multilabel else "top1"
    return tuple(
        MemberMetrics(entry.name, weight, **{measure: entry.figure.value})
        for entry, weight in zip(entries, weights, strict=True)
    )


def _check_unseen(entries: Sequence[Entry], validation: Sequence[Scores]) -> None:
    """Raises InputError when weights would be searched on videos that the fusion is tested on."""
    tested: set[str] = set()
    for entry in entries:
        tested.update(entry.table.outline.video_ids)
    both: dict[str, None] = {}
    for table in validation:
        both |= dict.fromkeys(video for video in table.video_ids if video in tested)
    if both:
        raise InputError(
            "SEARCH=1: the test part also contains "
            f"{counted(len(both), 'validation video')} (for example {next(iter(both))}); "
            "use validation videos that are not in the test part"
        )


def _search_line(split: str, seed: str, weights: Sequence[float], names: Sequence[str]) -> str:
    where = [f"split {split}" if split else "", f"seed {seed}" if seed else ""]
    place = ", ".join(["weights found on validation data", *filter(None, where)])
    pairs = [f"{weight:.3g} {name}" for weight, name in zip(weights, names, strict=True)]
    return f"{place}: {', '.join(pairs)}"


def _validation(entries: Sequence[Entry], options: FuseOptions) -> Validation:
    """Raises InputError when a search needs validation scores that a member does not have, or
    VALIDATION does not match the members that are score files."""
    score_files = [entry for entry in entries if not entry.path.is_dir()]
    if options.search and len(score_files) != len(options.validation):
        raise InputError(
            f"SEARCH=1: {len(score_files)} of the members are score files, but VALIDATION "
            f"names {len(options.validation)} files; give one validation file for each of "
            "these members"
        )
    validation_files = iter(options.validation)
    tables, notes = [], []
    for entry in entries:
        is_run = entry.path.is_dir()
        path = entry.path / "scores-validation.npz" if is_run else Path(next(validation_files, ""))
        if not options.search and not path.is_file():
            return Validation()
        if not path.exists():
            raise InputError(
                f"SEARCH=1: {entry.name} has no validation scores ({path}); give WEIGHTS instead, "
                "or leave this member out"
            )
        table = score_tables.load(path)
        if (part := table.about.get("part", "validation")) != "validation":
            raise InputError(
                f"VALIDATION: {path} must contain scores of part 'validation' (got '{part}')"
            )
        if table.parts:
            table, lines = held_out.judged(table, "validation", str(path))
            notes += lines
        tables.append(table)
    if not options.search:
        try:
            join(tables if options.missing == "refuse" else completed(tables))
        except InputError as error:
            return Validation([], [*notes, f"the fused run has no validation result ({error})"])
    return Validation(tables, notes)


def _recipe(
    members: Sequence[Entry], options: FuseOptions, weights: Sequence[float], split: str, seed: str
) -> dict[str, Any]:
    """The recipe of a fusion. It records a search, but not the weights that the search found, so
    that splits with different weights belong to one experiment. The files that the search reads are
    recorded by hash."""
    settings: dict[str, Any] = {
        "how": options.how,
        "weights": "searched" if options.search else list(weights),
    }
    if options.validation:
        hashes = [hashlib.sha256(Path(name).read_bytes()) for name in options.validation]
        settings["validation"] = [{"sha256": each.hexdigest()} for each in hashes]
    if options.missing != "refuse":
        settings["missing"] = options.missing
    return joined_recipe("fused", members, split, seed) | settings
