"""Videos of several files in the order of a file that is to be written, as arrays."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from reelbank.data.store.file.columns import CHUNK, Taken
from reelbank.data.store.merging.files import File, Place


@dataclass(frozen=True)
class Pieces:
    """Where each of V videos is. files: of the store, each once; file_numbers: (V,) int32, position
    in `files`; numbers: (V,) int64, of the video in its file."""

    files: Sequence[File]
    file_numbers: np.ndarray
    numbers: np.ndarray

    @classmethod
    def of(cls, runs: Sequence[tuple[File, Sequence[int]]]) -> "Pieces":
        """From files and the numbers of videos in them. A file may come several times."""
        position_of: dict[int, int] = {}
        files: list[File] = []
        for file, _ in runs:
            if position_of.setdefault(id(file), len(files)) == len(files):
                files.append(file)
        file_numbers = [
            np.full(len(numbers), position_of[id(file)], np.int32) for file, numbers in runs
        ]
        return cls(
            files,
            np.concatenate([np.empty(0, np.int32), *file_numbers]),
            np.concatenate([np.empty(0, np.int64), *(np.asarray(each) for _, each in runs)]),
        )

    def __len__(self) -> int:
        """V."""
        return len(self.numbers)

    def __add__(self, other: "Pieces") -> "Pieces":
        """The videos of both."""
        files = list(self.files)
        position_of = {id(file): number for number, file in enumerate(files)}
        for file in other.files:  # a file that both have must not get two positions
            if position_of.setdefault(id(file), len(files)) == len(files):
                files.append(file)
        positions = np.array([position_of[id(file)] for file in other.files], np.int32)
        return Pieces(
            files,
            np.concatenate([self.file_numbers, positions[other.file_numbers]]),
            np.concatenate([self.numbers, other.numbers]),
        )

    def count_among(self, places: Sequence[Place]) -> int:
        """How many of these places are among the videos."""
        if not places:
            return 0
        position_of = {id(file): number for number, file in enumerate(self.files)}
        known = [place for place in places if id(place.file) in position_of]
        wanted = [(position_of[id(place.file)] << 32) + place.number for place in known]
        codes = (self.file_numbers.astype(np.int64) << 32) + self.numbers
        return int(np.isin(codes, np.array(wanted, np.int64)).sum())

    def part(self, first: int, last: int) -> "Pieces":
        """The videos `first` to `last` - 1."""
        return Pieces(self.files, self.file_numbers[first:last], self.numbers[first:last])

    def runs(self) -> Iterator[tuple[File, np.ndarray]]:
        """Neighbours in one file as that file and the numbers in it, (n,) int64."""
        bounds = [0, *(np.flatnonzero(np.diff(self.file_numbers)) + 1).tolist(), len(self)]
        for first, last in zip(bounds, bounds[1:], strict=False):
            if first < last:
                yield self.files[self.file_numbers[first]], self.numbers[first:last]

    def chunks(self, open_files: int) -> list[tuple[int, int]]:
        """The videos, first and last + 1, that are read at once, one column after the other: at most
        CHUNK, of at most three quarters of `open_files` files, so that no file has to be opened twice
        for them."""
        most, ends, used = max(1, open_files * 3 // 4), [0], set[int]()
        for number, file_number in enumerate(self.file_numbers.tolist()):
            used.add(file_number)
            if number - ends[-1] == CHUNK or len(used) > most:
                ends.append(number)
                used = {file_number}
        return list(zip(ends, [*ends[1:], len(self)], strict=True)) if len(self) else []

    def video_ids(self) -> Iterator[str]:
        """The ids of the videos."""
        for file, numbers in self.runs():
            yield from Taken([(file.index.video_ids, numbers)])

    def used_files(self) -> list[File]:
        """The files that any of the videos is in, in the order in which they come first."""
        numbers, firsts = np.unique(self.file_numbers, return_index=True)
        return [self.files[number] for number in numbers[np.argsort(firsts)].tolist()]

    def gathered(self, values_of: Callable[[File], np.ndarray]) -> np.ndarray:
        """(V,) a number of each video. values_of: those of all videos of a file."""
        gathered = [values_of(file)[numbers] for file, numbers in self.runs()]
        return np.concatenate(gathered) if gathered else np.empty(0, np.int64)

    def hashes(self) -> np.ndarray:
        """(V,) uint64: xxh3 of the ids. Raises DamagedFile if a file does not find its videos."""
        return self.gathered(lambda file: file.facts.hashes).astype(np.uint64, copy=False)

    def rows(self) -> np.ndarray:
        """(V,) int64: how many rows each video has."""
        return self.gathered(lambda file: file.facts.rows)

    def sizes_bytes(self) -> np.ndarray:
        """(V,) int64: about how many bytes each video needs in a file."""
        sizes = {id(file): _sizes_bytes(file) for file in self.used_files()}  # opens each once
        return self.gathered(lambda file: sizes[id(file)])


def _sizes_bytes(file: File) -> np.ndarray:
    index, rows = file.index, file.facts.rows
    row_bytes = index.dtype.itemsize * int(np.prod(index.row_shape))
    own_bytes = max(0, file.size_bytes - int(rows.sum()) * row_bytes)
    return rows * row_bytes + own_bytes // max(1, len(rows))
