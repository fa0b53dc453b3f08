"""Files with features of other tools: finding their videos and reading their rows.

Layouts: an HDF5 file with `features` (V, T, ...) and `name` (V,); an HDF5 file with one dataset (T,
...) per video id, which may have times and labels as attributes; a folder with one .npy (T, ...) or
one .npz per video; the output folder of video_features; the folders of MS-TCN; a folder that
`export` wrote for another tool; Parquet files.
"""

import contextlib
import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.files import check_regular
from reelbank.data.store.exchange.arrays import read_npy
from reelbank.data.store.exchange.hdf5_datasets import datasets_source
from reelbank.data.store.exchange.mstcn_folder import is_mstcn_folder, mstcn_source
from reelbank.data.store.exchange.npz_folder import ABOUT_FILE, npz_source
from reelbank.data.store.exchange.parquet_source import parquet_source
from reelbank.data.store.exchange.sidecar import SIDECAR, sidecar_source
from reelbank.data.store.exchange.source import Rows, Source
from reelbank.data.store.exchange.video_features import VideoFiles, arranged
from reelbank.data.store.file.hdf5_checks import UnsafeFile, strings, walk

# What FILE= can be, for messages.
ACCEPTED = (
    "an HDF5 file, a .parquet file, or a folder with .npy, .npz or .parquet files, such as that of "
    "video_features, MS-TCN or 'reelbank export'"
)
_PACKED = {"features", "name"}
_ENDINGS = (".npy", ".npz", ".parquet")


@contextlib.contextmanager
def open_source(path: Path, stream: str) -> Iterator[Source]:
    """The features in a file or folder. Raises InputError for an unsafe or unreadable file."""
    files = _feature_files(path)
    if files.ending == ".parquet":
        with parquet_source(files.paths) as source:
            yield source
        return
    if path.is_dir():
        yield _folder_source(path, files, stream)
        return
    check_regular(path)
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield _hdf5_source(file, path.stat().st_size)
    except UnsafeFile as error:
        raise InputError(f"FILE={path}: {error}") from None
    except OSError as error:
        reason = f"FILE={path}: cannot be read as HDF5 ({' '.join(str(error).split())})"
        if error.errno is None and not h5py.is_hdf5(path):  # a file of another kind
            reason += f"; FILE must be {ACCEPTED}"
        raise InputError(reason) from None


@dataclass(frozen=True)
class _FeatureFiles:
    """The files that are imported, which have this ending, and how many others are not; ending "":
    a file that is not Parquet."""

    ending: str
    paths: Sequence[Path]
    others: int = 0


def _feature_files(path: Path) -> _FeatureFiles:
    """The files with features that `path` is or contains. Raises InputError for a folder of .npz and
    .parquet files, and for an export that contains other features too."""
    if not path.is_dir():
        is_parquet = path.suffix.lower() == ".parquet"
        return _FeatureFiles(".parquet" if is_parquet else "", [path])
    found = {ending: sorted(path.rglob(f"*{ending}")) for ending in _ENDINGS}
    found = {ending: paths for ending, paths in found.items() if paths}
    # Folders of .npy files often contain other files, such as averages.
    if len(found) > 1 and (".npy" not in found or (path / ABOUT_FILE).exists()):
        given = " and ".join(f"{len(paths)} {ending}" for ending, paths in found.items())
        raise InputError(
            f"FILE={path}: must contain features in either {' or '.join(found)} files (got {given}); "
            "import them from separate folders"
        )
    ending = next(iter(found), ".npy")
    paths = found.pop(ending, [])
    others = [other for each in found.values() for other in each if other != path / SIDECAR]
    return _FeatureFiles(ending, paths, len(others))


def _folder_source(path: Path, files: _FeatureFiles, stream: str) -> Source:
    # A video may have the name of the sidecar; about.json is only in a folder of .npz files.
    if (path / SIDECAR).exists() and not (path / ABOUT_FILE).exists():
        return sidecar_source(path)
    if is_mstcn_folder(path):
        return mstcn_source(path)
    if files.ending == ".npz":
        return npz_source(path, files.paths)
    source = _npy_source(path, files.paths, stream)
    if not files.others:
        return source
    note = f"{path}: the .npy files are imported; {files.others} .npz or .parquet files are not"
    return replace(source, notes=(note,))


def _npy_source(path: Path, files: Sequence[Path], stream: str) -> Source:
    names = [file.relative_to(path).with_suffix("").as_posix() for file in files]
    videos = arranged(names, stream)
    if not any(video.fps is not None or video.timestamps is not None for video in videos):
        # A tool's key at the end of every name may also be a part of the name.
        possible_names = [
            tuple(dict.fromkeys((name, video.name)))
            for name, video in zip(names, videos, strict=True)
        ]
        return Source("npy per video", possible_names, lambda number: Rows(read_npy(files[number])))
    possible_names = [(video.name, f"{video.name}_{video.key}") for video in videos]
    timed = any(video.timestamps is not None for video in videos)
    return Source(
        "video_features",
        possible_names,
        lambda number: _read_video_files(files, videos[number], timed),
        timed=timed,
        rated=any(video.fps is not None for video in videos),
    )


def _read_video_files(files: Sequence[Path], video: VideoFiles, timed: bool) -> Rows:
    """Raises InputError for files that are missing or do not fit together."""
    if video.features is None:
        raise InputError(f"its features ({video.key}) are missing; only its other files exist")
    if timed and video.timestamps is None:
        raise InputError("its _timestamps_ms.npy is missing")
    values, times_seconds, fps = read_npy(files[video.features]), None, 0.0
    if video.timestamps is not None:
        times_seconds = _numbers(files[video.timestamps]).reshape(-1) / 1000
        # Flow is between frames, so there is one row fewer than frames.
        if len(times_seconds) == len(values) + 1:
            times_seconds = times_seconds[:-1]
        if len(times_seconds) != len(values):
            raise InputError(
                f"its _timestamps_ms.npy must have one time for each of the {len(values)} "
                f"rows of features (got {len(times_seconds)})"
            )
    if video.fps is not None:
        rates = _numbers(files[video.fps])
        fps = float(rates.reshape(-1)[0]) if rates.size == 1 else math.nan
        if not 0 <= fps < math.inf:
            raise InputError("its _fps.npy must contain one number, the frames per second")
    return Rows(values, times_seconds, fps)


def _numbers(file: Path) -> np.ndarray:
    values = read_npy(file)
    if values.dtype.kind not in "fiu":
        raise InputError(f"FILE={file}: must contain numbers (got {values.dtype})")
    return values.astype(np.float64)


def _hdf5_source(file: h5py.File, file_bytes: int) -> Source:
    datasets = dict(walk(file, file_bytes))
    is_packed = datasets.keys() >= _PACKED
    for name in _PACKED if is_packed else datasets:
        if datasets[name].ndim == 0:
            raise UnsafeFile(f"/{name} must be an array of features (got a single value)")
    if not is_packed:
        return datasets_source(file, datasets, file_bytes)
    names, features = strings(datasets["name"]), datasets["features"]
    if len(names) != len(features):
        raise UnsafeFile(
            f"/name and /features must have equally many entries (got {len(names)} and "
            f"{len(features)})"
        )
    facts = {
        key: table[()]
        for key, table in datasets.items()
        if key not in _PACKED and (table.shape or ())[:1] == (len(names),)
    }
    return Source(
        "packed HDF5", [(name,) for name in names], lambda number: Rows(features[number]), facts
    )


def source_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes; of a folder: of the names and digests of its .npy, .npz or .parquet
    files, those that are imported. Raises InputError if one cannot be read."""
    if not path.is_dir():
        return file_sha256(path)
    return files_sha256(path, _feature_files(path).paths)


def files_sha256(folder: Path, files: Sequence[Path]) -> str:
    """SHA-256 of the names and digests of files below `folder`. Raises InputError if one cannot be
    read."""
    digest = hashlib.sha256()
    for file in files:
        line = f"{file.relative_to(folder).as_posix()} {file_sha256(file)}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def file_sha256(path: Path, option: str = "FILE") -> str:
    """SHA-256 of a file's bytes. option: names the file in the message. Raises InputError if it cannot
    be read."""
    try:
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise InputError(
            f"{option}={path}: cannot be read ({error.strerror}); repair it, or move it away"
        ) from None
