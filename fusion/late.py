"""Late fusion: combines the scores of several models on the same videos into one table. The command
is in fuse.py."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.scores.held_out import fused_parts
from reelbank.data.scores.joining import completed, join
from reelbank.data.scores.table import Scores, log_probabilities
from reelbank.fusion.metrics import hits, mean_average_precision
from reelbank.fusion.options import MISSING

# A search evaluates each weighting on all validation videos.
MOST_WEIGHTINGS = 1100
# A search leaves each member at least this share of an equal weight if some members have no scores
# of some videos. Otherwise a video whose only member has weight 0 could not be scored.
LEAST_SHARE = 0.05


def weighted_sum(tables: Sequence[Scores], weights: np.ndarray) -> np.ndarray:
    """log of sum_i w_i softmax(z_i), up to a constant for each video: (V, C) float64. For
    multi-label data, the logit of p = sum_i w_i sigmoid(z_i) / sum_i w_i for each class.

    Softmax and sum are computed in float32, as in other tools, because their published figures
    depend on it. If members are so confident of different classes that both probabilities round to
    1, the sums are equal and the first class wins.
    """
    if tables[0].multilabel:
        return _logit_of_mean(tables, weights)
    shares = weights.astype(np.float32)[:, :, None]  # (members, V, 1)
    return _relative_log(
        np.sum(
            [w * _softmax(table.logits) for w, table in zip(shares, tables, strict=True)], axis=0
        )
    )


def _relative_log(shares: np.ndarray) -> np.ndarray:
    # float64, so that values that differ in float32 do not become equal
    relative = shares.astype(np.float64) / shares.max(axis=1, keepdims=True)
    return np.log(np.maximum(relative, np.finfo(np.float32).tiny))


def _logit_of_mean(tables: Sequence[Scores], weights: np.ndarray) -> np.ndarray:
    """log p - log (1 - p). Both terms are summed as logarithms, so that probabilities close to 0 or
    1 still rank the videos."""
    # the logarithm of weight 0 is -inf, which adds nothing to a sum of exponentials
    with np.errstate(divide="ignore"):
        shares = np.log(weights)[:, :, None]  # (members, V, 1)
    logits = np.stack([table.logits.astype(np.float64) for table in tables])  # (members, V, C)
    present, absent = (
        np.logaddexp.reduce(shares - np.logaddexp(0, sign * logits)) for sign in (-1, 1)
    )
    return present - absent


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)  # (V, C) float32


def weighted_product(tables: Sequence[Scores], weights: np.ndarray) -> np.ndarray:
    """log of prod_i softmax(z_i)^w_i, up to a constant for each video: (V, C) float64. For
    multi-label data, p^w / (p^w + (1 - p)^w) for each class, whose logit is the weighted sum of
    logits."""
    if tables[0].multilabel:
        return weighted_logits(tables, weights)
    return np.sum(
        [w[:, None] * log_probabilities(table) for w, table in zip(weights, tables, strict=True)],
        axis=0,
    )


def weighted_logits(tables: Sequence[Scores], weights: np.ndarray) -> np.ndarray:
    """sum_i w_i z_i of the logits before any softmax, (V, C) float64. It ranks the classes of a
    video exactly as weighted_product does."""
    return np.sum(
        [
            w[:, None] * table.logits.astype(np.float64)
            for w, table in zip(weights, tables, strict=True)
        ],
        axis=0,
    )


def geometric_mean(tables: Sequence[Scores], weights: np.ndarray) -> np.ndarray:
    """The powers of weighted_product divided by their sum, (V, C) float64. It predicts the same
    classes as weighted_product, with the confidence of a single member."""
    return weighted_product(tables, weights) / weights.sum(axis=0)[:, None]


def weighted_ranks(tables: Sequence[Scores], weights: np.ndarray) -> np.ndarray:
    """log of sum_i w_i b_i, up to a constant for each video: (V, C) float64; b_i is the share of
    the other classes that member i scores lower (Borda's count; equal scores share their ranks), so
    confidence does not matter. For multi-label data, the logit of the mean of the videos' ranks
    within each class, as mean average precision ranks videos."""
    from scipy.stats import rankdata  # loading it takes 0.7 s

    if tables[0].multilabel:
        ranks = np.zeros((len(tables), *tables[0].logits.shape))  # (members, V, C) in (0, 1)
        for number, table in enumerate(tables):
            scored = weights[number] > 0  # (V,), False for videos that the member has no scores of
            ranks[number, scored] = rankdata(table.logits[scored], axis=0) / (scored.sum() + 1)
        mean = (weights[:, :, None] * ranks).sum(axis=0) / weights.sum(axis=0)[:, None]
        return np.log(mean) - np.log1p(-mean)
    others = max(len(tables[0].classes) - 1, 1)
    lower = np.stack(
        [(rankdata(table.logits, axis=1) - 1) / others for table in tables]
    )  # (members, V, C) in [0, 1]
    return _relative_log((weights[:, :, None] * lower).sum(axis=0))


HOWS: dict[str, Callable[[Sequence[Scores], np.ndarray], np.ndarray]] = {
    "sum": weighted_sum,
    "product": weighted_product,
    "logits": weighted_logits,
    "geometric": geometric_mean,
    "rank": weighted_ranks,
}


def fuse(
    tables: Sequence[Scores],
    how: str = "product",
    weights: Sequence[float] = (),
    missing: str = "refuse",
) -> Scores:
    """Fuse the scores of several models. The rows of the tables are matched by video id.

    how: the method of fusion. "sum" is the weighted mean of the models' probabilities. "product"
    and "logits" are the normalised product of the probabilities, each raised to the power of its
    weight. "geometric" is the normalised weighted geometric mean of the probabilities. "rank" is
    proportional to the weighted mean, over the models, of the share of classes with a lower score.
    weights: one number for each table, at least 0 and not all 0 (default: all 1). missing: if
    "allow", each video is fused from the tables that contain it. For example, the table of an audio
    model does not contain videos without sound. If "refuse", all tables must contain the same
    videos.

    Returns a table. The fused probabilities are the softmax of its logits, or the sigmoid for
    multi-label data. Raises InputError if the videos, labels, classes, data set, split or part of
    the tables differ, or if the number of weights differs from the number of tables.

    The weighted sum of the Res-LSTM paper (3.3) is how="sum" with weights 1.5 for flow and 1 for
    RGB.
    """
    if how not in HOWS:
        raise InputError(f"HOW={how}: choose from {', '.join(HOWS)}")
    if missing not in MISSING:
        raise InputError(f"MISSING={missing}: choose from {', '.join(MISSING)}")
    used = np.array(weights if len(weights) else [1.0] * len(tables), dtype=np.float64)
    if len(used) != len(tables) or not (np.isfinite(used) & (used >= 0)).all() or not used.any():
        given = " ".join(f"{weight:g}" for weight in weights)
        raise InputError(
            f"WEIGHTS={given}: give {len(tables)} numbers, one for each member; each must "
            "be at least 0, and at least one must be above 0"
        )
    _check_alike(tables)
    joined, present = _aligned(tables, missing)
    shares = used[:, None] * present  # (members, V)
    if not shares.any(axis=0).all():
        unscored = joined[0].video_ids[int(shares.any(axis=0).argmin())]
        raise InputError(
            f"WEIGHTS: all members with scores for the video {unscored!r} have weight 0; "
            "give at least one of these members a weight above 0"
        )
    abouts = [table.about for table in tables]
    about = {
        key: abouts[0][key]
        for key in abouts[0]
        if all(other.get(key) == abouts[0][key] for other in abouts)
    }
    about |= {"head": "fused", "how": how, "weights": used.tolist(), "members": abouts}
    about.pop("signature", None)
    parts = fused_parts(tables, joined[0].video_ids)
    return replace(joined[0], logits=HOWS[how](joined, shares), about=about, parts=parts)


def _aligned(tables: Sequence[Scores], missing: str) -> tuple[list[Scores], np.ndarray]:
    """The tables with the same rows, and whether each table contains each video, (members, V)
    bool."""
    joined = join(completed(tables) if missing == "allow" else tables)
    had = [set(table.video_ids) for table in tables]
    return joined, np.array([[video in own for video in joined[0].video_ids] for own in had])


def _check_alike(tables: Sequence[Scores]) -> None:
    """Raises InputError when data set, split or part of the tables differ. In that case, equal ids
    may be different videos, or training videos of another split."""
    # tables with parts record for each video whether the model was trained on it
    of_any_split = all(table.parts for table in tables)
    for key in ("dataset", *(() if of_any_split else ("split",)), "part"):
        values = dict.fromkeys(
            str(table.about[key]) for table in tables if table.about.get(key) not in (None, "")
        )
        if len(values) > 1:
            raise InputError(
                f"scores of different {key}s ({', '.join(values)}) cannot be fused; select scores "
                f"of one {key}"
            )


def weightings(members: int) -> np.ndarray:
    """All weightings that a search tries, (count, members) float64. Each weighting sums to
    `members`, so equal weights are 1. The weightings form a grid over the simplex, with steps of
    1/20 of the sum for two or three members and larger steps for more members. Equal weights come
    first. Raises InputError when there are too many members for any grid."""
    fits = [
        parts
        for parts in (20, 10, 5, 4, 3, 2)
        if math.comb(parts + members - 1, members - 1) <= MOST_WEIGHTINGS
    ]
    if not fits:
        raise InputError(
            f"SEARCH=1: {members} members are too many for a search; give WEIGHTS or fewer members"
        )
    bars = itertools.combinations(range(fits[0] + members - 1), members - 1)  # stars and bars
    ends = np.array(
        [(-1, *places, fits[0] + members - 1) for places in bars]
    )  # (count, members + 1)
    grid = (np.diff(ends) - 1) * (members / fits[0])
    return np.concatenate([np.ones((1, members)), grid[~np.isclose(grid, 1).all(axis=1)]])


def searched_weights(
    tables: Sequence[Scores], how: str = "product", missing: str = "refuse"
) -> list[float]:
    """The weights out of `weightings` whose fusion of these tables has the highest top-1 accuracy
    (for multi-label data, the highest mean average precision). If several weightings are equally
    good, the one closest to equal weights is returned. The videos of the tables must be neither
    training nor test videos. Raises InputError as `fuse` does, and when no video has a label."""
    weightings_tried = weightings(len(tables))
    if missing == "allow":
        weightings_tried = LEAST_SHARE + (1 - LEAST_SHARE) * weightings_tried
    fuse(tables, how, missing=missing)  # raises InputError for tables that do not match
    joined, present = _aligned(tables, missing)

    def figure_of(weights: np.ndarray) -> float:
        logits = HOWS[how](joined, weights[:, None] * present)
        fused = replace(joined[0], logits=logits)
        if fused.multilabel:
            return mean_average_precision(fused).value
        return float(hits(fused).mean())

    figures = np.array([figure_of(weights) for weights in weightings_tried])
    best = np.flatnonzero(figures >= figures.max() - 1e-12)
    from_equal = np.abs(weightings_tried[best] - 1).max(axis=1)
    return weightings_tried[best[np.argmin(from_equal)]].tolist()
