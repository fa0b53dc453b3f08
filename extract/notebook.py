"""Stage one as a function for notebooks."""

from typing import Any

from reelbank.data.keyword_options import named_as_keywords, options_from
from reelbank.data.store.reader import Store
from reelbank.data.system.memory import enough_memory
from reelbank.extract.options import ExtractOptions
from reelbank.extract.run import extract_stores


def extract_features(**options: Any) -> list[Store]:
    """Extract the features that are missing, and open the stores, one for each stream and node.

    options: those of `reelbank extract` in lower case, such as `dataset="ucf101"`,
    `stream=["rgb", "flow"]`. Videos that failed are in `store.failures`. Close the stores after
    use. Raises InputError for invalid options, and if the machine can no longer read any video.
    """
    with named_as_keywords(options), enough_memory("extract"):
        result = extract_stores(options_from(ExtractOptions, options, "extract"))
    return [Store.open(path) for path in result.paths]
