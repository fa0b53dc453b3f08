"""The recipe of a run, which contains everything that its result depends on. Its hash names the
run's folder.

`RunRecipe` is the only code that writes and reads the recipe's JSON. Keys are in the order in which
they are written. Keys that were added later are written only where they apply, so the JSON of old
runs and their hashes never change.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reelbank.data.errors import InputError

SAMPLINGS = ("sigma", "segments", "windows")
AVERAGES = ("probabilities", "logits")
OVER_CLIPS = ("mean", "max")
MIDS = ("sum", "product", "concat")
TRUNKS = ("backbone", "pool")
SKIP_KINDS = ("identity", "linear", "nonlinear")
OPTIMISERS = ("rmsprop", "adam", "sgd", "momentum")
SCHEDULES = ("constant", "step", "cosine", "plateau")
BEST_BY = ("accuracy", "loss")


@dataclass(frozen=True)
class Rule:
    """How a video's rows become sequences. The `views` of a video are sampled separately.

    sampling: "sigma" takes `steps` rows (None: all); "segments" takes one row from each of `steps`
    equal segments, which is a random row in every epoch of training, and the rows at `positions`
    places in scoring (clips.segments); "windows" takes windows of `steps` rows every `stride` rows,
    at most `most` (clips.sliding_windows). clips: windows that the store itself cut whole videos
    into, each sampled separately; crops: how many crops of a row are used as separate sequences (0:
    crops are averaged).
    """

    sampling: str = "sigma"
    steps: int | None = None
    stride: int = 0
    most: int = 0
    positions: int = 1
    clips: int = 1
    crops: int = 0


@dataclass(frozen=True)
class Scoring:
    """How the scores of sequences become the scores of their video.

    average: the sequences of a clip (windows, positions, crops) are averaged as "probabilities"
    (MRRN paper, 4.2) or as "logits" (Relational LSTM paper, 5.2). over_clips: the clips that the
    store cut a video into are joined by the "mean" in the same way or by the "max" (Charades).
    multilabel: probabilities are sigmoids, not a softmax, and the loss is binary cross-entropy.
    """

    average: str = "probabilities"
    over_clips: str = "mean"
    multilabel: bool = False


@dataclass(frozen=True)
class Training:
    """How a model is trained by gradient descent. TrainOptions explains each value."""

    optimiser: str
    lr: float
    weight_decay: float
    batch: int
    epochs: int
    schedule: str
    lr_drops: tuple[int, ...]
    patience: int
    seed: int
    best_by: str = "accuracy"
    batch_share: float = 0.0
    one_view: bool = False
    # These came later: recipes with these values do not contain them.
    rmsprop_alpha: float = 0.99
    patience_steps: int = 0

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Training:
        return cls(**{**document, "lr_drops": tuple(document["lr_drops"])})

    def to_json(self) -> dict[str, Any]:
        document = dataclasses.asdict(self) | {"lr_drops": list(self.lr_drops)}
        for name in ("rmsprop_alpha", "patience_steps"):
            if document[name] == getattr(Training, name):
                del document[name]
        return document


@dataclass(frozen=True)
class Normalisation:
    """The normalisation of features before the head, fitted on the training part."""

    znorm: bool
    pca: int

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Normalisation:
        return cls(document["znorm"], document["pca"])

    def to_json(self) -> dict[str, Any]:
        return {"order": "znorm, pca", "znorm": self.znorm, "pca": self.pca, "fitted_on": "train"}


@dataclass(frozen=True)
class MidFusionRecipe:
    """Several stores whose rows are joined before the head. dims: number of features of each
    store's rows."""

    how: str
    stores: tuple[str, ...]
    dims: tuple[int, ...]
    store_family: str = ""

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> MidFusionRecipe:
        lists = tuple(document["stores"]), tuple(document["dims"])
        return cls(document["how"], *lists, document.get("store_family", ""))

    def to_json(self) -> dict[str, Any]:
        document = {"how": self.how, "stores": list(self.stores), "dims": list(self.dims)}
        return document | ({"store_family": self.store_family} if self.store_family else {})


@dataclass(frozen=True)
class Classifier:
    """The last layer: "softmax", trained with the head, or "svm", with the L2 parameter `l2` on the
    trained embeddings, or with scikit-learn's `c` where the head is fitted in closed form."""

    kind: str = "softmax"
    l2: float | None = None
    c: float | None = None

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Classifier:
        return cls(document["kind"], document.get("lambda"), document.get("c"))

    def to_json(self) -> dict[str, Any]:
        numbers = {"lambda": self.l2, "c": self.c}
        return {"kind": self.kind} | {key: n for key, n in numbers.items() if n is not None}


@dataclass(frozen=True)
class TrunkRecipe:
    """The first part of a head on feature maps. It is "pool", the mean over space, or "backbone",
    the rest of the store's network after `node`. fields: number of flow fields that the network
    takes (0: no flow); skips: residual blocks with a temporal skip of kind `skip`."""

    kind: str
    extractor: str = ""
    node: str = ""
    stream: str = ""
    width: float = 1.0
    fields: int = 0
    sha256: str = ""
    # hash of a user's file, because the same weights in other code are another network
    code_sha256: str = ""
    batch_norm_eps: float | None = None
    skips: tuple[str, ...] = ()
    skip: str = ""

    @property
    def is_backbone(self) -> bool:
        return self.kind == "backbone"

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> TrunkRecipe:
        names = {field.name for field in dataclasses.fields(cls)}
        values = {name: value for name, value in document.items() if name in names}
        return cls(**values | {"skips": tuple(document.get("skips", ()))})

    def to_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {"kind": self.kind}
        if self.is_backbone:
            names = ("extractor", "node", "stream", "width", "fields", "sha256", "code_sha256")
            document |= {name: getattr(self, name) for name in names}
            if self.batch_norm_eps is not None:
                document["batch_norm_eps"] = self.batch_norm_eps
        if self.skips:
            document |= {"skips": list(self.skips), "skip": self.skip}
        return document


@dataclass(frozen=True)
class InitialRecipe:
    """The run whose weights a head starts from. sha256: its signature; of: hash of its experiment,
    the same for all splits and seeds (runs/repetition.py)."""

    sha256: str
    of: str

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> InitialRecipe:
        return cls(document["sha256"], document["of"])

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


_AS_THEY_ARE = (  # keys whose values are the same in JSON and in RunRecipe
    *("store", "dataset", "stream", "extractor", "head", "head_options", "validation"),
    *("coverage", "split", "seed", "refit"),
)


@dataclass(frozen=True)
class RunRecipe:
    """Everything that determines the result of a run.

    store_family: identifies the stores of all splits together, if their extractors were trained by
    `pretrain`. row_shape: shape of the store's rows. input_shape: shape of the rows that the head
    reads. head_code_sha256: hash of the user's file that defines the head. views: how augmented
    views are used, "" if there are none. initial: the run from whose weights the head starts.
    coverage: hash of the videos, their parts and their features. refit: whether the head was
    trained again on training and validation videos together.
    """

    store: str
    dataset: str
    stream: str
    extractor: str
    row_shape: tuple[int, ...]
    input_shape: tuple[int, ...]
    rows: Rule
    scoring: Scoring
    head: str
    head_options: Mapping[str, Any]
    classifier: Classifier
    validation: float
    normalise: Normalisation
    coverage: str
    classes: tuple[str, ...]
    split: str
    seed: int
    training: Training
    refit: bool
    store_family: str = ""
    head_code_sha256: str = ""
    mid: MidFusionRecipe | None = None
    norm_momentum: float = 0.0
    trunk: TrunkRecipe | None = None
    views: str = ""
    initial: InitialRecipe | None = None

    def to_json(self) -> dict[str, Any]:
        """The recipe as in recipe.json."""
        document: dict[str, Any] = {"kind": "run", "store": self.store}
        if self.store_family:
            document["store_family"] = self.store_family
        document |= {
            "dataset": self.dataset,
            "stream": self.stream,
            "extractor": self.extractor,
            "row_shape": list(self.row_shape),
            "input_shape": list(self.input_shape),
            "rows": dataclasses.asdict(self.rows),
            "scoring": dataclasses.asdict(self.scoring),
            "head": self.head,
            "head_options": dict(self.head_options),
        }
        if self.head_code_sha256:
            document["head_code_sha256"] = self.head_code_sha256
        document |= {"classifier": self.classifier.to_json(), "validation": self.validation}
        if self.mid:
            document["mid"] = self.mid.to_json()
        if self.norm_momentum:
            document["norm_momentum"] = self.norm_momentum
        if self.trunk:
            document["trunk"] = self.trunk.to_json()
        document["normalise"] = self.normalise.to_json()
        if self.views:
            document["views"] = self.views
        if self.initial:
            document["initial"] = self.initial.to_json()
        return document | {
            "coverage": self.coverage,
            "classes": list(self.classes),
            "split": self.split,
            "seed": self.seed,
            "training": self.training.to_json(),
            "refit": self.refit,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> RunRecipe:
        """Raises InputError for a recipe that another version wrote, or that is damaged."""
        optional = {
            "store_family": document.get("store_family", ""),
            "head_code_sha256": document.get("head_code_sha256", ""),
            "norm_momentum": document.get("norm_momentum", 0.0),
            "views": document.get("views", ""),
        }
        fields = dataclasses.fields(cls)
        required = {one.name for one in fields if one.default is dataclasses.MISSING}
        if absent := required - document.keys():
            raise InputError(
                "the run's recipe was written by another version and has no entry "
                f"{', '.join(sorted(absent))}; train the run again"
            )
        try:
            if mid := document.get("mid"):
                optional["mid"] = MidFusionRecipe.from_json(mid)
            if trunk := document.get("trunk"):
                optional["trunk"] = TrunkRecipe.from_json(trunk)
            if initial := document.get("initial"):
                optional["initial"] = InitialRecipe.from_json(initial)
            return cls(
                **{name: document[name] for name in _AS_THEY_ARE},
                row_shape=tuple(document["row_shape"]),
                input_shape=tuple(document["input_shape"]),
                rows=Rule(**document["rows"]),
                scoring=Scoring(**document["scoring"]),
                classifier=Classifier.from_json(document["classifier"]),
                normalise=Normalisation.from_json(document["normalise"]),
                classes=tuple(document["classes"]),
                training=Training.from_json(document["training"]),
                **optional,
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InputError(
                f"the run's recipe cannot be read ({' '.join(str(error).split())}); train "
                "the run again"
            ) from None
