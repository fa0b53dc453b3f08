"""The part of the recipe that the runs of all splits and seeds have in common."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from reelbank.data.errors import InputError
from reelbank.data.plugins import plugin_name
from reelbank.data.store.reader import Store
from reelbank.extract.streams.loading import load_stream
from reelbank.extract.streams.registry import STREAMS
from reelbank.heads.models.model import build_normalise
from reelbank.heads.models.registry import head_code_sha256, head_spec
from reelbank.heads.models.spec import HeadSpec, RowFacts
from reelbank.heads.models.trunk import trunk_recipe
from reelbank.heads.recipe import MidFusionRecipe, Normalisation, Rule, RunRecipe, TrunkRecipe
from reelbank.heads.training.options import TrainOptions
from reelbank.heads.training.planning.filled import (
    classifier_of,
    head_options,
    scoring_of,
    training_of,
)
from reelbank.heads.training.planning.parts import is_multilabel
from reelbank.heads.training.planning.stores import check_joined, shared_identity


def shared_recipe(stores: Sequence[Store], options: TrainOptions) -> RunRecipe:
    """The recipe of all splits and seeds. The split, the seed and the values that depend on them
    are left empty. Raises InputError when stores, head and options do not match."""
    store, spec = stores[0], head_spec(options.head)
    shapes = [_row_shape(member, options, spec) for member in stores]
    mid = _mid(stores, options, shapes)
    if options.over_clips != "mean" and not store.recipe.get("windows"):
        raise InputError(
            f"OVER_CLIPS={options.over_clips}: applies only to stores whose videos were "
            "cut into windows (extract with WINDOWS=); omit OVER_CLIPS"
        )
    trunk = _trunk(stores, options, spec, shapes[0])
    znorm = options.znorm
    if znorm is None:
        znorm = trunk is None or not trunk.is_backbone
    normalisation = Normalisation(znorm, options.pca)
    # This rejects sizes that do not match before anything is trained.
    normalise = build_normalise(normalisation, shapes[0], mid)
    of_rows: Mapping[str, Any] = {}
    if spec.row_options:
        of_rows = spec.row_options(_row_facts(stores, options, normalise.output_dim))
    uses_views = options.views != "none" and store.has_views and not spec.fit
    return RunRecipe(
        store=store.identity,
        store_family=_family(stores),
        dataset=store.dataset.name,
        stream=_joined(stores, "stream"),
        extractor=_joined(stores, "extractor"),
        row_shape=store.row_shape,
        input_shape=shapes[0],
        rows=_rule(store, options),
        scoring=scoring_of(options, multilabel=is_multilabel(store)),
        head=plugin_name(options.head),
        head_options=head_options(options, of_rows),
        head_code_sha256=head_code_sha256(options.head),
        classifier=classifier_of(options),
        validation=options.validation,
        mid=mid,
        norm_momentum=options.norm_momentum,
        trunk=trunk,
        normalise=normalisation,
        views=options.views if uses_views else "",
        coverage="",
        classes=(),
        split="",
        seed=0,
        training=training_of(options, seed=0),
        refit=False,
    )


def _joined(stores: Sequence[Store], key: str) -> str:
    return "+".join(dict.fromkeys(str(store.recipe.get(key, "")) for store in stores))


def _rule(store: Store, options: TrainOptions) -> Rule:
    return Rule(
        sampling=options.sampling,
        steps=options.t,
        stride=options.stride,
        most=options.windows,
        positions=options.positions,
        clips=int(store.recipe.get("windows") or 1),
        crops=store.row_shape[0] if options.crops == "each" else 0,
    )


def _mid(
    stores: Sequence[Store], options: TrainOptions, shapes: Sequence[tuple[int, ...]]
) -> MidFusionRecipe | None:
    """How several stores are joined, or None for a single store. Raises InputError when their rows
    do not match."""
    if len(stores) == 1:
        return None
    check_joined(stores)
    return MidFusionRecipe(
        how=options.mid,
        stores=tuple(store.identity for store in stores),
        dims=tuple(shape[0] for shape in shapes),
        store_family=_family(stores),
    )


def _trunk(
    stores: Sequence[Store], options: TrainOptions, spec: HeadSpec, shape: tuple[int, ...]
) -> TrunkRecipe | None:
    """The first part of a head on maps, or None for rows that are vectors. Raises InputError when
    the head does not take these rows, or when an option does not apply to them."""
    if len(shape) != 3:
        if not spec.takes_vectors:
            raise InputError(
                f"HEAD={options.head} takes feature maps, but the store's rows have shape "
                f"{_shape_text(shape)}; extract with AT=<node>"
            )
        if options.norm_momentum:
            raise InputError(
                f"NORM_MOMENTUM={options.norm_momentum}: applies only to heads that take "
                "feature maps, but the store contains vectors; omit NORM_MOMENTUM"
            )
        return None
    if len(stores) > 1:
        raise InputError(
            f"HEAD={options.head}: mid fusion can only combine vectors, but this head "
            "takes feature maps; train the head on a single store of feature maps"
        )
    if options.pca:
        raise InputError(
            f"PCA={options.pca}: PCA cannot be applied to feature maps, which "
            f"HEAD={options.head} takes as input; omit PCA"
        )
    trunk = trunk_recipe(stores[0].recipe, options.trunk, (options.stream,))
    if not spec.skips_of:
        return trunk
    skips = spec.skips_of(vars(options), trunk)
    return dataclasses.replace(trunk, skips=skips, skip=options.skip)


def _row_facts(stores: Sequence[Store], options: TrainOptions, dim: int) -> RowFacts:
    streams = {str(store.recipe.get("stream")) for store in stores}
    if len(streams) > 1 or options.pca or not streams <= STREAMS.keys():
        return RowFacts(dim)
    return RowFacts(dim, load_stream(streams.pop()).row_blocks)


def _family(stores: Sequence[Store]) -> str:
    """The identity that the stores of all splits share if their weights were trained by `pretrain`
    on each split separately, otherwise ""."""
    shared = [shared_identity(store) for store in stores]
    return "+".join(shared) if shared != [store.identity for store in stores] else ""


def _row_shape(store: Store, options: TrainOptions, spec: HeadSpec) -> tuple[int, ...]:
    """The shape of a row as the head is given it. It is (D,), or (C, h, w) for heads that take
    maps. Raises InputError for other rows."""
    keeps_crops = bool(store.recipe.get("crops_kept"))
    if options.crops == "each" and not keeps_crops:
        raise InputError(
            f"CROPS=each: {store.path} does not contain the crops separately; extract "
            "again with KEEP_CROPS=1"
        )
    shape = store.row_shape[keeps_crops:]
    if len(shape) == 3:
        return shape if spec.takes_maps else shape[:1]
    if len(shape) != 1:
        raise InputError(
            f"{store.path}: the store's rows have shape {_shape_text(shape)}, but heads "
            "take vectors or feature maps of shape C x h x w; extract again with POOL=1"
        )
    return shape


def _shape_text(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
