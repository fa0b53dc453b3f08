"""Stage two: heads, networks that turn a video's feature sequence into class scores and one embedding.

Every head is `HEADS[name](feature_dim, num_classes, **options)`, an nn.Module with
forward(x (N, T, D) float32, lengths (N,) int64) -> (logits (N, C) float32, embedding (N, E) float32).
Sequences are padded at the end; what the padding holds never changes a result.
"""

from collections.abc import Callable

from torch import nn

from reelbank.heads.meanpool import MeanPool
from reelbank.heads.reslstm import ResLSTM
from reelbank.heads.rnn import gru, lstm

HEADS: dict[str, Callable[..., nn.Module]] = {
    "reslstm": ResLSTM,
    "lstm": lstm,
    "gru": gru,
    "meanpool": MeanPool,
}
