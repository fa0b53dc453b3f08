"""The scale of the numbers in a score file (logits, probabilities or percentages), and their logits.

Probabilities of single-label data sum to 1, up to the rounding they were written with: 101 of them
with 3 decimals sum to 1 within 0.05. An ambiguous scale is never guessed: SCALE= sets it.
"""

import numpy as np

from reelbank.data.errors import InputError

SCALES = ("auto", "logits", "probabilities", "percent")
_MOST_DECIMALS = 6
_NEAR = 0.01  # tolerance of a sum of half-precision numbers, or of numbers with three digits
_FARTHEST = 0.5  # the largest tolerance, however few decimals were written


def as_logits(
    scores: np.ndarray, scale: str, *, multilabel: bool = False
) -> tuple[np.ndarray, str]:
    """Scores (V, C) float64 as logits, and the scale they were read as, one of SCALES except "auto".

    Probabilities become their logarithm, or with `multilabel` their logit. Raises InputError if the
    scores do not fit `scale`, or are ambiguous with "auto".
    """
    taken = _scale_of(scores, multilabel=multilabel) if scale == "auto" else scale
    if taken == "logits":
        return scores, taken
    whole = 100.0 if taken == "percent" else 1.0
    if (scores < 0).any():
        raise InputError(
            f"SCALE={taken}: scores must be at least 0, but some are negative; are they "
            "logits (SCALE=logits)?"
        )
    if (scores > whole * (1 + _NEAR)).any():
        others = "logits" if taken == "percent" else "percentages (SCALE=percent) or logits"
        raise InputError(
            f"SCALE={taken}: scores must be at most {whole:g}, but some are larger; are they "
            f"{others}?"
        )
    shares = np.clip(scores / whole, np.finfo(np.float32).tiny, 1)
    if multilabel:
        shares = np.minimum(shares, 1 - np.finfo(np.float32).epsneg)
        return np.log(shares) - np.log1p(-shares), taken
    return np.log(shares), taken


def _scale_of(scores: np.ndarray, *, multilabel: bool) -> str:
    choices = "set SCALE=logits, SCALE=probabilities or SCALE=percent"
    if (scores < 0).any():
        for whole in () if multilabel else (1, 100):
            if (scores > -_NEAR * whole).all() and _sums_to(scores, whole):
                raise InputError(
                    "SCALE: the scale cannot be detected, because the scores of each video sum to "
                    f"{whole}, as probabilities do, but some scores are negative; {choices}"
                )
        return "logits"
    if multilabel:
        raise InputError(
            "SCALE: the scale of multi-label scores cannot be detected if no score is negative; "
            f"{choices}"
        )
    if _sums_to(scores, 1):
        return "probabilities"
    if _sums_to(scores, 100):
        return "percent"
    sums = scores.sum(axis=1)
    reach = f"{sums.min():.4g} to {sums.max():.4g}"
    raise InputError(
        "SCALE: the scale cannot be detected, because no score is negative, and the sum of the "
        f"scores of a video is {reach}, which is neither 1 nor 100; {choices}"
    )


def _sums_to(scores: np.ndarray, whole: float) -> bool:
    """Whether every row sums to `whole`, within the rounding of its numbers, and no number is
    larger than that."""
    shares = scores / whole
    decimals = _decimals(shares)
    rounding = 0.0 if decimals is None else 0.5 * 10.0**-decimals * scores.shape[1]
    near = max(_NEAR, min(rounding, _FARTHEST))
    return bool((np.abs(shares.sum(axis=1) - 1) <= near).all() and (shares <= 1 + _NEAR).all())


def _decimals(shares: np.ndarray) -> int | None:
    """How many decimals the numbers were written with; None for more than _MOST_DECIMALS."""
    for decimals in range(_MOST_DECIMALS + 1):
        units = shares * 10.0**decimals
        if (
            np.abs(units - np.rint(units)) <= 1e-9 + 2e-7 * units
        ).all():  # the tolerance includes float32's
            return decimals
    return None
