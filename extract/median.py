"""Median of 5 x 5 by a network of minima and maxima, which neither branches nor sorts: what a flow filter needs on any device.

Columns of five are sorted first, for all five windows that they lie in; then each window's rows of equal rank. Of such a matrix
13 places can hold the median, and leaving out the smallest and the largest of a growing few (forgetful selection) finds it.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

SIDE_PX = 5
# D. Knuth, The Art of Computer Programming 3, 5.3.4: five values in nine exchanges.
_SORT5 = ((0, 1), (3, 4), (2, 4), (2, 3), (1, 4), (0, 3), (0, 2), (1, 3), (1, 2))
# (i, j): i-th row of the sorted matrix, j-th column. All others are at most, or at least, 13 of the 25.
_PLACES = [(i, j) for i in range(5) for j in range(5) if (i + 1) * (j + 1) <= 13 and (5 - i) * (5 - j) <= 13]

Step = tuple[bool, int, int, int]  # is it the minimum?, two slots to read, the slot to write


class _Network:
    """Exchanges written down as minima and maxima of numbered values; `compiled` drops what no output needs."""

    def __init__(self, inputs: int) -> None:
        self.inputs, self.made = inputs, list[tuple[bool, int, int]]()

    def exchange(self, values: list[int], i: int, j: int) -> None:
        """values[i], values[j] <- their minimum, their maximum."""
        number = self.inputs + len(self.made)
        self.made += [(True, values[i], values[j]), (False, values[i], values[j])]
        values[i], values[j] = number, number + 1

    def compiled(self, outputs: list[int]) -> tuple[list[Step], list[int], int]:
        """Steps over memory slots (the inputs' own numbers are read, never written), the outputs' slots, slots needed."""
        last = {value: len(self.made) for value in outputs}
        for at in reversed(range(len(self.made))):
            if self.inputs + at in last:
                for value in self.made[at][1:]:
                    last.setdefault(value, at)
        slot_of: dict[int, int] = {value: value for value in range(self.inputs)}
        free, slots, steps = list[int](), self.inputs, list[Step]()
        for at, (is_minimum, a, b) in enumerate(self.made):
            if self.inputs + at not in last:
                continue
            if not free:
                free, slots = [slots], slots + 1
            slot_of[self.inputs + at] = free.pop()
            steps.append((is_minimum, slot_of[a], slot_of[b], slot_of[self.inputs + at]))
            free += [slot_of[value] for value in {a, b} if value >= self.inputs and last[value] == at]
        return steps, [slot_of[value] for value in outputs], slots


def _columns() -> tuple[list[Step], list[int], int]:
    network, values = _Network(5), list(range(5))
    for i, j in _SORT5:
        network.exchange(values, i, j)
    return network.compiled(values)


def _windows() -> tuple[list[Step], list[int], int]:
    """Inputs 5 i + j: rank i of column j."""
    network, rows = _Network(25), [list(range(5 * i, 5 * i + 5)) for i in range(5)]
    for row in rows:
        for i, j in _SORT5:
            network.exchange(row, i, j)
    waiting = [rows[i][j] for i, j in _PLACES]
    few = [waiting.pop() for _ in range(len(_PLACES) // 2 + 2)]
    while True:
        _ends(network, few)
        few = few[1:-1]
        if not waiting:
            return network.compiled(few)
        few.append(waiting.pop())


def _ends(network: _Network, values: list[int]) -> None:
    """The minimum to the front, the maximum to the back."""
    for i in range(len(values) // 2):
        network.exchange(values, i, len(values) - 1 - i)
    half = (len(values) + 1) // 2
    for i in range(1, half):
        network.exchange(values, 0, i)
    for i in range(len(values) // 2, len(values) - 1):
        network.exchange(values, i, len(values) - 1)


_COLUMNS, _WINDOWS = _columns(), _windows()


class Median5:
    """The filter for planes of one shape, with its memory. (..., h, w) -> the same, edges repeated outwards."""

    def __init__(self, like: Tensor) -> None:
        *lead, h, w = like.shape
        self.row = w + SIDE_PX - 1
        size = h * self.row
        # Planes lie flat, so that a neighbour is the same plane read some places on; after the last there is some room.
        self.wide = like.new_zeros(*lead, (h + SIDE_PX - 1) * self.row)
        self.ranks = like.new_zeros(SIDE_PX, *lead, size + SIDE_PX - 1)
        self.memory = like.new_zeros(max(_COLUMNS[2] - 5, _WINDOWS[2] - 25), *lead, size)
        self.size, self.shape = size, like.shape

    def __call__(self, planes: Tensor) -> Tensor:
        """The medians, in memory that the next call writes anew."""
        *lead, h, w = self.shape
        edge = SIDE_PX // 2
        flat = planes.reshape(1, -1, h, w)
        self.wide.view(flat.shape[1], -1).copy_(F.pad(flat, (edge,) * 4, mode="replicate")[0].flatten(1))
        rows = [self.wide[..., j * self.row : j * self.row + self.size] for j in range(SIDE_PX)]
        for rank, values in enumerate(self._run(_COLUMNS, rows)):
            self.ranks[rank][..., : self.size] = values
        shifted = [self.ranks[i][..., j : j + self.size] for i in range(SIDE_PX) for j in range(SIDE_PX)]
        (median,) = self._run(_WINDOWS, shifted)
        return median.view(*lead, h, self.row)[..., :w]

    def _run(self, network: tuple[list[Step], list[int], int], inputs: list[Tensor]) -> list[Tensor]:
        steps, outputs, slots = network
        values = inputs + list(self.memory[: slots - len(inputs)])
        for is_minimum, a, b, out in steps:
            (torch.minimum if is_minimum else torch.maximum)(values[a], values[b], out=values[out])
        return [values[slot] for slot in outputs]
