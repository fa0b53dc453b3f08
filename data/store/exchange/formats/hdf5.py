"""An HDF5 file with one dataset per video, (K, ...) float16 or uint8, named after its id. Times, frame
rate and labels of the video are attributes of the dataset; recipe and data set are an attribute of
the file. So the file contains only datasets of features, as other tools expect."""

from collections.abc import Sequence

import h5py
import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.store.exchange.about import about_text
from reelbank.data.store.exchange.attributes import ABOUT, write_text
from reelbank.data.store.exchange.formats.types import Export, ExportFormat, Written
from reelbank.data.store.exchange.formats.videos import exported_videos

# With the older format, an attribute has at most 64 KiB: 8,192 times. HDF5 1.8 is from 2008.
_VERSIONS = ("v108", "v110")


def _check_ids(ids: Sequence[str]) -> None:
    """Raises InputError if an id is the beginning of another one's path: HDF5 would need a dataset
    and a group of the same name."""
    known = set(ids)
    for video_id in ids:
        folders = video_id.split("/")[:-1]
        for length in range(1, len(folders) + 1):
            parent = "/".join(folders[:length])
            if parent in known:
                raise InputError(
                    f"FORMAT=hdf5: an HDF5 file cannot contain the videos {parent} and {video_id}, "
                    f"because {parent} would be a dataset and a group; give FORMAT=npz"
                )


def _write(export: Export) -> Written:
    _check_ids(export.store.video_ids)
    # The name is new, so no lock is needed; some file systems have none.
    with h5py.File(export.path, "w-", locking=False, libver=_VERSIONS) as file:
        write_text(file, ABOUT, about_text(export.store))
        for video in exported_videos(export.store):
            values, times_seconds = export.store.features(video.id)
            file[video.id] = values
            dataset = file[video.id]
            dataset.attrs["times_seconds"] = times_seconds
            if video.fps:
                dataset.attrs["fps"] = video.fps
            write_text(dataset, "label", video.label)
            write_text(dataset, "group", video.group)
            if video.parts:
                dataset.attrs["parts"] = np.array(video.parts, "S")
    return Written()


HDF5 = ExportFormat(
    "an HDF5 file", _write, has_recipe=True, endings=(".h5", ".hdf5"), has_table=True
)
