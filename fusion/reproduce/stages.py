"""The options of each stage of a reproduction, as on the command lines of `pretrain`, `extract` and
`train`, and the results that already exist."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from reelbank.data.errors import InputError
from reelbank.data.options import parse, words_of
from reelbank.data.store.reader import Store
from reelbank.extract.defaults import USUAL_STREAMS
from reelbank.extract.fill import with_defaults as extract_defaults
from reelbank.extract.networks.backbones.registry import BACKBONES
from reelbank.extract.networks.trained import family_of, finished, read_recipe
from reelbank.extract.options import ExtractOptions
from reelbank.extract.planned import PlannedStore, planned_stores
from reelbank.extract.streams.per_stream import by_stream
from reelbank.fusion.options import AnomalyOptions
from reelbank.fusion.reproduce.options import ReproduceOptions
from reelbank.fusion.reproduce.plan import (
    model_options,
    pretrained,
    starts_from,
    store_options,
    stores_of,
)
from reelbank.fusion.reproduce.work import Work
from reelbank.heads.models.registry import head_spec
from reelbank.heads.pretraining.plan import PretrainOptions
from reelbank.heads.pretraining.plan import with_defaults as pretrain_defaults
from reelbank.heads.pretraining.pretrain import planned_weights
from reelbank.heads.runs.folder import read_run
from reelbank.heads.training.options import TrainOptions
from reelbank.heads.training.planning.filled import with_defaults as train_defaults
from reelbank.heads.training.planning.plan import plan_runs
from reelbank.heads.training.run import is_finished


def check_options(work: Work) -> None:
    """Raises InputError, before any work is done, for impossible options of a store, a network or
    a model."""
    network = other_network(work.options)
    for name in work.store_names:
        splits = work.store_splits(name)
        for section in pretrained(work.recipe["stores"][name]).values():
            with _naming(work, f"[pretrain.{section}]"):
                pretrain_defaults(pretrain_options(work, section, splits))
        where = f"options of [stores.{name}] and [extract]"
        with _naming(work, f"EXTRACTOR={network['extractor']}" if network else where):
            extract_defaults(extract_options(work, name, splits, weights="random"))
    for name in work.models:
        with _naming(work, f"options of [models.{name}], [train] and [heads]"):
            stores = [Path(store) for store in stores_of(work.recipe["models"][name])]
            train_defaults(train_options(work, name, stores, work.splits[name]))


@contextmanager
def _naming(work: Work, where: str) -> Iterator[None]:
    """A context in which a section of the recipe is used. Errors name the section."""
    try:
        yield
    except InputError as error:
        raise InputError(f"SYSTEM={work.options.system}: {where}: {error}") from None


def other_network(options: ReproduceOptions) -> dict[str, str]:
    """EXTRACTOR and the options that belong to it, or {} if EXTRACTOR is not given."""
    values = {key: getattr(options, key) for key in ("extractor", "weights", "resize", "size")}
    return {key: value for key, value in values.items() if value}


def _data_options(options: ReproduceOptions) -> dict[str, Any]:
    """The options about the data, which `extract` and `pretrain` share."""
    names = ("root", "lists", "csv", "dataset_name", "classes", "image_fps")
    values = {name: getattr(options, name) or None for name in names}
    machine = {name: getattr(options, name) for name in ("device", "cluster", "bank", "banks")}
    return {"dataset": options.dataset, **values, **machine}


def pretrain_options(work: Work, section: str, splits: Sequence[str]) -> PretrainOptions:
    """Options of `pretrain` for one section of [pretrain]."""
    settings = dict(work.recipe["pretrain"][section])
    if detection := settings.pop("normal_of", ""):
        settings["without"] = work.abnormal_classes(detection)
    values = {**_data_options(work.options), **settings, "split": tuple(splits)}
    return parse(PretrainOptions, words_of(values), "pretrain")


def is_pretrained(work: Work, section: str, splits: Sequence[str]) -> bool:
    """Whether the weights of a section of [pretrain] exist for these splits."""
    folders = planned_weights(pretrain_options(work, section, splits), not work.options.plan)
    return bool(folders) and all(finished(folder) for folder in folders.values())


def missing_pretraining(work: Work, name: str) -> list[str]:
    """The sections of [pretrain] that a store needs and whose weights do not exist yet."""
    sections = pretrained(work.recipe["stores"][name]).values()
    splits = work.store_splits(name)
    return [section for section in sections if not is_pretrained(work, section, splits)]


def extract_options(
    work: Work, name: str, splits: Sequence[str], *, weights: str = ""
) -> ExtractOptions:
    """Options of `extract` for one store. weights: weights to use instead of those that [pretrain]
    trains; without it, the trained weights must exist (`missing_pretraining`)."""
    options = work.options
    values = store_options(work.recipe, name, other_network(options))
    sections = pretrained(work.recipe["stores"][name])
    if sections and weights:
        values["weights"] = weights
    elif sections:
        families = {stream: _family(work, section, splits) for stream, section in sections.items()}
        by_stream = " ".join(f"{stream}={family}" for stream, family in families.items())
        values["weights"] = families.get("", by_stream)
        values["split"] = tuple(splits)
        for key in ("resize", "size"):  # options for training the weights
            values.pop(key, None)
    values = {**_data_options(options), "workers": options.workers or None, **values}
    return parse(ExtractOptions, words_of(values), "extract")


def check_weights(work: Work, name: str) -> None:
    """Raises InputError for a store whose network has no weights to download, if the recipe and the
    options give none: it names the option that gives them."""
    store = work.recipe["stores"][name]
    values = store_options(work.recipe, name, other_network(work.options))
    streams = str(values.get("stream", " ".join(USUAL_STREAMS))).split()
    extractors = by_stream("extractor", str(values.get("extractor", "")), streams)
    weights = by_stream("weights", str(values.get("weights", "")), streams)
    without = [stream for stream in extractors if not weights.get(stream)]
    without = [stream for stream in without if not {stream, ""} & pretrained(store).keys()]
    networks = dict.fromkeys(extractors[one] for one in without if extractors[one] in BACKBONES)
    if networks:
        value = "<path>"
        if len(streams) > 1:
            value = " ".join(f"{stream}=<path>" for stream in without)
        raise InputError(
            f"{', '.join(networks)} has no weights to download; give the path of a public checkpoint "
            f'(docs/streams.md) with SET="stores.{name}.weights={value}", or another network with '
            "EXTRACTOR="
        )


def _family(work: Work, section: str, splits: Sequence[str]) -> str:
    """The name that the weights of all splits have in common."""
    folders = planned_weights(pretrain_options(work, section, splits), not work.options.plan)
    return family_of(read_recipe(next(iter(folders.values()))))


def stores_there(work: Work, options: ExtractOptions) -> list[PlannedStore]:
    """The stores that an extraction fills. Nothing is downloaded with PLAN=1."""
    return planned_stores(replace(options, plan=work.options.plan), work.dataset)


def is_complete(work: Work, stores: Sequence[PlannedStore]) -> bool:
    """Whether every store contains all videos of the data set."""
    return all(store.finished_videos >= len(work.dataset.videos) for store in stores)


def stores_by_splits(work: Work, name: str) -> dict[tuple[Path, ...], list[str]]:
    """The stores that a model is trained on, and the splits on them. Raises InputError when they do
    not exist, or `on` does not name exactly one of several."""
    splits_of: dict[tuple[Path, ...], list[str]] = {}
    for split in work.splits[name]:
        names = str(work.recipe["models"][name]["on"]).split("+")
        paths = tuple(_store_path(work, name, store, split) for store in names)
        splits_of.setdefault(paths, []).append(split)
    return splits_of


def _store_path(work: Work, model: str, on: str, split: str) -> Path:
    """The store that `on` names as store or store.part."""
    store, _, part = on.partition(".")
    if store not in work.stores:
        raise InputError(
            f"needs the store {store}, which is missing "
            f"({work.failed.get(store, 'not extracted yet')})"
        )
    matching = [
        planned
        for planned in work.stores[store]
        if planned.split in ("", split)
        and part in ("", planned.stream, planned.node, f"{planned.stream}.{planned.node}")
    ]
    if len(matching) != 1:
        names = [f"{store}.{planned.stream}.{planned.node}" for planned in work.stores[store]]
        raise InputError(
            f"[models.{model}] on = {on!r} must match exactly one store, but it matches "
            f"{len(matching)}; choose from {', '.join(names)}"
        )
    return matching[0].path


def train_options(
    work: Work, name: str, paths: Sequence[Path], splits: Sequence[str]
) -> TrainOptions:
    """Options of `train` for one model on its stores. A model starts from the runs of another one
    (`starts_from`) only if these are in `work.runs`."""
    options = work.options
    values = model_options(work.recipe, name) | {
        "bank": options.bank,
        "banks": options.banks,
        "store": "+".join(map(str, paths)),
        "device": options.device,
        "cluster": options.cluster,
        "without": _unused_classes(work, name),
        "validation_store": _validation_store(work, name, splits[0]),
        "split": tuple(splits),
        "seed": options.seed,
        "init": [path.name for path in work.runs.get(starts_from(work.recipe, name), ())] or None,
    }
    if head_spec(str(values["head"])).takes_maps:
        values |= _trunk_options(work, name)
    return parse(TrainOptions, words_of(values), "train")


def _validation_store(work: Work, name: str, split: str) -> str:
    """The path of the store that chooses a model's validation videos; "" if it is the model's own.
    Before stores are extracted it is its name in the recipe."""
    wanted = str(work.recipe["models"][name].get("validation_store", ""))
    if not wanted or not work.stores:
        return wanted
    return str(_store_path(work, name, wanted, split))


def _unused_classes(work: Work, name: str) -> tuple[str, ...]:
    """The classes that are not in CLASSES, and those that are abnormal to the model. Unlike a list of
    the used classes, it also suits a store in which some classes have no video, such as sound."""
    unused: tuple[str, ...] = ()
    if wanted := work.options.classes:
        unused = tuple(label for label in work.dataset.classes if label not in wanted)
    if detection := work.recipe["models"][name].get("normal_of"):
        unused += work.abnormal_classes(detection)
    return unused


def _trunk_options(work: Work, name: str) -> dict[str, str]:
    """Options of `train` for a head that begins with a copy of the network's last layers: a user's
    file, and the file of the weights. Stores and runs do not record these paths."""
    store, _, part = str(work.recipe["models"][name]["on"]).partition(".")
    if store not in work.recipe["stores"] or pretrained(work.recipe["stores"][store]):
        return {}
    values = store_options(work.recipe, store, other_network(work.options))
    found: dict[str, str] = {}
    if ".py:" in work.options.extractor:
        found["extractor"] = work.options.extractor
    streams = str(values.get("stream", " ".join(USUAL_STREAMS))).split()
    weights = by_stream("weights", str(values.get("weights", "")), streams)
    stream = part.partition(".")[0]
    file = weights.get(stream, next(iter(weights.values()), ""))
    if values.get("at") and Path(file).is_file():
        found["trunk_weights"] = file
    return found


def anomaly_options(work: Work, name: str, split: str, seed: int) -> AnomalyOptions:
    """Options of `anomaly` for one split and seed. Raises InputError if a member has no run."""
    own = dict(work.recipe["anomalies"][name])
    own.pop("abnormal_every", None)
    runs: list[str] = []
    for member in own.pop("members"):
        if member not in work.runs:
            raise InputError(
                f"needs the model {member}, which is missing "
                f"({work.failed.get(member, 'not trained yet')})"
            )
        if member in work.imported:
            raise InputError(
                f"needs embeddings of {member}, but its scores were imported and contain no embeddings"
            )
        recipes = {path: read_run(path).recipe for path in work.runs[member]}
        runs += [
            path.name
            for path, recipe in recipes.items()
            if (recipe["split"], recipe["seed"]) == (split, seed)
        ]
    own |= {"abnormal": work.abnormal_classes(name), "run": tuple(runs)}
    banks = {"bank": work.options.bank, "banks": work.options.banks}
    values = {**banks, **own, "split": split, "seed": (seed,)}
    return parse(AnomalyOptions, words_of(values), "anomaly")


def planned_folders(options: TrainOptions, paths: Sequence[Path]) -> dict[Path, bool]:
    """The folders of the runs of these options, and whether each is finished."""
    with ExitStack() as stack:
        stores = [stack.enter_context(Store.open(path)) for path in paths]
        return {plan.path: is_finished(plan) for plan in plan_runs(stores, options)}
