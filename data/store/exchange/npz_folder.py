"""A folder of .npz files as `export FORMAT=npz` writes it, or another tool: one file per video with
the array `features` or `feats`, and optionally `times_seconds` and `fps`. Labels are read only from
our own exports, because there `about.json` names the classes."""

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.files import read_text
from reelbank.data.store.exchange.about import parse_export_about
from reelbank.data.store.exchange.arrays import read_npz
from reelbank.data.store.exchange.source import Recorded, Rows, Source
from reelbank.data.store.file.hdf5_checks import UnsafeFile
from reelbank.data.store.records import StoredVideo

ABOUT_FILE = "about.json"
_FEATURES, _TIMES = ("features", "feats"), "times_seconds"


def npz_source(folder: Path, files: Sequence[Path]) -> Source:
    """The videos of these files, which are below `folder`. A damaged file raises InputError only when
    its rows are read. Raises InputError for labels of another type."""
    names: list[tuple[str, ...]] = [
        (file.relative_to(folder).with_suffix("").as_posix(),) for file in files
    ]
    recorded = None
    about = folder / ABOUT_FILE
    if about.exists():
        recorded = _recorded(about, names, files)
    facts = [_read_undamaged(file, (_TIMES, "fps")) for file in files]
    timed = all(_TIMES in arrays for arrays in facts if arrays is not None)
    return Source(
        "npz per video",
        names,
        lambda number: _read_rows(files[number], timed=timed),
        timed=timed,
        rated=any(_rate(arrays) > 0 for arrays in facts if arrays is not None),
        recorded=recorded,
    )


def _read_undamaged(file: Path, only: Collection[str]) -> dict[str, np.ndarray] | None:
    """Arrays of a file; None if it is damaged, which `_read_rows` reports for its video."""
    try:
        return read_npz(file, only=only)
    except InputError:
        return None


def _recorded(about: Path, names: Sequence[tuple[str, ...]], files: Sequence[Path]) -> Recorded:
    try:
        recipe, dataset = parse_export_about(read_text(about))
    except (UnsafeFile, UnicodeDecodeError, OSError) as error:
        raise InputError(f"FILE={about}: cannot be read ({' '.join(str(error).split())})") from None
    videos = []
    for (video_id, *_), file in zip(names, files, strict=True):
        arrays = _read_undamaged(file, ("label", "group", "parts"))
        if arrays is None:
            unknown = [""] * len(dataset.splits)
            videos.append(StoredVideo(video_id, parts=unknown, source={"bytes": 0}))
            continue
        parts = arrays.get("parts", np.empty(0, "U"))
        if parts.dtype.kind != "U" or parts.ndim != 1:
            raise InputError(f"FILE={file}: parts must be a list of texts (got {parts.dtype})")
        videos.append(
            StoredVideo(
                id=video_id,
                label=_text(arrays, "label", file),
                group=_text(arrays, "group", file),
                parts=parts.tolist(),
                source={"bytes": 0},
            )
        )
    return Recorded(dataset, videos, recipe)


def _text(arrays: Mapping[str, np.ndarray], name: str, file: Path) -> str:
    values = arrays.get(name, np.array(""))
    if values.dtype.kind != "U" or values.ndim:
        raise InputError(f"FILE={file}: {name} must be one text (got {values.dtype})")
    return str(values)


def _read_rows(file: Path, *, timed: bool) -> Rows:
    arrays = read_npz(file)
    name = next((name for name in _FEATURES if name in arrays), "")
    if not name:
        names = ", ".join(arrays) or "(none)"
        raise InputError(
            f"FILE={file}: must contain an array {' or '.join(_FEATURES)} (got {names})"
        )
    fps = _rate(arrays)
    if not 0 <= fps < math.inf:
        raise InputError(f"FILE={file}: fps must be one number, the frames per second")
    return Rows(arrays[name], arrays[_TIMES] if timed else None, fps)


def _rate(arrays: Mapping[str, np.ndarray]) -> float:
    """The frames per second, 0.0 if unknown; NaN for an array that is not one number."""
    rate = arrays.get("fps", np.float64(0))
    return float(rate.item()) if rate.dtype.kind in "fiu" and rate.size == 1 else math.nan
