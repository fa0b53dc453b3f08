"""Options of the commands fuse, svm, anomaly and predict."""

from dataclasses import dataclass
from typing import ClassVar

from reelbank.data.banks import WithBanks
from reelbank.data.options import (
    bank_option,
    banks_option,
    device_option,
    option,
    trust_option,
)
from reelbank.data.ranges import HIGHEST_SEED, MOST_FPS, MOST_WORKERS, Checked
from reelbank.data.video.options import in_flight_option, picture_option, slowness_option
from reelbank.extract.options import DAMAGED
from reelbank.fusion.evaluation.options import SELECTING, Selection

# Names of the rules in fusion/late.py: HOWS.
HOW_CHOICES = ("sum", "product", "logits", "geometric", "rank")
MISSING = ("refuse", "allow")


@dataclass(frozen=True)
class FuseOptions(Selection):
    """Options of the command `fuse`."""

    GROUPS: ClassVar[dict[str, str]] = {
        "Which runs": SELECTING,
        "Fusion": "how weights search validation missing",
    }

    how: str = option(
        "product",
        "how the scores are combined: 'logits' adds the logits before the softmax; the other "
        "methods combine the probabilities after it, by sum, product, geometric mean or rank",
        HOW_CHOICES,
    )
    weights: tuple[float, ...] = option(
        (),
        "weights of the runs in the fusion, in the order in which the command prints the runs",
        unset="all 1",
        lowest=0,
        highest=1e9,
    )
    search: bool = option(
        False,
        "search for the weights with the highest accuracy on the validation scores (for "
        "multi-label data, the highest mean average precision), separately for each split and "
        "seed",
    )
    validation: tuple[str, ...] = option(
        (),
        "with SEARCH=1, files with validation scores: one for each score file in RUNS, in the "
        "same order",
    )
    missing: str = option(
        "refuse",
        "what to do if a run has no scores for a video, for example because the video has no "
        "sound: 'refuse' stops with an error, 'allow' fuses the scores of the other runs",
        MISSING,
    )


@dataclass(frozen=True)
class SvmOptions(Selection):
    """Options of the command `svm`."""

    GROUPS: ClassVar[dict[str, str]] = {
        "Which runs": SELECTING,
        "SVM": "c svm_lambda cv cs znorm missing",
    }

    c: float | None = option(
        None,
        "penalty C as in scikit-learn: the SVM minimises |w|^2 / 2 + C times the sum of the "
        "hinge losses",
        above=0,
        highest=1e12,
    )
    svm_lambda: float | None = option(
        None,
        "penalty lambda, an alternative to C: the SVM minimises lambda |w|^2 + the mean hinge loss",
        unset="0.01, if C is not given",
        above=0,
        highest=1e12,
    )
    cv: int = option(
        0,
        "number of folds of the cross-validation that chooses C on the training part; videos "
        "of one group are in the same fold. 0 turns cross-validation off",
        lowest=0,
        highest=1000,
    )
    cs: tuple[float, ...] = option(
        (),
        "values of C to try with CV",
        unset="powers of 10 from 0.0001 to 100",
        above=0,
        highest=1e12,
    )
    znorm: bool = option(
        False,
        "first normalise each embedding dimension to mean 0 and standard deviation 1; the "
        "statistics are computed on the training part",
    )
    missing: str = option(
        "refuse",
        "what to do if a run has no embedding of a video, for example because the video has "
        "no sound: 'refuse' stops with an error, 'allow' uses zeros as the embedding and, for "
        "each run, adds an input that says whether the embedding exists",
        MISSING,
    )


@dataclass(frozen=True)
class AnomalyOptions(Checked, WithBanks):
    """Options of the command `anomaly`."""

    GROUPS: ClassVar[dict[str, str]] = {
        "Features": "bank banks store run detector",
        "What is abnormal": "abnormal each split false_alarms",
        "Autoencoder": "bottleneck hidden epochs lr validation seed",
    }

    bank: str = bank_option()
    banks: tuple[str, ...] = banks_option()
    store: str = option(
        "",
        "feature store, given as the start of its hash or as the path of its file; each video "
        "is represented by the mean of its rows (feature vectors)",
    )
    run: tuple[str, ...] = option(
        (),
        "runs whose embeddings are used instead of the features of a store; the embeddings of "
        "several runs are concatenated",
    )
    detector: str = option(
        "",
        "detector that an earlier 'reelbank anomaly' saved, given as the name of its folder "
        "or the start of its hash; it scores all videos of STORE",
    )
    abnormal: tuple[str, ...] = option(
        (), "classes that are abnormal; all other classes are normal"
    )
    each: bool = option(
        False,
        "use each class in turn as the abnormal class, instead of ABNORMAL, and print the "
        "results as one table",
    )
    split: str = option(
        "1",
        "split to use; the detector is trained on its training part and evaluated on its test part",
    )
    seed: tuple[int, ...] = option(
        (0,),
        "random seeds for the initial weights, the order of batches and the choice of the "
        "validation videos; one detector is trained for each seed",
        lowest=0,
        highest=HIGHEST_SEED,
    )
    bottleneck: tuple[int, ...] = option(
        (16,),
        "number of units in the narrowest layer. If you give several numbers, the number that "
        "best separates the abnormal training videos from the normal validation videos is "
        "used",
        lowest=1,
        highest=65_536,
    )
    hidden: int = option(
        128,
        "number of units in the layers before and after the narrowest layer",
        lowest=1,
        highest=65_536,
    )
    epochs: int = option(
        300,
        "maximum number of epochs; training stops after 20 epochs without a lower validation error",
        lowest=1,
        highest=1_000_000,
    )
    lr: float = option(1e-3, "learning rate of the Adam optimiser", above=0, highest=1e38)
    validation: float = option(
        0.2,
        "fraction of the normal training videos to hold out, in whole groups of related "
        "videos. The held-out videos decide when the training stops, which BOTTLENECK is used "
        "and where the thresholds are. With RUN, the videos that were not used to train the "
        "heads are held out instead",
        above=0,
        below=1,
    )
    false_alarms: tuple[float, ...] = option(
        (0.05, 0.1),
        "accepted false-alarm rates: fractions of normal videos that may be reported as "
        "abnormal. Each rate gives one threshold",
        above=0,
        below=1,
    )


@dataclass(frozen=True)
class FileOptions(Checked, WithBanks):
    """Options of a command that computes features of video files as a store's features were."""

    bank: str = bank_option()
    banks: tuple[str, ...] = banks_option()
    extractor: str = option(
        "",
        "your own network as <file>.py:<function>, or the folder of a model of transformers as "
        "hf:<folder>, if it computed the features; with TRUST_REMOTE_CODE=1 also a model of the hub, "
        "as hf:<owner>/<model>; write several networks as 'a b'",
    )
    trust_remote_code: bool = trust_option()
    stream: str = option(
        "",
        "your own stream as <file>.py:<Class>, if the features were extracted with it; write "
        "several streams as 'a b'",
    )
    extractor_weights: str = option(
        "",
        "weights file of the network that computes the features; required if its weights came "
        "from a file",
    )
    flow_weights: str = option(
        "", "weights file of RAFT; required if the weights of RAFT came from a file"
    )
    image_fps: float = option(
        0.0,
        "frame rate, in frames per second, of videos that are stored as folders of images; 0 "
        "uses the frame rate of the videos that the features came from",
        lowest=0,
        highest=MOST_FPS,
    )
    damaged: str = option(
        "keep",
        "what to do with damaged videos: 'keep' uses the frames that can be decoded and "
        "reports the damage, 'refuse' skips the videos",
        DAMAGED,
    )
    device: str = device_option()
    workers: int = option(
        0,
        "number of decoding processes; 0 means one per core if the network runs on a GPU, and "
        "a single process otherwise",
        lowest=0,
        highest=MOST_WORKERS,
    )
    picture_mpx: float = picture_option()
    in_flight_mpx: float = in_flight_option()
    slowness: float = slowness_option()


@dataclass(frozen=True)
class PredictOptions(FileOptions):
    """Options of the command `predict`."""

    GROUPS: ClassVar[dict[str, str]] = {
        "What to classify": "videos store image_fps",
        "Models": "run how weights bank banks",
        "Your own Python files, and weights files": "head stream extractor trust_remote_code extractor_weights flow_weights",
        "Output": "top to",
        "Damaged and oversized videos": "damaged picture_mpx in_flight_mpx slowness",
        "Machine": "device workers",
    }

    videos: tuple[str, ...] = option(
        (), "video files, or folders to search for video files", positional=True
    )
    run: str = option(
        "",
        "run to predict with, given as its name, the start of its hash, or its folder. To "
        "fuse the scores of several runs, write 'a b'",
    )
    store: str = option(
        "",
        "classify the videos of this feature store instead of VIDEOS. The store is given as "
        "the start of its hash or as the path of its file; for a run with mid fusion, give "
        "both stores as a+b",
        unset="the only store of the bank, if VIDEOS is empty",
    )
    how: str = option(
        "product", "how the scores of several runs are combined, as in 'reelbank fuse'", HOW_CHOICES
    )
    weights: tuple[float, ...] = option(
        (),
        "weights of the runs in the fusion, in the order of RUN",
        unset="all 1",
        lowest=0,
        highest=1e9,
    )
    head: tuple[str, ...] = option(
        (), "your own head as path/to/file.py:name, if the runs were trained with it"
    )
    top: int = option(5, "number of classes to print for each video", lowest=1, highest=1_000_000)
    to: str = option(
        "",
        "file to write the predictions to: .csv for the TOP classes of each video, or .npz "
        "for the scores of all classes",
        unset="reports/predict-<name>.csv in the bank, if VIDEOS is a folder",
    )
