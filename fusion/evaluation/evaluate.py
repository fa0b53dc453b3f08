"""The command `evaluate`. It prints the figures of runs, with mean and deviation over splits and
seeds, as a table and writes them as CSV."""

import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reelbank.data.console import percent, print_json, print_lines, table_lines
from reelbank.data.options import check_ending
from reelbank.data.text_files import csv_file
from reelbank.fusion.evaluation.contests import (
    Contest,
    MeanFigure,
    category_means,
    class_means,
    contests,
    counted_classes,
    mean_figure,
)
from reelbank.fusion.evaluation.experiments import FACTS, Entry, Group
from reelbank.fusion.evaluation.options import EvaluateOptions
from reelbank.fusion.evaluation.selection import leak_lines, select
from reelbank.fusion.evaluation.tried import selection, tried_models
from reelbank.fusion.metrics import Share, shares
from reelbank.heads.runs.writing import output_file, written_to

# with five classes or fewer, top-5 accuracy is always 100 %
LEAST_CLASSES_FOR_TOP5 = 6


@dataclass(frozen=True)
class Model:
    """One row of the table: the results of an experiment over its runs, in [0, 1].

    figure: top-1 accuracy, or mean average precision for multi-label data. top5: top-5 accuracy,
    None if there are at most five classes, and for multi-label data. categories: mean accuracy of
    each coarse category. classes: mean accuracy or average precision of each class, nan for a class
    without videos.
    """

    name: str
    runs: tuple[str, ...]
    splits: tuple[str, ...]
    seeds: tuple[str, ...]
    measure: str
    figure: MeanFigure
    top5: MeanFigure | None
    categories: dict[str, float]
    classes: dict[str, float]
    counted_classes: str

    def record(self) -> dict[str, Any]:
        """The figures as a flat JSON-serialisable record, nan as None."""
        numbers = {**asdict(self.figure), "top5": self.top5.value if self.top5 else None}
        facts = {"model": self.name, "splits": list(self.splits), "seeds": list(self.seeds)}
        record = {**facts, "runs": list(self.runs), "measure": self.measure, **numbers}
        record |= {"categories": self.categories, "classes": self.classes}
        return _without_nan(record)


@dataclass(frozen=True)
class ModelTable:
    """The models of one data set and list of classes, the best first. selected: how the highest figure
    was selected (`tried.selection`)."""

    dataset: str
    classes: tuple[str, ...]
    title: str
    measure: str
    chance: float
    multilabel: bool
    models: tuple[Model, ...]
    selected: str = ""

    def rows(self) -> list[tuple[str, ...]]:
        """The cells as text. The first row is the heading."""
        has_top5 = any(model.top5 for model in self.models)
        categories: dict[str, None] = {}  # in the order of their first occurrence
        for model in self.models:
            categories |= dict.fromkeys(model.categories)
        heads = ["model", "runs", "splits", "seeds", "videos", self.measure, "95 % interval"]
        heads += ["top-5"] if has_top5 else []
        heads += list(categories)
        heads += ["classes"] if self.multilabel else []
        rows = [tuple(heads)]
        for model in self.models:
            figure = model.figure
            cells = [model.name, str(len(model.runs))]
            cells += [" ".join(model.splits) or "-", " ".join(model.seeds) or "-"]
            cells += [str(figure.videos), plus_minus(figure)]
            cells += [f"{percent(figure.low)} to {percent(figure.high)}"]
            cells += [plus_minus(model.top5)] if model.top5 else []
            cells += [percent(model.categories.get(name)) for name in categories]
            cells += [model.counted_classes] if self.multilabel else []
            rows.append(tuple(cells))
        return rows

    def class_rows(self) -> list[tuple[str, ...]]:
        """The figures of the classes as text, with a row for each class and a column for each
        model. The first row is the heading."""
        rows = [("class", *(model.name for model in self.models))]
        for name in self.classes:
            rows.append((name, *(percent(model.classes[name]) for model in self.models)))
        return rows


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation. Printing the object shows the tables.

    tables: one table for each data set and list of classes. notes: messages about runs that were
    left out. csv: path of the CSV file that contains the results of every run, None if the bank is
    read-only.
    """

    part: str
    tables: tuple[ModelTable, ...]
    notes: tuple[str, ...]
    csv: Path | None

    def records(self) -> list[dict[str, Any]]:
        """One dictionary for each model, which can be used with pandas.DataFrame or written as JSON."""
        records: list[dict[str, Any]] = []
        for table in self.tables:
            facts = {"dataset": table.dataset, "part": self.part, "chance": table.chance}
            records += [{**facts, **model.record()} for model in table.models]
        return records

    def lines(self, *, per_class: bool = False) -> Iterator[str]:
        """The notes and tables as lines of text."""
        for note in self.notes:
            yield f"note: {note}"
        for table in self.tables:
            figures = "mean average precision" if table.multilabel else "accuracies"
            chance = percent(table.chance)
            selected = f"; the first row is {table.selected}" if table.selected else ""
            yield f"{table.title}, part {self.part}; chance is {chance}; {figures} in %{selected}"
            yield from table_lines(table.rows())
            yield ""
            if per_class:
                yield from table_lines(table.class_rows())
                yield ""
        if self.csv:
            yield f"results of every run as CSV: {self.csv}"
        else:
            yield "the bank is read-only; OUT=<file>.csv writes the results of every run"

    def __str__(self) -> str:
        return "\n".join(self.lines())


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def evaluate(options: EvaluateOptions) -> int:
    """Run the command and print the tables. Returns the exit code."""
    evaluation = evaluate_runs(options)
    if options.json:
        for note in evaluation.notes:
            print_lines(f"note: {note}", file=sys.stderr)
        csv = str(evaluation.csv) if evaluation.csv else None
        print_json({"part": evaluation.part, "csv": csv, "models": evaluation.records()})
    else:
        print_lines(*evaluation.lines(per_class=options.per_class))
    return 0


def evaluate_runs(options: EvaluateOptions) -> Evaluation:
    """Evaluate the selected runs and write every run's figures as CSV. If OUT is not given and the
    bank is read-only, nothing is written.

    Raises InputError when no run matches or the CSV cannot be written.
    """
    check_ending("OUT", options.out, [".csv"])
    selected = select(options, options.part, judged_at_once=True)
    tables = tuple(_table(contest, options) for contest in contests(selected.entries))
    out = output_file(options.out, Path(options.bank, "reports", f"evaluation-{options.part}.csv"))
    if out:
        with written_to("OUT", out):
            write_csv(out, selected.entries, options.part)
    notes = (*selected.notes, *leak_lines(selected.entries))
    return Evaluation(options.part, tables, notes, out)


def _table(contest: Contest, options: EvaluateOptions) -> ModelTable:
    tried = tried_models(options.searched, contest, options.part)
    return ModelTable(
        dataset=contest.dataset,
        classes=contest.classes,
        title=contest.title,
        measure=contest.measure,
        chance=contest.chance,
        multilabel=contest.multilabel,
        models=tuple(_model(contest, group, options.interval) for group in contest.groups),
        selected=selection(len(contest.groups), tried, options.part),
    )


def _model(contest: Contest, group: Group, interval: str) -> Model:
    has_top5 = len(contest.classes) >= LEAST_CLASSES_FOR_TOP5 and not contest.multilabel
    means = category_means(group, contest.coarse)
    return Model(
        name=group.name,
        runs=tuple(entry.name for entry in group.entries),
        splits=group.values("split"),
        seeds=group.values("seed"),
        measure=contest.measure,
        figure=mean_figure(group, 1, interval),
        top5=mean_figure(group, 5) if has_top5 else None,
        categories={name: means.get(name, math.nan) for name in contest.coarse},
        classes=dict(zip(contest.classes, class_means(group).tolist(), strict=True)),
        counted_classes=counted_classes(group) if contest.multilabel else "",
    )


def plus_minus(figure: MeanFigure) -> str:
    """Mean and deviation in per cent. A single run has no deviation."""
    deviation = "" if math.isnan(figure.deviation) else f" ± {percent(figure.deviation)}"
    return percent(figure.value) + deviation


@dataclass(frozen=True)
class RunFigure:
    """One figure of one run, a row of the CSV. measure: "top1", "top5", "category", "class", or a
    calibration measure ("ece", "nll", "brier"); for multi-label data "map", or "ap" of a class; of:
    the class or the category."""

    measure: str
    of: str
    share: Share


def run_figures(entry: Entry) -> list[RunFigure]:
    """All figures of a run. Average precisions and calibration measures have no interval, so its
    ends are nan."""
    table = entry.table
    values, counts = table.class_figures
    present = np.flatnonzero(counts)
    names = [table.outline.classes[number] for number in present]
    values, counts = values[present], counts[present]
    if table.outline.multilabel:
        figures = [RunFigure("map", "", entry.figure)]
        for name, value, count in zip(names, values.tolist(), counts.tolist(), strict=True):
            figures.append(RunFigure("ap", name, Share(value, math.nan, math.nan, count)))
        return figures
    figures = [RunFigure("top1", "", entry.figure), RunFigure("top5", "", table.accuracy(5))]
    for name, right in table.category_accuracies(entry.coarse).items():
        figures.append(RunFigure("category", name, right))
    for name, of_class in zip(names, shares(values, counts), strict=True):
        figures.append(RunFigure("class", name, of_class))
    sureness = table.calibration
    for name in ("ece", "nll", "brier"):
        value = getattr(sureness, name)
        figures.append(RunFigure(name, "", Share(value, math.nan, math.nan, entry.figure.videos)))
    return figures


def write_csv(path: Path, entries: Iterable[Entry], part: str) -> None:
    """Write every figure of every run to `path`, one per row. A row contains the run's facts, the
    measure, its class or category, the value in [0, 1], the ends of the 95 % interval (empty if it
    has none) and the number of videos. The folder is created if necessary."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with csv_file(path) as writer:
        writer.writerow(("run", *FACTS, "part", "measure", "of", *Share._fields))
        for entry in entries:
            facts = (entry.name, *(entry.fact(key) for key in FACTS), part)
            writer.after(facts).write_numbers(
                ((figure.measure, figure.of), figure.share) for figure in run_figures(entry)
            )
