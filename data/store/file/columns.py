"""Columns of a feature file that are read when they are used: numbers, texts and facts.

A file may be untrusted, so what a column returns was checked: the bytes against their digest
(`tree.py`), and the values by the column itself. A column behaves like the array or list it stands
for; nothing of a large column is kept in memory.
"""

import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar, overload

import numpy as np
import xxhash

from reelbank.data.identity import canonical, reject_constant
from reelbank.data.store.file.tree import CheckedFile

T = TypeVar("T")
CHUNK = 4096  # entries that are read at once
_SMALL_BYTES = 1 << 16  # a column up to this size is kept in memory after its first use
_MOST_KEPT_BYTES = 1 << 26  # of a column that is kept after it was read piece by piece
_FEW = 64  # entries: of a video, and not of a chunk
_NEAR = 64  # entries of facts that are read in about the time of one more reading
_MOST_TEXT_BYTES = 1 << 24  # of the facts about one video


class Place(NamedTuple):
    """Where a column is in a file: its first byte, type and shape."""

    start: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of one entry."""
        return int(self.dtype.itemsize * np.prod(self.shape[1:], dtype=np.int64))


class LazyNumbers(ABC):
    """Numbers that are read when they are used: like an array, along its first axis."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, first: int, last: int) -> np.ndarray:
        """The entries `first` to `last` - 1."""

    @overload
    def __getitem__(self, at: slice) -> np.ndarray: ...
    @overload
    def __getitem__(self, at: int) -> Any: ...
    def __getitem__(self, at: int | slice) -> Any:
        if isinstance(at, slice):
            first, last, step = at.indices(len(self))
            if step != 1:
                return np.asarray(self)[at]
            return self.read(first, max(first, last))
        number = _position(at, len(self))
        return self.read(number, number + 1)[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = self.read(0, len(self))
        return values if dtype is None else values.astype(dtype)

    def chunks(self, size: int = 1 << 16) -> Iterator[np.ndarray]:
        """All entries, in arrays of at most `size`."""
        for first in range(0, len(self), size):
            yield self[first : first + size]


class Numbers(LazyNumbers):
    """A column of numbers in a file.

    check: gets every array that is read, (n, ...), and returns what is wrong with it, or "".
    """

    def __init__(
        self, file: CheckedFile, place: Place, check: Callable[[np.ndarray], str] | None = None
    ) -> None:
        self.file, self.dtype, self.shape = file, place.dtype, place.shape
        self._place, self._check = place, check
        self._kept: np.ndarray | None = None
        self._unread_bytes = self._place.row_bytes * len(self)  # until it is kept

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, first: int, last: int) -> np.ndarray:
        if self._kept is not None:
            return self._kept[first:last]
        # Whoever reads about many videos, one by one, reads a large column only twice.
        total_bytes = len(self) * self._place.row_bytes
        is_kept = total_bytes <= _SMALL_BYTES or (
            self._unread_bytes <= 0 and total_bytes <= _MOST_KEPT_BYTES
        )
        if last - first <= _FEW:
            self._unread_bytes -= self.file.header.tree_block_bytes
        values = self._from_file(*((0, len(self)) if is_kept else (first, last)))
        reason = self._check(values) if self._check and values.size else ""
        self.file.require(not reason, reason)
        if is_kept:
            values.flags.writeable = False
            self._kept = values
            return values[first:last]
        return values

    def _from_file(self, first: int, last: int) -> np.ndarray:
        row_bytes, start = self._place.row_bytes, self._place.start
        shape = (last - first, *self.shape[1:])
        if not row_bytes * (last - first):
            return np.empty(shape, self.dtype)
        data = self.file.read(start + first * row_bytes, start + last * row_bytes)
        return data.view(self.dtype).reshape(shape)


class LazySequence(Sequence[T], Generic[T], ABC):
    """A sequence whose items are made when they are used. Equal to any sequence of equal items."""

    @abstractmethod
    def items(self, first: int, last: int) -> list[T]:
        """The items `first` to `last` - 1."""

    def encoded(self, first: int, last: int) -> list[bytes]:
        """The same items as a file keeps them."""
        return [encoded(item) for item in self.items(first, last)]

    def lengths(self) -> np.ndarray:
        """(V,) int64: how many bytes each item has in a file."""
        return np.concatenate([np.empty(0, np.int64), *map(_lengths, self._all_encoded())])

    def hashes(self) -> np.ndarray:
        """(V,) uint64: xxh3 (64 bits) of each item as a file keeps it."""
        return np.concatenate([np.empty(0, np.uint64), *map(_hashes, self._all_encoded())])

    def distinct(self) -> list[T]:
        """The different items, in the order in which they come first."""
        return list(dict.fromkeys(self))

    def _all_encoded(self) -> Iterator[list[bytes]]:
        for first in range(0, len(self), CHUNK):
            yield self.encoded(first, min(len(self), first + CHUNK))

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> list[T]: ...
    def __getitem__(self, at: int | slice) -> T | list[T]:
        if isinstance(at, slice):
            first, last, step = at.indices(len(self))
            return self.items(first, max(first, last)) if step == 1 else list(self)[at]
        number = _position(at, len(self))
        return self.items(number, number + 1)[0]

    def __iter__(self) -> Iterator[T]:
        firsts = range(0, len(self), CHUNK)
        return itertools.chain.from_iterable(
            self.items(first, min(len(self), first + CHUNK)) for first in firsts
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return NotImplemented if not isinstance(other, Sequence) else False
        return all(own == each for own, each in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self.items(0, min(3, len(self)))))
        return f"<{len(self):,} items: {shown}{', ...' if len(self) > 3 else ''}>"


def _position(at: int, length: int) -> int:
    number = at + length if at < 0 else at
    if not 0 <= number < length:
        raise IndexError(f"{at} is not the number of one of {length} entries")
    return int(number)


def encoded(item: Any) -> bytes:
    """Text as UTF-8, and facts as JSON. Raises UnicodeEncodeError."""
    return (item if isinstance(item, str) else canonical(item)).encode("utf-8")


def _lengths(texts: Sequence[bytes]) -> np.ndarray:
    return np.fromiter(map(len, texts), np.int64, len(texts))


def _hashes(texts: Sequence[bytes]) -> np.ndarray:
    return np.fromiter(map(xxhash.xxh3_64_intdigest, texts), np.uint64, len(texts))


def item_hashes(items: Sequence[Any]) -> np.ndarray:
    """(V,) uint64: xxh3 (64 bits) of each item of any sequence as a file keeps it."""
    if isinstance(items, LazySequence):
        return items.hashes()
    return np.fromiter(map(xxhash.xxh3_64_intdigest, map(encoded, items)), np.uint64, len(items))


def distinct_items(items: Sequence[T]) -> list[T]:
    """The different items of any sequence, in the order in which they come first."""
    return items.distinct() if isinstance(items, LazySequence) else list(dict.fromkeys(items))


def encoded_items(items: Sequence[Any], first: int, last: int) -> list[bytes]:
    """Some items of any sequence as a file keeps them."""
    if isinstance(items, LazySequence):
        return items.encoded(first, last)
    return [encoded(item) for item in items[first:last]]


class Texts(LazySequence[str]):
    """A column of fixed-length UTF-8. check: gets a list of texts, and returns what is wrong with
    it, or ""; repeats: whether texts are likely to come several times."""

    def __init__(
        self,
        name: str,
        column: Numbers,
        check: Callable[[Sequence[str]], str] | None = None,
        *,
        repeats: bool = True,
    ) -> None:
        self._name, self._column, self._check, self._repeats = name, column, check, repeats

    def __len__(self) -> int:
        return len(self._column)

    @property
    def width(self) -> int:
        """Bytes of the longest text that there is room for."""
        return self._column.dtype.itemsize

    def encoded(self, first: int, last: int) -> list[bytes]:
        return self._column[first:last].tolist()

    def items(self, first: int, last: int) -> list[str]:
        raw = self.encoded(first, last)
        # Labels repeat, so each is decoded and kept only once.
        distinct = list(dict.fromkeys(raw)) if self._repeats else raw
        try:
            texts = b"\n".join(distinct).decode("utf-8").split("\n")  # faster than one by one
            if len(texts) != len(distinct):
                texts = [each.decode("utf-8") for each in distinct]
        except UnicodeDecodeError:
            raise self._column.file.damaged(f"/{self._name} must be UTF-8 text") from None
        reason = self._check(texts) if self._check else ""
        if len(distinct) < len(raw):
            texts = list(map(dict(zip(distinct, texts, strict=True)).__getitem__, raw))
        self._column.file.require(not reason, reason)
        return texts


class JsonTexts(LazySequence[Mapping[str, Any]]):
    """Facts as JSON objects, one text after the other. offsets: (V + 1,) first byte of each. check:
    gets an object, and returns what is wrong with it, or ""."""

    def __init__(
        self,
        name: str,
        texts: Numbers,
        offsets: Numbers,
        check: Callable[[Mapping[str, Any]], str],
    ) -> None:
        self._name, self._texts, self._offsets, self._check = name, texts, offsets, check
        self.file = texts.file

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def encoded(self, first: int, last: int) -> list[bytes]:
        if first == last:
            return []
        file, name = self._texts.file, self._name
        bounds = self._offsets[first : last + 1].tolist()
        file.require(bounds[-1] <= len(self._texts), f"/{name} has impossible offsets")
        lengths = np.diff(bounds)
        file.require((lengths >= 0).all() and bounds[0] >= 0, f"/{name} has impossible offsets")
        file.require(lengths.max() <= _MOST_TEXT_BYTES, f"/{name} has a text that is too long")
        if bounds[-1] - bounds[0] > _MOST_TEXT_BYTES and last - first > 1:
            middle = (first + last) // 2
            return [*self.encoded(first, middle), *self.encoded(middle, last)]
        text = self._texts[bounds[0] : bounds[-1]].tobytes()
        start = bounds[0]
        pairs = zip(bounds, bounds[1:], strict=False)
        return [text[low - start : high - start] for low, high in pairs]

    def lengths(self) -> np.ndarray:
        file, name = self._texts.file, self._name
        offsets = np.asarray(self._offsets)
        lengths = np.diff(offsets)
        is_inside = offsets[0] == 0 and offsets[-1] == len(self._texts)
        is_possible = bool(is_inside and (offsets[1:] >= offsets[:-1]).all())
        file.require(is_possible, f"/{name} has impossible offsets")
        is_short = lengths.max(initial=0) <= _MOST_TEXT_BYTES
        file.require(is_short, f"/{name} has a text that is too long")
        return lengths

    def items(self, first: int, last: int) -> list[Mapping[str, Any]]:
        return list(map(self._parsed, self.encoded(first, last)))

    def _parsed(self, text: bytes) -> Mapping[str, Any]:
        file = self._texts.file
        try:
            facts = json.loads(text, parse_constant=reject_constant)
        except (ValueError, RecursionError):
            raise file.damaged(f"/{self._name} is not valid JSON") from None
        file.require(isinstance(facts, dict), f"/{self._name} must contain JSON objects")
        reason = self._check(facts)
        file.require(not reason, reason)
        return dict(facts)


class Coded(LazySequence[T]):
    """A column of codes, (V,) or (V, n), as what they stand for. Equal codes give the same object."""

    def __init__(self, codes: Numbers, meaning: Callable[[Any], T]) -> None:
        self._codes, self._meaning = codes, meaning

    def __len__(self) -> int:
        return len(self._codes)

    def items(self, first: int, last: int) -> list[T]:
        codes = self._codes[first:last].tolist()
        keys = list(map(tuple, codes)) if len(self._codes.shape) > 1 else codes
        meaning_of = {key: self._meaning(key) for key in dict.fromkeys(keys)}
        return list(map(meaning_of.__getitem__, keys))


class Taken(LazySequence[T]):
    """Some items of several sequences, one after the other: (sequence, numbers of its items)."""

    def __init__(self, pieces: Sequence[tuple[Sequence[T], np.ndarray | Sequence[int]]]) -> None:
        self._pieces = [(items, np.asarray(numbers, np.int64)) for items, numbers in pieces]
        self._ends = np.cumsum([len(numbers) for _, numbers in self._pieces], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def width(self) -> int:
        """Bytes of the longest text that there is room for."""
        return max([1, *(text_width(items) for items, numbers in self._pieces if len(numbers))])

    def items(self, first: int, last: int) -> list[T]:
        return self._collected(first, last, lambda items, low, high: items[low:high])

    def encoded(self, first: int, last: int) -> list[bytes]:
        return self._collected(first, last, encoded_items)

    def _collected(
        self, first: int, last: int, read: Callable[[Sequence[T], int, int], Sequence[Any]]
    ) -> list[Any]:
        collected: list[Any] = []
        while first < last:
            number = int(np.searchsorted(self._ends, first, side="right"))
            items, numbers = self._pieces[number]
            begin = int(self._ends[number]) - len(numbers)
            wanted = numbers[first - begin : last - begin]
            for near in _read_at_once(wanted):
                low, high = int(near[0]), int(near[-1]) + 1
                found = read(items, low, high)
                if len(near) < high - low:
                    found = [found[place] for place in (near - low).tolist()]
                collected += found
            first += len(wanted)
        return collected


def _read_at_once(numbers: np.ndarray) -> Iterator[np.ndarray]:
    """The numbers of items in pieces of ascending numbers that are near each other, and at most
    CHUNK apart."""
    steps = np.diff(numbers)
    for run in np.split(numbers, np.flatnonzero((steps < 1) | (steps > _NEAR)) + 1):
        chunks = (run - run[0]) // CHUNK
        yield from np.split(run, np.flatnonzero(np.diff(chunks)) + 1)


def text_width(texts: Sequence[Any]) -> int:
    """Bytes of the longest of these texts as UTF-8, or of the longest that there is room for; at
    least 1. Raises UnicodeEncodeError."""
    width = getattr(texts, "width", None)
    return width if width is not None else max([1, *(len(text.encode("utf-8")) for text in texts)])
