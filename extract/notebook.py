"""Stage one as a function for notebooks."""

from typing import Any

from reelbank.data.keyword_options import named_as_keywords, options_from
from reelbank.data.store.reader import Store
from reelbank.data.system.memory import enough_memory
from reelbank.extract.options import ExtractOptions
from reelbank.extract.run import extract_stores


def extract_features(**options: Any) -> list[Store]:
    """Extract the features that do not exist yet. Returns the open stores, one for each stream and
    each stored layer of a network.

    options: the options of the command `reelbank extract` in lower case, such as
    `dataset="ucf101"` and `stream=["rgb", "flow"]`. Videos whose extraction failed are listed in
    `store.failures`. Close the stores after use. Raises InputError for invalid options, or if the
    machine can no longer read any video.
    """
    with named_as_keywords(options), enough_memory("extract"):
        result = extract_stores(options_from(ExtractOptions, options, "extract"))
    return [Store.open(path) for path in result.paths]
