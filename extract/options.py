"""The options of stage one, and what they are where they are left empty."""

import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reelbank.data.errors import InputError
from reelbank.data.recipe import option
from reelbank.data.recipes import preset_options
from reelbank.data.sampling import SAMPLINGS
from reelbank.extract.crops import CROPS
from reelbank.extract.flow import METHODS

STREAMS = ("rgb", "flow", "audio", "magnitude", "idt")

# Where an option is left empty. The toy set needs no learned features, and is to run anywhere in minutes.
DEFAULTS: dict[str, dict[str, Any]] = {
    "": {"crops": 10, "t": 25, "flow": "tvl1"},
    "toy": {"crops": 1, "t": 16, "flow": "dis"},
    "charades": {"crops": 1, "t": 8, "flow": "tvl1", "sampling": "segments", "windows": 10, "window": 256},
}

# Of one stream, in the same way: (data set, stream), then any data set's.
STREAM_DEFAULTS: dict[tuple[str, str], dict[str, str]] = {
    ("toy", "rgb"): {"extractor": "torchvision:resnet18", "weights": "random", "resize": "112", "size": "112"},
    ("toy", "flow"): {"extractor": "torchvision:resnet18", "weights": "random", "resize": "112", "size": "112", "clip": "5"},
    ("toy", "audio"): {"extractor": "vggish", "weights": "random"},
    ("", "rgb"): {"extractor": "torchvision:resnet50"},
    ("", "flow"): {"extractor": "torchvision:resnet50"},
    ("", "audio"): {"extractor": "vggish"},
}
FLOW_STACK = {"bn_inception": 5}  # fields that an image network sees at once: TSN's 5, else 10 as in two-stream work
ADAPTIVE_STEPS = 180  # at most, of the first 36 s: one picture in five (multi-stream paper)
MAGNITUDE_PX = 128  # short side of the pictures whose flow's length adaptive sampling looks at
TRAJECTORIES_PX = 240  # short side of the pictures through which points are followed (UCF-101's own)


@dataclass(frozen=True)
class ExtractOptions:
    dataset: str = option("toy", "ucf101, hmdb51, charades, folder or toy")
    recipe: str = option("", "a paper's features: a name in recipes/, or a TOML file; options given beside it win")
    root: str = option("", "folder that holds the data set's class folders (toy: is drawn)")
    lists: str = option("", "folder of the official lists (hmdb51, charades: needed; ucf101: checked when given)")
    csv: str = option("", "dataset folder: a CSV of path,label,split")
    classes: tuple[str, ...] = option((), "extract these classes only")
    stream: tuple[str, ...] = option(("rgb",), "what is looked at, one or several: one decoding feeds them all", STREAMS)
    extractor: str = option(
        "",
        "torchvision:<model>, timm:<model>, i3d, c3d, bn_inception, motion_cnn, vggish, pixels or <file>.py:<function>; of "
        "several streams 'rgb=... flow=...', as for the options marked * (default: torchvision:resnet50; audio: vggish)",
    )
    weights: str = option("", "* pretrained, random, a path, or weights trained here (their hash); default: pretrained")
    split: tuple[str, ...] = option((), "weights trained here: of these splits, one store each (default: all there are)")
    width: str = option("", "* motion_cnn: share of its units")
    node: str = option("", "* nodes to keep, one store each (default: what the classifier reads)")
    at: str = option("", "* the same, feature maps kept whole, for heads that begin with the rest of the network")
    pool: bool = option(True, "average maps over space and time; 0 keeps them")
    crops: int | None = option(None, "1 (centre), 5 or 10, averaged (default: 10; toy: 1)")
    keep_crops: bool = option(False, "keep each crop's features instead of their mean")
    views: int = option(0, "augmented views (crop, flip, time) of each training video, beside its clean rows")
    t: int | None = option(
        None, "clips per video; 0 keeps every clip (default: 25; toy: 16; charades: 8 a window; adaptive: at most 180)"
    )
    sampling: str = option("", "how T clips are spread (default: sigma); adaptive: by how much moves", SAMPLINGS)
    clip: str = option(
        "", "* frames per clip, of flow: fields (default: image networks 1, on flow 10; video networks their own)"
    )
    stride: int | None = option(None, "frames between clip starts (default: 1, 8 for video networks)")
    grid: int = option(0, "frames of the clip grid that streams share (default: of the longest clip among them)")
    windows: int | None = option(None, "cut a video into so many windows, T rows each (charades: 10 for whole videos)")
    window: int | None = option(None, "frames of a window (charades: 256)")
    flow: str = option("", "optical flow (default: tvl1; toy: dis)", METHODS)
    flow_weights: str = option("", "of raft: pretrained, random or a path")
    trajectories: int = option(2000, "idt: rows of a video at most, chosen at random (SEED)")
    resize: str = option("", "* short side in pixels before the crops (default: as the weights were trained; toy: 112)")
    size: str = option("", "* side of the crops in pixels (default: as the weights were trained; toy: 112)")
    decoder: str = option("auto", "who decodes", ("auto", "pyav", "opencv", "decord"))
    precision: str = option("fp32", "arithmetic of the network", ("fp32", "fp16", "bf16"))
    compile: str = option("auto", "torch.compile, checked against eager: auto does for large jobs", ("auto", "1", "0"))
    batch: int = option(0, "network inputs per batch (default: 30 on the CPU, 250 on a GPU; a video network: an eighth)")
    device: str = option("auto", "auto, cpu, cuda, cuda:1 ...")
    workers: int = option(0, "decode processes (default: 1 when the CPU computes, else, and for idt, all cores)")
    seed: int = option(0, "of random weights, views, trajectories, the toy set and the split of a folder")
    shard: str = option("", "i/n: take every n-th video from the i-th on (1/4 ... 4/4), one process each, one store")
    retry: bool = option(False, "try videos again that failed before")
    part_seconds: float = option(30.0, "commit what is done at least this often: a kill loses no more")
    timeout: float = option(120.0, "seconds without a frame after which a video is given up")
    plan: bool = option(False, "print videos, time and disk, and stop (the toy set is drawn for it)")
    bank: str = option("bank", "folder that holds stores, runs and reports")

    @staticmethod
    def preset(given: dict[str, Any]) -> dict[str, Any]:
        """What the recipe that is asked for sets; `given`: the options that were given."""
        return preset_options(given.get("recipe", ""), "extract", {one.name for one in dataclasses.fields(ExtractOptions)})


# Of a stream that is extracted by itself the options that it has no use for.
ALONE = {
    "audio": ("views", "windows", "grid", "stride"),
    "magnitude": ("views", "windows", "grid", "stride", "clip"),
    "idt": (
        *("views", "windows", "grid", "stride", "clip", "t", "sampling", "crops", "keep_crops", "pool", "size", "width"),
        *("flow", "flow_weights", "precision", "compile", "batch"),
    ),
}
PER_STREAM = ("extractor", "weights", "width", "node", "at", "clip", "resize", "size")


@dataclass(frozen=True)
class StreamOptions:
    """One stream's share of the options; empty and 0: as the network has it."""

    name: str
    extractor: str
    weights: str
    width: float
    nodes: tuple[str, ...]
    pool: bool
    clip_frames: int
    resize_px: int
    crop_px: int


def with_defaults(options: ExtractOptions) -> ExtractOptions:
    """Fill the options that were left empty from DEFAULTS, and check numbers. Raises InputError."""
    defaults = {"sampling": "sigma", **DEFAULTS[""], **DEFAULTS.get(options.dataset, {})}
    if options.sampling == "adaptive":
        defaults["t"] = ADAPTIVE_STEPS
    for name in ALONE.get(" ".join(options.stream), ()):
        if (value := getattr(options, name)) != getattr(ExtractOptions, name):  # its default: not given
            shown = int(value) if isinstance(value, bool) else value
            raise InputError(f"{name.upper()}={shown}: STREAM={options.stream[0]} has no use for it")
    filled = {name: value for name, value in defaults.items() if getattr(options, name) in ("", None)}
    options = dataclasses.replace(options, **filled)
    if options.crops not in CROPS:
        raise InputError(f"CROPS={options.crops}: choose from {', '.join(map(str, CROPS))}")
    for name in ("t", "batch", "workers", "grid", "views"):
        if (getattr(options, name) or 0) < 0:
            raise InputError(f"{name.upper()}={getattr(options, name)}: must be at least 0")
    for name in ("stride", "windows", "window", "timeout", "part_seconds", "trajectories"):
        if (value := getattr(options, name)) is not None and value <= 0:
            raise InputError(f"{name.upper()}={value}: must be above 0")
    if not options.stream or len(set(options.stream)) < len(options.stream):
        raise InputError(f"STREAM={' '.join(options.stream)}: name each stream once, of {', '.join(STREAMS)}")
    if bool(options.windows) != bool(options.window):
        raise InputError("WINDOWS (how many) and WINDOW (their frames) go together")
    if options.sampling == "adaptive" and (options.windows or options.views or not options.t):
        raise InputError("SAMPLING=adaptive chooses frames of the whole video: without WINDOWS, VIEWS and T=0")
    if "magnitude" in options.stream and len(options.stream) > 1:
        raise InputError("STREAM=magnitude is made alone; SAMPLING=adaptive makes it by itself")
    if "idt" in options.stream and options.sampling == "adaptive":
        raise InputError("SAMPLING=adaptive looks at 36 s, STREAM=idt at the whole video: extract idt by itself")
    if "idt" not in options.stream and options.trajectories != ExtractOptions.trajectories:
        raise InputError(f"TRAJECTORIES={options.trajectories}: is of STREAM=idt")
    if options.views and options.keep_crops:
        raise InputError("VIEWS and KEEP_CROPS: a view is one crop; choose one of the two")
    if options.flow_weights and not options.flow.startswith("raft"):
        raise InputError(f"FLOW_WEIGHTS={options.flow_weights}: FLOW={options.flow} has no weights, only raft has")
    if options.views > 255:
        raise InputError(f"VIEWS={options.views}: at most 255")
    return options


def stream_options(options: ExtractOptions, stream: str) -> StreamOptions:
    """One stream's options. Raises InputError for a number that is none, or a stream that is named but not asked for."""
    given = {name: by_stream(name, getattr(options, name), options.stream).get(stream, "") for name in PER_STREAM}
    key = (options.dataset, stream) if (options.dataset, stream) in STREAM_DEFAULTS else ("", stream)
    defaults = STREAM_DEFAULTS.get(key, {})
    if given["extractor"] and given["extractor"] != defaults.get("extractor"):
        defaults = {}  # another network than the default one brings its own weights and sizes
    elif given["weights"] not in ("", "pretrained", "random", "own"):
        defaults = {"extractor": defaults.get("extractor", "")}  # so do weights that were trained here
    given |= {name: value for name, value in defaults.items() if not given[name]}
    if given["at"] and given["node"]:
        raise InputError(f"AT={given['at']} keeps maps, NODE={given['node']} vectors: give one of the two")
    return StreamOptions(
        name=stream,
        extractor=given["extractor"],
        weights=given["weights"],
        width=_number("width", given["width"], float),
        nodes=tuple((given["at"] or given["node"]).replace(",", " ").split()),
        pool=options.pool and not given["at"],
        clip_frames=int(_number("clip", given["clip"], int)),
        resize_px=int(_number("resize", given["resize"], int)),
        crop_px=int(_number("size", given["size"], int)),
    )


def lengths_alone(options: ExtractOptions) -> ExtractOptions:
    """The same extraction of nothing but the flow lengths that adaptive sampling follows."""
    one_stream: dict[str, Any] = {"stream": ("magnitude",), "split": (), **dict.fromkeys(PER_STREAM, "")}
    return dataclasses.replace(options, **one_stream, sampling="sigma")


def by_stream(name: str, text: str, streams: Sequence[str]) -> dict[str, str]:
    """'rgb=a flow=b' -> {"rgb": "a", "flow": "b"}; a value without a stream's name is every stream's, but pictures' sizes and
    clips beside pictures are not sound's, and beside other streams nothing but RESIZE is that of idt."""
    unconcerned = {"audio"} if name in ("clip", "resize", "size") else set()
    unconcerned |= {"idt"} if name != "resize" else set()
    all_streams = [one for one in streams if one not in unconcerned]
    pieces = re.split(rf"(?:^|\s+)(?=(?:{'|'.join(STREAMS)})=)", text.strip())
    values: dict[str, str] = {}
    for piece in pieces:
        stream, equals, value = piece.partition("=")
        if equals and stream in STREAMS:
            if stream not in streams:
                raise InputError(f"{name.upper()}={text}: {stream} is not among STREAM={' '.join(streams)}")
            values[stream] = value.strip()
        elif piece:
            values = dict.fromkeys(all_streams or streams, piece) | values
    return values


def _number(name: str, text: str, kind: type) -> Any:
    """The number, 0 when empty. Raises InputError for a word that is none, or not above 0."""
    if not text:
        return 0
    try:
        value = kind(text)
    except ValueError:
        raise InputError(f"{name.upper()}={text}: is not a number") from None
    if not 0 < value < math.inf:
        raise InputError(f"{name.upper()}={text}: must be above 0")
    return value
