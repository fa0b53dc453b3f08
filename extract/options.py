"""The options of `extract`."""

from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar

from reelbank.data.banks import WithBanks
from reelbank.data.datasets.options import (
    csv_option,
    dataset_name_option,
    dataset_option,
    image_fps_option,
    lists_option,
    root_option,
)
from reelbank.data.options import (
    bank_option,
    banks_option,
    cluster_option,
    option,
    trust_option,
)
from reelbank.data.ranges import (
    DEVICES,
    HIGHEST_SEED,
    MOST_PX,
    MOST_ROWS,
    MOST_WORKERS,
    Checked,
    Form,
)
from reelbank.data.recipes import preset_options
from reelbank.data.video.options import in_flight_option, picture_option, slowness_option
from reelbank.extract.defaults import FILES_DATASET, USUAL_DATASET, USUAL_STREAMS
from reelbank.extract.lengths import SECONDS_PATTERN, is_in_seconds, read_length
from reelbank.extract.streams.per_stream import applicable, by_stream
from reelbank.extract.streams.registry import STREAMS

DAMAGED = ("keep", "refuse")
# These repeat what the computing modules accept: importing those would make --help slow.
SAMPLINGS = ("sigma", "segments", "adaptive")
DIGESTS = ("sampled", "whole")
FLOW_METHODS = ("tvl1", "dis", "farneback", "raft_small", "raft_large")


@dataclass(frozen=True)
class ExtractOptions(Checked, WithBanks):
    """Options of the command `extract`."""

    GROUPS: ClassVar[dict[str, str]] = {
        "Videos": "videos dataset root lists csv dataset_name classes image_fps",
        "Features": "stream recipe seed",
        "Network": "extractor trust_remote_code weights split width preset node at pool",
        "Rows (feature vectors) of a video": "sampling t fps clip stride grid windows window",
        "Pictures": "resize size antialias crops keep_crops views jitter",
        "Optical flow and trajectories": "flow flow_weights trajectories",
        "Damaged and oversized videos": (
            "damaged retry timeout picture_mpx in_flight_mpx slowness"
        ),
        "Store": "bank banks plan shard digest part_seconds",
        "Machine": "device cluster workers decoder batch precision compile",
    }

    dataset: str = dataset_option(
        f"{FILES_DATASET} if VIDEOS, ROOT or CSV is given, otherwise {USUAL_DATASET}"
    )
    recipe: str = option(
        "",
        "recipe that sets the feature options to the values of a paper: the name of a "
        "built-in recipe, such as 'multistream', or a TOML file. Options on the command line "
        "override it",
    )
    root: str = root_option()
    lists: str = lists_option()
    csv: str = csv_option()
    dataset_name: str = dataset_name_option()
    classes: tuple[str, ...] = option((), "extract only the videos of these classes", unset="all")
    stream: tuple[str, ...] = option(
        USUAL_STREAMS,
        "streams (kinds of input) to extract, all in one pass over the videos. Options marked "
        "'per stream' accept one value for all streams, or one for each: 'rgb=VALUE "
        "flow=VALUE'",
        tuple(STREAMS),
        own_file=True,
    )
    extractor: str = option(
        "",
        "network that computes the features, per stream: torchvision:<model>, timm:<model>, "
        "hf:<owner>/<model> or hf:<folder> for a model of transformers, i3d, c3d, bn_inception, "
        "motion_cnn, vggish, pixels, or <file>.py:<function> for your own network",
        unset="torchvision:resnet50; vggish for audio; torchvision:resnet18 for toy",
    )
    weights: str = option(
        "",
        "weights of the network, per stream: pretrained, random, the path of a weights file, "
        "or the hash that 'reelbank pretrain' printed",
        unset="pretrained; random for toy",
    )
    trust_remote_code: bool = trust_option()
    split: tuple[str, ...] = option(
        (),
        "splits for which to extract features, if 'reelbank pretrain' trained separate "
        "WEIGHTS for each split; each split gets its own store",
        unset="all splits that have weights",
    )
    width: str = option(
        "",
        "factor by which the channel counts of motion_cnn are multiplied, per stream",
        above=0,
        highest=64,
        unset="1; for weights from 'reelbank pretrain', the width with which they were trained",
    )
    node: str = option(
        "",
        "names of the network layers (nodes) whose outputs are stored as vectors, per stream; "
        "each layer gets its own store",
        unset="the input of the classifier",
    )
    at: str = option(
        "",
        "names of the network layers (nodes) whose outputs are stored as feature maps, per "
        "stream. Use it for heads that apply the remaining layers of the network themselves",
    )
    pool: bool = option(
        True,
        "average the output of each NODE over space and time before it is stored; 0 stores "
        "the whole output",
    )
    crops: int | None = option(
        None,
        "number of crops per picture, over which the features are averaged; 1 uses only the "
        "centre crop",
        (1, 5, 10),
        unset="10; 1 for toy and charades",
    )
    keep_crops: bool = option(False, "store the features of every crop instead of their average")
    views: int = option(
        0,
        "number of augmented copies (views) of each training video to store in addition to "
        "the original. Each view has a random flip, a random choice of clips and one random "
        "crop (CROPS random crops with KEEP_CROPS=1)",
        lowest=0,
        highest=255,
    )
    jitter: bool = option(
        False,
        "with VIEWS, vary the size and aspect ratio of the random crops, as in the training "
        "of TSN; 0 uses crops of SIZE x SIZE pixels",
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
        "how the T clips of a video are chosen: 'sigma' spreads them evenly from the first to "
        "the last possible clip, 'segments' takes the centres of T equal segments, 'adaptive' "
        "takes more clips where there is more motion",
        SAMPLINGS,
        unset="sigma; segments for charades",
    )
    clip: str = option(
        "",
        "length of a clip, per stream: the number of frames, or the number of flow fields on "
        "the flow stream. Or a time in seconds, such as 2s, over which the frames that the network "
        "reads at once are spread evenly",
        unset="1 for image networks; 10 for flow (5 for bn_inception and toy); video networks have "
        "their own length",
        lowest=1,
        highest=10_000,
    )
    fps: float | None = option(
        None,
        "number of frames per second at which videos are sampled, whatever their own frame rate: "
        "frames are taken at equal steps of time, and CLIP, STRIDE, GRID and WINDOW count these "
        "frames",
        unset="every frame of the file",
        above=0,
        highest=1000,
    )
    stride: str = option(
        "",
        "number of frames from the start of one clip to the start of the next, or a time in "
        "seconds, such as 0.5s; SAMPLING chooses T of these clips",
        unset="1; 8 for video networks",
        lowest=1,
        highest=MOST_ROWS,
        form=Form(
            rf"0*[1-9][0-9]{{,6}}|{SECONDS_PATTERN}",
            "at least 1 frame, or a time in seconds, such as 0.5s",
        ),
    )
    grid: str = option(
        "",
        "clip length, in frames or, such as 2s, in seconds, from which the clip positions of all "
        "streams are computed; 0 uses the longest clip of the extracted streams. If you extract "
        "streams separately, use the same GRID for all so that their clips are aligned",
        unset="0",
        lowest=0,
        highest=10_000,
        form=Form(
            rf"[0-9]{{1,7}}|{SECONDS_PATTERN}",
            "a number of frames, or a time in seconds, such as 2s",
        ),
    )
    windows: int | None = option(
        None,
        "number of windows per video. A window is a section of WINDOW frames, and T clips are "
        "taken from each",
        unset="no windows; 10 for charades",
        lowest=1,
        highest=10_000,
    )
    window: int | None = option(
        None,
        "number of frames per window; required if WINDOWS is set",
        unset="256 for charades",
        lowest=1,
        highest=MOST_ROWS,
    )
    flow: str = option(
        "", "method that computes optical flow", FLOW_METHODS, unset="tvl1; dis for toy"
    )
    flow_weights: str = option(
        "",
        "weights of the RAFT network, with FLOW=raft_small or raft_large: pretrained, random, "
        "or the path of a weights file",
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
        "size in pixels to which pictures are resized before cropping, per stream. 256 sets "
        "the short side and keeps the aspect ratio; 256x340 sets height x width",
        unset="as in the preprocessing of the weights; 112 for toy",
        lowest=1,
        highest=MOST_PX,
    )
    size: str = option(
        "",
        "side length of the square crops in pixels, per stream",
        unset="as in the preprocessing of the weights; 112 for toy",
        lowest=1,
        highest=MOST_PX,
    )
    antialias: str = option(
        "",
        "whether to use antialiasing when pictures are made smaller: 1 (yes) or 0 (no), per stream",
        unset="as in the preprocessing of the weights",
    )
    preset: str = option(
        "",
        "published weights whose preprocessing is used if WEIGHTS is a file or random, per "
        "stream; for example IMAGENET1K_V1 (torchvision) or a1_in1k (a timm tag)",
        unset="the network's default preprocessing",
    )
    decoder: str = option(
        "auto",
        "library that decodes videos; 'auto' is the same as 'pyav'",
        ("auto", "pyav", "opencv", "decord"),
    )
    damaged: str = option(
        "keep",
        "what to do with damaged videos: 'keep' stores the frames that can be decoded and "
        "records the damage, 'refuse' stores no features and records the videos as failed",
        DAMAGED,
    )
    precision: str = option(
        "fp32",
        "floating-point precision of the network; tf32 needs an NVIDIA GPU",
        ("fp32", "tf32", "fp16", "bf16"),
    )
    compile: str = option(
        "auto",
        "whether to speed up the network with torch.compile: 1 (yes), 0 (no) or 'auto' (only "
        "for large extractions)",
        ("auto", "1", "0"),
    )
    batch: int = option(
        0,
        "number of network inputs per batch; 0 means 250 on a GPU (31 for video networks), and "
        "at most 30 on the CPU (fewer for a network whose layers need much memory)",
        lowest=0,
        highest=100_000,
    )
    device: str = option(
        "auto",
        "device to compute on; 'auto' uses the GPU with the most free memory, or the CPU if there is "
        "no GPU. 'all' uses every GPU, and 'cuda:0 cuda:1' uses the GPUs with these numbers; each GPU "
        "gets a separate process",
        form=DEVICES,
    )
    cluster: str = cluster_option()
    workers: int = option(
        0,
        "total number of decoding processes for all devices, with CLUSTER for each worker; 0 means "
        "one per core if the network runs on a GPU or idt is extracted, and a single process "
        "otherwise",
        lowest=0,
        highest=MOST_WORKERS,
    )
    image_fps: float | None = image_fps_option()
    seed: int = option(
        0,
        "random seed for random weights, views, the selection of trajectories, the videos of "
        "toy, and the random split of DATASET=folder",
        lowest=0,
        highest=HIGHEST_SEED,
    )
    shard: str = option(
        "",
        "part of the videos to extract, as i/n. For example, start 1/4, 2/4, 3/4 and 4/4 in "
        "four processes to share the work; all of them write to the same store",
        unset="all videos",
    )
    retry: bool = option(False, "try again to extract videos that failed in an earlier extraction")
    digest: str = option(
        "sampled",
        "how to detect that a video file has changed if its size is the same: 'sampled' "
        "compares hashes of its beginning, middle and end, 'whole' compares hashes of the "
        "whole file",
        DIGESTS,
    )
    part_seconds: float = option(
        30.0,
        "number of seconds between writes to disk; if the command is interrupted, at most "
        "this much work is lost",
        above=0,
        highest=86_400,
    )
    timeout: float = option(
        120.0,
        "maximum number of seconds without a newly decoded frame; after this time, the video "
        "is recorded as failed",
        above=0,
        highest=1_000_000,
    )
    picture_mpx: float = picture_option()
    in_flight_mpx: float = in_flight_option()
    slowness: float = slowness_option()
    plan: bool = option(
        False,
        "print the number of videos and the time and disk space that the extraction needs, "
        "without extracting or writing anything",
    )
    bank: str = bank_option()
    banks: tuple[str, ...] = banks_option()
    videos: tuple[str, ...] = option(
        (),
        "your videos: a folder, which is the same as ROOT, or video files and folders, which are "
        "read as DATASET=folder reads the folder that contains them",
        positional=True,
    )

    def __post_init__(self) -> None:
        # In Python, numbers of frames may be given as numbers.
        for name in ("stride", "grid"):
            value = getattr(self, name)
            if value is None:
                object.__setattr__(self, name, "")
            elif isinstance(value, Integral) and not isinstance(value, bool):
                object.__setattr__(self, name, str(int(value)))
        if self.grid == "0":
            object.__setattr__(self, "grid", "")
        if not self.dataset:
            has_videos = bool(self.videos or self.root or self.csv)
            usual = FILES_DATASET if has_videos else USUAL_DATASET
            object.__setattr__(self, "dataset", usual)
        super().__post_init__()
        for name, most in (("stride", MOST_ROWS), ("grid", 10_000)):
            read_length(name.upper(), getattr(self, name), most)

    @property
    def code_sha256(self) -> str | None:
        """The hash of the only code of a model that may be run (see `NetworkRequest`); None for
        options that the user gave."""
        return None

    @property
    def is_timed(self) -> bool:
        """Whether clips are measured in time instead of frames."""
        lengths = [self.stride, self.grid]
        if self.clip:
            lengths += by_stream("clip", self.clip, self.stream).values()
        return self.fps is not None or any(map(is_in_seconds, lengths))

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
