"""What the files of one store hold together: its parts and its finished file."""

import itertools
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from reelbank.data.console import printable
from reelbank.data.datasets.registry import has_drawn_split
from reelbank.data.errors import InputError
from reelbank.data.files import UnreadableFile
from reelbank.data.store.file.about import recipe_differences
from reelbank.data.store.file.format import FeatureFile
from reelbank.data.store.file.header import DamagedFile
from reelbank.data.store.file.index import Index
from reelbank.data.store.parts import part_files, parts_folder
from reelbank.data.store.records import Cost, DatasetDescription, Failure
from reelbank.data.video.sources import SourceFile

_log = logging.getLogger("reelbank")
_SCANS = 20  # attempts, because another process may merge and remove parts while we open them


class Place(NamedTuple):
    """Where a video's features are: a file, and the video's number in it."""

    file: FeatureFile
    number: int


@dataclass
class Catalog:
    """What the files of one store hold together.

    A later file overrides an earlier one, and features override failures of the same video file. If
    the video file has changed, a later failure is kept next to the features. parts: oldest first.
    damaged: parts that were left out -> why. where: video id -> its features.
    """

    final: FeatureFile | None = None
    parts: list[FeatureFile] = field(default_factory=list)
    damaged: dict[Path, str] = field(default_factory=dict)
    where: dict[str, Place] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)

    @property
    def files(self) -> list[FeatureFile]:
        """The finished file first, then the parts, oldest first."""
        return [self.final, *self.parts] if self.final else self.parts

    def __len__(self) -> int:
        """Number of videos that have features."""
        return len(self.where)

    def find(self, video_id: str) -> Place | None:
        """Where the features of a video are; None if it has none."""
        return self.where.get(video_id)

    def current(self) -> Iterable[tuple[FeatureFile, Sequence[int]]]:
        """All videos that have features, in the order of the store: a file, and the numbers of
        videos in it. A file may come several times. A video that a later file has again is left
        out of the earlier one."""
        return by_file(self.where.values())

    def append(self, file: FeatureFile) -> None:
        """Add a newer part. Raises InputError if it has another recipe, data set or row shape."""
        if self.files:
            _check_same_store(file, self.files[0])
        self.parts.append(file)
        self._enter(file)

    def enter_final(self, file: FeatureFile) -> None:
        """Add the finished file, before any part."""
        self.final = file
        self._enter(file)

    def _enter(self, file: FeatureFile) -> None:
        for number, video_id in enumerate(file.index.video_ids):
            self.where[video_id] = Place(file, number)
            self.failures.pop(video_id, None)
        for video_id, failure in file.index.failures.items():
            # A file that cannot be read says nothing about the features that were made from it.
            is_settled = video_id in self.where and (
                failure.by_machine or failure.source.may_be(self.source(video_id))
            )
            if not is_settled:
                self.failures[video_id] = failure

    def source(self, video_id: str) -> SourceFile:
        """The video file that a video's features come from; 0 bytes if its size is not known."""
        return SourceFile.of({"bytes": 0, **self.facts(video_id)})

    def facts(self, video_id: str) -> Mapping[str, Any]:
        """What is stored about the video file that a video's features come from."""
        file, number = self.where[video_id]
        return file.index.source(number)

    @property
    def finished(self) -> bool:
        """Whether the finished file holds everything (a killed process may leave parts next to it),
        and no video is to be read again."""
        is_complete = self.final is not None and not self.damaged
        if not is_complete or any(failure.by_machine for failure in self.failures.values()):
            return False
        assert self.final
        in_final = {*self.final.index.video_ids, *self.final.index.failures}
        return in_final.issuperset([*self.where, *self.failures])

    def dataset(self) -> DatasetDescription:
        """The data set as the files describe it together."""
        combined = self.files[0].index.about.dataset
        for file in self.files[1:]:
            combined = combined.combined(file.index.about.dataset)
        return combined

    def parts_of(self, video_id: str, splits: Sequence[str]) -> list[str]:
        """A video's part in each of `splits`, "" if its file does not know the split."""
        file, number = self.where[video_id]
        own_splits, own_parts = file.index.about.dataset.splits, file.index.parts[number]
        if own_splits == tuple(splits):
            return list(own_parts)
        part_in = dict(zip(own_splits, own_parts, strict=True))
        return [part_in.get(split, "") for split in splits]

    def cost(self) -> Cost:
        """What all files together have cost."""
        return Cost.total([file.index.about.cost for file in self.files])

    def close(self) -> None:
        """Close the finished file."""
        if self.final:
            self.final.close()


def lasting(failures: Mapping[str, Failure]) -> dict[str, Failure]:
    """The failures that a finished file keeps: those that say something about the video, and not
    about the machine."""
    return {video_id: failure for video_id, failure in failures.items() if not failure.by_machine}


def by_file(places: Iterable[Place]) -> Iterable[tuple[FeatureFile, list[int]]]:
    """Neighbouring places in one file as that file and the numbers in it."""
    for file, group in itertools.groupby(places, key=lambda place: place.file):
        yield file, [place.number for place in group]


def check_groups(path: Path, index: Index) -> None:
    """Raises InputError if a group is in both train and test of a split that was drawn: videos that
    were removed from ROOT may be in another part than those that came. Official and imported splits
    are not checked."""
    dataset = index.about.dataset
    if not has_drawn_split(dataset.name):
        return
    for number, split in enumerate(dataset.splits):
        part_of_group: dict[str, str] = {}
        for group, video_parts in zip(index.groups, index.parts, strict=True):
            part = video_parts[number]
            if group and part and part_of_group.setdefault(group, part) != part:
                raise InputError(
                    f"{path}: all videos of a group must be in train, or all in test, but group "
                    f"{group} would be in both in split {split}; give a CSV file whose column split "
                    "does not divide the group, or choose another BANK"
                )


def _check_same_store(file: FeatureFile, other: FeatureFile) -> None:
    about, other_about = file.index.about, other.index.about
    if about.identity != other_about.identity:
        lines = recipe_differences(about.recipe, about.dataset.name, other_about)
        raise InputError(
            f"{file.path} does not belong to the same store as {other.path}, because its recipe "
            f"is different ({'; '.join(lines)}); move {file.path.name} away"
        )
    check_labelling(file.path, about.dataset, other_about.dataset)
    kinds = [f"{each.index.row_shape} {each.index.dtype}" for each in (file, other)]
    if file.index.video_ids and other.index.video_ids and kinds[0] != kinds[1]:
        raise InputError(
            f"all rows of a store must have the same shape and type, but {file.path} has rows of "
            f"{kinds[0]}, and {other.path} has rows of {kinds[1]}; move one of these files away"
        )


def check_labelling(path: Path, old: DatasetDescription, new: DatasetDescription) -> None:
    """Raises InputError if one of two descriptions of a data set is multi-label and the other is
    not."""
    if old.multilabel != new.multilabel:
        raise InputError(
            f"{path}: a store cannot contain both single-label and multi-label videos; choose "
            "another BANK"
        )


def scan(path: Path, *, whole: bool = False) -> Catalog:
    """Open the finished file and all parts of a store; damaged parts are left out and logged.

    whole: check every byte of the parts, for a writer. Otherwise their headers and indexes are
    checked, and features when they are read. Raises InputError if the finished file is damaged or
    cannot be read, if files of different recipes are mixed, and with `whole` if a part cannot be
    read; without it such a part is left out.
    """
    for _ in range(_SCANS):
        try:
            return _scan(path, whole=whole)
        except FileNotFoundError:  # merged and removed after it was listed
            continue
    raise InputError(
        f"{path}: another process is changing the store; try again when this process has finished"
    )


def _scan(path: Path, *, whole: bool) -> Catalog:
    catalog = Catalog()
    parts = []
    # Parts come first: they are removed only after the finished file holds their videos.
    for part in part_files(parts_folder(path)):
        try:
            parts.append(FeatureFile(part, whole=whole))
        except (DamagedFile, UnreadableFile) as error:
            # Its videos would be extracted again, although the part may be intact.
            if whole and isinstance(error, UnreadableFile):
                raise
            catalog.damaged[part] = str(error)
            _log.warning(
                "%s; this part of the store is ignored, and its videos count as not extracted",
                printable(str(error)),
            )
    if path.exists() or path.is_symlink():
        try:
            catalog.enter_final(FeatureFile(path, keep_open=True))
        except DamagedFile as error:
            raise InputError(
                f"{error}; replace the file with a good copy, or delete it and extract again"
            ) from None
    try:
        for file in parts:
            catalog.append(file)
    except InputError:
        catalog.close()
        raise
    return catalog
