"""The output of `train`, which is a line for each finished run and the table of all runs."""

import itertools

import numpy as np
from tqdm import tqdm

from reelbank.data.console import percent, print_lines, print_table, printable
from reelbank.data.scores.average_precision import mean_average_precision
from reelbank.data.scores.table import Scores
from reelbank.data.scores.top_k import places_of_true
from reelbank.heads.runs.folder import Run
from reelbank.heads.runs.metrics import PARTS, PartMetrics


def part_metrics(scores: Scores) -> PartMetrics:
    """The figures of a part; top-5 among all C classes if C < 5."""
    if scores.multilabel:
        value, counted, without = mean_average_precision(scores.labels, scores.logits)
        return PartMetrics(
            len(scores.labels),
            map=value if counted else None,
            classes_counted=counted,
            classes_without=without,
        )
    labelled = scores.labels >= 0
    return metrics_of(places_of_true(scores.logits[labelled], scores.labels[labelled]))


def metrics_of(places: np.ndarray) -> PartMetrics:
    """The figures of single-label data from the number of classes that rank above the true class of
    each labelled video, (V',)."""
    accuracies = [float((places < k).mean()) for k in (1, 5)]
    return PartMetrics(len(places), top1=accuracies[0], top5=accuracies[1])


def print_run(run: Run) -> None:
    """One line for a run that has ended."""
    validation, test = (percent(run.metrics.figure(part)) for part in ("validation", "test"))
    named = f"{run.recipe['head']} split {run.recipe['split']} seed {run.recipe['seed']}"
    judged, took = run.metrics.measure, f"{run.metrics.seconds:.1f} s"
    tqdm.write(
        printable(
            f"{named}: validation {validation} %, test {test} % ({judged}), {took}, {run.path}"
        )
    )


def print_results(runs: list[Run]) -> None:
    """Print a row for each run, then the mean and the deviation of the figures over all runs and
    over the means of the splits."""
    # the same for all runs, because one command trains on one data set
    judged = runs[0].metrics.measure
    lines = [
        (
            "split",
            "seed",
            *(f"{part} {judged} %" for part in PARTS),
            "epochs",
            "best epoch",
            "seconds",
            "run",
        )
    ]
    for run in runs:
        figures = (percent(run.metrics.figure(part)) for part in PARTS)
        ended = map(str, (run.metrics.epochs, run.metrics.best_epoch))
        lines.append(
            (
                run.recipe["split"],
                str(run.recipe["seed"]),
                *figures,
                *ended,
                f"{run.metrics.seconds:.1f}",
                run.path.name,
            )
        )
    print_table(lines)
    for part in ("validation", "test"):
        of_split: dict[str, list[float]] = {}
        for run in runs:
            if (value := run.metrics.figure(part)) is not None:
                of_split.setdefault(run.recipe["split"], []).append(100 * value)
        if of_split:
            print_lines(f"{part} {judged} %: {summary(of_split)}")


def summary(of_split: dict[str, list[float]]) -> str:
    """The mean and the sample deviation over all runs. With several splits, also the deviation of
    the splits' means."""
    every = list(itertools.chain.from_iterable(of_split.values()))
    text = f"mean {np.mean(every):.2f}"
    if len(every) > 1:
        text += f", standard deviation {np.std(every, ddof=1):.2f} over {len(every)} runs"
    if 1 < len(of_split) < len(every):
        means = [np.mean(values) for values in of_split.values()]
        text += f" and {np.std(means, ddof=1):.2f} over the means of {len(means)} splits"
    return text
