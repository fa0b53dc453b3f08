"""Data sets: the registry, the types, and the search for their files."""

from typing import TYPE_CHECKING

from reelbank.data.lazy import lazy_names

if TYPE_CHECKING:
    from reelbank.data.datasets.registry import DATASETS, load_dataset
    from reelbank.data.datasets.types import Dataset, DatasetOptions, DatasetSpec, Naming, Video

__all__ = [
    "DATASETS",
    "Dataset",
    "DatasetOptions",
    "DatasetSpec",
    "Naming",
    "Video",
    "load_dataset",
]

__getattr__ = lazy_names(
    __name__,
    {
        **dict.fromkeys(("DATASETS", "load_dataset"), "registry"),
        **dict.fromkeys(("Dataset", "DatasetOptions", "DatasetSpec", "Naming", "Video"), "types"),
    },
)
