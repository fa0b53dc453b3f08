"""Finding videos and failures of a feature file by their ids: a table of hashes in ascending order."""

from collections.abc import Callable

import numpy as np
import xxhash

from reelbank.data.store.file.columns import Numbers

_MOST_EQUAL = 64  # ids with one hash: by chance, not even two have
_WINDOW = 4096  # hashes that are read at once: the place of a hash is nearly proportional to it


def key_hash(video_id: str) -> int:
    """xxh3 (64 bits) of the id as UTF-8."""
    return xxhash.xxh3_64_intdigest(video_id.encode("utf-8"))


def key_tables(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The table of ids whose hashes are (N,) uint64: the hashes in ascending order, (N,) uint64, and
    the number of the id that each belongs to, (N,) uint32."""
    order = np.argsort(hashes, kind="stable").astype(np.uint32)
    return hashes[order], order


class Keys:
    """The table in a file. Numbers below V are those of videos, V + n is the n-th failure.

    id_of: the id of a number. Different ids may have the same hash, so each candidate is compared.
    Raises DamagedFile where the table or an id is not as our writers write it.
    """

    def __init__(
        self, hashes: Numbers, numbers: Numbers, videos: int, id_of: Callable[[int], str]
    ) -> None:
        self._hashes, self._numbers, self._videos, self.id_of = hashes, numbers, videos, id_of

    def tables(self) -> tuple[np.ndarray, np.ndarray]:
        """All hashes and all numbers, (N,) each."""
        return np.asarray(self._hashes), np.asarray(self._numbers)

    def find(self, video_id: str) -> int | None:
        """The number of a video, None if the file does not have it."""
        return self._only(
            [number for number in self._candidates(video_id) if number < self._videos]
        )

    def find_failure(self, video_id: str) -> int | None:
        """The number of a failure (n of V + n), None if the file does not have it."""
        found = self._only(
            [number for number in self._candidates(video_id) if number >= self._videos]
        )
        return None if found is None else found - self._videos

    def _only(self, numbers: list[int]) -> int | None:
        self._hashes.file.require(len(numbers) < 2, "/video_ids must be unique")
        return numbers[0] if numbers else None

    def _candidates(self, video_id: str) -> list[int]:
        """The numbers with this id."""
        try:
            searched = np.uint64(key_hash(video_id))
        except UnicodeEncodeError:  # no file has such an id
            return []
        position, numbers = self._first_from(searched), []
        while position < len(self._hashes):
            window = self._window(position, min(len(self._hashes), position + 16))
            equal = int(np.count_nonzero(window == searched))
            numbers += self._numbers[position : position + equal].tolist()
            position += equal
            self._hashes.file.require(
                len(numbers) <= _MOST_EQUAL, "/key_hashes has too many equal hashes"
            )
            if equal < len(window):
                break
        return [number for number in numbers if self.id_of(number) == video_id]

    def _first_from(self, searched: np.uint64) -> int:
        """The position of the first hash that is not below this one."""
        low, high = 0, len(self._hashes)  # the answer is between them, both included
        middle = int(searched) * high >> 64
        while high - low > _WINDOW:
            first = min(max(middle - _WINDOW // 2, low), high - _WINDOW)
            window = self._window(first, first + _WINDOW)
            if searched <= window[0]:
                high = first
            elif searched > window[-1]:
                low = first + _WINDOW
            else:
                return first + int(np.searchsorted(window, searched))
            middle = (low + high) // 2
        return low + int(np.searchsorted(self._window(low, high), searched))

    def _window(self, first: int, last: int) -> np.ndarray:
        window = self._hashes[first:last]
        self._hashes.file.require(
            (window[:-1] <= window[1:]).all(), "/key_hashes must not decrease"
        )
        return window
