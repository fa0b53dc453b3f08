"""A folder with one .npz file per video: its features with their times, frame rate and labels; and
`about.json` with the recipe of the features and the data set."""

import numpy as np

from reelbank.data.store.exchange.about import about_text
from reelbank.data.store.exchange.formats.types import Export, ExportFormat, Written
from reelbank.data.store.exchange.formats.videos import exported_videos
from reelbank.data.store.exchange.npz_folder import ABOUT_FILE


def _write(export: Export) -> Written:
    export.path.mkdir()
    for video in exported_videos(export.store):
        values, times_seconds = export.store.features(video.id)
        path = export.path / f"{video.id}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(
            path,
            allow_pickle=False,
            features=values,
            times_seconds=times_seconds,
            fps=np.float64(video.fps),
            label=np.str_(video.label),
            group=np.str_(video.group),
            parts=np.array(video.parts, np.str_),
        )
    (export.path / ABOUT_FILE).write_text(about_text(export.store), encoding="utf-8")
    return Written()


NPZ = ExportFormat("a folder of .npz files", _write, has_recipe=True)
