"""Writing the bytes of a feature file: HDF5, the directory, the table of digests and the header.

HDF5 crashes after a failed write, so it never sees one: it writes through `_Sink`, which keeps the
error for us.
"""

import contextlib
import hashlib
import io
import math
import os
from collections.abc import Iterable
from typing import Any

import h5py
import numpy as np

from reelbank.data.store.file.columns import Place
from reelbank.data.store.file.directory import to_directory
from reelbank.data.store.file.encoding import columns
from reelbank.data.store.file.header import BLOCK_BYTES, MAGIC, VERSION, Header, write_at
from reelbank.data.store.file.index import Index
from reelbank.data.store.file.tree import block_digests, tree_block_bytes

# Of compressed features: large enough to compress well, small enough to cache.
_CHUNK_BYTES = 1 << 20


class _Sink(io.RawIOBase):
    """A file for HDF5 to write to. It keeps the first error in `error`, to be raised after HDF5 was
    closed, and tells HDF5 that the write succeeded."""

    def __init__(self, fd: int) -> None:
        self.fd, self.position, self.error = fd, 0, None  # type: tuple[int, int, OSError | None]

    def seek(self, offset: int, whence: int = 0) -> int:
        self.position = offset + (0, self.position, os.fstat(self.fd).st_size)[whence]
        return self.position

    def tell(self) -> int:
        return self.position

    def readinto(self, buffer: Any) -> int:
        count = os.preadv(self.fd, [buffer], self.position)
        self.position += count
        return count

    def write(self, data: Any) -> int:
        try:
            write_at(self.fd, data, self.position)
        except OSError as error:
            self.error = self.error or error
        self.position += len(data)
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        try:
            os.ftruncate(self.fd, self.position if size is None else size)
        except OSError as error:
            self.error = self.error or error
        return self.position if size is None else size

    def flush(self) -> None:
        """Nothing is buffered here."""


def write_bytes(
    raw: io.FileIO, index: Index, videos: Iterable[np.ndarray], compression: str
) -> Header:
    """Write a feature file into a new, empty file; returns its header. videos: as of `format.write`.
    Raises OSError, and DamagedFile if the file is too short when it is read again."""
    fd = raw.fileno()
    sink = _Sink(fd)
    with contextlib.ExitStack() as stack:
        stack.callback(_raise_kept, sink)  # runs last, after HDF5 was closed
        file = stack.enter_context(h5py.File(sink, "w", userblock_size=BLOCK_BYTES))
        places = _write_columns(file, sink, index)
        if compression and index.row_count:
            _write_compressed(file, sink, index, videos, compression)
            start = features_bytes = 0
        else:
            start, features_bytes = _reserve(file, index)
    shape = (index.row_count, *index.row_shape)
    places["features"] = Place(start, index.dtype, shape)
    directory_start = os.fstat(fd).st_size
    directory = to_directory(places)
    write_at(fd, directory, directory_start)
    digests_start = directory_start + len(directory)
    return _seal(
        raw,
        index,
        videos,
        Header(
            MAGIC,
            VERSION,
            BLOCK_BYTES,
            file_bytes=0,  # known when the digests are
            features_start=start,
            features_bytes=features_bytes,
            index_sha256=b"",
            whole_sha256=b"",
            directory_start=directory_start,
            directory_bytes=len(directory),
            digests_start=digests_start,
            tree_block_bytes=tree_block_bytes(digests_start - BLOCK_BYTES - features_bytes),
        ),
    )


def _write_columns(file: h5py.File, sink: _Sink, index: Index) -> dict[str, Place]:
    """Write all datasets but the features; where they are. By the lower level of h5py: its datasets
    take several times as long, and every part has all columns."""
    places = {}
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_obj_track_times(False)  # so that equal contents are equal bytes
    for name, column in columns(index).items():
        kind = h5py.h5t.py_create(column.dtype, logical=True)
        space = h5py.h5s.create_simple(column.shape)
        dataset = h5py.h5d.create(file.id, name.encode(), kind, space, properties)
        first, size = 0, math.prod(column.shape)
        for chunk in column.chunks() if size else ():
            space.select_hyperslab((first, *(0 for _ in chunk.shape[1:])), chunk.shape)
            in_memory = h5py.h5s.create_simple(chunk.shape)
            dataset.write(in_memory, space, np.ascontiguousarray(chunk), kind)
            first += len(chunk)
            if sink.error:
                raise sink.error
        start = dataset.get_offset() if size else 0
        places[name] = Place(start, np.dtype(column.dtype.str), column.shape)
    return places


def _seal(file: io.FileIO, index: Index, videos: Iterable[np.ndarray], header: Header) -> Header:
    """Fill the place of uncompressed features, and write the table of digests and the header, which
    is returned."""
    whole, size = hashlib.sha256(), header.tree_block_bytes
    first_span, *other_spans = header.index_spans
    digests = block_digests(file, first_span, size, whole)
    if header.features_bytes:
        _write_uncompressed(file, index, videos, header, whole)
    for span in other_spans:
        digests += block_digests(file, span, size, whole)
    whole.update(digests)
    write_at(file.fileno(), digests, header.digests_start)
    header = header._replace(
        file_bytes=header.digests_start + len(digests),
        index_sha256=hashlib.sha256(digests).digest(),
        whole_sha256=whole.digest(),
    )
    write_at(file.fileno(), header.packed(), 0)
    return header


def _raise_kept(sink: _Sink) -> None:
    if sink.error:
        raise sink.error


def _reserve(file: h5py.File, index: Index) -> tuple[int, int]:
    """Give uncompressed features their place in the file, to be filled after HDF5 was closed: its
    start and length in bytes, zeros if there are no rows."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space = h5py.h5s.create_simple((index.row_count, *index.row_shape))
    dtype = h5py.h5t.py_create(index.dtype)
    dataset = h5py.h5d.create(file.id, b"features", dtype, space, properties)
    features_bytes = dataset.get_storage_size()
    return (dataset.get_offset(), features_bytes) if features_bytes else (0, 0)


def _write_uncompressed(
    file: io.FileIO, index: Index, videos: Iterable[np.ndarray], header: Header, whole: Any
) -> None:
    """Fill the place of the features, and add their bytes to the digest `whole`."""
    position = header.features_start
    for number, values in enumerate(videos):
        _check_shape(index, number, values)
        data = flat_bytes(values, index.dtype)
        write_at(file.fileno(), data, position)
        whole.update(data.data)
        position += data.size
    if position != header.features_start + header.features_bytes:
        raise ValueError("the index lists more videos than were given")


def _write_compressed(
    file: h5py.File, sink: _Sink, index: Index, videos: Iterable[np.ndarray], compression: str
) -> None:
    rows, row_bytes = index.row_count, index.dtype.itemsize * int(np.prod(index.row_shape))
    chunk_rows = min(rows, max(1, _CHUNK_BYTES // max(1, row_bytes)))
    dataset = file.create_dataset(
        "features",
        (rows, *index.row_shape),
        index.dtype,
        chunks=(chunk_rows, *index.row_shape),
        compression=compression,
        shuffle=True,
    )
    for number, values in enumerate(videos):
        _check_shape(index, number, values)
        dataset[index.rows_of(number)] = values
        if sink.error:
            return
    file.flush()


def _check_shape(index: Index, number: int, values: np.ndarray) -> None:
    stored = index.rows_of(number)
    expected_shape = (stored.stop - stored.start, *index.row_shape)
    if values.shape != expected_shape or values.dtype != index.dtype:
        raise ValueError(
            f"{index.video_ids[number]}: rows must be {expected_shape} {index.dtype}, as the "
            f"index says (got {values.shape} {values.dtype})"
        )


def flat_bytes(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """The bytes of an array in this type, flat uint8."""
    return np.ascontiguousarray(values, dtype).reshape(-1).view(np.uint8)
