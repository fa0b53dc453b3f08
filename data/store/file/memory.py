"""A file in memory for HDF5's own data, which are a few kilobytes at places that may be far apart."""

import io
from typing import Any

_PAGE_BYTES = 4096


class SparseMemory(io.RawIOBase):
    """A file in memory. Only pages that were written to need space; all others are zeros."""

    def __init__(self) -> None:
        self.size, self._position = 0, 0
        self._pages: dict[int, bytearray] = {}

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of any file."""
        self._position = offset + (0, self._position, self.size)[whence]
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def truncate(self, size: int | None = None) -> int:
        """As of any file."""
        self.size = self._position if size is None else size
        return self.size

    def flush(self) -> None:
        """Nothing is buffered."""

    def readinto(self, buffer: Any) -> int:
        """As of any file."""
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self.size - self._position))
        view[:count] = self.part(self._position, self._position + count)
        self._position += count
        return count

    def write(self, data: Any) -> int:
        """As of any file."""
        view, start = memoryview(data).cast("B"), self._position
        count = len(view)
        self._position += count
        self.size = max(self.size, self._position)
        while view:
            number, offset = divmod(start, _PAGE_BYTES)
            piece = view[: _PAGE_BYTES - offset]
            page = self._pages.setdefault(number, bytearray(_PAGE_BYTES))
            page[offset : offset + len(piece)] = piece
            view, start = view[len(piece) :], start + len(piece)
        return count

    def part(self, start: int, end: int) -> bytes:
        """The bytes `start` to `end` - 1."""
        content = bytearray(end - start)
        for number, page in self._pages.items():
            first = number * _PAGE_BYTES
            low, high = max(start, first), min(end, first + _PAGE_BYTES)
            if low < high:
                content[low - start : high - start] = page[low - first : high - first]
        return bytes(content)
