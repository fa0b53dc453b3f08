"""From the options to the streams of one extraction: their networks, which clips they see, and the stores they fill."""

import dataclasses
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reelbank.data.errors import InputError
from reelbank.data.machine import cores
from reelbank.data.recipe import extractor_name
from reelbank.data.sampling import Examples, Followed, Sampling
from reelbank.data.store import identity
from reelbank.extract import adaptive, idt, networks, zoo
from reelbank.extract.flow import BOUND_PX, FlowMethod
from reelbank.extract.networks import Network
from reelbank.extract.options import (
    FLOW_STACK,
    MAGNITUDE_PX,
    TRAJECTORIES_PX,
    ExtractOptions,
    StreamOptions,
    by_stream,
    stream_options,
)
from reelbank.extract.preprocessing import Preprocessing
from reelbank.extract.trained import find_weights, load_weights, trained_weights

# A stream's version is raised whenever the same recipe would give other numbers than before: its old stores then keep their
# own identity. Sound 3: a track in MP4 or QuickTime ends where the file says, and not with its last frame's padding.
FEATURES_VERSIONS = {"rgb": 2, "flow": 2, "audio": 3, "magnitude": 2, "idt": 2}

STRIDE_FRAMES = 8  # of video networks' clips
MADE_OF = {"magnitude": "flow", "idt": "trajectories"}  # streams without a network


@dataclass(frozen=True)
class StreamPlan:
    """One stream with one network: what it samples of a video, and one store for each node. `split`: whose weights it has,
    where they were trained here."""

    options: StreamOptions
    network: Network | None  # None: magnitude, idt
    sampling: Sampling | Examples
    recipes: tuple[dict[str, Any], ...]
    paths: tuple[Path, ...]
    split: str

    @property
    def is_pixels(self) -> bool:
        return self.network is not None and self.network.name in networks.PIXELS

    @property
    def preprocessing(self) -> Preprocessing:
        if self.network:
            return self.network.preprocessing
        own_px = TRAJECTORIES_PX if self.options.name == "idt" else MAGNITUDE_PX
        return Preprocessing(self.options.resize_px or own_px, 0, (), ())


def plan_streams(options: ExtractOptions, dataset: str, flow: FlowMethod | None, magnitude: str = "") -> list[StreamPlan]:
    """One plan for each stream, and for each split of weights that were trained here. magnitude: identity of the store whose
    flow lengths adaptive sampling follows. Raises InputError for options that do not go together."""
    chosen = [(name, stream_options(options, name)) for name in options.stream]
    if options.split and not any(trained_runs(options, one) for _, one in chosen):
        raise InputError(f"SPLIT={' '.join(options.split)}: is for weights that were trained here, one set for each split")
    built = [(one, split, network) for _, one in chosen for split, network in _networks(options, one)]
    samplings = _samplings(options, [(one.name, network) for one, _, network in built])
    plans = []
    for (one, split, network), sampling in zip(built, samplings, strict=True):
        nodes = network.nodes if network else (networks.EMBEDDING,)
        plan = StreamPlan(one, network, sampling, (), (), split)
        recipes = tuple(recipe(options, plan, node, flow, magnitude) for node in nodes)
        name = network.name if network else MADE_OF[one.name]
        paths = tuple(store_path(options.bank, dataset, name, each) for each in recipes)
        plans.append(dataclasses.replace(plan, recipes=recipes, paths=paths))
    return plans


def _networks(options: ExtractOptions, one: StreamOptions) -> list[tuple[str, Network | None]]:
    """(split, network): one, or of weights that were trained here one for each split."""
    if one.name == "magnitude":
        if one.extractor or one.nodes:
            raise InputError("STREAM=magnitude is the mean length of flow: it takes no EXTRACTOR and no NODE")
        return [("", None)]
    if one.name == "idt":
        if one.extractor or one.weights or one.nodes or one.width or one.clip_frames or one.crop_px:
            raise InputError(
                "STREAM=idt is made without a network: it takes no EXTRACTOR, WEIGHTS, NODE, AT, WIDTH, CLIP and SIZE"
            )
        if 0 < one.resize_px < idt.PATCH_PX:
            raise InputError(f"RESIZE={one.resize_px}: a trajectory's patches have {idt.PATCH_PX} pixels; give more")
        return [("", None)]
    runs = trained_runs(options, one)
    if not runs:
        return [("", _network(options, one, None))]
    chosen = sorted(runs) if options.split in ((), ("all",)) else options.split
    for split in chosen:
        if split not in runs:
            raise InputError(
                f"SPLIT={split}: WEIGHTS={one.weights} were trained on {', '.join(sorted(runs))}; pretrain it first"
            )
    return [(split, _network(options, one, runs[split])) for split in chosen]


def trained_runs(options: ExtractOptions, one: StreamOptions) -> dict[str, Path]:
    """The folders of a stream's weights by split, where they were trained here."""
    if one.weights in ("", "pretrained", "random", "own") or Path(one.weights).is_file():
        return {}
    return find_weights(options.bank, one.weights)


def flow_of_weights(options: ExtractOptions) -> ExtractOptions:
    """With the flow that weights trained here were trained on. Raises InputError when another is asked for."""
    if "flow" not in options.stream:
        return options
    runs = trained_runs(options, stream_options(options, "flow"))
    for folder in runs.values():
        name = load_weights(folder)[0]["flow_name"]
        if options.flow not in ("", name):
            raise InputError(f"FLOW={options.flow}: WEIGHTS={folder.name} were trained on {name}; leave FLOW out")
        options = dataclasses.replace(options, flow=name)
    return options


def _network(options: ExtractOptions, one: StreamOptions, folder: Path | None) -> Network:
    extractor, width, clip_frames = one.extractor, one.width or 1.0, one.clip_frames
    trained = None
    if folder:
        about, state = load_weights(folder)
        if about["stream"] != one.name:
            raise InputError(f"WEIGHTS={folder.name}: were trained on {about['stream']}, not on {one.name}")
        asked = by_stream("extractor", options.extractor, options.stream).get(one.name, "")
        if asked and extractor_name(asked) != extractor_name(about["extractor"]):
            raise InputError(f"EXTRACTOR={asked}: WEIGHTS={folder.name} are of {about['extractor']}; leave EXTRACTOR out")
        for name, given, own in (("CLIP", clip_frames, about["clip_frames"]), ("WIDTH", one.width, about["width"])):
            if given and given != own:
                raise InputError(f"{name}={given:g}: WEIGHTS={folder.name} were trained with {own:g}; leave {name} out")
        extractor, width, clip_frames = about["extractor"], about["width"], about["clip_frames"]
        trained = trained_weights(about, folder), state
    if extractor in networks.PIXELS and (one.nodes or one.weights or one.width or options.keep_crops):
        raise InputError(f"EXTRACTOR={extractor} keeps pictures as they are: without NODE, AT, WEIGHTS, WIDTH and KEEP_CROPS")
    kind = zoo.kind_of(extractor) if one.name == "flow" or clip_frames else ""  # a user's file is built to know it
    channels = {"rgb": 3, "audio": 1}.get(one.name, 2)
    if one.name == "flow" and kind == "image":
        clip_frames = clip_frames or FLOW_STACK.get(extractor, 10)
        channels = 2 * clip_frames
    elif kind == "image" and clip_frames > 1 or kind == "sound" and clip_frames:
        raise InputError(f"CLIP={clip_frames}: {extractor} looks at single frames; clips are for video networks and for flow")
    stored = _preprocessing(about["preprocessing"]) if folder else None
    return networks.build(
        extractor,
        one.nodes,
        one.weights,
        options.seed,
        one.pool,
        channels,
        width,
        one.name,
        clip_frames or None,
        trained,
        lambda own: _sized(one, extractor, stored or own),
    )


def _preprocessing(stored: dict[str, Any]) -> Preprocessing:
    """Out of JSON, where pairs became lists."""
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()}
    return Preprocessing(**values)


def _sized(one: StreamOptions, extractor: str, own: Preprocessing) -> Preprocessing:
    """The weights' own resize and crop, unless they are given."""
    if extractor in networks.PIXELS:
        height = one.resize_px or networks.pair(own.resize_px)[0]
        whole = (height, 2 * round(height * 2 / 3))  # rows of a store have one shape: 4:3, whatever the video's
        return dataclasses.replace(own, resize_px=whole, crop_px=whole)
    if one.name == "audio":
        if one.resize_px:
            raise InputError(f"RESIZE={one.resize_px}: sound has no pictures; SIZE is what log-mel examples are brought to")
        return dataclasses.replace(own, crop_px=one.crop_px or own.crop_px)
    new = dataclasses.replace(own, resize_px=one.resize_px or own.resize_px, crop_px=one.crop_px or own.crop_px)
    smallest, largest = np.min(new.resize_px), np.max(new.crop_px)
    if isinstance(new.resize_px, int) and isinstance(new.crop_px, tuple):
        raise InputError(
            f"RESIZE={new.resize_px}: this network's crop is {new.crop_px[0]} x {new.crop_px[1]}; give SIZE as well"
        )
    if isinstance(new.resize_px, int) and smallest < largest:
        raise InputError(f"RESIZE={smallest} is less than the crops' {largest} pixels; give a smaller SIZE as well")
    if isinstance(new.resize_px, tuple):
        h, w = networks.pair(new.crop_px)
        if new.resize_px[0] < h or new.resize_px[1] < w:
            raise InputError(
                f"SIZE={h}: is more than the picture's {new.resize_px[0]} x {new.resize_px[1]}; give RESIZE as well"
            )
    return new


def _samplings(options: ExtractOptions, streams: list[tuple[str, Network | None]]) -> list[Sampling | Examples]:
    """Each stream's clips, on one grid: that of the longest clip."""
    own: list[Sampling] = []
    pictures = [(name, network) for name, network in streams if name not in ("audio", "idt")]
    strided = options.stride or (STRIDE_FRAMES if pictures and all(n and n.is_video for _, n in pictures) else 1)
    for name, network in pictures:
        frames = network.clip_frames if network and network.is_video else 1
        if name == "flow" and network and not network.is_video:
            frames = network.channels // 2
        own.append(Sampling(frames, strided, options.t or None, options.sampling, name != "rgb"))
    longest = max((one.own_frames for one in own), default=1)
    if options.window and pictures and options.window < max(longest, options.grid):
        raise InputError(f"WINDOW={options.window}: the longest clip has {max(longest, options.grid)} frames")
    if options.grid and options.grid < longest:
        raise InputError(f"GRID={options.grid}: the longest clip has {longest} frames")
    found: list[Sampling | Examples] = []
    for name, _ in streams:
        if name == "audio":
            found.append(Examples(options.t or None))
        elif name == "idt":
            found.append(Followed(seed=options.seed, most=options.trajectories))
        elif name == "magnitude":  # of every field
            own.pop(0)
            found.append(Sampling(fields=True))
        else:
            found.append(
                dataclasses.replace(
                    own.pop(0),
                    grid_frames=options.grid or longest,
                    windows=options.windows or 0,
                    window_frames=options.window or 0,
                    views=options.views,
                    seed=options.seed,
                )
            )
    return found


def recipe(options: ExtractOptions, plan: StreamPlan, node: str, flow: FlowMethod | None, magnitude: str) -> dict[str, Any]:
    """Everything that the numbers of a store depend on; its hash is the store's identity. The device, the batch and
    compilation are not in it: they change features by rounding only."""
    one, network, sampling = plan.options, plan.network, plan.sampling
    found: dict[str, Any] = {"features_version": FEATURES_VERSIONS[one.name], "stream": one.name}
    if isinstance(sampling, Followed):
        found |= {"extractor": "trajectories", "weights": {"source": "none"}, "node": node, "decoder": options.decoder}
        found |= {"steps": sampling.most, "sampling": "random", "trajectories_seed": sampling.seed, "descriptor": idt.RECIPE}
        return found | {"preprocessing": _as_json(plan.preprocessing)}
    if network:
        found |= {"extractor": extractor_name(network.extractor), "weights": network.weights, "node": node}
        found |= {"pool": "mean" if one.pool else "none", "precision": options.precision}
        if network.name == "motion_cnn":
            found["width"] = network.width
    else:
        found |= {"extractor": "magnitude", "weights": {"source": "none"}, "node": node}
    if options.sampling == "adaptive" or network is None:
        found["seconds"] = adaptive.SECONDS
    if isinstance(sampling, Examples):
        crop_px, mean, std = plan.preprocessing.crop_px, plan.preprocessing.mean, plan.preprocessing.std
        found |= {
            "steps": sampling.steps,
            "sampling": "sigma" if sampling.steps else "all",
            "front_end": "vggish log-mel, 16 kHz",
        }
        found["preprocessing"] = {"crop_px": list(networks.pair(crop_px)), "mean": list(mean), "std": list(std)}
        return found
    steps = sampling.steps
    found |= {
        "decoder": options.decoder,
        "clip_frames": sampling.clip_frames,
        "grid_frames": sampling.grid_frames or sampling.own_frames,
        "stride_frames": sampling.stride_frames,
        "steps": steps,
        "sampling": sampling.sampling if steps else "all",
        "preprocessing": _as_json(plan.preprocessing),
    }
    if network and not plan.is_pixels:
        found |= {"crops": options.crops, "crops_kept": options.keep_crops}
    if sampling.fields:
        assert flow is not None
        found |= {"flow": flow.recipe, "bound_px": BOUND_PX}
    if sampling.sampling == "adaptive" and network:
        found["magnitude"] = magnitude
    if sampling.windows:
        found |= {"windows": sampling.windows, "window_frames": sampling.window_frames}
    if sampling.views:
        found |= {"views": sampling.views, "views_seed": sampling.seed}
    return found


def _as_json(preprocessing: Preprocessing) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(preprocessing).items()
    }


def store_path(bank: str, dataset: str, network: str, one: dict[str, Any]) -> Path:
    """<bank>/stores/<dataset>-<stream>-<network>[-<node>]-<identity[:8]>.h5"""
    node = "" if one["node"] == networks.EMBEDDING else f"-{one['node']}"
    return Path(bank) / "stores" / f"{dataset}-{one['stream']}-{network}{node}-{identity(one, dataset)[:8]}.h5"


def chosen_device(name: str) -> torch.device:
    """auto is the GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"DEVICE={name}: give auto, cpu, cuda or cuda:<number>") from None
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise InputError(f"DEVICE={name}: torch finds no such GPU here; use DEVICE=cpu, or see 'reelbank doctor'")
    return device


def device_name(device: torch.device) -> str:
    """What computes, for people: the GPU's name, or the processor and how many of its cores may be used."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    count = cores().value
    return f"CPU ({platform.machine()}, {count} {'core' if count == 1 else 'cores'})"
