"""Combines the scores of sequences into scores of videos, and measures them during training."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from reelbank.data.scores.average_precision import mean_average_precision
from reelbank.heads.recipe import Scoring

TINY = torch.finfo(torch.float32).tiny


def video_scores(
    scoring: Scoring, logits: Tensor, *, video: Tensor, clip: Tensor, videos: Tensor
) -> Tensor:
    """Scores of sequences (S', C), each of one of `videos` (n,) and of a clip -> of these videos,
    (n, C), in their order.

    A video with one sequence keeps its logits; the result may be `logits` itself. Otherwise the
    softmax (or sigmoid) of the returned scores is the mean of the probabilities.
    """
    if torch.equal(video, videos):  # as usual, which saves two copies
        return logits
    if len(video) == len(videos):
        return logits[torch.argsort(video)][torch.argsort(torch.argsort(videos))]
    values = logits.double()
    if scoring.average == "probabilities":
        values = values.sigmoid() if scoring.multilabel else values.softmax(1)
    clips, of_clip = torch.unique(clip, return_inverse=True)
    by_clip = _means(values, of_clip, len(clips))  # (clips, C)
    clip_video = torch.empty_like(clips).scatter_(0, of_clip, video)
    ids, of_video = torch.unique(clip_video, return_inverse=True)
    join = _maxima if scoring.over_clips == "max" else _means
    by_video = join(by_clip, of_video, len(ids))
    if scoring.average == "probabilities" and scoring.multilabel:
        by_video = by_video.clamp(TINY, 1 - 1e-12).logit()
    elif scoring.average == "probabilities":
        by_video = by_video.clamp_min(TINY).log()
    return by_video[torch.searchsorted(ids, videos)].float()


def loss(scoring: Scoring, logits: Tensor, labels: Tensor) -> Tensor:
    """The mean cross-entropy with labels (n,). With multi-label labels (n, C), it is the mean
    binary cross-entropy over videos and classes."""
    if scoring.multilabel:
        return F.binary_cross_entropy_with_logits(logits, labels)
    return F.cross_entropy(logits, labels)


def accuracy(scoring: Scoring, logits: Tensor, labels: Tensor) -> float:
    """The top-1 accuracy in [0, 1]. With multi-label data, it is the mean average precision over
    the classes that have a positive."""
    if scoring.multilabel:
        precision = mean_average_precision(labels.cpu().numpy(), logits.cpu().numpy())
        return precision.value if precision.counted else 0.0
    return float((logits.argmax(1) == labels).float().mean())


def _means(values: Tensor, of: Tensor, count: int) -> Tensor:
    """The mean of the rows of each of `count` groups. (n, C), (n,) -> (count, C)."""
    sums = torch.zeros(count, values.shape[1], dtype=values.dtype, device=values.device)
    return sums.index_add_(0, of, values) / torch.bincount(of, minlength=count)[:, None]


def _maxima(values: Tensor, of: Tensor, count: int) -> Tensor:
    """The maximum of the rows of each of `count` groups. (n, C), (n,) -> (count, C)."""
    lowest = torch.full(
        (count, values.shape[1]), -torch.inf, dtype=values.dtype, device=values.device
    )
    return lowest.scatter_reduce(0, of[:, None].expand_as(values), values, "amax")
