"""Checks of untrusted HDF5 files before any data is read.

HDF5 can point outside the file (soft and external links, external storage, virtual datasets), load
code (filters) and declare sizes larger than the file. Only datasets of plain numbers and
fixed-length strings that are stored completely in this file are accepted.
"""

import math
from collections.abc import Iterator

import h5py

_FILTERS = {
    h5py.h5z.FILTER_DEFLATE,
    h5py.h5z.FILTER_SHUFFLE,
    h5py.h5z.FILTER_FLETCHER32,
    h5py.h5z.FILTER_LZF,
}
MOST_EXPANSION = 1100  # deflate cannot expand by more than 1032, lzf by 88
_MOST_CHUNK_BYTES = 1 << 28
_MOST_NESTED = 16

# What h5py raises when a file is not what it claims to be.
ERRORS = (OSError, RuntimeError, ValueError, TypeError, KeyError, OverflowError, MemoryError)


class UnsafeFile(Exception):
    """An HDF5 file is rejected; the message is one line with the place and the reason."""


def links(group: h5py.Group) -> Iterator[tuple[str, type]]:
    """Each (name, h5py.Group or h5py.Dataset) of a group. Raises UnsafeFile for any link except a
    hard link."""
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise UnsafeFile(f"/{name} is a link, which is not allowed")
        kind = group.get(name, getclass=True)
        if kind not in (h5py.Dataset, h5py.Group):
            raise UnsafeFile(f"/{name} must be a dataset or a group")
        yield name, kind


def walk(
    group: h5py.Group, file_bytes: int, prefix: str = ""
) -> Iterator[tuple[str, h5py.Dataset]]:
    """Every dataset below a group with its path, checked by `plain`. Raises UnsafeFile."""
    if prefix.count("/") > _MOST_NESTED:
        raise UnsafeFile(f"its groups are nested more than {_MOST_NESTED} levels deep")
    for name, kind in links(group):
        if kind is h5py.Group:
            yield from walk(group[name], file_bytes, f"{prefix}{name}/")
        else:
            yield prefix + name, plain(group, name, file_bytes)


def plain(group: h5py.Group, name: str, file_bytes: int) -> h5py.Dataset:
    """A dataset from `links`, checked to be stored completely in this file, as plain numbers or
    fixed-length strings. Only metadata is read. Raises UnsafeFile."""
    dataset = group[name]
    created = dataset.id.get_create_plist()
    if created.get_layout() == h5py.h5d.VIRTUAL or created.get_external_count():
        raise UnsafeFile(f"/{name} stores its data in another file, which is not allowed")
    kind = dataset.id.get_type()
    is_string = kind.get_class() == h5py.h5t.STRING and not kind.is_variable_str()
    if kind.get_class() not in (h5py.h5t.INTEGER, h5py.h5t.FLOAT) and not is_string:
        raise UnsafeFile(f"/{name} must contain plain numbers or fixed-length strings")
    for number in range(created.get_nfilters()):
        if created.get_filter(number)[0] not in _FILTERS:
            raise UnsafeFile(f"/{name} must be compressed with gzip, lzf or not at all")
    declared_bytes = math.prod(dataset.shape) * kind.get_size() if dataset.shape is not None else 0
    stored_bytes = dataset.id.get_storage_size()
    if created.get_layout() == h5py.h5d.CHUNKED:
        _check_chunks(dataset, name, declared_bytes, stored_bytes, file_bytes)
    elif stored_bytes != declared_bytes:
        raise UnsafeFile(f"/{name} declares {declared_bytes} bytes, but stores {stored_bytes}")
    if stored_bytes > file_bytes:
        raise UnsafeFile(
            f"/{name} declares {stored_bytes} bytes, but the whole file has {file_bytes}"
        )
    if created.get_layout() == h5py.h5d.CONTIGUOUS and stored_bytes:
        start = dataset.id.get_offset()
        if start is None or start + stored_bytes > file_bytes:
            raise UnsafeFile(f"/{name} extends beyond the end of the file")
    return dataset


def _check_chunks(
    dataset: h5py.Dataset, name: str, declared_bytes: int, stored_bytes: int, file_bytes: int
) -> None:
    chunks = math.prod(
        -(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks, strict=True)
    )
    if dataset.id.get_num_chunks() != chunks:
        raise UnsafeFile(
            f"/{name} declares {chunks} chunks, but stores {dataset.id.get_num_chunks()}"
        )
    chunk_bytes = math.prod(dataset.chunks) * dataset.dtype.itemsize
    if (
        max(declared_bytes, chunk_bytes * chunks) > MOST_EXPANSION * stored_bytes
        or stored_bytes > file_bytes
    ):
        raise UnsafeFile(f"/{name} declares {declared_bytes} bytes, but stores {stored_bytes}")
    if chunk_bytes > _MOST_CHUNK_BYTES:
        raise UnsafeFile(
            f"/{name} has chunks of {chunk_bytes} bytes; at most {_MOST_CHUNK_BYTES} are allowed"
        )


def strings(dataset: h5py.Dataset) -> list[str]:
    """A one-dimensional dataset of fixed-length UTF-8 as Python strings. Raises UnsafeFile."""
    if dataset.dtype.kind != "S" or dataset.ndim != 1:
        raise UnsafeFile(f"{dataset.name} must be a list of fixed-length strings")
    try:
        return [text.decode("utf-8") for text in dataset[:].tolist()] if len(dataset) else []
    except UnicodeDecodeError:
        raise UnsafeFile(f"{dataset.name} must be UTF-8 text") from None
