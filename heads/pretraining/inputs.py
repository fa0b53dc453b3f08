"""The inputs of a backbone's training, which are the whole network with its initial weights and the
pixels that it is trained on."""

import dataclasses
from pathlib import Path
from typing import Any

import torch

from reelbank.data.banks import AnyBank
from reelbank.data.console import print_lines
from reelbank.data.datasets.registry import load_dataset, name_option
from reelbank.data.datasets.types import Dataset
from reelbank.data.errors import InputError
from reelbank.data.identity import HUGGINGFACE
from reelbank.data.store.known_datasets import with_known_name
from reelbank.data.store.reader import Store
from reelbank.data.video.limits import Limits
from reelbank.extract.device import chosen_device
from reelbank.extract.fill import with_defaults
from reelbank.extract.networks.build import Trunk, trunk
from reelbank.extract.networks.preprocessing import pair, read_resize, resize_text
from reelbank.extract.networks.sources import kind_of
from reelbank.extract.networks.trained import find_weights, load_weights
from reelbank.extract.options import ExtractOptions
from reelbank.extract.planned import planned_stores
from reelbank.extract.run import extract_dataset
from reelbank.extract.streams.loading import load_stream
from reelbank.extract.summary import NOT_ALL_READ
from reelbank.heads.pretraining.network import freeze_before
from reelbank.heads.pretraining.plan import PretrainOptions, check_one_class, plan_splits


def pixels_store(options: PretrainOptions) -> Path:
    """The store of the data set's pixels, uint8 and uncropped, at the network's resolution. Missing
    videos are extracted first.

    Raises InputError before extraction for a network, split, module or size that cannot be used,
    and for a multi-label data set.
    """
    extraction, dataset = pixels_extraction(options)
    for note in dataset.notes:
        print_lines(note)
    (store,) = planned_stores(extraction, dataset)
    device = torch.device("cpu") if options.cluster else chosen_device(options.device)
    result = extract_dataset(extraction, dataset, slice(None), [device])
    if result.exit_code == NOT_ALL_READ:
        raise InputError(
            f"{store.path}: some videos could not be read on this machine (for example, "
            "because it has too little memory); run the same command again"
        )
    return store.path


def pixels_extraction(
    options: PretrainOptions, *, plan: bool = False
) -> tuple[ExtractOptions, Dataset]:
    """The options of the pixels' extraction, and its data set. With `plan`, they are those of a plan,
    and nothing is written. Raises InputError like `pixels_store`."""
    weights = initial_weights(options.searched, options.weights)
    sizes = pixel_sizes(options, next(iter(weights.values())))
    limits = dataclasses.asdict(Limits.of(options))
    extraction = with_defaults(
        ExtractOptions(
            dataset=options.dataset,
            root=options.root,
            lists=options.lists,
            csv=options.csv,
            dataset_name=options.dataset_name,
            classes=options.classes,
            t=options.t,
            flow=options.flow,
            flow_weights=options.flow_weights,
            seed=options.seed,
            image_fps=options.image_fps,
            device=options.device,
            cluster=options.cluster,
            bank=options.bank,
            banks=options.banks,
            plan=plan,
            stream=(options.stream,),
            sampling="segments",
            crops=1,
            **sizes,
            **limits,
        )
    )
    dataset = load_dataset(
        options.dataset,
        options.root,
        splits_dir=options.lists,
        csv=options.csv,
        classes=options.classes,
        seed=options.seed,
        bank=options.bank,
        image_fps=options.image_fps or 0.0,
        dataset_name=options.dataset_name,
        draws=not plan,
    )
    if not options.dataset_name:
        dataset = with_known_name(dataset, options.dataset, options.searched, remembers=not plan)
        extraction = dataclasses.replace(
            extraction, dataset_name=name_option(options.dataset, dataset)
        )
    check_one_class(options, multilabel=dataset.multilabel)
    for split in plan_splits(options, dataset.name, dataset.splits):
        weights_of(weights, split, options)
    return extraction, dataset


def pixel_sizes(options: PretrainOptions, weights: str) -> dict[str, Any]:
    """The options of `extract` (extractor, clip and resize) that make pixels for the network.

    Raises InputError for a network that does not take pixels, missing weights, a FREEZE module that
    the network does not have, and crops larger than the pictures.
    """
    if options.extractor.startswith(HUGGINGFACE):
        raise InputError(
            f"EXTRACTOR={options.extractor}: models of transformers are not trained here; give a "
            "network of torchvision or timm"
        )
    kind = kind_of(options.extractor)
    stream = load_stream(options.stream)
    fields = 0
    if stream.stacks_items and kind == "image":
        fields = options.clip or stream.usual_stack(options.extractor)
    channels = stream.channels * (fields or 1)
    network = _trunk(options, channels, weights, fetch=False)
    freeze_before(network.model, options.freeze)
    resize_px = read_resize(options.resize) or pair(network.preprocessing.resize_px)[0]
    crop_px = options.size or pair(network.preprocessing.crop_px)[0]
    if crop_px > min(pair(resize_px)):
        raise InputError(
            f"RESIZE={resize_text(resize_px)} must not be smaller than the crops, which "
            f"have {crop_px} pixels (SIZE); give a larger RESIZE or a smaller SIZE"
        )
    if network.kind == "image":
        if options.clip and not fields:
            raise InputError(
                f"CLIP={options.clip}: {options.extractor} takes single pictures as "
                "input, not clips; omit CLIP"
            )
        clip = str(fields or "")
    else:
        clip = str(options.clip or network.clip_frames)
    return {
        "extractor": "clip_pixels" if network.kind == "video" else "pixels",
        "clip": clip,
        "resize": resize_text(resize_px),
    }


def initial_weights(bank: AnyBank, weights: str) -> dict[str, str]:
    """The initial weights of each split. They are {"": WEIGHTS} for weights shared by all splits,
    or the folders of weights from an earlier `pretrain`, by split."""
    if weights in ("", "pretrained", "random", "own") or Path(weights).is_file():
        return {"": weights}
    folders = find_weights(bank, weights)
    return {split: str(folder) for split, folder in folders.items()} or {"": weights}


def weights_of(weights: dict[str, str], split: str, options: PretrainOptions) -> str:
    """One split's initial weights. Raises InputError when an earlier `pretrain` did not train
    weights for this split."""
    if "" not in weights and split not in weights:
        raise InputError(
            f"WEIGHTS={options.weights}: these weights were trained on split "
            f"{', '.join(weights)}, not on split {split}; first run 'reelbank pretrain' "
            f"on split {split}"
        )
    return weights[split if split in weights else ""]


def initial_trunk(
    options: PretrainOptions, store: Store, weights: str, fetch: bool = True
) -> Trunk:
    """The network for the rows of a pixel store, (C, [s,] H, W). Its preprocessing is that of the
    store, which resizes to (H, W) without keeping the aspect ratio, followed by a crop of SIZE or
    of the network's default size. Raises InputError when the network does not match the rows."""
    network = _trunk(options, store.row_shape[0], weights, fetch=fetch)
    if network.kind != ("image" if len(store.row_shape) == 3 else "video"):
        raise InputError(
            f"EXTRACTOR={options.extractor} takes {network.kind} input, but {store.path} "
            f"contains {'single pictures' if len(store.row_shape) == 3 else 'clips'}; "
            "give another network or another store"
        )
    height, width = store.row_shape[-2:]
    crop_px = options.size or network.preprocessing.crop_px
    antialias = store.recipe.get("preprocessing", {}).get("antialias", True)
    preprocessing = dataclasses.replace(
        network.preprocessing,
        resize_px=(height, width),
        crop_px=crop_px,
        antialias=antialias,
        fill=None,
    )
    return dataclasses.replace(network, preprocessing=preprocessing)


def _trunk(options: PretrainOptions, channels: int, weights: str, *, fetch: bool) -> Trunk:
    trained = load_weights(weights) if weights and Path(weights).is_dir() else None
    return trunk(
        options.extractor,
        weights,
        options.seed,
        inputs=load_stream(options.stream).network_input(channels),
        width=options.width or 1.0,
        trained=trained,
        fetch=fetch,
    )
