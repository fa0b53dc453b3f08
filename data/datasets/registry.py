"""The data sets by name. A new data set is a file with a DatasetSpec and a line in DATASETS; users
give their own data set as `path/to/file.py:name`."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from reelbank.data.banks import AnyBank, Banks
from reelbank.data.console import class_hint, some
from reelbank.data.datasets.own import load_own
from reelbank.data.datasets.types import Dataset, DatasetOptions, DatasetSpec, Naming
from reelbank.data.errors import InputError
from reelbank.data.identity import brief
from reelbank.data.plugins import is_user_file, load_plugin, plugin_name
from reelbank.data.ranges import HIGHEST_SEED, MOST_FPS, Range, check_value

DATASETS = {
    "ucf101": "data.datasets.ucf101:UCF101",
    "hmdb51": "data.datasets.hmdb51:HMDB51",
    "charades": "data.datasets.charades:CHARADES",
    "kinetics": "data.datasets.kinetics:KINETICS",
    "ssv2": "data.datasets.ssv2:SSV2",
    "activitynet": "data.datasets.activitynet:ACTIVITYNET",
    "thumos14": "data.datasets.thumos14:THUMOS14",
    "epic": "data.datasets.epic:ACTIONS",
    "epic_verb": "data.datasets.epic:VERBS",
    "epic_noun": "data.datasets.epic:NOUNS",
    "folder": "data.datasets.folder:FOLDER",
    "toy": "data.datasets.toy:TOY",
}

_LONGEST_NAME = 60  # letters of DATASET_NAME, which becomes a part of file names


def load_dataset(
    name: str,
    root: str = "",
    *,
    splits_dir: str = "",
    csv: str = "",
    classes: Sequence[str] = (),
    seed: int = 0,
    bank: str = "bank",
    image_fps: float = 0.0,
    dataset_name: str = "",
    files: Sequence[str] = (),
    draws: bool = True,
) -> Dataset:
    """Load a data set from the folder `root`.

    name: a key of DATASETS, or path/to/file.py:name for a user's own data set.
    splits_dir: folder that contains the official split lists (optional for ucf101, not used for
    folder and toy, otherwise required). csv: CSV file with the columns path, label and split (only for folder).
    classes: keep only videos of these classes. `Dataset.classes` still contains all classes, so
    that the number of a class does not change. seed: determines the random split (folder) or the
    generated videos (toy). bank: folder in which the toy videos are generated if `root` is not
    given. image_fps: frames per second of folders of images; 0 uses the rate of the official data
    set, if it is known. dataset_name: name of a folder's data set, by default from its path.
    files: videos and folders of videos, instead of `root` (only for folder). draws: whether toy
    draws its missing videos; without them, it only describes what it would draw.

    Raises InputError for an unknown name or class, a wrong `root`, or an argument that does not
    apply to this data set.
    """
    check_value("SEED", seed, int, {"range": Range(0, HIGHEST_SEED)})
    check_value("IMAGE_FPS", image_fps, float, {"range": Range(0, MOST_FPS)})
    spec = load_spec(name)
    recipe_name = plugin_name(name)
    if splits_dir and not spec.takes_lists:
        raise InputError(
            f"LISTS={splits_dir}: DATASET={name} does not use official lists; leave LISTS out"
        )
    if csv and not spec.takes_csv:
        with_csv = " or ".join(key for key in DATASETS if load_spec(key).takes_csv)
        raise InputError(
            f"CSV={csv}: DATASET={name} does not use a CSV file; leave CSV out, or use "
            f"DATASET={with_csv}"
        )
    if files and not spec.takes_files:
        raise InputError(
            f"VIDEOS={brief(' '.join(files), 100)}: DATASET={name} reads one folder; give ROOT=<folder>"
        )
    if files and csv:
        raise InputError(
            f"CSV={csv}: the videos of a CSV file are in one folder; give this folder as ROOT, and "
            "leave VIDEOS out"
        )
    if dataset_name:
        dataset_name = stored_name_of(name, dataset_name)
    options = DatasetOptions(
        recipe_name,
        root,
        splits_dir=splits_dir,
        csv=csv,
        seed=seed,
        bank=bank,
        files=tuple(files),
        draws=draws,
    )
    dataset = load_own(spec, options, name) if is_user_file(name) else spec.load(options)
    if is_user_file(name) and not is_of_dataset(dataset.name, name):
        raise InputError(
            f"DATASET={name}: load() must return a Dataset whose name is "
            f"'{recipe_name}' (options.name) or begins with '{recipe_name}-' (got '{dataset.name}')"
        )
    if dataset_name:
        dataset = dataclasses.replace(dataset, name=dataset_name)
    dataset = _with_image_rate(dataset, image_fps)
    return _keep_classes(dataset, classes) if classes else dataset


def stored_name_of(option_value: str, dataset_name: str) -> str:
    """The name in a store of DATASET=`option_value` with DATASET_NAME=`dataset_name`: `clips` and
    `folder-clips` both mean `folder-clips`. Raises InputError if a folder's data set cannot have it.
    """
    if not load_spec(option_value).names_folders:
        raise InputError(
            f"DATASET_NAME={dataset_name}: DATASET={option_value} has a fixed name; leave "
            "DATASET_NAME out"
        )
    kind = plugin_name(option_value)
    own = dataset_name.removeprefix(f"{kind}-")
    if not re.fullmatch(rf"[\w.-]{{1,{_LONGEST_NAME}}}", own):
        raise InputError(
            f"DATASET_NAME={brief(dataset_name)}: must consist of 1 to {_LONGEST_NAME} letters, "
            "digits, '_', '-' and '.'"
        )
    return f"{kind}-{own}"


def name_option(option_value: str, dataset: Dataset) -> str:
    """The value of DATASET_NAME= with which other processes give a data set the same name, wherever
    its folder is; "" if its name is fixed."""
    return dataset.name if load_spec(option_value).names_folders else ""


def load_spec(name: str) -> DatasetSpec:
    """The specification of DATASET=`name`. Raises InputError if it does not exist."""
    spec = load_plugin(name, DATASETS, option="DATASET")
    if not isinstance(spec, DatasetSpec):
        raise InputError(
            f"DATASET={name}: must be a reelbank.data.datasets.DatasetSpec (got "
            f"{type(spec).__name__})"
        )
    return spec


def is_of_dataset(stored_name: str, option_value: str) -> bool:
    """Whether DATASET=`option_value` matches the data set of a store or run.

    If each folder is a separate data set, or if there are several editions, the name matches all of
    them: `folder` matches `folder-clips-1f2e3d`, and `kinetics` matches `kinetics-400`.
    """
    recipe_name = plugin_name(option_value)
    if stored_name == recipe_name:
        return True
    if not stored_name.startswith(f"{recipe_name}-"):
        return False
    return (
        is_user_file(option_value)
        or recipe_name in DATASETS
        and _has_several(load_spec(option_value))
    )


def _has_several(spec: DatasetSpec) -> bool:
    """Whether several data sets have names that begin with the registered name."""
    return spec.names_folders or spec.has_editions


def kind_of(stored_name: str) -> str:
    """The registered name of the data set of a store or run, without the suffix for its folder or
    seed; '' for a data set that is not registered, such as a user's own."""
    kind = stored_name.partition("-")[0]
    return kind if kind in DATASETS else ""


def has_drawn_split(stored_name: str) -> bool:
    """Whether the data set of a store is a single folder whose split was drawn."""
    kind = kind_of(stored_name)
    return bool(kind) and kind != stored_name and load_spec(kind).names_folders


def drawn_folder(stored_name: str, bank: AnyBank) -> Path | None:
    """The folder in the bank, or in another bank, that contains the videos of a drawn data set; None if there is
    none."""
    if stored_name not in DATASETS or not load_spec(stored_name).drawn_in:
        return None
    folders = Banks.of(bank).below(load_spec(stored_name).drawn_in)
    return next((folder for folder in folders if folder.is_dir()), None)


def loadable_name(stored_name: str, option_value: str = "") -> str:
    """The name with which `load_dataset` loads the data set of a store or run.

    option_value: the option DATASET. If it names a user's file, only that file can load the data
    set. Stores, runs and score files are untrusted, so a file that they name is never executed.
    Raises InputError for a data set that is not registered if the option does not name it.
    """
    if option_value and is_of_dataset(stored_name, option_value):
        return option_value
    kind = kind_of(stored_name)
    if kind and _has_several(load_spec(kind)):
        return kind
    if stored_name not in DATASETS:
        raise InputError(
            f"the data set '{stored_name}' is not one of the built-in ones "
            f"({', '.join(DATASETS)}); give DATASET=<file>.py:<name>, the Python file that "
            "defines this data set"
        )
    return stored_name


def namings() -> dict[str, Naming]:
    """The data sets in which a video's name contains its class, group and parts."""
    specs = {name: load_spec(name) for name in DATASETS}
    return {name: spec.naming for name, spec in specs.items() if spec.naming}


def dataset_choices() -> str:
    """The values that DATASET accepts, for help texts."""
    return f"{', '.join(DATASETS)}, or <file>.py:<name>"


def _with_image_rate(dataset: Dataset, given_fps: float) -> Dataset:
    """The data set with the frame rate of its folders of images and a note about it; without such
    folders, with a rate of 0. Raises InputError if a rate is given but no folder exists."""
    folders = sum(path.is_dir() for path in {video.path for video in dataset.videos})
    if not folders and given_fps:
        raise InputError(
            f"IMAGE_FPS={given_fps:g}: ROOT={dataset.root} contains no videos that are "
            "folders of images; leave IMAGE_FPS out"
        )
    if not folders:
        return dataclasses.replace(dataset, image_fps=0.0)
    image_fps = given_fps or dataset.image_fps
    rate = f"{image_fps:g}" if image_fps else "an unknown number of"
    videos = "video is a folder" if folders == 1 else "videos are folders"
    note = f"{folders:,} {videos} of images, played at {rate} frames per second (IMAGE_FPS)"
    return dataclasses.replace(dataset, image_fps=image_fps, notes=(*dataset.notes, note))


def _keep_classes(dataset: Dataset, classes: Sequence[str]) -> Dataset:
    for name in classes:
        if name not in dataset.classes:
            hint = class_hint(name, dataset.classes)
            listed = (
                f"; the classes of {dataset.name} are {some(dataset.classes, 6) or 'no classes'}"
            )
            raise InputError(f"CLASSES: {dataset.name} has no class '{name}'{hint or listed}")
    chosen = set(classes)
    names = {
        video: set(video.label.split(";") if dataset.multilabel else [video.label])
        for video in dataset.videos
    }
    videos = tuple(video for video in dataset.videos if names[video] & chosen)
    empty = sorted(chosen.difference(*(names[video] for video in videos)))
    if empty:
        raise InputError(
            f"CLASSES={','.join(classes)}: ROOT={dataset.root} contains no videos of the classes "
            f"{some(empty)}; leave these classes out"
        )
    note = (
        f"CLASSES selects {len(videos):,} of {len(dataset.videos):,} videos, those of the classes "
        f"{some(classes, 6)}"
    )
    files = len({video.path for video in videos}) if dataset.files else 0
    kept = {video.id for video in videos}
    return dataclasses.replace(
        dataset,
        videos=videos,
        files=files,
        notes=(*dataset.notes, note),
        unselected=tuple(video for video in dataset.videos if video.id not in kept),
    )
