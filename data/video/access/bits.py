"""Reads the packets of coded video and the bits of their headers."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

import numpy as np

_START_CODE = re.compile(b"\0\0\1")
_LONGEST_EXP_GOLOMB_BITS = 32
# If packets are this close to each other on average, reading all bytes between them is faster than a
# system call for each packet.
_DENSE_BYTES = 4096
_BLOCK_BYTES = 1 << 20


class UnprovenError(Exception):
    """A packet does not have the form for which random access is known to be right, so the file is
    decoded in order."""


class Bits:
    """The bits of `data` from the first one on. Raises UnprovenError after the last one."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data)
        self._left = 8 * len(data)

    def read(self, count: int) -> int:
        """The next `count` bits as an unsigned number."""
        self._left -= count
        if self._left < 0:
            raise UnprovenError
        return self._value >> self._left & ((1 << count) - 1)

    def read_exp_golomb(self) -> int:
        """The next unsigned Exp-Golomb code (ISO/IEC 14496-10, 9.1)."""
        zeros = 0
        while not self.read(1):
            zeros += 1
            if zeros > _LONGEST_EXP_GOLOMB_BITS:
                raise UnprovenError
        return (1 << zeros) - 1 + self.read(zeros)

    def read_signed_exp_golomb(self) -> int:
        """The next signed Exp-Golomb code."""
        code = self.read_exp_golomb()
        return (code + 1) // 2 if code % 2 else -(code // 2)


class Unit(NamedTuple):
    """Where a unit (NAL unit) of H.264 or HEVC lies in its packet: bytes [begin, end)."""

    begin: int
    end: int


def units(packet: bytes, length_bytes: int) -> Iterator[Unit]:
    """The units of a packet. length_bytes: size of the length before each unit (MP4, Matroska); 0 if
    the units are separated by start codes (ISO/IEC 14496-10, Annex B). Raises UnprovenError."""
    if not length_bytes:
        begins = [match.end() for match in _START_CODE.finditer(packet)]
        if not begins or packet[: begins[0] - 3].strip(b"\0"):
            raise UnprovenError
        ends = [begin - 3 for begin in begins[1:]] + [len(packet)]
        for begin, end in zip(begins, ends, strict=True):
            while end > begin and not packet[end - 1]:  # zeros that precede the next start code
                end -= 1
            if end == begin:
                raise UnprovenError
            yield Unit(begin, end)
        return
    at = 0
    while at < len(packet):
        begin = at + length_bytes
        at = begin + int.from_bytes(packet[at:begin])
        if begin >= len(packet) or not begin < at <= len(packet):
            raise UnprovenError
        yield Unit(begin, at)


def header_units(
    extradata: bytes, length_at: int, listed: Callable[[bytes], list[bytes]]
) -> tuple[int, list[bytes]]:
    """The size of the length before each unit of a packet, 0 for start codes, and the units in the
    track's header (extradata). length_at: position of this size in a header that lists its units;
    listed: reads this list. Raises UnprovenError, and IndexError if the header is cut off."""
    if extradata[:1] != b"\1":
        return 0, [extradata[begin:end] for begin, end in units(extradata, 0)]
    if len(extradata) <= length_at + 2:
        raise UnprovenError
    return extradata[length_at] % 4 + 1, listed(extradata)


def without_escapes(unit: bytes) -> bytes:
    """A unit without the bytes that only prevent start codes within it."""
    return unit.replace(b"\0\0\3", b"\0\0")


def check_messages(unit: bytes, header_bytes: int, allowed: frozenset[int]) -> None:
    """Check that a unit of supplemental enhancement information holds only messages of `allowed`
    types: those that do not change later pictures. Raises UnprovenError."""
    payload = without_escapes(unit)[header_bytes:].rstrip(b"\0")
    at = 0
    while at < len(payload) - 1:  # the last byte ends the unit (rbsp_trailing_bits)
        kind = size = 0
        while at < len(payload) and payload[at] == 0xFF:
            kind, at = kind + 255, at + 1
        if at >= len(payload):
            raise UnprovenError
        kind, at = kind + payload[at], at + 1
        while at < len(payload) and payload[at] == 0xFF:
            size, at = size + 255, at + 1
        if at >= len(payload):
            raise UnprovenError
        size, at = size + payload[at], at + 1
        if kind not in allowed:
            raise UnprovenError
        at += size


@dataclass(frozen=True, eq=False)
class PacketFile:
    """A file of which the packets of a track are known. positions, sizes: of the packets, (packets,)
    int64. Reading raises OSError."""

    file: BinaryIO
    positions: np.ndarray
    sizes: np.ndarray

    def packet(self, number: int) -> bytes:
        """A packet."""
        return os.pread(self.file.fileno(), int(self.sizes[number]), int(self.positions[number]))

    def beginnings(self, count: int) -> np.ndarray:
        """The first `count` bytes from the beginning of each packet on, (packets, count) int64."""
        return self.bytes_at(self.positions, count)

    def bytes_at(self, positions: np.ndarray, count: int) -> np.ndarray:
        """`count` bytes from each position on, (n,) int64 -> (n, count) int64; zeros after the end
        of the file."""
        # Not by a memory map: if the disk fails, that kills the process instead of raising OSError.
        number = self.file.fileno()
        is_dense = len(positions) and np.all(np.diff(positions) > 0)
        if not is_dense or positions[-1] - positions[0] > len(positions) * _DENSE_BYTES:
            read = [os.pread(number, count, position) for position in positions.tolist()]
            joined = b"".join([data.ljust(count, b"\0") for data in read])
            return np.frombuffer(joined, np.uint8).reshape(-1, count).astype(np.int64)
        found = np.empty((len(positions), count), np.int64)
        begin = 0
        while begin < len(positions):
            first = int(positions[begin])
            end = int(np.searchsorted(positions, first + _BLOCK_BYTES))
            inside = positions[begin:end] - first
            room = int(inside[-1]) + count
            block = np.frombuffer(os.pread(number, room, first).ljust(room, b"\0"), np.uint8)
            found[begin:end] = block[inside[:, None] + np.arange(count)]
            begin = end
        return found


def big_endian(digits: np.ndarray) -> np.ndarray:
    """Numbers of four bytes, (n, 4) int64 -> (n,) int64."""
    return digits @ np.array([1 << 24, 1 << 16, 1 << 8, 1])
