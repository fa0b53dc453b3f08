"""The videos of a store as an extraction sees them: what is stored, what failed, and whether
anything is left to do."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from reelbank.data.identity import canonical
from reelbank.data.store.catalog import Catalog, lasting, scan
from reelbank.data.store.file.about import About
from reelbank.data.store.file.columns import Taken
from reelbank.data.store.merging.plan import Request, planned
from reelbank.data.store.parts import final_path
from reelbank.data.store.records import (
    Cost,
    DatasetDescription,
    DatasetListing,
    Failure,
    StoredVideo,
    identity,
)
from reelbank.data.store.versions import Versions
from reelbank.data.store.weights import PublishedWeights
from reelbank.data.video.sources import SourceFile

_Value = TypeVar("_Value")


class OfVideos(Mapping[str, _Value]):
    """A value of each saved video by id. It is read when it is asked for, because a store may have
    millions of videos. It shows the store as it was when the view was made, and the parts that were
    written since."""

    def __init__(self, catalog: Catalog, value_of: Callable[[str], _Value]) -> None:
        self._where, self._value_of = catalog.where, value_of

    def __getitem__(self, video_id: str) -> _Value:
        return self._value_of(video_id)

    def __contains__(self, video_id: object) -> bool:
        return video_id in self._where

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)

    def __repr__(self) -> str:
        return repr(dict(self))


class StoredFeatures:
    """The saved videos of the store of one recipe and data set."""

    listing: DatasetListing | None = None  # of the data set, that new files record
    weights: tuple[PublishedWeights, ...] = ()  # published ones, that new files record

    def __init__(
        self, path: Path | str, recipe: Mapping[str, Any], dataset: DatasetDescription
    ) -> None:
        self.path = final_path(path)
        self.recipe: dict[str, Any] = json.loads(canonical(recipe))
        self.dataset = dataset
        self.identity = identity(self.recipe, dataset.name)
        self._catalog = Catalog()

    @property
    def sources(self) -> Mapping[str, SourceFile]:
        """The file of each saved video, by id."""
        return OfVideos(self._catalog, self._catalog.source)

    @property
    def done(self) -> Mapping[str, int]:
        """The size in bytes of the file of each saved video, by id."""
        source_of = self._catalog.source
        return OfVideos(self._catalog, lambda video_id: source_of(video_id).bytes)

    @property
    def failed(self) -> Mapping[str, Failure]:
        """Why a video has no features, by id."""
        return self._catalog.failures

    def facts(self) -> Mapping[str, Mapping[str, Any]]:
        """Facts about the files of the saved videos, by id."""
        runs = list(self._catalog.current())  # neighbours are read at once
        ids = Taken([(file.index.video_ids, numbers) for file, numbers in runs])
        sources = Taken([(file.index.sources, numbers) for file, numbers in runs])
        return dict(zip(ids, sources, strict=True))

    def absent(self, video_ids: Collection[str]) -> set[str]:
        """Those of these videos that have no features. Faster than looking up each."""
        return self._catalog.where.absent(video_ids)

    def versions(self) -> Counter[Versions]:
        """Package versions with which the saved videos were computed, and the number of videos for
        each."""
        counts: Counter[Versions] = Counter()
        for file, numbers in self._catalog.current():
            counts.update(map(file.index.version, numbers))
        return counts

    def cost(self) -> Cost:
        """The time that computing the saved videos took, and the devices."""
        return self._catalog.cost()

    def _has_settled(self, video_ids: Collection[str]) -> bool:
        """Whether each of these videos is stored, or failed for a reason that lasts."""
        return self.absent(video_ids) <= lasting(self._catalog.failures).keys()

    def _combined(self) -> About:
        """The recipe, and the data set as the files and the new list describe it together."""
        dataset = self.dataset
        if self._catalog.files:
            dataset = self._catalog.dataset().combined(self.dataset)
        return About(self.recipe, dataset, self._catalog.recorded(self.listing, self.weights))


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
            return store
        store.close()
        return None

    def _is_unchanged_by(self, videos: Sequence[StoredVideo]) -> bool:
        catalog, listed = self._catalog, {video.id: video for video in videos}
        if catalog.final is None or not catalog.finished or not self._has_settled(listed):
            return False
        if catalog.final.index.about.identity != self.identity:
            return False
        return not planned(catalog, Request(self._combined(), self.dataset, listed))

    def close(self) -> None:
        """Close the file."""
        self._catalog.close()
