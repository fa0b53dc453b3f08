"""What the formats write about each video."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reelbank.data.errors import InputError
from reelbank.data.store.reader import Store


@dataclass(frozen=True)
class ExportedVideo:
    """A video of a store. label: class name, or names joined by ";" in a multi-label data set. parts:
    one for each split. fps: 0.0 if unknown. source: facts about its file."""

    id: str
    label: str
    group: str
    parts: Sequence[str]
    fps: float
    source: Mapping[str, Any]


def exported_videos(store: Store) -> Iterator[ExportedVideo]:
    """The videos of a store, in its order."""
    columns = (store.video_ids, store.labels, store.groups, store.parts, store.sources)
    for video_id, label, group, parts, source in zip(*columns, strict=True):
        fps = positive_number(source.get("fps"))
        yield ExportedVideo(video_id, label, group, parts, fps, source)


def check_vectors(store: Store, format_name: str) -> None:
    """Raises InputError unless the rows of a store are vectors."""
    if len(store.row_shape) != 1:
        raise InputError(
            f"{store.path}: FORMAT={format_name} needs rows that are vectors (got {store.row_shape}); "
            "extract with the default AT, and without KEEP_CROPS"
        )


def check_times(store: Store, format_name: str) -> None:
    """Raises InputError for a store whose times are the numbers of the rows, because none were known
    when its features, or those of the store that it was exported from, were imported."""
    if has_row_numbers(store.recipe):
        raise InputError(
            f"{store.path}: FORMAT={format_name} needs the times of the rows in seconds, but this "
            "store contains row numbers; import the features with STRIDE= and FPS="
        )


def has_row_numbers(recipe: object) -> bool:
    """Whether the times of a store are row numbers: its recipe says so, or that of an import before,
    whose numbers were exported as times and imported again without STRIDE."""
    while isinstance(recipe, Mapping):
        if recipe.get("times") == "row numbers":
            return True
        imported = recipe.get("imported")
        if not isinstance(imported, Mapping) or "stride" in imported:
            return False
        recipe = imported.get("recipe")
    return False


def positive_number(value: object) -> float:
    """A fact about a file as a positive, finite number; 0.0 for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    # JSON has whole numbers that no float can hold
    return float(value) if 0 < value <= sys.float_info.max else 0.0
