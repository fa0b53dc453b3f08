"""Which finished files are to be written so that a store's finished files hold everything."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

import numpy as np

from reelbank.data.store.catalog import Catalog, lasting, parts_in
from reelbank.data.store.file.about import About
from reelbank.data.store.file.format import FeatureFile
from reelbank.data.store.merging.files import File, Place
from reelbank.data.store.merging.pieces import Pieces
from reelbank.data.store.merging.places import with_newest
from reelbank.data.store.merging.tiers import LARGEST_BYTES, files_to_merge, output_bounds
from reelbank.data.store.parts import more_number
from reelbank.data.store.records import Cost, DatasetDescription, Failure, StoredVideo


@dataclass(frozen=True)
class Output:
    """A finished file that is to be written.

    is_final: whether it gets the name of the first finished file. number: otherwise in its name; the
    highest is the newest. overrides: how many of its videos an earlier finished file has too.
    replaces: names of files that are not needed any more when it has its name.
    """

    pieces: Pieces
    is_final: bool
    number: int
    failures: Mapping[str, Failure] = field(default_factory=dict)
    cost: Cost = Cost(0.0)
    overrides: int = 0
    replaces: Sequence[str] = ()


@dataclass(frozen=True)
class Request:
    """What a store is to hold: a list of videos with labels, groups and parts that replace older
    ones, and the data set that describes them. about: recipe, combined data set, and what
    is known about all of its videos."""

    about: About
    own_dataset: DatasetDescription
    listed: Mapping[str, StoredVideo]

    def described(self, stored: StoredVideo) -> StoredVideo:
        """A stored video, its parts those in the splits of `about`, with label, group and parts of
        the list's, which may not know all splits."""
        video = self.listed.get(stored.id)
        if video is None:
            return stored
        new_parts = dict(zip(self.own_dataset.splits, video.parts, strict=True))
        splits = self.about.dataset.splits
        parts = tuple(
            new_parts.get(split, old) for split, old in zip(splits, stored.parts, strict=True)
        )
        return StoredVideo(stored.id, video.label, video.group, parts)


def stored_at(place: Place, video_id: str, splits: Sequence[str]) -> StoredVideo:
    """What a file says of a video; its parts in these splits."""
    index, number = place.file.index, place.number
    parts = tuple(parts_in(place, splits))
    return StoredVideo(video_id, index.label(number), index.group(number), parts)


def planned(
    catalog: Catalog, request: Request, *, largest_bytes: int = LARGEST_BYTES
) -> list[Output]:
    """The files to write, in the order in which they get their names; none if the finished files hold
    everything already."""
    new_ids = _new_ids(catalog, request.listed)
    outputs, merged_files = [], []
    if _needs_new_file(catalog, request, new_ids):
        merged_files = _merged_with(catalog, new_ids, largest_bytes)
        outputs = _merged(catalog, merged_files, new_ids, largest_bytes)
    for file in _described_anew(catalog, request, new_ids):
        if file not in merged_files:
            outputs.append(_rewritten(catalog, file))
    return outputs


def packed(catalog: Catalog) -> list[Output]:
    """One file of all finished files of a store without parts; none if it has only one."""
    if not catalog.more:
        return []
    return _merged(catalog, catalog.finished_files, [], largest_bytes=1 << 62)


def _new_ids(catalog: Catalog, listed: Mapping[str, StoredVideo]) -> list[str]:
    """The videos that only parts have, or of which a part has another version: those of the list in
    its order, then the others."""
    where, same = catalog.where, set[str]()
    for video_id in where.ids_in_both():
        finished = where.in_finished(video_id)
        if finished is not None and _are_same(where[video_id], finished):
            same.add(video_id)
    ordered = [each for each in listed if where.is_in_part(each) and each not in same]
    if len(ordered) < len(where.part_ids()) - len(same):
        ordered += [each for each in where.part_ids() if each not in listed and each not in same]
    return ordered


def _new_again(catalog: Catalog, new_ids: Sequence[str]) -> set[str]:
    """Those of the new videos that a finished file has too."""
    if not catalog.finished_files:
        return set()
    return {video_id for video_id in new_ids if catalog.where.is_in_both(video_id)}


def _are_same(first: Place, second: Place) -> bool:
    """Whether two files have the same features of a video, made in the same way from one file: a
    killed process has left one of them."""
    facts = [
        (index.source(number), index.version(number), int(index.checksums[number]))
        for index, number in ((place.file.index, place.number) for place in (first, second))
    ]
    times = [
        place.file.index.times_seconds[place.file.index.rows_of(place.number)]
        for place in (first, second)
    ]
    return facts[0] == facts[1] and np.array_equal(times[0], times[1])


def _needs_new_file(catalog: Catalog, request: Request, new_ids: Sequence[str]) -> bool:
    has_new_failures = any(
        catalog.finished_failures.get(video_id) != failure
        for video_id, failure in lasting(catalog.failures).items()
    )
    has_other_dataset = catalog.finished_dataset() != request.about.dataset
    return catalog.final is None or bool(new_ids) or has_new_failures or has_other_dataset


def _merged_with(catalog: Catalog, new_ids: Sequence[str], largest_bytes: int) -> list[FeatureFile]:
    """The finished files that are merged with what is new."""
    files = catalog.finished_files
    if catalog.final is None:
        return files
    new_bytes = sum(part.size_bytes for part in catalog.parts) if new_ids else 0
    count = files_to_merge([file.size_bytes for file in files], new_bytes, largest_bytes)
    return files[len(files) - count :]


def _described_anew(
    catalog: Catalog, request: Request, new_ids: Sequence[str]
) -> list[FeatureFile]:
    """The finished files with videos whose label, group or parts the list changes."""
    splits, new = request.about.dataset.splits, _new_again(catalog, new_ids)
    changed: dict[int, FeatureFile] = {}
    for video_id, place in catalog.where.in_finished_of(request.listed):
        if video_id in new or id(place.file) in changed:
            continue
        stored = stored_at(place, video_id, splits)
        if request.described(stored) != stored:
            assert isinstance(place.file, FeatureFile)
            changed[id(place.file)] = place.file
    return [file for file in catalog.finished_files if id(file) in changed]


def _rewritten(catalog: Catalog, file: FeatureFile) -> Output:
    """The same file with other labels, groups or parts. Also videos that later files have again
    stay, because those files count them."""
    return Output(
        Pieces.of([(file, range(len(file.index)))]),
        is_final=file is catalog.final,
        number=0 if file is catalog.final else more_number(file.path),
        failures=file.index.failures,
        cost=file.index.about.cost,
        overrides=catalog.where.overridden(catalog.finished_files.index(file)),
        replaces=[] if file is catalog.final else [file.path.name],
    )


def _merged(
    catalog: Catalog,
    files: Sequence[FeatureFile],
    new_ids: Sequence[str],
    largest_bytes: int,
) -> list[Output]:
    """What is new and these newest finished files as one file, or as several that are not larger
    than `largest_bytes`."""
    pieces = _in_order(catalog, files, new_ids)
    merged_files: list[File] = [*files, *catalog.parts]
    total_bytes = sum(file.size_bytes for file in merged_files)
    bounds = [0, len(pieces)]
    if total_bytes > largest_bytes:
        bounds = output_bounds(pieces.sizes_bytes(), largest_bytes)
    overriding = _overriding(catalog, files, _new_again(catalog, new_ids))
    has_final = catalog.final is None or catalog.final in files
    newest = max((more_number(file.path) for file in catalog.more), default=0)
    outputs = []
    for position, (first, last) in enumerate(zip(bounds, bounds[1:], strict=False)):
        own = pieces.part(first, last)
        is_final = has_final and position == 0
        number = newest + 1 + position
        outputs.append(Output(own, is_final, number, overrides=own.count_among(overriding)))
    outputs = _with_failures(outputs, _failures(catalog, files))
    # The last one to get its name says that all are complete: the final file, if there is one.
    outputs.reverse()
    outputs[-1] = replace(
        outputs[-1],
        cost=Cost.total(
            [*(file.index.about.cost for file in files), *(part.cost for part in catalog.parts)]
        ),
        replaces=[file.path.name for file in files if file is not catalog.final],
    )
    return outputs


def _in_order(catalog: Catalog, files: Sequence[FeatureFile], new_ids: Sequence[str]) -> Pieces:
    """The videos of these finished files, each with its newest features, then the new ones."""
    where = catalog.where
    if not files:
        return where.pieces_in_parts(new_ids)
    new, placed = _new_again(catalog, new_ids), set[str]()
    several = {
        video_id: where[video_id] if video_id in new else where.in_finished(video_id)
        for video_id in where.in_several()
    }
    runs: list[tuple[File, Sequence[int]]] = []
    for position, file in enumerate(files):
        newest: dict[int, Place | None] = {}
        for video_id, place in several.items():
            number = file.index.find(video_id)
            if number is None:
                continue
            is_before = any(each.index.find(video_id) is not None for each in files[:position])
            newest[number] = None if is_before else place
            placed.add(video_id)
        runs += with_newest(file, newest)
    return Pieces.of(runs) + where.pieces_in_parts([each for each in new_ids if each not in placed])


def _overriding(catalog: Catalog, files: Sequence[FeatureFile], new: Set[str]) -> list[Place]:
    """The newest places of the videos in these finished files or in `new` that other finished files
    have too. new: new videos that a finished file has."""
    others = [file for file in catalog.finished_files if file not in files]
    where = catalog.where
    places = []
    for video_id in where.in_several() if others else ():
        finished = where.in_finished(video_id)
        place = where[video_id] if video_id in new else finished
        is_merged = video_id in new or (finished and finished.file in files)
        if is_merged and any(file.index.find(video_id) is not None for file in others):
            assert place
            places.append(place)
    return places


def _failures(catalog: Catalog, files: Sequence[FeatureFile]) -> dict[str, Failure]:
    """The failures of a file that these finished files are merged into: those that are new, and those
    of the videos that these files have or say something about."""
    failures = {}
    for video_id, failure in lasting(catalog.failures).items():
        is_new = catalog.finished_failures.get(video_id) != failure
        if is_new or any(_names(file, video_id) for file in files):
            failures[video_id] = failure
    return failures


def _with_failures(outputs: Sequence[Output], failures: Mapping[str, Failure]) -> list[Output]:
    """The outputs, oldest first, each with the failures of the videos that it has features of, which
    would end a failure in an earlier one. The newest also has those of all other videos."""
    rest, divided = dict(failures), []
    for output in outputs[:-1]:
        own = {}
        if rest:
            own = {name: rest.pop(name) for name in output.pieces.video_ids() if name in rest}
        divided.append(replace(output, failures=own))
    return [*divided, replace(outputs[-1], failures=rest)]


def _names(file: FeatureFile, video_id: str) -> bool:
    """Whether a file has the features of a video, or why there are none."""
    index = file.index
    return index.find(video_id) is not None or index.find_failure(video_id) is not None
