"""`reelbank.npz` in a folder that is exported for another tool: what the files of that tool cannot
hold, so that `import` restores the store. The other tool does not read it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reelbank.data.datasets.untrimmed import Action
from reelbank.data.errors import InputError
from reelbank.data.store.exchange.about import about_text, parse_export_about
from reelbank.data.store.exchange.annotations import recorded_actions
from reelbank.data.store.exchange.arrays import read_npy, read_npz
from reelbank.data.store.exchange.formats.videos import exported_videos
from reelbank.data.store.exchange.source import Recorded, Rows, Source
from reelbank.data.store.file.about import ids_fault, parse_json
from reelbank.data.store.file.hdf5_checks import UnsafeFile
from reelbank.data.store.reader import Store
from reelbank.data.store.records import StoredVideo

SIDECAR = "reelbank.npz"
# Name of an array -> its axes and the kinds of numbers.
_FORMS = {
    "about": (0, "U"),
    "names": (1, "U"),
    "video_ids": (1, "U"),
    "labels": (1, "U"),
    "groups": (1, "U"),
    "parts": (2, "U"),
    "fps": (1, "f"),
    "offsets": (1, "i"),
    "times_seconds": (1, "f"),
    "rows_axis": (0, "i"),
    "actions": (0, "U"),  # JSON: number of a video -> [[class, start, end], ...] in seconds
}


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
    times = list(store.times_of(store.video_ids))
    np.savez(
        folder / SIDECAR,
        allow_pickle=False,
        about=np.str_(about_text(store)),
        names=np.array(names, np.str_),
        video_ids=np.array(store.video_ids, np.str_),
        labels=np.array(store.labels, np.str_),
        groups=np.array(store.groups, np.str_),
        parts=np.array(store.parts, np.str_).reshape(len(videos), len(store.dataset.splits)),
        fps=np.array([video.fps for video in videos]),
        offsets=np.cumsum([0, *map(len, times)]),
        times_seconds=np.concatenate([np.empty(0), *times]),
        rows_axis=np.int64(rows_axis),
        actions=np.str_(json.dumps(numbered)),
    )


def sidecar_source(folder: Path) -> Source:
    """The videos that the file in an untrusted folder lists. Raises InputError."""
    path = folder / SIDECAR
    arrays = read_npz(path)
    for name, (axes, kind) in _FORMS.items():
        if name not in arrays or arrays[name].ndim != axes or arrays[name].dtype.kind != kind:
            raise InputError(
                f"FILE={path}: the array {name} must have {axes} axes and the type {kind}; export again"
            )
    names, offsets = arrays["names"].tolist(), arrays["offsets"]
    lengths = {len(arrays[name]) for name in ("video_ids", "labels", "groups", "parts", "fps")}
    if lengths != {len(names)} or len(offsets) != len(names) + 1:
        raise InputError(f"FILE={path}: the arrays must have one entry per video; export again")
    if reason := ids_fault(names):  # they are paths
        raise InputError(f"FILE={path}: {reason}")
    try:
        recipe, dataset = parse_export_about(str(arrays["about"]))
        facts_of = _facts(parse_json(str(arrays["actions"])))
    except (UnsafeFile, ValueError) as error:
        raise InputError(f"FILE={path}: {error}") from None
    columns = [arrays[name].tolist() for name in ("video_ids", "labels", "groups", "parts")]
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
    )


def _facts(actions: Any) -> dict[str, dict[str, Any]]:
    """The facts about each video with actions, by its number. Raises ValueError."""
    if not isinstance(actions, dict):
        raise ValueError("its actions must be a JSON object; export again")
    for own in actions.values():
        recorded_actions(own)
    return {number: {"annotations": own} for number, own in actions.items()}
