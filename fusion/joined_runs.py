"""Runs that combine other runs. `fuse` and `svm` share this code."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import reelbank
from reelbank.data.console import counted, percent, table_lines
from reelbank.data.errors import InputError
from reelbank.data.identity import signature
from reelbank.data.scores import table as score_tables
from reelbank.data.scores.table import Scores
from reelbank.fusion.evaluation.experiments import (
    FACTS,
    Entry,
    Group,
    grouped,
    in_order,
)
from reelbank.fusion.evaluation.names import JOINED
from reelbank.fusion.evaluation.selection import Selected, Selection, leak_lines, select
from reelbank.fusion.metrics import Share, figure
from reelbank.heads.runs.metrics import PartMetrics, RunMetrics
from reelbank.heads.runs.writing import commit, write_json
from reelbank.heads.training.results import part_metrics, summary


@dataclass(frozen=True)
class JoinedRow:
    """A line of the table, for a member or for the run that combines the members above it. c: C of
    an SVM; train: its figure on the training part."""

    split: str
    seed: str
    model: str
    figure: Share
    run: str
    c: float | None = None
    train: float | None = None


@dataclass(frozen=True)
class JoinedRuns:
    """The result of `fuse` or `svm`. folders: the new runs; rows: the figures of members and new
    runs; heading: lines about the members; mean: the name of the new runs in the line with their
    mean."""

    folders: tuple[Path, ...]
    rows: tuple[JoinedRow, ...]
    measure: str
    mean: str
    heading: tuple[str, ...]

    def records(self) -> list[dict[str, Any]]:
        """The rows as JSON-serialisable records."""
        return [asdict(row) | {"figure": row.figure._asdict()} for row in self.rows]

    def lines(self) -> Iterator[str]:
        """The members and the table as lines of text."""
        yield from self.heading
        has_c = any(row.c is not None for row in self.rows)
        heads = ["split", "seed", "model", "videos", *(["C", "train"] if has_c else [])]
        rows = [(*heads, self.measure, "95 % interval", "run")]
        rows += [self._cells(row, has_c=has_c) for row in self.rows]
        yield from table_lines(rows)
        new_runs = {folder.name for folder in self.folders}
        of_split: dict[str, list[float]] = {}
        for row in self.rows:
            if row.run in new_runs:
                of_split.setdefault(row.split, []).append(100 * row.figure.value)
        if len(self.folders) > 1:
            yield f"test {self.measure} % of {self.mean}: {summary(of_split)}"

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def _cells(self, row: JoinedRow, *, has_c: bool) -> tuple[str, ...]:
        svm_cells: tuple[str, ...] = ()
        if has_c:
            svm_cells = ("-", "-") if row.c is None else (f"{row.c:.3g}", percent(row.train))
        share = row.figure
        interval = f"{percent(share.low)} to {percent(share.high)}"
        facts = (row.split or "-", row.seed or "-", row.model, str(share.videos))
        return (*facts, *svm_cells, percent(share.value), interval, row.run)


@dataclass(frozen=True)
class Members:
    """The models that are combined. Each has a run of every split and seed."""

    entries: list[Entry]
    groups: list[Group]
    notes: list[str]

    @property
    def names(self) -> list[str]:
        return [f"{group.label}, {group.detail}".removesuffix(", ") for group in self.groups]


def select_members(selection: Selection, what: str) -> Members:
    """The selected runs with their test scores. what: "a fusion", "an SVM". Raises InputError for
    fewer than two models."""
    selected = select(selection, "test")
    entries = selected.entries
    if not selection.runs:  # without names, weights are matched to members in this order
        entries = in_order(entry for entry in entries if _may_join(entry, selection))
    groups = grouped(entries)
    if len(groups) < 2:
        selection_size = f"{counted(len(entries), 'run')} of {counted(len(groups), 'model')}"
        message = (
            f"{what} needs two or more models (got {selection_size}); name more runs with RUNS=, "
            "'reelbank runs' lists them"
        )
        raise InputError(Selected(entries, selected.notes).explained(message))
    return Members(entries, groups, selected.notes)


def _may_join(entry: Entry, selection: Selection) -> bool:
    """Whether a run may be a member. Runs that combine other runs are members only if HEAD selects
    them."""
    head = entry.recipe["head"]
    return head not in JOINED or head == selection.head


def member_rows(entries: Sequence[Entry], split: str, seed: str) -> list[JoinedRow]:
    """A row for each member."""
    rows = []
    for entry in entries:
        model = " ".join(entry.names)
        rows.append(JoinedRow(split, seed, model, entry.figure, entry.name))
    return rows


def joined_recipe(head: str, members: Sequence[Entry], split: str, seed: str) -> dict[str, Any]:
    """The part of a recipe that describes the members."""
    facts = {}
    for key in FACTS:
        values = filter(None, (member.fact(key) for member in members))
        facts[key] = "+".join(dict.fromkeys(values))
    families = [str(m.recipe.get("store_family", m.fact("store"))) for m in members]
    if families != [m.fact("store") for m in members]:
        facts["store_family"] = "+".join(dict.fromkeys(families))
    repeated = {"split": split, "seed": int(seed) if seed.isdecimal() else seed}
    return facts | repeated | {"head": head, "members": [member.recipe for member in members]}


def write_run(
    folder: Path,
    recipe: dict[str, Any],
    scored: Mapping[str, Scores],
    members: Sequence[Entry],
    metrics: RunMetrics,
) -> None:
    """Write a run folder like that of a trained head. metrics.json is written last and marks the
    run as finished. scored: the scores by part; metrics: without the parts and the
    leaks, which follow from the other arguments."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").unlink(missing_ok=True)
    environment = {"reelbank": reelbank.__version__, "commit": commit()}
    run_signature = signature(recipe)
    random_networks: dict[str, None] = {}
    for member in members:
        random_networks |= dict.fromkeys(member.random_networks)
    write_json(
        folder / "recipe.json",
        {
            "signature": run_signature,
            "recipe": recipe,
            "random_networks": list(random_networks),
            "environment": environment,
        },
    )
    facts = {key: recipe[key] for key in FACTS}
    parts: dict[str, PartMetrics | None] = {}
    for part, table in scored.items():
        of_run = {"part": part, "signature": run_signature, "name": folder.name}
        about = table.about | facts | of_run
        score_tables.save(replace(table, about=about), folder / f"scores-{part}.npz")
        share = figure(table)
        parts[part] = replace(part_metrics(table), low=share.low, high=share.high)
    metrics = replace(metrics, parts=parts, leaks=tuple(leak_lines(members)))
    write_json(folder / "metrics.json", metrics.to_json())
