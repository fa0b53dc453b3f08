"""Stores of uint8, augmented views in addition to clean rows, and videos with several classes."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_stores import DATASET, RECIPE, check_holds, fill, made_times, made_values, made_video

from reelbank.data.errors import InputError
from reelbank.data.store.file import format as feature_file
from reelbank.data.store.reader import Store
from reelbank.data.store.records import Failure
from reelbank.data.store.writer import StoreWriter

MANY = replace(DATASET, multilabel=True)


def made_views(number):
    """(K,) uint8 of video `number`: every third video has none."""
    return np.sort(np.arange(3 + number) % (1 + number % 3)).astype(np.uint8)


def made_pictures(number, row_shape):
    return np.random.default_rng(number).integers(0, 256, (3 + number, *row_shape), np.uint8)


def fill_pictures(path, numbers, row_shape, **options):
    metas = [made_video(number) for number in numbers]
    with StoreWriter(path, RECIPE, DATASET, **options) as writer:
        for number, meta in zip(numbers, metas, strict=True):
            writer.add(
                meta,
                made_pictures(number, row_shape),
                np.arange(3 + number) + number / 8,
                made_views(number),
            )
        return writer.finish(metas)


@pytest.mark.parametrize(
    "row_shape", [(5,), (2, 7, 7), (500, 401)]
)  # the last: 0.2 MB a row, several reads
@pytest.mark.parametrize("compression", ["", "gzip", "lzf"])
def test_pictures_and_views_come_back_from_merged_parts(tmp_path, row_shape, compression):
    path, numbers = tmp_path / "made.h5", range(6)
    assert fill_pictures(path, numbers, row_shape, part_videos=2, compression=compression)
    order = [4, 5, 0, 1, 2, 3, 3]
    rows = np.concatenate([made_pictures(n, row_shape) for n in order])
    views = np.concatenate([made_views(n) for n in order])
    times_seconds = np.concatenate([np.arange(3 + n) + n / 8 for n in order])
    with Store.open(path) as store:
        assert store.finished and store.verify() == [] and store.has_views
        assert (store.dtype, store.row_shape) == (np.uint8, row_shape)
        assert store.rows.tolist() == [3, 2, 2, 6, 4, 3] and store.all_rows.tolist() == [
            3,
            4,
            5,
            6,
            7,
            8,
        ]
        found = store.load_views([made_video(n).id for n in order])
        for got, wanted in zip(
            found, (rows, [0, 7, 15, 18, 22, 27, 33, 39], times_seconds, views), strict=True
        ):
            np.testing.assert_array_equal(got, wanted)
        assert found[0].dtype == found[3].dtype == np.uint8
        clean = store.load([made_video(n).id for n in order])
        for got, wanted in zip(
            clean,
            (rows[views == 0], [0, 4, 7, 10, 12, 14, 20, 26], times_seconds[views == 0]),
            strict=True,
        ):
            np.testing.assert_array_equal(got, wanted)
        for n in numbers:
            np.testing.assert_array_equal(
                store.features(made_video(n).id)[0],
                made_pictures(n, row_shape)[made_views(n) == 0],
            )
            np.testing.assert_array_equal(
                store.times_seconds(made_video(n).id), store.features(made_video(n).id)[1]
            )
    inode = path.stat().st_ino
    assert (
        fill_pictures(path, range(0), row_shape) and path.stat().st_ino == inode
    )  # nothing new, nothing written
    with h5py.File(path) as file:
        assert file["features"].dtype == np.uint8
        assert file["checksums"][0] == feature_file.checksum(made_pictures(0, row_shape))


@settings(max_examples=20, deadline=None)
@given(
    counts=st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=4), min_size=1, max_size=6),
    part_videos=st.integers(1, 3),
    data=st.data(),
)
def test_any_views_of_any_videos_in_any_order(tmp_path_factory, counts, part_videos, data):
    """`counts`: for each video, how many rows are clean, of view 1, of view 2 ..."""
    path = tmp_path_factory.mktemp("views") / "made.h5"
    views = [np.repeat(np.arange(len(one)), one) for one in counts]
    values = [
        np.random.default_rng(n).normal(size=(len(one), 3)).astype(np.float16)
        for n, one in enumerate(views)
    ]
    metas = [made_video(number) for number in range(len(counts))]
    with StoreWriter(path, RECIPE, DATASET, part_videos=part_videos) as writer:
        for meta, rows, one in zip(metas, values, views, strict=True):
            writer.add(meta, rows, np.arange(len(rows)), one)
        if data.draw(st.booleans()):
            assert writer.finish(metas)
    order = data.draw(st.lists(st.integers(0, len(counts) - 1), min_size=1, max_size=8))
    with Store.open(path) as store:
        ids = [metas[n].id for n in order]
        np.testing.assert_array_equal(
            store.load(ids)[0], np.concatenate([values[n][views[n] == 0] for n in order])
        )
        np.testing.assert_array_equal(
            store.load_views(ids)[0], np.concatenate([values[n] for n in order])
        )
        np.testing.assert_array_equal(
            store.load_views(ids)[3], np.concatenate([views[n] for n in order])
        )
        assert store.has_views == any(len(one) > 1 for one in counts)


def test_a_store_without_views_has_only_clean_rows(tmp_path):
    fill(tmp_path / "made.h5", range(4))
    with Store.open(tmp_path / "made.h5") as store:
        assert not store.has_views and store.all_rows.tolist() == store.rows.tolist()
        values, offsets, times_seconds, views = store.load_views()
        for got, wanted in zip((values, offsets, times_seconds), store.load(), strict=True):
            np.testing.assert_array_equal(got, wanted)
        assert views.tolist() == [0] * len(values)


@pytest.mark.parametrize(
    "views",
    [
        [0, 0],
        [1, 1, 2],
        [0, 1, 0],
        [0, 2, 2],
        [0, 0, -1],
        [0, 0, 256],
        [0.0, 0.0, 1.0],
        [[0], [0], [1]],
        [],
    ],
)
def test_views_that_make_no_sense_are_refused(tmp_path, views):
    with StoreWriter(tmp_path / "made.h5", RECIPE, DATASET) as writer:
        with pytest.raises(InputError, match=r"dig/v000: views must begin with 0 .* for 3 rows"):
            writer.add(made_video(0), np.ones((3, 2)), np.zeros(3), views)
        assert not writer.finish([made_video(0)])


def test_a_store_keeps_one_type(tmp_path):
    path, pictures = tmp_path / "made.h5", np.ones((2, 5), np.uint8)
    with (
        StoreWriter(path, RECIPE, DATASET) as writer,
        StoreWriter(path, RECIPE, DATASET, shard="2") as other,
    ):
        writer.add(made_video(0), pictures, np.zeros(2))
        with pytest.raises(
            InputError,
            match=r"fly/v001: rows must be \(5,\) uint8 like .* \(got \(5,\) float16\)",
        ):
            writer.add(made_video(1), pictures.astype(np.float32), np.zeros(2))
        writer.flush()
        with pytest.raises(InputError, match="like the other rows of the store"):
            writer.add(made_video(1), pictures.astype(np.int16), np.zeros(2))
        other.add(made_video(1), pictures.astype(np.float32), np.zeros(2))  # it cannot know
        other.flush()
        with pytest.raises(
            InputError,
            match=r"has rows of \(5,\) float16, .* of \(5,\) uint8; move one of these files away",
        ):
            Store.open(path)


@pytest.mark.parametrize("compression", ["", "gzip"])
def test_one_open_file_serves_many_threads(tmp_path, compression, monkeypatch):
    path, row_shape = tmp_path / "made.h5", (64, 7, 7)
    fill_pictures(path, range(8), row_shape, compression=compression)
    with Store.open(path) as store:
        path.unlink()  # no read opens it again,
        monkeypatch.delattr(h5py, "File")  # nor has its HDF5 parsed again

        def read(thread):
            for turn in range(40):
                number = (5 * turn + 3 * thread) % 8
                kept = made_pictures(number, row_shape)[made_views(number) == 0]
                np.testing.assert_array_equal(store.features(made_video(number).id)[0], kept)
            return thread

        with ThreadPoolExecutor(6) as pool:
            assert list(pool.map(read, range(6))) == list(range(6))


@pytest.mark.parametrize("compression", ["", "lzf"])
def test_damage_of_a_view_is_damage_of_its_video(tmp_path, compression):
    path = tmp_path / "made.h5"
    fill_pictures(path, range(3), (5,), compression=compression)
    if not compression:
        start = feature_file.FeatureFile(path).header.features_start
        content = bytearray(path.read_bytes())
        content[start + 5 * 6] ^= 1  # the last row of video 1, of view 1
        broken = tmp_path / "broken.h5"
        broken.write_bytes(content)
        with Store.open(broken) as store:
            for read in (store.features, lambda name: store.load_views([name])):
                with pytest.raises(InputError, match="the features of fly/v001 are damaged"):
                    read("fly/v001")
            assert len(store.features("dig/v002")[0]) == 2 and len(store.verify()) == 1
    with h5py.File(path) as file:
        place = file["views"].id.get_offset()
        assert file["views"][:].tolist() == [0, 0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 2]
    content = bytearray(path.read_bytes())
    content[place + 5] = 0
    path.write_bytes(content)
    with pytest.raises(InputError, match="its index is damaged"):
        Store.open(path)


def test_a_video_has_several_classes_one_or_none(tmp_path):
    path, labels = tmp_path / "made.h5", ["dig;fly", "", "fly", "dig"]
    metas = [replace(made_video(number), label=label) for number, label in enumerate(labels)]
    with StoreWriter(path, RECIPE, MANY, part_videos=1) as writer:
        for number, meta in enumerate(metas):
            writer.add(meta, made_values(number), made_times(number))
        with pytest.raises(InputError, match="its class 'swim' must be one"):
            writer.add(replace(metas[0], label="dig;swim"), made_values(0), made_times(0))
        with pytest.raises(InputError, match="its class '' must be one"):
            writer.add(replace(metas[0], label="dig;"), made_values(0), made_times(0))
        assert writer.finish(metas)
    with Store.open(path) as store:
        assert store.labels == labels and store.dataset == MANY and store.verify() == []
        assert [store.dataset.label_names(label) for label in store.labels] == [
            ["dig", "fly"],
            [],
            ["fly"],
            ["dig"],
        ]
    wider = replace(MANY, classes=["cut", "dig", "fly"])
    with StoreWriter(path, RECIPE, wider) as writer:  # what is known stays multi-label
        assert writer.finish([replace(metas[1], label="cut;dig")])
    with Store.open(path) as store:
        assert store.dataset == wider and store.labels == ["dig;fly", "cut;dig", "fly", "dig"]
    with pytest.raises(
        InputError, match=r"cannot contain both single-label and multi-label videos"
    ):
        StoreWriter(path, RECIPE, DATASET)


def test_one_class_a_video_may_have_a_semicolon_in_its_name(tmp_path):
    path, about = tmp_path / "made.h5", replace(DATASET, classes=["dig", "fly", "a;b"])
    with pytest.raises(
        InputError, match="class 'a;b': must not contain ';', which separates the classes"
    ):
        StoreWriter(path, RECIPE, replace(about, multilabel=True))
    with StoreWriter(path, RECIPE, about) as writer:
        writer.add(replace(made_video(0), label="a;b"), made_values(0), made_times(0))
        assert writer.finish([replace(made_video(0), label="a;b")])
    with Store.open(path) as store:
        assert store.labels == ["a;b"] and store.dataset.label_names("a;b") == ["a;b"]


def test_newer_features_without_views_replace_those_with(tmp_path):
    path = tmp_path / "made.h5"
    with StoreWriter(path, RECIPE, DATASET) as writer:
        writer.add(made_video(1), np.ones((4, 5)), np.zeros(4), [0, 1, 2, 3])
        assert writer.finish([made_video(1)])
    assert fill(path, [1])
    check_holds(path, [1])
    with Store.open(path) as store:
        assert not store.has_views
    assert feature_file.FeatureFile(path).index.views[:].tolist() == [0, 0]


def test_only_a_missing_sound_is_an_absence():
    assert Failure.of("no sound: no track").is_absence
    assert Failure.of("no sound: silent").reason == "silent"
    for text in ("no frame decoded", "sound: no sound: broken", ""):
        assert not Failure.of(text).is_absence and str(Failure.of(text)) == text
