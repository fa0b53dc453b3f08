"""Defaults of the options of `extract`: the only table of defaults that names data sets and
streams."""

from collections.abc import Mapping
from typing import Any

USUAL_DATASET, USUAL_STREAMS = "toy", ("rgb",)

FILES_DATASET = "folder"  # `predict` reads files in the same way as the videos of this data set

# By data set; "" is any other data set. The toy set does not need learned features and must run on
# any machine within minutes.
DEFAULTS: dict[str, dict[str, Any]] = {
    "": {"crops": 10, "t": 25, "flow": "tvl1", "sampling": "sigma"},
    "toy": {"crops": 1, "t": 16, "flow": "dis"},
    "charades": {"crops": 1, "t": 8, "sampling": "segments", "windows": 10, "window": 256},
}
# Maximum for the first 36 s of a video: one picture in five (multi-stream paper).
ADAPTIVE_STEPS = 180

_TOY_PICTURES = {
    "extractor": "torchvision:resnet18",
    "weights": "random",
    "resize": "112",
    "size": "112",
}
# Defaults of a stream with a network. Looked up as (data set, stream), then ("", stream), then ("",
# "").
STREAM_DEFAULTS: dict[tuple[str, str], dict[str, str]] = {
    ("toy", "rgb"): _TOY_PICTURES,
    ("toy", "flow"): {**_TOY_PICTURES, "clip": "5"},
    ("toy", "audio"): {"extractor": "vggish", "weights": "random"},
    ("", "audio"): {"extractor": "vggish"},
    ("", ""): {"extractor": "torchvision:resnet50"},
}


def set_defaults(dataset: str) -> dict[str, Any]:
    """Defaults of the options that depend on the data set."""
    return {**DEFAULTS[""], **DEFAULTS.get(dataset, {})}


def stream_defaults(dataset: str, stream: str) -> Mapping[str, str]:
    """Defaults of the options of one stream that has a network."""
    keys = ((dataset, stream), ("", stream), ("", ""))
    return next(STREAM_DEFAULTS[key] for key in keys if key in STREAM_DEFAULTS)
