"""Plan the streams of an extraction from its options: their networks, the clips they read, and the
stores they fill."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.feature_recipe import FeatureRecipe
from reelbank.data.identity import extractor_name
from reelbank.data.plugins import is_user_file
from reelbank.data.store.records import identity
from reelbank.data.store.weights import PublishedWeights
from reelbank.data.video.sampling import Examples, Sampling
from reelbank.extract.fill import NOT_TRAINED_HERE, stream_options
from reelbank.extract.flow.methods import FlowMethod
from reelbank.extract.grid import common_grid, with_clip
from reelbank.extract.lengths import Length
from reelbank.extract.networks import build as networks
from reelbank.extract.networks.build import Network
from reelbank.extract.networks.preprocessing import Preprocessing, pair
from reelbank.extract.networks.sources import kind_of
from reelbank.extract.networks.trained import find_weights, load_weights
from reelbank.extract.options import ExtractOptions
from reelbank.extract.streams.base import Computation, Stream, StreamOptions
from reelbank.extract.streams.loading import load_stream, returned
from reelbank.extract.streams.per_stream import by_stream

STRIDE_FRAMES = 8  # of video networks' clips


@dataclass(frozen=True)
class StreamPlan:
    """One stream with one network: the rows it samples, and one store for each node.

    split: the split of weights that were trained here, "" for other weights; to_download: weights
    that are missing on this machine, without which the stores' names are not known; published:
    what the publishers say about the weights of the network and of the optical flow
    """

    stream: Stream
    options: StreamOptions
    network: Network | None
    sampling: Sampling | Examples
    recipes: tuple[FeatureRecipe, ...]
    paths: tuple[Path, ...]
    split: str
    to_download: tuple[str, ...] = ()
    published: tuple[PublishedWeights, ...] = ()

    @property
    def name(self) -> str:
        """Unique within an extraction."""
        return f"{self.stream.name} of split {self.split}" if self.split else self.stream.name

    @property
    def nodes(self) -> tuple[str, ...]:
        return self.network.nodes if self.network else (networks.EMBEDDING,)

    @property
    def is_cropped(self) -> bool:
        return self.stream.is_cropped and not (self.network and self.network.is_pixels)

    @property
    def preprocessing(self) -> Preprocessing:
        if self.network:
            return self.network.preprocessing
        resize_px = self.options.resize_px or self.stream.usual_resize_px
        return Preprocessing(resize_px, 0, (), ())

    @property
    def seconds(self) -> float:
        """The length of the beginning of each video that is used."""
        return self.recipes[0].seconds or math.inf


def plan_streams(
    options: ExtractOptions, dataset: str, flow: FlowMethod | None, magnitude: str = ""
) -> list[StreamPlan]:
    """One plan for each stream, and for each split of weights that were trained here.

    magnitude: identity of the store whose flow lengths adaptive sampling follows. Raises InputError
    for options that cannot be combined.
    """
    every_options = [stream_options(options, text) for text in options.stream]
    if options.split and not any(trained_runs(options, of_stream) for of_stream in every_options):
        raise InputError(
            f"SPLIT={' '.join(options.split)}: only weights from 'reelbank pretrain' "
            "belong to a split; leave SPLIT out"
        )
    plans = []
    for text, of_stream in zip(options.stream, every_options, strict=True):
        stream = load_stream(text)
        for split, network in _networks(options, stream, of_stream):
            # The rows depend on the networks of all streams, and the stores on the rows.
            plan = StreamPlan(
                stream, of_stream, network, sampling=Sampling(), recipes=(), paths=(), split=split
            )
            plans.append(plan)
    sampled = _with_samplings(options, plans)
    return [_with_stores(plan, options.bank, dataset, flow, magnitude) for plan in sampled]


def _with_stores(
    plan: StreamPlan, bank: str, dataset: str, flow: FlowMethod | None, magnitude: str
) -> StreamPlan:
    """The plan with its stores, one for each node."""
    computations = [
        Computation(
            options=plan.options,
            sampling=plan.sampling,
            preprocessing=plan.preprocessing,
            network=plan.network,
            node=node,
            flow=flow,
            magnitude=magnitude,
        )
        for node in plan.nodes
    ]
    recipes = tuple(
        returned(plan.stream, "recipe", plan.stream.recipe(computation), FeatureRecipe)
        for computation in computations
    )
    made_by = plan.network.name if plan.network else plan.stream.made_by
    absent = [plan.network.to_download] if plan.network else []
    published = [plan.network.weights.published] if plan.network else []
    if flow and (recipes[0].flow or recipes[0].magnitude):
        absent.append(flow.to_download)
        published.append(flow.published)
    return dataclasses.replace(
        plan,
        recipes=recipes,
        paths=tuple(store_path(bank, dataset, made_by, recipe) for recipe in recipes),
        to_download=tuple(text for text in absent if text),
        published=tuple(weights for weights in published if weights),
    )


def _networks(
    options: ExtractOptions, stream: Stream, of_stream: StreamOptions
) -> list[tuple[str, Network | None]]:
    """Pairs (split, network): one for each split of weights that were trained here, otherwise a
    single one with split ""."""
    if not stream.has_network:
        return [("", None)]
    runs = trained_runs(options, of_stream)
    if not runs:
        return [("", _network(options, stream, of_stream, None))]
    chosen = sorted(runs) if options.split in ((), ("all",)) else options.split
    for split in chosen:
        if split not in runs:
            raise InputError(
                f"SPLIT={split}: WEIGHTS={of_stream.weights} were trained only on split "
                f"{', '.join(sorted(runs))}; run 'reelbank pretrain' with SPLIT={split} first"
            )
    return [(split, _network(options, stream, of_stream, runs[split])) for split in chosen]


def trained_runs(options: ExtractOptions, of_stream: StreamOptions) -> dict[str, Path]:
    """The folders of a stream's weights by split; {} unless the weights were trained here."""
    if of_stream.weights in NOT_TRAINED_HERE or Path(of_stream.weights).is_file():
        return {}
    return find_weights(options.searched, of_stream.weights)


def flow_of_weights(options: ExtractOptions) -> ExtractOptions:
    """Set FLOW to the method that weights trained here were trained on. Raises InputError if the
    options name another one."""
    for text in options.stream:
        stream = load_stream(text)
        if not (stream.uses_flow and stream.has_network):
            continue
        for folder in trained_runs(options, stream_options(options, text)).values():
            name = load_weights(folder).recipe["flow_name"]
            if options.flow not in ("", name):
                raise InputError(
                    f"FLOW={options.flow}: WEIGHTS={folder.name} were trained on "
                    f"FLOW={name}; leave FLOW out"
                )
            options = dataclasses.replace(options, flow=name)
    return options


def _network(
    options: ExtractOptions, stream: Stream, of_stream: StreamOptions, folder: Path | None
) -> Network:
    """The network of a stream. folder: of weights that were trained here, or None. Raises
    InputError for options that contradict the weights or the network."""
    extractor, clip_frames = of_stream.extractor, of_stream.clip_frames
    width = of_stream.width or 1.0
    trained = None
    if folder:
        trained = load_weights(folder)
        about = trained.recipe
        if about["stream"] != of_stream.name:
            raise InputError(
                f"WEIGHTS={folder.name}: the weights were trained on STREAM={about['stream']}; use "
                f"this stream (got {of_stream.name})"
            )
        asked = by_stream("extractor", options.extractor, options.stream).get(of_stream.name, "")
        if asked and extractor_name(asked) != extractor_name(about["extractor"]):
            raise InputError(
                f"EXTRACTOR={asked}: WEIGHTS={folder.name} are weights of "
                f"{about['extractor']}; leave EXTRACTOR out"
            )
        for name, value, trained_value in (
            ("CLIP", clip_frames, about["clip_frames"]),
            ("WIDTH", of_stream.width, about["width"]),
        ):
            if value and value != trained_value:
                raise InputError(
                    f"{name}={value:g}: WEIGHTS={folder.name} were trained with "
                    f"{name}={trained_value:g}; leave {name} out"
                )
        extractor, width, clip_frames = about["extractor"], about["width"], about["clip_frames"]
        if is_user_file(extractor):  # weights are untrusted: only a file that the user names is run
            if not asked:
                raise InputError(
                    f"WEIGHTS={folder.name}: the network of these weights is in your own Python "
                    "file, which is run only if an option names the file; give "
                    f"EXTRACTOR={extractor}"
                )
            extractor = asked
    if extractor in networks.PIXELS and (
        of_stream.nodes or of_stream.weights or of_stream.width or options.keep_crops
    ):
        raise InputError(
            f"EXTRACTOR={extractor} stores pictures unchanged; leave out NODE, AT, WEIGHTS, "
            "WIDTH and KEEP_CROPS"
        )
    # A user's network has to be built to find its kind, so this is done only if the kind matters.
    kind = ""
    if stream.stacks_items or clip_frames:
        kind = kind_of(extractor, trust_remote_code=options.trust_remote_code)
    channels = stream.channels
    if stream.stacks_items and kind == "image":
        clip_frames = clip_frames or stream.usual_stack(extractor)
        channels *= clip_frames
    elif kind == "image" and clip_frames > 1:
        raise InputError(
            f"CLIP={clip_frames}: {extractor} takes single pictures as input, and CLIP is only for "
            "video networks and optical flow; leave CLIP out"
        )
    stored = Preprocessing.from_json(about["preprocessing"]) if folder else None
    network = networks.build(
        extractor,
        of_stream.nodes,
        of_stream.weights,
        seed=options.seed,
        inputs=stream.network_input(channels),
        width=width,
        preset=of_stream.preset,
        trained=trained,
        fetch=not options.plan,
        trust_remote_code=options.trust_remote_code,
        code_sha256=options.code_sha256,
        pool=of_stream.pool,
        clip_frames=clip_frames or None,
        sized=lambda of_weights: _sized(stream, of_stream, extractor, stored or of_weights),
    )
    if network.waves and of_stream.crop_px:
        raise InputError(
            f"SIZE={of_stream.crop_px}: {extractor} reads sound by its own feature extractor, which "
            "has no pictures; leave SIZE out"
        )
    return network


def _sized(
    stream: Stream, of_stream: StreamOptions, extractor: str, usual: Preprocessing
) -> Preprocessing:
    """The preprocessing with the sizes of the options. usual: the preprocessing of the weights, for
    options that are empty. Raises InputError for a crop that is larger than the picture."""
    if of_stream.antialias is not None:
        usual = dataclasses.replace(usual, antialias=of_stream.antialias)
    if of_stream.resize_px and usual.fill:
        # A border fills up to the network's own height and width; RESIZE stretches the picture.
        usual = dataclasses.replace(usual, fill=None)
    if extractor in networks.PIXELS:
        # All rows of a store have one shape: without a width, every video is stored at 4:3.
        whole = of_stream.resize_px or pair(usual.resize_px)[0]
        if isinstance(whole, int):
            whole = (whole, 2 * round(whole * 2 / 3))
        return dataclasses.replace(usual, resize_px=whole, crop_px=whole)
    if stream.input == "sound":
        return dataclasses.replace(usual, crop_px=of_stream.crop_px or usual.crop_px)
    new = dataclasses.replace(
        usual,
        resize_px=of_stream.resize_px or usual.resize_px,
        crop_px=of_stream.crop_px or usual.crop_px,
    )
    smallest, largest = np.min(new.resize_px), np.max(new.crop_px)
    if isinstance(new.resize_px, int) and isinstance(new.crop_px, tuple):
        raise InputError(
            f"RESIZE={new.resize_px}: must be height x width, because the crops of this network "
            f"have {new.crop_px[0]} x {new.crop_px[1]} pixels; for square crops, also give SIZE"
        )
    if isinstance(new.resize_px, int) and smallest < largest:
        raise InputError(
            f"RESIZE={smallest}: must be at least the crop size, {largest} pixels; "
            "increase RESIZE or reduce SIZE"
        )
    if isinstance(new.resize_px, tuple):
        h, w = pair(new.crop_px)
        if new.resize_px[0] < h or new.resize_px[1] < w:
            raise InputError(
                f"SIZE={h}: must be at most the size of the resized picture, "
                f"{new.resize_px[0]} x {new.resize_px[1]} pixels; reduce SIZE or increase "
                "RESIZE"
            )
    return new


def _with_samplings(options: ExtractOptions, plans: list[StreamPlan]) -> list[StreamPlan]:
    """The plans with their samplings. Streams of pictures share the grid of the longest clip, so
    that their rows align; if clips are measured in time, so does sound."""
    aligned = [plan for plan in plans if plan.stream.on_clip_grid]
    only_video_networks = all(plan.network and plan.network.is_video for plan in aligned)
    usual_stride = STRIDE_FRAMES if aligned and only_video_networks else 1
    grid = common_grid(options, usual_stride, [_own_length(plan) for plan in aligned])
    sampled = []
    for plan in plans:
        rows = grid if grid.ticks and plan.stream.input == "sound" else Sampling()
        if plan in aligned:
            rows = dataclasses.replace(
                grid,
                clip_frames=_items_of_clip(plan),
                fields=plan.stream.reads_pairs,
                ticks=with_clip(grid.ticks, plan.options.clip_seconds),
            )
        rows = dataclasses.replace(
            rows,
            grid_frames=grid.grid_frames,
            windows=options.windows or 0,
            window_frames=options.window or 0,
            views=0 if plan.stream.input == "sound" else options.views,
            seed=options.seed,
        )
        kind = Examples if plan.stream.input == "sound" else Sampling
        chosen = returned(plan.stream, "clips", plan.stream.clips(plan.options, rows), kind)
        waves = plan.network.waves if plan.network else None
        if waves and isinstance(chosen, Examples):
            chosen = dataclasses.replace(chosen, sound_windows=waves.windows)
        sampled.append(dataclasses.replace(plan, sampling=chosen))
    _check_sound(options, [plan.sampling for plan in sampled])
    return sampled


def _check_sound(options: ExtractOptions, samplings: Sequence[Sampling | Examples]) -> None:
    """Raises InputError unless all streams of sound read the same examples, because a file's sound is
    decoded once."""
    of_sound = {chosen for chosen in samplings if isinstance(chosen, Examples)}
    difference = "choose different examples of the sound"
    if len({chosen.sound_windows for chosen in of_sound}) > 1:
        difference = "have networks that read sound in examples of different lengths"
    if len(of_sound) > 1:
        raise InputError(
            f"STREAM={' '.join(options.stream)}: these streams {difference}; extract each stream in "
            "a separate command"
        )


def _own_length(plan: StreamPlan) -> Length:
    """The length of the clips of a stream, in pictures or in seconds."""
    if plan.options.clip_seconds:
        return Length(seconds=plan.options.clip_seconds)
    return Length(_items_of_clip(plan) + plan.stream.reads_pairs)


def _items_of_clip(plan: StreamPlan) -> int:
    """The number of pictures, or flow fields, in a clip."""
    network = plan.network
    if network is None:
        return 1
    return network.clip_frames if network.is_video else network.channels // plan.stream.channels


def store_path(bank: str, dataset: str, made_by: str, recipe: FeatureRecipe) -> Path:
    """<bank>/stores/<dataset>-<stream>-<network>[-<node>]-<identity[:8]>.h5"""
    node = "" if recipe.node == networks.EMBEDDING else f"-{recipe.node}"
    key = identity(recipe.to_json(), dataset)[:8]
    return Path(bank) / "stores" / f"{dataset}-{recipe.stream}-{made_by}{node}-{key}.h5"
