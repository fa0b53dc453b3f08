"""Command `reproduce`: a published system from its recipe. What is there already is not done again."""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from reelbank.data.datasets import Dataset, load_dataset
from reelbank.data.errors import InputError
from reelbank.data.printing import print_table, printable
from reelbank.data.recipe import option, parse, words_of
from reelbank.data.store import Store
from reelbank.extract.options import ExtractOptions
from reelbank.extract.options import with_defaults as extract_defaults
from reelbank.extract.run import PlannedStore, extract, planned_stores
from reelbank.extract.streams import chosen_device
from reelbank.extract.trained import family_of, finished, read_recipe
from reelbank.fusion.fuse import FuseOptions, make_fused
from reelbank.fusion.paper import (
    ANY_DATASET,
    Cell,
    against,
    cells,
    model_options,
    named,
    needed,
    pretrained,
    splits_of,
    store_options,
    stores_of,
)
from reelbank.fusion.paper_file import read_paper
from reelbank.fusion.svm import SvmOptions, make_svms
from reelbank.heads.model import takes_maps
from reelbank.heads.options import TrainOptions
from reelbank.heads.options import with_defaults as train_defaults
from reelbank.heads.plan import plan_runs
from reelbank.heads.pretrain import planned_weights, pretrain
from reelbank.heads.pretrain_inputs import pixels_extraction
from reelbank.heads.pretrain_plan import PretrainOptions
from reelbank.heads.pretrain_plan import with_defaults as pretrain_defaults
from reelbank.heads.runs import written_to
from reelbank.heads.train import is_finished, train


@dataclass(frozen=True)
class ReproduceOptions:
    """Options of the command `reproduce`."""

    system: str = option("", "the recipe: a name in recipes/, or a TOML file")
    dataset: str = option("toy", "ucf101, hmdb51, charades, folder or toy")
    root: str = option("", "folder that holds the data set's class folders (toy: is drawn)")
    lists: str = option("", "folder of the official lists (hmdb51, charades: needed)")
    csv: str = option("", "dataset folder: a CSV of path,label,split")
    classes: tuple[str, ...] = option((), "these classes alone")
    only: tuple[str, ...] = option((), "tables to make, with what they need (default: all)")
    quick: bool = option(False, "the recipe's cut-down form, which ends in minutes on a CPU; its rows say what is cut")
    plan: bool = option(False, "print what would be extracted and trained, what is there, time and disk, and stop")
    set: str = option("", "changes of the recipe: section.name.option=value ..., as models.gru.hidden=128")
    split: tuple[str, ...] = option((), "splits to run (default: those that the tables name; QUICK: the first)")
    seed: tuple[int, ...] = option((0,), "seeds of the heads, one run each")
    extractor: str = option("", "a network in place of the recipe's, for pictures whose network is not trained here")
    weights: str = option("", "with EXTRACTOR: its weights, as for extract")
    resize: str = option("", "with EXTRACTOR: as for extract")
    size: str = option("", "with EXTRACTOR: as for extract")
    device: str = option("auto", "auto, cpu, cuda, cuda:1 ...")
    workers: int = option(0, "decode processes (default: as for extract)")
    bank: str = option("bank", "folder that holds stores, runs and reports")


@dataclass
class Work:
    """What one command is about, and what came of it so far. known: the splits that rows may take; splits: of each model and
    fusion; stores: by name of the recipe; runs: the folders of each model and fusion; failed: why a store, model or fusion is
    not there."""

    options: ReproduceOptions
    recipe: dict[str, Any]
    dataset: Dataset
    cells: list[Cell]
    models: list[str]
    fusions: list[str]
    known: list[str]
    splits: dict[str, list[str]]
    stores: dict[str, list[PlannedStore]] = field(default_factory=dict)
    runs: dict[str, list[Path]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @cached_property
    def whole(self) -> dict[str, Any]:
        """The recipe as its file has it, without QUICK and SET."""
        return read_paper(self.options.system)

    @cached_property
    def tests(self) -> dict[str, set[str]]:
        """The test videos of each split, less those without a class where each has one."""
        videos = [video for video in self.dataset.videos if video.label or self.dataset.multilabel]
        return {
            split: {video.id for video in videos if video.parts[number] == "test"}
            for number, split in enumerate(self.dataset.splits)
        }

    @property
    def store_names(self) -> list[str]:
        """The stores that its models read, in the recipe's order."""
        read = {name for model in self.models for name in stores_of(self.recipe["models"][model])}
        return [name for name in self.recipe.get("stores", {}) if name in read]


def reproduce(options: ReproduceOptions) -> int:
    """Do what is missing, make the tables and the report. Returns 0, or 1 when something could not be done: the tables say what
    and why. Raises InputError for a recipe, data set or option that cannot be."""
    from reelbank.fusion.paper_tables import publish

    work = begin(options)
    for note in work.dataset.notes:
        print(note)
    if options.plan:
        return print_plan(work)
    for name in work.store_names:
        with _reason(work, name):
            _extract(work, name)
    for name in work.models:
        with _reason(work, name):
            _train(work, name)
    for name in work.fusions:
        with _reason(work, name):
            _fuse(work, name)
    publish(work)
    for name, reason in work.failed.items():
        print(printable(f"not done: {name}: {reason}"))
    return 1 if work.failed else 0


def begin(options: ReproduceOptions) -> Work:
    """Read recipe and data set, and find what is needed."""
    if not options.system:
        raise InputError("SYSTEM= is needed: the name of a recipe, as reslstm, or a TOML file")
    recipe = read_paper(options.system, options.set, options.quick)
    for name in ("weights", "resize", "size"):
        if getattr(options, name) and not options.extractor:
            raise InputError(f"{name.upper()}={getattr(options, name)}: is of EXTRACTOR; give both, or use SET=")
    chosen_device(options.device)
    if not options.plan:
        with written_to("BANK", Path(options.bank)):
            Path(options.bank, "reproductions").mkdir(parents=True, exist_ok=True)
    dataset = load_dataset(options.dataset, options.root, options.lists, options.csv, options.classes, bank=options.bank)
    known = list(dataset.splits[:1] if options.quick and not options.split else options.split or dataset.splits)
    if unknown := [split for split in known if split not in dataset.splits]:
        raise InputError(f"SPLIT={unknown[0]}: {dataset.name} has the splits {', '.join(dataset.splits)}")
    wanted = chosen_cells(cells(recipe, options.only), dataset)
    models, fusions = needed(recipe, wanted)
    work = Work(options, recipe, dataset, wanted, models, fusions, known, splits_of(recipe, wanted, known))
    check_options(work)
    return work


def check_options(work: Work) -> None:
    """Raises InputError, before anything is done, for options of a store, a network or a model that cannot be."""
    network = other_network(work.options)
    for name in work.store_names:
        splits = store_splits(work, name)
        for section in pretrained(work.recipe["stores"][name]).values():
            with _naming(work, f"[pretrain.{section}]"):
                pretrain_defaults(pretrain_options(work, section, splits))
        with _naming(work, f"EXTRACTOR={network['extractor']}" if network else f"[stores.{name}] with [extract]"):
            options = extract_options(work, name, splits, weights="random")
            assert options is not None
            extract_defaults(options)
    for name in work.models:
        with _naming(work, f"[models.{name}] with [train] and [heads]"):
            stores = [Path(store) for store in stores_of(work.recipe["models"][name])]
            train_defaults(train_options(work, name, stores, work.splits[name]))


@contextmanager
def _naming(work: Work, where: str) -> Iterator[None]:
    """Around what a section of the recipe says: what is wrong there names it."""
    try:
        yield
    except InputError as error:
        raise InputError(f"SYSTEM={work.options.system}: {where}: {error}") from None


def chosen_cells(every: Sequence[Cell], dataset: Dataset) -> list[Cell]:
    """The rows that are run on this data set: its own, and those of any. Where the tables have none of it, of each row and
    column the first, for one class a video or several as it is, less those set against a number of the paper's data."""
    if any(cell.dataset == dataset.name for cell in every):
        return [cell for cell in every if cell.dataset in (dataset.name, ANY_DATASET)]
    first: dict[tuple[str, str, str], Cell] = {}
    for cell in every:
        if (cell.metric == "map_percent") == dataset.multilabel and not against(cell.ours):
            first.setdefault((cell.table, cell.row, cell.column), cell)
    return list(first.values())


@contextmanager
def _reason(work: Work, name: str) -> Iterator[None]:
    """Around one step: what makes it impossible is kept as the reason, and the work goes on."""
    try:
        yield
    except InputError as error:
        work.failed[name] = " ".join(str(error).split())
        print(printable(f"{name}: {error}"))


def _shared(options: ReproduceOptions) -> dict[str, Any]:
    """What `extract` and `pretrain` are told alike of the data."""
    found = {name: getattr(options, name) or None for name in ("root", "lists", "csv", "classes")}
    return {"dataset": options.dataset, **found, "device": options.device, "bank": options.bank}


def pretrain_options(work: Work, name: str, splits: Sequence[str]) -> PretrainOptions:
    """Of one section of [pretrain], as its command line would be read."""
    values = {**_shared(work.options), **work.recipe["pretrain"][name], "split": tuple(splits)}
    return parse(PretrainOptions, words_of(values), "pretrain")


def other_network(options: ReproduceOptions) -> dict[str, str]:
    """EXTRACTOR and what was given with it; {} without it."""
    return {key: value for key in ("extractor", "weights", "resize", "size") if (value := getattr(options, key))}


def extract_options(work: Work, name: str, splits: Sequence[str], weights: str = "") -> ExtractOptions | None:
    """Of one store; None while the weights that it needs are not trained yet, unless others are given. Raises InputError."""
    options, recipe = work.options, work.recipe
    values = store_options(recipe, name, other_network(options))
    sources = pretrained(recipe["stores"][name])
    if sources and weights:
        values["weights"] = weights
    elif sources:
        found = {}
        for stream, section in sources.items():
            folders = planned_weights(pretrain_options(work, section, splits))
            if not folders or not all(finished(folder) for folder in folders.values()):
                return None
            found[stream] = family_of(read_recipe(next(iter(folders.values()))))
        values["weights"] = found.get("", " ".join(f"{stream}={family}" for stream, family in found.items()))
        values["split"] = tuple(splits)
        for key in ("resize", "size"):  # as the weights were trained
            values.pop(key, None)
    values = {**_shared(options), "workers": options.workers or None, **values}
    return parse(ExtractOptions, words_of(values), "extract")


def store_splits(work: Work, name: str) -> list[str]:
    """The splits of all models that read a store."""
    wanted = {split for model in work.models if name in stores_of(work.recipe["models"][model]) for split in work.splits[model]}
    return [split for split in work.dataset.splits if split in wanted]


def missing_pretraining(work: Work, name: str) -> list[str]:
    """The sections of [pretrain] that a store needs and that are not trained yet."""
    missing = []
    for section in pretrained(work.recipe["stores"][name]).values():
        folders = planned_weights(pretrain_options(work, section, store_splits(work, name)))
        if not folders or not all(finished(folder) for folder in folders.values()):
            missing.append(section)
    return missing


def _extract(work: Work, name: str) -> None:
    splits = store_splits(work, name)
    for section in missing_pretraining(work, name):
        print(f"== pretrain {section}", flush=True)
        pretrain(pretrain_options(work, section, splits))
    options = extract_options(work, name, splits)
    assert options is not None
    found = planned_stores(options, work.dataset)
    if any(store.there < len(work.dataset.videos) for store in found):
        print(f"== extract {name}", flush=True)
        extract(options)
        found = planned_stores(options, work.dataset)
    work.stores[name] = found


def stores_by_splits(work: Work, name: str) -> dict[tuple[Path, ...], list[str]]:
    """The stores that a model is trained on, and the splits on them. Raises InputError when they are not there, or the model
    does not say which of several."""
    found: dict[tuple[Path, ...], list[str]] = {}
    for split in work.splits[name]:
        paths = []
        for one in str(work.recipe["models"][name]["on"]).split("+"):
            store, _, part = one.partition(".")
            if store not in work.stores:
                raise InputError(f"needs the store {store}: {work.failed.get(store, 'it is not there yet')}")
            fits = [
                planned
                for planned in work.stores[store]
                if planned.split in ("", split)
                and part in ("", planned.stream, planned.node, f"{planned.stream}.{planned.node}")
            ]
            if len(fits) != 1:
                known = ", ".join(f"{store}.{planned.stream}.{planned.node}" for planned in work.stores[store])
                raise InputError(f"[models.{name}] on = {one!r}: {len(fits)} stores are so named; there are {known}")
            paths.append(fits[0].path)
        found.setdefault(tuple(paths), []).append(split)
    return found


def train_options(work: Work, name: str, paths: Sequence[Path], splits: Sequence[str]) -> TrainOptions:
    """Of one model on its stores, as its command line would be read."""
    options = work.options
    own: dict[str, Any] = {"bank": options.bank, "store": "+".join(map(str, paths)), "device": options.device}
    own |= {"classes": options.classes or None, "split": tuple(splits), "seed": options.seed}
    values = {**model_options(work.recipe, name), **own}
    stores = [work.recipe["stores"][store] for store in stores_of(work.recipe["models"][name])]
    if ".py:" in options.extractor and takes_maps(str(values["head"])) and not any(map(pretrained, stores)):
        values["extractor"] = options.extractor  # the head begins with a copy of the network's end
        values["trunk_weights"] = options.weights if Path(options.weights).is_file() else None
    return parse(TrainOptions, words_of(values), "train")


def planned_folders(options: TrainOptions, paths: Sequence[Path]) -> dict[Path, bool]:
    """The folders of the runs of these options, and whether each is finished."""
    with ExitStack() as stack:
        stores = [stack.enter_context(Store.open(path)) for path in paths]
        return {plan.path: is_finished(plan) for plan in plan_runs(stores, options)}


def _train(work: Work, name: str) -> None:
    folders: list[Path] = []
    for paths, splits in stores_by_splits(work, name).items():
        options = train_options(work, name, paths, splits)
        planned = planned_folders(options, paths)
        if not all(planned.values()):
            print(f"== train {name}", flush=True)
            train(options)
        folders += planned
    work.runs[name] = folders


def _fuse(work: Work, name: str) -> None:
    fusion = work.recipe["fusions"][name]
    if lacking := [member for member in fusion["members"] if member not in work.runs]:
        raise InputError(f"needs {lacking[0]}: {work.failed.get(lacking[0], 'it is not there')}")
    wanted = set(work.splits[name])
    runs = []
    for member in fusion["members"]:
        recipes = {path: json.loads((path / "recipe.json").read_text())["recipe"] for path in work.runs[member]}
        runs += [str(path) for path, recipe in recipes.items() if recipe["split"] in wanted]
    values = {key: value for key, value in fusion.items() if key not in ("members", "how", "weights")}
    shared = {"bank": work.options.bank, **values}
    print(f"== fuse {name}", flush=True)
    if fusion["how"] == "svm":
        work.runs[name] = make_svms(parse(SvmOptions, [*runs, *words_of(shared)], "svm"))
        return
    shared |= {"how": fusion["how"], "weights": tuple(fusion_weights(work, name)), "missing": fusion.get("missing", "allow")}
    work.runs[name] = make_fused(parse(FuseOptions, [*runs, *words_of(shared)], "fuse"))


def fusion_weights(work: Work, name: str) -> list[float]:
    """One weight for each member: those of the data set, of another one where the recipe has none of it, or all 1."""
    fusion = work.recipe["fusions"][name]
    found = fusion.get("weights", [1.0] * len(fusion["members"]))
    if isinstance(found, dict):
        found = found.get(work.dataset.name, next(iter(found.values())))
    return [float(weight) for weight in found]


def print_plan(work: Work) -> int:
    """What is there and what would be done; for stores that are not there an estimate of time and disk."""
    lines = [("step", "name", "state")]
    estimates: dict[str, ExtractOptions] = {}
    for name in work.store_names:
        with _reason(work, name):
            for section in pretrained(work.recipe["stores"][name]).values():
                state = "to do" if section in missing_pretraining(work, name) else "there"
                lines.append(("pretrain", section, state))
                pixels, _ = pixels_extraction(pretrain_defaults(pretrain_options(work, section, store_splits(work, name))))
                if planned_stores(pixels, work.dataset)[0].there < len(work.dataset.videos):
                    estimates[f"{section}, what it learns from"] = pixels
            options = extract_options(work, name, store_splits(work, name))
            if options is None:
                lines.append(("extract", name, "to do, once its network is trained"))
                splits = store_splits(work, name)
                untrained = extract_options(work, name, splits, weights="random")
                assert untrained is not None
                each = f", for each of {len(splits)} splits" if len(splits) > 1 else ""
                estimates[f"{name}{each} (its file is named when its network is trained)"] = untrained
                continue
            work.stores[name] = planned_stores(options, work.dataset)
            for store in work.stores[name]:
                total = len(work.dataset.videos)
                state = "there" if store.there == total else f"to do: {total - store.there} of {total} videos"
                lines.append(("extract", f"{name}: {store.path.name}", state))
            if any(store.there < len(work.dataset.videos) for store in work.stores[name]):
                estimates[name] = options
    seconds: list[float] = []
    todo = 0
    for name in work.models:
        with _reason(work, name):
            runs: dict[Path, bool] = {}
            complete = all(
                store.there == len(work.dataset.videos)
                for one in stores_of(work.recipe["models"][name])
                for store in work.stores.get(one, ())
            )
            if complete and all(one in work.stores for one in stores_of(work.recipe["models"][name])):
                for paths, splits in stores_by_splits(work, name).items():
                    runs |= planned_folders(train_options(work, name, paths, splits), paths)
            count = len(work.splits[name]) * len(work.options.seed)
            missing = count - sum(runs.values())
            todo += missing
            seconds += [_seconds(path) for path, there in runs.items() if there]
            lines.append(("train", name, "there" if not missing else f"to do: {missing} of {count} runs"))
    lines += [("fuse", name, "in moments, from its members") for name in work.fusions]
    print_table(list(dict.fromkeys(lines)))
    for name, options in estimates.items():
        print(f"\n{name}:")
        extract(dataclasses.replace(options, plan=True))
    if todo:
        each = (
            f"about {sum(seconds) / len(seconds):.0f} s each, as those that are there took"
            if seconds
            else "how long one takes is known once one is there"
        )
        print(f"\n{todo} runs to train: {each}")
    return 1 if work.failed else 0


def _seconds(run: Path) -> float:
    return float(json.loads((run / "metrics.json").read_text()).get("seconds", 0.0))


def runs_of(work: Work, names: Iterable[str]) -> list[Path]:
    """The folders of several models and fusions, each once."""
    return list(dict.fromkeys(path for name in names for path in work.runs.get(name, ())))


def cell_names(work: Work) -> list[str]:
    """Every model and fusion that a row names."""
    return list(dict.fromkeys(name for cell in work.cells for name in named(cell.ours)))
