"""Late fusion: the scores of several models on the same videos become one table. The command is in fuse.py."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from scipy.stats import rankdata

from reelbank.data.errors import InputError
from reelbank.data.scores import Scores, completed, join, log_probabilities
from reelbank.fusion.metrics import hits, mean_average_precision

MOST_WEIGHTINGS = 1100  # that a search tries
LEAST_SHARE = 0.05  # of equal weights, that a search leaves each member where some lack videos


def weighted_sum(tables: Sequence[Scores], weights: np.ndarray) -> np.ndarray:
    """log of sum_i w_i softmax(z_i), up to a constant for each video: (V, C) float64. Of several labels a video the logit of
    p = sum_i w_i sigmoid(z_i) / sum_i w_i, of each class by itself.

    Softmax and sum are taken in float32, as the field's tools do and published figures of sums imply: where members are so
    sure of different classes that both probabilities round to 1, the sum is a tie and the first class wins.
    """
    if tables[0].multilabel:
        return _logit_of_mean(tables, weights)
    shares = weights.astype(np.float32)[:, :, None]  # (members, V, 1)
    return _relative_log(np.sum([w * _softmax(table.logits) for w, table in zip(shares, tables, strict=True)], axis=0))


def _relative_log(shares: np.ndarray) -> np.ndarray:
    relative = shares.astype(np.float64) / shares.max(axis=1, keepdims=True)  # float64: what differed still differs
    return np.log(np.maximum(relative, np.finfo(np.float32).tiny))


def _logit_of_mean(tables: Sequence[Scores], weights: np.ndarray) -> np.ndarray:
    """log p - log (1 - p), each summed as logarithms, so that probabilities next to 0 or 1 still rank the videos."""
    with np.errstate(divide="ignore"):  # weight 0: its logarithm adds nothing to a sum of exponentials
        shares = np.log(weights)[:, :, None]  # (members, V, 1)
    logits = np.stack([table.logits.astype(np.float64) for table in tables])  # (members, V, C)
    present, absent = (np.logaddexp.reduce(shares - np.logaddexp(0, sign * logits)) for sign in (-1, 1))
    return present - absent


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)  # (V, C) float32


def weighted_product(tables: Sequence[Scores], weights: np.ndarray) -> np.ndarray:
    """log of prod_i softmax(z_i)^w_i, up to a constant for each video: (V, C) float64. Of several labels a video the same of
    each class and its absence, p^w / (p^w + (1 - p)^w), whose logit is the weighted sum of logits."""
    if tables[0].multilabel:
        return weighted_logits(tables, weights)
    return np.sum([w[:, None] * log_probabilities(table) for w, table in zip(weights, tables, strict=True)], axis=0)


def weighted_logits(tables: Sequence[Scores], weights: np.ndarray) -> np.ndarray:
    """sum_i w_i z_i, before any softmax: (V, C) float64. Ranks the classes of a video exactly as weighted_product does."""
    return np.sum([w[:, None] * table.logits.astype(np.float64) for w, table in zip(weights, tables, strict=True)], axis=0)


def geometric_mean(tables: Sequence[Scores], weights: np.ndarray) -> np.ndarray:
    """weighted_product's powers divided by their sum, (V, C) float64: the same answers, as sure of them as one member is."""
    return weighted_product(tables, weights) / weights.sum(axis=0)[:, None]


def weighted_ranks(tables: Sequence[Scores], weights: np.ndarray) -> np.ndarray:
    """log of sum_i w_i b_i, up to a constant for each video: (V, C) float64; b_i is the share of the other classes that member
    i scores lower (Borda's count; equal scores share their ranks), so that how sure it is does not count. Of several labels a
    video the logit of the mean of the videos' ranks within each class, as mean average precision ranks videos."""
    if tables[0].multilabel:
        ranks = np.zeros((len(tables), *tables[0].logits.shape))  # (members, V, C) in (0, 1)
        for number, table in enumerate(tables):
            here = weights[number] > 0  # (V,): what a member lacks is not ranked by it
            ranks[number, here] = rankdata(table.logits[here], axis=0) / (here.sum() + 1)
        mean = (weights[:, :, None] * ranks).sum(axis=0) / weights.sum(axis=0)[:, None]
        return np.log(mean) - np.log1p(-mean)
    others = max(len(tables[0].classes) - 1, 1)
    lower = np.stack([(rankdata(table.logits, axis=1) - 1) / others for table in tables])  # (members, V, C) in [0, 1]
    return _relative_log((weights[:, :, None] * lower).sum(axis=0))


HOWS: dict[str, Callable[[Sequence[Scores], np.ndarray], np.ndarray]] = {
    "sum": weighted_sum,
    "product": weighted_product,
    "logits": weighted_logits,
    "geometric": geometric_mean,
    "rank": weighted_ranks,
}
MISSING = ("refuse", "allow")


def fuse(tables: Sequence[Scores], how: str = "product", weights: Sequence[float] = (), missing: str = "refuse") -> Scores:
    """Join the tables by video id and fuse them (Res-LSTM paper, 3.3: y = y_rgb (+ or *) y_flow on softmax outputs; the
    weighted sum there is how="sum", weights 1.5 for flow and 1 for RGB).

    weights: one for each table, 0 or above and not all 0; all 1 when not given. missing="allow": a table that lacks a video
    (one without sound) takes no part in it; means are over the tables that have it. softmax(logits) of the result (sigmoid, of
    several labels a video) is the fused distribution: for "sum" the weighted mean of the members' distributions, for "product"
    and "logits" the normalised product of their powers, for "geometric" their weighted geometric mean, normalised, for "rank"
    proportional to the mean share of classes beaten. Raises InputError when tables do not hold the same videos, labels,
    classes, data set, split and part, or weights do not fit.
    """
    if how not in HOWS:
        raise InputError(f"HOW={how}: choose from {', '.join(HOWS)}")
    if missing not in MISSING:
        raise InputError(f"MISSING={missing}: choose from {', '.join(MISSING)}")
    used = np.array(weights if len(weights) else [1.0] * len(tables), dtype=np.float64)
    if len(used) != len(tables) or not (np.isfinite(used) & (used >= 0)).all() or not used.any():
        shown = " ".join(f"{weight:g}" for weight in weights)
        raise InputError(f"WEIGHTS={shown}: give {len(tables)} numbers, 0 or above and not all 0, one for each member")
    _check_alike(tables)
    joined, present = _aligned(tables, missing)
    shares = used[:, None] * present  # (members, V)
    if not shares.any(axis=0).all():
        lost = joined[0].video_ids[int(shares.any(axis=0).argmin())]
        raise InputError(f"WEIGHTS: every member that has {lost!r} has weight 0; give one of them more")
    abouts = [table.about for table in tables]
    about = {key: abouts[0][key] for key in abouts[0] if all(other.get(key) == abouts[0][key] for other in abouts)}
    about |= {"head": "fused", "how": how, "weights": used.tolist(), "members": abouts}
    about.pop("signature", None)
    return replace(joined[0], logits=HOWS[how](joined, shares), about=about)


def _aligned(tables: Sequence[Scores], missing: str) -> tuple[list[Scores], np.ndarray]:
    """The tables with the same rows, and which of them have which video, (members, V) bool."""
    joined = join(completed(tables) if missing == "allow" else tables)
    had = [set(table.video_ids) for table in tables]
    return joined, np.array([[video in own for video in joined[0].video_ids] for own in had])


def _check_alike(tables: Sequence[Scores]) -> None:
    """What tables say of themselves must not differ: the same ids may stand for other videos, or be trained on elsewhere."""
    for key in ("dataset", "split", "part"):
        said = dict.fromkeys(str(table.about[key]) for table in tables if table.about.get(key) not in (None, ""))
        if len(said) > 1:
            raise InputError(f"scores of different {key}s ({', '.join(said)}) cannot be fused; fuse those of one {key}")


def weightings(members: int) -> np.ndarray:
    """All weights that a search tries, (count, members) float64, each summing to `members`, so that equal weights are 1: a grid
    over the simplex, of steps of 1/20 of the whole for two or three members, coarser for more. Equal weights are among them
    or come first. Raises InputError when there are too many members for any grid."""
    fits = [parts for parts in (20, 10, 5, 4, 3, 2) if math.comb(parts + members - 1, members - 1) <= MOST_WEIGHTINGS]
    if not fits:
        raise InputError(f"SEARCH=1: {members} members are too many to search weights for; give WEIGHTS or fewer members")
    bars = itertools.combinations(range(fits[0] + members - 1), members - 1)  # stars and bars
    ends = np.array([(-1, *some, fits[0] + members - 1) for some in bars])  # (count, members + 1)
    grid = (np.diff(ends) - 1) * (members / fits[0])
    return np.concatenate([np.ones((1, members)), grid[~np.isclose(grid, 1).all(axis=1)]])


def searched_weights(tables: Sequence[Scores], how: str = "product", missing: str = "refuse") -> list[float]:
    """The weights, of `weightings`, whose fusion of these tables has the highest top-1 accuracy (of several labels a video mean
    average precision); of equals those nearest to equal weights. The tables must be of videos that are neither trained on nor
    tested on. Raises InputError as `fuse` does, and where no video has a label."""
    tried = weightings(len(tables))
    if missing == "allow":  # a video may have no member but the one of weight 0: each gets a little
        tried = LEAST_SHARE + (1 - LEAST_SHARE) * tried
    apart = np.abs(tried - 1).max(axis=1)
    fuse(tables, how, missing=missing)  # refuses what does not fit
    joined, present = _aligned(tables, missing)

    def figure_of(weights: np.ndarray) -> float:
        logits = HOWS[how](joined, weights[:, None] * present)
        one = replace(joined[0], logits=logits)
        return mean_average_precision(one).value if one.multilabel else float(hits(one).mean())

    figures = np.array([figure_of(weights) for weights in tried])
    best = np.flatnonzero(figures >= figures.max() - 1e-12)
    return tried[best[np.argmin(apart[best])]].tolist()
