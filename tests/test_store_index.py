"""The index of a large store is read by blocks: what is read is checked first, an id is found without
reading all, and opening costs the same for any number of videos."""

import re
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xxhash
from made_files import build, datasets_of
from made_stores import DATASET, RECIPE, check_holds, fill, made_values, made_video

from reelbank.data.errors import InputError
from reelbank.data.store.file.format import FeatureFile
from reelbank.data.store.reader import Store
from reelbank.data.store.records import StoredVideo
from reelbank.data.store.writer import StoreWriter

# Two ids with the same xxh3.
SAME_HASH = ("aaaacx1", "BY#eHr+u")
GROWTH = Path(__file__).parents[1] / "benchmarks" / "growth.py"


def fill_many(path: Path, videos: list[StoredVideo], **options: Any) -> None:
    """A store with one row for each video: its number."""
    with StoreWriter(path, RECIPE, DATASET, part_videos=10_000, **options) as writer:
        for number, video in enumerate(videos):
            writer.add(video, np.full((1, 2), number % 2048), np.array([float(number)]))
        assert writer.finish(videos)


def many_videos(count: int) -> list[StoredVideo]:
    return [
        replace(made_video(number % 1000), id=f"dig/v{number:07d}", label="dig")
        for number in range(count)
    ]


def test_ids_with_the_same_hash_are_different_videos(tmp_path):
    first, second = SAME_HASH
    hashes = {xxhash.xxh3_64_intdigest(each.encode()) for each in SAME_HASH}
    assert len(hashes) == 1
    for stored, failed in ((SAME_HASH, ()), ((first,), (second,)), ((), SAME_HASH)):
        path = tmp_path / f"{len(stored)}.h5"
        videos = [replace(made_video(number), id=name) for number, name in enumerate(SAME_HASH)]
        others = [made_video(number) for number in range(2, 6)]
        with StoreWriter(path, RECIPE, DATASET) as writer:
            for number, video in enumerate([*videos, *others]):
                if video.id in failed:
                    writer.fail(video, f"broken {video.id}")
                else:
                    writer.add(video, np.full((1, 5), number), np.zeros(1))
            assert writer.finish([*videos, *others])
        with Store.open(path) as store:
            assert [name in store for name in SAME_HASH] == [name in stored for name in SAME_HASH]
            for name in stored:
                expected = float(SAME_HASH.index(name))
                assert store.features(name)[0].tolist() == [[expected] * 5]
            for name in failed:
                assert store.failures[name].reason == f"broken {name}"
            assert store.verify() == []
        with StoreWriter(path, RECIPE, DATASET) as writer:
            assert [name in writer.done for name in SAME_HASH] == [
                name in stored for name in SAME_HASH
            ]


def test_a_stored_video_can_have_a_failure_of_its_new_file(tmp_path):
    path, changed = tmp_path / "made.h5", replace(made_video(1), source={"bytes": 7})
    fill(path, range(4))
    with StoreWriter(path, RECIPE, DATASET) as writer:
        writer.fail(changed, "no frame decoded")
        assert writer.finish([made_video(number) for number in range(4)])
    with Store.open(path) as store:
        assert changed.id in store and store.failures[changed.id].reason == "no frame decoded"
        assert store.verify() == []
    check_holds(path, range(4))


def test_h5py_finds_a_video_as_the_document_says(tmp_path):
    path = tmp_path / "made.h5"
    fill(path, range(8))
    with h5py.File(path) as file:
        for number in range(8):
            searched = xxhash.xxh3_64_intdigest(made_video(number).id.encode())
            hashes = file["key_hashes"][:]
            assert (hashes[:-1] < hashes[1:]).all()
            at = file["key_numbers"][np.searchsorted(hashes, np.uint64(searched))]
            assert file["video_ids"].asstr()[at] == made_video(number).id
            first, last = file["source_offsets"][at : at + 2]
            assert f'"bytes":{1000 + number}' in bytes(file["sources"][first:last]).decode()


def test_the_code_of_validation_is_read(tmp_path):
    fill(tmp_path / "good.h5", range(4))
    datasets = datasets_of(tmp_path / "good.h5")
    with Store.open(tmp_path / "good.h5") as store:
        features = store.load()[0]
    codes = np.array([[3, 0], [1, 3], [2, 1], [3, 3]], np.uint8)
    build(tmp_path / "made.h5", {**datasets, "parts": codes}, features)
    with Store.open(tmp_path / "made.h5") as store:
        names = [["validation", ""], ["train", "validation"], ["test", "train"]]
        assert [list(parts) for parts in store.parts] == [*names, ["validation"] * 2]
        assert store.verify() == []


def asked(store: Store, names: list[str]) -> list[Any]:
    """What a store says about some videos, asked one by one."""
    answers: list[Any] = []
    for name in names:
        number = int(name[-7:])
        values, times_seconds = store.features(name)
        answers.append((name in store, values.tolist(), times_seconds.tolist()))
        answers.append((store.sources[number], store.times_seconds(name).tolist()))
    return answers


def test_damage_in_any_block_of_the_index_is_told_or_not_used(tmp_path):
    path, broken = tmp_path / "made.h5", tmp_path / "broken.h5"
    videos = many_videos(3000)
    fill_many(path, videos)
    names = [video.id for video in videos[::500]]
    with Store.open(path) as store:
        good, labels = asked(store, names), store.labels
    header, content = FeatureFile(path).header, path.read_bytes()
    told = 0
    for start, end in header.index_spans:
        for first in range(start, end, header.tree_block_bytes):
            copy = bytearray(content)
            copy[min(end - 1, first + 1000)] ^= 1
            broken.write_bytes(copy)
            try:
                with Store.open(broken) as store:
                    assert asked(store, names) == good
                    assert store.labels == labels
            except InputError as error:
                assert re.search(f"^{broken}: its index is damaged", str(error))
                told += 1
            try:
                with Store.open(broken) as store:
                    assert store.verify() == [f"{broken}: its index is damaged"]
            except InputError as error:
                assert f"{broken}: its index is damaged" in str(error)
    blocks = (len(content) - header.features_bytes) // header.tree_block_bytes
    assert blocks >= 20 and told >= 15


def test_a_closed_store_still_says_what_it_holds(tmp_path):
    path = tmp_path / "made.h5"
    fill(path, range(4))
    with Store.open(path) as store:
        pass
    assert store.labels == [made_video(number).label for number in range(4)]
    assert list(store.sources) == [made_video(number).source for number in range(4)]


def test_a_file_that_took_the_name_is_not_read_instead(tmp_path):
    path = tmp_path / "made.h5"
    fill_many(path, many_videos(3000))
    with Store.open(path) as store:
        count = len(store)
    path.unlink()
    fill(path, range(2))
    assert count == 3000
    with pytest.raises(InputError, match=r"another file has replaced this one; open the store"):
        list(store.sources)
    path.unlink()
    with pytest.raises(InputError, match=r"merged or removed this file; open the store again"):
        list(store.sources)


@pytest.mark.parametrize("order", ["forwards", "backwards", "drawn"])
def test_many_videos_are_read_in_any_order(tmp_path, order):
    videos = many_videos(3000)
    fill_many(tmp_path / "made.h5", videos)
    numbers = np.arange(3000)
    if order == "backwards":
        numbers = numbers[::-1]
    elif order == "drawn":
        numbers = np.random.default_rng(0).permutation(3000)
    with Store.open(tmp_path / "made.h5") as store:
        values, offsets, times_seconds = store.load([videos[number].id for number in numbers])
        np.testing.assert_array_equal(values[:, 0], numbers % 2048)
        np.testing.assert_array_equal(times_seconds, numbers)
        np.testing.assert_array_equal(offsets, np.arange(3001))
        ids = [videos[number].id for number in numbers[:200]]
        assert [store.times_seconds(name)[0] for name in ids] == numbers[:200].tolist()
        with pytest.raises(InputError, match=r"does not contain 1 of the 2 requested videos"):
            store.load([ids[0], "dig/unknown"])


def test_sources_are_a_sequence(tmp_path):
    fill(tmp_path / "made.h5", range(5))
    with Store.open(tmp_path / "made.h5") as store:
        expected = [made_video(number).source for number in range(5)]
        assert store.sources == expected and store.sources != expected[:4]
        assert (store.sources[-1], store.sources[1:3]) == (expected[-1], expected[1:3])
        assert (
            store.sources[::-2] == expected[::-2]
            and list(reversed(store.sources)) == (expected[::-1])
        )
        with pytest.raises(IndexError):
            store.sources[5]
        assert "5 items" in repr(store.sources)


def test_a_row_shape_of_any_size_is_found_again(tmp_path):
    """Blocks end anywhere in rows and columns."""
    for width in (1, 5, 4095, 4097):
        path = tmp_path / f"{width}.h5"
        fill(path, range(3), row_shape=(width,))
        with Store.open(path) as store:
            for number in range(3):
                expected = made_values(number, (width,)).astype(np.float16)
                np.testing.assert_array_equal(store[made_video(number).id], expected)
            assert store.verify() == []


@pytest.mark.long
def test_a_store_of_a_million_videos_opens_like_a_small_one(tmp_path):
    measured = runpy.run_path(str(GROWTH))["measured"]
    used = {}
    for size in (1000, 1_000_000):
        path = tmp_path / f"{size}.h5"
        assert measured("direct", path, size)["MB of memory"] < 500
        used[size] = {name: measured(name, path, size) for name in ("open", "read")}
        path.unlink()
    for name in ("open", "read"):
        large, small = used[1_000_000][name], used[1000][name]
        assert large["MB of memory"] < small["MB of memory"] + 20
        # To find a video, a few blocks of the sorted table are read; `read` looks up 300 videos.
        assert large["MB read"] < small["MB read"] + (60 if name == "read" else 20)
