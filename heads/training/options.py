"""The options of the command `train`, and the options that have no effect together.

Importing this module does not load torch or numpy; only `unused_options` loads the head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from reelbank.data.banks import WithBanks
from reelbank.data.errors import InputError
from reelbank.data.options import (
    bank_option,
    banks_option,
    cluster_option,
    device_option,
    option,
)
from reelbank.data.plugins import is_user_file
from reelbank.data.ranges import HIGHEST_SEED, MOST_ROWS, MOST_WORKERS, Checked, Form
from reelbank.data.recipes import preset_options, variant_options
from reelbank.heads import defaults
from reelbank.heads.models.registry import HEADS, head_spec
from reelbank.heads.recipe import (
    AVERAGES,
    BEST_BY,
    MIDS,
    OPTIMISERS,
    OVER_CLIPS,
    SAMPLINGS,
    SCHEDULES,
    SKIP_KINDS,
    TRUNKS,
)
from reelbank.heads.training.tracking.registry import TRACKERS

OF_SAMPLING = {"stride": "windows", "windows": "windows", "positions": "segments"}
VIEWS = ("all", "one", "none")
CLASSIFIERS = ("softmax", "svm")
DIMENSIONS = Form(r"half|all|[1-9][0-9]{0,5}", "half, all or a number from 1 to 999,999")
READ_FROM = ("auto", "memory", "disk")


@dataclass(frozen=True)
class TrainOptions(Checked, WithBanks):
    """Options of the command `train`. The defaults train every head; RECIPE= sets what a paper
    states."""

    GROUPS: ClassVar[dict[str, str]] = {
        "What to train on": "bank banks store dataset root stream extractor weights mid split classes without",
        "Head": (
            "head recipe layers hidden residual attention pool branches components dims "
            "dropout input_dropout rnn_dropout trunk trunk_weights skip skips context "
            "norm_momentum init classifier svm_lambda"
        ),
        "Input rows (feature vectors)": "sampling t stride windows positions crops views znorm pca",
        "Optimisation": (
            "optimiser rmsprop_alpha lr schedule lr_drops weight_decay batch batch_share epochs seed"
        ),
        "Evaluation": "validation validation_store patience patience_steps best_by refit average over_clips",
        "Machine": "device cluster workers read_from",
        "Tracking": "track",
    }

    bank: str = bank_option()
    banks: tuple[str, ...] = banks_option()
    recipe: str = option(
        "",
        "recipe that sets the options to the values of a paper: the name of a built-in "
        "recipe, such as 'mrrn', one of its variants (mrrn:low), or a TOML file. Options on "
        "the command line override it",
    )
    store: str = option(
        "",
        "feature store to train on, given as the start of its hash or as the path of its "
        "file; a+b joins the features of two stores (mid fusion)",
        unset="the only store that matches DATASET, STREAM, EXTRACTOR and WEIGHTS",
    )
    dataset: str = option("", "use only stores of this data set")
    root: str = option(
        "",
        "use only stores of the videos in this folder, as 'reelbank extract ROOT=<folder>' made "
        "them. It is not needed for data sets with a fixed name, such as ucf101",
    )
    stream: str = option(
        "", "use only stores of this stream; rgb+flow joins the features of two stores (mid fusion)"
    )
    extractor: str = option("", "use only stores with the features of this network")
    weights: str = option(
        "",
        "use only stores extracted with these weights, given as the start of the hash that "
        "'reelbank pretrain' printed",
    )
    mid: str = option(
        "sum",
        "with mid fusion, how the rows (feature vectors) of the stores are joined: by sum, "
        "product or concatenation",
        MIDS,
    )
    head: str = option(
        defaults.HEAD,
        "model to train on the features, or path/to/file.py:name for your own",
        choices=tuple(HEADS),
        own_file=True,
    )
    split: tuple[str, ...] = option(
        ("1",),
        "splits of the data set to train on; each split gives a separate run. 'all' means "
        "every split",
    )
    seed: tuple[int, ...] = option(
        (0,),
        "random seeds for the initial weights, the order of batches and dropout; each seed "
        "gives a separate run",
        lowest=0,
        highest=HIGHEST_SEED,
    )
    classes: tuple[str, ...] = option(
        (),
        "train only on these classes; their order is that of the data set, not the order "
        "given here",
        unset="all",
    )
    without: tuple[str, ...] = option((), "classes to leave out of training and scoring")
    sampling: str = option(
        "",
        "how sequences are formed from the rows of a video: 'sigma' takes T rows that are "
        "spread evenly, 'segments' takes one row from each of T equal segments, 'windows' "
        "takes sliding windows of T rows",
        SAMPLINGS,
        unset=f"{defaults.TRAIN['sampling']}; some heads have their own default",
    )
    t: int | None = option(
        None,
        "number of rows per sequence (T); required for SAMPLING=segments and SAMPLING=windows",
        unset="all rows of the video",
        lowest=1,
        highest=MOST_ROWS,
    )
    stride: int = option(
        0,
        "with SAMPLING=windows, number of rows from the start of one window to the start of "
        "the next; 0 means T, so that windows do not overlap",
        lowest=0,
        highest=MOST_ROWS,
    )
    windows: int = option(
        0,
        "with SAMPLING=windows, maximum number of windows per video; 0 means no limit",
        lowest=0,
        highest=MOST_ROWS,
    )
    positions: int = option(
        1,
        "with SAMPLING=segments, number of sequences per video when scores are computed. Each "
        "sequence takes a different row of every segment, and the scores of the sequences are "
        "averaged",
        lowest=1,
        highest=10_000,
    )
    crops: str = option(
        "mean",
        "how the crops in the store are used: 'mean' averages their features, 'each' makes a "
        "separate sequence from each crop",
        ("mean", "each"),
    )
    views: str = option(
        "all",
        "which augmented copies (views) of a training video are used in an epoch: 'all' uses "
        "the original and all views, 'one' picks the original or one view at random (with "
        "CROPS=each, also one crop), 'none' uses only the original",
        VIEWS,
    )
    average: str = option(
        "probabilities",
        "what is averaged over the sequences of a video: probabilities or logits",
        AVERAGES,
    )
    over_clips: str = option(
        "mean",
        "for stores in which videos are divided into windows, how the scores of the windows "
        "of a video are combined; 'max' is usual for Charades",
        OVER_CLIPS,
    )
    layers: int | None = option(
        None,
        "number of recurrent layers",
        unset=f"{defaults.TRAIN['layers']}; some heads have their own default",
        lowest=1,
        highest=100,
    )
    hidden: int = option(
        0,
        "number of units of each recurrent layer; 0 means the length of the feature vectors",
        lowest=0,
        highest=65_536,
    )
    residual: bool = option(True, "for reslstm, add the input of each layer to its output")
    attention: bool = option(
        False,
        "for lstm, gru, bilstm and bigru, apply scaled dot-product attention to the input sequence",
    )
    pool: str = option(
        "mean",
        "for sru and tsn, how the logits of all steps of a sequence are combined into one result",
        ("mean", "max"),
    )
    branches: str = option(
        "both",
        "for rlstm, which branches of the head to use: the local branch, the nonlocal branch "
        "or both",
        ("both", "local", "nonlocal"),
    )
    components: int = option(
        256,
        "for fisher, number of Gaussians per mixture model. Trajectories have four models: "
        "one each for shape, HOG, HOF and MBH",
        lowest=1,
        highest=65_536,
    )
    dims: tuple[str, ...] = option(
        (),
        "for fisher, numbers of dimensions to which PCA reduces the rows, or each descriptor of a "
        "trajectory: a number, half (of the size) or all (no reduction). Of several, the one with "
        "the highest validation accuracy is used",
        unset="half for trajectories, otherwise half 64 32 128",
        form=DIMENSIONS,
    )
    trunk: str = option(
        "backbone",
        "for heads on feature maps, the layers between the stored maps and the head: "
        "'backbone' uses the remaining layers of the network that computed the maps, 'pool' "
        "averages the maps over space",
        TRUNKS,
    )
    trunk_weights: str = option(
        "",
        "weights file of the network that computed the feature maps; required if the weights "
        "of this network came from a file",
    )
    skip: str = option("identity", "for rrn, type of the temporal skip connections", SKIP_KINDS)
    skips: tuple[str, ...] = option(
        (),
        "for rrn, names of the residual blocks that get a temporal skip connection",
        unset="the last CONTEXT - 1 blocks whose input and output have the same shape",
    )
    context: int = option(
        2,
        "for rrn, number of frames that the temporal skip connections combine",
        lowest=2,
        highest=1000,
    )
    dropout: float = option(
        0.0, "dropout rate between layers and before the classifier", lowest=0, below=1
    )
    input_dropout: float = option(
        0.0,
        "for lstm, gru, bilstm and bigru, dropout rate for the input",
        lowest=0,
        below=1,
    )
    rnn_dropout: float = option(
        0.0,
        "for sru, dropout rate for the input of each layer's linear transformations",
        lowest=0,
        below=1,
    )
    norm_momentum: float = option(
        0.0,
        "for heads on feature maps, normalise with the running statistics of the batch norms "
        "during training, and update the statistics with this momentum; 0 normalises with the "
        "statistics of each batch",
        lowest=0,
        below=1,
    )
    init: tuple[str, ...] = option(
        (),
        "runs whose weights are used to initialise the training, one run for each split, given "
        "by name or by the start of their hash",
        unset="random weights; with TRUNK=backbone, the layers of the network start from the "
        "weights that were used to extract the store",
    )
    classifier: str = option(
        "softmax",
        "final classifier; with 'svm', a linear SVM on the trained embeddings replaces the "
        "softmax layer after training",
        CLASSIFIERS,
    )
    svm_lambda: float = option(
        0.01,
        "with CLASSIFIER=svm, the L2 penalty lambda of the SVM. It corresponds to C = 1 / (2 "
        "lambda n), where n is the number of training videos",
        above=0,
        highest=1e6,
    )
    znorm: bool | None = option(
        None,
        "normalise each feature to mean 0 and standard deviation 1; the statistics are "
        "computed on the training part",
        unset="1; 0 for heads on feature maps with TRUNK=backbone; some heads have their own default",
    )
    pca: int = option(
        0,
        "number of dimensions to which PCA reduces the features, after ZNORM; PCA is fitted "
        "on the training part. 0 turns PCA off",
        lowest=0,
        highest=1_000_000,
    )
    optimiser: str = option(
        "rmsprop",
        "optimiser; 'sgd' is SGD with Nesterov momentum 0.9, 'momentum' is SGD with classical "
        "momentum 0.9",
        choices=OPTIMISERS,
    )
    rmsprop_alpha: float = option(
        0.99,
        "with OPTIMISER=rmsprop, the smoothing constant alpha: the weight of the old value in "
        "the running mean of squared gradients",
        lowest=0,
        below=1,
    )
    lr: float | None = option(
        None,
        "initial learning rate",
        unset=f"{defaults.TRAIN['lr']:g}; some heads have their own default",
        above=0,
        highest=1e38,
    )
    weight_decay: float = option(
        0.0, "weight decay (L2 penalty) for all weights", lowest=0, highest=1000
    )
    batch: int = option(32, "number of sequences per batch", lowest=1, highest=1_000_000)
    batch_share: float = option(
        0.0,
        "batch size as a fraction of the number of training sequences; with 0, BATCH sets the "
        "batch size",
        lowest=0,
        below=1,
    )
    epochs: int = option(60, "maximum number of epochs", lowest=1, highest=1_000_000)
    schedule: str = option(
        "constant",
        "how the learning rate changes over the epochs: 'step' divides it by 10 after the "
        "epochs in LR_DROPS, 'cosine' lowers it to 0 along half a cosine wave, 'plateau' "
        "divides it by 10 after 5 epochs without a lower validation loss",
        SCHEDULES,
    )
    lr_drops: tuple[int, ...] = option(
        (),
        "with SCHEDULE=step, the epochs after which the learning rate is divided by 10",
        lowest=0,
        highest=1_000_000,
    )
    patience: int | None = option(
        None,
        "stop after this many epochs without an improvement of the validation measure "
        "BEST_BY; 0 never stops early. With PATIENCE_STEPS, the smallest number of epochs that it "
        "waits",
        unset=f"{defaults.TRAIN['patience']}, with PATIENCE_STEPS",
        lowest=0,
        highest=1_000_000,
    )
    patience_steps: int | None = option(
        None,
        "stop after this many batches, and at least PATIENCE epochs, in which neither the "
        "validation accuracy nor the validation loss was better than in every epoch before; 0 "
        "counts only epochs",
        unset=f"{defaults.TRAIN['patience_steps']}; 0 if PATIENCE is given",
        lowest=0,
        highest=1_000_000_000,
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
    validation_store: str = option(
        "",
        "store from which the validation videos are chosen, given in the same way as STORE. If "
        "some videos are missing from a store, for example because they have no sound, use the "
        "same VALIDATION_STORE for all runs so that the runs hold out the same videos",
        unset="the store to train on",
    )
    refit: bool = option(
        True,
        "after the best epoch is known, train again from the start for that many epochs, on "
        "the training and validation data together",
    )
    device: str = device_option()
    cluster: str = cluster_option()
    workers: int = option(
        1,
        "number of runs to train at the same time; with CLUSTER, each of its workers trains one run",
        lowest=1,
        highest=MOST_WORKERS,
    )
    read_from: str = option(
        "auto",
        "where features are read from during training; 'auto' loads them into memory if they "
        "need at most half of the free memory (a third if WORKERS is above 1)",
        READ_FROM,
    )
    track: str = option(
        "",
        "experiment tracker to which the figures of every epoch and the results are sent; "
        "tensorboard writes event files into the folder of each run. Needs the package of the tracker",
        choices=tuple(TRACKERS),
        unset="none",
    )

    @staticmethod
    def recipe_sets(options: dict[str, Any]) -> dict[str, Any]:
        """The options that RECIPE= sets, without those that have no effect with the chosen head.
        options: the options that the user set."""
        preset = preset_options(options.get("recipe", ""), "train", options.get("head", ""))
        if not preset:
            return {}
        unused = {*unused_options({**preset, **options})}
        if "batch" in options:
            unused.add("batch_share")
        for name in variant_options(options["recipe"]):
            if name in unused and name not in options:
                head = options.get("head", preset["head"])
                raise InputError(
                    f"RECIPE={options['recipe']} sets {name.upper()}, which has no effect "
                    f"with HEAD={head} and the other options; give another HEAD, or omit "
                    "the variant of the recipe"
                )
        return {name: value for name, value in preset.items() if name not in unused}


def unused_options(values: Mapping[str, Any]) -> dict[str, str]:
    """The options that have no effect with these `values` of the others, and the reasons. These are
    options of other heads, and options of another sampling, schedule or classifier."""
    head = values.get("head") or default_of("head")
    if head not in HEADS and not is_user_file(head):  # rejected later
        return {}
    spec = head_spec(head)
    for name in (*spec.defaults, *spec.unused):
        if name not in TrainOptions.__dataclass_fields__:
            raise InputError(
                f"HEAD={head}: its HeadSpec has an entry for '{name}', which is not an "
                "option of 'reelbank train'; remove the entry from defaults or unused"
            )
    for name in spec.defaults:
        if default_of(name) not in ("", None):  # only empty options are filled
            raise InputError(
                f"HEAD={head}: its HeadSpec must not set a default for '{name}'; only lr, "
                "layers, sampling, t, znorm, patience and patience_steps can have a default"
            )
    reasons = spec.unused_options(head)
    usual = spec.defaults.get("sampling", defaults.TRAIN["sampling"])
    sampling = values.get("sampling") or usual
    for name, needed in OF_SAMPLING.items():
        if needed != sampling:
            reasons[name] = f"applies only to SAMPLING={needed}, not to {sampling}"
    for name, other, needed in (
        ("rmsprop_alpha", "optimiser", "rmsprop"),
        ("lr_drops", "schedule", "step"),
        ("svm_lambda", "classifier", "svm"),
    ):
        if (values.get(other) or default_of(other)) != needed:
            reasons.setdefault(name, f"applies only to {other.upper()}={needed}")
    return reasons


def default_of(name: str) -> Any:
    """The default of an option of `train`."""
    return TrainOptions.__dataclass_fields__[name].default
