"""Reading compressed features, which only HDF5 can do."""

import contextlib
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.files import UnreadableFile
from reelbank.data.store.file.directory import check_hdf5
from reelbank.data.store.file.hdf5_checks import ERRORS, UnsafeFile
from reelbank.data.store.file.header import DamagedFile
from reelbank.data.store.file.tree import CheckedFile, Hdf5View


@contextlib.contextmanager
def hdf5_errors(path: Path) -> Iterator[None]:
    """Turns whatever HDF5 and our checks of a file raise into DamagedFile."""
    try:
        yield
    except (DamagedFile, UnreadableFile):
        raise
    except (UnsafeFile, InputError) as error:
        raise DamagedFile(f"{path}: {error}") from None
    except MemoryError:  # says nothing about the file, whose index matches its checksum
        raise
    except ERRORS as error:
        raise DamagedFile(
            f"{path}: cannot be read as HDF5 ({' '.join(str(error).split())})"
        ) from None


class CompressedFeatures:
    """The compressed features of an open file. checked: the file as checked bytes, None for versions
    1 and 2, whose index was checked as a whole. Raises DamagedFile and UnreadableFile."""

    def __init__(self, path: Path, file: io.FileIO, checked: CheckedFile | None) -> None:
        self._view = Hdf5View(checked) if checked else None
        self._lock = threading.Lock()  # the error of a view is that of one read
        try:
            with hdf5_errors(path):
                self._opened = h5py.File(self._view or file, "r")
                if checked:
                    check_hdf5(checked, self._opened)
                self._dataset = self._opened["features"]
        finally:
            self._check()

    def _check(self) -> None:
        if self._view and self._view.error:
            raise self._view.error

    def read(self, rows: slice, out: np.ndarray) -> bool:
        """Fill `out` with a range of rows; False if a chunk is damaged."""
        with self._lock:
            try:
                self._dataset.read_direct(out, np.s_[rows])
                is_complete = True
            except OSError:
                is_complete = False
            error = self._view.error if self._view else None
            if self._view and isinstance(error, DamagedFile):
                self._view.error = None  # the next video may be undamaged
        if error and not isinstance(error, DamagedFile):
            raise error
        return is_complete and not error

    def close(self) -> None:
        """Close HDF5; the file itself stays open."""
        self._opened.close()
