"""Where the features of each video of a store are: in which of its files.

Nothing here grows with the videos of the finished files, which are found in the files themselves.
Only the ids of the videos in parts are kept in memory.
"""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from reelbank.data.store.file.format import FeatureFile
from reelbank.data.store.merging.files import File, PartFile, Place
from reelbank.data.store.merging.ids import id_hashes, joint_digest, recorded_ids
from reelbank.data.store.merging.pieces import Pieces

_NUMBER_BITS = 32  # of a video in its part, in the table of videos in parts
_FAST = 16  # how many times faster reading all ids is than looking up each


class Places(Mapping[str, Place]):
    """Video id -> where its features are. A later file overrides an earlier one, and parts override
    finished files."""

    def __init__(self) -> None:
        self._finished: list[FeatureFile] = []
        self._parts: list[PartFile] = []
        self._in_parts: dict[str, int] = {}  # id -> position of the part, then number in it
        self._part_has_again: set[str] = set()  # ids in parts that a finished file has too
        self._several: dict[str, Place] | None = None
        self._overridden: dict[int, int] = {}  # by position among the finished files

    def enter_finished(self, file: FeatureFile) -> None:
        """Add a finished file, newer than those before. Parts come later."""
        self._finished.append(file)
        self._several = None

    def enter_part(self, file: PartFile) -> None:
        """Add a part, newer than those before."""
        first = len(self._parts) << _NUMBER_BITS
        self._parts.append(file)
        for number, video_id in enumerate(file.index.video_ids):
            if video_id not in self._in_parts and self.in_finished(video_id):
                self._part_has_again.add(video_id)
            self._in_parts[video_id] = first + number
        self._several = None

    def in_finished(self, video_id: str) -> Place | None:
        """The newest finished file that has a video; None if none has it."""
        for file in reversed(self._finished):
            number = file.index.find(video_id)
            if number is not None:
                return Place(file, number)
        return None

    def in_part(self, video_id: str) -> Place | None:
        """The newest part that has a video; None if none has it."""
        code = self._in_parts.get(video_id)
        if code is None:
            return None
        return Place(self._parts[code >> _NUMBER_BITS], code & ((1 << _NUMBER_BITS) - 1))

    def part_ids(self) -> Collection[str]:
        """The ids of all videos in parts, in the order in which they came."""
        return self._in_parts.keys()

    def is_in_part(self, video_id: str) -> bool:
        """Whether a part has a video."""
        return video_id in self._in_parts

    def ids_in_both(self) -> Collection[str]:
        """The videos that a part and a finished file have."""
        return self._part_has_again

    def is_in_both(self, video_id: str) -> bool:
        """Whether a part and a finished file have a video."""
        return video_id in self._part_has_again

    def pieces_in_parts(self, video_ids: Sequence[str]) -> Pieces:
        """Where these videos are in the parts."""
        codes = np.fromiter(map(self._in_parts.__getitem__, video_ids), np.int64, len(video_ids))
        numbers = codes & ((1 << _NUMBER_BITS) - 1)
        return Pieces(self._parts, (codes >> _NUMBER_BITS).astype(np.int32), numbers)

    def in_finished_of(self, video_ids: Collection[str]) -> Iterator[tuple[str, Place]]:
        """The newest places in finished files of those of these videos that have one. Long lists are
        compared with all ids, because looking up each would take longer."""
        stored = sum(len(file.index) for file in self._finished)
        if len(video_ids) * _FAST < stored:
            for video_id in video_ids:
                place = self.in_finished(video_id)
                if place:
                    yield video_id, place
            return
        several = self.in_several()
        for file in self._finished:
            for number, video_id in enumerate(file.index.video_ids):
                if video_id not in video_ids:
                    continue
                place = Place(file, number)
                if video_id not in several or self.in_finished(video_id) == place:
                    yield video_id, place

    def absent(self, video_ids: Collection[str]) -> set[str]:
        """Those of these videos that no file has."""
        missing = {video_id for video_id in video_ids if video_id not in self._in_parts}
        return missing.difference(video_id for video_id, _ in self.in_finished_of(missing))

    @property
    def are_all_finished(self) -> bool:
        """Whether the finished files have every video, although perhaps another version of it."""
        return len(self._in_parts) == len(self._part_has_again)

    def __getitem__(self, video_id: str) -> Place:
        place = self.in_part(video_id) or self.in_finished(video_id)
        if place is None:
            raise KeyError(video_id)
        return place

    def __contains__(self, video_id: object) -> bool:
        return isinstance(video_id, str) and self.get(video_id) is not None

    def __len__(self) -> int:
        stored = sum(len(file.index) for file in self._finished) + len(self._in_parts)
        again = sum(map(self.overridden, range(len(self._finished))))
        return stored - again - len(self._part_has_again)

    def __iter__(self) -> Iterator[str]:
        for file, numbers in self.current():
            if isinstance(numbers, range):
                yield from file.index.video_ids[numbers.start : numbers.stop]
            else:
                yield from map(file.index.video_id, numbers)

    def current(self) -> Iterator[tuple[File, Sequence[int]]]:
        """All videos in the order of the store: a file, and the numbers of videos in it. A file may
        come several times. A video that several files have comes where the first of them has it,
        with its newest features."""
        several = self.in_several()
        for position, file in enumerate(self._finished):
            yield from with_newest(file, self._newest_in(position, several))
        only_in_parts = (
            code
            for video_id, code in self._in_parts.items()
            if video_id not in self._part_has_again
        )
        for part, codes in itertools.groupby(only_in_parts, lambda code: code >> _NUMBER_BITS):
            yield self._parts[part], [code & ((1 << _NUMBER_BITS) - 1) for code in codes]

    def in_several(self) -> Mapping[str, Place]:
        """The newest place of each video that several files have."""
        if self._several is None:
            self._several = {}
            for position, file in enumerate(self._finished):
                if self.overridden(position):
                    for number, video_id in self._repeated(position):
                        self._several[video_id] = Place(file, number)
            self._several |= {video_id: self[video_id] for video_id in self._part_has_again}
        return self._several

    def _newest_in(self, position: int, several: Mapping[str, Place]) -> dict[int, Place | None]:
        """For the videos of a finished file that other files have too: number -> the newest place;
        None if an earlier file has the video, so that it does not come here."""
        newest: dict[int, Place | None] = {}
        for video_id, place in several.items():
            number = self._finished[position].index.find(video_id)
            if number is not None:
                newest[number] = None if self._is_before(position, video_id) else place
        return newest

    def overridden(self, position: int) -> int:
        """How many videos of a finished file an earlier one has too. Our writers record it; they are
        counted again if the earlier files do not have the same videos as then, because a merge did
        not end or a file was removed."""
        if not position:  # before the first file, there is none
            return 0
        if position not in self._overridden:
            index = self._finished[position].index
            written = index.about.written
            recorded = written.get("overrides")
            earlier = joint_digest(map(recorded_ids, self._finished[:position]))
            is_right = written.get("earlier_ids") == earlier
            if is_right and type(recorded) is int and 0 <= recorded <= len(index):
                self._overridden[position] = recorded
            else:
                self._overridden[position] = sum(1 for _ in self._repeated(position))
        return self._overridden[position]

    def _repeated(self, position: int) -> Iterator[tuple[int, str]]:
        """The number and id of each video of a finished file that an earlier one has too."""
        index = self._finished[position].index
        earlier = [id_hashes(file.index.video_ids) for file in self._finished[:position]]
        may_be = np.isin(id_hashes(index.video_ids), np.concatenate(earlier))
        for number in np.flatnonzero(may_be).tolist():
            video_id = index.video_id(number)
            if self._is_before(position, video_id):
                yield number, video_id

    def _is_before(self, position: int, video_id: str) -> bool:
        """Whether a finished file before this one has a video."""
        return any(file.index.find(video_id) is not None for file in self._finished[:position])


def with_newest(
    file: FeatureFile, newest: Mapping[int, Place | None]
) -> Iterator[tuple[File, Sequence[int]]]:
    """The videos of a file as ranges, with the places of `newest` instead of its own; without those
    of which `newest` is None."""
    first = 0
    for number in sorted(newest):
        if number > first:
            yield file, range(first, number)
        place = newest[number]
        if place:
            yield place.file, [place.number]
        first = number + 1
    if first < len(file.index):
        yield file, range(first, len(file.index))
