"""The items of which the clips of a video consist: resized pictures, or what a stream computes from
them, such as flow fields."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from reelbank.data.errors import InputError
from reelbank.data.plugins import user_error
from reelbank.extract.flow.methods import FlowMethod
from reelbank.extract.networks.preprocessing import Resize
from reelbank.extract.pipeline.copying import on_device, own_copy
from reelbank.extract.pipeline.crops import resize
from reelbank.extract.streams.base import Stream


@dataclass
class Block:
    """Items of one size that lie together in memory: (n, ...), and their numbers (n,), ascending."""

    numbers: np.ndarray
    items: Tensor
    both: Tensor | None = None  # with the mirrored ones, if these were needed

    @property
    def picture_px(self) -> tuple[int, int]:
        """Height and width of items (n, C, H, W)."""
        return self.items.shape[-2], self.items.shape[-1]

    def with_mirrored(self, mirrored: Callable[[Tensor], Tensor]) -> Tensor:
        """(2, n, C, H, W): the items, and the mirrored ones."""
        if self.both is None:
            items = self.without_gaps()
            self.both = torch.stack([items, mirrored(items)])
        return self.both

    def without_gaps(self) -> Tensor:
        """The items with the pixels of each line next to each other."""
        self.items = self.items.contiguous()
        return self.items


@dataclass(frozen=True)
class Piece:
    """The items of some of the clips of a video.

    clips: of the clips that were asked for; positions: (B, s) int64, where the block has their
    items
    """

    clips: slice
    block: Block
    positions: np.ndarray


@dataclass
class Items:
    """The items of one stream for one size of pictures. They are kept until every network of the
    stream has used them.

    numbers: the numbers of the items that are needed, ascending
    pictures: for pairs on a timeline, the pictures between which they lie (see `Rows`)
    """

    stream: Stream
    resize: Resize
    numbers: np.ndarray
    pictures: np.ndarray | None = None
    blocks: list[Block] = field(default_factory=list)  # in the order of their numbers
    first_needed: int = 0  # items with lower numbers are not needed any more
    last: tuple[int, Tensor] | None = None  # number and picture that may begin the next pair
    # For pairs on a timeline: the pictures between which each item lies, (n,), ascending.
    firsts: np.ndarray = field(init=False)
    seconds: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.need(self.numbers)

    def need(self, numbers: np.ndarray) -> None:
        """Add items that are needed. numbers: int64, of any shape and order."""
        self.numbers = np.union1d(self.numbers, numbers)
        if self.pictures is not None:
            self.firsts = self.pictures[self.numbers]
            self.seconds = self.pictures[self.numbers + 1]

    def take(self, numbers: np.ndarray, frames: Tensor, flow: FlowMethod | None) -> None:
        """Compute items from frames (n, 3, H, W) uint8 on the device, as decoded."""
        is_needed = self._are_needed(numbers)
        if not is_needed.any():
            return
        chosen = numbers[is_needed].tolist()
        if not is_needed.all():
            positions = on_device(np.flatnonzero(is_needed), frames.device)
            # in their order in memory, in which whole pictures are copied
            frames = frames.movedim(1, -1).index_select(0, positions).movedim(-1, 1)
        # (n', 3, H', W'), which are kept
        pictures = own_copy(resize(frames, self.resize), lent=frames)
        if not self.stream.reads_pairs:
            self._keep(chosen, pictures, None, flow)
            return
        row = [*([self.last] if self.last else []), *zip(chosen, pictures, strict=True)]
        is_new = len(row) == len(chosen)  # whether there was no picture before
        self.last = row[-1]
        if self.pictures is not None:
            self._compute_pairs(self._pairs_on_timeline(row, is_new=is_new), flow)
            return
        needed = set(self.numbers.tolist())
        pairs = [
            (number, first, second)
            for (number, first), (following, second) in zip(row, row[1:], strict=False)
            if following == number + 1 and number in needed
        ]
        self._compute_pairs(pairs, flow)

    def _are_needed(self, numbers: np.ndarray) -> np.ndarray:
        """Which pictures the items are made of, (n,) bool."""
        if self.pictures is not None:
            return _are_among(numbers, self.firsts) | _are_among(numbers, self.seconds)
        is_needed = _are_among(numbers, self.numbers)
        if self.stream.reads_pairs:
            is_needed |= _are_among(numbers - 1, self.numbers)
            # A video of a single picture pairs it with itself, see `only_picture`.
            is_needed |= (numbers == 0) & (0 in self.numbers)
        return is_needed

    def _pairs_on_timeline(
        self, row: Sequence[tuple[int, Tensor]], *, is_new: bool
    ) -> list[tuple[int, Tensor, Tensor]]:
        """The numbers and pictures of the items that the pictures of `row` complete, ascending. A
        picture that is on screen at two ticks is also paired with itself."""
        pairs: list[tuple[int, Tensor, Tensor]] = []
        before = [None, *row] if is_new else row
        arrived = row if is_new else row[1:]
        for previous, (number, picture) in zip(before, arrived, strict=False):
            if previous is not None:
                for item in self._between(previous[0], number):
                    pairs.append((item, previous[1], picture))
            for item in self._between(number, number):
                pairs.append((item, picture, picture))
        return pairs

    def _between(self, first: int, second: int) -> list[int]:
        """The numbers of the items that lie between these two pictures. There may be as many items as
        a video has ticks, so that they are searched."""
        begin, end = np.searchsorted(self.firsts, [first, first + 1]).tolist()
        return self.numbers[begin:end][self.seconds[begin:end] == second].tolist()

    def complete_until(self, picture: int) -> int:
        """The number of the last item that needs no picture after this one."""
        if not self.stream.reads_pairs:
            return picture
        if self.pictures is None:
            return picture - 1  # a pair has the number of its first picture
        return int(np.searchsorted(self.pictures, picture, "right")) - 2

    def take_fields(self, numbers: np.ndarray, fields: Tensor) -> None:
        """Compute items from flow fields (n, 2, H, W) float32 on the device, which are lent."""
        items = own_copy(self.stream.items_of_flow(fields), lent=fields)
        if not self.stream.has_network:  # the items are rows of the store
            items = items.cpu()
        self.blocks.append(Block(numbers, items))

    def only_picture(self, flow: FlowMethod | None) -> None:
        """Compute the only pair of a video of one picture: the picture with itself."""
        if self.pictures is not None:
            return  # it is paired with itself anyway
        if self.stream.reads_pairs and self.last and not self.blocks and 0 in self.numbers:
            picture = self.last[1]
            self._compute_pairs([(0, picture, picture)], flow)

    def _compute_pairs(
        self, pairs: Sequence[tuple[int, Tensor, Tensor]], flow: FlowMethod | None
    ) -> None:
        # More than one shape occurs if the picture size changes within the video.
        for shape in dict.fromkeys(first.shape for _, first, _ in pairs):
            same = [pair for pair in pairs if pair[1].shape == shape]
            pictures = torch.stack([first for _, first, _ in same])
            following = torch.stack([as_large(second, first) for _, first, second in same])
            numbers = [number for number, _, _ in same]
            self._keep(numbers, pictures, following, flow)

    def _keep(
        self,
        numbers: Sequence[int],
        pictures: Tensor,
        following: Tensor | None,
        flow: FlowMethod | None,
    ) -> None:
        items = computed_items(self.stream, pictures, following, flow)
        if not self.stream.has_network:  # the items are rows of the store
            items = items.cpu()
        self.blocks.append(Block(np.array(numbers), items))

    def forget(self, before: int) -> None:
        """Drop the items that no later clip needs."""
        self.first_needed = before
        self.blocks = [block for block in self.blocks if block.numbers[-1] >= before]

    def pieces(self, numbers: np.ndarray) -> Iterator[Piece]:
        """The items of clips with these numbers, (B, s), in as few pieces as possible. Within a
        clip all items get the size of the first one."""
        ends = np.array([block.numbers[-1] for block in self.blocks])
        first = np.searchsorted(ends, numbers.min(1))  # (B,), of the blocks
        last = np.searchsorted(ends, numbers.max(1))
        spanned = self.blocks[first.min() : last.max() + 1]
        if (first != last).any() and len({block.items.shape[1:] for block in spanned}) == 1:
            self.blocks[first.min() : last.max() + 1] = [self._joined(spanned)]
            yield from self.pieces(numbers)
            return
        start = 0
        while start < len(numbers):
            stop = start + 1
            block = self.blocks[first[start]]
            if first[start] == last[start]:
                while stop < len(numbers) and first[stop] == last[stop] == first[start]:
                    stop += 1
            else:
                block = self._of_one_size(numbers[start])
            positions = np.searchsorted(block.numbers, numbers[start:stop])
            assert np.array_equal(block.numbers[positions], numbers[start:stop])
            yield Piece(slice(start, stop), block, positions)
            start = stop

    def _joined(self, blocks: Sequence[Block]) -> Block:
        """One block of those items of blocks that are still needed."""
        firsts = [int(np.searchsorted(block.numbers, self.first_needed)) for block in blocks]
        kept = list(zip(blocks, firsts, strict=True))
        return Block(
            np.concatenate([block.numbers[first:] for block, first in kept]),
            torch.cat([block.items[first:] for block, first in kept]),
        )

    def _of_one_size(self, numbers: np.ndarray) -> Block:
        """The items of a clip (s,) in which the picture size changes, as a block of its own."""
        by_number: dict[int, Tensor] = {}
        for block in self.blocks:
            by_number.update(zip(block.numbers.tolist(), block.items, strict=True))
        first = by_number[int(numbers[0])]
        distinct = np.unique(numbers)
        items = [as_large(by_number[number], first) for number in distinct.tolist()]
        return Block(distinct, torch.stack(items))


def _are_among(numbers: np.ndarray, ascending: np.ndarray) -> np.ndarray:
    """np.isin for few sorted numbers, for which it takes several times as long."""
    if not len(ascending):
        return np.zeros(len(numbers), bool)
    places = np.searchsorted(ascending, numbers)
    return ascending[np.minimum(places, len(ascending) - 1)] == numbers


# Raised by mistakes in code, not by a particular video.
_MISTAKES = (TypeError, AttributeError, NameError)
_NONE_HINT = (
    "; `following` is None unless the class sets reads_pairs = True, and `flow` is None unless the "
    "class sets uses_flow = True"
)


def computed_items(
    stream: Stream, pictures: Tensor, following: Tensor | None, flow: FlowMethod | None
) -> Tensor:
    """The items that a stream computes from pictures (n, 3, H, W), uint8, or float32 if the
    network's pictures are not rounded.

    Raises InputError, which ends the run, if a stream of the user's fails with a mistake in its code
    or returns anything but n items of the declared kind: the same would happen for every video.
    """
    try:
        items = stream.items(pictures, following, flow)
    except _MISTAKES as error:
        if not stream.is_users:
            raise
        call = "items(pictures, following, flow)"
        hint = _NONE_HINT if "NoneType" in str(error) else ""
        raise user_error(error, option="STREAM", text=stream.name, call=call, hint=hint) from error
    if not isinstance(items, Tensor) or len(items) != len(pictures):
        returned = f"{len(items)} items" if isinstance(items, Tensor) else type(items).__name__
        raise InputError(
            f"STREAM={stream.name}: items() must return a tensor with one item for each of the "
            f"{len(pictures)} pictures (got {returned})"
        )
    # Pictures that are not rounded to grey levels are float32, and so are the items.
    is_expected = (
        items.dtype in (torch.uint8, pictures.dtype)
        and items.ndim == 4
        and items.shape[1] == stream.channels
    )
    if stream.has_network and not is_expected:
        raise InputError(
            f"STREAM={stream.name}: items() must return uint8 items of shape (n, {stream.channels}, H, W), "
            f"as `channels` = {stream.channels} says (got {items.dtype} {tuple(items.shape)})"
        )
    row_shape = tuple(items.shape[1:]) or (1,)
    is_row = items.dtype == torch.float32 and row_shape == (stream.row_numbers,)
    if not stream.has_network and not is_row:
        raise InputError(
            f"STREAM={stream.name}: items() must return float32 rows of shape (n, {stream.row_numbers}), "
            f"as `row_numbers` = {stream.row_numbers} says (got {items.dtype} {tuple(items.shape)})"
        )
    return items


def as_large(picture: Tensor, other: Tensor) -> Tensor:
    """The picture resized to the size of `other`: all items of a clip need one size."""
    if picture.shape == other.shape:
        return picture
    size_px = (other.shape[-2], other.shape[-1])
    return resize(picture[None], Resize(size_px, rounded=picture.dtype == torch.uint8))[0]
