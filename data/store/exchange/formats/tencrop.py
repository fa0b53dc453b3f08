"""Weakly supervised anomaly detection with RTFM and methods based on it: (T, crops, C) float32 arrays,
and lists of their paths in which the abnormal videos come first (tianyu0207/RTFM, dataset.py)."""

import numpy as np

from reelbank.data.console import class_hint, counted, some
from reelbank.data.errors import InputError
from reelbank.data.store.exchange.formats.names import flat_names
from reelbank.data.store.exchange.formats.types import Export, ExportFormat, Written
from reelbank.data.store.exchange.formats.videos import ExportedVideo, exported_videos
from reelbank.data.store.exchange.sidecar import write_sidecar

_FEATURES = "features"


def _write(export: Export) -> Written:
    store, videos = export.store, list(exported_videos(export.store))
    if len(store.row_shape) != 2:
        raise InputError(
            f"{store.path}: FORMAT=tencrop needs the features of every crop, rows (crops, numbers) (got "
            f"{store.row_shape}); extract with CROPS=10 KEEP_CROPS=1"
        )
    normal = _normal_class(export)
    names = flat_names([video.id for video in videos])
    (export.path / _FEATURES).mkdir(parents=True)
    for video, name in zip(videos, names, strict=True):
        values = store.features(video.id)[0].astype(np.float32)
        np.save(export.path / _FEATURES / f"{name}.npy", values, allow_pickle=False)
    split = export.options.split
    split_number = store.dataset.splits.index(split) if split else 0
    unlabelled = [video.id for video in videos if not video.label]
    notes = []
    if unlabelled:
        notes.append(
            f"the lists do not contain {counted(len(unlabelled), 'video')} without a class: "
            f"{some(unlabelled)}"
        )
    for part in ("train", "validation", "test"):
        listed = [
            (video, name)
            for video, name in zip(videos, names, strict=True)
            if video.label and (video.parts[split_number] if video.parts else "train") == part
        ]
        if not listed and part == "validation":
            continue
        abnormal = [name for video, name in listed if _is_abnormal(export, video, normal)]
        others = [name for video, name in listed if not _is_abnormal(export, video, normal)]
        folder = export.target / _FEATURES
        lines = "".join(f"{folder / name}.npy\n" for name in (*abnormal, *others))
        (export.path / f"{part}.list").write_text(lines, encoding="utf-8")
        notes.append(
            f"{part}.list: {counted(len(abnormal), 'abnormal video')}, then "
            f"{counted(len(others), 'video')} of the class {normal}"
        )
    write_sidecar(export.path, store, [f"{_FEATURES}/{name}" for name in names])
    notes.append(
        "set the number of abnormal training videos in dataset.py of RTFM, where it is 63 or 810; its "
        "ground truth of the frames is not written"
    )
    return Written(notes)


def _normal_class(export: Export) -> str:
    """The class of normal videos."""
    classes, name = export.store.dataset.classes, export.options.normal
    if name:
        if name not in classes:
            raise InputError(
                f"NORMAL={name}: must be a class of the store{class_hint(name, classes)}"
            )
        return name
    normal = [each for each in classes if each.lower().startswith("normal")]
    if len(normal) != 1:
        raise InputError(
            "FORMAT=tencrop lists abnormal videos before normal ones; give NORMAL=<class of the normal "
            "videos>"
        )
    return normal[0]


def _is_abnormal(export: Export, video: ExportedVideo, normal: str) -> bool:
    return normal not in export.store.dataset.label_names(video.label)


TENCROP = ExportFormat("a folder for RTFM", _write, has_recipe=True, own_options=("normal",))
