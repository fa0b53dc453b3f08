"""Options of the command `pretrain`."""

from dataclasses import dataclass
from typing import ClassVar

from reelbank.data.datasets.options import (
    csv_option,
    dataset_option,
    image_fps_option,
    lists_option,
    root_option,
)
from reelbank.data.options import bank_option, device_option, option
from reelbank.data.ranges import (
    HIGHEST_SEED,
    MOST_PX,
    MOST_ROWS,
    MOST_WORKERS,
    Checked,
)
from reelbank.data.video.options import in_flight_option, picture_option, slowness_option
from reelbank.heads import defaults
from reelbank.heads.recipe import BEST_BY, OPTIMISERS


@dataclass(frozen=True)
class PretrainOptions(Checked):
    """Options of the command `pretrain`. Options that `extract` also has mean the same there."""

    GROUPS: ClassVar[dict[str, str]] = {
        "Videos": "dataset root lists csv classes without image_fps split",
        "Network": "stream extractor weights width freeze dropout",
        "Input": "t segments clip flow flow_weights resize size jitter flip",
        "Optimisation": (
            "optimiser lr lr_drops weight_decay batch epochs patience best_by validation seed"
        ),
        "Machine": "device workers picture_mpx in_flight_mpx slowness bank",
    }

    dataset: str = dataset_option(defaults.PRETRAINED_DATASET)
    root: str = root_option()
    lists: str = lists_option()
    csv: str = csv_option()
    classes: tuple[str, ...] = option(
        (), "train only on these classes, in the order of the data set", unset="all"
    )
    without: tuple[str, ...] = option((), "classes that are not used in training")
    split: tuple[str, ...] = option(
        ("1",),
        "splits to train on, one run each, which uses only the split's training part; 'all' means "
        "every split",
    )
    image_fps: float | None = image_fps_option()
    seed: int = option(
        0,
        "seed for the initial weights, the order of batches, augmentation, the toy set and the "
        "random split of a folder",
        lowest=0,
        highest=HIGHEST_SEED,
    )
    stream: str = option(
        defaults.PRETRAINED_STREAM,
        "stream that the network takes as input",
        defaults.PRETRAINED_STREAMS,
    )
    extractor: str = option(
        "", "network to train; the names are those of 'reelbank extract'", unset="motion_cnn"
    )
    weights: str = option(
        "",
        "initial weights: pretrained, random, a file, or the hash of weights from an earlier "
        "'reelbank pretrain'",
        unset="pretrained; random for motion_cnn",
    )
    width: float | None = option(
        None,
        "multiplier for the channel counts of motion_cnn",
        unset="1; 0.125 for toy",
        above=0,
        highest=64,
    )
    freeze: str = option(
        "",
        "name of a layer of the network; all layers before it keep their weights and "
        "batch-norm statistics",
    )
    clip: int | None = option(
        None,
        "pictures per clip; with STREAM=flow, flow fields per clip",
        unset="as for extract; 5 for toy",
        lowest=1,
        highest=10_000,
    )
    flow: str = option(
        "",
        "method that computes optical flow; the names are those of 'reelbank extract'",
        unset="tvl1; dis for toy",
    )
    flow_weights: str = option(
        "",
        "weights of FLOW=raft_small or raft_large: pretrained, random, or a file",
        unset="pretrained",
    )
    t: int = option(
        10,
        "number of pictures or clips (T) to load per video; each epoch trains on a random "
        "choice of them",
        lowest=1,
        highest=MOST_ROWS,
    )
    segments: int = option(
        3,
        "number of equal segments per video. One random clip is drawn from each segment, and the "
        "logits of these clips are averaged; 1 trains on single clips",
        lowest=1,
        highest=1000,
    )
    jitter: bool = option(True, "crop at random corners and scales; 0 crops the centre")
    flip: bool = option(
        True, "mirror a random half of the videos; use 0 if left and right have different meanings"
    )
    dropout: float | None = option(
        None,
        "dropout rate before the classifier",
        unset="0.5; 0 for motion_cnn, which has its own dropout",
        lowest=0,
        below=1,
    )
    optimiser: str = option(
        "adam",
        "optimiser; 'sgd' is SGD with Nesterov momentum 0.9, 'momentum' is SGD with classical "
        "momentum 0.9",
        choices=OPTIMISERS,
    )
    lr: float = option(1e-3, "initial learning rate", above=0, highest=1e38)
    lr_drops: tuple[int, ...] = option(
        (), "epochs after which the learning rate is divided by 10", lowest=0, highest=1_000_000
    )
    weight_decay: float = option(
        0.0, "L2 penalty on the weights that are trained", lowest=0, highest=1000
    )
    batch: int | None = option(
        None, "videos per batch", unset="32; 8 for toy", lowest=1, highest=100_000
    )
    epochs: int | None = option(
        None, "maximum number of epochs", unset="60; 12 for toy", lowest=1, highest=1_000_000
    )
    patience: int = option(
        0,
        "stop after this many epochs without a better validation measure (BEST_BY); 0 never "
        "stops early",
        lowest=0,
        highest=1_000_000,
    )
    best_by: str = option("accuracy", "validation measure that selects the best epoch", BEST_BY)
    validation: float = option(
        0.2,
        "fraction of the training part that is held out for validation, in whole groups of "
        "related videos; 0 holds out none",
        lowest=0,
        below=1,
    )
    resize: str = option(
        "",
        "size in pixels to which pictures are resized before cropping; 256 sets the height and "
        "makes the aspect ratio 4:3, 299x299 is height x width",
        unset="as the network expects; 72 for toy",
        lowest=1,
        highest=MOST_PX,
    )
    size: int | None = option(
        None,
        "side length of the crops in pixels",
        unset="as the network expects; 64 for toy",
        lowest=1,
        highest=MOST_PX,
    )
    device: str = device_option()
    workers: int = option(1, "number of threads that read pictures", lowest=1, highest=MOST_WORKERS)
    picture_mpx: float = picture_option()
    in_flight_mpx: float = in_flight_option()
    slowness: float = slowness_option()
    bank: str = bank_option()
