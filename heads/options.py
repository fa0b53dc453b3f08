"""The options of the command `train`, and what stands where they are left empty."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reelbank.data.errors import InputError
from reelbank.data.recipe import option
from reelbank.data.recipes import preset_options, variant_options
from reelbank.heads import HEADS
from reelbank.heads.fit import BEST_BY, OPTIMISERS, SCHEDULES, Training
from reelbank.heads.normalise import MIDS
from reelbank.heads.scoring import AVERAGES, OVER_CLIPS, Scoring
from reelbank.heads.sequences import SAMPLINGS
from reelbank.heads.streaming import READ_FROM
from reelbank.heads.trunk import TRUNKS

# Where an option is left empty. Learning rates were chosen on validation (docs/heads.md); what is not named trains at 1e-4.
HEAD_DEFAULTS: dict[str, dict[str, Any]] = {
    "": {"lr": 1e-4, "layers": 2, "sampling": "sigma"},
    "meanpool": {"lr": 1e-3},
    "tsn": {"lr": 1e-3},
    "sru": {"layers": 3},
    "rrn": {"sampling": "windows"},
    "fisher": {"znorm": False},
}
HEAD_OPTIONS = ("layers", "hidden", "residual", "dropout", "input_dropout", "attention", "pool", "branches", "components")
OF_TRAINING = (  # by gradients: of no use to a head that is fitted
    *("optimiser", "lr", "weight_decay", "batch", "batch_share", "epochs", "schedule", "lr_drops", "patience", "best_by"),
    *("views", "classifier", "svm_lambda"),
)
OF_SAMPLING = {"stride": "windows", "windows": "windows", "positions": "segments"}
VIEWS = ("all", "one", "none")
CLASSIFIERS = ("softmax", "svm")


@dataclass(frozen=True)
class TrainOptions:
    """Options of the command `train`. Defaults train every head; RECIPE= sets those that a paper states."""

    bank: str = option("bank", "folder that holds stores, runs and reports")
    recipe: str = option(
        "", "a paper's settings: a name in recipes/, with :<variant>, or a TOML file; options given beside it win"
    )
    store: str = option(
        "", "which feature store: the start of its hash; a+b: mid fusion of two; not needed when one alone fits"
    )
    dataset: str = option("", "the store's data set")
    stream: str = option("", "the store's stream; rgb+flow: mid fusion of two stores")
    extractor: str = option("", "the store's extractor")
    weights: str = option("", "start of the hash that the store's pretrained weights share over all splits (their family)")
    mid: str = option("sum", "mid fusion: how rows of several stores are joined", MIDS)
    head: str = option("reslstm", "network to train", choices=tuple(HEADS))
    split: tuple[str, ...] = option(("1",), "splits to train on, one run each; 'all' for every split of the data set")
    seed: tuple[int, ...] = option((0,), "seeds of weights, order and dropout, one run each")
    classes: tuple[str, ...] = option((), "train on these classes alone; their order stays the data set's")
    sampling: str = option("", "rows of a video that make a sequence (default: sigma; rrn: windows)", SAMPLINGS)
    t: int | None = option(None, "T: rows of a sequence; without it all rows the store has (segments, windows: needed)")
    stride: int = option(0, "rows between the beginnings of windows (default: T)")
    windows: int = option(0, "most windows of a video; 0: all")
    positions: int = option(1, "of segments: places in each segment that are scored, and averaged")
    crops: str = option("mean", "of a store that keeps its crops: their mean, or each a sequence", ("mean", "each"))
    views: str = option("all", "augmented views (and crops) of training videos: one is drawn anew in every epoch", VIEWS)
    average: str = option("probabilities", "what is averaged over the sequences of a video", AVERAGES)
    over_clips: str = option("mean", "over the windows that the store cut videos into (max: Charades)", OVER_CLIPS)
    layers: int | None = option(None, "stacked recurrent layers (default: 2; sru: 3)")
    hidden: int = option(0, "units of a recurrent layer; 0: as many as features")
    residual: bool = option(True, "add a layer's input to its output (reslstm)")
    attention: bool = option(False, "scaled dot-product attention after the input (lstm, gru, bilstm, bigru)")
    pool: str = option("mean", "over the steps' logits (sru, tsn)", ("mean", "max"))
    branches: str = option("both", "of the relational LSTM (rlstm)", ("both", "local", "nonlocal"))
    components: int = option(256, "Gaussians of each block's mixture (fisher)")
    trunk: str = option(
        "backbone", "what heads on maps begin with: the rest of the store's network, or the mean over space", TRUNKS
    )
    trunk_weights: str = option("", "file of the store's network's weights, where it was made with a file")
    skip: str = option("identity", "kind of temporal skip (rrn)", ("identity", "linear", "nonlinear"))
    skips: tuple[str, ...] = option((), "blocks that have one (rrn; default: the last CONTEXT - 1 that keep their shape)")
    context: int = option(2, "frames that the skips see (rrn)")
    dropout: float = option(0.0, "dropout between layers and before the classifier")
    input_dropout: float = option(0.0, "dropout of the input (lstm, gru, bilstm, bigru)")
    norm_momentum: float = option(0.0, "train with running statistics of batch norms, moved so fast (0: each batch's own)")
    classifier: str = option("softmax", "svm: a linear SVM on the trained embeddings in its place", CLASSIFIERS)
    svm_lambda: float = option(0.01, "the SVM's L2 parameter; C = 1 / (2 lambda n)")
    znorm: bool | None = option(
        None, "features to mean 0, deviation 1 on the training part (default: 1; before a backbone's rest, and fisher, 0)"
    )
    pca: int = option(0, "PCA to this many dimensions, fitted on the training part after znorm; 0: none")
    optimiser: str = option(
        "rmsprop", "optimiser; momentum is SGD with momentum 0.9, sgd has Nesterov's", choices=tuple(OPTIMISERS)
    )
    lr: float | None = option(None, "learning rate at the start (default: 1e-4; meanpool, tsn: 1e-3)")
    weight_decay: float = option(0.0, "L2 penalty on all weights")
    batch: int = option(32, "sequences in a batch")
    batch_share: float = option(0.0, "in place of BATCH: this share of all training sequences")
    epochs: int = option(60, "most epochs")
    schedule: str = option(
        "constant", "learning rate over epochs; plateau: /10 after 5 epochs without a lower validation loss", SCHEDULES
    )
    lr_drops: tuple[int, ...] = option((), "schedule step: epochs after which the learning rate is divided by 10")
    patience: int = option(3, "stop after this many epochs without a better one; 0: never")
    best_by: str = option("accuracy", "which validation figure says what epoch is best", BEST_BY)
    validation: float = option(0.2, "share of the training part cut off for validation, by whole groups; 0: none")
    refit: bool = option(True, "then train anew on training and validation part together, as many epochs as were best")
    device: str = option("auto", "where to train: auto, cpu, cuda, cuda:1 ...")
    workers: int = option(1, "runs trained at the same time")
    read_from: str = option("auto", "where rows lie while training; auto: on disk when they need half of the memory", READ_FROM)

    @staticmethod
    def preset(given: dict[str, Any]) -> dict[str, Any]:
        """What the recipe that is asked for sets, without what the head asked for has no use for; `given`: the options that
        were given."""
        known = {one.name for one in dataclasses.fields(TrainOptions)}
        found = preset_options(given.get("recipe", ""), "train", known, given.get("head", ""))
        if not found:
            return {}
        unused = [*unused_options({**found, **given}), *(["batch_share"] if "batch" in given else [])]
        for name in variant_options(given["recipe"]):
            if name in unused and name not in given:
                head = given.get("head", found["head"])
                raise InputError(
                    f"RECIPE={given['recipe']}: sets {name.upper()}, which is of no use to HEAD={head} as it is asked for"
                )
        return {name: value for name, value in found.items() if name not in unused}


def with_defaults(options: TrainOptions) -> TrainOptions:
    """Fill the options that were left empty from HEAD_DEFAULTS, and check numbers. Raises InputError for values that cannot
    be, and for options that nothing here uses."""
    for name, reason in unused_options(vars(options)).items():
        if (value := getattr(options, name)) != _default(name):
            raise InputError(f"{name.upper()}={' '.join(map(str, value)) if isinstance(value, tuple) else value}: {reason}")
    defaults = {**HEAD_DEFAULTS[""], **HEAD_DEFAULTS.get(options.head, {})}
    if options.head == "rrn" and options.sampling in ("", "windows"):
        defaults["t"] = (len(options.skips) or options.context - 1) + 1
    filled = {name: value for name, value in defaults.items() if getattr(options, name) in ("", None)}
    options = dataclasses.replace(options, **filled)
    _check_numbers(options)
    if options.sampling != "sigma" and not options.t:
        raise InputError(f"SAMPLING={options.sampling} needs T, the rows of a sequence")
    for name, of, other in (
        ("mid", "several stores, STREAM=rgb+flow", "+" in options.stream or "+" in options.store),
        ("context", "rrn without SKIPS", not options.skips),
        ("batch", "training without BATCH_SHARE", not options.batch_share),
    ):
        if getattr(options, name) != _default(name) and not other:
            raise InputError(f"{name.upper()}={getattr(options, name)}: is of {of}; leave it out")
    if options.classifier == "svm" and options.pool == "max":
        raise InputError("CLASSIFIER=svm: reads one embedding of a sequence; POOL=max classifies every step")
    if options.views == "all" and options.sampling == "segments" and options.crops == "each":
        raise InputError(
            "CROPS=each with SAMPLING=segments: give VIEWS=one, a crop and a row of each segment drawn every epoch"
        )
    return options


def head_options(options: TrainOptions) -> dict[str, Any]:
    """The options that the head takes, with their values."""
    taken = inspect.signature(HEADS[options.head]).parameters
    return {name: getattr(options, name) for name in HEAD_OPTIONS if name in taken}


def unused_options(values: Mapping[str, Any]) -> dict[str, str]:
    """The options that have no use beside these `values` of others, and why: what the head does not have, and what is of
    another sampling, schedule or classifier."""
    head = values.get("head") or _default("head")
    if head not in HEADS:  # is refused later
        return {}
    taken = inspect.signature(HEADS[head]).parameters
    found = {name: f"the head {head} has no such option" for name in HEAD_OPTIONS if name not in taken}
    if head != "rrn":
        found |= dict.fromkeys(("skip", "skips", "context"), f"is of HEAD=rrn, not of {head}")
    if "trunk" not in taken:
        found |= dict.fromkeys(("trunk", "trunk_weights", "norm_momentum"), f"is of heads on maps, not of {head}")
    if head == "fisher":
        found |= dict.fromkeys(OF_TRAINING, "fisher is fitted to the training rows at once: mixtures, then SVMs with C = 100")
    sampling = values.get("sampling") or HEAD_DEFAULTS.get(head, {}).get("sampling", HEAD_DEFAULTS[""]["sampling"])
    found |= {name: f"is of SAMPLING={own}, not of {sampling}" for name, own in OF_SAMPLING.items() if own != sampling}
    for name, of, own in (("lr_drops", "schedule", "step"), ("svm_lambda", "classifier", "svm")):
        if (values.get(of) or _default(of)) != own:
            found.setdefault(name, f"is of {of.upper()}={own}")
    return found


def training_of(options: TrainOptions, seed: int) -> dict[str, Any]:
    """The training part of the recipe."""
    own = {field.name for field in dataclasses.fields(Training)} - {"seed", "one_view"}
    values = {name: getattr(options, name) for name in own}
    training = Training(seed=seed, one_view=options.views == "one", **values)
    return dataclasses.asdict(training) | {"lr_drops": list(options.lr_drops)}


def scoring_of(options: TrainOptions, multilabel: bool) -> Scoring:
    """How the sequences of a video become its scores."""
    return Scoring(options.average, options.over_clips, multilabel)


def _default(name: str) -> Any:
    return TrainOptions.__dataclass_fields__[name].default


def _check_numbers(options: TrainOptions) -> None:
    for name in ("lr", "batch", "epochs", "workers", "t", "layers", "positions", "svm_lambda", "components"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise InputError(f"{name.upper()}={value}: must be above 0")
    for name in ("weight_decay", "patience", "pca", "hidden", "stride", "windows"):
        if not getattr(options, name) >= 0:
            raise InputError(f"{name.upper()}={getattr(options, name)}: must be at least 0")
    for name in ("validation", "dropout", "input_dropout", "batch_share", "norm_momentum"):
        if not 0 <= getattr(options, name) < 1:
            raise InputError(f"{name.upper()}={getattr(options, name)}: must be at least 0 and below 1")
    if options.context < 2:
        raise InputError(f"CONTEXT={options.context}: a skip sees two frames; give 2 or more")
    if not options.split or not options.seed or min(options.seed) < 0:
        raise InputError("SPLIT and SEED need at least one value each, and seeds are at least 0")
    if bool(options.lr_drops) != (options.schedule == "step"):
        raise InputError("SCHEDULE=step and LR_DROPS (the epochs after which the rate falls) go together")
