"""What is printed of runs: a line as each ends, and the table over all."""

from typing import Any

import numpy as np
from tqdm import tqdm

from reelbank.data.precision import mean_average_precision
from reelbank.data.scores import Scores
from reelbank.data.shelf import print_table
from reelbank.heads.runs import PARTS, Run, figure, measure, percent


def accuracies(scores: Scores | None) -> dict[str, Any] | None:
    """Number of labelled videos, and top-1 and top-5 accuracy in [0, 1] (among all C classes when C < 5); of several labels a
    video mean average precision in [0, 1], over how many classes, and how many were left out for want of a positive."""
    if scores is None:
        return None
    if scores.multilabel:
        value, counted, without = mean_average_precision(scores.labels, scores.logits)
        found = {"videos": len(scores.labels), "map": value if counted else None}
        return found | {"classes_counted": counted, "classes_without": without}
    best = np.argsort(-scores.logits, axis=1, kind="stable")[:, :5]  # (V, 5)
    right = (best == scores.labels[:, None])[scores.labels >= 0]
    return {"videos": len(right), "top1": float(right[:, 0].mean()), "top5": float(right.any(axis=1).mean())}


def print_run(run: Run) -> None:
    """One line for a run that has ended."""
    validation, test = (percent(run.metrics[part]) for part in ("validation", "test"))
    named = f"{run.recipe['head']} split {run.recipe['split']} seed {run.recipe['seed']}"
    judged, took = measure(run.metrics), f"{run.metrics['seconds']:.1f} s"
    tqdm.write(f"{named}: validation {validation} %, test {test} % ({judged}), {took}, {run.path}")


def print_results(runs: list[Run]) -> None:
    """A row for each run, then mean and deviation of the figures over all runs and over the means of the splits."""
    judged = measure(runs[0].metrics)  # the same for all: one command trains on one data set
    lines = [("split", "seed", *(f"{part} {judged} %" for part in PARTS), "epochs", "best", "seconds", "run")]
    for run in runs:
        shown = (percent(run.metrics[part]) for part in PARTS)
        ended = (str(run.metrics[key]) for key in ("epochs", "best_epoch"))
        lines.append(
            (run.recipe["split"], str(run.recipe["seed"]), *shown, *ended, f"{run.metrics['seconds']:.1f}", run.path.name)
        )
    print_table(lines)
    for part in ("validation", "test"):
        of_split: dict[str, list[float]] = {}
        for run in runs:
            if (value := figure(run.metrics[part])) is not None:
                of_split.setdefault(run.recipe["split"], []).append(100 * value)
        if of_split:
            print(f"{part} {judged} %: {summary(of_split)}")


def summary(of_split: dict[str, list[float]]) -> str:
    """Mean and sample deviation over all runs; with several splits also the deviation of their means."""
    every = [value for values in of_split.values() for value in values]
    text = f"mean {np.mean(every):.2f}"
    if len(every) > 1:
        text += f", deviation {np.std(every, ddof=1):.2f} over {len(every)} runs"
    if 1 < len(of_split) < len(every):
        means = [np.mean(values) for values in of_split.values()]
        text += f", {np.std(means, ddof=1):.2f} over the means of {len(means)} splits"
    return text
