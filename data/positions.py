"""Where names are in a longer list of names."""

import operator
from collections.abc import Sequence

import numpy as np


def positions(
    names: Sequence[str], among: Sequence[str], *, absent: int | None = None
) -> np.ndarray:
    """The position of each of N names in `among`, whose names are unique: (N,) int64.

    absent: for a name that `among` does not contain. By default, such a name raises KeyError.

    Names in the order of `among` are found by passes over both. Other names need a dictionary, which
    takes about 100 bytes for each name of `among`.
    """
    if len(names) == len(among) and all(map(operator.eq, names, among)):
        return np.arange(len(names))
    found = np.empty(len(names), np.int64)
    rest = enumerate(among)
    for number, name in enumerate(names):
        for position, other in rest:
            if other == name:
                found[number] = position
                break
        else:
            return _looked_up(names, among, absent)
    return found


def _looked_up(names: Sequence[str], among: Sequence[str], absent: int | None) -> np.ndarray:
    position_of = {name: position for position, name in enumerate(among)}
    if absent is None:
        return np.fromiter(map(position_of.__getitem__, names), np.int64, len(names))
    return np.fromiter((position_of.get(name, absent) for name in names), np.int64, len(names))
