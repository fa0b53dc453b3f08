"""Feature files made with h5py alone, as docs/store.md describes them: of the newest format version
and of version 2. Their digests are right, whatever they contain."""

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from reelbank.data.store.file.encoding import columns
from reelbank.data.store.file.format import FeatureFile
from reelbank.data.store.file.index import Index

TREE_BLOCK_BYTES = 4096


def datasets_of(path: Path) -> dict[str, np.ndarray]:
    """The datasets of a good file as arrays, all but the features."""
    index = FeatureFile(path).index
    return {
        name: np.concatenate([np.empty((0, *column.shape[1:]), column.dtype), *column.chunks()])
        for name, column in columns(index).items()
    }


def earlier_datasets_of(path: Path) -> dict[str, np.ndarray]:
    """The same as a file of version 2 has them."""
    index, datasets = FeatureFile(path).index, datasets_of(path)
    for name in ("versions", "sources", "source_offsets", "failure_ids", "failures"):
        del datasets[name]
    for name in ("failure_offsets", "key_hashes", "key_numbers"):
        del datasets[name]
    datasets["about"] = as_bytes(earlier_about(index, json.loads(datasets["about"].tobytes())))
    return datasets


def earlier_about(index: Index, about: Mapping[str, Any]) -> dict[str, Any]:
    """The `about` of version 2."""
    of, written = [], dict(about["written"])
    listed = written["made"]
    for versions in index.versions:
        of.append(listed.index(dict(versions.packages)))
    written["made"] = {"versions": listed, "of": of}
    failures = {video_id: failure.to_json() for video_id, failure in index.failures.items()}
    return {
        **about,
        "format": "reelbank features 1",
        "sources": list(index.sources),
        "failures": failures,
        "written": written,
    }


def as_bytes(document: Any) -> np.ndarray:
    """JSON as a dataset."""
    return np.frombuffer(json.dumps(document).encode(), np.uint8)


def build(path: Path, datasets: Mapping[str, Any], features: Any, version: int = 3) -> None:
    """A feature file, where `datasets` may hold functions (file, name) instead of arrays, or None."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in {**datasets, "features": features}.items():
            if callable(values):
                values(file, name)
            elif values is not None:
                file[name] = values
    seal(path, version)


def seal(path: Path, version: int = 3, directory: Any = None) -> None:
    """Write the directory, the table of digests and the header, as the version has them, for
    whatever HDF5 file lies at `path`. directory: a document, or bytes, instead of the right one."""
    content = path.read_bytes()
    place = _features_place(path, len(content))
    fields: tuple[int, ...] = (0, 0, 0, 0)
    table = b""
    if version > 2:
        text = _directory(path) if directory is None else directory
        text = text if isinstance(text, bytes) else json.dumps(text).encode()
        fields = (len(content), len(text), len(content) + len(text), TREE_BLOCK_BYTES)
        content += text
    start, end = place[0] or len(content), sum(place) or len(content)
    spans = [content[512:start], *([content[end:]] if place[0] else [])]
    if version > 2:
        for span in spans:
            for first in range(0, len(span), TREE_BLOCK_BYTES):
                table += hashlib.sha256(span[first : first + TREE_BLOCK_BYTES]).digest()
    checked = hashlib.sha256(table if version > 2 else b"".join(spans)).digest()
    content += table
    whole = hashlib.sha256(content[512:]).digest()
    path.write_bytes(header(version, len(content), place, (checked, whole), fields) + content[512:])


def header(
    version: int,
    file_bytes: int,
    place: tuple[int, int],
    digests: tuple[bytes, bytes],
    fields: tuple[int, ...] = (0, 0, 0, 0),
) -> bytes:
    """The 512 bytes. fields: those of version 3."""
    block = struct.pack(
        "<8sIIQQQ32s32sQQQQ", b"REELBANK", version, 512, file_bytes, *place, *digests, *fields
    ).ljust(480, b"\0")
    return block + hashlib.sha256(block).digest()


def _features_place(path: Path, size: int) -> tuple[int, int]:
    with h5py.File(path) as file:
        if not isinstance(file.get("features", getlink=True), h5py.HardLink):
            return 0, 0
        features = file.get("features")
        if not isinstance(features, h5py.Dataset) or not features.id.get_storage_size():
            return 0, 0
        if features.id.get_create_plist().get_layout() != h5py.h5d.CONTIGUOUS:
            return 0, 0
        start, length = features.id.get_offset() or 0, features.id.get_storage_size()
        return (start, length) if start > 512 and start + length <= size else (0, 0)


def _directory(path: Path) -> dict[str, Any]:
    """What HDF5 says of each dataset; of anything else, nothing that is usable."""
    document: dict[str, Any] = {}
    with h5py.File(path) as file:
        for name in file:
            is_hard = isinstance(file.get(name, getlink=True), h5py.HardLink)
            dataset = file.get(name) if is_hard else None
            if not isinstance(dataset, h5py.Dataset):
                document[name] = [0, "", []]
                continue
            layout = dataset.id.get_create_plist().get_layout()
            is_placed = layout == h5py.h5d.CONTIGUOUS and dataset.size
            start = dataset.id.get_offset() if is_placed else 0
            document[name] = [start or 0, dataset.dtype.str, list(dataset.shape or ())]
    return document
