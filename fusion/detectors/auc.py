"""The area under the ROC curve in many bootstrap resamples at once."""

from collections.abc import Iterable

import numpy as np


def resampled_aucs(
    abnormal: np.ndarray, scores: np.ndarray, blocks: Iterable[np.ndarray]
) -> np.ndarray:
    """The area under the ROC curve of each resample: the share of pairs of an abnormal and a
    normal video in which the abnormal one has the higher score; equal scores count half (Hanley
    and McNeil 1982). A resample without an abnormal or without a normal video is left out.

    abnormal: (V,) bool; scores: (V,); blocks: how often each video counts, (R, V) each, as
    `fusion.bootstrap.resample_blocks` yields them. Returns (R',) float64.
    """
    # scikit-learn computes one resample per call, which takes seconds for a thousand of them.
    order = np.argsort(scores)
    firsts = np.flatnonzero(np.diff(scores[order], prepend=np.nan))  # of each distinct score
    is_abnormal = abnormal[order]
    aucs = []
    for counts in blocks:
        sorted_counts = counts[:, order].astype(np.int64)
        positive = np.add.reduceat(sorted_counts * is_abnormal, firsts, axis=1)
        negative = np.add.reduceat(sorted_counts * ~is_abnormal, firsts, axis=1)
        # Twice the number of pairs that are in order stays an integer.
        twice_below = 2 * np.cumsum(negative, axis=1) - negative
        pairs = positive.sum(1) * negative.sum(1)
        in_order = (positive * twice_below).sum(1)
        aucs.append(in_order[pairs > 0] / (2 * pairs[pairs > 0]))
    return np.concatenate(aucs)
