"""The options of `extract`."""

from dataclasses import dataclass
from typing import Any, ClassVar

from reelbank.data.datasets.options import (
    csv_option,
    dataset_option,
    image_fps_option,
    lists_option,
    root_option,
)
from reelbank.data.options import bank_option, option
from reelbank.data.ranges import (
    DEVICES,
    HIGHEST_SEED,
    MOST_PX,
    MOST_ROWS,
    MOST_WORKERS,
    Checked,
)
from reelbank.data.recipes import preset_options
from reelbank.data.video.options import in_flight_option, picture_option, slowness_option
from reelbank.extract.defaults import USUAL_DATASET, USUAL_STREAMS
from reelbank.extract.streams.per_stream import applicable
from reelbank.extract.streams.registry import STREAMS

DAMAGED = ("keep", "refuse")
# These repeat what the computing modules accept: importing those would make --help slow.
SAMPLINGS = ("sigma", "segments", "adaptive")
DIGESTS = ("sampled", "whole")
FLOW_METHODS = ("tvl1", "dis", "farneback", "raft_small", "raft_large")


@dataclass(frozen=True)
class ExtractOptions(Checked):
    """Options of the command `extract`."""

    GROUPS: ClassVar[dict[str, str]] = {
        "Videos": "dataset root lists csv classes image_fps",
        "Features": "stream recipe seed",
        "Network": "extractor weights split width preset node at pool",
        "Rows (feature vectors) of a video": "sampling t clip stride grid windows window",
        "Pictures": "resize size antialias crops keep_crops views jitter",
        "Optical flow and trajectories": "flow flow_weights trajectories",
        "Damaged and oversized videos": (
            "damaged retry timeout picture_mpx in_flight_mpx slowness"
        ),
        "Store": "bank plan shard digest part_seconds",
        "Machine": "device workers decoder batch precision compile",
    }

    dataset: str = dataset_option(USUAL_DATASET)
    recipe: str = option(
        "",
        "recipe with the feature settings of a paper, by name or as a TOML file; options on the "
        "command line override it",
    )
    root: str = root_option()
    lists: str = lists_option()
    csv: str = csv_option()
    classes: tuple[str, ...] = option((), "extract only the videos of these classes", unset="all")
    stream: tuple[str, ...] = option(
        USUAL_STREAMS,
        "streams to extract, all in one pass over the videos. Options marked 'per stream' take "
        "one value for all streams, or 'rgb=VALUE flow=VALUE'",
        tuple(STREAMS),
        own_file=True,
    )
    extractor: str = option(
        "",
        "network (per stream): torchvision:<model>, timm:<model>, i3d, c3d, bn_inception, "
        "motion_cnn, vggish, pixels, or <file>.py:<function> for your own network",
        unset="torchvision:resnet50; vggish for audio; torchvision:resnet18 for toy",
    )
    weights: str = option(
        "",
        "weights of the network (per stream): pretrained, random, a file, or the hash of weights "
        "from 'reelbank pretrain'",
        unset="pretrained; random for toy",
    )
    split: tuple[str, ...] = option(
        (),
        "splits to extract for, if WEIGHTS were trained separately for each split; each split "
        "gets its own store",
        unset="all splits that have weights",
    )
    width: str = option(
        "",
        "multiplier for the channel counts of motion_cnn, per stream",
        above=0,
        highest=64,
    )
    node: str = option(
        "",
        "names of the network's layers (nodes) whose outputs to store as vectors, per stream; "
        "each layer gets its own store",
        unset="the input of the classifier",
    )
    at: str = option(
        "",
        "names of the network's layers (nodes) whose outputs to store as feature maps, per "
        "stream; for heads that contain the network's remaining layers",
    )
    pool: bool = option(True, "average feature maps over space and time; 0 stores the whole maps")
    crops: int | None = option(
        None,
        "number of crops per picture, over which the features are averaged; 1 takes only the "
        "centre crop",
        (1, 5, 10),
        unset="10; 1 for toy and charades",
    )
    keep_crops: bool = option(False, "store the features of every crop instead of their average")
    views: int = option(
        0,
        "number of augmented copies (views) of each training video to store in addition to the "
        "original. Each view has a random flip, a random choice of clips and one random crop "
        "(with KEEP_CROPS=1, CROPS random crops)",
        lowest=0,
        highest=255,
    )
    jitter: bool = option(
        False,
        "with VIEWS, vary the size and aspect ratio of the crops, as in the training of TSN; 0 "
        "gives all crops the size SIZE",
    )
    t: int | None = option(
        None,
        "number of clips per video (T); 0 keeps all clips",
        unset="25; 16 for toy; 8 per window for charades; at most 180 with SAMPLING=adaptive",
        lowest=0,
        highest=MOST_ROWS,
    )
    sampling: str = option(
        "",
        "how the T clips are spread over a video: 'sigma' spreads them evenly and includes both "
        "ends, 'segments' takes the centres of T equal segments, 'adaptive' takes more clips where "
        "there is more motion",
        SAMPLINGS,
        unset="sigma; segments for charades",
    )
    clip: str = option(
        "",
        "frames per clip, per stream; on the flow stream, flow fields per clip",
        unset="1 for image networks, 10 for flow; video networks have their own length",
        lowest=1,
        highest=10_000,
    )
    stride: int | None = option(
        None,
        "number of frames between the starts of two clips",
        unset="1; 8 for video networks",
        lowest=1,
        highest=MOST_ROWS,
    )
    grid: int = option(
        0,
        "clip length, in frames, from which to compute the clip positions. All streams use these "
        "positions, so their clips are aligned; 0 uses the length of the longest clip",
        lowest=0,
        highest=10_000,
    )
    windows: int | None = option(
        None,
        "number of windows per video, each with T clips",
        unset="1; 10 for charades",
        lowest=1,
        highest=10_000,
    )
    window: int | None = option(
        None, "number of frames per window", unset="256 for charades", lowest=1, highest=MOST_ROWS
    )
    flow: str = option(
        "", "method that computes optical flow", FLOW_METHODS, unset="tvl1; dis for toy"
    )
    flow_weights: str = option(
        "",
        "weights of FLOW=raft_small or raft_large: pretrained, random, or a file",
        unset="pretrained",
    )
    trajectories: int = option(
        2000,
        "with STREAM=idt, the maximum number of trajectories stored per video; if there are "
        "more, a random selection is stored",
        lowest=1,
        highest=10_000_000,
    )
    resize: str = option(
        "",
        "size in pixels to which pictures are resized before cropping, per stream; 256 sets the short "
        "side, 256x340 stretches them to height x width",
        unset="as in the training of the weights; 112 for toy",
        lowest=1,
        highest=MOST_PX,
    )
    size: str = option(
        "",
        "side length of the crops in pixels, per stream",
        unset="as in the training of the weights; 112 for toy",
        lowest=1,
        highest=MOST_PX,
    )
    antialias: str = option(
        "",
        "whether to smooth pictures before they are made smaller: 1 does, 0 does not; per stream",
        unset="as in the training of the weights",
    )
    preset: str = option(
        "",
        "if WEIGHTS is a file, use the preprocessing of these published weights, for example "
        "IMAGENET1K_V1 or a timm tag; per stream",
        unset="the network's usual preprocessing",
    )
    decoder: str = option(
        "auto", "library that decodes videos", ("auto", "pyav", "opencv", "decord")
    )
    damaged: str = option(
        "keep",
        "what to do with damaged videos: 'keep' stores the frames that can be decoded and "
        "records the damage, 'refuse' skips the videos",
        DAMAGED,
    )
    precision: str = option(
        "fp32",
        "floating-point precision of the network; tf32 needs an NVIDIA GPU",
        ("fp32", "tf32", "fp16", "bf16"),
    )
    compile: str = option(
        "auto",
        "whether to speed up the network with torch.compile: 1 does, 0 does not, 'auto' does for "
        "large jobs",
        ("auto", "1", "0"),
    )
    batch: int = option(
        0,
        "number of network inputs per batch; 0 means 30 on the CPU and 250 on a GPU, or an "
        "eighth of these numbers for video networks",
        lowest=0,
        highest=100_000,
    )
    device: str = option(
        "auto",
        "device to compute on; 'all' uses every GPU, with one process for each, and 'cuda:0 cuda:1' "
        "the named ones",
        form=DEVICES,
    )
    workers: int = option(
        0,
        "number of decoding processes, over all devices; 0 means one per core, but 1 if a network runs on the CPU "
        "and idt is not extracted",
        lowest=0,
        highest=MOST_WORKERS,
    )
    image_fps: float | None = image_fps_option()
    seed: int = option(
        0,
        "seed for random weights, views, trajectories, the toy set and the random split of a "
        "folder",
        lowest=0,
        highest=HIGHEST_SEED,
    )
    shard: str = option(
        "",
        "part of the videos to extract, as i/n; run 1/4, 2/4, 3/4 and 4/4 in separate processes "
        "to share the work. All parts go into one store",
    )
    retry: bool = option(False, "retry videos that failed in an earlier extraction")
    digest: str = option(
        "sampled",
        "how to detect that a video file of unchanged size has changed: 'sampled' compares hashes "
        "of its beginning, middle and end, 'whole' compares hashes of the whole file",
        DIGESTS,
    )
    part_seconds: float = option(
        30.0,
        "seconds between commits to disk; an interruption loses at most this many seconds of work",
        above=0,
        highest=86_400,
    )
    timeout: float = option(
        120.0,
        "seconds to wait for a decoded frame before a video counts as failed",
        above=0,
        highest=1_000_000,
    )
    picture_mpx: float = picture_option()
    in_flight_mpx: float = in_flight_option()
    slowness: float = slowness_option()
    plan: bool = option(
        False,
        "print the number of videos and the time and disk space needed, then stop; "
        "DATASET=toy generates its videos first",
    )
    bank: str = bank_option()

    @staticmethod
    def recipe_sets(options: dict[str, Any]) -> dict[str, Any]:
        """The options that RECIPE sets. options: those that the user set."""
        of_recipe = preset_options(options.get("recipe", ""), "extract")
        if not of_recipe:
            return {}
        usual_streams = str(of_recipe.get("stream", " ".join(USUAL_STREAMS)))
        streams = options.get("stream") or tuple(usual_streams.replace(",", " ").split())
        # Whether WIDTH applies depends on the extractor, which the user may have changed.
        extractor = options.get("extractor")
        combined = of_recipe | ({"extractor": extractor} if extractor else {})
        used = applicable(combined, streams)
        return {name: value for name, value in of_recipe.items() if name in used}
