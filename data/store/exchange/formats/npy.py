"""A folder with one .npy file per video, (K, ...) float16 or uint8."""

import numpy as np

from reelbank.data.store.exchange.formats.types import Export, ExportFormat, Written


def _write(export: Export) -> Written:
    export.path.mkdir()
    for video_id in export.store.video_ids:
        path = export.path / f"{video_id}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, export.store.features(video_id)[0], allow_pickle=False)
    return Written()


NPY = ExportFormat("a folder of .npy files", _write, has_table=True)
