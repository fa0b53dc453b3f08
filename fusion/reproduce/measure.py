"""Our figure for each published number."""

import math
import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from reelbank.data.errors import InputError
from reelbank.fusion.detectors.methods import AUTOENCODER
from reelbank.fusion.evaluation.compare import class_gains, paired
from reelbank.fusion.evaluation.contests import category_means, class_means, mean_figure
from reelbank.fusion.evaluation.experiments import Group, grouped
from reelbank.fusion.evaluation.selection import Selection, select
from reelbank.fusion.metrics import Share, share
from reelbank.fusion.reproduce.comparable import (
    file_count,
    is_comparable,
    is_papers_data,
    whole_data_needed,
)
from reelbank.fusion.reproduce.plan import (
    Cell,
    is_detection,
    is_number,
    named,
    splits_of_cell,
)
from reelbank.fusion.reproduce.work import Work


@dataclass(frozen=True)
class Ours:
    """A figure in the unit of the paper's table, with its 95 % interval (nan where it has none)."""

    value: float
    low: float = math.nan
    high: float = math.nan


def experiments_of(work: Work) -> dict[str, Group]:
    """The runs, on all their splits and seeds, of every model and fusion that a cell names, and of
    the members of fusions."""
    experiments = {}
    for name in dict.fromkeys([*work.cell_names, *work.models, *work.imported]):
        if paths := work.runs.get(name):
            selection = Selection(
                bank=work.options.bank, banks=work.options.banks, runs=tuple(map(str, paths))
            )
            # all runs of a model are one experiment, on several splits and seeds
            (experiments[name],) = grouped(select(selection, "test").entries)
    return experiments


def experiments_of_cell(
    work: Work, cell: Cell, experiments: Mapping[str, Group]
) -> dict[str, Group]:
    """The experiments that a cell names, reduced to the cell's splits. Raises InputError with the
    reason when an experiment does not exist."""
    splits = splits_of_cell(cell, work.known_splits)
    reduced = {}
    for name in named(cell.ours):
        if name not in experiments:
            raise InputError(work.failed.get(name, f"the model {name} was not run"))
        entries = tuple(e for e in experiments[name].entries if e.fact("split") in splits)
        if not entries:
            raise InputError(f"the model {name} has no run on split {' or '.join(splits)}")
        reduced[name] = replace(experiments[name], entries=entries)
    return reduced


def measured(work: Work, cell: Cell, experiments: Mapping[str, Group]) -> Ours:
    """The figure that `cell.ours` describes. Raises InputError with the reason when it cannot be
    computed."""
    if is_detection(cell.ours):
        return _detection(work, cell)
    experiments = experiments_of_cell(work, cell, experiments)
    sides = re.split(r" ([-%]) ", cell.ours)
    if len(sides) == 3:
        left, sign, right = sides
        if sign == "%":
            return _error_reduction(experiments, left, right)
        if is_number(right):
            return _gain_on_published(work, cell, experiments, left, right)
        return _gain(cell, experiments, left, right)
    function, *names = cell.ours.split()
    match function:
        case "range":
            values = [100 * mean_figure(experiments[name]).value for name in names]
            return Ours(max(values) - min(values))
        case "kept" | "worse":
            gains = _class_gains(experiments[names[0]], experiments[names[1]])
            kept = sum(gain >= 0 for gain in gains)
            return Ours(kept if function == "kept" else len(gains) - kept)
        case "sequences":
            return Ours(_sequences(experiments[names[0]], names[1]))
        case "videos":
            (part,) = names
            if part == "all":
                return Ours(file_count(work))
            videos = work.dataset.videos
            return Ours(len({video.path for video in videos if video.parts[:1] == (part,)}))
        case "weight":
            fusion, member = names[:2]
            members = work.recipe["fusions"][fusion]["members"]
            return Ours(work.fusion_weights(fusion)[members.index(member)])
    figure = _figure(cell.ours, experiments)
    if cell.metric == "error_rate":
        return Ours(1 - figure.value, 1 - figure.high, 1 - figure.low)
    return Ours(100 * figure.value, 100 * figure.low, 100 * figure.high)


def _detection(work: Work, cell: Cell) -> Ours:
    """A figure of an anomaly detection, the mean over splits and seeds. Only the AUC of a single
    autoencoder has an interval."""
    function, name, *method = cell.ours.split()
    splits = splits_of_cell(cell, work.known_splits)
    detectors = work.detectors.get(name, {})
    found = [metrics for (split, _), metrics in detectors.items() if split in splits]
    if not found:
        raise InputError(work.failed.get(name, f"the anomaly detection {name} was not run"))
    match function:
        case "auc":
            kind = " ".join(method) or AUTOENCODER
            value = float(np.mean([metrics.auc[kind] for metrics in found]))
            if len(found) > 1 or kind != AUTOENCODER:
                return Ours(value)
            return Ours(value, *found[0].interval)
        case "bottleneck":
            return Ours(statistics.mode(metrics.bottleneck for metrics in found))
        case "alarms":
            shares = [metrics.thresholds[0].false_alarms for metrics in found]
        case _:
            shares = [metrics.thresholds[0].detected for metrics in found]
    return Ours(100 * float(np.mean(shares)))


def _class_gains(first: Group, second: Group) -> list[float]:
    gains = class_gains(paired(first, second))
    return [gain.gain for gain in gains if math.isfinite(gain.gain)]


def _sequences(experiment: Group, part: str) -> int:
    entry = experiment.entries[0]
    sequences = entry.metrics.sequences
    if sequences is None:
        raise InputError(
            f"{entry.name} was trained by an older version, which did not record the "
            "number of sequences; train it again"
        )
    return sequences[part]


def _sign(cell: Cell) -> int:
    """-1 for a loss of points, which is positive if the figure is lower."""
    return -1 if cell.metric == "loss_points" else 1


def _gain_on_published(
    work: Work, cell: Cell, experiments: Mapping[str, Group], left: str, published: str
) -> Ours:
    """A model's figure minus a published number, in points."""
    if not (is_papers_data(work) and is_comparable(work, cell, experiments)):
        raise InputError(whole_data_needed(published))
    figure, sign = _figure(left, experiments), _sign(cell)
    ends = sorted(sign * (100 * end - float(published)) for end in (figure.low, figure.high))
    return Ours(sign * (100 * figure.value - float(published)), *ends)


def _error_reduction(experiments: Mapping[str, Group], left: str, right: str) -> Ours:
    """Relative reduction of the right model's error by the left model, in per cent."""
    first, second = _figure(left, experiments).value, _figure(right, experiments).value
    if second == 1:
        raise InputError(f"{right} makes no errors, so no error reduction can be computed")
    if not {left, right} <= set(experiments):
        return Ours(100 * (first - second) / (1 - second))
    pair = paired(experiments[left], experiments[right])
    value, low, high = pair.error_reduction("groups" if pair.has_groups else "videos")
    return Ours(100 * value, 100 * low, 100 * high)


def _gain(cell: Cell, experiments: Mapping[str, Group], left: str, right: str) -> Ours:
    """The left model's figure minus the right model's, in points."""
    sign = _sign(cell)
    # a paired interval exists only for whole models, not for a class or a category
    if not {left, right} <= set(experiments):
        first, second = _figure(left, experiments).value, _figure(right, experiments).value
        return Ours(sign * 100 * (first - second))
    pair = paired(experiments[left], experiments[right])
    difference = pair.difference("groups" if pair.has_groups else "videos")
    ends = sorted(sign * 100 * end for end in (difference.low, difference.high))
    return Ours(sign * 100 * difference.value, *ends)


def _figure(ours: str, experiments: Mapping[str, Group]) -> Share:
    """The share in [0, 1], with its interval, of a model, "model top5", "model class Name" or
    "model group Category"."""
    name, kind, of = ([*ours.split(" ", 2), "", ""])[:3]
    experiment = experiments[name]
    if kind in ("", "top5"):
        return mean_figure(experiment, 5 if kind else 1).share
    first = experiment.entries[0]
    classes, videos = first.table.outline.classes, first.table.class_figures.videos
    if kind == "class":
        if of not in classes:
            raise InputError(f"the data has no class {of}")
        number = classes.index(of)
        return share(float(class_means(experiment)[number]), int(videos[number]))
    means = category_means(experiment, first.coarse)
    if of not in means:
        raise InputError(f"the data has no class of category {of}")
    members = [classes.index(name) for name in first.coarse[of]]
    return share(means[of], int(videos[members].sum()))
