"""Fill in the defaults of the options of `extract`, and derive the options of each stream."""

import dataclasses
from pathlib import Path
from typing import Any

from reelbank.data.console import nearest
from reelbank.data.datasets.discovery import is_folder_of_videos
from reelbank.data.datasets.types import Dataset
from reelbank.data.errors import InputError
from reelbank.data.identity import brief
from reelbank.data.ranges import check_value
from reelbank.data.video.images import ASSUMED_FPS
from reelbank.extract.defaults import ADAPTIVE_STEPS, set_defaults, stream_defaults
from reelbank.extract.lengths import read_length
from reelbank.extract.networks.preprocessing import read_resize
from reelbank.extract.options import ExtractOptions
from reelbank.extract.streams.base import Stream, StreamOptions
from reelbank.extract.streams.loading import load_stream
from reelbank.extract.streams.per_stream import OF_SOME_STREAMS, PER_STREAM, by_stream
from reelbank.extract.streams.registry import FLOW_LENGTHS, STREAMS

_MOST_CLIP_FRAMES = 10_000
NOT_TRAINED_HERE = ("", "pretrained", "random", "own")  # values of WEIGHTS


def with_defaults(options: ExtractOptions) -> ExtractOptions:
    """Fill in the options that are empty. Raises InputError for options that cannot be combined."""
    streams = [load_stream(text) for text in options.stream]
    if not streams or len({stream.name for stream in streams}) < len(streams):
        raise InputError(
            f"STREAM={' '.join(options.stream)}: must be a list of different streams, chosen from "
            f"{', '.join(STREAMS)}"
        )
    if len(streams) == 1:
        _check_used(options, streams[0])
    defaults = set_defaults(options.dataset)
    if options.sampling == "adaptive":
        defaults["t"] = ADAPTIVE_STEPS
    empty = {
        name: value for name, value in defaults.items() if getattr(options, name) in ("", None)
    }
    options = dataclasses.replace(options, **empty)
    if bool(options.windows) != bool(options.window):
        raise InputError(
            "WINDOWS (number of windows) and WINDOW (frames per window) must be given together"
        )
    if options.sampling == "adaptive" and (options.windows or options.views or not options.t):
        raise InputError(
            "SAMPLING=adaptive chooses T frames of the whole video; give T=1 or more, and leave "
            "WINDOWS and VIEWS out"
        )
    if options.sampling == "adaptive" and options.is_timed:
        raise InputError(
            "SAMPLING=adaptive chooses frames by their motion, not by time; leave out FPS, and give "
            "CLIP, STRIDE and GRID in frames"
        )
    _check_together(options, streams)
    if options.jitter and not options.views:
        raise InputError(
            "JITTER=1 varies the crops of augmented copies (views), but VIEWS is not given; give "
            "VIEWS as well, or leave JITTER out"
        )
    if options.flow_weights and not options.flow.startswith("raft"):
        raise InputError(
            f"FLOW_WEIGHTS={options.flow_weights}: FLOW={options.flow} has no weights; leave "
            "FLOW_WEIGHTS out, or give FLOW=raft_small or raft_large"
        )
    return options


def with_root(options: ExtractOptions) -> ExtractOptions:
    """Set ROOT if VIDEOS is a single folder. Raises InputError if both are given."""
    if not options.videos:
        return options
    if options.root:
        raise InputError(
            f"ROOT={options.root} and VIDEOS={brief(' '.join(options.videos), 100)} both name the "
            "videos; give one of them"
        )
    word = options.videos[0]
    if len(options.videos) > 1 or not is_folder_of_videos(Path(word).expanduser()):
        return options
    return dataclasses.replace(options, videos=(), root=word)


def _check_used(options: ExtractOptions, stream: Stream) -> None:
    """Raises InputError for an option that was set although the only stream does not use it."""
    fields = ExtractOptions.__dataclass_fields__
    for name in stream.unused_options:
        if options.is_timed and name in stream.options_on_timeline:
            continue
        if name not in fields:
            raise InputError(
                f"STREAM={stream.name}: `unused_options` has '{name}', which is not an option of "
                f"extract{nearest(name, fields)}"
            )
        value, default = getattr(options, name), fields[name].default
        if value != default:
            raise InputError(
                f"{name.upper()}={_typed(value)}: STREAM={stream.name} does not use this "
                "option; leave it out"
            )


def _check_together(options: ExtractOptions, streams: list[Stream]) -> None:
    """Raises InputError for streams that cannot be extracted together or with these options."""
    for stream in streams:
        if stream.is_alone and len(streams) > 1:
            raise InputError(
                f"STREAM={' '.join(options.stream)}: {stream.name} cannot be extracted together "
                f"with other streams; extract {stream.name} in a separate command"
            )
        if stream.is_whole_video and options.sampling == "adaptive":
            raise InputError(
                "SAMPLING=adaptive uses only the first 36 s of a video, but "
                f"STREAM={stream.name} needs the whole video; extract {stream.name} in a "
                "separate command"
            )
    for name in OF_SOME_STREAMS:
        value, default = getattr(options, name), ExtractOptions.__dataclass_fields__[name].default
        if value != default and not any(name in stream.own_options for stream in streams):
            raise InputError(
                f"{name.upper()}={_typed(value)}: STREAM={' '.join(options.stream)} does not "
                "use this option; leave it out"
            )


def _typed(value: Any) -> Any:
    """A value as it is written on the command line."""
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return int(value) if isinstance(value, bool) else value


def stream_options(options: ExtractOptions, stream: str) -> StreamOptions:
    """The options of one stream. stream: as in STREAM=. Raises InputError for invalid values."""
    kind = load_stream(stream)
    texts: dict[str, str] = {}  # option -> its value for this stream, "" if empty
    for name in PER_STREAM:
        texts[name] = by_stream(name, getattr(options, name), options.stream).get(kind.name, "")
        if texts[name] and name in kind.unused_options:
            raise InputError(
                f"{name.upper()}={texts[name]}: STREAM={kind.name} does not use this option; "
                "leave it out"
            )
    texts |= _defaults_of(options, kind, texts)
    if texts["at"] and texts["node"]:
        raise InputError(
            f"AT={texts['at']} stores feature maps, and NODE={texts['node']} stores vectors; "
            "give only one of the two options"
        )
    clip = read_length("CLIP", texts["clip"], _MOST_CLIP_FRAMES)
    filled = StreamOptions(
        name=kind.name,
        extractor=texts["extractor"],
        weights=texts["weights"],
        width=_number("width", texts["width"], float),
        nodes=tuple((texts["at"] or texts["node"]).replace(",", " ").split()),
        pool=options.pool and not texts["at"],
        clip_frames=clip.frames,
        clip_seconds=clip.seconds,
        resize_px=read_resize(texts["resize"]),
        crop_px=int(_number("size", texts["size"], int)),
        antialias=_switch("antialias", texts["antialias"]),
        preset=texts["preset"],
        steps=options.t or None,
        sampling=options.sampling,
        seed=options.seed,
        trajectories=options.trajectories,
        crops=options.crops or 1,
        keep_crops=options.keep_crops,
        jitter=options.jitter,
        precision=options.precision,
        decoder=options.decoder,
        image_fps=options.image_fps,
    )
    kind.check(filled)
    return filled


def _defaults_of(options: ExtractOptions, kind: Stream, texts: dict[str, str]) -> dict[str, str]:
    """The defaults of the per-stream options that are empty. texts: the options that are set."""
    if not kind.has_network:
        return {}
    defaults = dict(stream_defaults(options.dataset, kind.name))
    # The defaults describe the default network; another network, and weights that were trained
    # here, have their own weights and sizes.
    if texts["extractor"] and texts["extractor"] != defaults.get("extractor"):
        return {}
    if texts["weights"] not in NOT_TRAINED_HERE:
        defaults = {"extractor": defaults["extractor"]}
    return {name: value for name, value in defaults.items() if not texts[name]}


def with_image_fps(options: ExtractOptions, dataset: Dataset) -> ExtractOptions:
    """Set IMAGE_FPS to the frame rate that the data set states for its folders of images. Raises
    InputError if no frame rate is known although frames are chosen by seconds."""
    if dataset.image_fps:
        if options.image_fps:
            return options
        return dataclasses.replace(options, image_fps=dataset.image_fps)
    cut_out = [video for video in dataset.videos if video.span_seconds]
    streams = [load_stream(text) for text in options.stream]
    is_timed = options.is_timed and any(stream.input == "pictures" for stream in streams)
    looks_at_seconds = options.sampling == "adaptive" or any(
        stream.needs_seconds for stream in streams
    )
    looks_at_seconds = looks_at_seconds or is_timed
    paths = dict.fromkeys(video.path for video in (dataset.videos if looks_at_seconds else cut_out))
    folder = next((path for path in paths if path.is_dir()), None)
    if folder:
        reason = "SAMPLING=adaptive measures time in seconds"
        if cut_out:
            reason = f"the labels of {dataset.name} are in seconds"
        elif is_timed:
            reason = "FPS, and lengths in seconds, choose frames by time"
        raise InputError(
            f"{reason}, but the frame rate of {folder} and other folders of images is not known; "
            f"give IMAGE_FPS=<frames per second> (earlier versions used {ASSUMED_FPS:g})"
        )
    return options


def lengths_alone(options: ExtractOptions) -> ExtractOptions:
    """The options that extract only the flow lengths that adaptive sampling follows."""
    changes: dict[str, Any] = {"stream": (FLOW_LENGTHS,), "split": (), "sampling": "sigma"}
    changes |= dict.fromkeys(PER_STREAM, "")
    return dataclasses.replace(options, **changes)


def _switch(name: str, text: str) -> bool | None:
    """The value of a switch, None if it is empty. Raises InputError for values other than 1 and
    0."""
    if text not in ("", "0", "1"):
        raise InputError(f"{name.upper()}={text}: must be 1 or 0")
    return text == "1" if text else None


def _number(name: str, text: str, kind: type) -> Any:
    """The number, 0 if the text is empty. Raises InputError if the text is not a number or the
    number is outside the option's range."""
    if not text:
        return 0
    try:
        value = kind(text) if text.isascii() else None
    except ValueError:
        value = None
    if value is None:
        raise InputError(f"{name.upper()}={brief(text)}: must be a number")
    check_value(name.upper(), value, kind, ExtractOptions.__dataclass_fields__[name].metadata)
    return value
