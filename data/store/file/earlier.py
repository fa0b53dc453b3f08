"""The index of a feature file of format version 1 or 2. It is read as a whole when the file is opened,
after its digest was checked."""

import h5py
import numpy as np

from reelbank.data.store.file.about import check_ids, parse_earlier_about, require
from reelbank.data.store.file.hdf5_checks import UnsafeFile, links, plain, strings
from reelbank.data.store.file.index import DTYPES, EARLIER_PART_NAMES, Index, are_views

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


def read_earlier_index(
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
    about, facts = parse_earlier_about(datasets["about"][:].tobytes(), videos)
    check_ids([*video_ids, *facts.failures])
    labels, groups = strings(datasets["labels"]), strings(datasets["groups"])
    checksums, codes = datasets["checksums"][:], datasets["parts"][:]
    require(
        len(labels) == len(groups) == videos == len(checksums),
        "its tables must have the same length",
    )
    labelled: set[str] = set()
    for label in set(labels):
        labelled.update(about.dataset.label_names(label))
    require(labelled <= set(about.dataset.classes), "/labels contains a class that is not listed")
    require(codes.shape == (videos, len(about.dataset.splits)), "/parts does not fit the splits")
    require(
        not codes.size or int(codes.max()) < len(EARLIER_PART_NAMES),
        "/parts contains an unknown code",
    )
    index = Index(
        video_ids=video_ids,
        labels=labels,
        groups=groups,
        parts=[tuple(EARLIER_PART_NAMES[code] for code in row) for row in codes.tolist()],
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
