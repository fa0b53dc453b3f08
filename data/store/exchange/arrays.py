"""Reads arrays of untrusted .npy and .npz files. No object is unpickled, and a declared size that is
not the real one is rejected before memory is allocated."""

import io
import lzma
import math
import tokenize
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path

import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.files import check_regular
from reelbank.data.store.file.hdf5_checks import ERRORS, MOST_EXPANSION

# What numpy's header parser and zipfile raise on bytes that make no sense.
_DAMAGE = (
    *ERRORS,
    SyntaxError,
    tokenize.TokenError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npy(file: Path) -> np.ndarray:
    """The array of a .npy file, mapped. Raises InputError."""
    # Mapped, so that a declared size larger than the file is rejected instead of allocated.
    # Objects cannot be mapped.
    try:
        return np.lib.format.open_memmap(file, mode="r")
    except _DAMAGE as error:
        raise InputError(
            f"FILE={file}: cannot be read as .npy ({' '.join(str(error).split())})"
        ) from None


def read_npz(file: Path, only: Collection[str] = ()) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name. only: the names of the arrays to read, all if empty. Raises
    InputError; also for arrays of objects, and for entries that are compressed more than deflate
    can."""
    try:
        check_regular(file)
        with zipfile.ZipFile(file) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
            unpacked_bytes = sum(entry.file_size for entry in entries)
            if unpacked_bytes > MOST_EXPANSION * file.stat().st_size:
                raise ValueError(f"it declares {unpacked_bytes} bytes")
            names = {entry.filename.removesuffix(".npy"): entry for entry in entries}
            return {
                name: _unpacked(archive, entry)
                for name, entry in names.items()
                if not only or name in only
            }
    except _DAMAGE as error:
        raise InputError(
            f"FILE={file}: cannot be read as .npz ({' '.join(str(error).split())})"
        ) from None


def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(entry) as opened:
        content = opened.read(entry.file_size)
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"{entry.filename} has the unknown version {version}")
    shape, is_fortran, dtype = _HEADERS[version](stream)
    if dtype.hasobject:
        raise ValueError(f"{entry.filename} contains Python objects, which are not read")
    start = stream.tell()
    if math.prod(shape) * dtype.itemsize != len(content) - start:
        raise ValueError(f"{entry.filename} does not have the size that its header declares")
    values = np.frombuffer(content, dtype, offset=start) if math.prod(shape) else np.empty(0, dtype)
    return values.reshape(shape, order="F" if is_fortran else "C")
