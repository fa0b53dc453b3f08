"""The state of one reproduction: the recipe, the data set, and the results so far."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from reelbank.data.console import print_lines
from reelbank.data.datasets.registry import load_dataset, name_option
from reelbank.data.datasets.types import Dataset
from reelbank.data.errors import InputError
from reelbank.data.store.known_datasets import with_known_name
from reelbank.data.system.cluster import tell_cluster
from reelbank.data.system.memory import enough_memory
from reelbank.extract.device import check_device_of_cluster, chosen_device
from reelbank.extract.planned import PlannedStore
from reelbank.fusion.detectors.folder import DetectorMetrics
from reelbank.fusion.reproduce.options import ReproduceOptions
from reelbank.fusion.reproduce.plan import (
    ANY_DATASET,
    Cell,
    Figure,
    against,
    cells,
    figures_of,
    named,
    needed,
    needed_stores,
    splits_of,
)
from reelbank.fusion.reproduce.recipe.reading import read_paper
from reelbank.heads.runs.writing import written_to


@dataclass
class Work:
    """The plan of one command, and the results so far.

    cells: the published numbers that are reproduced on this data set, and one cell for each figure;
    models, fusions, anomalies: the models, fusions and anomaly detections that the cells need;
    known_splits: the splits that cells may use; splits: the splits of each of them; imported: model
    -> the score files that are used instead of it; such a model is not in `models`; stores: the
    stores by their name in the recipe; runs: the folders of each model and fusion; detectors: the
    results of each anomaly detection by split and seed; failed: the reason why a store, model,
    fusion, anomaly detection or figure could not be made.
    """

    options: ReproduceOptions
    recipe: dict[str, Any]
    dataset: Dataset
    cells: list[Cell]
    figures: list[Figure]
    models: list[str]
    fusions: list[str]
    anomalies: list[str]
    known_splits: list[str]
    splits: dict[str, list[str]]
    imported: dict[str, tuple[str, ...]] = field(default_factory=dict)
    stores: dict[str, list[PlannedStore]] = field(default_factory=dict)
    runs: dict[str, list[Path]] = field(default_factory=dict)
    detectors: dict[str, dict[tuple[str, int], DetectorMetrics]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @cached_property
    def unchanged_recipe(self) -> dict[str, Any]:
        """The recipe as its file has it, without QUICK, SET and EXTRACTOR."""
        return read_paper(self.options.system)

    @cached_property
    def tests(self) -> dict[str, set[str]]:
        """The test videos of each split. For single-label data, videos without a class are left
        out."""
        videos = [video for video in self.dataset.videos if video.label or self.dataset.multilabel]
        return {
            split: {video.id for video in videos if video.parts[number] == "test"}
            for number, split in enumerate(self.dataset.splits)
        }

    @property
    def store_names(self) -> list[str]:
        """The stores that the models read, in the recipe's order."""
        read: set[str] = set()
        for model in self.models:
            read.update(needed_stores(self.recipe["models"][model]))
        return [name for name in self.recipe.get("stores", {}) if name in read]

    @property
    def cell_names(self) -> list[str]:
        """Every model and fusion that a cell names."""
        names: dict[str, None] = {}
        for cell in self.cells:
            names |= dict.fromkeys(named(cell.ours))
        return list(names)

    def store_splits(self, name: str) -> list[str]:
        """The splits of all models that read a store."""
        splits: set[str] = set()
        for model in self.models:
            if name in needed_stores(self.recipe["models"][model]):
                splits.update(self.splits[model])
        return [split for split in self.dataset.splits if split in splits]

    def runs_of(self, names: Iterable[str]) -> list[Path]:
        """The folders of several models and fusions, each once."""
        folders: dict[Path, None] = {}
        for name in names:
            folders |= dict.fromkeys(self.runs.get(name, ()))
        return list(folders)

    def fusion_weights(self, name: str) -> list[float]:
        """One weight for each member. These are the recipe's weights for this data set, or else
        those for another data set, or else all 1."""
        fusion = self.recipe["fusions"][name]
        weights = fusion.get("weights", [1.0] * len(fusion["members"]))
        if isinstance(weights, dict):
            weights = weights.get(self.dataset.name, next(iter(weights.values())))
        return [float(weight) for weight in weights]

    def abnormal_classes(self, name: str) -> tuple[str, ...]:
        """The abnormal classes of an anomaly detection, of those that have videos. Raises
        InputError if there are none."""
        section = self.recipe["anomalies"][name]
        present = {video.label for video in self.dataset.videos}
        classes = [label for label in self.dataset.classes if label in present]
        if not section.get("abnormal"):
            every = section["abnormal_every"]
            return tuple(classes[every - 1 :: every] or classes[-1:])
        abnormal = tuple(label for label in classes if label in section["abnormal"])
        if not abnormal:
            raise InputError(
                f"[anomalies.{name}] abnormal = {section['abnormal']}: the data has none of these "
                f"classes; give others with SET=anomalies.{name}.abnormal=[...]"
            )
        return abnormal

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A context for one step. It records an InputError as the reason for the failure, so that
        the work continues."""
        try:
            with enough_memory("reproduce"):
                yield
        except InputError as error:
            reason = " ".join(str(error).split())
            same = next((other for other, text in self.failed.items() if text == reason), "")
            self.failed[name] = reason
            print_lines(
                f"{name}: failed for the same reason as {same}" if same else f"{name}: {error}"
            )


def planned_work(options: ReproduceOptions) -> Work:
    """Read the recipe and the data set, and find the needed stores and models. Raises InputError
    for a recipe, data set or option that is not possible."""
    if not options.system:
        raise InputError(
            "SYSTEM= is required: the name of a recipe, such as SYSTEM=reslstm, or a TOML file"
        )
    recipe = read_paper(options.system, options.set, quick=options.quick, network=options.extractor)
    for name in ("weights", "resize", "size"):
        value = getattr(options, name)
        if value and not options.extractor:
            raise InputError(
                f"{name.upper()}={value} is used only with EXTRACTOR; give EXTRACTOR as "
                "well, or change the recipe with SET="
            )
    if options.cluster:
        check_device_of_cluster(options.device)
        if not options.plan:
            tell_cluster(options.cluster)
    chosen_device("auto" if options.cluster else options.device)
    if not options.plan:
        with written_to("BANK", Path(options.bank)):
            Path(options.bank, "reproductions").mkdir(parents=True, exist_ok=True)
    dataset = load_dataset(
        options.dataset,
        options.root,
        splits_dir=options.lists,
        csv=options.csv,
        classes=options.classes,
        bank=options.bank,
        image_fps=options.image_fps or 0.0,
        dataset_name=options.dataset_name,
        draws=not options.plan,
    )
    if not options.dataset_name:
        dataset = with_known_name(
            dataset, options.dataset, options.searched, remembers=not options.plan
        )
        options = replace(options, dataset_name=name_option(options.dataset, dataset))
    known_splits = _known_splits(options, dataset)
    figures = figures_of(recipe, options.only)
    chosen = chosen_cells(cells(recipe, options.only), dataset)
    chosen += [figure.cell for figure in figures]
    names = needed(recipe, chosen)
    splits = splits_of(recipe, chosen, known_splits)
    imported = imported_files(options.scores, recipe)
    used = {name: files for name, files in imported.items() if name in names.models}
    return Work(
        options,
        recipe,
        dataset,
        cells=chosen,
        figures=figures,
        models=[name for name in names.models if name not in imported],
        imported=used,
        fusions=names.fusions,
        anomalies=names.anomalies,
        known_splits=known_splits,
        splits=splits,
    )


def imported_files(scores: Sequence[str], recipe: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Model -> the files of SCORES that stand in for it, from words "model=file". Raises InputError
    for a word of another form, and a name that is not a model of the recipe."""
    files: dict[str, tuple[str, ...]] = {}
    for word in scores:
        name, equals, file = word.partition("=")
        models = recipe.get("models", {})
        if not equals or name not in models:
            raise InputError(
                f"SCORES={word}: give model=file.npz, where model is one of {', '.join(models)}"
            )
        files[name] = (*files.get(name, ()), file)
    return files


def _known_splits(options: ReproduceOptions, dataset: Dataset) -> list[str]:
    """The value of SPLIT. The default is all splits of the data set, or the first split with
    QUICK."""
    if options.quick and not options.split:
        return list(dataset.splits[:1])
    for split in options.split:
        if split not in dataset.splits:
            raise InputError(
                f"SPLIT={split}: {dataset.name} does not have this split; it has "
                f"{', '.join(dataset.splits)}"
            )
    return list(options.split or dataset.splits)


def chosen_cells(every: Sequence[Cell], dataset: Dataset) -> list[Cell]:
    """The cells that are run on this data set, which are the cells of this data set and those of
    any data set.

    If the tables have no cells of this data set, the first cell of each row and column is used.
    Cells with accuracies are used for single-label data, and cells with mean average precisions for
    multi-label data. Cells that compare with a number measured on the paper's data are left out.
    """
    if any(cell.dataset == dataset.name for cell in every):
        return [cell for cell in every if cell.dataset in (dataset.name, ANY_DATASET)]
    first: dict[tuple[str, str, str], Cell] = {}
    for cell in every:
        if (cell.metric == "map_percent") == dataset.multilabel and not against(cell.ours):
            first.setdefault((cell.table, cell.row, cell.column), cell)
    return list(first.values())
