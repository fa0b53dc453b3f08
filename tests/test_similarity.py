"""The vectors of a store, and the nearest of them, against the direct computation in float64."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from made_stores import DATASET, RECIPE, fill, made_times, made_values, made_video

from reelbank.data.errors import InputError
from reelbank.data.similarity.approximate import probably_nearest
from reelbank.data.similarity.nearest import Nearest, Search, nearest
from reelbank.data.similarity.unit import centre
from reelbank.data.similarity.vectors import moment_vectors, video_vectors
from reelbank.data.store.file import format as feature_file
from reelbank.data.store.reader import Store
from reelbank.data.store.records import StoredVideo
from reelbank.data.store.writer import StoreWriter


def of_length_1(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def random_vectors(count: int, dimensions: int, seed: int = 0) -> np.ndarray:
    """(count, dimensions) float32, of length 1."""
    rng = np.random.default_rng(seed)
    return of_length_1(rng.normal(size=(count, dimensions))).astype(np.float32)


def nearest_to(queries: np.ndarray, vectors: np.ndarray, *, count: int) -> Nearest:
    """Of each of `queries` the nearest `count` of `vectors`."""
    search = Search(queries, count)
    search.compare(vectors)
    return search.found


def test_the_vector_of_a_video_is_the_mean_of_its_rows(tmp_path: Path) -> None:
    fill(tmp_path / "made.h5", range(9))
    with Store.open(tmp_path / "made.h5") as store:
        vectors = video_vectors(store)
    means = np.array([made_values(n).astype("f2").astype("f8").mean(0) for n in range(9)])
    assert vectors.values.dtype == np.float32 and vectors.videos.tolist() == list(range(9))
    np.testing.assert_allclose(vectors.values, of_length_1(means), atol=1e-6)
    assert np.isnan(vectors.times_seconds).all() and vectors.left_out == 0


def test_vectors_are_centred_on_the_mean_of_some() -> None:
    vectors = random_vectors(70_000, 3) + np.float32(0.5)
    fitted = range(0, 69_000, 2)
    expected = of_length_1(vectors - vectors[fitted].mean(0, dtype="f8"))
    centre(vectors, fitted)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_each_row_is_a_moment_with_its_time(tmp_path: Path) -> None:
    fill(tmp_path / "made.h5", range(9))
    with Store.open(tmp_path / "made.h5") as store:
        pieces = list(moment_vectors(store))
    rows = np.concatenate([made_values(number).astype("f2") for number in range(9)])
    values = np.concatenate([piece.values for piece in pieces])
    np.testing.assert_allclose(values, of_length_1(rows.astype("f8")), atol=1e-6)
    times_seconds = np.concatenate([piece.times_seconds for piece in pieces])
    np.testing.assert_array_equal(times_seconds, np.concatenate(list(map(made_times, range(9)))))
    videos = np.concatenate([piece.videos for piece in pieces])
    np.testing.assert_array_equal(videos, np.repeat(range(9), [1 + n % 4 for n in range(9)]))


@pytest.mark.parametrize(
    ("row_shape", "recipe", "axes"),
    [
        ((4, 3, 2), {}, (2, 3)),
        ((2, 4), {"crops_kept": True}, (1,)),
        ((2, 4, 3, 2), {"crops_kept": True}, (1, 3, 4)),
    ],
)
def test_maps_and_crops_are_averaged(
    tmp_path: Path, row_shape: tuple[int, ...], recipe: dict[str, object], axes: tuple[int, ...]
) -> None:
    """Rows of augmented views are no part of a video's vector, and failed videos have none."""
    values = np.random.default_rng(0).normal(size=(3, 5, *row_shape)).astype(np.float16)
    videos = [StoredVideo(f"v{number}", parts=("", "")) for number in range(3)]
    with StoreWriter(tmp_path / "made.h5", RECIPE | recipe, DATASET) as writer:
        for video, rows in zip(videos, values, strict=True):
            writer.add(video, rows, np.arange(5.0), np.array([0, 0, 0, 1, 1]))
        broken = StoredVideo("broken", parts=("", ""))
        writer.fail(broken, "no frames")
        writer.finish([*videos, broken])
    with Store.open(tmp_path / "made.h5") as store:
        of_videos, (of_rows,) = video_vectors(store), moment_vectors(store)
    clean = values[:, :3].astype(np.float64).mean(tuple(axis + 1 for axis in axes))  # (3, 3, D)
    np.testing.assert_allclose(of_videos.values, of_length_1(clean.mean(1)), atol=1e-5)
    np.testing.assert_allclose(of_rows.values, of_length_1(clean).reshape(9, 4), atol=1e-5)
    assert of_videos.left_out == 1 and of_rows.times_seconds.tolist() == 3 * [0, 1, 2]


def test_a_large_store_is_read_piece_by_piece(tmp_path: Path) -> None:
    """Rows of 2 MB: no two videos fit in a piece together."""
    values = np.random.default_rng(0).integers(-9, 9, (2, 5, 1 << 20)).astype(np.float16)
    with StoreWriter(tmp_path / "made.h5", RECIPE, DATASET) as writer:
        for number, rows in enumerate(values):
            writer.add(made_video(number), rows, np.arange(5.0))
        writer.finish(list(map(made_video, range(2))))
    with Store.open(tmp_path / "made.h5") as store:
        assert [len(piece.values) for piece in store.pieces()] == [5, 5]
        vectors = video_vectors(store).values
    means = values.astype(np.float32).mean(1)
    np.testing.assert_allclose(vectors, of_length_1(means), atol=1e-5)


@pytest.mark.parametrize(("videos", "count"), [(1, 3), (40, 1), (3_000, 7), (20_000, 50)])
def test_the_nearest_are_those_of_all_pairs_in_float64(videos: int, count: int) -> None:
    vectors, queries = random_vectors(videos, 24), random_vectors(30, 24, seed=1)
    found = nearest_to(queries, vectors, count=count)
    cosines = queries.astype(np.float64) @ vectors.T.astype(np.float64)
    expected = np.argsort(-cosines, axis=1)[:, :count]
    kept = expected.shape[1]
    np.testing.assert_array_equal(found.numbers[:, :kept], expected)
    np.testing.assert_allclose(
        found.cosines[:, :kept], np.take_along_axis(cosines, expected, 1), atol=1e-12
    )
    assert (found.numbers[:, kept:] == -1).all() and (found.cosines[:, kept:] == -1).all()


def test_equal_vectors_come_in_their_order() -> None:
    vectors = random_vectors(40_000, 37)
    copies = [5, 999, 1_000, 1_024, 17_001, 17_408, 33_792, 39_999]
    vectors[copies] = vectors[5]
    found = nearest_to(vectors[5:6], vectors, count=len(copies))
    assert found.numbers[0].tolist() == copies and len(set(found.cosines[0].tolist())) == 1
    one_by_one = Search(vectors[5:6], 4)
    for piece in np.array_split(vectors, 7):
        one_by_one.compare(piece)
    assert one_by_one.found.numbers[0].tolist() == copies[:4]


def test_many_equal_vectors_are_the_first_ones() -> None:
    vectors = np.repeat(random_vectors(1, 8), 3_000, axis=0)
    found = nearest_to(vectors[:2], vectors, count=5)
    assert found.numbers.tolist() == [[0, 1, 2, 3, 4]] * 2


def test_vectors_of_the_same_group_are_not_compared() -> None:
    vectors = random_vectors(300, 16)
    groups = np.arange(300) // 3
    found = nearest(vectors, range(300), range(300), groups, count=2)
    cosines = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    cosines[groups[:, None] == groups] = -2
    np.testing.assert_array_equal(found.numbers, np.argsort(-cosines, axis=1)[:, :2])
    alone = nearest(vectors, [0], [1, 2], groups)
    assert alone.numbers.tolist() == [[-1]] and alone.cosines.tolist() == [[-1]]


def test_an_index_finds_nearly_all_of_the_nearest() -> None:
    vectors = random_vectors(2_500, 8)
    videos = range(0, len(vectors), 5)
    found = probably_nearest(vectors, videos, count=3)
    numbers = np.arange(len(vectors))
    exact = nearest(vectors, videos, numbers, groups=numbers, count=3)
    is_same = found.numbers == exact.numbers
    assert is_same.mean() > 0.98
    np.testing.assert_array_equal(found.cosines[is_same], exact.cosines[is_same])


def test_features_that_are_not_finite_are_named(tmp_path: Path) -> None:
    """As an untrusted file may have them, with right digests: our writers do not store them."""
    path = tmp_path / "made.h5"
    fill(path, range(3))
    with Store.open(path) as store:
        values = [store[video_id].copy() for video_id in store]
    values[1][1, 3] = np.nan
    checksums = np.array([feature_file.checksum(rows) for rows in values], np.uint64)
    index = dataclasses.replace(feature_file.FeatureFile(path).index, checksums=checksums)
    path.unlink()
    feature_file.write(path, index, values)
    with (
        Store.open(path) as store,
        pytest.raises(InputError, match=f"video {made_video(1).id} has"),
    ):
        video_vectors(store)


def test_pictures_are_not_features(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "made.h5", RECIPE, DATASET) as writer:
        writer.add(made_video(0), np.full((2, 3, 4, 4), 255, np.uint8), np.zeros(2))
        writer.finish([made_video(0)])
    with Store.open(tmp_path / "made.h5") as store, pytest.raises(InputError, match="pictures"):
        video_vectors(store)
