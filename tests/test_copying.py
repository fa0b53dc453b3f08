"""Crops of many clips at once, and clips over several blocks of items."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reelbank.extract.flow.methods import FlowMethod
from reelbank.extract.networks.preprocessing import Resize
from reelbank.extract.pipeline.copying import copy_crops
from reelbank.extract.pipeline.crops import UnfitPicture, corners, resize
from reelbank.extract.pipeline.items import Items
from reelbank.extract.streams.loading import load_stream


def pictures(*shape: int, seed: int = 0) -> torch.Tensor:
    noise = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return torch.from_numpy(noise)


@settings(max_examples=80, deadline=None)
@given(
    clips=st.integers(1, 4),
    items=st.integers(1, 3),
    versions=st.integers(1, 2),
    places=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=6),
    is_grid=st.booleans(),
    is_video=st.booleans(),
    as_decoded=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_crops_of_many_clips_are_the_single_ones(
    clips, items, versions, places, is_grid, is_video, as_decoded, seed
):
    rng = np.random.default_rng(seed)
    source = pictures(versions, 8, 2, 7, 9, seed=seed)
    if as_decoded:
        source = source.transpose(2, 4).contiguous().transpose(2, 4)
    if is_grid:
        places = [(0, 1), (0, 3), (2, 1), (2, 3), *places]
    frames = rng.integers(0, 8, (clips, items))
    if rng.random() < 0.5:  # successive pictures
        frames = np.arange(clips * items).reshape(clips, items) % 8
    shape = (clips, versions, len(places), items, 2, 4, 5)
    inputs = torch.zeros(shape, dtype=torch.uint8)
    if is_video:  # channels before items in memory
        inputs = inputs.transpose(3, 4).contiguous().transpose(3, 4)
    copy_crops(inputs, source, frames, places)
    for clip, version, crop, item in np.ndindex(*shape[:4]):
        top, left = places[crop]
        expected = source[version, frames[clip, item], :, top : top + 4, left : left + 5]
        assert torch.equal(inputs[clip, version, crop, item], expected)


def test_a_crop_that_is_larger_than_the_picture_is_refused():
    assert corners((40, 50), (30, 50), 5) == [(0, 0), (0, 0), (10, 0), (10, 0), (5, 0)]
    with pytest.raises(UnfitPicture, match="50 x 40 is smaller than the crop, 32 x 41"):
        corners((40, 50), (41, 32), 1)


def items_of(*chunks: torch.Tensor) -> Items:
    """The pictures of successive chunks as items of the stream rgb, resized to a height of 8."""
    items = Items(load_stream("rgb"), Resize(8), np.arange(sum(map(len, chunks))))
    first = 0
    for chunk in chunks:
        items.take(np.arange(first, first + len(chunk)), chunk, None)
        first += len(chunk)
    return items


def test_clips_over_several_chunks_are_one_piece():
    shown = pictures(9, 3, 16, 24)
    expected = resize(shown, Resize(8))
    items = items_of(*shown.split(3))
    numbers = np.array([[0, 1], [2, 3], [3, 3], [5, 4]])
    (piece,) = items.pieces(numbers)
    assert torch.equal(piece.block.items[torch.from_numpy(piece.positions)], expected[numbers])
    items.forget(5)
    (piece,) = items.pieces(np.array([[5, 6], [6, 7]]))
    assert len(piece.block.numbers) < 9  # what no clip needs is dropped
    assert torch.equal(piece.block.items[torch.from_numpy(piece.positions)][1], expected[6:8])


def test_a_clip_in_which_the_picture_size_changes_has_the_size_of_its_first_item():
    before, after = pictures(3, 3, 16, 24), pictures(3, 3, 16, 32, seed=1)
    items = items_of(before, after)
    pieces = list(items.pieces(np.array([[0, 1], [2, 3], [3, 2], [4, 5]])))
    assert [piece.clips for piece in pieces] == [slice(i, i + 1) for i in range(4)]
    shapes = [tuple(piece.block.items.shape[2:]) for piece in pieces]
    assert shapes == [(8, 12), (8, 12), (8, 16), (8, 16)]
    second = pieces[1]
    expected = resize(resize(after[:1], Resize(8)), Resize((8, 12)))[0]
    assert torch.equal(second.block.items[second.positions[0, 1]], expected)


def test_a_chunk_of_a_long_timeline_costs_what_the_chunk_has():
    """Fields between a million ticks: finding those of two pictures needs no memory for the others."""
    shown = pictures(4, 3, 16, 24)
    ticks = 1_000_000
    items = Items(load_stream("flow"), Resize(8), np.arange(ticks - 1), np.arange(ticks))
    calls = []

    def compute(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        calls.append(len(first))
        return torch.zeros(len(first), 2, *first.shape[2:])

    method = FlowMethod({"method": "none"}, compute)
    items.take(np.arange(0, 2), shown[:2], method)
    tracemalloc.start()
    try:
        items.take(np.arange(2, 4), shown[2:], method)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert calls == [1, 2]  # the pairs 0-1, and then 1-2 and 2-3
    assert peak_bytes < ticks  # an entry for each item would need some hundred bytes


def test_pairs_of_a_timeline_by_hand():
    """Pictures 0, 0, 3, 4, 4, 4 on screen: the fields are 0-0, 0-3, 3-4, 4-4 and 4-4."""
    shown = pictures(3, 3, 16, 24)
    line = np.array([0, 0, 3, 4, 4, 4])
    items = Items(load_stream("flow"), Resize(16), np.empty(0, np.int64), line)
    items.need(np.array([[4, 3], [2, 1]]))
    items.need(np.array([[0, 1]]))
    assert items.numbers.tolist() == [0, 1, 2, 3, 4]
    pairs: list[tuple[int, int]] = []

    def compute(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        for one, other in zip(first, second, strict=True):
            both = [next(i for i in range(3) if torch.equal(shown[i], x)) for x in (one, other)]
            pairs.append((both[0], both[1]))
        return torch.zeros(len(first), 2, *first.shape[2:])

    method = FlowMethod({"method": "none"}, compute)
    items.take(np.array([0, 3]), shown[:2], method)
    items.take(np.array([4]), shown[2:], method)
    assert pairs == [(0, 0), (0, 1), (1, 2), (2, 2), (2, 2)]
    assert np.concatenate([block.numbers for block in items.blocks]).tolist() == [0, 1, 2, 3, 4]
