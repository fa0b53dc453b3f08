"""The description of a head for the commands. Each head's file defines a `HeadSpec`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reelbank.heads.recipe import Classifier, TrunkRecipe

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

# Options of `train` that a head may take, in the order in which recipes list them.
BUILD_OPTIONS = (
    "layers",
    "hidden",
    "residual",
    "dropout",
    "input_dropout",
    "rnn_dropout",
    "attention",
    "pool",
    "branches",
    "components",
    "dims",
)
# Options that heads gained after runs had been made, each with the value that is the same as none. A
# recipe does not contain this value, so that these runs keep their identity.
LATER_OPTIONS: dict[str, Any] = {"rnn_dropout": 0.0, "dims": ("half",)}
TRUNK_OPTIONS = ("skip", "skips", "context")  # for the network before the head
# options of every head that takes feature maps
MAP_OPTIONS = ("trunk", "trunk_weights", "norm_momentum")
GRADIENT_OPTIONS = (  # options without effect on a head that is fitted in closed form
    "optimiser",
    "rmsprop_alpha",
    "lr",
    "weight_decay",
    "batch",
    "batch_share",
    "epochs",
    "schedule",
    "lr_drops",
    "patience",
    "patience_steps",
    "best_by",
    "views",
    "init",
    "classifier",
    "svm_lambda",
)


@dataclass(frozen=True)
class TrainingPart:
    """The training part for a head that is fitted in closed form.

    rows: reads all rows as the head is given them, in pieces (R', D) float32, `row_count` in total;
    embed: computes the head's embeddings (n, E) of all n sequences; labels: (n,) int64, or (n, C)
    float32 for multi-label data; rank: how good the head is on the validation part, as numbers of
    which larger ones are better, the accuracy first; () without a validation part.
    """

    rows: Callable[[], Iterable[np.ndarray]]
    row_count: int
    embed: Callable[[], Tensor]
    labels: Tensor
    seed: int
    rank: Callable[[], tuple[float, ...]]


@dataclass(frozen=True)
class RowFacts:
    """The rows that a head is given. dim: number of features of a row; blocks: the sizes of the
    parts of a row, () if they are unknown or mixed by PCA."""

    dim: int
    blocks: tuple[int, ...] = ()


@dataclass(frozen=True)
class HeadSpec:
    """The description of a head for the commands.

    build: called as build(feature_dim, num_classes, **options), with `trunk` and `trunk_dim` too
        where it is given maps; returns an nn.Module with forward(x (N, T, D) float32, lengths (N,)
        int64) -> (logits (N, C), embedding (N, E)) and a linear last layer `classifier` that reads
        the embedding.
    options: the options of `train` that the head takes (BUILD_OPTIONS, TRUNK_OPTIONS); the former
        are given to `build`.
    defaults: values for options of `train` that are left empty (lr, layers, sampling, znorm), where
        they differ from the usual ones in heads/defaults.py.
    takes_vectors, takes_maps: the rows it takes. A head that takes maps (N, T, C, h, w) begins with
        a trunk (n, C, h, w) -> (n, trunk_dim); one that does not is given the mean over space.
    default_steps: the default of T, computed from the options by name; None: none.
    skips_of: the residual blocks of the trunk that get a temporal skip, for a head with the
        TRUNK_OPTIONS; called with the options by name and the trunk.
    row_options: more arguments of `build`, which follow from the rows. An option of `train` among
        them is used if it is not set.
    fit: fits the head, in place, in closed form and returns the logits of the training sequences;
        None: the head is trained by gradient descent.
    chosen: the arguments of `build` that `fit` chose on the validation part. The head is built with
        them for the second training, on training and validation part.
    classifier: what the recipe says about the last layer of a head with `fit`.
    unused: option -> why it has no effect with this head.
    """

    build: Callable[..., nn.Module]
    options: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    takes_vectors: bool = True
    takes_maps: bool = False
    default_steps: Callable[[Mapping[str, Any]], int | None] | None = None
    skips_of: Callable[[Mapping[str, Any], TrunkRecipe], tuple[str, ...]] | None = None
    row_options: Callable[[RowFacts], Mapping[str, Any]] | None = None
    fit: Callable[[Any, TrainingPart], Tensor] | None = None
    chosen: Callable[[Any], Mapping[str, Any]] | None = None
    classifier: Classifier = Classifier()
    unused: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.options, str):
            raise ValueError(
                f"HeadSpec: options must be a tuple (got the str '{self.options}'); write "
                f"('{self.options}',)"
            )
        for name in self.options:
            if name not in (*BUILD_OPTIONS, *TRUNK_OPTIONS):
                choices = ", ".join((*BUILD_OPTIONS, *TRUNK_OPTIONS))
                raise ValueError(f"HeadSpec: unknown option {name!r}; choose from {choices}")
        if not (self.takes_vectors or self.takes_maps):
            raise ValueError("HeadSpec: at least one of takes_vectors and takes_maps must be True")

    def unused_options(self, head: str) -> dict[str, str]:
        """Options of `train` that have no effect with this head, and why; head: its name."""
        reasons = {
            name: f"the head {head} has no such option"
            for name in (*BUILD_OPTIONS, *TRUNK_OPTIONS)
            if name not in self.options
        }
        if not self.takes_maps:
            reasons |= dict.fromkeys(
                MAP_OPTIONS,
                f"applies only to heads that take feature maps, but {head} takes vectors",
            )
        if self.fit:
            reasons |= dict.fromkeys(
                GRADIENT_OPTIONS, f"has no effect because {head} is fitted in closed form"
            )
        return reasons | dict(self.unused)
