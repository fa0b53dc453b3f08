"""Options of the commands fuse, svm, anomaly and predict."""

from dataclasses import dataclass
from typing import ClassVar

from reelbank.data.options import bank_option, device_option, option
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
        "how scores are combined; logits combines them before the softmax, the other rules "
        "after it",
        HOW_CHOICES,
    )
    weights: tuple[float, ...] = option(
        (),
        "weight of each fused run, in the order in which the runs are printed",
        unset="all 1",
        lowest=0,
        highest=1e9,
    )
    search: bool = option(
        False,
        "choose the weights that are best on the validation scores, for each split and seed "
        "separately",
    )
    validation: tuple[str, ...] = option(
        (),
        "with SEARCH=1, files with validation scores, one for each score file in RUNS and in the "
        "same order",
    )
    missing: str = option(
        "refuse",
        "what to do if a run has no scores for a video, for example one without sound: 'refuse' "
        "stops with an error, 'allow' fuses the other runs",
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
        "penalty C as in scikit-learn, which minimises |w|^2 / 2 + C times the sum of the "
        "hinge losses",
        above=0,
        highest=1e12,
    )
    svm_lambda: float | None = option(
        None,
        "penalty lambda, as an alternative to C; the SVM then minimises lambda |w|^2 + the mean "
        "hinge loss",
        unset="0.01, if C is not given",
        above=0,
        highest=1e12,
    )
    cv: int = option(
        0,
        "choose C by cross-validation on the training part with this number of folds; videos of "
        "one group stay in one fold. 0 turns cross-validation off",
        lowest=0,
        highest=1000,
    )
    cs: tuple[float, ...] = option(
        (),
        "with CV, values of C to try",
        unset="powers of 10 from 0.0001 to 100",
        above=0,
        highest=1e12,
    )
    znorm: bool = option(
        False,
        "first scale each embedding dimension to mean 0 and standard deviation 1 on the "
        "training part",
    )
    missing: str = option(
        "refuse",
        "what to do if a run has no embedding of a video, for example one without sound: 'refuse' "
        "stops with an error, 'allow' replaces the embedding by zeros and adds inputs that say "
        "which runs are present",
        MISSING,
    )


@dataclass(frozen=True)
class AnomalyOptions(Checked):
    """Options of the command `anomaly`."""

    GROUPS: ClassVar[dict[str, str]] = {
        "Features": "bank store run detector",
        "What is abnormal": "abnormal each split false_alarms",
        "Autoencoder": "bottleneck hidden epochs lr validation seed",
    }

    bank: str = bank_option()
    store: str = option(
        "",
        "feature store, given as the start of its hash or as its file; each video is "
        "represented by the mean of its rows (feature vectors)",
    )
    run: tuple[str, ...] = option(
        (),
        "runs whose embeddings are used instead of the features of a store; the embeddings of "
        "several runs are concatenated",
    )
    detector: str = option(
        "",
        "saved detector that scores all videos of STORE, given as the name of its folder or the "
        "start of its hash",
    )
    abnormal: tuple[str, ...] = option(
        (), "classes that are abnormal; all other classes are normal"
    )
    each: bool = option(
        False,
        "instead of ABNORMAL, use each class in turn as the abnormal class, and print one table "
        "of all experiments",
    )
    split: str = option(
        "1", "split to use; detectors are fitted on its training part and scored on its test part"
    )
    seed: tuple[int, ...] = option(
        (0,),
        "seeds for the initial weights, the batches and the validation part",
        lowest=0,
        highest=HIGHEST_SEED,
    )
    bottleneck: tuple[int, ...] = option(
        (16,),
        "number of units of the narrowest layer; if several are given, the one whose "
        "autoencoder best separates the abnormal training videos from the normal validation "
        "videos is used",
        lowest=1,
        highest=65_536,
    )
    hidden: int = option(
        128,
        "number of units of the layers before and after the narrowest one",
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
        "fraction of the normal training videos to hold out, in whole groups. These videos decide "
        "when to stop training, which BOTTLENECK to use and where to set the thresholds. With RUN, "
        "the videos that the heads were not trained on are held out instead",
        above=0,
        below=1,
    )
    false_alarms: tuple[float, ...] = option(
        (0.05, 0.1),
        "fractions of normal videos that may be reported as abnormal; each fraction sets one "
        "threshold",
        above=0,
        below=1,
    )


@dataclass(frozen=True)
class PredictOptions(Checked):
    """Options of the command `predict`."""

    GROUPS: ClassVar[dict[str, str]] = {
        "What to classify": "videos store image_fps",
        "Models": "run how weights bank",
        "Networks that the features need": "head stream extractor extractor_weights flow_weights",
        "Output": "top to",
        "Damaged and oversized videos": "damaged picture_mpx in_flight_mpx slowness",
        "Machine": "device workers",
    }

    bank: str = bank_option()
    videos: tuple[str, ...] = option(
        (), "video files, or folders to search for video files", positional=True
    )
    run: str = option(
        "",
        "run to predict with, given as its name, the start of its hash, or its folder; the "
        "scores of several runs, 'a b', are fused",
    )
    store: str = option(
        "",
        "classify the videos of this feature store instead of VIDEOS. The store is given as the "
        "start of its hash or as its file; for mid fusion give two, a+b",
        unset="the only store of the bank, if VIDEOS is empty",
    )
    how: str = option("product", "how the scores of several runs are combined", HOW_CHOICES)
    weights: tuple[float, ...] = option(
        (),
        "weights with which the scores of the runs are combined, in the order of RUN",
        unset="all 1",
        lowest=0,
        highest=1e9,
    )
    extractor: str = option(
        "",
        "<file>.py:<function> of your own network, if it made the features; give several "
        "networks as 'a b'",
    )
    stream: str = option(
        "",
        "<file>.py:<Class> of your own stream, if the features were made with one; give several "
        "streams as 'a b'",
    )
    extractor_weights: str = option(
        "", "weights file of the network, if its weights came from a file"
    )
    flow_weights: str = option("", "weights file of RAFT, if its weights came from a file")
    head: tuple[str, ...] = option(
        (), "path/to/file.py:name of your own head, if the runs were trained with one"
    )
    image_fps: float = option(
        0.0,
        "frames per second of videos that are folders of images; 0 uses the rate of the run's "
        "training videos",
        lowest=0,
        highest=MOST_FPS,
    )
    top: int = option(5, "number of classes to print for each video", lowest=1, highest=1_000_000)
    to: str = option(
        "",
        "file to write to: .csv with the TOP classes, or .npz with all scores",
        unset="reports/predict-<name>.csv in the bank, if VIDEOS is a folder",
    )
    damaged: str = option(
        "keep",
        "what to do with damaged videos: 'keep' classifies the frames that can be decoded and "
        "reports the damage, 'refuse' skips the videos",
        DAMAGED,
    )
    device: str = device_option()
    workers: int = option(
        0,
        "number of decoding processes; 0 means one per core, but 1 if the network runs on the CPU",
        lowest=0,
        highest=MOST_WORKERS,
    )
    picture_mpx: float = picture_option()
    in_flight_mpx: float = in_flight_option()
    slowness: float = slowness_option()
