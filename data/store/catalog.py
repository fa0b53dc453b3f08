"""What the files of one store hold together: its finished files and its parts."""

import contextlib
import itertools
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reelbank.data.console import printable
from reelbank.data.errors import InputError
from reelbank.data.files import UnreadableFile
from reelbank.data.store.file.about import recipe_differences
from reelbank.data.store.file.format import FeatureFile
from reelbank.data.store.file.header import DamagedFile
from reelbank.data.store.file.tree import GoneFile
from reelbank.data.store.merging.files import OPEN_PARTS, File, OpenParts, PartFile, Place
from reelbank.data.store.merging.places import Places
from reelbank.data.store.parts import link_followed, more_files, part_files, parts_folder
from reelbank.data.store.records import Cost, DatasetDescription, DatasetListing, Failure
from reelbank.data.store.weights import PublishedWeights, recorded_weights, weights_to_json
from reelbank.data.video.sources import SourceFile

_log = logging.getLogger("reelbank")
_SCANS = 20  # attempts, because another process may merge and remove parts while we open them


class RowKind(NamedTuple):
    """Shape and type of the rows of a store, and the first file that has any."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    path: Path


@dataclass
class Catalog:
    """What the files of one store hold together.

    A later file overrides an earlier one, and features override failures of the same video file. If
    the video file has changed, a later failure is kept next to the features. final: the first
    finished file. more: the finished files with what was added later, oldest first. parts: oldest
    first. damaged: parts that were left out -> why. merged: finished files that a newer one has
    replaced and a killed process has left. where: video id -> its features. row_kind: None while
    there are no rows. kept_parts: parts with their indexes in memory. with_facts: whether what parts
    are merged by is kept in memory. listing: of the data set, as the file that was written last
    records it. weights: published ones, as the last file that records any does.
    """

    final: FeatureFile | None = None
    more: list[FeatureFile] = field(default_factory=list)
    parts: list[PartFile] = field(default_factory=list)
    damaged: dict[Path, str] = field(default_factory=dict)
    merged: list[Path] = field(default_factory=list)
    where: Places = field(default_factory=Places)
    failures: dict[str, Failure] = field(default_factory=dict)
    _finished_failures: dict[str, Failure] = field(default_factory=dict)
    _first: FeatureFile | None = None
    _dataset: DatasetDescription | None = None
    _finished_dataset: DatasetDescription | None = None
    _costs: list[Cost] = field(default_factory=list)
    listing: DatasetListing | None = None
    _listed_at: str = ""
    weights: tuple[PublishedWeights, ...] = ()
    _weights_at: str = ""
    kept_parts: OpenParts = field(default_factory=OpenParts)
    row_kind: RowKind | None = None
    with_facts: bool = False

    @property
    def finished_files(self) -> list[FeatureFile]:
        """The finished files, oldest first."""
        return [self.final, *self.more] if self.final else self.more

    @property
    def files(self) -> list[File]:
        """The finished files first, then the parts, oldest first."""
        return [*self.finished_files, *self.parts]

    def __len__(self) -> int:
        """Number of videos that have features."""
        return len(self.where)

    def find(self, video_id: str) -> Place | None:
        """Where the features of a video are; None if it has none."""
        return self.where.get(video_id)

    def current(self) -> Iterable[tuple[File, Sequence[int]]]:
        """All videos that have features, in the order of the store: a file, and the numbers of
        videos in it. A file may come several times. A video that a later file has again is left
        out of the earlier one."""
        return self.where.current()

    def append(self, file: FeatureFile) -> None:
        """Add a newer part. Raises InputError if it has another recipe, data set or row shape."""
        self._check(file)
        if not self.parts:
            self._finished_failures = dict(self.failures)
        part = PartFile(file, self.kept_parts, with_facts=self.with_facts)
        self.parts.append(part)
        self.where.enter_part(part)
        self._enter(file)

    def enter_finished(self, file: FeatureFile, *, is_final: bool) -> None:
        """Add a finished file, newer than those before and before any part. Raises InputError as
        `append`."""
        self._check(file)
        if is_final:
            self.final = file
        else:
            self.more.append(file)
        self.where.enter_finished(file)
        self._enter(file)
        self._finished_dataset = self._dataset

    def _check(self, file: FeatureFile) -> None:
        if self._first is None:
            self._first = file
        else:
            _check_same_store(file, self._first, self.row_kind)
        if self.row_kind is None and len(file.index):
            self.row_kind = RowKind(file.index.row_shape, file.index.dtype, file.path)

    def _enter(self, file: FeatureFile) -> None:
        about = file.index.about
        self._costs.append(about.cost)
        self._dataset = self._dataset.combined(about.dataset) if self._dataset else about.dataset
        listing, time = DatasetListing.from_json(about.written), str(about.written.get("time", ""))
        if listing and time >= self._listed_at:
            self.listing, self._listed_at = listing, time
        weights = recorded_weights(about.written)
        if weights and time >= self._weights_at:
            self.weights, self._weights_at = weights, time
        # Either may be many: those of a part, or all videos of a data set without sound.
        if len(self.failures) < len(file.index):
            ended = [name for name in self.failures if file.index.find(name) is not None]
        else:
            ended = [name for name in file.index.video_ids if name in self.failures]
        for video_id in ended:
            del self.failures[video_id]
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
        """Whether the finished files hold everything (a killed process may leave parts next to
        them), and no video is to be read again."""
        is_complete = self.final is not None and not self.damaged
        if not is_complete or any(failure.by_machine for failure in self.failures.values()):
            return False
        return self.where.are_all_finished and all(
            self.where.in_finished(video_id)
            or any(file.index.find_failure(video_id) for file in self.finished_files)
            for video_id in self.failures
        )

    def dataset(self) -> DatasetDescription:
        """The data set as the files describe it together."""
        assert self._dataset
        return self._dataset

    @property
    def finished_failures(self) -> Mapping[str, Failure]:
        """The failures that the finished files have together."""
        return self._finished_failures if self.parts else self.failures

    def finished_dataset(self) -> DatasetDescription | None:
        """The data set as the finished files describe it together; None if there are none."""
        return self._finished_dataset

    def parts_of(self, video_id: str, splits: Sequence[str]) -> list[str]:
        """A video's part in each of `splits`, "" if its file does not know the split."""
        return parts_in(self.where[video_id], splits)

    def is_up_to_date(self, path: Path) -> bool:
        """Whether the store at `path` still has the files that were opened, and no others."""
        folder = parts_folder(path)
        known_parts = sorted([*(part.path for part in self.parts), *self.damaged])
        has_same_final = self.final.has_its_name() if self.final else not os.path.lexists(path)
        return (
            has_same_final
            and sorted(part_files(folder)) == known_parts
            and more_files(folder) == sorted([*(file.path for file in self.more), *self.merged])
        )

    def recorded(
        self, listing: DatasetListing | None = None, weights: Sequence[PublishedWeights] = ()
    ) -> dict[str, object]:
        """What a finished file records in `written` for information: these facts, or else those that
        the files of the store record."""
        facts: dict[str, object] = {}
        if listing := listing or self.listing:
            facts |= listing.to_json()
        return facts | weights_to_json(weights or self.weights)

    def cost(self) -> Cost:
        """What all files together have cost."""
        return Cost.total(self._costs)

    def close(self) -> None:
        """Close the finished files."""
        for file in self.finished_files:
            file.close()


def parts_in(place: Place, splits: Sequence[str]) -> list[str]:
    """A video's part in each of `splits`, "" if its file does not know the split."""
    index = place.file.index
    own_splits, own_parts = index.about.dataset.splits, index.parts_of(place.number)
    if own_splits == tuple(splits):
        return list(own_parts)
    part_in = dict(zip(own_splits, own_parts, strict=True))
    return [part_in.get(split, "") for split in splits]


def lasting(failures: Mapping[str, Failure]) -> dict[str, Failure]:
    """The failures that a finished file keeps: those that say something about the video, and not
    about the machine."""
    return {video_id: failure for video_id, failure in failures.items() if not failure.by_machine}


def by_file(places: Iterable[Place]) -> Iterable[tuple[File, list[int]]]:
    """Neighbouring places in one file as that file and the numbers in it."""
    for file, group in itertools.groupby(places, key=lambda place: place.file):
        yield file, [place.number for place in group]


def _check_same_store(file: FeatureFile, other: FeatureFile, row_kind: RowKind | None) -> None:
    """Raises InputError unless a file fits the store whose first file is `other`. row_kind: shape
    and type of the store's rows, None while it has none."""
    about, other_about = file.index.about, other.index.about
    if about.identity != other_about.identity:
        lines = recipe_differences(about.recipe, about.dataset.name, other_about)
        raise InputError(
            f"{file.path} does not belong to the same store as {other.path}, because its recipe "
            f"is different ({'; '.join(lines)}); move {file.path.name} away"
        )
    check_labelling(file.path, about.dataset, other_about.dataset)
    own_kind = (file.index.row_shape, file.index.dtype)
    if len(file.index) and row_kind and own_kind != (row_kind.shape, row_kind.dtype):
        raise InputError(
            f"all rows of a store must have the same shape and type, but {file.path} has rows of "
            f"{own_kind[0]} {own_kind[1]}, and {row_kind.path} has rows of {row_kind.shape} "
            f"{row_kind.dtype}; move one of these files away"
        )


def check_labelling(path: Path, old: DatasetDescription, new: DatasetDescription) -> None:
    """Raises InputError if one of two descriptions of a data set is multi-label and the other is
    not."""
    if old.multilabel != new.multilabel:
        raise InputError(
            f"{path}: a store cannot contain both single-label and multi-label videos; choose "
            "another BANK"
        )


def scan(
    path: Path,
    *,
    whole: bool = False,
    with_parts: bool = True,
    with_facts: bool = False,
    known_damage: Mapping[Path, str] | None = None,
    open_parts: int = OPEN_PARTS,
) -> Catalog:
    """Open the finished files and all parts of a store; damaged parts are left out and logged.

    whole: check every byte of the parts, for a writer. Otherwise their headers and indexes are
    checked, and features when they are read. with_parts: or only the finished files. with_facts: keep
    what the parts are merged by in memory, for a writer. known_damage: parts that are known to be
    damaged, and why. open_parts: how many parts keep their indexes in memory. Raises InputError if a
    finished file is damaged or cannot be read, if files of different recipes are mixed, and with
    `whole` if a part cannot be read; without it such a part is left out.
    """
    path = link_followed(path)
    for _ in range(_SCANS):
        try:
            return _scan(
                path,
                whole=whole,
                with_parts=with_parts,
                with_facts=with_facts,
                known_damage=known_damage or {},
                open_parts=open_parts,
            )
        except (FileNotFoundError, GoneFile):  # merged and removed after it was listed
            continue
    raise InputError(
        f"{path}: another process is changing the store; try again when this process has finished"
    )


def _scan(
    path: Path,
    *,
    whole: bool,
    with_parts: bool,
    with_facts: bool,
    known_damage: Mapping[Path, str],
    open_parts: int,
) -> Catalog:
    folder = parts_folder(path)
    catalog = Catalog(
        damaged=dict(known_damage), kept_parts=OpenParts(open_parts), with_facts=with_facts
    )
    # Parts are listed first, and the final file is opened last of the finished ones: files are
    # removed only after the files that they were merged into have their names, and the final file
    # gets its name last.
    part_paths = part_files(folder) if with_parts else []
    try:
        _enter_finished(catalog, path, folder)
        for part in part_paths:
            if part in known_damage:
                continue
            try:
                file = FeatureFile(part, whole=whole, check_index=True)
                if with_facts:
                    file.check_facts()
            except (DamagedFile, UnreadableFile) as error:
                # Its videos would be extracted again, although the part may be intact.
                if whole and isinstance(error, UnreadableFile):
                    raise
                catalog.damaged[part] = str(error)
                tell_damaged_part(str(error))
                continue
            catalog.append(file)
    except BaseException:
        catalog.close()
        raise
    return catalog


def tell_damaged_part(reason: str) -> None:
    """Log that a part is left out."""
    _log.warning(
        "%s; this part of the store is ignored, and its videos count as not extracted",
        printable(reason),
    )


def _enter_finished(catalog: Catalog, path: Path, folder: Path) -> None:
    """Open the finished files of a store. Raises FileNotFoundError if a merge changed them
    meanwhile."""
    with contextlib.ExitStack() as closing:
        more = []
        for name in more_files(folder):
            more.append(_finished(name))
            closing.callback(more[-1].close)
        final = None
        if path.exists() or path.is_symlink():
            final = _finished(path)
            closing.callback(final.close)
        if more_files(folder) != [file.path for file in more]:
            raise FileNotFoundError(folder)
        finished = [final, *more] if final else more
        replaced: set[str] = set().union(*map(_replaced_names, finished))
        for file in finished:
            if file is final or file.path.name not in replaced:
                catalog.enter_finished(file, is_final=file is final)
        closing.pop_all()
        for file in more:
            if file.path.name in replaced:
                catalog.merged.append(file.path)
                file.close()


def _finished(path: Path) -> FeatureFile:
    """A finished file. Raises InputError if it is damaged, and FileNotFoundError."""
    try:
        return FeatureFile(path, keep_open=True)
    except DamagedFile as error:
        raise InputError(
            f"{error}; replace the file with a good copy, or delete it and extract again"
        ) from None


def _replaced_names(file: FeatureFile) -> set[str]:
    """The names of the files that were merged into this one and may still be there."""
    names = file.index.about.written.get("replaces", [])
    return {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()
