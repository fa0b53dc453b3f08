"""What is judged and fused: finished runs of a bank and score files from elsewhere, and which of them are one experiment."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from reelbank.data import scores as score_tables
from reelbank.data.errors import InputError
from reelbank.data.recipe import option, signature
from reelbank.data.scores import Scores, with_classes
from reelbank.fusion.metrics import Share, figure
from reelbank.heads.runs import Run, find_runs, matches, read_run

# Two runs whose recipes differ in nothing but these are the same experiment done again. (`coverage` is a hash over the
# videos of a split's parts, so it differs from split to split.)
REPEATED = ("split", "seed", "coverage", "sha256")
JOINED = ("fused", "svm")  # heads of runs that are made of other runs
FACTS = ("dataset", "stream", "extractor", "store", "head", "split", "seed")


@dataclass(frozen=True)
class Selection:
    """Which runs: those named, or all finished ones of the bank; of these, the ones that match."""

    bank: str = option("bank", "folder that holds stores, runs and reports")
    runs: tuple[str, ...] = option(
        (), "names of runs or starts of their hashes, run folders, score files (.npz)", positional=True
    )
    dataset: str = option("", "only runs on this data set")
    stream: str = option("", "only runs on this stream")
    store: str = option("", "only runs on the store whose hash begins so")
    head: str = option("", "only runs of this head")
    split: str = option("", "only runs of this split")
    seed: int | None = option(None, "only runs of this seed")


@dataclass(frozen=True)
class Entry:
    """One run's scores of one part. recipe: the run's, or what a score file says of itself; metrics: {} for a file."""

    name: str
    path: Path
    recipe: dict[str, Any]
    metrics: dict[str, Any]
    scores: Scores

    def fact(self, key: str) -> str:
        """What recipe or scores say of `key`, as text; "" when they do not say."""
        value = self.recipe.get(key, self.scores.about.get(key))
        return "" if value is None else str(value)

    @cached_property
    def figure(self) -> Share:
        """What the run is judged by: top-1 accuracy, or mean average precision, whose interval takes half a second to find."""
        return figure(self.scores)

    @property
    def coarse(self) -> dict[str, list[str]]:
        """Coarse category -> its classes, for the classes that are here; {} when the data set has none."""
        coarse = self.scores.about.get("coarse") or {}
        here = set(self.scores.classes)
        found = {name: [c for c in classes if c in here] for name, classes in coarse.items()}
        return {name: classes for name, classes in found.items() if classes}


@dataclass(frozen=True)
class Group:
    """Repetitions of one experiment: the same recipe on different splits and seeds. label, detail: for people."""

    entries: tuple[Entry, ...]
    label: str
    detail: str

    @property
    def multilabel(self) -> bool:
        """Whether a video has any number of classes."""
        return self.entries[0].scores.multilabel

    @property
    def videos(self) -> int:
        """How many different videos the runs judge together; of several labels a video all, one without any class too."""
        tables = [entry.scores for entry in self.entries]
        known = (table.video_ids if table.multilabel else np.array(table.video_ids)[table.labels >= 0] for table in tables)
        return len({video for some in known for video in some})

    def values(self, key: str) -> list[str]:
        """The different values of a fact, in order."""
        return sorted({entry.fact(key) for entry in self.entries} - {""}, key=lambda text: (len(text), text))


def select(selection: Selection, part: str) -> tuple[list[Entry], list[str]]:
    """The scores of `part` of everything selected, and lines on the runs that are left out, and why.

    Raises InputError when nothing is left, a named run does not exist or has no such part.
    """
    wanted = {key: str(value) for key in FACTS if (value := getattr(selection, key, None)) not in (None, "")}
    entries: list[Entry] = []
    without, damaged = [], []
    for found in _named(selection) if selection.runs else find_runs(selection.bank):
        recipe = found.recipe
        facts = {key: str(recipe.get(key, "")) for key in wanted}
        facts["store"] = facts.get("store", "")[: len(wanted.get("store", ""))]
        if not matches(facts, **wanted):
            continue
        if isinstance(found, Entry):
            entries.append(found)
        elif selection.runs or (found.path / f"scores-{part}.npz").exists():
            try:
                entries.append(Entry(found.path.name, found.path, recipe, found.metrics, found.scores(part)))
            except InputError as error:
                if selection.runs:
                    raise
                damaged.append(f"left out: {error}")
        else:
            without.append(found.path.name)
    for entry in entries:
        if (said := entry.scores.about.get("part", part)) != part:
            raise InputError(f"{entry.path}: scores of part '{said}', not of part '{part}'")
    if not entries:
        what = " ".join([*selection.runs, *(f"{key.upper()}={value}" for key, value in wanted.items())])
        raise InputError(
            f"no finished run{' for ' + what if what else ''} in {Path(selection.bank, 'runs')}; see 'reelbank runs'"
        )
    kept, notes = newest(entries)
    if without:
        notes.append(f"left out, having no scores of part '{part}': {', '.join(without)}")
    return kept, notes + damaged


def _named(selection: Selection) -> list[Entry | Run]:
    found: list[Entry | Run] = []
    for word in dict.fromkeys(selection.runs):
        path = Path(word)
        if path.suffix == ".npz":
            found.append(_from_file(path))
        elif path.is_dir():
            run = read_run(path)
            if not run.finished:
                raise InputError(f"{path}: this run is not finished; the command that began it goes on with it")
            found.append(run)
        else:
            found += find_runs(selection.bank, [word])
    return found


def _from_file(path: Path) -> Entry:
    scores = score_tables.load(path)
    about = scores.about
    recipe = {key: about[key] for key in FACTS if key in about}
    recipe["head"] = about.get("name") or about.get("head") or path.stem
    recipe["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return Entry(path.name, path, recipe, {}, scores)


def experiment(recipe: Mapping[str, Any]) -> str:
    """Hash of the recipe without split and seed, the same for all repetitions of one experiment, fused ones included."""
    return signature(without_repetition(recipe))


def without_repetition(recipe: Any) -> Any:
    """The recipe less what differs between repetitions of one experiment, at any depth; stores whose weights were trained on
    each split by itself are one family."""
    if isinstance(recipe, Mapping):
        repeated = (*REPEATED, "store", "stores") if "store_family" in recipe else REPEATED
        return {key: without_repetition(value) for key, value in recipe.items() if key not in repeated}
    return [without_repetition(value) for value in recipe] if isinstance(recipe, list | tuple) else recipe


def newest(entries: Sequence[Entry]) -> tuple[list[Entry], list[str]]:
    """One entry for each experiment, split and seed, and lines on the others: a store that grew between two trainings
    leaves two runs. The one that judges more videos is kept, of equals the one finished last."""
    best: dict[tuple[str, ...], Entry] = {}
    for entry in entries:
        key = (experiment(entry.recipe), entry.fact("split"), entry.fact("seed"))
        best[key] = max(best.get(key, entry), entry, key=_recency)
    kept = list(best.values())
    left = [f"{entry.name} is left out: the same was run again on other videos" for entry in entries if entry not in kept]
    return kept, left


def _recency(entry: Entry) -> tuple[int, float]:
    file = entry.path / "metrics.json" if entry.path.is_dir() else entry.path
    return len(entry.scores.video_ids), file.stat().st_mtime


def grouped(entries: Iterable[Entry]) -> list[Group]:
    """The entries as experiments, in order of first appearance, each labelled by head and features and, where these do
    not tell two apart, by the options in which they differ; classes in the order of a group's first. Raises InputError where
    the entries of one experiment have others."""
    together: dict[str, list[Entry]] = {}
    for entry in entries:
        together.setdefault(experiment(entry.recipe), []).append(entry)
    groups = list(together.values())
    names = [(title(group[0].recipe), features(group[0].recipe)) for group in groups]
    made = []
    for group, name in zip(groups, names, strict=True):
        alike = [_flat(without_repetition(other[0].recipe)) for other, n in zip(groups, names, strict=True) if n == name]
        own = _flat(without_repetition(group[0].recipe))
        differing = [key for key in own if any(other.get(key) != own[key] for other in alike)]
        detail = ", ".join(f"{key.rpartition('.')[2]} {_short(own[key])}" for key in differing)
        ordered = sorted(group, key=lambda e: (len(e.fact("split")), e.fact("split"), len(e.fact("seed")), e.fact("seed")))
        classes = ordered[0].scores.classes
        entries = tuple(replace(entry, scores=with_classes(entry.scores, classes)) for entry in ordered)
        made.append(Group(entries, " ".join(filter(None, name)), detail))
    return made


def in_order(entries: Iterable[Entry]) -> list[Entry]:
    """Sorted by what people see of them, never by hashes: weights go by this order."""
    return sorted(entries, key=lambda entry: (title(entry.recipe), features(entry.recipe), experiment(entry.recipe)))


def by_repetition(entries: Sequence[Entry]) -> dict[tuple[str, str], list[Entry]]:
    """(split, seed) -> one entry of every member, members in order of first appearance. A score file that does not say
    its split or seed belongs to all. Raises InputError when a member is missing or there twice."""
    if len(datasets := sorted({entry.fact("dataset") for entry in entries} - {""})) > 1:
        raise InputError(f"runs of different data sets ({', '.join(datasets)}) do not go together; give DATASET=...")
    members = list(dict.fromkeys(experiment(entry.recipe) for entry in entries))
    splits = sorted({entry.fact("split") for entry in entries} - {""}) or [""]
    seeds = sorted({entry.fact("seed") for entry in entries} - {""}) or [""]
    buckets: dict[tuple[str, str], list[Entry]] = {}
    for split in splits:
        for seed in seeds:
            here = [e for e in entries if e.fact("split") in (split, "") and e.fact("seed") in (seed, "")]
            if not any((e.fact("split"), e.fact("seed")) == (split, seed) for e in here):
                continue
            for member in members:
                fits = [entry for entry in here if experiment(entry.recipe) == member]
                if len(fits) != 1:
                    one = next(entry for entry in entries if experiment(entry.recipe) == member)
                    where = f"split {split or '-'}, seed {seed or '-'}"
                    found = f"{len(fits)} times there" if fits else "not there"
                    raise InputError(
                        f"{where}: {title(one.recipe)} {features(one.recipe)} (as {one.name}) is {found}; every member needs "
                        "one run of the same split and seed, give SPLIT= and SEED= or name the runs"
                    )
                buckets.setdefault((split, seed), []).append(fits[0])
    return buckets


def title(recipe: Mapping[str, Any]) -> str:
    """What the model is, for people: the head's name, or how a fusion joins its members."""
    if recipe.get("head") not in JOINED:
        return str(recipe.get("head", ""))
    names = [title(member) for member in recipe["members"]]
    members = ", ".join(names) if len(set(names)) > 1 else f"{len(names)} {names[0]}"
    if recipe["head"] == "svm":
        return f"svm on {members}"
    weights = recipe["weights"]
    if weights == "searched":
        return f"{recipe['how']} of {members} (weights searched)"
    return f"{recipe['how']} of {members}" + (f" ({' '.join(f'{w:g}' for w in weights)})" if len(set(weights)) > 1 else "")


def features(recipe: Mapping[str, Any]) -> str:
    """What the model saw, for people: stream and extractor."""
    extractors = [name.rpartition("/")[2] for name in str(recipe.get("extractor", "")).split("+")]  # a backbone file's name
    return " ".join(filter(None, (str(recipe.get("stream", "")), "+".join(dict.fromkeys(extractors)))))


def _flat(recipe: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in recipe.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def _short(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return signature({"value": value})[:8] if any(isinstance(v, Mapping) for v in value) else " ".join(map(str, value))
    text = str(value)
    return text[:8] if len(text) == 64 else text
