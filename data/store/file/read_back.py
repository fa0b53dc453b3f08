"""Reading a file back that was just written: every byte on disk is compared with what was written."""

import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from reelbank.data.files import open_regular
from reelbank.data.store.file.header import (
    BLOCK_BYTES,
    DamagedFile,
    Header,
    read_at,
)
from reelbank.data.store.file.writing import Written

_RUN_BYTES = 1 << 20  # that are read at once


def read_back(path: Path, written: Written) -> bytes:
    """Read a file that was written but for its header, each byte once: the SHA-256 of all of it but
    the header. Raises DamagedFile if a byte differs, and OSError."""
    header, whole = written.header, hashlib.sha256()
    with open_regular(path) as file:
        is_right = os.fstat(file.fileno()).st_size == header.file_bytes
        position, features = BLOCK_BYTES, xxhash.xxh3_128()
        digests: list[bytes] = []
        for start, end in header.index_spans:
            for data in _pieces(file, position, start):  # the features
                whole.update(data.data)
                features.update(data.data)
            digests += _digests(file, (start, end), header.tree_block_bytes, whole)
            position = end
        is_right &= features.digest() == written.features
        is_right &= b"".join(digests) == written.table
        table = np.empty(len(written.table), np.uint8)
        is_right &= read_at(file.fileno(), table, header.digests_start)
        is_right &= table.tobytes() == written.table
        whole.update(table.data)
        is_right &= all(_range_digest(file, *each[:2]) == each[2] for each in written.ranges)
    if not is_right:
        raise differs(path)
    return whole.digest()


def check_header(path: Path, header: Header) -> None:
    """Raises DamagedFile if the file on disk does not begin with this header."""
    with open_regular(path) as file:
        if os.pread(file.fileno(), BLOCK_BYTES, 0) != header.packed():
            raise differs(path)


def _digests(file: io.FileIO, span: tuple[int, int], size: int, whole: Any) -> list[bytes]:
    """The SHA-256 of each block of a span, all bytes of which are added to `whole`. Fewer, if the file
    ends early."""
    digests = []
    for data in _pieces(file, *span, max(size, _RUN_BYTES)):
        whole.update(data.data)
        for start in range(0, len(data), size):
            digests.append(hashlib.sha256(data[start : start + size].data).digest())
    return digests


def _pieces(
    file: io.FileIO, start: int, end: int, run_bytes: int = _RUN_BYTES
) -> Iterator[np.ndarray]:
    """The bytes of a range of the file, uint8; fewer, if the file ends early."""
    for first in range(start, end, run_bytes):
        data = np.empty(min(run_bytes, end - first), np.uint8)
        if not read_at(file.fileno(), data, first):
            return
        yield data


def _range_digest(file: io.FileIO, start: int, end: int) -> bytes:
    digest = xxhash.xxh3_128()
    for data in _pieces(file, start, end):
        digest.update(data.data)
    return digest.digest()


def differs(path: Path) -> DamagedFile:
    """The error for a file that is not what was written."""
    return DamagedFile(
        f"{path}: the bytes on disk differ from those that were written; check the disk"
    )
