"""An HDF5 file with one dataset per video, (K, ...) float16 or uint8, named after its id."""

from collections.abc import Sequence

import h5py

from reelbank.data.store.exchange.formats.types import Export, ExportFormat


def _write(export: Export) -> Sequence[str]:
    # The name is new, so no lock is needed; some file systems have none.
    with h5py.File(export.path, "w-", locking=False) as file:
        for video_id in export.store.video_ids:
            file[video_id] = export.store.features(video_id)[0]
    return ()


HDF5 = ExportFormat("an HDF5 file", _write, endings=(".h5", ".hdf5"), has_table=True)
