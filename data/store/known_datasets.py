"""Finds the data set of a folder among the stores of a bank by its videos, wherever the folder lies.

Each folder is a data set of its own (`DATASET=folder`), and its name is a part of the identity of its
stores. Without this search, a folder that was moved would be another data set.
"""

import dataclasses
import glob
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path

import numpy as np

from reelbank.data.banks import Banks, tell_once
from reelbank.data.console import counted, print_lines
from reelbank.data.datasets.registry import load_spec
from reelbank.data.datasets.types import Dataset
from reelbank.data.errors import InputError
from reelbank.data.plugins import plugin_name
from reelbank.data.store.parts import begun, final_path
from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetListing, Failure
from reelbank.data.video.sources import Digests, SourceFile, look

# Files with an unchanged modification time that are read nevertheless. Some copies have the times of
# other files, and would all differ.
_READ_ANYWAY = 32


class Match(Enum):
    """Whether a store has the videos of a data set: the same ones, some of them and no others, or
    other ones."""

    SAME = 1
    SOME = 2
    OTHER = 3


def with_known_name(
    dataset: Dataset, option_value: str, banks: Banks, *, remembers: bool = True
) -> Dataset:
    """The data set of a folder, with the name that the stores of the same videos have. Other data
    sets have fixed names. option_value: of DATASET=. remembers: whether the digests of files that
    were read are kept in the bank.

    A data set whose name has stores keeps it. Prints a line about another name, and about stores
    that have only some of the videos. The result is the same for each shard of an extraction.
    """
    if not load_spec(option_value).names_folders:
        return dataset
    kind = plugin_name(option_value)
    paths = list(_stores(kind, banks))
    if any(path.name.startswith(f"{dataset.name}-") for path in paths):
        return dataset
    search = _Search(dataset, banks.own)
    grown = ""
    try:
        for path in paths:
            match, name, stored = search.judged(path)
            if not name.startswith(f"{kind}-"):  # imported features
                continue
            if match is Match.SAME:
                print_lines(
                    f"note: ROOT contains the videos of the data set {name}, so its stores are used "
                    "and continued; DATASET_NAME=<name> gives ROOT stores of its own"
                )
                return dataclasses.replace(dataset, name=name)
            if match is Match.SOME and not grown:
                grown = (
                    f"note: {path.name} has {counted(stored, 'video')} with the names and sizes of "
                    f"videos in ROOT, and no others. If this is the same data set, "
                    f"DATASET_NAME={name} continues its stores; otherwise new stores are made"
                )
    finally:
        if remembers:
            search.digests.save()
    if grown:
        print_lines(grown)
    return dataset


def _stores(kind: str, banks: Banks) -> Iterator[Path]:
    """The stores of folders, those of BANK first, by name. Their files are not opened."""
    pattern = glob.escape(kind)
    for folder in banks.below("stores"):
        names = [*folder.glob(f"{pattern}-*.h5"), *folder.glob(f"{pattern}-*.parts")]
        yield from sorted({final_path(name) for name in names})


class _Search:
    """Compares stores with the videos of a data set, and those that CLASSES= leaves out."""

    def __init__(self, dataset: Dataset, bank: Path) -> None:
        videos = (*dataset.videos, *dataset.unselected)
        self.paths = {video.id: video.path for video in videos}
        self.selected = {video.id for video in dataset.videos}
        self.listing = DatasetListing.of(dataset)
        self.digests = Digests(bank)
        self._now: dict[str, SourceFile] = {}

    def judged(self, path: Path) -> tuple[Match, str, int]:
        """How a store compares with the data set, the name of its data set, and the number of its
        videos. A note names a store that cannot be read."""
        if begun(path):
            return Match.OTHER, "", 0
        try:
            with Store.open(path) as store:
                return self._compared(store), store.dataset.name, len(store)
        except InputError as error:
            tell_once(f"note: a store is left out: {error}")
            return Match.OTHER, "", 0

    def _compared(self, store: Store) -> Match:
        # From the cheapest comparison to the most expensive one.
        ids, failures = list(store.video_ids), store.failures
        if not (ids or failures) or not self.paths.keys() >= {*ids, *failures}:
            return Match.OTHER
        is_whole = self._is_whole(store)
        sources = [SourceFile.of(source) for source in store.sources]
        checked = range(len(ids)) if is_whole else _spread(len(ids))
        if not all(self._has_size(ids[at], sources[at], failures.get(ids[at])) for at in checked):
            return Match.OTHER
        for video_id, failure in failures.items():
            if not self._may_have_failed(video_id, failure):
                return Match.OTHER
        if not is_whole:
            return Match.SOME
        return Match.SAME if self._are_same(ids, sources) else Match.OTHER

    def _is_whole(self, store: Store) -> bool:
        """Whether the data set had the same ids when the store was written. Stores of earlier
        versions do not record it, and must have all of them."""
        if store.listing:
            return store.listing.ids == self.listing.ids
        return {*store.video_ids, *store.failures} in (self.paths.keys(), self.selected)

    def _look(self, video_id: str) -> SourceFile:
        if video_id not in self._now:
            self._now[video_id] = look(self.paths[video_id])
        return self._now[video_id]

    def _has_size(self, video_id: str, then: SourceFile, failure: Failure | None) -> bool:
        """Whether the file has the size that the stored one had. failure: of a newer version of the
        file, which could not be extracted."""
        now_bytes = self._look(video_id).bytes
        return now_bytes == then.bytes or (
            failure is not None and now_bytes == failure.source.bytes
        )

    def _may_have_failed(self, video_id: str, failure: Failure) -> bool:
        """Whether the file can be the one that could not be extracted. Failures have no features, so
        the size is enough; 0 means unknown."""
        is_known = failure.source.bytes > 0 and not failure.by_machine
        return not is_known or self._look(video_id).bytes == failure.source.bytes

    def _are_same(self, ids: Sequence[str], sources: Sequence[SourceFile]) -> bool:
        """Whether files of equal sizes have equal contents. All files with another modification time
        are read, and some of the others; the first difference ends it."""
        touched = []
        for number, (video_id, then) in enumerate(zip(ids, sources, strict=True)):
            now = self._look(video_id)
            if now.bytes != then.bytes:  # a newer version failed
                continue
            if now.modified != then.modified:
                if not then.digest:  # nothing tells whether it is the same
                    return False
                touched.append(number)
        rest = sorted(set(range(len(ids))).difference(touched))
        spread = [touched[at] for at in _spread(len(touched))]
        spread += [rest[at] for at in _spread(len(rest))]
        return all(self._has_digest(ids[at], sources[at]) for at in (*spread, *touched))

    def _has_digest(self, video_id: str, then: SourceFile) -> bool:
        now = self._look(video_id)
        if now.bytes != then.bytes or not then.digest:
            return True
        unknown = dataclasses.replace(then, modified="")  # so that the digests are compared
        return self.digests.is_same(self.paths[video_id], now, unknown)


def _spread(count: int) -> list[int]:
    """At most _READ_ANYWAY different numbers below `count`, evenly spread."""
    return sorted(set(np.linspace(0, count - 1, min(count, _READ_ANYWAY)).astype(int).tolist()))
