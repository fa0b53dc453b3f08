"""An HDF5 file with one dataset per video, as `export FORMAT=hdf5` or another tool writes it. Our own
exports have times, frame rate and labels as attributes of the datasets."""

from collections.abc import Mapping

import h5py
import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.store.exchange.about import parse_export_about
from reelbank.data.store.exchange.attributes import (
    ABOUT,
    decoded,
    read_attribute,
    read_text_attribute,
)
from reelbank.data.store.exchange.source import Recorded, Rows, Source
from reelbank.data.store.file.hdf5_checks import UnsafeFile
from reelbank.data.store.records import StoredVideo


def datasets_source(
    file: h5py.File, datasets: Mapping[str, h5py.Dataset], file_bytes: int
) -> Source:
    """The videos of these datasets, by name. Raises UnsafeFile for attributes that cannot be read."""
    videos = list(datasets.values())
    about = read_text_attribute(file, ABOUT, file_bytes)
    recorded = None
    if about is not None:
        recipe, dataset = parse_export_about(about)
        stored = [_stored(name, video, file_bytes) for name, video in datasets.items()]
        recorded = Recorded(dataset, stored, recipe)
    return Source(
        "HDF5 dataset per video",
        [(name,) for name in datasets],
        lambda number: _read_rows(videos[number], file_bytes, timed=recorded is not None),
        timed=recorded is not None,
        recorded=recorded,
    )


def _stored(name: str, dataset: h5py.Dataset, file_bytes: int) -> StoredVideo:
    parts = read_attribute(dataset, "parts", file_bytes)
    if parts is None:
        parts = np.empty(0, "S1")
    if parts.dtype.kind != "S" or parts.ndim != 1:
        raise UnsafeFile(f"/{name}: the attribute parts must be a list of texts")
    return StoredVideo(
        id=name,
        label=read_text_attribute(dataset, "label", file_bytes) or "",
        group=read_text_attribute(dataset, "group", file_bytes) or "",
        parts=[decoded(part, "the attribute parts") for part in parts.tolist()],
        source={"bytes": 0},
    )


def _read_rows(dataset: h5py.Dataset, file_bytes: int, *, timed: bool) -> Rows:
    if not timed:
        return Rows(dataset[()])
    try:
        times_seconds = read_attribute(dataset, "times_seconds", file_bytes)
        rate = read_attribute(dataset, "fps", file_bytes)
    except UnsafeFile as error:
        raise InputError(str(error)) from None
    if times_seconds is None:
        raise InputError("its attribute times_seconds is missing")
    fps = 0.0
    if rate is not None:
        if rate.size != 1 or rate.dtype.kind not in "fiu" or not 0 < float(rate) < np.inf:
            raise InputError("its attribute fps must be one number, the frames per second")
        fps = float(rate)
    return Rows(dataset[()], times_seconds, fps)
