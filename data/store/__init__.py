"""Feature stores: the file, its parts while it grows, reading, writing, finding and exchanging.

`from reelbank.data.store import Store, StoreWriter, identity`.
"""

from typing import TYPE_CHECKING

from reelbank.data.lazy import lazy_names

if TYPE_CHECKING:
    from reelbank.data.store.reader import Store
    from reelbank.data.store.records import DatasetDescription, Failure, StoredVideo, identity
    from reelbank.data.store.writer import StoreWriter

__all__ = ["DatasetDescription", "Failure", "Store", "StoreWriter", "StoredVideo", "identity"]

__getattr__ = lazy_names(
    __name__,
    {
        "DatasetDescription": "records",
        "Failure": "records",
        "Store": "reader",
        "StoreWriter": "writer",
        "StoredVideo": "records",
        "identity": "records",
    },
)
