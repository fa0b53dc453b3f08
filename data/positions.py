"""Where names are in a longer list of names."""

from collections.abc import Sequence

import numpy as np


def positions(names: Sequence[str], among: Sequence[str]) -> np.ndarray:
    """The position of each of N names in `among`, whose names are unique: (N,) int64, -1 for a name
    that it does not contain.

    Names in the order of `among` are found by one pass over both. Other names need a dictionary,
    which takes about 100 bytes for each name of `among`.
    """
    found = np.full(len(names), -1, np.int64)
    rest = enumerate(among)
    for number, name in enumerate(names):
        for position, other in rest:
            if other == name:
                found[number] = position
                break
        else:
            return _looked_up(names, among)
    return found


def _looked_up(names: Sequence[str], among: Sequence[str]) -> np.ndarray:
    position_of = {name: position for position, name in enumerate(among)}
    return np.fromiter((position_of.get(name, -1) for name in names), np.int64, len(names))
