"""The command `sweep`: every combination of lists of train options, each a run of its own, and one table over all."""

import csv
import dataclasses
import itertools
import re
import typing
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.printing import print_table, printable
from reelbank.data.recipe import canonical, option, parse, signature
from reelbank.data.replacing import replacing
from reelbank.data.store import Store
from reelbank.heads.options import TrainOptions, unused_options
from reelbank.heads.plan import Plan, plan_runs
from reelbank.heads.runs import figure, read_run
from reelbank.heads.stores import chosen_stores
from reelbank.heads.train import check_backbones, is_finished, train_missing

NOT_SWEPT = ("bank", "device", "workers", "read_from", "split", "seed", "validation")  # figures compare on one validation part
_HINTS = typing.get_type_hints(TrainOptions)
# Lists by themselves: LR_DROPS="8 12" is one value. Splits and seeds are repetitions of every combination.
_WHOLE = tuple(name for name, hint in _HINTS.items() if typing.get_origin(hint) is tuple)

# TrainOptions with a list of words for each option.
SweepOptions = dataclasses.make_dataclass(
    "SweepOptions",
    [
        (one.name, str, option("bank" if one.name == "bank" else "", one.metadata["help"]))
        for one in dataclasses.fields(TrainOptions)
    ]
    + [("to", str, option("", "CSV file of the table (default: sweeps/<hash>.csv in the bank)"))],
    frozen=True,
)
SweepOptions.__doc__ = "Options of the command `sweep`: those of `train`, each a list of values."


@dataclasses.dataclass(frozen=True)
class Combination:
    """One value of every option that was given, by name, and the runs it stands for: one for each split and seed."""

    values: dict[str, str]
    plans: list[Plan]


def sweep(options: Any) -> int:
    """Train what is not trained yet of every combination, print the table and write it as CSV; returns the exit code.

    Raises InputError, before anything is trained, when any of the combinations is impossible.
    """
    given = {one.name: getattr(options, one.name) for one in dataclasses.fields(options) if one.name != "to"}
    with ExitStack() as stack:
        opened: dict[Path, Store] = {}
        found: dict[str, Combination] = {}
        jobs: dict[str, tuple[list[Store], list[Plan]]] = {}
        shared = TrainOptions()
        for values in combinations(given):
            wanted = parse(TrainOptions, [f"--{name.replace('_', '-')}={value}" for name, value in values.items()], "sweep")
            dropped = [name for name in unused_options(vars(wanted)) if name in values]
            defaults: dict[str, Any] = {name: TrainOptions.__dataclass_fields__[name].default for name in dropped}
            shared = wanted = dataclasses.replace(wanted, **defaults)
            own = {name: value for name, value in values.items() if name not in dropped}
            plans = []
            for paths, splits in chosen_stores(wanted).items():
                for path in paths:
                    if path not in opened:
                        opened[path] = stack.enter_context(Store.open(path))
                stores = [opened[path] for path in paths]
                some = plan_runs(stores, dataclasses.replace(wanted, split=splits))
                for plan in some:
                    stores_of, waiting = jobs.setdefault(_rows_of(plan), (stores, []))
                    if not is_finished(plan) and all(plan.path != other.path for other in waiting):
                        waiting.append(plan)
                plans += some
            found.setdefault(" ".join(sorted(plan.path.name for plan in plans)), Combination(own, plans))
        used = {name for one in found.values() for name in one.values}
        for name in (name for name, text in given.items() if text and name not in used):
            raise InputError(f"{name.upper()}={given[name]}: is of no use to any of these combinations; leave it out")
        runs = sum(len(one.plans) for one in found.values())
        missing = sum(len(waiting) for _, waiting in jobs.values())
        print(f"{len(found)} combinations, {runs} runs: {runs - missing} there already, {missing} to train")
        for note in dict.fromkeys(note for one in found.values() for plan in one.plans for note in plan.notes):
            print(printable(f"note: {note}"))
        for stores, waiting in jobs.values():
            check_backbones(waiting, stores[0].recipe)
        for stores, waiting in jobs.values():
            if waiting:
                train_missing(waiting, stores, shared)
    rows = results(list(found.values()))
    _show(rows)
    name = signature({"runs": sorted(found)})[:12]
    path = Path(options.to or Path(options.bank, "sweeps", f"{name}.csv"))
    write_table(path, rows)
    print(f"table: {path}")
    return 0


def combinations(given: dict[str, str]) -> list[dict[str, str]]:
    """Every combination of the values of options, {name: value}, the last option's values next to each other. given: name ->
    words; "" is not given. Raises InputError for a value that stands twice."""
    lists: dict[str, list[str]] = {}
    for name, text in given.items():
        if not text:
            continue
        lists[name] = [text] if name in NOT_SWEPT or name in _WHOLE else re.split(r"[\s,]+", text.strip())
        if len(set(lists[name])) < len(lists[name]):
            raise InputError(f"{name.upper()}={text}: the same value twice")
    return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]


def _rows_of(plan: Plan) -> str:
    """What two runs must have in common to be trained on the same features in memory."""
    names = ("store", "mid", "rows", "row_shape", "input_shape", "views")
    return canonical({name: plan.recipe.get(name) for name in names})


def results(found: list[Combination]) -> list[dict[str, Any]]:
    """A row for each combination, the best on validation first: its values, and over its runs mean and sample deviation of the
    validation and test figures (top-1, or mean average precision) in per cent; `chosen` marks the best of each data set.
    Without a validation part nothing is chosen, and rows stand as they were asked for."""
    told = [name for name in dict.fromkeys(name for one in found for name in one.values) if name not in NOT_SWEPT]
    told = [name for name in told if name == "head" or len({one.values.get(name) for one in found} - {None}) > 1]
    rows = []
    for one in found:
        runs = [read_run(plan.path) for plan in one.plans]
        row: dict[str, Any] = {"chosen": "", "dataset": runs[0].recipe["dataset"]}
        row |= {name: one.values.get(name, "-") for name in told} | {"runs": len(runs)}
        for part in ("validation", "test"):
            row[part], row[f"{part}_deviation"] = _mean([figure(run.metrics.get(part)) for run in runs])
        row |= {"seconds": round(sum(run.metrics["seconds"] for run in runs), 1), "names": " ".join(r.path.name for r in runs)}
        rows.append(row)
    if rows and all(row["validation"] is not None for row in rows):
        rows.sort(key=lambda row: (row["dataset"], -row["validation"]))
        for first in {row["dataset"]: row for row in reversed(rows)}.values():
            first["chosen"] = "yes"
    return rows


def _mean(figures: list[float | None]) -> tuple[float | None, float | None]:
    """Mean and sample deviation in per cent; None where not every run has a figure, or there is one run."""
    values = [100 * value for value in figures if value is not None]
    if not values or len(values) < len(figures):
        return None, None
    return round(float(np.mean(values)), 2), round(float(np.std(values, ddof=1)), 2) if len(values) > 1 else None


def _show(rows: list[dict[str, Any]]) -> None:
    hidden = ("names",) if len({row["dataset"] for row in rows}) > 1 else ("names", "dataset")
    names = [name for name in rows[0] if name not in hidden and not name.endswith("_deviation")]
    lines = [tuple(f"{name} %" if name in ("validation", "test") else name for name in names)]
    for row in rows:
        cells = []
        for name in names:
            spread = row.get(f"{name}_deviation")
            shown = "-" if row[name] is None else f"{row[name]:.2f}" if name in ("validation", "test") else str(row[name])
            cells.append(shown + (f" ± {spread:.2f}" if spread is not None else ""))
        lines.append(tuple(cells))
    print_table(lines)
    if rows[0]["chosen"]:
        print("chosen: the best on validation; test figures choose nothing")
    else:
        print("nothing is chosen: not every run has a validation part")


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """The rows as CSV, whole or not at all; its folder is made when it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
