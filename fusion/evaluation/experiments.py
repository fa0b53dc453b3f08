"""Runs with their scores, grouped into experiments. The runs of one experiment differ only in split
and seed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from reelbank.data.errors import InputError
from reelbank.data.scores.table import Scores
from reelbank.fusion.evaluation.names import features, flattened, short_value, title
from reelbank.fusion.evaluation.tables import Table
from reelbank.fusion.metrics import Share
from reelbank.heads.runs.metrics import RunMetrics
from reelbank.heads.runs.repetition import experiment, without_repetition

FACTS = ("dataset", "stream", "extractor", "store", "head", "split", "seed")


@dataclass(frozen=True)
class Entry:
    """One run's scores of one part.

    recipe: the run's recipe, or the facts that a score file records; metrics: the run's metrics, empty
    for a score file; table: its scores; random_networks: the extractors of its features that have
    random weights.
    """

    name: str
    path: Path
    recipe: dict[str, Any]
    metrics: RunMetrics
    table: Table
    random_networks: tuple[str, ...] = ()

    def fact(self, key: str) -> str:
        """The value of `key` in the recipe or the scores, as text. It is "" if neither records
        it."""
        value = self.recipe.get(key, self.table.outline.about.get(key))
        return "" if value is None else str(value)

    @property
    def scores(self) -> Scores:
        """The whole table of scores. It may be large, so it should not be kept."""
        return self.table.scores

    @property
    def figure(self) -> Share:
        """Top-1 accuracy, or mean average precision."""
        return self.table.figure

    @cached_property
    def experiment(self) -> str:
        """Hash of the recipe without split and seed."""
        return experiment(self.recipe)

    @cached_property
    def names(self) -> tuple[str, str]:
        """Title and features of the run's model, for people."""
        return title(self.recipe), features(self.recipe, self.random_networks)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The recipe's options by dotted name, without split and seed."""
        return flattened(without_repetition(self.recipe))

    @property
    def coarse(self) -> dict[str, list[str]]:
        """The classes of each coarse category that the scores contain. It is {} if the data set has
        no categories."""
        recorded = self.table.outline.about.get("coarse")
        coarse = recorded if isinstance(recorded, Mapping) else {}
        classes = set(self.table.outline.classes)
        present = {
            name: [member for member in members if isinstance(member, str) and member in classes]
            for name, members in coarse.items()
            if isinstance(members, list)
        }
        return {name: members for name, members in present.items() if members}

    def with_classes(self, classes: Sequence[str]) -> "Entry":
        """The entry with its classes in this order. Raises InputError for other classes."""
        table = self.table.with_classes(classes)
        return self if table is self.table else replace(self, table=table)


@dataclass(frozen=True)
class Group:
    """One experiment: runs of the same recipe on different splits and seeds.

    label: head and features; detail: the options that distinguish it from groups of the same label.
    """

    entries: tuple[Entry, ...]
    label: str
    detail: str

    @property
    def name(self) -> str:
        """The label and the detail as one name."""
        return self.label + (f" ({self.detail})" if self.detail else "")

    @property
    def multilabel(self) -> bool:
        """Whether a video may have several classes."""
        return self.entries[0].table.outline.multilabel

    @property
    def videos(self) -> int:
        """The number of distinct videos that the runs are evaluated on. For multi-label data,
        videos without a class count too."""
        # Runs on the same videos share one tuple of ids.
        lists = {id(ids): ids for ids in (entry.table.evaluated_ids for entry in self.entries)}
        return len(set().union(*lists.values()))

    def values(self, key: str) -> tuple[str, ...]:
        """The distinct values of a fact, sorted."""
        values = {entry.fact(key) for entry in self.entries} - {""}
        return tuple(sorted(values, key=_by_length))

    def stores(self) -> tuple[str, ...]:
        """The identities of the feature stores, without repetition. Fused models and models with mid
        fusion have several."""
        stores: dict[str, None] = {}
        for entry in self.entries:
            mid = entry.recipe.get("mid")
            joined = mid.get("stores") if isinstance(mid, Mapping) else None
            names = joined if isinstance(joined, list) else entry.fact("store").split("+")
            stores |= dict.fromkeys(filter(None, map(str, names)))
        return tuple(stores)


def _by_length(text: str) -> tuple[int, str]:
    """Sort key that places "2" before "10"."""
    return len(text), text


def grouped(entries: Iterable[Entry]) -> list[Group]:
    """The entries grouped into experiments, in the order of first appearance. The entries of a
    group are sorted by split and seed, and their classes have the order of the first entry.

    Raises InputError when the runs of one experiment have different classes.
    """
    by_experiment: dict[str, list[Entry]] = {}
    for entry in entries:
        by_experiment.setdefault(entry.experiment, []).append(entry)
    firsts = [members[0] for members in by_experiment.values()]
    groups = []
    for members in by_experiment.values():
        members.sort(key=lambda e: (_by_length(e.fact("split")), _by_length(e.fact("seed"))))
        classes = members[0].table.outline.classes
        ordered = [entry.with_classes(classes) for entry in members]
        groups.append(Group(tuple(ordered), _label(members[0]), _differences(members[0], firsts)))
    return groups


def _label(entry: Entry) -> str:
    return " ".join(filter(None, entry.names))


def _differences(entry: Entry, others: Sequence[Entry]) -> str:
    """The options in which a recipe differs from others that have the same title and features."""
    namesakes = [other.settings for other in others if other.names == entry.names]
    settings = entry.settings
    differing = [
        key for key in settings if any(other.get(key) != settings[key] for other in namesakes)
    ]
    return ", ".join(f"{key.rpartition('.')[2]} {short_value(settings[key])}" for key in differing)


def in_order(entries: Iterable[Entry]) -> list[Entry]:
    """The entries sorted by title and features. Fusion weights are matched to members in this
    order, so it must not depend on hashes."""
    return sorted(
        entries,
        key=lambda entry: (title(entry.recipe), features(entry.recipe), entry.experiment),
    )


def by_repetition(entries: Sequence[Entry]) -> dict[tuple[str, str], list[Entry]]:
    """One entry of every member for each (split, seed). The members are in the order of first
    appearance. A score file that does not record its split or seed is used for all splits or seeds.

    Raises InputError when a member is missing or occurs twice.
    """
    if len(datasets := sorted({entry.fact("dataset") for entry in entries} - {""})) > 1:
        raise InputError(
            f"the runs use different data sets ({', '.join(datasets)}); select one with DATASET=..."
        )
    members = list(dict.fromkeys(entry.experiment for entry in entries))
    splits = sorted({entry.fact("split") for entry in entries} - {""}) or [""]
    seeds = sorted({entry.fact("seed") for entry in entries} - {""}) or [""]
    repetitions: dict[tuple[str, str], list[Entry]] = {}
    for split in splits:
        for seed in seeds:
            matching = [
                entry
                for entry in entries
                if entry.fact("split") in (split, "") and entry.fact("seed") in (seed, "")
            ]
            if any((e.fact("split"), e.fact("seed")) == (split, seed) for e in matching):
                repetitions[split, seed] = [
                    _only_run(member, matching, entries, split, seed) for member in members
                ]
    return repetitions


def _only_run(
    member: str, matching: Sequence[Entry], entries: Sequence[Entry], split: str, seed: str
) -> Entry:
    """The member's single run of this split and seed."""
    runs = [entry for entry in matching if entry.experiment == member]
    if len(runs) == 1:
        return runs[0]
    example = next(entry for entry in entries if entry.experiment == member)
    name = f"{' '.join(example.names)} (for example the run {example.name})"
    raise InputError(
        f"split {split or '-'}, seed {seed or '-'}: the model {name} has "
        f"{len(runs) or 'no'} runs, but every model needs exactly one run per split and "
        "seed; give SPLIT= and SEED=, or name the runs"
    )
