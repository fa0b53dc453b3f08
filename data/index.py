"""What a feature file says about its features: the index, to and from HDF5 datasets."""

import datetime
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from reelbank.data import hdf5
from reelbank.data.errors import InputError
from reelbank.data.made import Versions, current_versions, installed_version, versions_from_json, versions_to_json
from reelbank.data.recipe import canonical, signature

FORMAT = "reelbank features 1"
DTYPES = (np.dtype("<f2"), np.dtype("u1"))  # of features: numbers, or pictures and flow maps
PART_NAMES = ("", "train", "test")  # codes 0, 1, 2 of /parts
ABSENT = "no sound: "  # begins the reason of a video whose sound is not there: a fact, no failure
_NAMES = {"features", "offsets", "times_seconds", "views", "video_ids", "labels", "groups", "parts", "checksums", "about"}


@dataclass(frozen=True)
class Index:
    """Everything in a feature file but the features. V videos, R rows in all, S splits."""

    video_ids: list[str]
    labels: list[str]  # class names, "" unlabelled; multi-label: names joined by ";", "" for none
    groups: list[str]
    parts: list[list[str]]  # (V, S) of "", "train", "test"
    offsets: np.ndarray  # (V + 1,) int64
    times_seconds: np.ndarray  # (R,) float64
    views: np.ndarray  # (R,) uint8, 0 a clean row, n one of the n-th augmented view
    checksums: np.ndarray  # (V,) uint64, xxh3 of the bytes of each video's rows
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]  # one of DTYPES
    about: dict[str, Any]

    @functools.cached_property
    def has_views(self) -> bool:
        """Whether any row is one of an augmented view."""
        return bool(self.views.any())

    @functools.cached_property
    def clean_rows(self) -> np.ndarray:
        """(V,) int64: how many of each video's rows are clean; they are its first."""
        if not self.has_views:
            return np.diff(self.offsets)
        return np.add.reduceat(self.views == 0, self.offsets[:-1], dtype=np.int64)

    @functools.cached_property
    def versions(self) -> list[Versions]:
        """(V,) what each video was made with; empty ones where the file does not say."""
        return versions_from_json(self.about["written"].get("made"), len(self.video_ids))


def are_views(views: np.ndarray, offsets: np.ndarray) -> bool:
    """Whether each video's `views` (R,) begin with clean rows (0) and go on view by view, none left out."""
    if not views.any():
        return True
    steps = np.diff(views.astype(np.int16), prepend=0)  # (R,)
    firsts = offsets[:-1]
    steps[firsts] = 0
    return not views[firsts].any() and bool(((steps == 0) | (steps == 1)).all())


def is_absence(reason: str) -> bool:
    """Whether the reason of a failure tells a fact: the video has no sound to extract from."""
    return reason.startswith(ABSENT)


def label_names(label: str, dataset: dict[str, Any]) -> list[str]:
    """The classes of a video from its label: at most one, or any number in a multi-label data set."""
    if not label:
        return []
    return label.split(";") if dataset.get("multilabel", False) else [label]


def check_classes(dataset: dict[str, Any]) -> None:
    """Raises InputError for a class of a multi-label data set whose name holds the separator of labels."""
    for name in dataset["classes"] if dataset.get("multilabel", False) else ():
        if ";" in name or not name:
            raise InputError(f"class {name!r}: ';' joins the classes of a multi-label video; give the class another name")


def identity(recipe: dict[str, Any], dataset_name: str) -> str:
    """What a store is: SHA-256 of the resolved recipe and the data set's name, 64 hex digits."""
    return signature({"dataset": dataset_name, "recipe": recipe})


def make_about(
    recipe: dict[str, Any],
    dataset: dict[str, Any],
    sources: list[dict[str, Any]],
    failures: dict[str, dict[str, Any]],
    *,
    cost: dict[str, Any],
    versions: Sequence[Versions],
) -> dict[str, Any]:
    """What /about holds, with who wrote it and when. cost: as of `StoreWriter`; versions: what each video was made with."""
    return {
        "format": FORMAT,
        "identity": identity(recipe, dataset["name"]),
        "recipe": recipe,
        "dataset": dataset,
        "sources": sources,
        "failures": failures,
        "written": {
            **dict(current_versions().packages),
            "h5py": installed_version("h5py"),
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "cost": cost,
            "made": versions_to_json(versions),
        },
    }


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
        "views": index.views.astype(np.uint8),
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
    axes_of = {
        "offsets": ("<i8", 1),
        "times_seconds": ("<f8", 1),
        "views": ("|u1", 1),
        "parts": ("|u1", 2),
        "checksums": ("<u8", 1),
    }
    for name, (dtype, axes) in axes_of.items():
        _require(found[name].dtype == np.dtype(dtype) and found[name].ndim == axes, f"/{name} is not {dtype} with {axes} axes")
    _require(features.dtype in DTYPES and features.ndim >= 2, "/features is not float16 or uint8 with two axes or more")
    found_place = (features.id.get_offset(), features.id.get_storage_size()) if not compressed and features.size else (0, 0)
    _require(found_place == place, "/features does not lie where the header says")
    offsets, times_seconds, views = found["offsets"][:], found["times_seconds"][:], found["views"][:]
    ids = hdf5.strings(found["video_ids"])
    videos, rows = len(ids), len(features)
    _require(bool(features.size) or not rows, "/features has rows of no size")
    _require(len(offsets) == videos + 1 and offsets[0] == 0 and offsets[-1] == rows, "/offsets do not fit the features")
    _require(bool((np.diff(offsets) > 0).all()), "/offsets do not rise")
    _require(len(times_seconds) == rows and bool(np.isfinite(times_seconds).all()), "/times_seconds do not fit the features")
    _require(len(views) == rows and are_views(views, offsets), "/views do not fit the features")
    _require(len(set(ids)) == videos, "/video_ids are not unique")
    about = _parse_about(found["about"], videos)
    names = [*ids, *about["failures"]]
    if _is_bad(f"/{'/0/'.join(names)}/") or any("\0" in name for name in names):  # all at once: there may be a million
        for name in names:
            check_id(name)
    dataset = about["dataset"]
    labels, groups, codes = hdf5.strings(found["labels"]), hdf5.strings(found["groups"]), found["parts"][:]
    _require(len(labels) == len(groups) == videos == len(found["checksums"]), "its tables are not equally long")
    check_classes(dataset)
    labelled = {name for label in set(labels) for name in label_names(label, dataset)}
    _require(labelled <= set(dataset["classes"]), "/labels names a class that is not listed")
    _require(codes.shape == (videos, len(dataset["splits"])), "/parts does not fit the splits")
    _require(not codes.size or int(codes.max()) < len(PART_NAMES), "/parts holds an unknown code")
    parts = [[PART_NAMES[code] for code in row] for row in codes.tolist()]
    index = Index(
        video_ids=ids,
        labels=labels,
        groups=groups,
        parts=parts,
        offsets=offsets,
        times_seconds=times_seconds,
        views=views,
        checksums=found["checksums"][:],
        row_shape=features.shape[1:],
        dtype=features.dtype,
        about=about,
    )
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
    dataset_kinds = {"name": str, "classes": list, "splits": list, "coarse": dict, "multilabel": bool}
    _require(_has({"multilabel": False, **data}, dataset_kinds), "/about: dataset is not one")
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
