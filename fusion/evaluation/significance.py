"""The reliability of figures: bootstrap intervals over videos or groups, paired tests of two
models, and calibration."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.scores.joining import join
from reelbank.data.scores.table import Scores, softmax_parts
from reelbank.data.scores.top_k import blocks_of_rows
from reelbank.fusion.bootstrap import MAP_RESAMPLES, RESAMPLES, resample_blocks
from reelbank.fusion.metrics import (
    Z_95,
    Share,
    figure,
    hits,
    labelled,
    normal_interval,
    resampled_map,
)


class Difference(NamedTuple):
    """The first model's figure minus the second's, the ends of its 95 % interval, and the two-sided
    p-value under the hypothesis of no difference."""

    value: float
    low: float
    high: float
    p: float


class McNemar(NamedTuple):
    """The number of videos that only the first or only the second model classifies correctly, and
    the two-sided exact p-value under the hypothesis that both cases are equally likely."""

    only_first: int
    only_second: int
    p: float


class Calibration(NamedTuple):
    """ece: expected calibration error in [0, 1]; nll: mean negative log likelihood, nats; brier:
    mean over videos of the summed squared error of probabilities, in [0, 2]; bins: mean confidence,
    accuracy and number of videos of each bin that has videos, (B, 3)."""

    ece: float
    nll: float
    brier: float
    bins: np.ndarray


def resampled(
    runs: Sequence[Scores], by: str, k: int = 1, *, resamples: int = 0, seed: int = 0
) -> np.ndarray:
    """The mean figure of the runs (top-k accuracy, or mean average precision) in each resample,
    (R,) float64. A video that several runs contain is drawn for all of them at once.

    by: "videos" or "groups". Raises InputError for "groups" when the scores contain none, and when
    no video has a label.
    """
    if by == "groups" and (without := [run for run in runs if not run.groups]):
        name = without[0].about.get("name") or "a model"
        raise InputError(
            f"INTERVAL=groups: the scores of {name} do not contain the videos' groups; train the "
            "model again, import the scores with groups, or give INTERVAL=videos"
        )
    group_of: dict[str, str] = {}
    for run in runs:
        rows = range(len(run.video_ids)) if run.multilabel else np.flatnonzero(labelled(run))
        for row in rows:
            group_of.setdefault(run.video_ids[row], run.groups[row] if by == "groups" else "")
    column_of = {video: number for number, video in enumerate(group_of)}
    default = MAP_RESAMPLES if runs[0].multilabel else RESAMPLES
    means = []
    for counts in resample_blocks(list(group_of.values()), resamples or default, seed):  # (R, V)
        means.append(np.mean([_figures(run, counts, column_of, k) for run in runs], axis=0))
    return np.concatenate(means)


def _figures(run: Scores, counts: np.ndarray, column_of: dict[str, int], k: int) -> np.ndarray:
    """One run's figure in each resample, (R,) float64. In a resample without any of the run's
    videos, it is the run's figure on all its videos."""
    if run.multilabel:
        return resampled_map(run, counts[:, [column_of[video] for video in run.video_ids]])
    right = hits(run, k)  # (V',)
    columns = [column_of[run.video_ids[row]] for row in np.flatnonzero(labelled(run))]
    # (R, V'); float32 for speed: sums of less than 2^24 are exact
    run_counts = counts[:, columns].astype(np.float32)
    drawn = run_counts.sum(axis=1)
    correct = (run_counts @ right.astype(np.float32)).astype(np.float64)
    return np.divide(correct, drawn, out=np.full(len(drawn), right.mean()), where=drawn > 0)


def bootstrap_share(
    runs: Sequence[Scores], by: str = "videos", k: int = 1, *, resamples: int = 0, seed: int = 0
) -> Share:
    """The runs' mean figure with its 95 % bootstrap interval: the percentiles of the resamples, or
    `normal_interval` for mean average precision. For an accuracy of 100 %, this interval has no
    width, unlike the interval by Wilson's formula."""
    values = [figure(run).value if k == 1 else float(hits(run, k).mean()) for run in runs]
    value = float(np.mean(values))
    evaluated: set[str] = set()
    for run in runs:
        evaluated.update(
            run.video_ids if run.multilabel else np.array(run.video_ids)[labelled(run)]
        )
    of_resamples = resampled(runs, by, k, resamples=resamples, seed=seed)
    if runs[0].multilabel:
        return normal_interval(value, of_resamples, len(evaluated))
    low, high = np.quantile(of_resamples, [0.025, 0.975])
    return Share(value, float(low), float(high), len(evaluated))


def paired_bootstrap(
    first: Sequence[Scores],
    second: Sequence[Scores],
    by: str = "videos",
    *,
    resamples: int = 0,
    seed: int = 0,
) -> Difference:
    """The first model's mean figure minus the second's, both on the same resamples. Run i of the
    first model is compared with run i of the second.

    p is twice the share of resamples on the other side of zero. The observed value counts as one
    resample (Davison and Hinkley 1997, 4.2). Raises InputError when the runs are not evaluated on
    the same videos.
    """
    firsts, seconds = _on_same_videos(first, second)
    of_first, of_second = (
        resampled(side, by, resamples=resamples, seed=seed) for side in (firsts, seconds)
    )
    differences = of_first - of_second
    pairs = zip(firsts, seconds, strict=True)
    value = float(np.mean([figure(a).value - figure(b).value for a, b in pairs]))
    low, high = (float(end) for end in np.nanquantile(differences, [0.025, 0.975]))
    if firsts[0].multilabel:  # `normal_interval` says why
        half = Z_95 * float(np.nanstd(differences, ddof=1))
        low, high = value - half, value + half
    tail = min((differences <= 0).sum(), (differences >= 0).sum())
    return Difference(value, low, high, min(1.0, 2 * float(tail + 1) / (len(differences) + 1)))


def _on_same_videos(
    first: Sequence[Scores], second: Sequence[Scores]
) -> tuple[list[Scores], list[Scores]]:
    """The runs of two models with their videos in the same order. Both models must draw the same
    groups of videos; if the groups differ, those of the first model are used."""
    pairs = [join([left, right]) for left, right in zip(first, second, strict=True)]
    firsts = [pair[0] for pair in pairs]
    return firsts, [replace(pair[1], groups=pair[0].groups) for pair in pairs]


def error_reduction(
    first: Sequence[Scores], second: Sequence[Scores], by: str = "videos"
) -> tuple[float, float, float]:
    """By which share of the second model's error the first model's is smaller, and the ends of its
    95 % interval, a paired bootstrap as in `paired_bootstrap`. Resamples in which the second model
    makes no errors do not count.

    Raises InputError when the second model makes no errors, and when the runs are not evaluated on
    the same videos.
    """
    firsts, seconds = _on_same_videos(first, second)
    errors = [1 - np.mean([figure(run).value for run in runs]) for runs in (firsts, seconds)]
    if not errors[1]:
        raise InputError("the second model makes no errors, so no error reduction can be computed")
    of_first, of_second = (1 - resampled(side, by) for side in (firsts, seconds))
    with np.errstate(divide="ignore", invalid="ignore"):
        reductions = 1 - of_first / of_second
    finite = reductions[np.isfinite(reductions)]
    low, high = np.quantile(finite, [0.025, 0.975])
    return float(1 - errors[0] / errors[1]), float(low), float(high)


def mcnemar(first: Scores, second: Scores) -> McNemar:
    """McNemar's exact test on the labelled videos. The hypothesis is that a video which only one
    model classifies correctly is equally likely to be the first model's or the second's (binomial
    distribution with probability 1/2).

    Raises InputError when videos, labels or classes differ, and for multi-label data.
    """
    if first.multilabel:
        raise InputError(
            "McNemar's test needs single-label data; use the paired bootstrap for multi-label data"
        )
    from scipy.stats import binomtest  # loading it takes 0.7 s

    first, second = join([first, second])
    right, others = hits(first), hits(second)
    only_first, only_second = int((right & ~others).sum()), int((~right & others).sum())
    discordant = only_first + only_second
    p = binomtest(only_first, discordant).pvalue if discordant else 1.0
    return McNemar(only_first, only_second, p)


def calibration(scores: Scores, bins: int = 15) -> Calibration:
    """How well confidence (the highest probability) matches accuracy, in `bins` ranges of equal
    width (Guo et al. 2017, eq. 3). Unlabelled videos are left out. Raises InputError for
    multi-label data."""
    if scores.multilabel:
        raise InputError(
            "calibration is defined only for single-label data, but these scores are multi-label"
        )
    has_label = labelled(scores)
    logits, labels = scores.logits[has_label], scores.labels[has_label]
    return calibration_of(logits, labels, logits.argmax(axis=1), bins)


def calibration_of(
    logits: np.ndarray, labels: np.ndarray, predicted: np.ndarray, bins: int = 15
) -> Calibration:
    """`calibration` from the logits of labelled videos (V', C), their class numbers (V',), and the
    number of the class with the highest score (V',)."""
    certainty, right = _certainty(logits, labels, predicted), predicted == labels
    confidence = certainty.of_highest  # (V',)
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    videos = np.bincount(bin_of, minlength=bins)
    used = videos > 0
    columns = [
        np.bincount(bin_of, weights=values, minlength=bins)[used] / videos[used]
        for values in (confidence, right.astype(float))
    ]
    table = np.stack([*columns, videos[used]], axis=1)  # (B, 3)
    return Calibration(
        ece=float((np.abs(table[:, 0] - table[:, 1]) * table[:, 2]).sum() / len(right)),
        nll=float(-np.log(np.maximum(certainty.of_true, np.finfo(float).tiny)).mean()),
        brier=float(certainty.squared_error.mean()),
        bins=table,
    )


class _Certainty(NamedTuple):
    """For each video: the probability of the highest-scored class, that of the true class, and the
    sum over classes of the squared error of the probabilities; (V,) float64 each."""

    of_highest: np.ndarray
    of_true: np.ndarray
    squared_error: np.ndarray


def _certainty(logits: np.ndarray, labels: np.ndarray, predicted: np.ndarray) -> _Certainty:
    """logits: (V, C); labels, predicted: (V,) class numbers. The probabilities of all videos would
    take many times the memory of the logits, so they are computed for a few rows at a time."""
    certainty = _Certainty(*np.empty((3, len(logits))))
    for rows in blocks_of_rows(logits):
        ratios, sums = softmax_parts(logits[rows], predicted[rows])  # (V', C), (V',)
        of_true = ratios[np.arange(len(ratios)), labels[rows]] / sums
        certainty.of_highest[rows] = 1 / sums
        certainty.of_true[rows] = of_true
        # the sum over classes of (probability - 1 if true)^2, multiplied out
        squares = np.einsum("vc,vc->v", ratios, ratios) / np.square(sums)
        certainty.squared_error[rows] = np.maximum(squares - 2 * of_true + 1, 0)
    return certainty
