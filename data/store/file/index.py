"""The index of a feature file: everything in it except the features, to and from HDF5 datasets."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.store.file.about import (
    About,
    VideoFacts,
    check_ids,
    parse_about,
    require,
    to_text,
)
from reelbank.data.store.file.hdf5_checks import UnsafeFile, links, plain, strings
from reelbank.data.store.records import Failure
from reelbank.data.store.versions import Versions

DTYPES = (np.dtype("<f2"), np.dtype("u1"))  # of features: numbers, or pictures and flow maps
PART_NAMES = ("", "train", "test")  # codes 0, 1, 2 of /parts
# Type and number of axes of the datasets of numbers, but for the features.
_TABLES = {
    "offsets": ("<i8", 1),
    "times_seconds": ("<f8", 1),
    "views": ("|u1", 1),
    "parts": ("|u1", 2),
    "checksums": ("<u8", 1),
    "about": ("|u1", 1),
}
_DATASETS = {"features", "video_ids", "labels", "groups", *_TABLES}


@dataclass(frozen=True)
class Index:
    """Everything in a feature file except the features: V videos, R rows in total, S splits.

    A video has a number, its position in the file: 0 to V - 1. What is known about one video is
    read by its number (`label(number)`), and its number is found by its id (`find`).

    video_ids, labels, groups: (V,), see StoredVideo. parts: (V, S) of PART_NAMES. offsets: (V + 1,)
    int64, first row of each video. times_seconds: (R,) float64. views: (R,) uint8, 0 for a clean
    row, n for a row of the n-th augmented view. checksums: (V,) uint64, xxh3 of the bytes of each
    video's rows. dtype: of the rows, one of DTYPES. facts: sources, versions and failures.
    """

    video_ids: list[str]
    labels: list[str]
    groups: list[str]
    parts: Sequence[Sequence[str]]
    offsets: np.ndarray
    times_seconds: np.ndarray
    views: np.ndarray
    checksums: np.ndarray
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    about: About
    facts: VideoFacts

    def __len__(self) -> int:
        """Number of videos."""
        return len(self.video_ids)

    @functools.cached_property
    def _number_of(self) -> dict[str, int]:
        return {video_id: number for number, video_id in enumerate(self.video_ids)}

    def find(self, video_id: str) -> int | None:
        """The number of a video in this file; None if the file does not have it."""
        return self._number_of.get(video_id)

    def find_failure(self, video_id: str) -> Failure | None:
        """Why a video has no features; None if the file records no failure of it."""
        return self.facts.failures.get(video_id)

    @property
    def failures(self) -> Mapping[str, Failure]:
        """Why videos have no features, by id."""
        return self.facts.failures

    def video_id(self, number: int) -> str:
        """The id of a video."""
        return self.video_ids[number]

    def label(self, number: int) -> str:
        """The label of a video, see StoredVideo."""
        return self.labels[number]

    def group(self, number: int) -> str:
        """The group of a video, "" if it is unknown."""
        return self.groups[number]

    def parts_of(self, number: int) -> tuple[str, ...]:
        """The part of a video in each of the file's splits."""
        return tuple(self.parts[number])

    def source(self, number: int) -> Mapping[str, Any]:
        """Facts about the file of a video."""
        return self.facts.sources[number]

    def version(self, number: int) -> Versions:
        """What a video was made with; empty if the file does not say."""
        return self.facts.versions[number]

    @property
    def sources(self) -> Sequence[Mapping[str, Any]]:
        """(V,) facts about the video files."""
        return self.facts.sources

    @property
    def versions(self) -> Sequence[Versions]:
        """(V,) what each video was made with; empty ones if the file does not say."""
        return self.facts.versions

    def rows_of(self, number: int) -> slice:
        """The rows of a video, views included."""
        return slice(int(self.offsets[number]), int(self.offsets[number + 1]))

    @functools.cached_property
    def has_views(self) -> bool:
        """Whether any row belongs to an augmented view."""
        return bool(self.views.any())

    @functools.cached_property
    def clean_rows(self) -> np.ndarray:
        """(V,) int64: how many of each video's rows are clean; they are its first."""
        if not self.has_views:
            return np.diff(self.offsets)
        return np.add.reduceat(self.views == 0, self.offsets[:-1], dtype=np.int64)


def are_views(views: np.ndarray, offsets: np.ndarray) -> bool:
    """Whether `views` (R,) are those of whole videos: each begins with clean rows (0), then has
    view 1, 2, ... in order, with none left out."""
    if not views.any():
        return True
    steps = np.diff(views.astype(np.int16), prepend=0)  # (R,)
    firsts = offsets[:-1]
    steps[firsts] = 0
    return not views[firsts].any() and bool(((steps == 0) | (steps == 1)).all())


def arrays(index: Index) -> dict[str, np.ndarray]:
    """The file's datasets by name, all but the features."""
    codes = [[PART_NAMES.index(part) for part in parts] for parts in index.parts]
    splits = len(index.about.dataset.splits)
    return {
        "offsets": index.offsets.astype("<i8"),
        "times_seconds": index.times_seconds.astype("<f8"),
        "views": index.views.astype(np.uint8),
        "video_ids": _fixed_length(index.video_ids),
        "labels": _fixed_length(index.labels),
        "groups": _fixed_length(index.groups),
        "parts": np.array(codes, np.uint8).reshape(len(index.video_ids), splits),
        "checksums": index.checksums.astype("<u8"),
        "about": np.frombuffer(to_text(index.about, index.facts).encode(), np.uint8),
    }


def _fixed_length(texts: list[str]) -> np.ndarray:
    try:
        encoded = [text.encode("utf-8") for text in texts]
    except UnicodeEncodeError as error:
        raise InputError(f"{error.object!r} is not valid UTF-8; rename the file") from None
    length = max([1, *map(len, encoded)])
    return np.array(encoded, f"S{length}").astype(h5py.string_dtype("utf-8", length))


def parse_index(
    file: h5py.File, file_bytes: int, place: tuple[int, int], version: int
) -> tuple[Index, bool]:
    """The index of an open, untrusted file, and whether its features are compressed.

    place: start and length in bytes of the features, as the file's header says; zeros if they are
    compressed. version: of the format. Raises UnsafeFile, InputError (an id), or one of ERRORS of
    hdf5_checks.
    """
    datasets = _checked_datasets(file, file_bytes, version)
    features = datasets["features"]
    _check_features(features, place)
    offsets, times_seconds = datasets["offsets"][:], datasets["times_seconds"][:]
    has_views = "views" in datasets
    views = datasets["views"][:] if has_views else np.zeros(len(times_seconds), np.uint8)
    video_ids = strings(datasets["video_ids"])
    videos, rows = len(video_ids), len(features)
    require(
        len(offsets) == videos + 1 and offsets[0] == 0 and offsets[-1] == rows,
        "/offsets does not fit the features",
    )
    require(bool((np.diff(offsets) > 0).all()), "/offsets must increase")
    require(
        len(times_seconds) == rows and bool(np.isfinite(times_seconds).all()),
        "/times_seconds must have one finite time per row",
    )
    require(len(views) == rows and are_views(views, offsets), "/views does not fit the features")
    require(len(set(video_ids)) == videos, "/video_ids must be unique")
    about, facts = parse_about(datasets["about"][:].tobytes(), videos)
    check_ids([*video_ids, *facts.failures])
    labels, groups = strings(datasets["labels"]), strings(datasets["groups"])
    checksums, codes = datasets["checksums"][:], datasets["parts"][:]
    require(
        len(labels) == len(groups) == videos == len(checksums),
        "its tables must have the same length",
    )
    about.dataset.check_classes()
    labelled: set[str] = set()
    for label in set(labels):
        labelled.update(about.dataset.label_names(label))
    require(labelled <= set(about.dataset.classes), "/labels contains a class that is not listed")
    require(codes.shape == (videos, len(about.dataset.splits)), "/parts does not fit the splits")
    require(not codes.size or int(codes.max()) < len(PART_NAMES), "/parts contains an unknown code")
    index = Index(
        video_ids=video_ids,
        labels=labels,
        groups=groups,
        parts=[[PART_NAMES[code] for code in row] for row in codes.tolist()],
        offsets=offsets,
        times_seconds=times_seconds,
        views=views,
        checksums=checksums,
        row_shape=features.shape[1:],
        dtype=features.dtype,
        about=about,
        facts=facts,
    )
    return index, features.chunks is not None


def _checked_datasets(file: h5py.File, file_bytes: int, version: int) -> dict[str, h5py.Dataset]:
    """The file's datasets by name, each of the right type."""
    kinds = dict(links(file))
    # The first files of version 1 have only clean rows, and no /views.
    has_views = version > 1 or "views" in kinds
    names = sorted(_DATASETS if has_views else _DATASETS - {"views"})
    if kinds != dict.fromkeys(names, h5py.Dataset):
        raise UnsafeFile(
            f"must contain the datasets {', '.join(names)} (got {', '.join(sorted(file))[:200]})"
        )
    datasets = {name: plain(file, name, file_bytes) for name in names}
    for name in sorted(_TABLES.keys() & datasets):
        dtype, axes = _TABLES[name]
        dataset = datasets[name]
        require(
            dataset.dtype == np.dtype(dtype) and dataset.ndim == axes,
            "/about is not valid JSON"
            if name == "about"
            else f"/{name} must be {dtype} with {axes} axes",
        )
    return datasets


def _check_features(features: h5py.Dataset, place: tuple[int, int]) -> None:
    require(
        features.dtype in DTYPES and features.ndim >= 2,
        "/features must be float16 or uint8, with at least two axes",
    )
    is_placed = features.chunks is None and features.size
    place_in_file = (
        (features.id.get_offset(), features.id.get_storage_size()) if is_placed else (0, 0)
    )
    require(place_in_file == place, "/features is not at the position that the header states")
    require(bool(features.size) or not len(features), "/features has empty rows")
