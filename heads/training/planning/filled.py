"""Completes `TrainOptions` with defaults for the options that were left empty, and checks all of
them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from reelbank.data.errors import InputError
from reelbank.data.options import as_text
from reelbank.heads import defaults
from reelbank.heads.models.registry import head_spec
from reelbank.heads.models.spec import BUILD_OPTIONS, LATER_OPTIONS
from reelbank.heads.recipe import Classifier, Scoring, Training
from reelbank.heads.training.options import TrainOptions, default_of, unused_options


def with_defaults(options: TrainOptions) -> TrainOptions:
    """Fill the options that were left empty, from the head's spec and defaults.TRAIN, and check
    them. Raises InputError for invalid values and for options that have no effect."""
    _check_used(options)
    spec = head_spec(options.head)
    values: dict[str, Any] = {**defaults.TRAIN, **spec.defaults}
    if spec.default_steps:
        values["t"] = spec.default_steps(vars(options))
    if options.patience is not None:
        values["patience_steps"] = 0  # epochs are counted
    empty = {name: value for name, value in values.items() if getattr(options, name) in ("", None)}
    options = dataclasses.replace(options, **empty)
    _check_combinations(options)
    return options


def _check_used(options: TrainOptions) -> None:
    """Raises InputError for an option that was given and has no effect."""
    for name, reason in unused_options(vars(options)).items():
        if (value := getattr(options, name)) != default_of(name):
            raise InputError(f"{name.upper()}={as_text(value)}: {reason}; omit {name.upper()}")


def _check_combinations(options: TrainOptions) -> None:
    """Raises InputError for options that exclude each other or need another one."""
    if not options.split or not options.seed:
        raise InputError("SPLIT and SEED need at least one value each")
    if bool(options.lr_drops) != (options.schedule == "step"):
        raise InputError(
            "SCHEDULE=step and LR_DROPS (the epochs after which the learning rate is divided by "
            "10) must be given together"
        )
    if options.sampling != "sigma" and not options.t:
        raise InputError(
            f"SAMPLING={options.sampling} needs T, the number of rows per sequence; give "
            "T, or SAMPLING=sigma"
        )
    joins_stores = "+" in options.stream or "+" in options.store
    for name, applies, condition in (
        (
            "mid",
            joins_stores,
            "applies only if several stores are combined (for example with STREAM=rgb+flow)",
        ),
        ("context", not options.skips, "has no effect if SKIPS is given"),
        ("batch", not options.batch_share, "has no effect if BATCH_SHARE is given"),
    ):
        value = getattr(options, name)
        if value != default_of(name) and not applies:
            raise InputError(f"{name.upper()}={value}: {condition}; omit {name.upper()}")
    if options.patience == 0 and options.patience_steps:
        raise InputError(
            f"PATIENCE_STEPS={options.patience_steps}: has no effect with PATIENCE=0, which never "
            "stops early; omit PATIENCE_STEPS, or give PATIENCE above 0"
        )
    if options.classifier == "svm" and options.pool == "max":
        raise InputError(
            "CLASSIFIER=svm needs one embedding per sequence, but POOL=max classifies every step; "
            "give POOL=mean or CLASSIFIER=softmax"
        )
    if options.views == "all" and options.sampling == "segments" and options.crops == "each":
        raise InputError(
            "CROPS=each with SAMPLING=segments needs VIEWS=one, which draws one crop, "
            "and one row of each segment, in every epoch; give VIEWS=one"
        )


def head_options(options: TrainOptions, of_rows: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The arguments of the head. of_rows: those that follow from the rows."""
    taken = head_spec(options.head).options
    values = {name: getattr(options, name) for name in BUILD_OPTIONS if name in taken}
    unset = {name for name, value in values.items() if value == default_of(name) == ()}
    given = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if name not in unset and (name not in LATER_OPTIONS or value != LATER_OPTIONS[name])
    }
    return given | {
        name: value
        for name, value in (of_rows or {}).items()
        if name in unset or name not in values
    }


def training_of(options: TrainOptions, seed: int, *, has_validation: bool = True) -> Training:
    """The training part of the recipe."""
    names = {field.name for field in dataclasses.fields(Training)} - {"seed", "one_view"}
    values = {name: getattr(options, name) for name in names}
    # Trainings that cannot stop early do not depend on this option, and their recipes are those of
    # the runs that were made before it existed.
    if head_spec(options.head).fit or not has_validation or options.epochs <= values["patience"]:
        values["patience_steps"] = 0
    return Training(seed=seed, one_view=options.views == "one", **values)


def scoring_of(options: TrainOptions, *, multilabel: bool) -> Scoring:
    """How the sequences of a video become its scores."""
    return Scoring(options.average, options.over_clips, multilabel)


def classifier_of(options: TrainOptions) -> Classifier:
    """The last layer, as the recipe describes it."""
    spec = head_spec(options.head)
    if spec.fit:
        return spec.classifier
    return Classifier("svm", options.svm_lambda) if options.classifier == "svm" else Classifier()
