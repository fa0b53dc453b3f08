"""From the scores of sequences to those of videos, and what they are worth while a head trains."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from reelbank.data.precision import mean_average_precision

AVERAGES = ("probabilities", "logits")
OVER_CLIPS = ("mean", "max")


@dataclass(frozen=True)
class Scoring:
    """How the sequences of one video become its scores; part of a run's recipe.

    average: of the sequences of a clip (windows, positions, crops) the mean of "probabilities" (MRRN paper, 4.2) or of "logits"
    (Relational LSTM paper, 5.2). over_clips: of a video's clips, which the store itself cut, the "mean" in the same way or the
    "max" (Charades). multilabel: probabilities are sigmoids, not a softmax, and the loss is binary cross-entropy.
    """

    average: str = "probabilities"
    over_clips: str = "mean"
    multilabel: bool = False

    def combined(self, logits: Tensor, video: Tensor, clip: Tensor, videos: Tensor) -> Tensor:
        """Scores of sequences (S', C), each of one of `videos` (n,) and of a clip -> of these videos, (n, C), in their order.

        A video of one sequence keeps its logits; else softmax, or sigmoid, of what is returned is the mean of probabilities.
        """
        if len(video) == len(videos):
            return logits[torch.argsort(video)][torch.argsort(torch.argsort(videos))]
        values = logits.double()
        if self.average == "probabilities":
            values = values.sigmoid() if self.multilabel else values.softmax(1)
        clips, of_clip = torch.unique(clip, return_inverse=True)
        by_clip = _means(values, of_clip, len(clips))  # (clips, C)
        clip_video = torch.empty_like(clips).scatter_(0, of_clip, video)
        known, of_video = torch.unique(clip_video, return_inverse=True)
        if self.over_clips == "max":
            lowest = torch.full((len(known), values.shape[1]), -torch.inf, dtype=values.dtype, device=values.device)
            by_video = lowest.scatter_reduce(0, of_video[:, None].expand_as(by_clip), by_clip, "amax")
        else:
            by_video = _means(by_clip, of_video, len(known))
        if self.average == "probabilities":
            tiny = torch.finfo(torch.float32).tiny
            by_video = by_video.clamp(tiny, 1 - 1e-12).logit() if self.multilabel else by_video.clamp_min(tiny).log()
        return by_video[torch.searchsorted(known, videos)].float()

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy with labels (n,), or of several labels (n, C) mean binary cross-entropy over videos and
        classes."""
        if self.multilabel:
            return F.binary_cross_entropy_with_logits(logits, labels)
        return F.cross_entropy(logits, labels)

    def worth(self, logits: Tensor, labels: Tensor) -> float:
        """Top-1 accuracy in [0, 1]; of several labels the mean average precision over classes that have a positive."""
        if self.multilabel:
            found = mean_average_precision(labels.cpu().numpy(), logits.cpu().numpy())
            return found.value if found.counted else 0.0
        return float((logits.argmax(1) == labels).float().mean())


def _means(values: Tensor, of: Tensor, count: int) -> Tensor:
    """Mean of the rows of each of `count` kinds. (n, C), (n,) -> (count, C)."""
    sums = torch.zeros(count, values.shape[1], dtype=values.dtype, device=values.device).index_add_(0, of, values)
    return sums / torch.bincount(of, minlength=count)[:, None]
