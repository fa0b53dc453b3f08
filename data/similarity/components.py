"""Groups of vectors that pairs connect."""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


class Components:
    """The connected components of a graph of N nodes, to which edges are added.

    numbers: (N,) int64, equal for the nodes of a component.
    """

    def __init__(self, numbers: np.ndarray) -> None:
        """numbers: (N,) non-negative, below N; equal for nodes that are connected already."""
        self.numbers = numbers.copy()

    def connect(self, first: np.ndarray, second: np.ndarray) -> None:
        """Add edges between the nodes `first` and `second`, (E,) int64 each."""
        ends = np.stack([self.numbers[first], self.numbers[second]])
        ends = ends[:, ends[0] != ends[1]]
        if not ends.size:
            return
        count = len(self.numbers)
        graph = coo_array((np.ones(ends.shape[1], np.int8), (ends[0], ends[1])), (count, count))
        self.numbers = connected_components(graph, directed=False)[1].astype(np.int64)[self.numbers]
