"""The output folder of v-iashin/video_features: `<video>_<key>.npy`, `<video>_fps.npy` and
`<video>_timestamps_ms.npy` (models/_base/base_extractor.py, utils/utils.py)."""

import re

import numpy as np

from reelbank.data.console import counted
from reelbank.data.identity import in_file_name
from reelbank.data.store.exchange.formats.names import flat_names
from reelbank.data.store.exchange.formats.types import Export, ExportFormat, Written
from reelbank.data.store.exchange.formats.videos import (
    check_times,
    check_vectors,
    exported_videos,
)
from reelbank.data.store.exchange.sidecar import write_sidecar
from reelbank.data.store.exchange.video_features import FPS, TIMESTAMPS
from reelbank.data.store.reader import Store


def _write(export: Export) -> Written:
    store, videos = export.store, list(exported_videos(export.store))
    check_vectors(store, "video_features")
    check_times(store, "video_features")
    key = _key(store)
    names = flat_names([video.id for video in videos])
    export.path.mkdir()
    for video, name in zip(videos, names, strict=True):
        values, times_seconds = store.features(video.id)
        arrays = {key: values.astype(np.float32), TIMESTAMPS: times_seconds * 1000}
        if video.fps:
            arrays[FPS] = np.array(video.fps)
        for ending, array in arrays.items():
            np.save(export.path / f"{name}_{ending}.npy", array, allow_pickle=False)
    write_sidecar(export.path, store, [f"{name}_{key}" for name in names])
    unknown = sum(not video.fps for video in videos)
    if not unknown:
        return Written()
    return Written([f"no _fps.npy for {counted(unknown, 'video')}, whose frame rate is unknown"])


def _key(store: Store) -> str:
    """The key of video_features for the network: "resnet" for all ResNets, the stream for I3D; for
    others the network's name."""
    network = str(store.recipe.get("extractor", "")).rpartition(":")[2]
    if re.fullmatch(r"resnet\d+", network):
        return "resnet"
    if network == "i3d":
        return in_file_name(str(store.recipe.get("stream", "")))
    return in_file_name(network).replace(".", "_")


VIDEO_FEATURES = ExportFormat("a folder as of video_features", _write, has_recipe=True)
