"""One feature file: HDF5 behind a checked header. The format is described in docs/store.md.

The first 512 bytes (HDF5's user block) hold lengths and SHA-256 digests, so damage is found before HDF5, which can crash on
damaged files, parses a byte. HDF5 never sees a failing write either (it crashes later if it does): it writes through
`_Sink`, which keeps the error for us.
"""

import contextlib
import hashlib
import io
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import xxhash

from reelbank.data import hdf5
from reelbank.data.errors import InputError
from reelbank.data.index import Index, arrays, parse_index

COMPRESSIONS = ("", "gzip", "lzf")
_MAGIC, _VERSION, _BLOCK_BYTES = b"REELBANK", 1, 512
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_COPY_BYTES = 1 << 22


class DamagedFile(InputError):
    """A feature file that is not what its writer wrote, or that no writer of ours would write."""


class Header(NamedTuple):
    """The user block's fields; its last 32 bytes are the SHA-256 of the 480 before them."""

    magic: bytes
    version: int
    block_bytes: int
    file_bytes: int
    features_start: int  # both 0 when features are compressed: then the index digest covers them too
    features_bytes: int
    index_sha256: bytes  # of everything but this block and the features
    whole_sha256: bytes  # of everything but this block

    def packed(self) -> bytes:
        block = _HEADER.pack(*self).ljust(_BLOCK_BYTES - 32, b"\0")
        return block + hashlib.sha256(block).digest()


_HEADER = struct.Struct("<8sIIQQQ32s32s")


def checksum(values: np.ndarray) -> int:
    """xxh3 (64 bit) of the bytes, little-endian float16 or uint8."""
    return xxhash.xxh3_64_intdigest(_bytes(values, values.dtype.newbyteorder("<")).data)


def _bytes(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    return np.ascontiguousarray(values, dtype).reshape(-1).view(np.uint8)


class _Sink(io.RawIOBase):
    """A file for HDF5 to write to. HDF5 must not see an error: it is kept in `error`, for us to raise once HDF5 is closed."""

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


def write_at(fd: int, data: Any, start: int) -> None:
    """Write all bytes at a place of the file, however many calls it takes."""
    rest = memoryview(data).cast("B")
    while rest:
        count = os.pwrite(fd, rest, start)
        rest, start = rest[count:], start + count


def read_at(fd: int, buffer: np.ndarray, start: int) -> bool:
    """Fill a flat uint8 array from a place of the file; False when the file ends before."""
    while buffer.size:
        count = os.preadv(fd, [buffer], start)  # type: ignore[list-item]
        if not count:
            return False
        buffer, start = buffer[count:], start + count
    return True


def write(path: Path, index: Index, videos: Iterable[np.ndarray], compression: str = "") -> None:
    """Write a new feature file, fsynced and read back; `videos` gives each video's rows (K, ...) of the index's type in turn.

    Raises OSError when it cannot be written (nothing is left), DamagedFile when what is read back is not what was written.
    """
    file = path.open("x+b", buffering=0)
    try:
        with file:
            _write(file.fileno(), index, videos, compression)
            os.fsync(file.fileno())
        damage = FeatureFile(path).damage()
        if damage:
            raise DamagedFile(f"{path}: what was read back is not what was written ({damage[0]}); check the disk")
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _write(fd: int, index: Index, videos: Iterable[np.ndarray], compression: str) -> None:
    sink = _Sink(fd)
    rows = int(index.offsets[-1])
    with contextlib.ExitStack() as stack:
        stack.callback(_raise_kept, sink)  # last of all, once HDF5 is closed
        file = stack.enter_context(h5py.File(sink, "w", userblock_size=_BLOCK_BYTES))
        for name, values in arrays(index).items():
            file.create_dataset(name, data=values)
        if compression and rows:
            start = features_bytes = 0
            _write_compressed(file, sink, index, videos, compression)
        else:
            created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            created.set_layout(h5py.h5d.CONTIGUOUS)
            created.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)  # a place in the file now, to be filled below
            created.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            space = h5py.h5s.create_simple((rows, *index.row_shape))
            dataset = h5py.h5d.create(file.id, b"features", h5py.h5t.py_create(index.dtype), space, created)
            features_bytes = dataset.get_storage_size()
            start = dataset.get_offset() if features_bytes else 0
    file_bytes = os.fstat(fd).st_size
    if start:
        before = _read_range(fd, _BLOCK_BYTES, start)
        after = _read_range(fd, start + features_bytes, file_bytes)
        whole, index_digest = hashlib.sha256(before), hashlib.sha256(before + after)
        place = start
        for number, values in enumerate(videos):
            _check_shape(index, number, values)
            data = _bytes(values, index.dtype)
            write_at(fd, data, place)
            whole.update(data.data)
            place += data.size
        if place != start + features_bytes:
            raise ValueError("fewer videos were given than the index names")
        whole.update(after)
    else:  # compressed features, which may be larger than memory, are digested with the index
        whole = index_digest = hashlib.sha256()
        if not _update(whole, fd, _BLOCK_BYTES, file_bytes):
            raise DamagedFile("the file ends early")
    digests = (index_digest.digest(), whole.digest())
    header = Header(_MAGIC, _VERSION, _BLOCK_BYTES, file_bytes, start, features_bytes, *digests)
    write_at(fd, header.packed(), 0)


def _raise_kept(sink: _Sink) -> None:
    if sink.error:
        raise sink.error


def _check_shape(index: Index, number: int, values: np.ndarray) -> None:
    wanted = (int(index.offsets[number + 1] - index.offsets[number]), *index.row_shape)
    if values.shape != wanted or values.dtype != index.dtype:
        given = f"{values.shape} {values.dtype}"
        raise ValueError(f"{index.video_ids[number]}: {given} rows were given where the index says {wanted} {index.dtype}")


def _write_compressed(file: h5py.File, sink: _Sink, index: Index, videos: Iterable[np.ndarray], compression: str) -> None:
    rows, row_bytes = int(index.offsets[-1]), index.dtype.itemsize * int(np.prod(index.row_shape))
    chunk_rows = min(rows, max(1, (1 << 20) // max(1, row_bytes)))
    shape = (rows, *index.row_shape)
    chunks = (chunk_rows, *index.row_shape)
    dataset = file.create_dataset("features", shape, index.dtype, chunks=chunks, compression=compression, shuffle=True)
    for number, values in enumerate(videos):
        _check_shape(index, number, values)
        dataset[index.offsets[number] : index.offsets[number + 1]] = values
        if sink.error:
            return
    file.flush()


def _read_range(fd: int, start: int, end: int) -> bytes:
    buffer = np.empty(max(0, end - start), np.uint8)
    if not read_at(fd, buffer, start):
        raise DamagedFile("the file ends early")
    return buffer.tobytes()


class FeatureFile:
    """A feature file whose header and index were checked (with `whole`, every byte): `.index` and reads of its videos.

    Raises DamagedFile (cut, altered, or made by a stranger to do what it should not), InputError (written by a newer
    reelbank), FileNotFoundError. With `keep_open` the very file that was checked is read later, also when its name is
    given to another; else it is opened anew for each `reading`.
    """

    def __init__(self, path: Path, whole: bool = False, keep_open: bool = False) -> None:
        self.path = path
        self._file: io.FileIO | None = None
        self._dataset: h5py.Dataset | None = None  # kept open when the features are compressed
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(path.open("rb", buffering=0))
            self.header = self._check_header(file.fileno())
            if whole and (reason := self._digest_damage(file.fileno())):
                raise DamagedFile(f"{path}: {reason}")
            self.index, self.compressed = self._read_index(file)
            if keep_open:
                self._dataset = h5py.File(file, "r")["features"] if self.compressed else None
                stack.pop_all()
                self._file = file

    def close(self) -> None:
        if self._dataset:
            self._dataset.file.close()
        if self._file:
            self._file.close()

    @property
    def size_bytes(self) -> int:
        return self.header.file_bytes

    def _check_header(self, fd: int) -> Header:
        size = os.fstat(fd).st_size
        block = os.pread(fd, _BLOCK_BYTES, 0)
        if block[: len(_MAGIC)] != _MAGIC:
            raise DamagedFile(f"{self.path}: not a feature file of reelbank, or its first bytes are damaged")
        if len(block) < _BLOCK_BYTES or hashlib.sha256(block[:-32]).digest() != block[-32:]:
            raise DamagedFile(f"{self.path}: its header is damaged")
        header = Header(*_HEADER.unpack_from(block))
        if header.version != _VERSION:
            raise InputError(f"{self.path}: format version {header.version}, this reelbank reads {_VERSION}; upgrade reelbank")
        start, end = header.features_start, header.features_start + header.features_bytes
        if header.file_bytes != size:
            raise DamagedFile(f"{self.path}: has {size} bytes instead of {header.file_bytes}, so it was cut or joined")
        is_inside = (start == end == 0) or _BLOCK_BYTES < start < end <= size
        if header.block_bytes != _BLOCK_BYTES or not is_inside:
            raise DamagedFile(f"{self.path}: its header makes no sense")
        digest = hashlib.sha256()
        for first, last in ((_BLOCK_BYTES, start), (end, size)) if end else ((_BLOCK_BYTES, size),):
            _update(digest, fd, first, last)
        if digest.digest() != header.index_sha256 or os.pread(fd, 8, _BLOCK_BYTES) != _HDF5_SIGNATURE:
            raise DamagedFile(f"{self.path}: its index is damaged")
        return header

    def _digest_damage(self, fd: int) -> str:
        digest = hashlib.sha256()
        complete = _update(digest, fd, _BLOCK_BYTES, self.header.file_bytes)
        return "" if complete and digest.digest() == self.header.whole_sha256 else "its bytes do not match its SHA-256"

    def _read_index(self, file: io.FileIO) -> tuple[Index, bool]:
        try:
            with h5py.File(file, "r") as opened:
                header = self.header
                return parse_index(opened, header.file_bytes, (header.features_start, header.features_bytes))
        except (hdf5.UnsafeFile, InputError) as error:
            raise DamagedFile(f"{self.path}: {error}") from None
        except hdf5.ERRORS as error:
            raise DamagedFile(f"{self.path}: not readable as HDF5 ({' '.join(str(error).split())})") from None

    @contextlib.contextmanager
    def reading(self) -> Iterator[Callable[[int, int, np.ndarray], None]]:
        """Gives `read(first, last, out)`: fills `out` (rows, ...) of the index's type, C-contiguous, with the rows of videos
        first to last - 1, views included, and checks their checksums. Any number of threads may read at once. Raises
        DamagedFile naming the video; FileNotFoundError when the file is gone."""
        with contextlib.ExitStack() as stack:
            file = self._file or stack.enter_context(self.path.open("rb", buffering=0))
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
                    complete = _read_compressed(dataset, out, int(offsets[first]), int(offsets[last]))
                bounds = ((offsets[first : last + 1] - offsets[first]) * row_bytes).tolist()
                expected, data = self.index.checksums[first:last].tolist(), flat.data
                for number in range(last - first):
                    found = xxhash.xxh3_64_intdigest(data[bounds[number] : bounds[number + 1]])
                    if not complete or found != expected[number]:
                        name = self.index.video_ids[first + number]
                        raise DamagedFile(f"{self.path}: the features of {name} are damaged; restore the file or extract again")

            yield read

    def damage(self) -> list[str]:
        """Reads every byte: one line for each video that is damaged, and one for the file when its digest differs."""
        lines = []
        with self.reading() as read:
            for number, rows in enumerate(np.diff(self.index.offsets).tolist()):
                try:
                    read(number, number + 1, np.empty((rows, *self.index.row_shape), self.index.dtype))
                except DamagedFile as error:
                    lines.append(str(error))
        with contextlib.ExitStack() as stack:
            reason = self._digest_damage((self._file or stack.enter_context(self.path.open("rb", buffering=0))).fileno())
        return lines or ([f"{self.path}: {reason}"] if reason else [])


def _update(digest: Any, fd: int, start: int, end: int) -> bool:
    buffer = np.empty(min(_COPY_BYTES, max(0, end - start)), np.uint8)
    while start < end:
        piece = buffer[: end - start]
        if not read_at(fd, piece, start):
            return False
        digest.update(piece.data)
        start += piece.size
    return True


def _read_compressed(dataset: h5py.Dataset, out: np.ndarray, first: int, last: int) -> bool:
    try:
        dataset.read_direct(out, np.s_[first:last])
    except OSError:  # a chunk that does not decompress
        return False
    return True
