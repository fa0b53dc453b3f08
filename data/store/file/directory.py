"""The directory of a feature file of version 3: where its columns are; and the index made of them.

HDF5 describes the same places, but we do not need it for reading: its library parses only files
whose bytes were all checked, and compressed features.
"""

import functools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import h5py
import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.identity import canonical, reject_constant
from reelbank.data.store.file.about import (
    VideoFacts,
    failure_fault,
    ids_fault,
    parse_about,
    source_fault,
)
from reelbank.data.store.file.columns import (
    CHUNK,
    Coded,
    JsonTexts,
    Numbers,
    Place,
    Texts,
)
from reelbank.data.store.file.hdf5_checks import MOST_EXPANSION, UnsafeFile, links, plain
from reelbank.data.store.file.header import DamagedFile
from reelbank.data.store.file.index import DTYPES, PART_NAMES, Index
from reelbank.data.store.file.keys import Keys, key_hash
from reelbank.data.store.file.tree import CheckedFile
from reelbank.data.store.records import DatasetDescription, Failure
from reelbank.data.store.versions import NOT_RECORDED, Versions

# Type and number of axes of the columns of numbers, but for the features.
_NUMBERS = {
    "about": ("|u1", 1),
    "offsets": ("<i8", 1),
    "times_seconds": ("<f8", 1),
    "views": ("|u1", 1),
    "parts": ("|u1", 2),
    "checksums": ("<u8", 1),
    "versions": ("<u4", 1),
    "sources": ("|u1", 1),
    "source_offsets": ("<i8", 1),
    "failures": ("|u1", 1),
    "failure_offsets": ("<i8", 1),
    "key_hashes": ("<u8", 1),
    "key_numbers": ("<u4", 1),
}
_TEXTS = {"video_ids", "labels", "groups", "failure_ids"}
_NAMES = {"features", *_NUMBERS, *_TEXTS}
_MOST_DIRECTORY_BYTES = 1 << 16
_MOST_AXES = 32  # the most of HDF5
_MOST_ABOUT_BYTES = 1 << 28


def to_directory(places: Mapping[str, Place]) -> bytes:
    """The JSON text that a file keeps: {name: [first byte, type, shape]}; the first byte is 0 where a
    column has no bytes, or is compressed."""
    return canonical(
        {name: [place.start, place.dtype.str, list(place.shape)] for name, place in places.items()}
    ).encode()


def read_places(file: CheckedFile) -> dict[str, Place]:
    """The place of each column of an untrusted file, all of which lie in the file. Raises DamagedFile
    and UnreadableFile."""
    header = file.header
    file.require(header.directory_bytes <= _MOST_DIRECTORY_BYTES, "its directory is too long")
    text = file.read(header.directory_start, header.directory_start + header.directory_bytes)
    try:
        document = json.loads(text.tobytes(), parse_constant=reject_constant)
    except (ValueError, RecursionError):
        document = None
    file.require(isinstance(document, dict), "its directory is not valid JSON")
    names = sorted(map(str, document))
    file.require(
        set(names) == _NAMES,
        f"must contain the datasets {', '.join(sorted(_NAMES))} (got {', '.join(names)[:200]})",
    )
    return {name: _place(file, name, document[name]) for name in names}


def _place(file: CheckedFile, name: str, entry: Any) -> Place:
    is_entry = isinstance(entry, list) and [type(value) for value in entry] == [int, str, list]
    file.require(is_entry, f"its directory says nothing usable about /{name}")
    start, type_name, shape = entry
    file.require(
        all(type(size) is int and size >= 0 for size in shape),
        f"its directory has an impossible shape of /{name}",
    )
    if name == "features":
        is_type = type_name in [dtype.str for dtype in DTYPES] and 2 <= len(shape) <= _MOST_AXES
        file.require(is_type, f"/features must be float16 or uint8, with 2 to {_MOST_AXES} axes")
    elif name in _TEXTS:
        is_text = re.fullmatch(r"\|S[1-9]\d{0,7}", type_name, re.ASCII) is not None
        is_type = is_text and len(shape) == 1
        file.require(is_type, f"/{name} must be a list of fixed-length strings")
    else:
        dtype, axes = _NUMBERS[name]
        is_type = type_name == dtype and len(shape) == axes
        file.require(is_type, f"/{name} must be {dtype} with {axes} axes")
    place = Place(start, np.dtype(type_name), tuple(shape))
    if name != "features":
        column_bytes = place.dtype.itemsize * math.prod(shape)
        is_inside = file.holds(start, start + column_bytes) if column_bytes else start == 0
        file.require(is_inside, f"/{name} extends beyond the end of the file")
    return place


def _check_features(file: CheckedFile, place: Place) -> bool:
    """Whether the features are compressed."""
    header, numbers = file.header, math.prod(place.shape)
    file.require(numbers or not place.shape[0], "/features has empty rows")
    features_bytes = numbers * place.dtype.itemsize
    is_compressed = bool(numbers) and not header.features_bytes
    in_file = (place.start, 0 if is_compressed else features_bytes)
    file.require(
        in_file == (header.features_start, header.features_bytes),
        "/features is not at the position that the header states",
    )
    # What is read is allocated first.
    file.require(
        features_bytes <= MOST_EXPANSION * header.file_bytes,
        f"/features declares {features_bytes} bytes, but the whole file has {header.file_bytes}",
    )
    return is_compressed


def read_index(file: CheckedFile) -> tuple[Index, bool]:
    """The index of an untrusted file, whose columns are read when they are used, and whether its
    features are compressed. Raises DamagedFile and UnreadableFile."""
    places = read_places(file)
    is_compressed = _check_features(file, places["features"])
    file.require(places["about"].shape[0] <= _MOST_ABOUT_BYTES, "/about is too long")
    text = np.asarray(Numbers(file, places["about"])).tobytes()
    try:
        about, made = parse_about(text)
    except (UnsafeFile, InputError) as error:
        raise DamagedFile(f"{file.path}: {error}") from None
    splits = about.dataset.splits
    _check_lengths(file, places, len(splits))
    columns = {
        name: Numbers(file, place, _check_of(name, places))
        for name, place in places.items()
        if name != "features"
    }
    label_check = functools.partial(_labels_fault, about.dataset, frozenset(about.dataset.classes))
    ids = Texts("video_ids", columns["video_ids"], ids_fault, repeats=False)
    failure_ids = Texts("failure_ids", columns["failure_ids"], ids_fault, repeats=False)
    videos = len(ids)
    keys = Keys(
        columns["key_hashes"],
        columns["key_numbers"],
        videos,
        lambda number: ids[number] if number < videos else failure_ids[number - videos],
    )
    failures = JsonTexts("failures", columns["failures"], columns["failure_offsets"], failure_fault)
    index = Index(
        video_ids=ids,
        labels=Texts("labels", columns["labels"], label_check),
        groups=Texts("groups", columns["groups"]),
        parts=Coded(columns["parts"], lambda row: tuple(PART_NAMES[code] for code in row)),
        offsets=columns["offsets"],
        times_seconds=columns["times_seconds"],
        views=columns["views"],
        checksums=columns["checksums"],
        row_shape=places["features"].shape[1:],
        dtype=places["features"].dtype,
        about=about,
        facts=VideoFacts(
            JsonTexts("sources", columns["sources"], columns["source_offsets"], source_fault),
            Coded(columns["versions"], functools.partial(_version, made)),
            FileFailures(failure_ids, failures, keys),
        ),
        keys=keys,
    )
    return index, is_compressed


def _version(made: Sequence[Versions], code: int) -> Versions:
    return made[code] if code < len(made) else NOT_RECORDED


def _check_lengths(file: CheckedFile, places: Mapping[str, Place], splits: int) -> None:
    length = {name: place.shape[0] for name, place in places.items()}
    videos, failed, rows = length["video_ids"], length["failure_ids"], length["features"]
    of_videos = ("labels", "groups", "checksums", "versions", "parts")
    is_right = all(length[name] == videos for name in of_videos)
    is_right &= length["key_hashes"] == length["key_numbers"] == videos + failed
    is_right &= length["source_offsets"] == videos + 1
    is_right &= length["failure_offsets"] == failed + 1
    file.require(is_right, "its tables must have the same length")
    file.require(length["offsets"] == videos + 1, "/offsets does not fit the features")
    file.require(
        length["times_seconds"] == rows, "/times_seconds must have one finite time per row"
    )
    file.require(length["views"] == rows, "/views does not fit the features")
    file.require(places["parts"].shape[1] == splits, "/parts does not fit the splits")


def _check_of(name: str, places: Mapping[str, Place]) -> Any:
    """What a column's values are checked with when they are read."""
    rows = places["features"].shape[0]
    keys = places["key_numbers"].shape[0]
    if name == "offsets":
        return lambda values: _offsets_fault(values, rows)
    if name == "times_seconds":
        fault = "/times_seconds must have one finite time per row"
        return lambda values: "" if np.isfinite(values).all() else fault
    if name == "parts":
        return lambda values: (
            "" if values.max() < len(PART_NAMES) else "/parts contains an unknown code"
        )
    if name == "key_numbers":
        return lambda values: "" if values.max() < keys else "/key_numbers has unknown numbers"
    return None


def _offsets_fault(values: np.ndarray, rows: int) -> str:
    if not (np.diff(values) > 0).all():
        return "/offsets must increase"
    is_inside = values[0] >= 0 and values[-1] <= rows
    return "" if is_inside else "/offsets does not fit the features"


def _labels_fault(
    dataset: DatasetDescription, classes: frozenset[str], labels: Sequence[str]
) -> str:
    for label in labels:
        if not classes.issuperset(dataset.label_names(label)):
            return "/labels contains a class that is not listed"
    return ""


class FileFailures(Mapping[str, Failure]):
    """The failures of a file by id. One of them is found without reading all."""

    def __init__(self, ids: Texts, facts: JsonTexts, keys: Keys) -> None:
        self._ids, self._facts, self._keys = ids, facts, keys

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __getitem__(self, video_id: str) -> Failure:
        number = self._keys.find_failure(video_id) if len(self) else None
        if number is None:
            raise KeyError(video_id)
        return Failure.from_json(self._facts[number])

    def items(self) -> Any:
        """All pairs, read once and in order."""
        failures = map(Failure.from_json, self._facts)
        by_id = dict(zip(self._ids, failures, strict=True))
        self._facts.file.require(len(by_id) == len(self), "/failure_ids must be unique")
        return by_id.items()

    def values(self) -> Any:
        """All failures, in order."""
        return dict(self.items()).values()


def check_columns(file: CheckedFile, index: Index) -> None:
    """Check every byte and every value of an index, as each use checks only what it reads. Raises
    DamagedFile and UnreadableFile."""
    file.check_all()
    first_row, last_row = int(index.offsets[0]), int(index.offsets[-1])
    file.require(
        (first_row, last_row) == (0, index.row_count), "/offsets does not fit the features"
    )
    for _ in index.all_rows():
        pass
    if isinstance(index.sources, JsonTexts):
        index.sources.lengths()  # they must fill their place, or the file could not be merged
    for column in (index.labels, index.groups, index.parts, index.sources):
        for _ in column:
            pass
    check_keys(file, index)
    index.failures.items()  # reads all of them


def check_keys(file: CheckedFile, index: Index) -> np.ndarray:
    """Check that the table of hashes finds every video and every failure, and no id occurs twice.
    Returns the hashes of the videos, (V,) uint64. Raises DamagedFile and UnreadableFile."""
    keys = index.keys
    assert keys
    hashes, numbers = keys.tables()
    file.require((hashes[:-1] <= hashes[1:]).all(), "/key_hashes must not decrease")
    is_there = np.zeros(len(numbers), bool)
    is_there[numbers] = True
    file.require(is_there.all(), "/key_numbers must contain every number")
    by_number = np.empty(len(numbers), np.uint64)
    by_number[numbers] = hashes
    first = 0
    for column in (index.video_ids, list(index.failures)):
        for low in range(0, len(column), CHUNK):
            ids = column[low : low + CHUNK]
            own = np.fromiter(map(key_hash, ids), np.uint64, len(ids))
            is_right = np.array_equal(by_number[first : first + len(ids)], own)
            file.require(is_right, "/key_hashes does not fit the ids")
            first += len(ids)
    for position in np.flatnonzero(hashes[:-1] == hashes[1:]).tolist():
        keys.find(keys.id_of(int(numbers[position])))
    return by_number[: len(index)].copy()


def check_hdf5(file: CheckedFile, opened: h5py.File) -> None:
    """Check that HDF5 says of the datasets what the directory says. Raises DamagedFile, UnsafeFile and
    ERRORS of hdf5_checks."""
    places = read_places(file)
    kinds = dict(links(opened))
    names = ", ".join(sorted(_NAMES))
    file.require(
        kinds == dict.fromkeys(sorted(_NAMES), h5py.Dataset),
        f"must contain the datasets {names} (got {', '.join(sorted(opened))[:200]})",
    )
    for name, place in places.items():
        dataset = plain(opened, name, file.header.file_bytes)
        is_placed = dataset.chunks is None and dataset.size
        start = dataset.id.get_offset() if is_placed else 0
        in_hdf5 = Place(start, np.dtype(dataset.dtype.str), dataset.shape)
        file.require(in_hdf5 == place, f"/{name} is not what the directory states")
