"""Whether our data is the same as the paper's, and what our figures are based on."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reelbank.data.console import counted
from reelbank.data.feature_recipe import FeatureRecipe
from reelbank.data.identity import differences
from reelbank.data.store.records import DatasetDescription
from reelbank.extract.networks.provenance import Provenance
from reelbank.fusion.evaluation.experiments import Group
from reelbank.fusion.reproduce.plan import (
    ALL_SPLITS,
    ANY_DATASET,
    Cell,
    is_detection,
    joined,
    model_options,
    named,
    pretrained,
    splits_of_cell,
    store_options,
    stores_of,
)
from reelbank.fusion.reproduce.recipe.reading import read_paper
from reelbank.fusion.reproduce.stages import other_network
from reelbank.fusion.reproduce.work import Work

FROZEN = "frozen"


def is_setting(cell: Cell) -> bool:
    """Whether the cell is a fusion weight. The recipe sets it, so it is not measured."""
    return cell.ours.startswith("weight ")


def is_papers_data(work: Work) -> bool:
    """Whether the paper's whole data set was used without QUICK. The number of videos is compared
    with the number in the recipe."""
    stated = work.recipe.get("videos", {}).get(work.dataset.name)
    return not work.options.quick and file_count(work) == stated


def whole_data_needed(published: str) -> str:
    """Why a published number stands without a figure of other data next to it."""
    return (
        f"the published {published} can only be compared with results on the paper's complete "
        "data set"
    )


def file_count(work: Work) -> int:
    """The number of files of the data set. A video may be a section of a file."""
    return work.dataset.files or len(work.dataset.videos)


def class_count(work: Work) -> int:
    """The number of classes with at least one video."""
    description = DatasetDescription.of(work.dataset)
    names: set[str] = set()
    for label in {video.label for video in work.dataset.videos}:
        names.update(description.label_names(label))
    return len(names)


def is_comparable(work: Work, cell: Cell, experiments: Mapping[str, Group]) -> bool:
    """Whether our figure was measured on the cell's data set and splits, with all their test
    videos."""
    if is_setting(cell) or cell.dataset not in (work.dataset.name, ANY_DATASET):
        return False
    splits = splits_of_cell(cell, work.known_splits)
    if cell.split in ALL_SPLITS and splits != list(work.dataset.splits):
        return False
    if cell.split.isdecimal() and cell.split not in splits:
        return False
    used = [experiments[name] for name in named(cell.ours) if name in experiments]
    return not any(missing_videos(work, experiment, splits) for experiment in used)


def missing_videos(work: Work, experiment: Group, splits: Sequence[str]) -> int:
    """The number of test videos of these splits that have no score because they could not be
    read."""
    missing = 0
    for split in splits:
        runs = [entry for entry in experiment.entries if entry.fact("split") == split]
        scored = [set(entry.table.outline.video_ids) for entry in runs]
        missing += len(work.tests[split].difference(*scored))
    return missing


def members_of_cell(work: Work, cell: Cell) -> list[str]:
    """The models that a cell's figure depends on."""
    sections = joined(work.recipe)
    names: dict[str, None] = {}
    for name in named(cell.ours):
        names |= dict.fromkeys(sections.get(name, {}).get("members", [name]))
    return list(names)


def data_description(work: Work, cell: Cell, experiments: Mapping[str, Group]) -> list[str]:
    """A description of our data: data set, classes, number of videos, splits, and number of test
    videos without a score."""
    if is_setting(cell):
        return ["set by the recipe, not measured"]
    splits = splits_of_cell(cell, work.known_splits) if named(cell.ours) else []
    whole, count = work.recipe.get("videos", {}).get(work.dataset.name), file_count(work)
    videos = (
        counted(count, "video")
        if whole in (count, None)
        else f"{count:,} of {counted(whole, 'video')}"
    )
    text = f"{work.dataset.name}, {class_count(work)} classes, {videos}"
    if splits:
        text += f", split {' '.join(splits)}"
    if cell.dataset not in (work.dataset.name, ANY_DATASET):
        text += f" (the paper uses {cell.dataset})"
    lines = [text]
    if is_detection(cell.ours):
        (name,) = named(cell.ours)
        return [*lines, f"abnormal classes: {', '.join(work.abnormal_classes(name))}"]
    for name in dict.fromkeys([*named(cell.ours), *members_of_cell(work, cell)]):
        missing = missing_videos(work, experiments[name], splits) if name in experiments else 0
        if missing:
            lines.append(f"{name} has no score for {counted(missing, 'test video')}")
    return lines


def weights_description(work: Work, cell: Cell) -> list[str]:
    """The weights and the trunk of every store that a cell's figure depends on."""
    options = work.options
    # SET may have changed how a store's network is trained
    without_set = work.recipe
    if options.set:
        without_set = read_paper(options.system, quick=options.quick, network=options.extractor)
    lines: dict[str, None] = {}
    for name in members_of_cell(work, cell):
        if name in work.imported:
            lines[f"{name}: imported scores"] = None
            continue
        stores = stores_of(work.recipe["models"][name])
        for path in work.runs.get(name, ())[:1]:
            recipes = json.loads((path / "recipe.json").read_text()).get("store_recipes", [])
            for store, feature_recipe in zip(stores, recipes, strict=True):
                trunk = _trunk(work.recipe["stores"][store], without_set["stores"].get(store, {}))
                lines[_store_description(feature_recipe, trunk)] = None
    return list(lines)


def _trunk(store: Mapping[str, Any], without_set: Mapping[str, Any]) -> str:
    if pretrained(store) == pretrained(without_set):
        return str(store.get("trunk", FROZEN))
    return "trained on the split's training part" if pretrained(store) else FROZEN


def _store_description(feature_recipe: Mapping[str, Any], trunk: str) -> str:
    flow_part = FeatureRecipe.from_json(feature_recipe).flow
    flow = flow_part.name if flow_part else ""
    origin = Provenance.from_json(feature_recipe.get("weights")).brief_source
    features = f"{feature_recipe.get('stream')}{f' ({flow})' if flow else ''}"
    trunk = trunk.replace("{flow}", flow)
    return f"{features} {feature_recipe.get('extractor')}: {origin}; trunk {trunk}"


def not_as_published(work: Work, cell: Cell) -> list[str]:
    """The differences between the options behind a cell and those of the recipe, due to QUICK, SET,
    EXTRACTOR or the splits."""
    ours, its = work.recipe, work.unchanged_recipe
    lines: list[str] = []
    for name in named(cell.ours):
        if name in joined(ours):
            its_own = joined(its).get(name, {})
            lines += _named(name, differences(joined(ours)[name], its_own))
    members = members_of_cell(work, cell)
    for name in members:
        if name in work.imported:
            files = ", ".join(Path(file).name for file in work.imported[name])
            lines.append(f"{name}: scores imported from {files}")
            continue
        if name not in its.get("models", {}):
            lines.append(f"{name} is not a model of the recipe")
            continue
        # a single model's name is omitted, so that cells with equal differences share a note
        lines += _named(name if len(members) > 1 else "", _model_differences(work, name))
        stores = (stores_of(recipe["models"][name]) for recipe in (ours, its))
        for store, its_store in zip(*stores, strict=False):
            lines += _store_differences(work, store, its_store)
    if named(cell.ours):
        lines += _split_differences(work, cell)
    return [
        line.replace(", not None", ", which the recipe does not set")
        for line in dict.fromkeys(lines)
    ]


def _named(name: str, lines: Sequence[str]) -> list[str]:
    return [f"{name}.{line}" if name else line for line in lines]


def _model_differences(work: Work, name: str) -> list[str]:
    ours, its = work.recipe, work.unchanged_recipe
    lines = differences(model_options(ours, name), model_options(its, name))
    on, its_on = ({"on": recipe["models"][name]["on"]} for recipe in (ours, its))
    return [*lines, *differences(on, its_on)]


def _store_differences(work: Work, store: str, its_store: str) -> list[str]:
    ours, its = work.recipe, work.unchanged_recipe
    used = store_options(ours, store, other_network(work.options))
    if ".py:" in str(used.get("extractor")):  # only the name of a user's file, without the folder
        used["extractor"] = Path(used["extractor"]).name
    if Path(str(used.get("weights", ""))).is_file():
        used["weights"] = Path(used["weights"]).name
    lines = _named(store, differences(used, store_options(its, its_store)))
    own_sections = {"pretrain": ours["stores"][store].get("pretrain") or "none"}
    its_sections = {"pretrain": its["stores"][its_store].get("pretrain") or "none"}
    lines += _named(store, differences(own_sections, its_sections))
    for section in pretrained(ours["stores"][store]).values():
        if section in its.get("pretrain", {}):
            changed = differences(ours["pretrain"][section], its["pretrain"][section])
            lines += _named(f"pretrain.{section}", changed)
    return lines


def _split_differences(work: Work, cell: Cell) -> list[str]:
    splits = splits_of_cell(cell, work.known_splits)
    if cell.split in ALL_SPLITS and splits != list(work.dataset.splits):
        return [f"only split {' '.join(splits)}"]
    if cell.split.isdecimal() and cell.split not in splits:
        return [f"split {' '.join(splits)} instead of {cell.split}"]
    return []
