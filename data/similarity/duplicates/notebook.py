"""The command `duplicates` as a function for notebooks."""

from typing import Any

from reelbank.data.keyword_options import named_as_keywords, options_from
from reelbank.data.similarity.duplicates.command import Duplicates, duplicates_of
from reelbank.data.similarity.duplicates.options import DuplicatesOptions
from reelbank.data.system.memory import enough_memory


def duplicates(**options: Any) -> Duplicates:
    """Find similar videos in a store. If you print the returned Duplicates, it shows the tables. Its
    method `records()` returns the pairs.

    options: the options of the command `reelbank duplicates` in lower case, such as `count=100`.
    Raises InputError if the store or the split does not exist, or if no threshold can be measured.
    """
    with named_as_keywords(options), enough_memory("duplicates"):
        return duplicates_of(options_from(DuplicatesOptions, options, "duplicates"))
