"""Finished stores that an extraction does not have to write: those of other banks, and those in a
folder that may only be read."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from reelbank.data.banks import Banks, tell_once, tell_shadowed
from reelbank.data.datasets.types import Dataset, Video
from reelbank.data.errors import InputError
from reelbank.data.feature_recipe import FeatureRecipe
from reelbank.data.files import is_read_only
from reelbank.data.store.parts import begun, parts_folder
from reelbank.data.store.records import DatasetDescription
from reelbank.data.store.stored import FinishedStore
from reelbank.extract.job import stored_video
from reelbank.extract.plan import StreamPlan
from reelbank.extract.todo import Retry, SourceFiles, StoredVideos, store_exists


class FinishedStores:
    """Looks for the stores of an extraction that need none of its videos. videos: those to extract,
    with their current `files`."""

    def __init__(
        self, dataset: Dataset, videos: Sequence[Video], files: SourceFiles, retry: Retry
    ) -> None:
        self.videos, self.files, self.retry = videos, files, retry
        self.description = DatasetDescription.of(dataset)
        self.every_video = [stored_video(video) for video in dataset.videos]

    def among(
        self, plans: Sequence[StreamPlan], banks: Banks, closing: contextlib.ExitStack
    ) -> dict[str, tuple[FinishedStore, ...]]:
        """By the name of its plan, the stores of each stream of which all stores are finished and
        need not be written. `closing` closes them. Raises InputError if a store of BANK cannot be
        read; a note names such stores of other banks."""
        found = {}
        for plan in plans:
            stores = self._of_stream(plan, banks)
            for store in stores:
                closing.callback(store.close)
            if len(stores) == len(plan.paths):
                found[plan.name] = tuple(stores)
        return found

    def _of_stream(self, plan: StreamPlan, banks: Banks) -> list[FinishedStore]:
        stores = []
        for path, recipe in zip(plan.paths, plan.recipes, strict=True):
            if not store_exists(path) or begun(path):
                store = self._in_others(path, recipe, banks)
            else:
                self._tell_shadowed(path, banks)
                is_written = not is_read_only(parts_folder(path))
                store = None if is_written else self._at(path, recipe)
            stores += [store] if store else []
        return stores

    def _tell_shadowed(self, path: Path, banks: Banks) -> None:
        for folder in banks.below("stores")[1:]:
            if store_exists(folder / path.name):
                tell_shadowed(folder / path.name, path)

    def _in_others(self, path: Path, recipe: FeatureRecipe, banks: Banks) -> FinishedStore | None:
        """The store of this name in another bank, if it is finished."""
        for folder in banks.below("stores")[1:]:
            other = folder / path.name
            if not store_exists(other):
                continue
            try:
                store = self._at(other, recipe)
            except InputError as error:
                tell_once(f"note: a store is left out: {error}")
                continue
            if store:
                return store
            tell_once(
                f"note: {other} is not used, because it does not have all videos of this "
                "extraction with their current files, labels and splits"
            )
        return None

    def _at(self, path: Path, recipe: FeatureRecipe) -> FinishedStore | None:
        """The store at `path`; None if it needs a video."""
        store = FinishedStore.at(path, recipe.to_json(), self.description, self.every_video)
        if store is None:
            return None
        if self.files.missing_in(self.videos, [StoredVideos.of(store)], self.retry):
            store.close()
            return None
        return store


def with_found(
    plans: Sequence[StreamPlan], found: Mapping[str, Sequence[FinishedStore]]
) -> list[StreamPlan]:
    """The plans with the paths of the stores that were found."""
    return [
        dataclasses.replace(
            plan, paths=tuple(store.path for store in found.get(plan.name, ())) or plan.paths
        )
        for plan in plans
    ]


def present(path: Path, banks: Banks) -> Path:
    """The store at `path`, or if it does not exist, the store of this name in another bank."""
    paths = [path, *(folder / path.name for folder in banks.below("stores")[1:])]
    return next((one for one in paths if store_exists(one) and not begun(one)), path)
