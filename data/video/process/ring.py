"""Memory for pixels that a decode process shares with the process that reads them, so that no pixel
passes through a socket.

Each decode process has a ring of SLOTS buffers of equal size. It writes a chunk of frames into one
of them and sends only the number of the buffer. The reader lends the buffer to its consumer, and
gives it back to the decode process when the consumer has released it. A decode process without a
free buffer waits. The ring belongs to the reader: if the decode process dies, its successor gets
the same ring, and a buffer that is still lent stays as it is. Rings of different processes share
nothing.

A picture that is larger than a buffer gets memory of its own, which is freed when it is released.
It counts as one of the buffers, so there are never more of them than SLOTS for each process.

The memory is an unnamed file in memory (memfd_create), not /dev/shm, which Docker limits to 64 MB.
Where there is none, it is a temporary file without a name.
"""

import fcntl
import mmap
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import numpy as np

# One is filled while the consumer uses the other one.
SLOTS = 2
LARGEST_SLOT_BYTES, SMALLEST_SLOT_BYTES = 16 << 20, 1 << 20
# Of the memory that the process may still allocate, the most that all rings together may have.
_MEMORY_SHARE = 1 / 8


class FrameMemory:
    """Where the pixels of a chunk of frames are collected. This class: new memory for each chunk."""

    most_bytes = LARGEST_SLOT_BYTES  # of a chunk, unless a single picture is larger

    def chunk(self, shape: tuple[int, ...]) -> np.ndarray:
        """An array for the next chunk, (n, H, W, 3) uint8. The previous one belongs to the
        receiver if it was sent."""
        return np.empty(shape, np.uint8)


class Copying(Protocol):
    """A copy of pixels that is still being made, such as a torch.cuda.Event recorded after it."""

    def query(self) -> bool:
        """Whether the copy is complete."""

    def synchronize(self) -> None:
        """Wait until the copy is complete."""


def slot_bytes(workers: int, available_bytes: int) -> int:
    """The size of each buffer, for this many decode processes and so much available memory: a
    multiple of the page size."""
    share = int(available_bytes * _MEMORY_SHARE) // (workers * SLOTS)
    bounded = max(SMALLEST_SLOT_BYTES, min(LARGEST_SLOT_BYTES, share))
    return bounded // mmap.PAGESIZE * mmap.PAGESIZE


def shared_file(size_bytes: int) -> int:
    """The file descriptor of an unnamed file of this size, whose pages get memory when they are
    first written."""
    try:
        number = os.memfd_create("reelbank-frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except (AttributeError, OSError):  # not Linux, or forbidden in a container
        with tempfile.TemporaryFile() as file:
            number = os.dup(file.fileno())
    os.ftruncate(number, size_bytes)
    with suppress(AttributeError, OSError):
        # A reader of memory that was cut off would be killed.
        fcntl.fcntl(number, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return number


def _pixels(memory: mmap.mmap, shape: tuple[int, ...], offset: int = 0) -> np.ndarray:
    """A uint8 array in shared memory, which stays mapped as long as the array exists."""
    return np.frombuffer(memory, np.uint8, int(np.prod(shape)), offset).reshape(shape)


class Ring:
    """The reader's side of one decode process's buffers."""

    def __init__(self, slot_bytes: int) -> None:
        self.slot_bytes = slot_bytes
        self.memory_bytes = SLOTS * slot_bytes
        self.file = shared_file(self.memory_bytes)
        self.memory = mmap.mmap(self.file, self.memory_bytes)
        self.is_pinned = False  # set by who pins the memory for copies to a GPU
        self.lent: dict[int, Loan] = {}
        self.copying: list[tuple[Copying, Loan]] = []  # released as soon as they are copied
        # Called with the number of a buffer that is free again.
        self.give_back: Callable[[int], None] = lambda slot: None

    @property
    def address(self) -> int:
        """Of the first byte, for `is_pinned`."""
        return np.frombuffer(self.memory, np.uint8).ctypes.data

    def lend(self, slot: int, shape: tuple[int, ...], own: int | None) -> "tuple[np.ndarray, Loan]":
        """The pixels of a chunk, and what releases them. own: the file of its own memory, if it
        has one; it is closed here."""
        if own is None:
            pixels = _pixels(self.memory, shape, slot * self.slot_bytes)
        else:
            try:
                pixels = _pixels(mmap.mmap(own, int(np.prod(shape))), shape)
            finally:
                os.close(own)
        self.lent[slot] = Loan(self, slot, is_pinned=self.is_pinned and own is None)
        return pixels, self.lent[slot]

    def release(self, loan: "Loan") -> None:
        """Give a buffer back. Without effect if it was given back before."""
        if self.lent.get(loan.slot) is loan:
            del self.lent[loan.slot]
            self.give_back(loan.slot)

    def release_copied(self) -> None:
        """Give the buffers back whose copies are complete."""
        copying, self.copying = self.copying, []
        for copy, loan in copying:
            if copy.query():
                self.release(loan)
            else:
                self.copying.append((copy, loan))

    def wait_for_copy(self) -> None:
        """Give the buffer of the oldest copy back; first wait until the copy is complete."""
        copy, loan = self.copying.pop(0)
        if not copy.query():
            copy.synchronize()
        self.release(loan)

    def reclaim(self) -> None:
        """Give back what the consumer of a run did not release, except what is being copied."""
        copying = {loan.slot for _, loan in self.copying}
        for loan in list(self.lent.values()):
            if loan.slot not in copying:
                self.release(loan)

    def close(self) -> None:
        """Close the file; the memory is freed with the last array that lies in it."""
        os.close(self.file)


@dataclass(frozen=True, eq=False)
class Loan:
    """The right to use a buffer. is_pinned: a GPU can copy from it without another copy."""

    ring: Ring
    slot: int
    is_pinned: bool

    def end(self, copying: Copying | None) -> None:
        """Give the buffer back, or as soon as the copy is complete."""
        if copying is None:
            self.ring.release(self)
        else:
            self.ring.copying.append((copying, self))


class RingWriter(FrameMemory):
    """The decode process's side of its buffers.

    file, slot_bytes: as of the reader's Ring; wait: waits until `free`, the numbers of the buffers
    that may be written, is not empty.
    """

    def __init__(self, file: int, slot_bytes: int, wait: Callable[[], None]) -> None:
        self.most_bytes = slot_bytes
        self.memory = mmap.mmap(file, SLOTS * slot_bytes)
        self.wait = wait
        self.free: list[int] = []
        self.slot: int | None = None  # of the chunk that is being collected
        self.own: int | None = None  # file of its memory, if it is larger than a buffer

    def chunk(self, shape: tuple[int, ...]) -> np.ndarray:
        if self.slot is None:  # otherwise the previous chunk was not sent
            if not self.free:
                self.wait()
            self.slot = self.free.pop(0)
        self._close_own()
        size_bytes = int(np.prod(shape))
        if size_bytes <= self.most_bytes:
            return _pixels(self.memory, shape, self.slot * self.most_bytes)
        self.own = shared_file(size_bytes)
        return _pixels(mmap.mmap(self.own, size_bytes), shape)

    def sent(self) -> None:
        """The chunk belongs to the reader."""
        self.slot = None
        self._close_own()

    def _close_own(self) -> None:
        if self.own is not None:
            os.close(self.own)
            self.own = None
