"""Writing the bytes of a feature file: HDF5, the directory and the table of digests, in one pass over
the videos.

HDF5 only gives every column its place. Its values are written by us, so that every byte is digested
when it is written, and nothing has to be read for it. HDF5 compresses features itself; it crashes
after a failed write, so it never sees one: it writes through `_Sink`, which keeps the error for us.
"""

import contextlib
import hashlib
import io
import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import h5py
import numpy as np
import xxhash

from reelbank.data.store.file.columns import Place
from reelbank.data.store.file.directory import to_directory
from reelbank.data.store.file.encoding import Column, columns, video_chunks
from reelbank.data.store.file.header import BLOCK_BYTES, MAGIC, VERSION, Header, write_at
from reelbank.data.store.file.index import Index
from reelbank.data.store.file.memory import SparseMemory
from reelbank.data.store.file.tree import BlockDigests, block_digests, tree_block_bytes

# Of compressed features: large enough to compress well, small enough to cache.
_CHUNK_BYTES = 1 << 20
_BUFFER_BYTES = 1 << 20  # of features that are written at once
_NOTHING = xxhash.xxh3_128_digest(b"")


@dataclass(frozen=True)
class Written:
    """A file that was written but for its header.

    header: without the digest of the whole file, which is computed when the file is read back. table:
    the digests of the blocks. features: xxh3 (128 bits) of uncompressed features; of no bytes if there
    are none. ranges: of a file with compressed features, first byte, end, and xxh3 (128 bits) of what
    we wrote ourselves, from memory.
    """

    header: Header
    table: bytes
    features: bytes
    ranges: Sequence[tuple[int, int, bytes]] = ()


def write_bytes(
    raw: io.FileIO, index: Index, videos: Iterable[np.ndarray], compression: str
) -> Written:
    """Write a feature file into a new, empty file. videos: as of `format.write`. Raises OSError, and
    DamagedFile if the file is too short when it is read again."""
    layout = columns(index)
    if compression and index.row_count:
        return _write_compressed(raw, index, layout, videos, compression)
    metadata = SparseMemory()
    with h5py.File(metadata, "w", userblock_size=BLOCK_BYTES) as file:
        places = {name: _place(file, name, column) for name, column in layout.items()}
        shape = (index.row_count, *index.row_shape)
        features = Place(_reserve(file, "features", index.dtype, shape), index.dtype, shape)
    header = _header({**places, "features": features}, metadata.size)
    digests = BlockDigests(header.index_spans, header.tree_block_bytes)
    fd = raw.fileno()

    def put(data: np.ndarray, start: int) -> None:
        view = data.reshape(-1).view(np.uint8).data
        write_at(fd, view, start)
        digests.add(start, view)

    for start, end in _gaps(header, places):
        put(np.frombuffer(metadata.part(start, end), np.uint8), start)
    put(_directory({**places, "features": features}), header.directory_start)
    own = _Features(fd, header.features_start)
    _stream(index, layout, places, videos, put=put, put_values=own.add)
    own.end()
    return _with_table(fd, header, digests.table(), own.digest.digest())


def _header(places: Mapping[str, Place], hdf5_bytes: int) -> Header:
    """The header of a file whose HDF5 ends at `hdf5_bytes`, without what is known later."""
    features = places["features"]
    features_bytes = features.dtype.itemsize * int(np.prod(features.shape, dtype=np.int64))
    if not features.start:  # none, or compressed
        features_bytes = 0
    directory_bytes = len(_directory(places))
    digests_start = hdf5_bytes + directory_bytes
    return Header(
        MAGIC,
        VERSION,
        BLOCK_BYTES,
        file_bytes=0,
        features_start=features.start,
        features_bytes=features_bytes,
        index_sha256=b"",
        whole_sha256=b"",
        directory_start=hdf5_bytes,
        directory_bytes=directory_bytes,
        digests_start=digests_start,
        tree_block_bytes=tree_block_bytes(digests_start - BLOCK_BYTES - features_bytes),
    )


def _directory(places: Mapping[str, Place]) -> np.ndarray:
    return np.frombuffer(to_directory(places), np.uint8)


def _with_table(fd: int, header: Header, table: bytes, features: bytes) -> Written:
    """Write the table of digests, which ends the file."""
    write_at(fd, table, header.digests_start)
    header = header._replace(
        file_bytes=header.digests_start + len(table), index_sha256=hashlib.sha256(table).digest()
    )
    return Written(header, table, features)


def _reserve(file: h5py.File, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    """Give a dataset its place in the file, without values: its first byte, 0 if it has no bytes."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    properties.set_obj_track_times(False)
    space, kind = h5py.h5s.create_simple(shape), h5py.h5t.py_create(dtype, logical=True)
    dataset = h5py.h5d.create(file.id, name.encode(), kind, space, properties)
    return int(dataset.get_offset()) if dataset.get_storage_size() else 0


def _place(file: h5py.File, name: str, column: Column) -> Place:
    start = _reserve(file, name, column.dtype, column.shape)
    return Place(start, np.dtype(column.dtype.str), column.shape)


def _bytes_of(place: Place) -> int:
    return place.row_bytes * place.shape[0]


def _gaps(header: Header, places: Mapping[str, Place]) -> list[tuple[int, int]]:
    """The ranges of the HDF5 file without values, which HDF5 itself has filled."""
    taken = [(place.start, place.start + _bytes_of(place)) for place in places.values()]
    taken.append((header.features_start, header.features_start + header.features_bytes))
    gaps, position = [], BLOCK_BYTES
    for start, end in sorted(each for each in taken if each[0] < each[1]):
        if position < start:
            gaps.append((position, start))
        position = end
    if position < header.directory_start:
        gaps.append((position, header.directory_start))
    return gaps


def _stream(
    index: Index,
    layout: Mapping[str, Column],
    places: Mapping[str, Place],
    videos: Iterable[np.ndarray],
    *,
    put: Callable[[np.ndarray, int], None],
    put_values: Callable[[np.ndarray], None],
) -> None:
    """Write all columns and the features, some videos at a time, so that what they are made of has to
    be read only once."""
    position = {name: place.start for name, place in places.items()}
    for name, column in layout.items():
        if column.whole is not None and column.whole.size:
            put(column.whole, position[name])
    values, given = iter(videos), 0
    for first, last in index.chunks or video_chunks(len(index)):
        for name, column in layout.items():
            if column.of_videos is not None:
                entries = column.of_videos(first, last)
                if entries.size:
                    put(entries, position[name])
                position[name] += entries.nbytes
        for number, of_video in enumerate(itertools.islice(values, last - first), first):
            _check_shape(index, number, of_video)
            put_values(of_video)
            given += 1
    for name, column in layout.items():
        end = places[name].start + _bytes_of(places[name])
        if column.of_videos is not None and position[name] != end:
            raise ValueError(f"/{name} has other entries than the index says")
    if given < len(index):
        raise ValueError("the index lists more videos than were given")
    if next(values, None) is not None:  # also runs a generator to its end
        raise ValueError("more videos were given than the index lists")


class _Features:
    """Fills the place of uncompressed features. digest: of their bytes."""

    def __init__(self, fd: int, start: int) -> None:
        self._fd, self._position, self.digest = fd, start, xxhash.xxh3_128()
        self._waiting: list[np.ndarray] = []
        self._waiting_bytes = 0

    def add(self, values: np.ndarray) -> None:
        """The rows of the next video."""
        data = flat_bytes(values, values.dtype.newbyteorder("<"))
        self._waiting.append(data)
        self._waiting_bytes += data.size
        if self._waiting_bytes >= _BUFFER_BYTES:
            self.end()

    def end(self) -> None:
        """Write what was added."""
        if not self._waiting:
            return
        data = self._waiting[0] if len(self._waiting) == 1 else np.concatenate(self._waiting)
        write_at(self._fd, data, self._position)
        self.digest.update(data.data)
        self._position += data.size
        self._waiting, self._waiting_bytes = [], 0


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


def _raise_kept(sink: _Sink) -> None:
    if sink.error:
        raise sink.error


def _write_compressed(
    raw: io.FileIO,
    index: Index,
    layout: Mapping[str, Column],
    videos: Iterable[np.ndarray],
    compression: str,
) -> Written:
    """As `write_bytes`. HDF5 places the compressed features itself, so the file is read for the
    digests."""
    fd, ranges = raw.fileno(), list[tuple[int, int, bytes]]()
    sink = _Sink(fd)
    with contextlib.ExitStack() as stack:
        stack.callback(_raise_kept, sink)  # runs last, after HDF5 was closed
        file = stack.enter_context(h5py.File(sink, "w", userblock_size=BLOCK_BYTES))
        places = {name: _place(file, name, column) for name, column in layout.items()}
        dataset = _compressed_dataset(file, index, compression)
        first_rows = iter(index.offsets[: len(index)].tolist())

        def put(data: np.ndarray, start: int) -> None:
            view = data.reshape(-1).view(np.uint8).data
            write_at(fd, view, start)
            ranges.append((start, start + len(view), xxhash.xxh3_128_digest(view)))

        def put_values(values: np.ndarray) -> None:
            first = next(first_rows)
            dataset[first : first + len(values)] = values
            _raise_kept(sink)

        _stream(index, layout, places, videos, put=put, put_values=put_values)
        file.flush()
    places["features"] = Place(0, index.dtype, (index.row_count, *index.row_shape))
    header = _header(places, os.fstat(fd).st_size)
    put(_directory(places), header.directory_start)
    (span,) = header.index_spans
    table = block_digests(raw, span, header.tree_block_bytes)
    return replace(_with_table(fd, header, table, _NOTHING), ranges=ranges)


def _compressed_dataset(file: h5py.File, index: Index, compression: str) -> h5py.Dataset:
    rows, row_bytes = index.row_count, index.dtype.itemsize * int(np.prod(index.row_shape))
    chunk_rows = min(rows, max(1, _CHUNK_BYTES // max(1, row_bytes)))
    return file.create_dataset(
        "features",
        (rows, *index.row_shape),
        index.dtype,
        chunks=(chunk_rows, *index.row_shape),
        compression=compression,
        shuffle=True,
    )


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
