"""Similar videos: all pairs and the most similar ones are those of a comparison in float64, on real
features they show the same film, and proposed groups are read by the data set `folder`."""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import testdata

import reelbank
from reelbank.data.datasets.registry import load_dataset
from reelbank.data.errors import InputError
from reelbank.data.similarity.components import Components
from reelbank.data.similarity.duplicates.find import find_duplicates
from reelbank.data.similarity.duplicates.options import DuplicatesOptions
from reelbank.data.similarity.duplicates.videos import compared_videos
from reelbank.data.similarity.nearest import Nearest, nearest
from reelbank.data.similarity.pairs import (
    MostSimilar,
    SimilarPairs,
    pairs_above,
    pairs_of_neighbours,
)
from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription, DatasetListing, StoredVideo
from reelbank.data.store.writer import StoreWriter

CLASSES = ("dig", "fly")
DIM = 24


# ---- pairs


def random_vectors(count: int, dimensions: int) -> np.ndarray:
    """(count, dimensions) float32, of length 1; the last are near copies of the first."""
    rng = np.random.default_rng(count)
    vectors = rng.normal(size=(count, dimensions))
    copies = max(1, count // 20)
    vectors[-copies:] = vectors[:copies] + 0.1 * rng.normal(size=(copies, dimensions))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def as_dictionary(pairs: SimilarPairs) -> dict[tuple[int, int], float]:
    numbers = zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
    found = dict(zip(numbers, pairs.cosines.tolist(), strict=True))
    assert len(found) == len(pairs)  # each once
    return found


def reference(vectors: np.ndarray) -> SimilarPairs:
    """Every pair with its cosine in float64, the most similar first."""
    cosines = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    first, second = np.triu_indices(len(vectors), 1)
    pairs = SimilarPairs(first, second, cosines[first, second])
    return pairs.where(np.argsort(-pairs.cosines, kind="stable"))


@pytest.mark.parametrize("count", [2, 40, 2048, 2300])
def test_all_pairs_above_a_threshold_are_those_in_float64(count: int) -> None:
    """2048 vectors are one tile, and 2300 are two."""
    vectors = random_vectors(count, 16)
    found: dict[tuple[int, int], float] = {}
    for pairs in pairs_above(vectors, lambda: 0.6):
        found |= as_dictionary(pairs)
    every = reference(vectors)
    expected = as_dictionary(every.where(every.cosines > 0.6))
    assert found.keys() == expected.keys() and expected
    assert all(abs(found[pair] - cosine) < 1e-5 for pair, cosine in expected.items())


def test_a_cosine_at_the_threshold_is_decided_in_float64() -> None:
    """float32 numbers near 0.9 differ by 6e-8."""
    vectors = random_vectors(300, 16)
    for rank, cosine in enumerate(reference(vectors).cosines[:20].tolist()):
        for threshold, expected in ((cosine - 1e-12, rank + 1), (cosine + 1e-12, rank)):
            found = pairs_above(vectors, lambda lowest=threshold: lowest)  # type: ignore[misc]
            assert sum(map(len, found)) == expected


@pytest.mark.parametrize("most", [1, 100, 3000])
def test_the_most_similar_pairs_are_those_in_float64(most: int) -> None:
    vectors = random_vectors(2300, 16)
    similar = MostSimilar(vectors, most)
    for pairs in pairs_above(vectors, lambda: similar.floor):
        similar.add(pairs)
    expected = as_dictionary(reference(vectors).where(np.arange(most)))
    found = as_dictionary(similar.pairs())
    assert list(found) == list(expected)
    np.testing.assert_allclose(list(found.values()), list(expected.values()), atol=1e-12)


def test_equal_vectors_beyond_the_limit_are_cut_off() -> None:
    vectors = np.ones((60, 4), np.float32) / 2
    similar = MostSimilar(vectors, 10)
    for pairs in pairs_above(vectors, lambda: similar.floor):
        similar.add(pairs)
    assert similar.pairs().cosines.tolist() == [1.0] * 10


def test_pairs_of_neighbours_are_each_listed_once() -> None:
    vectors = random_vectors(200, 8)
    numbers = np.arange(200)
    found = nearest(vectors, numbers, numbers, numbers, count=5)
    expected = {
        (min(first, second), max(first, second)): cosine
        for first in range(200)
        for second, cosine in zip(found.numbers[first], found.cosines[first], strict=True)
        if cosine > 0.7
    }
    assert as_dictionary(pairs_of_neighbours(found, 0.7)) == pytest.approx(expected)
    nothing = Nearest.none(3, 2)
    assert len(pairs_of_neighbours(nothing, 0.7)) == 0


def test_components_are_those_that_edges_connect() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(300, size=(2, 200))
    components = Components(np.arange(300))
    group_of = list(range(300))
    for part in range(0, 200, 50):
        components.connect(first[part : part + 50], second[part : part + 50])
    for one, other in zip(first.tolist(), second.tolist(), strict=True):
        old, new = group_of[one], group_of[other]
        group_of = [new if group == old else group for group in group_of]
    same = np.equal.outer(group_of, group_of)
    assert (np.equal.outer(components.numbers, components.numbers) == same).all()


# ---- the command on a made store


def made_videos(dataset_groups: bool = True) -> list[StoredVideo]:
    """60 videos of 15 groups; every fifth group is tested, and every fifth is for validation."""
    videos = []
    for number in range(60):
        label, group = CLASSES[number % 2], number // 4
        part = {0: "test", 1: "validation"}.get(group % 5, "train")
        name = f"{label}/v{number:02}"
        videos.append(StoredVideo(name, label, f"g{group}" if dataset_groups else "", (part,)))
    return videos


def made_rows() -> np.ndarray:
    """(60, DIM) with two copies: 0 and 1 (test) are as 30 (training) and 24 (validation)."""
    rows = np.random.default_rng(0).normal(size=(60, DIM)).astype(np.float32)
    rows[0], rows[1] = rows[30] + 0.01, rows[24]
    return rows


def write_store(
    bank: Path,
    videos: Sequence[StoredVideo],
    rows: np.ndarray,
    *,
    name: str = "made",
    drawn: bool = False,
) -> Path:
    description = DatasetDescription(name, CLASSES, ("1",))
    recipe = {"stream": "rgb", "extractor": "torchvision:resnet18"}
    path = bank / "stores" / "made.h5"
    listing = DatasetListing("ids", drawn)
    with StoreWriter(path, recipe, description, listing=listing) as writer:
        for video, values in zip(videos, rows, strict=True):
            writer.add(video, values[None], np.zeros(1))
        writer.finish(videos)
    return path


def document(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    assert reelbank.main(["duplicates", "JSON=1", *words]) == 0
    return json.loads(capsys.readouterr().out)


def test_pairs_are_listed_with_their_parts_classes_and_groups(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_store(tmp_path, made_videos(), made_rows())
    bank = f"BANK={tmp_path}"
    found = document(capsys, bank)
    assert found["videos"] == {"train": 36, "validation": 12, "test": 12} and found["split"] == "1"
    assert found["threshold"] == 0.9 and found["threshold_measured_on"] == 36
    assert [(pair["video_1"], pair["video_2"]) for pair in found["pairs"]] == [
        ("fly/v01", "dig/v24"),
        ("dig/v00", "dig/v30"),
    ]
    first, second = found["pairs"]
    assert first["similarity"] == 1.0 and 0.99 < second["similarity"] < 1
    assert (first["part_1"], first["part_2"]) == ("test", "validation")
    assert (first["label_1"], first["label_2"]) == ("fly", "dig")
    assert (second["group_1"], second["group_2"]) == ("g0", "g7")
    assert found["counts"] == [
        {"parts": ["train", "test"], "same": 0, "other": 1, "unknown": 0},
        {"parts": ["validation", "test"], "same": 0, "other": 1, "unknown": 0},
    ]
    assert reelbank.main(["duplicates", bank, f"OUT={tmp_path / 'pairs.csv'}"]) == 0
    said = capsys.readouterr().out
    assert "2 pairs of videos with a cosine similarity above 0.9000 (measured on 36 videos" in said
    assert "1 of 12 test videos is similar to a training video" in said
    assert "1 of 12 test videos is similar to a validation video" in said
    assert "BETWEEN=parts lists only pairs of different parts" in said and "propose" not in said
    for between in ("parts", "groups"):
        assert reelbank.main(["duplicates", bank, f"BETWEEN={between}"]) == 0
        of_some = capsys.readouterr().out
        assert f"2 pairs of videos of different {between} with a cosine similarity" in of_some
        assert ("to a training video of another group\n" in of_some) == (between == "groups")
    with (tmp_path / "pairs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{**row, "similarity": float(row["similarity"])} for row in rows] == found["pairs"]
    result = reelbank.duplicates(bank=tmp_path)
    assert result.records() == found["pairs"] and "fly/v01" in str(result)


def test_count_lists_the_most_similar_pairs_without_a_threshold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_store(tmp_path, made_videos(), made_rows())
    with Store.open(path) as store:
        videos, vectors = compared_videos(store, "1")
    cosines = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    bank = f"BANK={tmp_path}"
    for between, column in (
        ("all", None),
        ("parts", videos.parts),
        ("groups", videos.group_numbers),
    ):
        is_wanted = np.triu(np.ones((60, 60), bool), 1)
        if column is not None:
            is_wanted &= column[:, None] != column
        expected = sorted(cosines[is_wanted])[::-1][:9]
        found = document(capsys, bank, "COUNT=9", f"BETWEEN={between}")
        assert found["threshold"] is None
        similarities = [pair["similarity"] for pair in found["pairs"]]
        np.testing.assert_allclose(similarities, expected, atol=1e-6)
        above = document(capsys, bank, "THRESHOLD=0.3", f"BETWEEN={between}")
        assert above["found_pairs"] == len(above["pairs"]) == (cosines[is_wanted] > 0.3).sum()
        limited = document(capsys, bank, "THRESHOLD=0.3", f"BETWEEN={between}", "COUNT=9")
        assert limited["pairs"] == found["pairs"]
        assert limited["found_pairs"] == above["found_pairs"] > 9


def test_the_similarity_does_not_depend_on_what_all_videos_have_in_common(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the mean of the training videos, all cosines would be nearly 1."""
    write_store(tmp_path, made_videos(), 10 + made_rows())
    found = document(capsys, f"BANK={tmp_path}", "THRESHOLD=0.95")
    assert [pair["video_2"] for pair in found["pairs"]] == ["dig/v24", "dig/v30"]


def test_very_many_videos_are_compared_with_the_neighbours_in_an_index(tmp_path: Path) -> None:
    """The index knows all of these few videos."""
    write_store(tmp_path, made_videos(), made_rows())
    for options in (DuplicatesOptions(threshold=0.6), DuplicatesOptions(count=20)):
        options = replace(options, bank=str(tmp_path))
        exact, indexed = find_duplicates(options), find_duplicates(options, most_compared=59)
        assert indexed.is_approximate and not exact.is_approximate
        assert as_dictionary(indexed.pairs) == as_dictionary(exact.pairs)
        assert len(exact.pairs) > 1 and (indexed.tally.pairs == exact.tally.pairs).all()


# ---- proposed groups


@pytest.mark.parametrize("drawn", [True, False])
def test_proposed_groups_are_read_by_the_data_set_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], drawn: bool
) -> None:
    """A drawn split is drawn again. A stated one is kept, and a training video that is similar to a
    test video is in no part."""
    videos = made_videos(dataset_groups=False)
    rows = made_rows()
    rows[8] = rows[9]  # two training videos
    write_store(tmp_path, videos, rows, name="folder-videos-012345", drawn=drawn)
    for video in videos:
        path = tmp_path / "videos" / f"{video.id}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    table = tmp_path / "groups.csv"
    bank = f"BANK={tmp_path}"
    found = document(capsys, bank, f"GROUPS={table}")
    assert all(count["same"] == count["other"] == 0 for count in found["counts"])
    assert sum(count["unknown"] for count in found["counts"]) == 3
    named = {name: set(ids) for name, ids in found["proposed_groups"].items()}
    assert named == {
        "similar to dig/v00": {"dig/v00", "dig/v30"},
        "similar to fly/v01": {"fly/v01", "dig/v24"},
        "similar to dig/v08": {"dig/v08", "fly/v09"},
    }
    assert reelbank.main(["duplicates", bank]) == 0
    said = capsys.readouterr().out
    assert (
        "proposed: 3 groups of related videos, of 2 to 2 videos each, 6 of 60 videos in all" in said
    )
    assert "These are proposals: similar features do not prove" in said
    assert "GROUPS=groups.csv writes them to a file that 'reelbank extract' reads" in said
    dataset = load_dataset("folder", root=str(tmp_path / "videos"), csv=str(table))
    read = {video.id: video for video in dataset.videos}
    assert read.keys() == {video.id for video in videos} and dataset.is_drawn == drawn
    for name, ids in named.items():
        assert {video.id for video in dataset.videos if video.group == name} == ids
        assert len({read[video_id].parts for video_id in ids} - {("",)}) == 1
    assert [read[video.id].label for video in videos] == [video.label for video in videos]
    if not drawn:
        expected = {video.id: video.parts for video in videos}
        expected |= {"dig/v30": ("",), "dig/v24": ("",)}  # their groups have a test video
        assert {name: video.parts for name, video in read.items()} == expected


def test_groups_are_proposed_only_where_a_csv_can_state_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_store(tmp_path, made_videos(dataset_groups=False), made_rows())
    assert document(capsys, f"BANK={tmp_path}")["proposed_groups"] == {}
    assert "proposals" not in str(reelbank.duplicates(bank=tmp_path))


def test_without_a_split_all_videos_are_compared(tmp_path: Path) -> None:
    videos = [replace(video, parts=()) for video in made_videos()]
    description = DatasetDescription("made", CLASSES)
    with StoreWriter(tmp_path / "stores" / "made.h5", {"stream": "rgb"}, description) as writer:
        for video, values in zip(videos, made_rows(), strict=True):
            writer.add(video, values[None], np.zeros(1))
        writer.finish(videos)
    result = reelbank.duplicates(bank=tmp_path)
    assert len(result.records()) == 2 and {pair["part_1"] for pair in result.records()} == {""}
    assert "the data set has no split; all 60 videos are compared" in str(result)
    assert "similar to" not in str(result)  # of another part
    with pytest.raises(InputError, match="made has no split, so it has no parts"):
        reelbank.duplicates(bank=tmp_path, between="parts")


def test_known_groups_with_similar_videos_become_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_store(tmp_path, made_videos(), made_rows(), name="folder-videos-012345")
    table = tmp_path / "groups.csv"
    found = document(capsys, f"BANK={tmp_path}", f"GROUPS={table}")
    corrected = table.read_bytes() + b"mine"
    table.write_bytes(corrected)
    assert reelbank.main(["duplicates", f"BANK={tmp_path}", f"GROUPS={table}"]) == 2
    assert f"GROUPS={table}: this file already exists" in capsys.readouterr().err
    assert table.read_bytes() == corrected
    # 0 and 1 are both in g0, so g0, g6 and g7 are connected
    (ids,) = found["proposed_groups"].values()
    assert list(found["proposed_groups"]) == ["g0"]
    assert {int(name[-2:]) for name in ids} == {*range(4), *range(24, 32)}


# ---- errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("SPLIT=9",), "SPLIT=9: made does not have this split; it has 1"),
        (("GROUPS=a.csv",), "GROUPS=a.csv writes a CSV file for DATASET=folder, but "),
        (("GROUPS=a.csv", "COUNT=3"), "omit COUNT, or also give THRESHOLD"),
        (("OUT=a.xlsx",), "OUT=a.xlsx: cannot write .xlsx files; use a name that ends in .csv"),
        (("GROUPS=a.json",), "GROUPS=a.json: cannot write .json files"),
        (("OUT=a.csv", "GROUPS=a.csv"), "OUT=a.csv and GROUPS=a.csv are the same file"),
        (("THRESHOLD=1",), "THRESHOLD=1"),
        (("STORE=none",), "STORE=none: no store in"),
    ],
)
def test_wrong_input_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    write_store(tmp_path, made_videos(), made_rows())
    assert reelbank.main(["duplicates", f"BANK={tmp_path}", *words]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_a_threshold_needs_20_training_videos(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_store(tmp_path, made_videos()[:24], made_rows()[:24])
    assert reelbank.main(["duplicates", f"BANK={tmp_path}"]) == 2
    said = capsys.readouterr().err
    assert "needs 20 training videos that are not all of one group (got 12 videos)" in said
    assert document(capsys, f"BANK={tmp_path}", "THRESHOLD=0.95")["pairs"] == []


# ---- real features


@pytest.fixture(scope="module")
def real_bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VGG16 fc6 features of 938 clips of UCF-101."""
    bank = tmp_path_factory.mktemp("real")
    file = testdata("features", "ucf101_vgg16_fc6.h5")
    assert reelbank.main(["import", f"FILE={file}", f"BANK={bank}"]) == 0
    return bank


def test_the_closest_real_pairs_show_the_same_film(real_bank: Path) -> None:
    for split in ("1", "2", "3"):
        pairs = reelbank.duplicates(bank=real_bank, count=100, split=split).records()
        assert len(pairs) == 100
        assert sum(pair["group_1"] == pair["group_2"] for pair in pairs) >= 90


def test_the_nearest_real_video_of_another_group_has_the_same_class(real_bank: Path) -> None:
    (path,) = (real_bank / "stores").glob("*.h5")
    with Store.open(path) as store:
        videos, vectors = compared_videos(store, "1")
    numbers = np.arange(len(videos))
    found = nearest(vectors, numbers, numbers, videos.group_numbers).numbers[:, 0]
    same = [
        videos.labels[other] == label for other, label in zip(found, videos.labels, strict=True)
    ]
    assert len(same) == 938 and np.mean(same) >= 0.93


def test_real_pairs_are_those_of_an_own_computation(real_bank: Path) -> None:
    """And `train` finds the same test videos (test_copies.py)."""
    with h5py.File(testdata("features", "ucf101_vgg16_fc6.h5")) as file:
        means = file["features"][:].astype(np.float64).mean(1)
        names = [name.decode() for name in file["name"][:]]
        is_test = file["is_test_split123"][:, 0] > 0
    vectors = means / np.linalg.norm(means, axis=1, keepdims=True)
    vectors -= vectors[~is_test].mean(0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    result = reelbank.duplicates(bank=real_bank)
    threshold = result.document()["threshold"]
    first, second = np.triu_indices(len(names), 1)
    cosines = (vectors @ vectors.T)[first, second]
    expected = {
        frozenset((names[one], names[other])): cosine
        for one, other, cosine in zip(first, second, cosines, strict=True)
        if cosine > threshold
    }
    found = {
        frozenset(pair[f"video_{place}"].rpartition("/")[2] for place in "12"): pair["similarity"]
        for pair in result.records()
    }
    assert found.keys() == expected.keys() and 400 < len(found) < 500
    assert all(abs(found[pair] - cosine) < 1e-5 for pair, cosine in expected.items())
    assert "10 of 260 test videos are similar to a training video" in str(result)


def test_without_groups_real_films_are_proposed_as_groups(
    real_bank: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The groups of UCF-101 are known only to this test. Videos of a proposed group are nearly always
    of one class, and mostly of one film."""
    (path,) = (real_bank / "stores").glob("*.h5")
    with Store.open(path) as store:
        groups = dict(zip(store.video_ids, store.groups, strict=True))
        videos = [
            StoredVideo(name, label, "", (parts[0],))
            for name, label, parts in zip(store.video_ids, store.labels, store.parts, strict=True)
        ]
        means = np.stack([store[name].astype(np.float32).mean(0) for name in store.video_ids])
        description = DatasetDescription("folder-films-012345", store.dataset.classes, ("1",))
    with StoreWriter(tmp_path / "stores" / "films.h5", {"stream": "rgb"}, description) as writer:
        for video, mean in zip(videos, means, strict=True):
            writer.add(video, mean[None], np.zeros(1))
        writer.finish(videos)
    found = document(capsys, f"BANK={tmp_path}")
    assert 0.9 <= found["threshold"] < 0.95
    proposed = found["proposed_groups"].values()
    pairs = [
        groups[one] == groups[other]
        for pair in found["pairs"]
        for one, other in [(pair["video_1"], pair["video_2"])]
    ]
    assert np.mean(pairs) > 0.9 and sum(map(len, proposed)) > 300
    label_of = {video.id: video.label for video in videos}
    assert all(len({label_of[name] for name in ids}) == 1 for ids in proposed)
