"""What a feature file says about its features: the index, to and from HDF5 datasets."""

import datetime
import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from reelbank.data import hdf5
from reelbank.data.errors import InputError
from reelbank.data.recipe import canonical, signature

FORMAT = "reelbank features 1"
PART_NAMES = ("", "train", "test")  # codes 0, 1, 2 of /parts
_NAMES = {"features", "offsets", "times_seconds", "video_ids", "labels", "groups", "parts", "checksums", "about"}


@dataclass(frozen=True)
class Index:
    """Everything in a feature file but the features. V videos, R rows in all, S splits."""

    video_ids: list[str]
    labels: list[str]  # class names, "" unlabelled
    groups: list[str]
    parts: list[list[str]]  # (V, S) of "", "train", "test"
    offsets: np.ndarray  # (V + 1,) int64
    times_seconds: np.ndarray  # (R,) float64
    checksums: np.ndarray  # (V,) uint64, xxh3 of each video's float16 bytes
    row_shape: tuple[int, ...]
    about: dict[str, Any]


def identity(recipe: dict[str, Any], dataset_name: str) -> str:
    """What a store is: SHA-256 of the resolved recipe and the data set's name, 64 hex digits."""
    return signature({"dataset": dataset_name, "recipe": recipe})


def make_about(
    recipe: dict[str, Any], dataset: dict[str, Any], sources: list[dict[str, Any]], failures: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """What /about holds, with who wrote it and when."""
    return {
        "format": FORMAT,
        "identity": identity(recipe, dataset["name"]),
        "recipe": recipe,
        "dataset": dataset,
        "sources": sources,
        "failures": failures,
        "written": {
            **{name: _version(name) for name in ("reelbank", "torch", "h5py", "numpy")},
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        },
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def check_id(video_id: str) -> None:
    """Ids become file names on export. Raises InputError for one that could reach elsewhere, or is not valid text."""
    if _is_bad(f"/{video_id}/") or "\0" in video_id:
        raise InputError(f"video id {video_id!r}: must be a relative path with '/', without '.' and '..'; rename the file")


def _is_bad(framed: str) -> bool:
    try:
        framed.encode()
    except UnicodeEncodeError:
        return True
    return "//" in framed or "/./" in framed or "/../" in framed


def arrays(index: Index) -> dict[str, np.ndarray]:
    """The file's datasets by name, all but the features."""
    codes = [[PART_NAMES.index(part) for part in parts] for parts in index.parts]
    splits = len(index.about["dataset"]["splits"])
    return {
        "offsets": index.offsets.astype("<i8"),
        "times_seconds": index.times_seconds.astype("<f8"),
        "video_ids": _fixed(index.video_ids),
        "labels": _fixed(index.labels),
        "groups": _fixed(index.groups),
        "parts": np.array(codes, np.uint8).reshape(len(index.video_ids), splits),
        "checksums": index.checksums.astype("<u8"),
        "about": np.frombuffer(canonical(index.about).encode(), np.uint8),
    }


def _fixed(texts: list[str]) -> np.ndarray:
    try:
        encoded = [text.encode("utf-8") for text in texts]
    except UnicodeEncodeError as error:
        raise InputError(f"{error.object!r} is not UTF-8; rename the file") from None
    length = max([1, *map(len, encoded)])
    return np.array(encoded, f"S{length}").astype(h5py.string_dtype("utf-8", length))


def parse_index(file: h5py.File, file_bytes: int, place: tuple[int, int]) -> tuple[Index, bool]:
    """The index of an open file of `file_bytes`, whose header puts the features at `place` (start, bytes; zeros when
    compressed), and whether they are compressed. Raises hdf5.UnsafeFile, InputError (an id), or one of hdf5.ERRORS."""
    if dict(hdf5.links(file)) != dict.fromkeys(_NAMES, h5py.Dataset):
        raise hdf5.UnsafeFile(f"holds {', '.join(sorted(file))[:200]} where the datasets {', '.join(sorted(_NAMES))} belong")
    found = {name: hdf5.plain(file, name, file_bytes) for name in sorted(_NAMES)}
    features = found["features"]
    compressed = features.chunks is not None
    for name, dtype, axes in (("offsets", "<i8", 1), ("times_seconds", "<f8", 1), ("parts", "|u1", 2), ("checksums", "<u8", 1)):
        _require(found[name].dtype == np.dtype(dtype) and found[name].ndim == axes, f"/{name} is not {dtype} with {axes} axes")
    _require(features.dtype == np.dtype("<f2") and features.ndim >= 2, "/features is not float16 with two axes or more")
    found_place = (features.id.get_offset(), features.id.get_storage_size()) if not compressed and features.size else (0, 0)
    _require(found_place == place, "/features does not lie where the header says")
    offsets, times_seconds = found["offsets"][:], found["times_seconds"][:]
    ids = hdf5.strings(found["video_ids"])
    videos, rows = len(ids), len(features)
    _require(bool(features.size) or not rows, "/features has rows of no size")
    _require(len(offsets) == videos + 1 and offsets[0] == 0 and offsets[-1] == rows, "/offsets do not fit the features")
    _require(bool((np.diff(offsets) > 0).all()), "/offsets do not rise")
    _require(len(times_seconds) == rows and bool(np.isfinite(times_seconds).all()), "/times_seconds do not fit the features")
    _require(len(set(ids)) == videos, "/video_ids are not unique")
    about = _parse_about(found["about"], videos)
    names = [*ids, *about["failures"]]
    if _is_bad(f"/{'/0/'.join(names)}/") or any("\0" in name for name in names):  # all at once: there may be a million
        for name in names:
            check_id(name)
    dataset = about["dataset"]
    labels, groups, codes = hdf5.strings(found["labels"]), hdf5.strings(found["groups"]), found["parts"][:]
    _require(len(labels) == len(groups) == videos == len(found["checksums"]), "its tables are not equally long")
    _require(set(labels) <= {"", *dataset["classes"]}, "/labels names a class that is not listed")
    _require(codes.shape == (videos, len(dataset["splits"])), "/parts does not fit the splits")
    _require(not codes.size or int(codes.max()) < len(PART_NAMES), "/parts holds an unknown code")
    parts = [[PART_NAMES[code] for code in row] for row in codes.tolist()]
    index = Index(ids, labels, groups, parts, offsets, times_seconds, found["checksums"][:], features.shape[1:], about)
    return index, compressed


def _require(condition: bool, line: str) -> None:
    if not condition:
        raise hdf5.UnsafeFile(line)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _parse_about(dataset: h5py.Dataset, videos: int) -> dict[str, Any]:
    _require(dataset.dtype == np.uint8 and dataset.ndim == 1, "/about is not JSON text")
    try:
        about = json.loads(dataset[:].tobytes(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise hdf5.UnsafeFile(f"/about is not JSON text ({error})") from None
    kinds = {
        "format": str, "identity": str, "recipe": dict, "dataset": dict, "sources": list, "failures": dict, "written": dict
    }  # fmt: skip
    _require(_has(about, kinds), "/about does not hold what it should")
    data = about["dataset"]
    _require(_has(data, {"name": str, "classes": list, "splits": list, "coarse": dict}), "/about: dataset is not one")
    listed = [data["classes"], data["splits"], *data["coarse"].values()]
    _require(
        all(isinstance(names, list) and all(isinstance(n, str) for n in names) for names in listed),
        "/about: names are not text",
    )
    _require(len(about["sources"]) == videos, "/about: sources do not fit the videos")
    _require(
        {type(source) for source in about["sources"]} <= {dict}
        and {type(source.get("bytes", 0)) for source in about["sources"]} <= {int},
        "/about: a source is not one",
    )
    failures = about["failures"].values()
    _require(all(_has(failure, {"reason": str, "bytes": int}) for failure in failures), "/about: a failure is not one")
    _require(about["format"] == FORMAT, f"/about: format {about['format']!r} is not {FORMAT!r}")
    _require(about["identity"] == identity(about["recipe"], data["name"]), "/about: the identity is not that of the recipe")
    return about


def _has(value: Any, kinds: Mapping[str, type]) -> bool:
    return isinstance(value, dict) and value.keys() == kinds.keys() and all(isinstance(value[key], kinds[key]) for key in kinds)
