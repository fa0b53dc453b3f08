"""Stores that are written as a whole: what is checked before, and what is told about errors; and
the few reads for videos that are chosen from a large store."""

import errno
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reelbank.data.datasets.splits import cut_validation
from reelbank.data.errors import InputError
from reelbank.data.positions import positions
from reelbank.data.store.copies import same_files
from reelbank.data.store.file.columns import LazySequence, Taken
from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription
from reelbank.data.store.videos import StoredVideos
from reelbank.data.store.whole import write_whole

DATASET = DatasetDescription("many", ("run", "jump"), ("1", "2"))
COUNT = 4_200  # more than are checked at once


def videos_with(**columns: dict[int, Any]) -> StoredVideos:
    """COUNT videos, some of which have other facts: column -> number of a video -> its value."""
    facts: dict[str, list[Any]] = {
        "ids": [f"v{number:04}" for number in range(COUNT)],
        "labels": ["run", "jump"] * (COUNT // 2),
        "groups": [""] * COUNT,
        "parts": [("train", "validation"), ("test", "")] * (COUNT // 2),
        "sources": [{"bytes": number} for number in range(COUNT)],
    }
    for name, changes in columns.items():
        for number, value in changes.items():
            facts[name][number] = value
    return StoredVideos(**facts)


def write_rows(path: Path, videos: StoredVideos, times_seconds: np.ndarray) -> None:
    rows = np.ones((COUNT, 2), np.float16)
    write_whole(path, {}, DATASET, videos, pieces=[rows], times_seconds=times_seconds)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {4_150: "swim"}}, "v4150: its class 'swim' must be one of"),
        ({"parts": {4_150: ("train", "dev")}}, r"v4150: must have one part .*'train', 'dev'"),
        ({"parts": {7: ("train",)}}, r"v0007: must have one part .*\['train'\]"),
        ({"ids": {4_150: "../v"}}, r"video id '\.\./v': must be a relative path"),
    ],
)
def test_facts_that_no_store_may_have_are_not_written(
    changes: dict[str, dict[int, Any]], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "whole.h5"
    write_rows(path, videos_with(), np.arange(COUNT))
    before = path.read_bytes()
    with pytest.raises(InputError, match=message):
        write_rows(path, videos_with(**changes), np.arange(COUNT))
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1
    with Store.open(path) as store:
        assert StoredVideos.of(store, np.arange(COUNT)) == videos_with()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_times_that_are_not_finite_are_not_written(value: float, tmp_path: Path) -> None:
    times_seconds = np.zeros(COUNT)
    times_seconds[4_150] = value
    with pytest.raises(InputError, match="times must be finite, but 1 of 4200 are NaN or infinite"):
        write_rows(tmp_path / "whole.h5", videos_with(), times_seconds)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(COUNT, 1), (COUNT - 1,), ()])
def test_each_row_needs_a_time(shape: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must have one time for each of its 4200 rows"):
        write_rows(tmp_path / "whole.h5", videos_with(), np.zeros(shape))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shapes", [[(COUNT,)], [(COUNT, 0)], [(9, 2), (COUNT - 9, 3)]])
def test_rows_of_other_shapes_are_not_written(
    shapes: list[tuple[int, ...]], tmp_path: Path
) -> None:
    pieces = [np.zeros(shape, np.float16) for shape in shapes]
    words = {"pieces": pieces, "times_seconds": np.zeros(COUNT)}
    with pytest.raises(ValueError, match=r"rows must have the shape \(n, "):
        write_whole(tmp_path / "whole.h5", {}, DATASET, videos_with(), **words)
    assert not list(tmp_path.iterdir())


def test_an_error_of_the_rows_is_not_taken_for_one_of_writing(tmp_path: Path) -> None:
    def pieces() -> Iterator[np.ndarray]:
        yield np.ones((9, 2), np.float16)
        raise OSError(errno.EIO, "Input/output error", "source.h5")

    words = {"pieces": pieces(), "times_seconds": np.zeros(COUNT)}
    with pytest.raises(OSError, match=r"Input/output error: 'source\.h5'"):
        write_whole(tmp_path / "whole.h5", {}, DATASET, videos_with(), **words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free disk space"),
        (errno.EDQUOT, "free disk space"),
        (errno.EIO, "check its"),
    ],
)
def test_free_disk_space_is_only_advised_if_there_is_none(
    number: int, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, "as the system says")

    monkeypatch.setattr("reelbank.data.store.whole.write", fail)
    message = rf"whole.h5: cannot be written \(as the system says\); {advice}"
    with pytest.raises(InputError, match=message):
        write_rows(tmp_path / "whole.h5", videos_with(), np.arange(COUNT))
    assert not list(tmp_path.iterdir())


def test_more_rows_than_are_kept_in_memory_are_written(tmp_path: Path) -> None:
    drawn = np.random.default_rng(0).integers(0, 255, (COUNT, 8)).astype(np.float16)

    def pieces() -> Iterator[np.ndarray]:
        for first in range(0, COUNT, 100):
            yield np.tile(drawn[first : first + 100], 1_050)  # 71 MB in total

    words = {"pieces": pieces(), "times_seconds": np.arange(COUNT)}
    write_whole(tmp_path / "whole.h5", {}, DATASET, videos_with(), **words)
    with Store.open(tmp_path / "whole.h5") as store:
        assert store.row_shape == (8_400,) and not store.verify()
        values = store.load()[0]
    np.testing.assert_array_equal(values[:, :8], drawn)
    np.testing.assert_array_equal(values[:, -8:], drawn)
    assert len(list(tmp_path.iterdir())) == 1


class Counted(LazySequence[Mapping[str, Any]]):
    """Facts about files; every second one has the same bytes as its neighbour. reads: the bounds of
    what was read."""

    def __init__(self, count: int) -> None:
        self.count, self.reads = count, list[tuple[int, int]]()

    def __len__(self) -> int:
        return self.count

    def items(self, first: int, last: int) -> list[Mapping[str, Any]]:
        self.reads.append((first, last))
        return [{"bytes": 1, "digest": f"{number // 2}"} for number in range(first, last)]


def test_scattered_videos_are_read_together() -> None:
    sources = Counted(60_000)
    ids = [f"v{number}" for number in range(60_000)]
    rng = np.random.default_rng(0)
    numbers = np.sort(rng.choice(60_000, 12_000, replace=False))
    tests, others = numbers[::4], np.setdiff1d(numbers, numbers[::4])
    found = {copy.video: copy.original for copy in same_files(ids, sources, tests, others)}
    is_other = np.isin(np.arange(60_000), others)
    expected = {f"v{number}": f"v{number ^ 1}" for number in tests if is_other[number ^ 1]}
    assert found == expected and len(expected) > 300
    assert len(sources.reads) < 60
    assert max(last - first for first, last in sources.reads) <= 4_096


@pytest.mark.parametrize(
    ("numbers", "reads"),
    [
        ([3, 5, 9], [(3, 10)]),
        ([3, 5, 900, 901], [(3, 6), (900, 902)]),
        ([5, 3, 3, 4], [(5, 6), (3, 4), (3, 5)]),
        ([0, *range(50, 5_000, 50)], [(0, 4_051), (4_100, 4_951)]),
    ],
)
def test_only_ascending_and_near_numbers_are_read_together(
    numbers: Sequence[int], reads: list[tuple[int, int]]
) -> None:
    sources = Counted(10_000)
    taken = list(Taken([(sources, numbers)]))
    assert taken == [{"bytes": 1, "digest": f"{number // 2}"} for number in numbers]
    assert sources.reads == reads


@pytest.mark.parametrize("order", [list, lambda names: names[::-1]])
def test_the_position_of_an_absent_name_is_an_error_or_as_said(
    order: Callable[[list[str]], list[str]],
) -> None:
    names = order(["a", "c", "x"])
    with pytest.raises(KeyError, match="x"):
        positions(names, ["a", "b", "c"])
    found = dict(zip(names, positions(names, ["a", "b", "c"], absent=-1).tolist(), strict=True))
    assert found == {"a": 0, "c": 2, "x": -1}


@pytest.mark.parametrize(("labels", "groups"), [(["a"] * 3, [""] * 2), (["a"] * 2, [""] * 3)])
def test_a_validation_part_needs_a_label_and_a_group_of_each_video(
    labels: list[str], groups: list[str]
) -> None:
    with pytest.raises(ValueError, match=r"must have the same length \(got 2, "):
        cut_validation(["v1", "v2"], labels, groups, 0.5, 0)
