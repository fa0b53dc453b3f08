"""A 5 x 5 median filter built from a network of minima and maxima, without branches, so that it is
fast on any device.

Each column of five pixels is sorted once and shared by the five windows that contain it. Then each
window's rows of equal rank are sorted. In the resulting matrix only 13 positions can hold the
median. Forgetful selection finds it: it repeatedly drops the smallest and the largest of a small
set of candidates and adds the next one.
"""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

SIDE_PX = 5
# D. Knuth, The Art of Computer _Programming 3, 5.3.4: five values in nine exchanges.
_SORT5 = ((0, 1), (3, 4), (2, 4), (2, 3), (1, 4), (0, 3), (0, 2), (1, 3), (1, 2))
# Row i and column j of the sorted matrix. Every other value is at most, or at least, 13 of the 25
# values, so it cannot be the median.
_PLACES = [
    (i, j)
    for i, j in itertools.product(range(5), repeat=2)
    if (i + 1) * (j + 1) <= 13 and (5 - i) * (5 - j) <= 13
]

Step = tuple[bool, int, int, int]  # minimum or maximum, two slots to read, the slot to write


@dataclass(frozen=True)
class _Program:
    """Steps over memory slots. The first slots are the inputs, which are not overwritten."""

    steps: list[Step]
    output_slots: list[int]
    slots: int


class _Network:
    """A sorting network, recorded as minima and maxima of numbered values. `compiled` drops the
    operations that no output needs."""

    def __init__(self, inputs: int) -> None:
        self.inputs = inputs
        self.operations: list[tuple[bool, int, int]] = []  # minimum or maximum, of two values

    def exchange(self, values: list[int], i: int, j: int) -> None:
        """Replace values[i] by the minimum of both, values[j] by the maximum."""
        number = self.inputs + len(self.operations)
        self.operations += [(True, values[i], values[j]), (False, values[i], values[j])]
        values[i], values[j] = number, number + 1

    def compiled(self, outputs: list[int]) -> _Program:
        """The program that computes these values with few memory slots."""
        # The last operation that reads each value; values that no output needs are missing.
        last = {value: len(self.operations) for value in outputs}
        for at in reversed(range(len(self.operations))):
            if self.inputs + at in last:
                for value in self.operations[at][1:]:
                    last.setdefault(value, at)
        slot_of: dict[int, int] = {value: value for value in range(self.inputs)}
        free, slots, steps = list[int](), self.inputs, list[Step]()
        for at, (is_minimum, a, b) in enumerate(self.operations):
            if self.inputs + at not in last:
                continue
            if not free:
                free, slots = [slots], slots + 1
            slot_of[self.inputs + at] = free.pop()
            steps.append((is_minimum, slot_of[a], slot_of[b], slot_of[self.inputs + at]))
            free += [
                slot_of[value] for value in {a, b} if value >= self.inputs and last[value] == at
            ]
        return _Program(steps, [slot_of[value] for value in outputs], slots)


def _sort(network: _Network, values: list[int]) -> None:
    """Sort five values, the smallest first."""
    for i, j in _SORT5:
        network.exchange(values, i, j)


def _columns() -> _Program:
    """Sorts a column of five pixels."""
    network, values = _Network(5), list(range(5))
    _sort(network, values)
    return network.compiled(values)


def _windows() -> _Program:
    """The median of a window with sorted columns. Input 5 i + j is rank i of column j."""
    network, ranks = _Network(25), [list(range(5 * i, 5 * i + 5)) for i in range(5)]
    return network.compiled([_median(network, ranks)])


def window_exchanges() -> tuple[tuple[tuple[int, int], ...], int]:
    """The median of a window as (exchanges, number of the median), for another implementation.

    Value 5 i + j is the pixel in row i and column j. Exchange k of two values defines the values
    25 + 2 k, their minimum, and 26 + 2 k, their maximum.
    """
    network, columns = _Network(25), [list(range(j, 25, 5)) for j in range(5)]
    for column in columns:
        _sort(network, column)
    median = _median(network, [list(rank) for rank in zip(*columns, strict=True)])
    return tuple((a, b) for is_minimum, a, b in network.operations if is_minimum), median


def _median(network: _Network, ranks: list[list[int]]) -> int:
    """The number of the median of a window with sorted columns. ranks: five lists, of which i holds
    rank i of each column."""
    for rank in ranks:
        _sort(network, rank)
    waiting = [ranks[i][j] for i, j in _PLACES]
    # Of this many of the 13 values, neither the smallest nor the largest can be the median.
    candidates = [waiting.pop() for _ in range(len(_PLACES) // 2 + 2)]
    while True:
        _ends(network, candidates)
        candidates = candidates[1:-1]
        if not waiting:
            return candidates[0]
        candidates.append(waiting.pop())


def _ends(network: _Network, values: list[int]) -> None:
    """Move the minimum to the front and the maximum to the back."""
    for i in range(len(values) // 2):
        network.exchange(values, i, len(values) - 1 - i)
    half = (len(values) + 1) // 2
    for i in range(1, half):
        network.exchange(values, 0, i)
    for i in range(len(values) // 2, len(values) - 1):
        network.exchange(values, i, len(values) - 1)


_COLUMNS, _WINDOWS = _columns(), _windows()


class Median5:
    """The filter for planes of one shape, with its memory: (..., h, w) -> (..., h, w). Edges are
    repeated outwards."""

    def __init__(self, like: Tensor) -> None:
        *lead, h, w = like.shape
        self.row = w + SIDE_PX - 1
        size = h * self.row
        # Planes are stored flat, so that the neighbours of all pixels are the same memory, read
        # from an offset. After the last row there is room for such offsets.
        self.wide = like.new_zeros(*lead, (h + SIDE_PX - 1) * self.row)
        self.ranks = like.new_zeros(SIDE_PX, *lead, size + SIDE_PX - 1)
        self.memory = like.new_zeros(max(_COLUMNS.slots - 5, _WINDOWS.slots - 25), *lead, size)
        self.size, self.shape = size, like.shape

    def __call__(self, planes: Tensor) -> Tensor:
        """The medians, in memory that the next call overwrites."""
        *lead, h, w = self.shape
        edge = SIDE_PX // 2
        flat = planes.reshape(1, -1, h, w)
        self.wide.view(flat.shape[1], -1).copy_(
            F.pad(flat, (edge,) * 4, mode="replicate")[0].flatten(1)
        )
        rows = [self.wide[..., j * self.row : j * self.row + self.size] for j in range(SIDE_PX)]
        for rank, values in enumerate(self._run(_COLUMNS, rows)):
            self.ranks[rank][..., : self.size] = values
        shifted: list[Tensor] = []
        for rank_plane in self.ranks:
            shifted += [rank_plane[..., j : j + self.size] for j in range(SIDE_PX)]
        (median,) = self._run(_WINDOWS, shifted)
        return median.view(*lead, h, self.row)[..., :w]

    def _run(self, program: _Program, inputs: list[Tensor]) -> list[Tensor]:
        values = inputs + list(self.memory[: program.slots - len(inputs)])
        for is_minimum, a, b, out in program.steps:
            (torch.minimum if is_minimum else torch.maximum)(values[a], values[b], out=values[out])
        return [values[slot] for slot in program.output_slots]
