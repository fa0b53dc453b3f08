"""The command `sweep`. It trains a separate run for every combination of lists of train options,
and prints one table of all combinations."""

import dataclasses
import itertools
import math
import re
import typing
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from reelbank.data.console import counted, print_lines, print_table
from reelbank.data.errors import InputError
from reelbank.data.identity import signature
from reelbank.data.options import parse, words_of
from reelbank.data.store.reader import Store
from reelbank.data.system.cluster import tell_cluster
from reelbank.data.text_files import csv_file
from reelbank.heads.runs.folder import read_run
from reelbank.heads.training.cluster import check_cluster, train_on_cluster
from reelbank.heads.training.job import Job, rows_key, tell_untracked
from reelbank.heads.training.options import TrainOptions, default_of, unused_options
from reelbank.heads.training.planning.plan import RunPlan, plan_runs
from reelbank.heads.training.planning.stores import chosen_stores
from reelbank.heads.training.run import is_finished
from reelbank.heads.training.tracking.session import check_tracker
from reelbank.heads.training.train import check_backbones, train_missing

# VALIDATION is not swept because figures are comparable only on the same validation part.
NOT_SWEPT = (
    *("bank", "banks", "device", "cluster", "workers", "read_from", "track"),
    *("root", "split", "seed", "validation"),
)
MOST_COMBINATIONS = 10_000
_HINTS = typing.get_type_hints(TrainOptions)
# Options whose value is a list. For example, LR_DROPS="8 12" is one value. Splits and seeds are
# repetitions of every combination.
_WHOLE = tuple(name for name, hint in _HINTS.items() if typing.get_origin(hint) is tuple)


@dataclasses.dataclass(frozen=True)
class Combination:
    """One value of every option that is set, by name, and the runs of this combination, one for
    each split and seed."""

    values: dict[str, str]
    plans: list[RunPlan]

    @property
    def runs(self) -> str:
        """The names of its runs. Equivalent combinations have the same names."""
        return " ".join(sorted(plan.path.name for plan in self.plans))


def sweep(options: Any) -> int:
    """Train the missing runs of every combination, print the table and write it as CSV. Returns the
    exit code.

    Raises InputError, before anything is trained, when any of the combinations is impossible.
    """
    train_words = {
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(options)
        if field.name != "to"
    }
    with ExitStack() as stack:
        planned = _Planned(stack)
        for values in combinations(train_words):
            planned.add(values)
        by_runs = {combination.runs: combination for combination in reversed(planned.combinations)}
        different = [
            combination
            for combination in planned.combinations
            if by_runs[combination.runs] is combination
        ]
        _check_used(train_words, different)
        _print_plan(different, planned.jobs.values())
        planned_runs = itertools.chain.from_iterable(combination.plans for combination in different)
        tell_untracked(
            planned.last_options.track, {plan.path: plan for plan in planned_runs}.values()
        )
        for job in planned.jobs.values():
            check_backbones(job.plans, job.stores[0].recipe)
        if planned.last_options.cluster:
            tell_cluster(planned.last_options.cluster)
            train_on_cluster(list(planned.jobs.values()), planned.last_options.cluster)
        else:
            for job in planned.jobs.values():
                train_missing(job, planned.last_options)
    rows = results(different)
    _print_results(rows)
    name = signature({"runs": sorted(by_runs)})[:12]
    path = Path(options.to or Path(options.bank, "sweeps", f"{name}.csv"))
    write_table(path, rows)
    print_lines(f"results written to {path}")
    return 0


class _Planned:
    """All combinations, and the runs to train, grouped by the rows that they are trained on."""

    def __init__(self, stack: ExitStack) -> None:
        self.combinations: list[Combination] = []
        self.jobs: dict[str, Job] = {}
        self.last_options = TrainOptions()  # its options on the machine are not swept
        self._stack = stack
        self._stores: dict[Path, Store] = {}

    def add(self, values: dict[str, str]) -> None:
        """Plan one combination, without the options that have no effect in it."""
        options = parse(TrainOptions, words_of(values), "sweep")
        check_cluster(options)
        check_tracker(options)
        unused = [name for name in unused_options(vars(options)) if name in values]
        options = dataclasses.replace(options, **{name: default_of(name) for name in unused})
        self.last_options = options
        plans = []
        for paths, splits in chosen_stores(options).items():
            stores = [self._open(path) for path in paths]
            plans_of_stores = plan_runs(stores, dataclasses.replace(options, split=splits))
            for plan in plans_of_stores:
                self._wait(plan, stores)
            plans += plans_of_stores
        used = {name: value for name, value in values.items() if name not in unused}
        self.combinations.append(Combination(used, plans))

    def _open(self, path: Path) -> Store:
        if path not in self._stores:
            self._stores[path] = self._stack.enter_context(Store.open(path))
        return self._stores[path]

    def _wait(self, plan: RunPlan, stores: list[Store]) -> None:
        job = self.jobs.setdefault(rows_key(plan), Job(stores, []))
        if not is_finished(plan) and all(plan.path != other.path for other in job.plans):
            job.plans.append(plan)


def _check_used(words: dict[str, str], different: Sequence[Combination]) -> None:
    """Raises InputError for an option that has no effect in any combination."""
    used = set().union(*(combination.values for combination in different))
    for name, text in words.items():
        if text and name not in used:
            raise InputError(
                f"{name.upper()}={text}: has no effect in any of these combinations; omit "
                f"{name.upper()}"
            )


def _print_plan(different: Sequence[Combination], jobs: Iterable[Job]) -> None:
    plans: list[RunPlan] = []
    for combination in different:
        plans += combination.plans
    missing = sum(len(job.plans) for job in jobs)
    print_lines(
        f"{counted(len(different), 'combination')}, {counted(len(plans), 'run')}: "
        f"{len(plans) - missing} already trained, {missing} to train"
    )
    for note in dict.fromkeys(itertools.chain.from_iterable(plan.notes for plan in plans)):
        print_lines(f"note: {note}")


def combinations(words: dict[str, str]) -> list[dict[str, str]]:
    """Every combination of the values of options, {name: value}. The last option varies fastest.
    words: the values of each option as text, "" for an option that is not set. Raises InputError
    for a repeated value."""
    lists: dict[str, list[str]] = {}
    for name, text in words.items():
        if not text:
            continue
        lists[name] = (
            [text] if name in NOT_SWEPT or name in _WHOLE else re.split(r"[\s,]+", text.strip())
        )
        if len(set(lists[name])) < len(lists[name]):
            raise InputError(
                f"{name.upper()}={text} contains the same value twice; give each value once"
            )
    if (count := math.prod(map(len, lists.values()))) > MOST_COMBINATIONS:
        raise InputError(
            f"the options give {count:,} combinations, but at most {MOST_COMBINATIONS:,} "
            "are allowed; give fewer values"
        )
    return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]


def results(different: Sequence[Combination]) -> list[dict[str, Any]]:
    """A row for each combination, the best on validation first. It contains the values, and the
    mean and the sample deviation of the validation and test figures (top-1, or mean average
    precision) over the runs in per cent. `chosen` marks the best combination of each data set.
    Without a validation part nothing is chosen, and rows keep the order of the options."""
    columns = _columns(different)
    rows = [_row(combination, columns) for combination in different]
    if rows and all(row["validation"] is not None for row in rows):
        rows.sort(key=lambda row: (row["dataset"], -row["validation"]))
        best = {row["dataset"]: row for row in reversed(rows)}
        for first in best.values():
            first["chosen"] = "yes"
    return rows


def _columns(different: Sequence[Combination]) -> list[str]:
    """The options that differ between combinations, and always the head."""
    names = dict.fromkeys(
        itertools.chain.from_iterable(combination.values for combination in different)
    )
    columns = []
    for name in names:
        values = {combination.values.get(name) for combination in different} - {None}
        if name not in NOT_SWEPT and (name == "head" or len(values) > 1):
            columns.append(name)
    return columns


def _row(combination: Combination, columns: Sequence[str]) -> dict[str, Any]:
    runs = [read_run(plan.path) for plan in combination.plans]
    row: dict[str, Any] = {"chosen": "", "dataset": runs[0].recipe["dataset"]}
    row |= {name: combination.values.get(name, "-") for name in columns} | {"runs": len(runs)}
    for part in ("validation", "test"):
        row[part], row[f"{part}_deviation"] = _mean([run.metrics.figure(part) for run in runs])
    seconds = round(sum(run.metrics.seconds or 0.0 for run in runs), 1)
    return row | {"seconds": seconds, "names": " ".join(run.path.name for run in runs)}


def _mean(figures: list[float | None]) -> tuple[float | None, float | None]:
    """Mean and sample deviation in per cent. The mean is None if some run has no figure, and the
    deviation is None if there is only one run."""
    values = [100 * value for value in figures if value is not None]
    if not values or len(values) < len(figures):
        return None, None
    deviation = round(float(np.std(values, ddof=1)), 2) if len(values) > 1 else None
    return round(float(np.mean(values)), 2), deviation


def _print_results(rows: list[dict[str, Any]]) -> None:
    hidden = ("names",) if len({row["dataset"] for row in rows}) > 1 else ("names", "dataset")
    names = [name for name in rows[0] if name not in hidden and not name.endswith("_deviation")]
    heading = tuple(f"{name} %" if name in ("validation", "test") else name for name in names)
    print_table([heading, *(tuple(_cell(row, name) for name in names) for row in rows)])
    if rows[0]["chosen"]:
        print_lines(
            "the column 'chosen' marks the combination with the best validation result; "
            "test results have no influence on this choice"
        )
    else:
        print_lines("no combination is chosen because not every run has a validation part")


def _cell(row: dict[str, Any], name: str) -> str:
    value, deviation = row[name], row.get(f"{name}_deviation")
    if value is None:
        return "-"
    if name not in ("validation", "test"):
        return str(value)
    return f"{value:.2f}" + (f" ± {deviation:.2f}" if deviation is not None else "")


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the rows as CSV, never partly. The folder is created if necessary."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with csv_file(path) as writer:
        writer.write_records(rows)
