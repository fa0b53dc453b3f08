"""The checked header of a feature file: the first 512 bytes, which HDF5 leaves to us (docs/store.md).

The header holds lengths and SHA-256 digests. Damage is found by them before anything, above all
HDF5, which can crash on damaged files, parses a byte.
"""

import hashlib
import io
import os
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reelbank.data.errors import InputError

MAGIC = b"REELBANK"
BLOCK_BYTES = 512
# The format's version; docs/store.md lists what each one added. A reader knows all versions up to
# this one and rejects newer ones by name, so raise it with every dataset or key that is added.
VERSION = 3
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_FIELDS = struct.Struct("<8sIIQQQ32s32sQQQQ")
_COPY_BYTES = 1 << 22
DIGEST_BYTES = 32  # of a SHA-256
LEAST_TREE_BLOCK_BYTES, MOST_TREE_BLOCK_BYTES = 1 << 12, 1 << 24
MOST_TREE_BLOCKS = 1 << 16  # so that a table of digests has at most 2 MiB


class DamagedFile(InputError):
    """A feature file that differs from what its writer wrote, or that no writer of ours writes."""


class Header(NamedTuple):
    """The header's fields; its last 32 bytes are the SHA-256 of the 480 bytes before them.

    features_start, features_bytes: where the uncompressed features are in the file; both are 0 when
    they are compressed. index_sha256: of the table of digests; in versions 1 and 2, of the whole
    file without the header and without uncompressed features. whole_sha256: of the whole file
    without the header.

    Since version 3: directory_start, directory_bytes: where the directory is. digests_start: the
    first byte of the table of digests, which ends the file. tree_block_bytes: size of the blocks
    that are digested. All four are 0 in versions 1 and 2.
    """

    magic: bytes
    version: int
    block_bytes: int
    file_bytes: int
    features_start: int
    features_bytes: int
    index_sha256: bytes
    whole_sha256: bytes
    directory_start: int = 0
    directory_bytes: int = 0
    digests_start: int = 0
    tree_block_bytes: int = 0

    @property
    def index_spans(self) -> list[tuple[int, int]]:
        """The ranges (start, end) of bytes that belong to the index: all but this header, the
        uncompressed features and the table of digests."""
        end = self.digests_start or self.file_bytes
        if not self.features_bytes:
            return [(BLOCK_BYTES, end)]
        return [
            (BLOCK_BYTES, self.features_start),
            (self.features_start + self.features_bytes, end),
        ]

    def packed(self) -> bytes:
        """The 512 bytes."""
        block = _FIELDS.pack(*self).ljust(BLOCK_BYTES - 32, b"\0")
        return block + hashlib.sha256(block).digest()


def read_header(fd: int, path: Path) -> Header:
    """The header of an open file, checked against the file's length.

    Raises DamagedFile, InputError for a newer format, and OSError.
    """
    size = os.fstat(fd).st_size
    block = os.pread(fd, BLOCK_BYTES, 0)
    if block[: len(MAGIC)] != MAGIC:
        raise DamagedFile(
            f"{path}: not a feature store of reelbank, or its first bytes are damaged"
        )
    if len(block) < BLOCK_BYTES or hashlib.sha256(block[:-32]).digest() != block[-32:]:
        raise DamagedFile(f"{path}: its header is damaged")
    header = Header(*_FIELDS.unpack_from(block))
    if not 1 <= header.version <= VERSION:
        raise InputError(
            f"{path}: has format version {header.version}, but this version of reelbank reads "
            f"only 1 to {VERSION}; upgrade reelbank"
        )
    if header.file_bytes != size:
        raise DamagedFile(
            f"{path}: must have {header.file_bytes} bytes (got {size}); it was shortened or "
            "extended"
        )
    start, end = header.features_start, header.features_start + header.features_bytes
    is_inside = (start == end == 0) or BLOCK_BYTES < start < end <= size
    has_tree = _has_tree(header) if header.version > 2 else not any(header[-4:])
    if header.block_bytes != BLOCK_BYTES or not is_inside or not has_tree:
        raise DamagedFile(f"{path}: its header contains impossible values")
    return header


def _has_tree(header: Header) -> bool:
    """Whether the places of the directory and of the table of digests are possible."""
    size = header.tree_block_bytes
    is_size = LEAST_TREE_BLOCK_BYTES <= size <= MOST_TREE_BLOCK_BYTES and not size & (size - 1)
    features_end = header.features_start + header.features_bytes
    if not is_size or not max(BLOCK_BYTES, features_end) < header.digests_start < header.file_bytes:
        return False
    blocks = sum(tree_blocks(header))
    first, last = header.directory_start, header.directory_start + header.directory_bytes
    return (
        blocks <= MOST_TREE_BLOCKS
        and header.file_bytes - header.digests_start == blocks * DIGEST_BYTES
        and max(BLOCK_BYTES, features_end) <= first < last <= header.digests_start
    )


def tree_blocks(header: Header) -> list[int]:
    """How many blocks each span of the index has; the last block of a span may be shorter."""
    return [-(-(end - start) // header.tree_block_bytes) for start, end in header.index_spans]


def check_index_digest(fd: int, header: Header, path: Path) -> None:
    """Check the digest over the whole index of a file of version 1 or 2. Raises DamagedFile and
    OSError."""
    digest = hashlib.sha256()
    for first, last in header.index_spans:
        digest_range(digest, fd, first, last)
    is_hdf5 = os.pread(fd, 8, BLOCK_BYTES) == HDF5_SIGNATURE
    if digest.digest() != header.index_sha256 or not is_hdf5:
        raise DamagedFile(f"{path}: its index is damaged")


def write_at(fd: int, data: Any, start: int) -> None:
    """Write all bytes at a position of the file, in as many calls as it takes."""
    rest = memoryview(data).cast("B")
    while rest:
        count = os.pwrite(fd, rest, start)
        rest, start = rest[count:], start + count


def read_at(fd: int, buffer: np.ndarray, start: int) -> bool:
    """Fill a flat uint8 array from a position of the file; False if the file ends before."""
    while buffer.size:
        count = os.preadv(fd, [buffer], start)  # type: ignore[list-item]
        if not count:
            return False
        buffer, start = buffer[count:], start + count
    return True


def read_range(file: io.FileIO, start: int, end: int) -> bytes:
    """The bytes from `start` to `end` - 1. Raises DamagedFile if the file ends before."""
    buffer = np.empty(max(0, end - start), np.uint8)
    if not read_at(file.fileno(), buffer, start):
        raise ends_early(file, end)
    return buffer.tobytes()


def ends_early(file: io.FileIO, expected_bytes: int) -> DamagedFile:
    """The error for a file that is shorter than what was written to it."""
    return DamagedFile(
        f"{file.name!s}: has only {os.fstat(file.fileno()).st_size} bytes (expected "
        f"{expected_bytes}); it was shortened while it was being written; check the disk, and run "
        "the command again"
    )


def digest_range(digest: Any, fd: int, start: int, end: int) -> bool:
    """Update a hashlib digest with a range of the file; False if the file ends before."""
    buffer = np.empty(min(_COPY_BYTES, max(0, end - start)), np.uint8)
    while start < end:
        piece = buffer[: end - start]
        if not read_at(fd, piece, start):
            return False
        digest.update(piece.data)
        start += piece.size
    return True
