"""Stage two: heads, networks that turn a video's feature sequence into class scores and one embedding.

Every head is `HEADS[name](feature_dim, num_classes, **options)`, an nn.Module with
forward(x (N, T, D) float32, lengths (N,) int64) -> (logits (N, C) float32, embedding (N, E) float32).
Heads with options `trunk` and `trunk_dim` take maps, x (N, T, feature_dim, h, w), and begin with that network.
`classifier` is a head's last layer, linear; it reads the embedding. "fisher" is fitted to rows, the others are trained.
Sequences are padded at the end; what the padding holds never changes a result.
"""

from collections.abc import Callable

from torch import nn

from reelbank.heads.fisher import Fisher
from reelbank.heads.meanpool import MeanPool
from reelbank.heads.reslstm import ResLSTM
from reelbank.heads.rlstm import RelationalLSTM
from reelbank.heads.rnn import bigru, bilstm, gru, lstm
from reelbank.heads.rrn import RRN
from reelbank.heads.sru import SRU
from reelbank.heads.tsn import TSN

HEADS: dict[str, Callable[..., nn.Module]] = {
    "reslstm": ResLSTM,
    "lstm": lstm,
    "gru": gru,
    "bilstm": bilstm,
    "bigru": bigru,
    "sru": SRU,
    "meanpool": MeanPool,
    "tsn": TSN,
    "rrn": RRN,
    "rlstm": RelationalLSTM,
    "fisher": Fisher,
}
