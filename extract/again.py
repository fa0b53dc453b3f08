"""Derive the options of `extract` that compute the features of an existing store for other videos.
They are read from the store's recipe, and the recipe that they give is compared with it."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reelbank.data.banks import AnyBank, Banks
from reelbank.data.errors import InputError
from reelbank.data.feature_recipe import FeatureRecipe, FlowPart
from reelbank.data.identity import HUGGINGFACE, differences, extractor_name, is_model_folder
from reelbank.data.plugins import is_user_file
from reelbank.data.store.records import identity
from reelbank.data.video.images import ASSUMED_FPS
from reelbank.extract.defaults import FILES_DATASET
from reelbank.extract.device import chosen_device
from reelbank.extract.fill import lengths_alone, with_defaults
from reelbank.extract.flow.methods import build_flow
from reelbank.extract.networks.build import EMBEDDING
from reelbank.extract.networks.provenance import Provenance
from reelbank.extract.networks.trained import find_weights, read_recipe
from reelbank.extract.options import ExtractOptions
from reelbank.extract.plan import flow_of_weights, plan_streams
from reelbank.extract.streams.loading import load_stream, stream_text

# The recipe names the flow that adaptive sampling followed only by a hash: these methods are tried.
FOLLOWED = ("tvl1", "dis", "farneback")


@dataclasses.dataclass(frozen=True)
class OptionsAgain(ExtractOptions):
    """Options of `extract` from a recipe. code_sha256: as the recipe records it, "" if it does
    not."""

    code_sha256: str = ""


@dataclasses.dataclass(frozen=True)
class UserFiles:
    """Files and settings that a recipe does not contain and the user may have to name.

    extractors: user networks, as file.py:function, and models of transformers, as hf:<folder>, or as
        hf:<owner>/<model> if their own code may be run
    streams: user streams, as file.py:Class
    weights, flow_weights: files of state dicts, for stores that were made with such files
    bank: the bank, or several, with the weights that were trained here
    image_fps: frame rate of folders of images, 0 if unknown
    damaged: as the option of `extract`
    trust_remote_code: as the option of `extract`, for models that `extractors` names
    """

    extractors: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    flow_weights: str = ""
    bank: AnyBank = "bank"
    image_fps: float = 0.0
    damaged: str = "keep"
    trust_remote_code: bool = False


def options_again(
    recipe: Mapping[str, Any], files: UserFiles, bank: str, dataset: str, device: str = "auto"
) -> ExtractOptions:
    """The options that extract a data set named `dataset` into `bank` with exactly this recipe. With
    them no code of a model is run but that whose hash the recipe records.

    Raises InputError if there are none: the features were imported or made by another version, or
    the network, its file or its weights are missing or have changed.
    """
    try:
        options = _read(recipe, files, bank, device)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(
            f"the recipe of the features cannot be read ({type(error).__name__}: {error}); it was "
            "changed, or was not written by 'reelbank extract'. Extract and train again"
        ) from None
    options = with_defaults(flow_of_weights(options))
    # The frame rate is part of the recipe: it is that of the store, not of the new videos.
    options = dataclasses.replace(options, image_fps=recipe.get("image_fps", ASSUMED_FPS))
    features = FeatureRecipe.from_json(recipe)
    if features.magnitude is not None:
        options = _following(options, features, dataset)
    flow = None
    if features.flow:
        weights = options.flow_weights or "pretrained"
        flow = build_flow(options.flow, chosen_device(device), weights, options.seed)
    (plan,) = plan_streams(options, dataset, flow, features.magnitude or "")
    if lines := differences(plan.recipes[0].to_json(), recipe):
        raise InputError(
            f"the features (stream {features.stream}, extractor {features.extractor}) cannot be "
            f"computed here in the same way, because their recipe would differ ({'; '.join(lines)}); "
            "give the files that they were computed with as EXTRACTOR and EXTRACTOR_WEIGHTS, or "
            "extract and train again"
        )
    return options


def own_extractor(name: str, files: UserFiles) -> str:
    """The user's file.py:function for a network that recipes call `name`; "" if the user named
    none."""
    for extractor in files.extractors:
        if is_user_file(extractor) and extractor_name(extractor) == name:
            return extractor
    return ""


def _read(recipe: Mapping[str, Any], files: UserFiles, bank: str, device: str) -> ExtractOptions:
    """The options of a recipe, without defaults. Raises InputError; for a damaged recipe also
    KeyError, TypeError and the like."""
    features = FeatureRecipe.from_json(recipe)
    if features.is_imported:
        raise InputError(
            "the features were imported from another tool, so they cannot be computed from a "
            "video file"
        )
    text = stream_text(features.stream, files.streams)
    stream = load_stream(text)
    if features.features_version != stream.features_version:
        raise InputError(
            f"the features were extracted with version {features.features_version} of the stream "
            f"{stream.name}, but the installed reelbank has version {stream.features_version}; "
            "extract and train again"
        )
    network = _network(recipe, files) if stream.has_network else {}
    seed = min({*_seeds(features), *stream.seeds_of(features)}, default=0)
    return OptionsAgain(
        dataset=FILES_DATASET,
        stream=(text,),
        bank=bank,
        device=device,
        seed=seed,  # with two different seeds, the comparison of the recipes fails
        flow=features.flow.name if features.flow else "",
        flow_weights=_flow_weights(features.flow, files) if features.flow else "",
        # The user has to give it again, and to name the model: a recipe may be untrusted.
        trust_remote_code=files.trust_remote_code and network.get("extractor") in files.extractors,
        code_sha256=Provenance.from_json(features.weights).code_sha256,
        **stream.options_of(features) | network,
    )


def _network(recipe: Mapping[str, Any], files: UserFiles) -> dict[str, Any]:
    """The options of the network and its weights."""
    extractor = recipe["extractor"]
    options: dict[str, Any] = {"pool": recipe["pool"] == "mean", "precision": recipe["precision"]}
    if recipe["node"] != EMBEDDING:
        options["node"] = recipe["node"]
    if "width" in recipe:
        options["width"] = str(recipe["width"])
    weights = Provenance.from_json(recipe["weights"])
    if weights.kind == "trained":  # the recipe in their folder names the extractor
        folder = _trained(weights, files)
        return options | {"weights": str(folder), "extractor": _trained_extractor(folder, files)}
    if ".py" in extractor:
        # Stores and runs are untrusted: only a file that the user names is run.
        raise InputError(
            f"the recipe of the features names the file {extractor} as extractor; this file is not "
            "run, because recipes may be untrusted; extract again"
        )
    if is_model_folder(extractor):
        named = [path for path in files.extractors if extractor_name(path) == extractor]
        if not named:
            name = extractor.removeprefix(HUGGINGFACE)
            raise InputError(
                f"the features were made with a model of transformers in the folder {name}; give "
                f"EXTRACTOR={HUGGINGFACE}<path of {name}>"
            )
        extractor = named[0]
    elif "." in extractor and ":" not in extractor:
        # A user's file, named by its stem and function (see `extractor_name`).
        stem, _, function = extractor.rpartition(".")
        extractor = own_extractor(extractor, files)
        if not extractor:
            raise InputError(
                f"the features were made with your own network, {function}() of {stem}.py; give "
                f"EXTRACTOR=<path of {stem}.py>:{function}"
            )
    return options | {
        "extractor": extractor,
        "weights": _weights(weights, files),
        "preset": weights.preset,
    }


def _weights(weights: Provenance, files: UserFiles) -> str:
    """The value of WEIGHTS for the weights of a recipe."""
    if weights.kind != "file":
        return weights.option
    name = weights.name
    # A renamed file is accepted if it is the only one; its hash is compared later.
    paths = [path for path in files.weights if Path(path).name == name] or list(files.weights)
    if len(paths) != 1:
        raise InputError(
            f"the weights of the network came from the file {name}; give "
            f"EXTRACTOR_WEIGHTS=<path of {name}>"
        )
    return paths[0]


def _trained(weights: Provenance, files: UserFiles) -> Path:
    """The folder of weights that were trained here: one that the user named, or the one in the bank
    with the hash of their family."""
    family, split = weights.family, (weights.saw or {})["split"]
    for name in (*files.weights, family):
        if (runs := find_weights(files.bank, name)) and str(split) in runs:
            return runs[str(split)]
    raise InputError(
        f"the features were made with weights {family[:8]} of split {split}, but "
        f"{Banks.of(files.bank).shown('weights')} does not contain these weights, or their training is "
        "not finished; restore the folder of the weights, or give its path with "
        "EXTRACTOR_WEIGHTS=<folder>"
    )


def _trained_extractor(folder: Path, files: UserFiles) -> str:
    """The user's file.py:function, if the network of weights is in a user's file; otherwise "".
    Raises InputError if the user did not name the file, because it would be run."""
    recorded = str(read_recipe(folder)["extractor"])
    if not is_user_file(recorded):
        return ""
    named = own_extractor(extractor_name(recorded), files)
    if not named:
        raise InputError(
            f"{folder}: the network of these weights is in your own Python file, which is run only "
            f"if an option names the file; give EXTRACTOR={recorded}"
        )
    return named


def _flow_weights(flow: FlowPart, files: UserFiles) -> str:
    """The value of FLOW_WEIGHTS for the flow of a recipe."""
    stored = flow.method.get("weights")
    if stored is None:
        return ""
    weights = Provenance.from_json(stored)
    if weights.kind != "file":
        return weights.option
    if not files.flow_weights:
        raise InputError(
            f"the weights of the optical flow came from the file {weights.name}; give "
            f"FLOW_WEIGHTS=<path of {weights.name}>"
        )
    return files.flow_weights


def _following(options: ExtractOptions, recipe: FeatureRecipe, dataset: str) -> ExtractOptions:
    """Set FLOW to the method whose lengths the sampling followed: the one whose store of flow
    lengths has the identity that the recipe names. Raises InputError if there is none."""
    for method in [options.flow] if recipe.flow else FOLLOWED:
        tried = dataclasses.replace(options, flow=method)
        device = chosen_device(options.device)
        flow = build_flow(method, device, options.flow_weights or "pretrained", options.seed)
        (plan,) = plan_streams(lengths_alone(tried), dataset, flow)
        if identity(plan.recipes[0].to_json(), dataset) == recipe.magnitude:
            return tried
    raise InputError(
        "the adaptive sampling of the features used an optical flow that cannot be computed here "
        f"(FLOW={' and FLOW='.join(FOLLOWED)} give different flow lengths); extract and train again"
    )


def _seeds(recipe: FeatureRecipe) -> set[int]:
    """The seeds of random weights of the network and of the flow."""
    stored = [recipe.weights, recipe.flow.method.get("weights") if recipe.flow else None]
    origins = [Provenance.from_json(weights) for weights in stored]
    return {origin.seed for origin in origins if origin.kind == "random"}
