"""How far figures can be trusted: bootstrap intervals over videos or groups, paired tests of two models, calibration."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

from reelbank.data.errors import InputError
from reelbank.data.precision import Ranking
from reelbank.data.scores import Scores, join, probabilities
from reelbank.fusion.metrics import Z_95, Share, figure, hits, labelled

INTERVALS = ("wilson", "videos", "groups")
RESAMPLES = {False: 2000, True: 400}  # of the videos or groups; of several labels a video each is dear


class Difference(NamedTuple):
    """By how much one model's figure is above another's, its 95 % interval's ends, and the two-sided p of no difference."""

    value: float
    low: float
    high: float
    p: float


class McNemar(NamedTuple):
    """Videos that only the first and only the second model has right, and the two-sided exact p that both are as likely."""

    only_first: int
    only_second: int
    p: float


class Calibration(NamedTuple):
    """ece: expected calibration error in [0, 1]; nll: mean negative log likelihood, nats; brier: mean over videos of the summed
    squared error of probabilities, in [0, 2]; bins: of each bin that has videos mean confidence, accuracy, videos, (B, 3)."""

    ece: float
    nll: float
    brier: float
    bins: np.ndarray


def draws(groups: Sequence[str], resamples: int, seed: int = 0) -> np.ndarray:
    """How often each of V videos counts in each bootstrap resample, (resamples, V) int32: as many groups as there are, drawn
    with replacement, each with all its videos (Efron and Tibshirani 1993, ch. 8). A video of group "" is a group by itself."""
    keys = [("", str(row)) if group == "" else (group, "") for row, group in enumerate(groups)]
    number_of = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    count = len(number_of)
    of_groups = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)  # (R, groups)
    return of_groups.astype(np.int32)[:, [number_of[key] for key in keys]]


def resampled(runs: Sequence[Scores], by: str, k: int = 1, resamples: int = 0, seed: int = 0) -> np.ndarray:
    """The mean figure of the runs (top-k accuracy, or of several labels a video mean average precision) in each resample, (R,)
    float64. A video that several runs judge is drawn for all of them at once. by: "videos" or "groups".

    Raises InputError where groups are asked for and the scores name none, or no video has a label.
    """
    if by == "groups" and (without := [run for run in runs if not run.groups]):
        raise InputError(
            f"INTERVAL=groups: the scores of {without[0].about.get('name') or 'a model'} name no groups; train it again, "
            "import them with groups, or give INTERVAL=videos"
        )
    group_of: dict[str, str] = {}
    for run in runs:
        known = range(len(run.video_ids)) if run.multilabel else np.flatnonzero(labelled(run))
        for row in known:
            group_of.setdefault(run.video_ids[row], run.groups[row] if by == "groups" else "")
    number_of = {video: number for number, video in enumerate(group_of)}
    counts = draws(list(group_of.values()), resamples or RESAMPLES[runs[0].multilabel], seed)  # (R, V)
    return np.mean([_figures(run, counts, number_of, k) for run in runs], axis=0)


def _figures(run: Scores, counts: np.ndarray, number_of: dict[str, int], k: int) -> np.ndarray:
    """One run's figure in each resample, (R,) float64; where none of its videos was drawn its figure itself."""
    if run.multilabel:
        columns = [number_of[video] for video in run.video_ids]
        ranking = Ranking(run.labels, run.logits)
        return np.array([ranking.mean_average_precision(draw).value for draw in counts[:, columns]])
    right = hits(run, k)  # (V',)
    columns = [number_of[run.video_ids[row]] for row in np.flatnonzero(labelled(run))]
    own = counts[:, columns].astype(np.float32)  # (R, V'), sums of less than 2^24 are exact
    drawn = own.sum(axis=1)
    found = (own @ right.astype(np.float32)).astype(np.float64)
    return np.divide(found, drawn, out=np.full(len(drawn), right.mean()), where=drawn > 0)


def bootstrap_share(runs: Sequence[Scores], by: str = "videos", k: int = 1, resamples: int = 0, seed: int = 0) -> Share:
    """The runs' mean figure with its 95 % bootstrap interval: the percentiles of the resamples; of several labels a video the
    value ± 1.96 deviations (metrics.map_share says why). A model that has every video right gets no width: Wilson's does."""
    found = resampled(runs, by, k, resamples, seed)
    values = [figure(run).value if k == 1 else float(hits(run, k).mean()) for run in runs]
    known = (run.video_ids if run.multilabel else np.array(run.video_ids)[labelled(run)] for run in runs)
    value, videos = float(np.mean(values)), len({video for some in known for video in some})
    if runs[0].multilabel:
        half = Z_95 * float(np.nanstd(found, ddof=1))
        return Share(value, max(0.0, value - half), min(1.0, value + half), videos)
    low, high = np.quantile(found, [0.025, 0.975])
    return Share(value, float(low), float(high), videos)


def paired_bootstrap(
    first: Sequence[Scores], second: Sequence[Scores], by: str = "videos", resamples: int = 0, seed: int = 0
) -> Difference:
    """The first model's mean figure less the second's, both on the same resamples; run i of one is compared with run i of the
    other. p: twice the share of resamples on the other side of no difference, the value itself counted as one (Davison and
    Hinkley 1997, 4.2). Raises InputError when the runs do not judge the same videos."""
    pairs = [join([one, other]) for one, other in zip(first, second, strict=True)]
    # what is drawn together is one thing: where the two name groups otherwise, the first's are taken for both
    pairs = [[one, replace(other, groups=one.groups)] for one, other in pairs]
    ones, others = ([pair[side] for pair in pairs] for side in (0, 1))
    apart = resampled(ones, by, 1, resamples, seed) - resampled(others, by, 1, resamples, seed)
    value = float(np.mean([figure(one).value - figure(other).value for one, other in pairs]))
    low, high = (float(end) for end in np.nanquantile(apart, [0.025, 0.975]))
    if ones[0].multilabel:
        half = Z_95 * float(np.nanstd(apart, ddof=1))
        low, high = value - half, value + half
    tail = min((apart <= 0).sum(), (apart >= 0).sum())
    return Difference(value, low, high, min(1.0, 2 * float(tail + 1) / (len(apart) + 1)))


def mcnemar(first: Scores, second: Scores) -> McNemar:
    """McNemar's test on the labelled videos, exact: of the videos that one model alone has right, each is as likely the first's
    as the second's (binomial, 1/2). Raises InputError when the tables do not hold the same videos, labels and classes, or of
    several labels a video."""
    if first.multilabel:
        raise InputError("McNemar's test compares right answers; of several labels a video take the paired bootstrap")
    one, other = join([first, second])
    right, others = hits(one), hits(other)
    only_first, only_second = int((right & ~others).sum()), int((~right & others).sum())
    apart = only_first + only_second
    return McNemar(only_first, only_second, binomtest(only_first, apart).pvalue if apart else 1.0)


def calibration(scores: Scores, bins: int = 15) -> Calibration:
    """Whether a model is right as often as it says: its confidence is the highest probability, in `bins` equal ranges (Guo et
    al. 2017, eq. 3). Unlabelled videos take no part. Raises InputError for several labels a video."""
    if scores.multilabel:
        raise InputError("calibration is of one label a video; these scores have several")
    known = labelled(scores)
    shares, labels, right = probabilities(scores)[known], scores.labels[known], hits(scores)  # (V', C), (V',), (V',)
    confidence = shares.max(axis=1)
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    counted = np.bincount(place, minlength=bins)
    sums = [np.bincount(place, weights=values, minlength=bins) for values in (confidence, right.astype(float))]
    here = counted > 0
    table = np.stack([sums[0][here] / counted[here], sums[1][here] / counted[here], counted[here]], axis=1)  # (B, 3)
    true = shares[np.arange(len(labels)), labels]
    wide = shares.copy()
    wide[np.arange(len(labels)), labels] -= 1
    return Calibration(
        ece=float((np.abs(table[:, 0] - table[:, 1]) * table[:, 2]).sum() / len(labels)),
        nll=float(-np.log(np.maximum(true, np.finfo(float).tiny)).mean()),
        brier=float((wide**2).sum(axis=1).mean()),
        bins=table,
    )
