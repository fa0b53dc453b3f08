"""Late fusion: the scores of several models on the same videos become one table. Command `fuse`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import reelbank
from reelbank.data import scores as score_tables
from reelbank.data.errors import InputError
from reelbank.data.recipe import option, signature
from reelbank.data.scores import Scores, join, log_probabilities
from reelbank.data.shelf import print_table, printable
from reelbank.fusion.entries import FACTS, Entry, Selection, experiment, features, grouped, select, title
from reelbank.fusion.metrics import Share, accuracy, figure, mean_average_precision
from reelbank.heads.runs import commit, folder_name, write_json


def weighted_sum(tables: Sequence[Scores], weights: np.ndarray) -> np.ndarray:
    """log of sum_i w_i softmax(z_i), up to a constant for each video: (V, C) float64. Of several labels a video the logit of
    p = sum_i w_i sigmoid(z_i) / sum_i w_i, of each class by itself.

    Softmax and sum are taken in float32, as the field's tools do and published figures of sums imply: where members are so
    sure of different classes that both probabilities round to 1, the sum is a tie and the first class wins.
    """
    if tables[0].multilabel:
        return _logit_of_mean(tables, weights)
    total = np.sum([np.float32(weight) * _softmax(table.logits) for weight, table in zip(weights, tables, strict=True)], axis=0)
    relative = total.astype(np.float64) / total.max(axis=1, keepdims=True)  # float64: what differed still differs
    return np.log(np.maximum(relative, np.finfo(np.float32).tiny))


def _logit_of_mean(tables: Sequence[Scores], weights: np.ndarray) -> np.ndarray:
    """log p - log (1 - p), each summed as logarithms, so that probabilities next to 0 or 1 still rank the videos."""
    logits = [table.logits.astype(np.float64) for table in tables]
    present = [np.log(weight) - np.logaddexp(0, -z) for weight, z in zip(weights, logits, strict=True)]  # log w sigmoid(z)
    absent = [np.log(weight) - np.logaddexp(0, z) for weight, z in zip(weights, logits, strict=True)]
    return np.logaddexp.reduce(present) - np.logaddexp.reduce(absent)


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)  # (V, C) float32


def weighted_product(tables: Sequence[Scores], weights: np.ndarray) -> np.ndarray:
    """log of prod_i softmax(z_i)^w_i, up to a constant for each video: (V, C) float64. Of several labels a video the same of
    each class and its absence, p^w / (p^w + (1 - p)^w), whose logit is the weighted sum of logits."""
    if tables[0].multilabel:
        return weighted_logits(tables, weights)
    return np.sum([weight * log_probabilities(table) for weight, table in zip(weights, tables, strict=True)], axis=0)


def weighted_logits(tables: Sequence[Scores], weights: np.ndarray) -> np.ndarray:
    """sum_i w_i z_i, before any softmax: (V, C) float64. Ranks the classes of a video exactly as weighted_product does."""
    return np.sum([weight * table.logits.astype(np.float64) for weight, table in zip(weights, tables, strict=True)], axis=0)


HOWS: dict[str, Callable[[Sequence[Scores], np.ndarray], np.ndarray]] = {
    "sum": weighted_sum,
    "product": weighted_product,
    "logits": weighted_logits,
}


def fuse(tables: Sequence[Scores], how: str = "product", weights: Sequence[float] = ()) -> Scores:
    """Join the tables by video id and fuse them (Res-LSTM paper, 3.3: y = y_rgb (+ or *) y_flow on softmax outputs; the
    weighted sum there is how="sum", weights 1.5 for flow and 1 for RGB).

    weights: one above 0 for each table, all 1 when not given. softmax(logits) of the result (sigmoid, of several labels a
    video) is the fused distribution: for "sum" the weighted mean of the members' distributions, for "product" and "logits" the
    normalised product of their powers. Raises InputError when tables do not hold the same videos, labels and classes, or
    weights do not fit.
    """
    if how not in HOWS:
        raise InputError(f"HOW={how}: choose from {', '.join(HOWS)}")
    used = np.array(weights or [1.0] * len(tables), dtype=np.float64)
    if len(used) != len(tables) or not (np.isfinite(used) & (used > 0)).all():
        raise InputError(f"WEIGHTS={' '.join(map(str, weights))}: give {len(tables)} numbers above 0, one for each member")
    joined = join(tables)
    abouts = [table.about for table in tables]
    about = {key: abouts[0][key] for key in abouts[0] if all(other.get(key) == abouts[0][key] for other in abouts)}
    about |= {"head": "fused", "how": how, "weights": used.tolist(), "members": abouts}
    about.pop("signature", None)
    return Scores(joined[0].video_ids, joined[0].labels, joined[0].classes, HOWS[how](joined, used), about)


@dataclass(frozen=True)
class FuseOptions(Selection):
    """Options of the command `fuse`."""

    how: str = option(
        "product", "what is done with the members' scores: sum and product after softmax, logits before", tuple(HOWS)
    )
    weights: tuple[float, ...] = option(
        (), "one number for each member, in the order the members are printed; all 1 if not given"
    )


def fuse_runs(options: FuseOptions) -> int:
    """Fuse the test scores of the selected runs, split by split and seed by seed, into runs of the bank; the exit code."""
    entries, notes = select(options, "test")
    if not options.runs:  # the order must not hang on hashes: weights go by it
        entries = [entry for entry in entries if options.head == "fused" or entry.recipe["head"] != "fused"]
        entries.sort(key=lambda entry: (title(entry.recipe), features(entry.recipe), experiment(entry.recipe)))
    members = grouped(entries)
    for note in notes:
        print(printable(f"note: {note}"))
    if len(members) < 2:
        raise InputError(f"nothing to fuse: {len(entries)} runs of {len(members)} model; a fusion needs two or more models")
    weights = list(options.weights or [1.0] * len(members))
    for weight, member in zip(weights, members, strict=False):  # a wrong number of weights is refused by fuse
        print(printable(f"weight {weight:g}: {member.label}{', ' + member.detail if member.detail else ''}"))
    measure = "mAP" if entries[0].scores.multilabel else "top-1"
    lines = [("split", "seed", "model", "videos", measure, "95 %", "run")]
    for (split, seed), some in _by_repetition(entries).items():
        fused = fuse([entry.scores for entry in some], options.how, weights)
        recipe = _recipe(some, options.how, weights, split, seed)
        folder = Path(options.bank, "runs", folder_name(recipe))
        of_fused = figure(fused)
        _write(folder, recipe, fused, some, of_fused)
        shown = [(f"{title(entry.recipe)} {features(entry.recipe)}", entry.figure, entry.name) for entry in some]
        for name, right, run in [*shown, (f"{options.how} of these", of_fused, folder.name)]:
            interval = f"{100 * right.low:.2f} to {100 * right.high:.2f}"
            lines.append((split or "-", seed or "-", name, str(right.videos), f"{100 * right.value:.2f}", interval, run))
    print_table(lines)
    return 0


def _by_repetition(entries: Sequence[Entry]) -> dict[tuple[str, str], list[Entry]]:
    """(split, seed) -> one entry of every member, members in order of first appearance. A score file that does not say
    its split or seed belongs to all. Raises InputError when a member is missing or there twice."""
    if len(datasets := sorted({entry.fact("dataset") for entry in entries} - {""})) > 1:
        raise InputError(f"runs of different data sets ({', '.join(datasets)}) cannot be fused; give DATASET=...")
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


def _recipe(members: Sequence[Entry], how: str, weights: Sequence[float], split: str, seed: str) -> dict[str, Any]:
    joined = {key: "+".join(dict.fromkeys(filter(None, (m.fact(key) for m in members)))) for key in FACTS}
    return joined | {
        "head": "fused",
        "split": split,
        "seed": int(seed) if seed.isdecimal() else seed,
        "how": how,
        "weights": list(weights),
        "members": [member.recipe for member in members],
    }


def _write(folder: Path, recipe: dict[str, Any], fused: Scores, members: Sequence[Entry], right: Share) -> None:
    """A run folder as training leaves it, without a checkpoint: metrics.json comes last and makes it a finished one."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {"reelbank": reelbank.__version__, "commit": commit()}
    write_json(folder / "recipe.json", {"signature": signature(recipe), "recipe": recipe, "environment": environment})
    facts = {key: recipe[key] for key in FACTS}
    about = fused.about | facts | {"part": "test", "signature": signature(recipe), "name": folder.name}
    score_tables.save(Scores(fused.video_ids, fused.labels, fused.classes, fused.logits, about), folder / "scores-test.npz")
    measure = "map" if fused.multilabel else "top1"
    singles = [{"run": member.name, measure: member.figure.value} for member in members]
    test: dict[str, Any] = {measure: right.value, "low": right.low, "high": right.high, "videos": right.videos}
    if fused.multilabel:
        _, counted, without = mean_average_precision(fused)
        test |= {"classes_counted": counted, "classes_without": without}
    else:
        test["top5"] = accuracy(fused, 5).value
    write_json(folder / "metrics.json", {"test": test, "members": singles})
