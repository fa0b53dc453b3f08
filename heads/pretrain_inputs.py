"""Where the training of a backbone begins: its weights, uncut, and the pixels that it is to see."""

import dataclasses
from pathlib import Path
from typing import Any

from reelbank.data.datasets import Dataset, load_dataset
from reelbank.data.errors import InputError
from reelbank.data.store import Store
from reelbank.extract.networks import Trunk, pair, trunk
from reelbank.extract.options import FLOW_STACK, ExtractOptions, with_defaults
from reelbank.extract.run import extract_dataset, planned_stores
from reelbank.extract.streams import chosen_device
from reelbank.extract.trained import find_weights, load_weights, trained_weights
from reelbank.extract.zoo import kind_of
from reelbank.heads.pretrain_plan import PretrainOptions, check_one_class, plan_splits
from reelbank.heads.segment_network import freeze_before


def pixels_store(options: PretrainOptions) -> Path:
    """The store of the data set's pixels as the network is to see them, uint8 before any crop; stage one makes what is
    missing of it. Raises InputError, before that, for a network, split, module or size that cannot be, and for a data set of
    several classes a video."""
    extraction, dataset = pixels_extraction(options)
    for note in dataset.notes:
        print(note)
    (store,) = planned_stores(extraction, dataset)
    extract_dataset(extraction, dataset, slice(None), chosen_device(options.device))
    return store.path


def pixels_extraction(options: PretrainOptions) -> tuple[ExtractOptions, Dataset]:
    """The options of the extraction of those pixels, and its data set; raises as `pixels_store`."""
    weights = initial_weights(options.bank, options.weights)
    sizes = pixel_sizes(options, next(iter(weights.values())))
    shared = ("root", "lists", "csv", "classes", "t", "flow", "flow_weights", "seed", "device", "bank")
    chosen: dict[str, Any] = {name: getattr(options, name) for name in ("dataset", *shared)}
    wanted = with_defaults(ExtractOptions(**chosen, **sizes, stream=(options.stream,), sampling="segments", crops=1))
    dataset = load_dataset(
        options.dataset, options.root, options.lists, options.csv, options.classes, options.seed, options.bank
    )
    check_one_class(options, dataset.multilabel)
    for split in plan_splits(options, dataset.name, dataset.splits):
        weights_of(weights, split, options)
    return wanted, dataset


def pixel_sizes(options: PretrainOptions, weights: str) -> dict[str, Any]:
    """The options of stage one that make pixels for the network: extractor, clip and resize. Raises InputError for a network
    that takes none, weights that are not there, a module to freeze before that it has not, crops larger than the pictures."""
    kind = kind_of(options.extractor)
    fields = (options.clip or FLOW_STACK.get(options.extractor, 10)) if options.stream == "flow" and kind == "image" else 0
    channels = 2 * fields or (2 if options.stream == "flow" else 3)
    found = _trunk(options, channels, weights)
    freeze_before(found.model, options.freeze)
    resize_px = options.resize or pair(found.preprocessing.resize_px)[0]
    crop_px = options.size or pair(found.preprocessing.crop_px)[0]
    if crop_px > resize_px:
        raise InputError(f"RESIZE={resize_px} is less than the crops' {crop_px} pixels; give a smaller SIZE as well")
    if found.kind == "image":
        if options.clip and not fields:
            raise InputError(f"CLIP={options.clip}: {options.extractor} looks at single pictures")
        clip = str(fields or "")
    else:
        clip = str(options.clip or found.clip_frames)
    return {
        "extractor": "clip_pixels" if found.kind == "video" else "pixels",
        "clip": clip,
        "resize": str(resize_px),
    }


def initial_weights(bank: str, weights: str) -> dict[str, str]:
    """Where each split's training begins: WEIGHTS as it is under "", or the folders of weights that were trained here, by
    split."""
    if weights in ("", "pretrained", "random", "own") or Path(weights).is_file():
        return {"": weights}
    found = find_weights(bank, weights)
    return {split: str(folder) for split, folder in found.items()} or {"": weights}


def weights_of(weights: dict[str, str], split: str, options: PretrainOptions) -> str:
    """Where the training of one split begins. Raises InputError when the weights that were trained here know it not."""
    if "" not in weights and split not in weights:
        raise InputError(f"WEIGHTS={options.weights}: trained here on split {', '.join(weights)}, not on {split}")
    return weights[split if split in weights else ""]


def initial_trunk(options: PretrainOptions, store: Store, weights: str) -> Trunk:
    """The network for the rows of a pixel store, (C, [s,] H, W). Its preprocessing is that of the store: resized to (H, W),
    whatever the aspect, then cut to SIZE or the network's own crop. Raises InputError when it does not fit the rows."""
    found = _trunk(options, store.row_shape[0], weights)
    if found.kind != ("image" if len(store.row_shape) == 3 else "video"):
        raise InputError(f"EXTRACTOR={options.extractor}: a network for {found.kind} cannot learn from {store.path}")
    height, width = store.row_shape[-2:]
    crop_px = options.size or found.preprocessing.crop_px
    return dataclasses.replace(
        found, preprocessing=dataclasses.replace(found.preprocessing, resize_px=(height, width), crop_px=crop_px)
    )


def _trunk(options: PretrainOptions, channels: int, weights: str) -> Trunk:
    trained = None
    if weights and Path(weights).is_dir():
        recipe, state = load_weights(weights)
        trained = trained_weights(recipe, Path(weights)), state
    return trunk(options.extractor, weights, options.seed, channels, options.width or 1.0, options.stream, trained)
