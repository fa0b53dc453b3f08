"""Attributes of HDF5 files: written as fixed-length text, and read from untrusted files."""

import math

import h5py
import numpy as np

from reelbank.data.store.file.hdf5_checks import UnsafeFile

ABOUT = "reelbank"  # of the file: recipe and data set as JSON


def write_text(owner: h5py.Group | h5py.Dataset, name: str, text: str) -> None:
    """Write an attribute of fixed-length UTF-8."""
    encoded = text.encode()
    owner.attrs.create(name, encoded, dtype=h5py.string_dtype("utf-8", max(1, len(encoded))))


def read_attribute(
    owner: h5py.Group | h5py.Dataset, name: str, file_bytes: int
) -> np.ndarray | None:
    """An attribute of plain numbers or fixed-length strings, (...); None if there is none. Raises
    UnsafeFile for other types, and for one that declares more bytes than the file has."""
    if name not in owner.attrs:
        return None
    attribute = owner.attrs.get_id(name)
    kind = attribute.get_type()
    is_string = kind.get_class() == h5py.h5t.STRING and not kind.is_variable_str()
    if kind.get_class() not in (h5py.h5t.INTEGER, h5py.h5t.FLOAT) and not is_string:
        raise UnsafeFile(f"the attribute {name} must contain plain numbers or fixed-length strings")
    if math.prod(attribute.shape) * kind.get_size() > file_bytes:
        raise UnsafeFile(f"the attribute {name} is larger than the file")
    values = np.empty(attribute.shape, attribute.dtype)
    if values.size:
        attribute.read(values)
    return values


def read_text_attribute(owner: h5py.Group | h5py.Dataset, name: str, file_bytes: int) -> str | None:
    """A text as `write_text` writes it; None if there is none. Raises UnsafeFile."""
    values = read_attribute(owner, name, file_bytes)
    if values is None:
        return None
    if values.dtype.kind != "S" or values.ndim:
        raise UnsafeFile(f"the attribute {name} must be a fixed-length text")
    return decoded(values.item(), name)


def decoded(text: bytes, name: str) -> str:
    """UTF-8 of an attribute or array with this name. Raises UnsafeFile."""
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        raise UnsafeFile(f"{name} must be UTF-8 text") from None
