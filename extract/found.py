"""Finished stores that an extraction does not have to write: in a folder that may only be read."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from reelbank.data.datasets.types import Dataset, Video
from reelbank.data.feature_recipe import FeatureRecipe
from reelbank.data.files import is_read_only
from reelbank.data.store.parts import parts_folder
from reelbank.data.store.records import DatasetDescription
from reelbank.data.store.stored import FinishedStore
from reelbank.extract.job import stored_video
from reelbank.extract.planned import ExtractionPlan
from reelbank.extract.todo import Retry, SourceFiles, StoredVideos


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
        self, plans: ExtractionPlan, closing: contextlib.ExitStack
    ) -> dict[Path, FinishedStore]:
        """The finished stores by the paths that the plan gives them. `closing` closes them. Raises
        InputError if a store cannot be read."""
        found = {}
        for plan in plans.streams:
            for path, recipe in zip(plan.paths, plan.recipes, strict=True):
                if is_read_only(parts_folder(path)) and (store := self._at(path, recipe)):
                    closing.callback(store.close)
                    found[path] = store
        return found

    def _at(self, path: Path, recipe: FeatureRecipe) -> FinishedStore | None:
        """The store at `path`; None if it needs a video or does not exist."""
        store = FinishedStore.at(path, recipe.to_json(), self.description, self.every_video)
        if store is None:
            return None
        if self.files.missing_in(self.videos, [StoredVideos.of(store)], self.retry):
            store.close()
            return None
        return store
