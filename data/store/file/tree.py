"""The hash tree over the index of a feature file: every block is compared with its SHA-256 before a
byte of it is used (docs/store.md)."""

import contextlib
import hashlib
import io
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.files import UnreadableFile, open_regular
from reelbank.data.store.file.header import (
    DIGEST_BYTES,
    MOST_TREE_BLOCK_BYTES,
    DamagedFile,
    Header,
    ends_early,
    read_at,
    tree_blocks,
)

# Small enough that reading about one video costs little, large enough for few digests.
_BLOCK_BYTES = 1 << 14
_USUAL_BLOCKS = 1 << 15  # a larger index has larger blocks, so that its table stays small
_KEPT_BLOCKS = 64  # of a file, in memory
# An index up to this size is checked and kept as a whole when its file is opened: that of a usual part.
_SMALL_BLOCKS = 16
_RUN_BYTES = 1 << 20  # that are read at once


def tree_block_bytes(index_bytes: int) -> int:
    """The size of the blocks of a new file with an index of this size. Raises InputError if no file
    can have it."""
    if index_bytes > MOST_TREE_BLOCK_BYTES * _USUAL_BLOCKS:
        raise InputError(
            f"{index_bytes} bytes about videos are too many for one file; store fewer videos in it"
        )
    size = _BLOCK_BYTES
    while index_bytes > size * _USUAL_BLOCKS:
        size *= 2
    return size


def block_digests(file: io.FileIO, span: tuple[int, int], size: int) -> bytes:
    """The SHA-256 of every block of a span of the file, one after the other. Raises DamagedFile if
    the file is too short."""
    start, end = span
    digests = []
    buffer = np.empty(min(size, end - start), np.uint8)
    for first in range(start, end, size):
        block = buffer[: min(size, end - first)]
        if not read_at(file.fileno(), block, first):
            raise ends_early(file, end)
        digests.append(hashlib.sha256(block.data).digest())
    return b"".join(digests)


class BlockDigests:
    """The SHA-256 of every block of some spans of a file, from the bytes as they are written: in any
    order, each byte once. Only blocks that are not complete yet are kept in memory."""

    def __init__(self, spans: Sequence[tuple[int, int]], size: int) -> None:
        counts = [-(-(end - start) // size) for start, end in spans]
        self._spans, self._size = list(zip(spans, _firsts(counts), strict=True)), size
        self._digests: list[bytes] = [b""] * sum(counts)
        self._begun: dict[
            int, tuple[bytearray, int]
        ] = {}  # block -> its bytes, how many are missing

    def add(self, start: int, data: memoryview) -> None:
        """Bytes that were written at `start`, inside one span."""
        (first, last), number = next(
            span for span in self._spans if span[0][0] <= start and start + len(data) <= span[0][1]
        )
        while data:
            block, offset = divmod(start - first, self._size)
            block_bytes = min(self._size, last - first - block * self._size)
            piece = data[: block_bytes - offset]
            self._add_to(number + block, block_bytes, offset, piece)
            data, start = data[len(piece) :], start + len(piece)

    def _add_to(self, number: int, block_bytes: int, offset: int, piece: memoryview) -> None:
        if len(piece) == block_bytes:
            self._digests[number] = hashlib.sha256(piece).digest()
            return
        content, missing = self._begun.pop(number, (bytearray(block_bytes), block_bytes))
        content[offset : offset + len(piece)] = piece
        missing -= len(piece)
        if missing:
            self._begun[number] = (content, missing)
        else:
            self._digests[number] = hashlib.sha256(content).digest()

    def table(self) -> bytes:
        """All digests, one after the other. Raises ValueError if a block is incomplete."""
        if self._begun or not all(self._digests):
            raise ValueError("not every byte of the index was written")
        return b"".join(self._digests)


class GoneFile(InputError):
    """A file of a store is gone since it was opened, because another process merged or removed it."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path}: another process merged or removed this file; open the store again"
        )


class CheckedFile:
    """The index of an open feature file of version 3 as bytes, each block checked before it is used.

    Any number of threads may read. If the file was closed, each read opens it again. Raises
    DamagedFile if the table of digests is damaged, and OSError. check_all: check every block now.
    table: the digests of the blocks, one after the other.
    """

    def __init__(
        self, path: Path, file: io.FileIO, header: Header, *, check_all: bool = False
    ) -> None:
        self.path, self.header, self._file = path, header, file
        self._identity = _identity(file.fileno())
        table = np.empty(header.file_bytes - header.digests_start, np.uint8)
        is_complete = read_at(file.fileno(), table, header.digests_start)
        self.table = table.tobytes()
        if not is_complete or hashlib.sha256(self.table).digest() != header.index_sha256:
            raise DamagedFile(f"{path}: its index is damaged")
        self._spans = list(zip(header.index_spans, _firsts(tree_blocks(header)), strict=True))
        self._kept: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()
        # How much is read at once: blocks that are kept are not read again.
        is_small = sum(tree_blocks(header)) <= _SMALL_BLOCKS
        self._run_bytes = max(0 if is_small else _RUN_BYTES, header.tree_block_bytes)
        if is_small:
            for (start, end), _ in self._spans:
                for first in range(start, end, header.tree_block_bytes):
                    self.read(first, first + 1)
        elif check_all:
            self.check_all()

    def check_all(self) -> None:
        """Check every block. Raises DamagedFile and UnreadableFile."""
        for (start, end), _ in self._spans:
            for _ in self.runs(start, end):
                pass

    def runs(self, start: int, end: int) -> Iterator[np.ndarray]:
        """The bytes `start` to `end` - 1 of one span, from its beginning, as arrays that are read at
        once. Raises as `read`."""
        for first in range(start, end, self._run_bytes):
            yield self.read(first, min(end, first + self._run_bytes))

    def damaged(self, line: str) -> DamagedFile:
        """An error with the file's name and this line."""
        return DamagedFile(f"{self.path}: {line}")

    def require(self, condition: object, line: str) -> None:
        """Raises `damaged` unless the condition holds."""
        if not condition:
            raise self.damaged(line)

    def holds(self, start: int, end: int) -> bool:
        """Whether a range of bytes lies in the index."""
        return any(first <= start <= end <= last for (first, last), _ in self._spans)

    def read(self, start: int, end: int) -> np.ndarray:
        """The bytes `start` to `end` - 1, uint8. Raises DamagedFile if a block is damaged or the
        range is not in the index, UnreadableFile if the disk fails."""
        self.require(self.holds(start, end), "its index is damaged")
        (first, last), number = next(
            span for span in self._spans if span[0][0] <= start <= end <= span[0][1]
        )
        size = self.header.tree_block_bytes
        result = np.empty(end - start, np.uint8)
        position = start
        while position < end:
            block = (position - first) // size
            block_start = first + block * size
            # Neighbouring blocks are read at once.
            wanted = min(end, last) - block_start
            count = max(1, min(-(-wanted // size), self._run_bytes // size))
            if number + block in self._kept:
                count = 1
            data = self._blocks(
                number + block, count, (block_start, min(last, block_start + count * size))
            )
            piece = data[position - block_start : end - block_start]
            result[position - start : position - start + piece.size] = piece
            position += piece.size
        return result

    def _blocks(self, number: int, count: int, span: tuple[int, int]) -> np.ndarray:
        """The bytes of `count` neighbouring blocks, checked."""
        if count == 1:
            with self._lock:
                kept = self._kept.get(number)
            if kept is not None:
                return kept
        data = np.empty(span[1] - span[0], np.uint8)
        try:
            with self._opened() as fd:
                is_complete = read_at(fd, data, span[0])
        except OSError as error:
            raise UnreadableFile(
                f"{self.path}: cannot be read ({error.strerror}); check the disk"
            ) from None
        self.require(is_complete, "its index is damaged, because the file was shortened")
        size = self.header.tree_block_bytes
        for each in range(count):
            digest = hashlib.sha256(data[each * size : (each + 1) * size].data).digest()
            place = (number + each) * DIGEST_BYTES
            self.require(digest == self.table[place : place + DIGEST_BYTES], "its index is damaged")
        # Whoever reads on begins in the last block.
        last = data if count == 1 else data[(count - 1) * size :].copy()
        with self._lock:
            if len(self._kept) >= _KEPT_BLOCKS:
                del self._kept[next(iter(self._kept))]
            self._kept[number + count - 1] = last
        return data

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        if not self._file.closed:
            yield self._file.fileno()
            return
        try:
            file = open_regular(self.path)
        except FileNotFoundError:
            raise GoneFile(self.path) from None
        with file:
            if _identity(file.fileno()) != self._identity:
                raise InputError(
                    f"{self.path}: another file has replaced this one; open the store again"
                )
            yield file.fileno()


class Hdf5View(io.RawIOBase):
    """A checked file for HDF5 to read from.

    HDF5 crashes after a failed read, so it never sees one: instead of a damaged block it gets
    zeros, and `error` is set. The caller must look at `error` before it uses what HDF5 gave.
    """

    def __init__(self, file: CheckedFile) -> None:
        self._file, self._position = file, 0
        self.error: InputError | None = None

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of any file; it ends where the table of digests begins."""
        self._position = offset + (0, self._position, self._file.header.digests_start)[whence]
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer; with zeros where the file has no index, or a damaged one."""
        view = memoryview(buffer).cast("B")
        start, end = self._position, self._position + len(view)
        view[:] = bytes(len(view))
        for first, last in self._file.header.index_spans:
            low, high = max(start, first), min(end, last)
            if low < high:
                try:
                    view[low - start : high - start] = self._file.read(low, high).data
                except InputError as error:
                    self.error = self.error or error
        self._position = end
        return len(view)


def _firsts(counts: list[int]) -> list[int]:
    """The number of the first block of each span."""
    return [sum(counts[:number]) for number in range(len(counts))]


def _identity(fd: int) -> tuple[int, int, int]:
    facts = os.fstat(fd)
    return facts.st_dev, facts.st_ino, facts.st_size
