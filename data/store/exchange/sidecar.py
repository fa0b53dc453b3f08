"""`reelbank.npz` in a folder that is exported for another tool: what the files of that tool cannot
hold, so that `import` restores the store. The other tool does not read it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reelbank.data.datasets.untrimmed import Action
from reelbank.data.errors import InputError
from reelbank.data.store.exchange.about import about_text, parse_export_about
from reelbank.data.store.exchange.annotations import is_time, recorded_actions
from reelbank.data.store.exchange.arrays import read_npy, read_npz
from reelbank.data.store.exchange.formats.videos import exported_videos
from reelbank.data.store.exchange.source import Recorded, Rows, Source
from reelbank.data.store.file.about import ids_fault, parse_json
from reelbank.data.store.file.hdf5_checks import UnsafeFile
from reelbank.data.store.reader import Store
from reelbank.data.store.records import StoredVideo

SIDECAR = "reelbank.npz"
# Texts are uint8, the UTF-8 of JSON: NumPy's own texts need 4 bytes for each character of the longest.
# Name of an array -> how deeply its texts are in lists, one for each video; 0: one JSON object.
_TEXTS = {
    "about": 0,
    "actions": 0,  # number of a video -> [[class, start, end], ...] in seconds
    "facts": 0,  # number of a video -> facts about its file
    "names": 1,
    "video_ids": 1,
    "labels": 1,
    "groups": 1,
    "parts": 2,
}
# Name of another array -> its axes and the kind of its numbers.
_FORMS = {
    "fps": (1, "f"),
    "offsets": (1, "i"),
    "times_seconds": (1, "f"),
    "rows_axis": (0, "i"),
}
_FACTS = ("frames", "duration_seconds", "span_seconds")


def write_sidecar(
    folder: Path,
    store: Store,
    names: Sequence[str],
    *,
    rows_axis: int = 0,
    actions: Sequence[Sequence[Action]] = (),
) -> None:
    """Write the file. names: for each video the path of its .npy file below `folder`, without the
    ending. rows_axis: the axis of these arrays along which the rows are. actions: of each video."""
    numbered = {number: own for number, own in enumerate(actions) if own}
    videos = list(exported_videos(store))
    facts = {
        number: {key: video.source[key] for key in _FACTS if key in video.source}
        for number, video in enumerate(videos)
    }
    times = list(store.times_of(store.video_ids))
    np.savez(
        folder / SIDECAR,
        allow_pickle=False,
        about=_utf8(about_text(store)),
        names=_utf8(json.dumps(list(names))),
        video_ids=_utf8(json.dumps(list(store.video_ids))),
        labels=_utf8(json.dumps(list(store.labels))),
        groups=_utf8(json.dumps(list(store.groups))),
        parts=_utf8(json.dumps([list(parts) for parts in store.parts])),
        fps=np.array([video.fps for video in videos]),
        offsets=np.cumsum([0, *map(len, times)]),
        times_seconds=np.concatenate([np.empty(0), *times]),
        rows_axis=np.int64(rows_axis),
        actions=_utf8(json.dumps(numbered)),
        facts=_utf8(json.dumps(facts)),
    )


def _utf8(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


def sidecar_source(folder: Path) -> Source:
    """The videos that the file in an untrusted folder lists. Raises InputError."""
    path = folder / SIDECAR
    arrays = read_npz(path)
    for name, (axes, kind) in _FORMS.items():
        if name not in arrays or arrays[name].ndim != axes or arrays[name].dtype.kind != kind:
            raise InputError(
                f"FILE={path}: the array {name} must have {axes} axes and the type {kind}; export again"
            )
    texts = {name: _texts(path, arrays, name) for name in _TEXTS}
    names, offsets = texts["names"], arrays["offsets"]
    columns = [texts[name] for name in ("video_ids", "labels", "groups", "parts")]
    lengths = {len(arrays["fps"]), *map(len, columns)}
    if lengths != {len(names)} or len(offsets) != len(names) + 1:
        raise InputError(f"FILE={path}: the arrays must have one entry per video; export again")
    if reason := ids_fault(names):  # they are paths
        raise InputError(f"FILE={path}: {reason}")
    try:
        recipe, dataset = parse_export_about(texts["about"])
        facts_of = _facts(parse_json(texts["actions"]), parse_json(texts["facts"]))
    except (UnsafeFile, ValueError) as error:
        raise InputError(f"FILE={path}: {error}") from None
    videos = [
        StoredVideo(video_id, label, group, parts, {"bytes": 0, **facts_of.get(str(number), {})})
        for number, (video_id, label, group, parts) in enumerate(zip(*columns, strict=True))
    ]

    def read(number: int) -> Rows:
        values = read_npy(folder / f"{names[number]}.npy")
        if values.ndim > int(arrays["rows_axis"]) > 0:
            values = np.moveaxis(values, int(arrays["rows_axis"]), 0)
        times_seconds = arrays["times_seconds"][offsets[number] : offsets[number + 1]]
        fps = float(arrays["fps"][number])
        return Rows(values, times_seconds, fps if 0 < fps < np.inf else 0.0)

    possible_names = [
        tuple(dict.fromkeys((video.id, name))) for video, name in zip(videos, names, strict=True)
    ]
    return Source(
        "exported folder",
        possible_names,
        read,
        timed=True,
        recorded=Recorded(dataset, videos, recipe),
        described_by=[path],
    )


def _texts(path: Path, arrays: Mapping[str, np.ndarray], name: str) -> Any:
    """The texts of an array, as `_TEXTS` describes them. Raises InputError."""
    depth, array = _TEXTS[name], arrays.get(name)
    if array is None or array.dtype != np.uint8 or array.ndim != 1:
        raise InputError(f"FILE={path}: the array {name} must contain texts as JSON; export again")
    try:
        content = array.tobytes().decode()
        texts = parse_json(content) if depth else content
    except (UnsafeFile, ValueError) as error:
        raise InputError(f"FILE={path}: the array {name} {error}; export again") from None
    if not _are_texts(texts, depth):
        raise InputError(f"FILE={path}: the array {name} must contain texts as JSON; export again")
    return texts


def _are_texts(value: object, depth: int) -> bool:
    if not depth:
        return isinstance(value, str)
    return isinstance(value, list) and all(_are_texts(each, depth - 1) for each in value)


def _facts(actions: Any, facts: Any) -> dict[str, dict[str, Any]]:
    """The facts about each video, by its number. Raises ValueError."""
    if not isinstance(actions, dict) or not isinstance(facts, dict):
        raise ValueError("its actions and facts must be JSON objects; export again")
    for own in facts.values():
        if not isinstance(own, dict) or not all(_is_fact(*item) for item in own.items()):
            raise ValueError(
                f"its facts must be numbers with the names {', '.join(_FACTS)} (got {str(own)[:80]})"
            )
    of_videos = {number: dict(own) for number, own in facts.items()}
    for number, own in actions.items():
        recorded_actions(own)
        of_videos.setdefault(number, {})["annotations"] = own
    return of_videos


def _is_fact(name: str, value: Any) -> bool:
    if name == "span_seconds":
        return isinstance(value, list) and len(value) == 2 and all(map(is_time, value))
    return name in _FACTS and is_time(value)
