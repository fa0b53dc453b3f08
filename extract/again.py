"""The options that make a store's features again, for other videos: read from its recipe, and checked against it."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reelbank.data.errors import InputError
from reelbank.data.recipe import differences, extractor_name
from reelbank.data.store import identity
from reelbank.extract.flow import build_flow
from reelbank.extract.networks import EMBEDDING, PIXELS
from reelbank.extract.options import STREAMS, ExtractOptions, lengths_alone, with_defaults
from reelbank.extract.streams import FEATURES_VERSIONS, chosen_device, flow_of_weights, plan_streams
from reelbank.extract.trained import find_weights, read_recipe, weights_folder

# Adaptive sampling follows a flow that the recipe names by a hash alone: these are tried.
FOLLOWED = ("tvl1", "dis", "farneback")


@dataclasses.dataclass(frozen=True)
class Given:
    """What a recipe does not hold and the user may have to say. extractors: file.py:function of networks of their own; weights,
    flow_weights: files of state dicts, for stores that were made with such a file; bank: where weights trained here lie."""

    extractors: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    flow_weights: str = ""
    bank: str = "bank"


def options_again(recipe: Mapping[str, Any], given: Given, bank: str, dataset: str, device: str = "auto") -> ExtractOptions:
    """Options whose extraction of a data set named `dataset` into `bank` makes a store of exactly this recipe.

    Raises InputError when there are none: the features were imported or made by another version, or the network, its file or
    its weights are not there, or are others than then.
    """
    try:
        options = _read(recipe, given, bank, device)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(
            f"the recipe of the features cannot be read ({type(error).__name__}: {error}): 'extract' did not make them, or it "
            "was changed; extract and train again"
        ) from None
    options = with_defaults(flow_of_weights(options))
    if "magnitude" in recipe:
        options = _following(options, recipe, dataset)
    looks_at_flow = recipe["stream"] in ("flow", "magnitude")
    flow = (
        build_flow(options.flow, chosen_device(device), options.flow_weights or "pretrained", options.seed)
        if looks_at_flow
        else None
    )
    (plan,) = plan_streams(options, dataset, flow, recipe.get("magnitude", ""))
    if lines := differences(plan.recipes[0], recipe):
        raise InputError(
            f"features of {recipe['stream']} by {recipe['extractor']} are made in another way here than for the run: "
            f"{'; '.join(lines)}; give the same files (EXTRACTOR, EXTRACTOR_WEIGHTS), or extract and train again"
        )
    return options


def own_extractor(name: str, given: Given) -> str:
    """The file.py:function that was given for a network that recipes call `name`; "" when none was."""
    return next((one for one in given.extractors if ".py:" in one and extractor_name(one) == name), "")


def _read(recipe: Mapping[str, Any], given: Given, bank: str, device: str) -> ExtractOptions:
    if "imported" in recipe:
        raise InputError("the features came from another tool ('import'): nobody here can make them of a video file")
    stream = recipe["stream"]
    if stream not in STREAMS:
        raise InputError(f"the features are of stream '{stream}', which is not made here; there are {', '.join(STREAMS)}")
    if recipe["features_version"] != FEATURES_VERSIONS[stream]:
        raise InputError(
            f"the features were made by another version ({stream} features {recipe['features_version']}, here "
            f"{FEATURES_VERSIONS[stream]}); extract and train again"
        )
    if stream == "idt":
        return ExtractOptions(
            dataset="folder",
            stream=("idt",),
            bank=bank,
            device=device,
            decoder=recipe["decoder"],
            resize=_side(recipe["preprocessing"]["resize_px"]),
            trajectories=recipe["steps"],
            seed=recipe["trajectories_seed"],
        )
    adaptive = "seconds" in recipe and stream != "magnitude"
    sampling = "adaptive" if adaptive else "sigma" if recipe["sampling"] == "all" else recipe["sampling"]
    found: dict[str, Any] = {"dataset": "folder", "stream": (stream,), "bank": bank, "device": device, "sampling": sampling}
    found |= {"t": recipe["steps"] or 0, "seed": _seed(recipe)}
    found |= {"size": _side(recipe["preprocessing"]["crop_px"]), "flow": "tvl1"}  # where flow is not looked at: any
    if stream != "magnitude":
        found |= _network(recipe, given)
    if stream == "audio":
        return ExtractOptions(**found)
    found |= {"decoder": recipe["decoder"], "resize": _side(recipe["preprocessing"]["resize_px"])}
    if stream == "magnitude":
        return ExtractOptions(**found | {"size": "", "flow": recipe["flow"]["method"]} | _flow(recipe, given))
    own_frames = recipe["clip_frames"] + (stream == "flow")  # as long a grid is what there is without GRID
    grid = recipe["grid_frames"] if recipe["grid_frames"] > own_frames else 0
    found |= {"clip": str(recipe["clip_frames"]), "grid": grid, "stride": recipe["stride_frames"]}
    if recipe["extractor"] in PIXELS:  # pictures of 4:3: their height says all
        found |= {"resize": str(recipe["preprocessing"]["resize_px"][0]), "size": ""}
    else:
        found |= {"crops": recipe["crops"], "keep_crops": recipe["crops_kept"]}
    for option, name in (("windows", "windows"), ("window", "window_frames"), ("views", "views")):
        found |= {option: recipe[name]} if name in recipe else {}
    return ExtractOptions(**found | _flow(recipe, given))


def _network(recipe: Mapping[str, Any], given: Given) -> dict[str, Any]:
    """Options of the network and its weights."""
    extractor = recipe["extractor"]
    found: dict[str, Any] = {"pool": recipe["pool"] == "mean", "precision": recipe["precision"]}
    found |= {"node": recipe["node"]} if recipe["node"] != EMBEDDING else {}
    found |= {"width": str(recipe["width"])} if "width" in recipe else {}
    source = recipe["weights"]["source"]
    if source.startswith("trained here, "):  # they know their extractor
        return found | {"weights": str(_trained(recipe["weights"], given))}
    if ".py" in extractor:  # stores and runs may come from strangers: the file that is run is the one that the user names
        raise InputError(f"the recipe of the features names a file as extractor, {extractor}; it is not run")
    if "." in extractor and ":" not in extractor:  # a user's file, by stem and function (data.recipe.extractor_name)
        stem, _, function = extractor.rpartition(".")
        own = own_extractor(extractor, given)
        if not own:
            raise InputError(
                f"the features are of a network of your own, {function}() of {stem}.py: give EXTRACTOR=<path of {stem}.py>:"
                f"{function}"
            )
        extractor = own
    return found | {"extractor": extractor, "weights": _weights(source, given)}


def _weights(source: str, given: Given) -> str:
    """The option WEIGHTS for what a recipe says of where weights came from."""
    if source == "none":
        return ""
    if source == "the builder's own":
        return "own"
    if source.startswith("file "):
        name = source.removeprefix("file ")
        fits = [path for path in given.weights if Path(path).name == name] or list(given.weights)
        if len(fits) != 1:
            raise InputError(f"the network's weights were in a file {name}: give EXTRACTOR_WEIGHTS=<path of {name}>")
        return fits[0]
    return "random" if source.startswith("random, seed ") else "pretrained"


def _trained(weights: Mapping[str, Any], given: Given) -> Path:
    """The folder of weights that were trained here, in the bank or as given, found by the hash of their family."""
    family, split = weights["family"], weights["saw"]["split"]
    for wanted in (*given.weights, family):
        if (runs := find_weights(given.bank, wanted)) and str(split) in runs:
            _check_trusted(runs[str(split)], given)
            return runs[str(split)]
    raise InputError(
        f"{weights_folder(given.bank)}: holds no finished weights {family[:8]} of split {split}, which the features' network "
        "has; bring the folder back, or give EXTRACTOR_WEIGHTS=<its path>"
    )


def _check_trusted(folder: Path, given: Given) -> None:
    """Raises InputError where weights name a file as their network that the user did not name: it would be run."""
    file = read_recipe(folder)["extractor"]
    named = {Path(one.rpartition(":")[0]).resolve() for one in given.extractors}
    if ".py:" in file and Path(file.rpartition(":")[0]).resolve() not in named:
        raise InputError(f"{folder}: its network is a file of your own, which is run if you name it: give EXTRACTOR={file}")


def _flow(recipe: Mapping[str, Any], given: Given) -> dict[str, Any]:
    if "flow" not in recipe:
        return {}
    about = recipe["flow"]
    source = about.get("weights", {}).get("source", "")
    weights = "random" if source.startswith("random, seed ") else "pretrained" if source else ""
    if source.startswith("file "):
        if not given.flow_weights:
            raise InputError(f"the flow's weights were in a {source}: give FLOW_WEIGHTS=<its path>")
        weights = given.flow_weights
    return {"flow": about["method"], "flow_weights": weights}


def _following(options: ExtractOptions, recipe: Mapping[str, Any], dataset: str) -> ExtractOptions:
    """With the flow whose lengths the sampling followed: that whose store has the identity that the recipe names."""
    for method in dict.fromkeys([options.flow] if "flow" in recipe else FOLLOWED):
        tried = dataclasses.replace(options, flow=method)
        device = chosen_device(options.device)
        flow = build_flow(method, device, options.flow_weights or "pretrained", options.seed)
        (plan,) = plan_streams(lengths_alone(tried), dataset, flow)
        if identity(plan.recipes[0], dataset) == recipe["magnitude"]:
            return tried
    raise InputError(
        f"the features' adaptive sampling followed a flow that is not {', '.join(FOLLOWED)} as they are here; extract and "
        "train again"
    )


def _seed(recipe: Mapping[str, Any]) -> int:
    """The one SEED behind random weights and views; 0 where nothing was drawn."""
    sources = [recipe["weights"]["source"], recipe.get("flow", {}).get("weights", {}).get("source", "")]
    seeds = {int(found[1]) for source in sources if (found := re.fullmatch(r"random, seed (\d+)", source))}
    seeds |= {recipe["views_seed"]} if "views" in recipe else set()
    return min(seeds, default=0)  # were there two, the recipe made again would differ


def _side(size_px: Any) -> str:
    """RESIZE or SIZE of one side; "" for two that differ, which only a network's own can be."""
    if isinstance(size_px, int):
        return str(size_px)
    return str(size_px[0]) if size_px[0] == size_px[1] else ""
