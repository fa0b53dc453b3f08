"""One feature file: HDF5 behind a checked header. The format is described in docs/store.md."""

import contextlib
import functools
import hashlib
import io
import itertools
import operator
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import h5py
import numpy as np
import xxhash

from reelbank.data.files import UnreadableFile, open_regular
from reelbank.data.store.file.columns import CHUNK
from reelbank.data.store.file.compressed import CompressedFeatures, hdf5_errors
from reelbank.data.store.file.directory import (
    check_columns,
    check_hdf5,
    check_keys,
    read_index,
)
from reelbank.data.store.file.earlier import read_earlier_index
from reelbank.data.store.file.facts import Facts, facts_of
from reelbank.data.store.file.header import (
    BLOCK_BYTES,
    DamagedFile,
    check_index_digest,
    digest_range,
    read_at,
    read_header,
    write_at,
)
from reelbank.data.store.file.index import Index
from reelbank.data.store.file.read_back import check_header, differs, read_back
from reelbank.data.store.file.tree import CheckedFile, Hdf5View
from reelbank.data.store.file.writing import flat_bytes, write_bytes

COMPRESSIONS = ("", "gzip", "lzf")
READ_BYTES = 1 << 20  # small enough that the checksum finds in the cache what was just read
_DIGEST_DAMAGE = "the file is damaged, because its content does not match its SHA-256"


def checksum(values: np.ndarray) -> int:
    """xxh3 (64 bit) of the bytes, little-endian float16 or uint8."""
    return xxhash.xxh3_64_intdigest(flat_bytes(values, values.dtype.newbyteorder("<")).data)


def write(path: Path, index: Index, videos: Iterable[np.ndarray], compression: str = "") -> None:
    """Write a new feature file, sync it to disk and read it back.

    videos: each video's rows (K, ...) in the order of the index and of its type. Raises OSError if
    the file cannot be written (nothing is left of it), DamagedFile if the bytes that are read back
    differ from those that were written.
    """
    file = path.open("x+b", buffering=0)
    try:
        with file:
            written = write_bytes(file, index, videos, compression)
            os.fsync(file.fileno())
            header = written.header._replace(whole_sha256=read_back(path, written))
            write_at(file.fileno(), header.packed(), 0)
            os.fsync(file.fileno())
        check_header(path, header)
        if written.ranges:
            _check_compressed(path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _check_compressed(path: Path) -> None:
    """HDF5 has written the compressed features, so they are decompressed, and compared with the
    checksums in the index, which we wrote. Raises DamagedFile."""
    try:
        lines = FeatureFile(path).damage()
    except DamagedFile as error:
        lines = [str(error)]
    if lines:
        raise differs(path)


class FeatureFile:
    """A feature file whose header was checked: its `index`, and reads of its videos.

    Files of version 1 and 2 are checked and read as a whole, except for their features. Of a newer
    file, only what describes the whole file is read; a column of its index is read and checked when
    it is used.

    whole: check every byte. check_index: check every byte but those of the features. keep_open:
    later reads use the very file that was checked, even if its name now belongs to another file;
    otherwise each read opens the file again. Raises DamagedFile (cut, altered or malicious),
    UnreadableFile (not a regular file, or the system refuses), InputError (written by a newer
    reelbank), FileNotFoundError.
    """

    def __init__(
        self,
        path: Path,
        *,
        whole: bool = False,
        check_index: bool = False,
        keep_open: bool = False,
    ) -> None:
        self.path = path
        self._file: io.FileIO | None = None
        self._checked: CheckedFile | None = None  # since version 3
        self._compressed: CompressedFeatures | None = None  # kept open with the file
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(open_regular(path))
            try:
                self.header = read_header(file.fileno(), path)
                if self.header.version > 2:
                    is_checked = check_index and not whole
                    self._checked = CheckedFile(path, file, self.header, check_all=is_checked)
                if whole and (reason := self._whole_damage(file.fileno())):
                    raise DamagedFile(f"{path}: {reason}")
                if not self._checked:
                    check_index_digest(file.fileno(), self.header, path)
            except OSError as error:  # a fault of the disk, which says nothing about the file
                raise UnreadableFile(
                    f"{path}: cannot be read ({error.strerror}); check the disk"
                ) from None
            if self._checked:
                self.index, self.compressed = read_index(self._checked)
            else:
                self.index, self.compressed = self._read_earlier_index(file)
            if keep_open:
                if self.compressed:
                    self._compressed = CompressedFeatures(path, file, self._checked)
                stack.pop_all()
                self._file = file

    def close(self) -> None:
        """Close the file if it was kept open."""
        if self._compressed:
            self._compressed.close()
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
        return "" if complete and digest.digest() == self.header.whole_sha256 else _DIGEST_DAMAGE

    def _whole_damage(self, fd: int) -> str:
        """As `_digest_damage`; also checks every block of the index, and reads each byte only once.
        Raises DamagedFile."""
        if not self._checked:
            return self._digest_damage(fd)
        digest, header = hashlib.sha256(), self.header
        complete, position = True, BLOCK_BYTES
        for start, end in header.index_spans:
            complete &= digest_range(digest, fd, position, start)  # the features
            for data in self._checked.runs(start, end):
                digest.update(data.data)
            position = end
        digest.update(self._checked.table)
        return "" if complete and digest.digest() == header.whole_sha256 else _DIGEST_DAMAGE

    def _read_earlier_index(self, file: io.FileIO) -> tuple[Index, bool]:
        header = self.header
        with hdf5_errors(self.path), h5py.File(file, "r") as opened:
            place = (header.features_start, header.features_bytes)
            return read_earlier_index(opened, header.file_bytes, place, header.version)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Callable[[int, int, np.ndarray], None]]:
        """Gives `read(first, last, out)`, which fills `out` (rows, ...), C-contiguous and of the
        index's type, with the rows of videos first to last - 1, views included, and checks their
        checksums. Any number of threads may read at once. Raises DamagedFile naming the video, and
        FileNotFoundError if the file is gone."""
        with contextlib.ExitStack() as stack:
            file = self._file or stack.enter_context(open_regular(self.path))
            fd, index = file.fileno(), self.index
            row_bytes = index.dtype.itemsize * int(np.prod(index.row_shape))
            start = self.header.features_start
            compressed = self._compressed
            if self.compressed and not compressed:
                compressed = CompressedFeatures(self.path, file, self._checked)
                stack.callback(compressed.close)

            def read(first: int, last: int, out: np.ndarray) -> None:
                flat = out.reshape(-1).view(np.uint8)
                offsets = index.offsets[first : last + 1]
                if compressed is None:
                    is_complete = read_at(fd, flat, start + int(offsets[0]) * row_bytes)
                else:
                    is_complete = compressed.read(slice(int(offsets[0]), int(offsets[-1])), out)
                bounds = ((offsets - offsets[0]) * row_bytes).tolist()
                expected, data = index.checksums[first:last].tolist(), flat.data
                spans = itertools.starmap(slice, itertools.pairwise(bounds))
                digests = list(map(xxhash.xxh3_64_intdigest, map(data.__getitem__, spans)))
                if not is_complete:
                    raise self._damaged_video(first)
                if digests != expected:
                    differs = list(map(operator.ne, digests, expected))
                    raise self._damaged_video(first + differs.index(True))

            yield read

    def _damaged_video(self, number: int) -> DamagedFile:
        return DamagedFile(
            f"{self.path}: the features of {self.index.video_id(number)} are damaged; restore the "
            "file, or extract again"
        )

    def damage(self, *, with_values: bool = False) -> list[str]:
        """Read every byte: a line for each damaged video, or a line for the file if only its digest
        differs. with_values: also a line for each video with NaN or infinity, which our writers
        never store."""
        try:
            self._check_index()
        except DamagedFile as error:
            return [str(error)]
        lines = []
        with contextlib.ExitStack() as stack:
            file = self._file or stack.enter_context(open_regular(self.path))
            read = stack.enter_context(self.reading())
            # The digest of the whole file is computed in the same pass, unless HDF5 reads.
            digest = None if self.compressed else hashlib.sha256()
            first_span, *other_spans = self.header.index_spans
            if digest:
                digest_range(digest, file.fileno(), *first_span)
            for first, last in self._runs():
                rows = self.index.rows(first, last)
                shape = (int(rows.offsets[-1] - rows.offsets[0]), *self.index.row_shape)
                values = np.empty(shape, self.index.dtype)
                try:
                    read(first, last, values)
                except DamagedFile:
                    lines += self._damaged_among(read, first, last)
                else:
                    lines += self._not_finite(values, rows.offsets, first) if with_values else []
                if digest:
                    digest.update(values.reshape(-1).view(np.uint8).data)
            if digest and other_spans:
                digest_range(digest, file.fileno(), other_spans[0][0], self.header.file_bytes)
            if digest is None or not other_spans:
                reason = self._digest_damage(file.fileno())
            else:
                reason = "" if digest.digest() == self.header.whole_sha256 else _DIGEST_DAMAGE
        return lines or ([f"{self.path}: {reason}"] if reason else [])

    @functools.cached_property
    def facts(self) -> Facts:
        """What the file is merged by. That every video is found by its id is checked too. Raises
        DamagedFile and UnreadableFile."""
        hashes = check_keys(self._checked, self.index) if self._checked else None
        return facts_of(self.index, hashes)

    def check_facts(self) -> None:
        """Check what the file is merged by, which stays in memory. Raises as `facts`."""
        _ = self.facts

    def _check_index(self) -> None:
        """Check every byte of the index and every value. Raises DamagedFile and UnreadableFile."""
        if not self._checked:  # was checked when the file was opened
            return
        check_columns(self._checked, self.index)
        with hdf5_errors(self.path), h5py.File(Hdf5View(self._checked), "r") as opened:
            check_hdf5(self._checked, opened)

    def _runs(self) -> Iterator[tuple[int, int]]:
        """Neighbouring videos, first and last + 1, that are read at once."""
        row_bytes = self.index.dtype.itemsize * int(np.prod(self.index.row_shape))
        for begin in range(0, len(self.index), CHUNK):
            end = min(len(self.index), begin + CHUNK)
            offsets = self.index.offsets[begin : end + 1]
            yield from runs(begin, offsets, READ_BYTES // max(1, row_bytes))

    def _damaged_among(
        self, read: Callable[[int, int, np.ndarray], None], first: int, last: int
    ) -> list[str]:
        lines = []
        for number in range(first, last):
            stored = self.index.rows_of(number)
            values = np.empty((stored.stop - stored.start, *self.index.row_shape), self.index.dtype)
            try:
                read(number, number + 1, values)
            except DamagedFile as error:
                lines.append(str(error))
        return lines

    def _not_finite(self, values: np.ndarray, offsets: np.ndarray, first: int) -> list[str]:
        """A line for each video with NaN or infinity among neighbouring videos."""
        if np.isfinite(values).all():
            return []
        bounds = (offsets - offsets[0]).tolist()
        return [
            f"{self.path}: the features of {self.index.video_id(first + number)} contain NaN or "
            "infinity; extract or import them again"
            for number in range(len(bounds) - 1)
            if not np.isfinite(values[bounds[number] : bounds[number + 1]]).all()
        ]


def runs(first: int, offsets: np.ndarray, most_rows: int) -> Iterator[tuple[int, int]]:
    """The numbers of n neighbouring videos as ranges (begin, end), each of which is one read: of at
    most `most_rows` rows, or of one video. first: the number of the first video; offsets: (n + 1,)
    int64, where their rows begin and end."""
    begin, videos = 0, len(offsets) - 1
    while begin < videos:
        fitting = int(np.searchsorted(offsets, offsets[begin] + most_rows, side="right")) - 1
        end = max(begin + 1, fitting)
        yield first + begin, first + end
        begin = end
