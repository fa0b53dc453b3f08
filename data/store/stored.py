"""The videos of a store as an extraction sees them: what is stored, what failed, and whether
anything is left to do."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from reelbank.data.errors import InputError
from reelbank.data.identity import canonical
from reelbank.data.store.catalog import Catalog, lasting, scan
from reelbank.data.store.file.about import About
from reelbank.data.store.file.index import Index
from reelbank.data.store.merge import is_same, merged_index
from reelbank.data.store.parts import final_path
from reelbank.data.store.records import Cost, DatasetDescription, Failure, StoredVideo, identity
from reelbank.data.store.versions import Versions
from reelbank.data.video.sources import SourceFile


class StoredFeatures:
    """The saved videos of the store of one recipe and data set. done: id -> size of the video file in
    bytes; sources: id -> SourceFile; failed: id -> Failure."""

    sources: dict[str, SourceFile]
    done: dict[str, int]
    failed: Mapping[str, Failure]

    def __init__(
        self, path: Path | str, recipe: Mapping[str, Any], dataset: DatasetDescription
    ) -> None:
        self.path = final_path(path)
        self.recipe: dict[str, Any] = json.loads(canonical(recipe))
        self.dataset = dataset
        self.identity = identity(self.recipe, dataset.name)
        self._catalog = Catalog()

    def _refresh(self) -> None:
        self.sources = {
            video_id: self._catalog.source(video_id) for video_id in self._catalog.where
        }
        self.done = {video_id: source.bytes for video_id, source in self.sources.items()}
        self.failed = self._catalog.failures

    def facts(self) -> dict[str, Mapping[str, Any]]:
        """Facts about the files of the saved videos, by id."""
        return {
            video_id: place.file.index.source(place.number)
            for video_id, place in self._catalog.where.items()
        }

    def versions(self) -> Counter[Versions]:
        """Package versions with which the saved videos were computed, and the number of videos for
        each."""
        return Counter(
            place.file.index.version(place.number) for place in self._catalog.where.values()
        )

    def cost(self) -> Cost:
        """The time that computing the saved videos took, and the devices."""
        return self._catalog.cost()

    def _has_settled(self, videos: Sequence[StoredVideo]) -> bool:
        """Whether each of these videos is stored, or failed for a reason that lasts."""
        settled = self._catalog.where.keys() | lasting(self._catalog.failures).keys()
        return settled.issuperset(video.id for video in videos)

    def _combined(self) -> About:
        """The recipe, and the data set as the files and the new list describe it together."""
        dataset = self.dataset
        if self._catalog.files:
            dataset = self._catalog.dataset().combined(self.dataset)
        return About(self.recipe, dataset, written={})


class FinishedStore(StoredFeatures):
    """A finished store that a list of videos would not change. It is only read, so it may be in a
    folder that cannot be written."""

    @classmethod
    def at(
        cls,
        path: Path,
        recipe: Mapping[str, Any],
        dataset: DatasetDescription,
        videos: Sequence[StoredVideo],
    ) -> Self | None:
        """The store at `path` of this recipe and data set; None unless it is finished and has all
        `videos`, with these labels, groups and parts. Raises InputError if it cannot be read."""
        store = cls(path, recipe, dataset)
        store._catalog = scan(store.path)
        if store._is_unchanged_by(videos):
            store._refresh()
            return store
        store.close()
        return None

    def _is_unchanged_by(self, videos: Sequence[StoredVideo]) -> bool:
        final = self._catalog.final
        if final is None or not self._catalog.finished or not self._has_settled(videos):
            return False
        if final.index.about.identity != self.identity:
            return False
        try:
            return is_same(self._merged(videos), final.index)
        except InputError:  # the list contradicts the store
            return False

    def _merged(self, videos: Sequence[StoredVideo]) -> Index:
        about = self._combined()
        index, _ = merged_index(self.path, self._catalog, about, self.dataset, videos)
        return index

    def close(self) -> None:
        """Close the file."""
        self._catalog.close()
