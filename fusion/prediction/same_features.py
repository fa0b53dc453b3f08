"""Features of video files, computed as those of an existing store: stage one is run again with the
options that its recipe gives, into a temporary bank."""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from reelbank.data.banks import Banks
from reelbank.data.datasets.types import Dataset, Video
from reelbank.data.store.parts import final_path
from reelbank.data.store.records import DatasetDescription, identity
from reelbank.data.video.limits import Limits
from reelbank.extract.again import UserFiles
from reelbank.extract.device import chosen_device
from reelbank.extract.options import ExtractOptions
from reelbank.extract.run import extract_dataset
from reelbank.fusion.options import FileOptions

FILES = "files"  # name of the data set of files that were named one by one


def user_files(options: FileOptions, banks: Banks | None = None) -> UserFiles:
    """The user's files, which recipes do not contain, and which the user may have to give again.
    banks: where weights that were trained here are searched for, by default BANK and BANKS."""
    weights = options.extractor_weights
    is_one = bool(weights) and Path(weights).exists()  # one path may contain spaces
    return UserFiles(
        extractors=own_files(options.extractor),
        streams=own_files(options.stream),
        weights=(weights,) if is_one else tuple(weights.split()),
        flow_weights=options.flow_weights,
        bank=banks or options.searched,
        image_fps=options.image_fps,
        damaged=options.damaged,
        trust_remote_code=options.trust_remote_code,
    )


def extract_again(
    recipe: dict[str, Any],
    videos: Sequence[Video],
    folder: Path,
    *,
    about: DatasetDescription,
    options: FileOptions,
    again: ExtractOptions,
) -> Path:
    """Extract videos with the recipe of a store into the bank `folder`. Returns the store's path.

    about: the data set that the videos are taken for; again: the options that `options_again` gives
    for this recipe, bank and data set. Videos whose extraction fails are in the failures of the store.
    """
    again = replace(
        again, workers=options.workers, damaged=options.damaged, **asdict(Limits.of(options))
    )
    files = Dataset(
        *(about.name, folder, tuple(videos), (), ()),
        multilabel=about.multilabel,
        image_fps=options.image_fps or float(recipe.get("image_fps", 0.0)),
    )
    # stage one prints its progress; failures are reported by the caller
    with contextlib.redirect_stdout(io.StringIO()):
        extract_dataset(again, files, slice(None), [chosen_device(options.device)])
    # a store is unfinished where a file could not be read, and then has another ending
    pattern = f"*-{identity(recipe, about.name)[:8]}.*"
    (path,) = {final_path(file) for file in (folder / "stores").glob(pattern)}
    return path


def own_files(text: str) -> tuple[str, ...]:
    """The values file.py:name or hf:folder of one object, whose path may contain spaces, or of
    several objects."""
    is_one = Path(text.rpartition(":")[0]).is_file() or Path(text.removeprefix("hf:")).is_dir()
    return (text,) if is_one else tuple(text.split())
