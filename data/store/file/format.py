"""One feature file: HDF5 behind a checked header. The format is described in docs/store.md.

HDF5 crashes after a failed write, so it never sees one: it writes through `_Sink`, which keeps the
error for us.
"""

import contextlib
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xxhash

from reelbank.data.errors import InputError
from reelbank.data.files import UnreadableFile, open_regular
from reelbank.data.store.file.hdf5_checks import ERRORS, UnsafeFile
from reelbank.data.store.file.header import (
    BLOCK_BYTES,
    MAGIC,
    VERSION,
    DamagedFile,
    Header,
    check_header,
    digest_range,
    ends_early,
    read_at,
    read_range,
    write_at,
)
from reelbank.data.store.file.index import Index, arrays, parse_index

COMPRESSIONS = ("", "gzip", "lzf")
_CHUNK_BYTES = (
    1 << 20
)  # of compressed features: large enough to compress well, small enough to cache


def checksum(values: np.ndarray) -> int:
    """xxh3 (64 bit) of the bytes, little-endian float16 or uint8."""
    return xxhash.xxh3_64_intdigest(_bytes(values, values.dtype.newbyteorder("<")).data)


def _bytes(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    return np.ascontiguousarray(values, dtype).reshape(-1).view(np.uint8)


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


def write(path: Path, index: Index, videos: Iterable[np.ndarray], compression: str = "") -> None:
    """Write a new feature file, sync it to disk and read it back.

    videos: each video's rows (K, ...) in the order of the index and of its type. Raises OSError if
    the file cannot be written (nothing is left of it), DamagedFile if the bytes that are read back
    differ from those that were written.
    """
    file = path.open("x+b", buffering=0)
    try:
        with file:
            header = _write(file, index, videos, compression)
            os.fsync(file.fileno())
        if not _is_on_disk(path, header):
            raise DamagedFile(
                f"{path}: the bytes on disk differ from those that were written; check the disk"
            )
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _is_on_disk(path: Path, header: Header) -> bool:
    """Whether a file that was just written has this header and the bytes that it promises. They are
    read once: the checksums of the videos are of the same bytes."""
    with open_regular(path) as file:
        fd, digest = file.fileno(), hashlib.sha256()
        block = os.pread(fd, BLOCK_BYTES, 0)
        is_complete = digest_range(digest, fd, BLOCK_BYTES, header.file_bytes)
        has_length = os.fstat(fd).st_size == header.file_bytes
    return (
        is_complete
        and has_length
        and block == header.packed()
        and digest.digest() == header.whole_sha256
    )


def _write(raw: io.FileIO, index: Index, videos: Iterable[np.ndarray], compression: str) -> Header:
    """Write the file; returns its header."""
    fd = raw.fileno()
    sink = _Sink(fd)
    start = features_bytes = 0
    with contextlib.ExitStack() as stack:
        stack.callback(_raise_kept, sink)  # runs last, after HDF5 was closed
        file = stack.enter_context(h5py.File(sink, "w", userblock_size=BLOCK_BYTES))
        for name, values in arrays(index).items():
            file.create_dataset(name, data=values)
        if compression and index.offsets[-1]:
            _write_compressed(file, sink, index, videos, compression)
        else:
            start, features_bytes = _reserve(file, index)
    file_bytes = os.fstat(fd).st_size
    if start:
        digests = _write_uncompressed(raw, index, videos, start, features_bytes)
    else:  # compressed features, which may be larger than memory, are digested with the index
        digest = hashlib.sha256()
        if not digest_range(digest, fd, BLOCK_BYTES, file_bytes):
            raise ends_early(raw, file_bytes)
        digests = (digest.digest(), digest.digest())
    header = Header(MAGIC, VERSION, BLOCK_BYTES, file_bytes, start, features_bytes, *digests)
    write_at(fd, header.packed(), 0)
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
    space = h5py.h5s.create_simple((int(index.offsets[-1]), *index.row_shape))
    dtype = h5py.h5t.py_create(index.dtype)
    dataset = h5py.h5d.create(file.id, b"features", dtype, space, properties)
    features_bytes = dataset.get_storage_size()
    return (dataset.get_offset(), features_bytes) if features_bytes else (0, 0)


def _write_uncompressed(
    file: io.FileIO, index: Index, videos: Iterable[np.ndarray], start: int, features_bytes: int
) -> tuple[bytes, bytes]:
    """Fill the place of the features; the digests of the index and of the whole file."""
    fd = file.fileno()
    before = read_range(file, BLOCK_BYTES, start)
    after = read_range(file, start + features_bytes, os.fstat(fd).st_size)
    whole, index_digest = hashlib.sha256(before), hashlib.sha256(before + after)
    position = start
    for number, values in enumerate(videos):
        _check_shape(index, number, values)
        data = _bytes(values, index.dtype)
        write_at(fd, data, position)
        whole.update(data.data)
        position += data.size
    if position != start + features_bytes:
        raise ValueError("the index lists more videos than were given")
    whole.update(after)
    return index_digest.digest(), whole.digest()


def _write_compressed(
    file: h5py.File, sink: _Sink, index: Index, videos: Iterable[np.ndarray], compression: str
) -> None:
    rows, row_bytes = int(index.offsets[-1]), index.dtype.itemsize * int(np.prod(index.row_shape))
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
        dataset[index.offsets[number] : index.offsets[number + 1]] = values
        if sink.error:
            return
    file.flush()


def _check_shape(index: Index, number: int, values: np.ndarray) -> None:
    rows = int(index.offsets[number + 1] - index.offsets[number])
    expected_shape = (rows, *index.row_shape)
    if values.shape != expected_shape or values.dtype != index.dtype:
        raise ValueError(
            f"{index.video_ids[number]}: rows must be {expected_shape} {index.dtype}, as the "
            f"index says (got {values.shape} {values.dtype})"
        )


class FeatureFile:
    """A feature file whose header and index were checked: its `index`, and reads of its videos.

    whole: check every byte. keep_open: later reads use the very file that was checked, even if its
    name now belongs to another file; otherwise each `reading` opens the file again. Raises
    DamagedFile (cut, altered or malicious), UnreadableFile (not a regular file, or the system
    refuses), InputError (written by a newer reelbank), FileNotFoundError.
    """

    def __init__(self, path: Path, *, whole: bool = False, keep_open: bool = False) -> None:
        self.path = path
        self._file: io.FileIO | None = None
        self._dataset: h5py.Dataset | None = None  # kept open when the features are compressed
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(open_regular(path))
            try:
                self.header = check_header(file.fileno(), path)
                if whole and (reason := self._digest_damage(file.fileno())):
                    raise DamagedFile(f"{path}: {reason}")
            except OSError as error:  # a fault of the disk, which says nothing about the file
                raise UnreadableFile(
                    f"{path}: cannot be read ({error.strerror}); check the disk"
                ) from None
            self.index, self.compressed = self._read_index(file)
            if keep_open:
                self._dataset = h5py.File(file, "r")["features"] if self.compressed else None
                stack.pop_all()
                self._file = file

    def close(self) -> None:
        """Close the file if it was kept open."""
        if self._dataset:
            self._dataset.file.close()
        if self._file:
            self._file.close()

    def has_its_name(self) -> bool:
        """Whether the file that was kept open still has its name."""
        try:
            return self._file is not None and os.path.samestat(
                os.fstat(self._file.fileno()), self.path.stat()
            )
        except FileNotFoundError:
            return False

    @property
    def size_bytes(self) -> int:
        """Length of the file."""
        return self.header.file_bytes

    def _digest_damage(self, fd: int) -> str:
        digest = hashlib.sha256()
        complete = digest_range(digest, fd, BLOCK_BYTES, self.header.file_bytes)
        return (
            ""
            if complete and digest.digest() == self.header.whole_sha256
            else "the file is damaged, because its content does not match its SHA-256"
        )

    def _read_index(self, file: io.FileIO) -> tuple[Index, bool]:
        try:
            with h5py.File(file, "r") as opened:
                header = self.header
                place = (header.features_start, header.features_bytes)
                return parse_index(opened, header.file_bytes, place, header.version)
        except (UnsafeFile, InputError) as error:
            raise DamagedFile(f"{self.path}: {error}") from None
        except MemoryError:  # says nothing about the file, whose index matches its checksum
            raise
        except ERRORS as error:
            raise DamagedFile(
                f"{self.path}: cannot be read as HDF5 ({' '.join(str(error).split())})"
            ) from None

    @contextlib.contextmanager
    def reading(self) -> Iterator[Callable[[int, int, np.ndarray], None]]:
        """Gives `read(first, last, out)`, which fills `out` (rows, ...), C-contiguous and of the
        index's type, with the rows of videos first to last - 1, views included, and checks their
        checksums. Any number of threads may read at once. Raises DamagedFile naming the video, and
        FileNotFoundError if the file is gone."""
        with contextlib.ExitStack() as stack:
            file = self._file or stack.enter_context(open_regular(self.path))
            fd, offsets = file.fileno(), self.index.offsets
            row_bytes = self.index.dtype.itemsize * int(np.prod(self.index.row_shape))
            start, dataset = self.header.features_start, self._dataset
            if self.compressed and dataset is None:
                dataset = stack.enter_context(h5py.File(file, "r"))["features"]

            def read(first: int, last: int, out: np.ndarray) -> None:
                flat = out.reshape(-1).view(np.uint8)
                if dataset is None:
                    complete = read_at(fd, flat, start + int(offsets[first]) * row_bytes)
                else:
                    rows = slice(int(offsets[first]), int(offsets[last]))
                    complete = _read_compressed(dataset, out, rows)
                bounds = ((offsets[first : last + 1] - offsets[first]) * row_bytes).tolist()
                expected, data = self.index.checksums[first:last].tolist(), flat.data
                for number in range(last - first):
                    digest = xxhash.xxh3_64_intdigest(data[bounds[number] : bounds[number + 1]])
                    if not complete or digest != expected[number]:
                        name = self.index.video_ids[first + number]
                        raise DamagedFile(
                            f"{self.path}: the features of {name} are damaged; restore the file, "
                            "or extract again"
                        )

            yield read

    def damage(self, *, with_values: bool = False) -> list[str]:
        """Read every byte: a line for each damaged video, or a line for the file if only its digest
        differs. with_values: also a line for each video with NaN or infinity, which our writers
        never store."""
        lines = []
        with self.reading() as read:
            for number, rows in enumerate(np.diff(self.index.offsets).tolist()):
                values = np.empty((rows, *self.index.row_shape), self.index.dtype)
                try:
                    read(number, number + 1, values)
                except DamagedFile as error:
                    lines.append(str(error))
                    continue
                if with_values and not np.isfinite(values).all():
                    lines.append(
                        f"{self.path}: the features of {self.index.video_ids[number]} contain "
                        "NaN or infinity; extract or import them again"
                    )
        with contextlib.ExitStack() as stack:
            file = self._file or stack.enter_context(open_regular(self.path))
            reason = self._digest_damage(file.fileno())
        return lines or ([f"{self.path}: {reason}"] if reason else [])


def _read_compressed(dataset: h5py.Dataset, out: np.ndarray, rows: slice) -> bool:
    """Fill `out` with a range of rows; False if a chunk cannot be decompressed."""
    try:
        dataset.read_direct(out, np.s_[rows])
    except OSError:
        return False
    return True
