"""The defaults of `train`, `sweep` and `pretrain`. No other table in this package names a head, a
data set or a stream."""

from typing import Any

HEAD = "reslstm"
# Values of `train` options that are left empty, unless the head's spec has its own default. The
# learning rates and the patience were chosen on validation data (docs/heads.md).
TRAIN: dict[str, Any] = {
    "lr": 1e-4,
    "layers": 2,
    "sampling": "sigma",
    "patience": 3,
    "patience_steps": 100,
}

PRETRAINED_DATASET, PRETRAINED_STREAM = "toy", "flow"
PRETRAINED_STREAMS = ("rgb", "flow")  # the streams that `pretrain` supports
# Values of `pretrain` options that are left empty; chosen on validation data (docs/pretrain.md).
PRETRAIN: dict[str, Any] = {"extractor": "motion_cnn", "width": 1.0, "epochs": 60, "batch": 32}
PRETRAIN_ON: dict[str, dict[str, Any]] = {  # values for some data sets
    "toy": {
        "extractor": "motion_cnn",
        "width": 0.125,
        "clip": 5,
        "resize": "72",
        "size": 64,
        "epochs": 12,
        "batch": 8,
    },
}
