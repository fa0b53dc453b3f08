"""All formats of `export` by name. Add a format by adding a line.

A format is a module with an ExportFormat (types.py). A module is imported when its format is used or
when an ending has to be found, so it imports packages of an extra only in its `write`.
"""

FORMATS = {
    "npy": "data.store.exchange.formats.npy:NPY",
    "npz": "data.store.exchange.formats.npz:NPZ",
    "hdf5": "data.store.exchange.formats.hdf5:HDF5",
    "opentad": "data.store.exchange.formats.opentad:OPENTAD",
    "mstcn": "data.store.exchange.formats.mstcn:MSTCN",
    "tencrop": "data.store.exchange.formats.tencrop:TENCROP",
    "video_features": "data.store.exchange.formats.video_features:VIDEO_FEATURES",
    "parquet": "data.store.exchange.formats.parquet:PARQUET",
    "datasets": "data.store.exchange.formats.parquet:DATASETS",
    "embeddings": "data.store.exchange.formats.embeddings:EMBEDDINGS",
    "lightly": "data.store.exchange.formats.embeddings:LIGHTLY",
}

FOLDER_DEFAULT = "npy"  # if neither FORMAT nor an ending selects another
