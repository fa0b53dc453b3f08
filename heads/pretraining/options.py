"""Options of the command `pretrain`."""

from dataclasses import dataclass
from typing import ClassVar

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
    device_option,
    option,
)
from reelbank.data.ranges import (
    HIGHEST_SEED,
    MOST_PX,
    MOST_ROWS,
    MOST_WORKERS,
    Checked,
)
from reelbank.data.video.options import in_flight_option, picture_option, slowness_option
from reelbank.extract.defaults import FILES_DATASET
from reelbank.heads import defaults
from reelbank.heads.recipe import BEST_BY, OPTIMISERS


@dataclass(frozen=True)
class PretrainOptions(Checked, WithBanks):
    """Options of the command `pretrain`. Options that `extract` also has mean the same there."""

    GROUPS: ClassVar[dict[str, str]] = {
        "Videos": "dataset root lists csv dataset_name classes without image_fps split",
        "Network": "stream extractor weights width freeze dropout",
        "Input": "t segments clip flow flow_weights resize size jitter flip",
        "Optimisation": (
            "optimiser lr lr_drops weight_decay batch epochs patience best_by validation seed"
        ),
        "Machine": "device cluster workers picture_mpx in_flight_mpx slowness bank banks",
    }

    dataset: str = dataset_option(
        f"{FILES_DATASET} if ROOT or CSV is given, otherwise {defaults.PRETRAINED_DATASET}"
    )
    root: str = root_option()
    lists: str = lists_option()
    csv: str = csv_option()
    dataset_name: str = dataset_name_option()
    classes: tuple[str, ...] = option(
        (),
        "train only on these classes; their order is that of the data set, not the order "
        "given here",
        unset="all",
    )
    without: tuple[str, ...] = option((), "classes to leave out of the training")
    split: tuple[str, ...] = option(
        ("1",),
        "splits to train on. Each split gives a separate run, which uses only the training "
        "part of this split; 'all' means every split",
    )
    image_fps: float | None = image_fps_option()
    seed: int = option(
        0,
        "random seed for the initial weights, the order of batches, augmentation, the videos "
        "of toy, and the random split of DATASET=folder",
        lowest=0,
        highest=HIGHEST_SEED,
    )
    stream: str = option(
        defaults.PRETRAINED_STREAM,
        "stream that the network takes as input",
        defaults.PRETRAINED_STREAMS,
    )
    extractor: str = option(
        "", "network to train; accepts the same names as 'reelbank extract'", unset="motion_cnn"
    )
    weights: str = option(
        "",
        "initial weights: pretrained, random, the path of a weights file, or the hash that an "
        "earlier 'reelbank pretrain' printed",
        unset="pretrained; random for motion_cnn",
    )
    width: float | None = option(
        None,
        "factor by which the channel counts of motion_cnn are multiplied",
        unset="1; 0.125 for toy",
        above=0,
        highest=64,
    )
    freeze: str = option(
        "",
        "name of a layer of the network. All layers before it are frozen: their weights and "
        "batch-norm statistics do not change",
        unset="no layer is frozen",
    )
    clip: int | None = option(
        None,
        "length of a clip: the number of pictures, or the number of flow fields with STREAM=flow",
        unset="as for 'reelbank extract'; 5 for toy",
        lowest=1,
        highest=10_000,
    )
    flow: str = option(
        "",
        "method that computes optical flow; accepts the same names as 'reelbank extract'",
        unset="tvl1; dis for toy",
    )
    flow_weights: str = option(
        "",
        "weights of the RAFT network, with FLOW=raft_small or raft_large: pretrained, random, "
        "or the path of a weights file",
        unset="pretrained",
    )
    t: int = option(
        10,
        "number of clips (T) to load per video, or of single pictures for image networks on "
        "rgb; each epoch trains on a random selection of them",
        lowest=1,
        highest=MOST_ROWS,
    )
    segments: int = option(
        3,
        "number of equal segments into which the T clips of a video are divided. In each "
        "epoch, one random clip is drawn from each segment, and the logits of these clips are "
        "averaged; 1 trains on single clips",
        lowest=1,
        highest=1000,
    )
    jitter: bool = option(
        True, "train on crops of random size and position; 0 uses the centre crop"
    )
    flip: bool = option(
        True, "mirror a random half of the videos; use 0 if a class depends on left and right"
    )
    dropout: float | None = option(
        None,
        "dropout rate before the classifier",
        unset="0.5; 0 for motion_cnn, which contains dropout layers",
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
        (),
        "epochs after which the learning rate is divided by 10",
        lowest=0,
        highest=1_000_000,
        unset="none (the learning rate is constant)",
    )
    weight_decay: float = option(
        0.0, "weight decay (L2 penalty) for the weights that are not frozen", lowest=0, highest=1000
    )
    batch: int | None = option(
        None, "number of videos per batch", unset="32; 8 for toy", lowest=1, highest=100_000
    )
    epochs: int | None = option(
        None, "maximum number of epochs", unset="60; 12 for toy", lowest=1, highest=1_000_000
    )
    patience: int = option(
        0,
        "stop after this many epochs without an improvement of the validation measure "
        "BEST_BY; 0 never stops early",
        lowest=0,
        highest=1_000_000,
    )
    best_by: str = option(
        "accuracy",
        "validation measure that selects the best epoch, whose weights are kept",
        BEST_BY,
    )
    validation: float = option(
        0.2,
        "fraction of the training part to hold out for validation. Groups of related videos "
        "are held out as a whole; 0 holds out nothing. If the split has a validation part, that part "
        "is used instead",
        lowest=0,
        below=1,
    )
    resize: str = option(
        "",
        "size in pixels to which pictures are resized before cropping. 256 sets the height, "
        "and the width is 4/3 of it; 299x299 sets height x width",
        unset="as the network expects; 72 for toy",
        lowest=1,
        highest=MOST_PX,
    )
    size: int | None = option(
        None,
        "side length of the square crops in pixels",
        unset="as the network expects; 64 for toy",
        lowest=1,
        highest=MOST_PX,
    )
    device: str = device_option()
    cluster: str = cluster_option()
    workers: int = option(1, "number of threads that read pictures", lowest=1, highest=MOST_WORKERS)
    picture_mpx: float = picture_option()
    in_flight_mpx: float = in_flight_option()
    slowness: float = slowness_option()
    bank: str = bank_option()
    banks: tuple[str, ...] = banks_option()

    def __post_init__(self) -> None:
        if not self.dataset:
            has_videos = bool(self.root or self.csv)
            usual = FILES_DATASET if has_videos else defaults.PRETRAINED_DATASET
            object.__setattr__(self, "dataset", usual)
        super().__post_init__()
