"""Training and prediction on stores of many videos: little memory for each, and the same results as
those that keep everything in memory."""

import io
import pickle
import random
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references.validation import reference_cut

from reelbank.data.csv_columns import probability_column, rows_text, text_column
from reelbank.data.datasets.splits import cut_validation
from reelbank.data.errors import InputError
from reelbank.data.positions import positions
from reelbank.data.scores.table import TableFacts, load, save_in_pieces
from reelbank.data.store.copies import same_files
from reelbank.data.store.damage import damage_among
from reelbank.data.store.file.about import About, VideoFacts, written_now
from reelbank.data.store.file.format import checksum, write
from reelbank.data.store.file.index import Index
from reelbank.data.store.reader import Store
from reelbank.data.store.records import Cost, DatasetDescription
from reelbank.data.store.versions import current_versions
from reelbank.data.store.videos import StoredVideos
from reelbank.data.store.whole import write_whole
from reelbank.data.text_files import SafeWriter, csv_field
from reelbank.heads.training.material import open_rows
from reelbank.heads.training.options import TrainOptions
from reelbank.heads.training.planning.plan import plan_runs
from reelbank.heads.training.run import write_embeddings

CLASSES = tuple(f"class {number}" for number in range(5))
DATASET = DatasetDescription("many", CLASSES, ("1",))
ROWS, DIMENSIONS = 2, 4


def make_store(path: Path, videos: int) -> np.ndarray:
    """A finished store; its features, (videos, ROWS, DIMENSIONS) float16. Videos are groups of their
    own, and one in a hundred is for testing."""
    features = np.random.default_rng(0).normal(size=(videos, ROWS, DIMENSIONS)).astype(np.float16)
    numbers = range(videos)
    sources = [
        {"bytes": number, "digest": f"{number:032x}", "damage": "", "fps": 25.0, "frames": 40}
        for number in numbers
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    index = Index(
        video_ids=[f"folder/video_{number:07}" for number in numbers],
        labels=[CLASSES[number % 5] for number in numbers],
        groups=[f"g{number}" if number % 2 else "" for number in numbers],
        parts=[("train" if number % 100 else "test",) for number in numbers],
        offsets=np.arange(videos + 1) * ROWS,
        times_seconds=np.arange(videos * ROWS) * 0.5,
        views=np.zeros(videos * ROWS, np.uint8),
        checksums=np.array(list(map(checksum, features)), np.uint64),
        row_shape=(DIMENSIONS,),
        dtype=np.dtype("<f2"),
        about=About({"stream": "rgb"}, DATASET, written_now(Cost(1.0))),
        facts=VideoFacts(sources, [current_versions()] * videos, failures={}),
    )
    write(path, index, iter(features))
    return features


def peak_of_training(bank: Path, videos: int) -> int:
    """The most bytes that the steps of a training need that know each video."""
    make_store(bank / "stores" / "many.h5", videos)
    options = TrainOptions(bank=str(bank), head="meanpool", split=("1",), seed=(0,), epochs=1)
    tracemalloc.start()
    with Store.open(bank / "stores" / "many.h5") as store:
        (plan,) = plan_runs([store], options)
        rows = open_rows([store], plan.recipe)
        plan.path.mkdir(parents=True)
        write_embeddings(plan, rows, np.zeros((1, videos, 8), np.float16))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.long
def test_a_training_needs_less_than_a_kilobyte_for_each_video(tmp_path: Path) -> None:
    few, many = (peak_of_training(tmp_path / str(n), n) for n in (4_000, 12_000))
    assert (many - few) / 8_000 < 900


@settings(deadline=None)
@given(st.data())
def test_positions_are_those_of_a_dictionary(data: st.DataObject) -> None:
    among = data.draw(st.lists(st.text(max_size=2), unique=True))
    names = data.draw(st.lists(st.sampled_from([*among, "absent"]), unique=True))
    if data.draw(st.booleans()):
        names.sort(key=[*among, "absent"].index)
    expected = [among.index(name) if name in among else -1 for name in names]
    assert positions(names, among, absent=-1).tolist() == expected


@settings(deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.77]))
def test_the_validation_part_is_that_of_the_reference(seed: int, fraction: float) -> None:
    drawn = random.Random(seed)
    ids = [f"v{number}" for number in drawn.sample(range(1000), drawn.randint(0, 60))]
    labels = [f"c{drawn.randrange(6)}" for _ in ids]
    groups = [drawn.choice(["", f"g{drawn.randrange(15)}", f"g{label}"]) for label in labels]
    expected = reference_cut(ids, labels, groups, fraction, seed % 3)
    assert cut_validation(ids, labels, groups, fraction, seed % 3) == expected


def test_of_several_equal_files_the_first_is_named() -> None:
    ids = ["a", "b", "c", "d", "e"]
    sources = [{"bytes": 7, "digest": digest} for digest in ("x", "y", "x", "", "y")]
    found = same_files(ids, sources, [4, 3, 0], [2, 1, 0])
    assert [(copy.video, copy.original) for copy in found] == [("e", "b"), ("a", "c")]


def test_videos_of_a_store_are_read_in_any_order(tmp_path: Path) -> None:
    features = make_store(tmp_path / "many.h5", 3_000)
    with Store.open(tmp_path / "many.h5") as store:
        for numbers in (
            np.arange(500, 2_500),
            np.arange(0, 3_000, 2),
            np.random.default_rng(0).permutation(3_000),
        ):
            ids = [store.video_ids[number] for number in numbers]
            values, offsets, _ = store.load(ids)
            np.testing.assert_array_equal(values.reshape(-1, ROWS, DIMENSIONS), features[numbers])
            assert offsets.tolist() == list(range(0, ROWS * len(ids) + 1, ROWS))
            for name, times_seconds in zip(ids, store.times_of(ids), strict=True):
                np.testing.assert_array_equal(times_seconds, store.times_seconds(name))
        with pytest.raises(InputError, match="1 of the 2001 requested videos, such as 'other'"):
            store.load([*store.video_ids[:2_000], "other"])


def test_the_metadata_of_videos_outlives_the_store_when_pickled(tmp_path: Path) -> None:
    make_store(tmp_path / "many.h5", 50)
    with Store.open(tmp_path / "many.h5") as store:
        videos = StoredVideos.of(store, np.array([7, 3, 40]))
        listed = list(videos)
        pickled = pickle.dumps(videos)
    assert [video.id for video in listed] == [f"folder/video_{n:07}" for n in (7, 3, 40)]
    assert listed[0].source["bytes"] == 7 and listed[1].group == "g3"
    read = pickle.loads(pickled)  # noqa: S301 - written above
    assert read == listed and read.groups == ["g7", "g3", ""]


def test_a_whole_store_holds_its_rows_and_what_is_known_about_the_videos(tmp_path: Path) -> None:
    make_store(tmp_path / "many.h5", 300)
    rows = np.random.default_rng(1).normal(size=(300, 3)).astype(np.float16)
    path = tmp_path / "whole.h5"
    with Store.open(tmp_path / "many.h5") as store:
        videos = StoredVideos.of(store, np.arange(300))
        times_seconds = np.arange(300.0)
        for pieces in ([rows], [rows[:200], rows[200:]]):
            write_whole(path, {"a": 1}, DATASET, videos, pieces=pieces, times_seconds=times_seconds)
            with Store.open(path) as whole:
                assert whole.finished and not whole.verify() and whole.recipe == {"a": 1}
                np.testing.assert_array_equal(whole.load()[0], rows)
                np.testing.assert_array_equal(whole.load()[2], times_seconds)
                assert StoredVideos.of(whole, np.arange(300)) == videos
                assert whole.versions[0] == current_versions()
        before = path.read_bytes()
        rows[123, 1] = np.inf
        with pytest.raises(InputError, match="folder/video_0000123: its features contain"):
            write_whole(path, {"a": 1}, DATASET, videos, pieces=[rows], times_seconds=times_seconds)
        assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 2


def test_a_whole_store_does_not_divide_a_group_of_a_drawn_split(tmp_path: Path) -> None:
    videos = StoredVideos(
        ids=["a", "b"],
        labels=["", ""],
        groups=["g", "g"],
        parts=[["train"], ["test"]],
        sources=[{}, {}],
    )
    words = {"pieces": [np.zeros((2, 1), np.float16)], "times_seconds": np.zeros(2)}
    write_whole(tmp_path / "a.h5", {}, DATASET, videos, **words)
    drawn = replace(DATASET, name="folder-many")
    with pytest.raises(InputError, match="group g would be in several of split 1"):
        write_whole(tmp_path / "b.h5", {}, drawn, videos, **words)


def test_texts_of_scores_are_written_in_pieces_like_one_array(tmp_path: Path) -> None:
    ids = [f"v{number}" for number in range(40_000)]
    ids[-1] = "the longest name comes last"
    groups = ["", *ids[1:]]
    facts = TableFacts(ids, np.zeros(40_000, np.int64), ("a",), {"part": "test"}, groups=groups)
    logits = np.zeros((40_000, 1), np.float32)
    save_in_pieces(tmp_path / "s.npz", ids, 1, [logits], lambda: facts)
    with zipfile.ZipFile(tmp_path / "s.npz") as archive:
        for name, texts in (("video_ids", ids), ("groups", groups)):
            expected = io.BytesIO()
            np.lib.format.write_array(expected, np.array(texts))
            assert archive.read(f"{name}.npy") == expected.getvalue()
    assert load(tmp_path / "s.npz").video_ids == tuple(ids)


ODD_TEXTS = [
    "",
    "a",
    "a b/c-d.e",
    "=1+1",
    "-x",
    "+5",
    "-5",
    "'",
    "'=a",
    'a"b',
    "a,b",
    "é",
    "a\nb",
    "@",
    " a",
    "@a",
]


def as_utf8(texts: list[str]) -> list[str]:
    """The texts as a file in UTF-8 keeps them."""
    return [text.encode("utf-8", "replace").decode() for text in texts]


@settings(deadline=None)
@given(st.lists(st.text() | st.sampled_from(ODD_TEXTS), min_size=1, max_size=4), st.data())
def test_columns_are_written_like_cells(texts: list[str], data: st.DataObject) -> None:
    cells = io.StringIO()
    texts = [text.replace("\0", "") for text in texts]
    size = {"min_size": len(texts), "max_size": len(texts)}
    millionths = np.array(data.draw(st.lists(st.integers(0, 10**6), **size)))
    shares = np.clip(millionths + data.draw(st.floats(-0.49, 0.49)), 0, 10**6) / 10**6
    SafeWriter(cells).writerows(
        [text, f"{share:.6f}", text, ""] for text, share in zip(as_utf8(texts), shares, strict=True)
    )
    column, empty = text_column(texts), np.zeros(len(texts), "S1")
    text = rows_text([column, probability_column(shares), column, empty])
    assert text == cells.getvalue()


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_a_text_column_among_plain_texts_holds_their_fields(text: str) -> None:
    texts = ["a", text, "b-c"]
    expected = [csv_field(each).encode() for each in texts]
    assert text_column(texts).tolist() == expected
    assert text_column(texts[1:]).tolist() == expected[1:]
    assert text_column(texts[:2]).tolist() == expected[:2]
    assert not len(text_column([]))


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(ODD_TEXTS), min_size=1, max_size=3),
    st.lists(st.floats() | st.integers(), min_size=1, max_size=4),
)
def test_numbers_are_written_like_cells(texts: list[str], numbers: list[float]) -> None:
    cells, fields = io.StringIO(), io.StringIO()
    shown = ["" if number != number else number + 0 for number in numbers]  # 0.0 for -0.0
    for _ in range(2):
        SafeWriter(cells).after(["=x", 1]).writerow([*texts, *shown])
    SafeWriter(fields).after(["=x", 1]).write_numbers([(tuple(texts), numbers)] * 2)
    assert fields.getvalue() == cells.getvalue()


def test_the_text_of_a_number_does_not_depend_on_equal_numbers_before_it() -> None:
    """0.0, -0.0 and 0 are equal."""
    written = []
    for numbers in ([-0.0, 17], [0.0, 17], [0, 17.0]):
        file = io.StringIO()
        SafeWriter(file).write_numbers([(("a",), numbers)])
        written.append(file.getvalue())
    assert written == ["a,0.0,17\r\n", "a,0.0,17\r\n", "a,0,17.0\r\n"]


def test_facts_without_damage_are_found_among_many(tmp_path: Path) -> None:
    make_store(tmp_path / "many.h5", 30)
    with Store.open(tmp_path / "many.h5") as store:
        sources = [dict(source) for source in store.sources]
        videos = StoredVideos.of(store, np.arange(30))
    for number in range(0, 30, 3):  # as earlier versions wrote them
        del sources[number]["damage"]
    sources[6]["damaged_frames"] = 2
    old = StoredVideos(videos.ids, videos.labels, videos.groups, [["train"]] * 30, sources)
    rows = [np.zeros((30, 1), np.float16)]
    write_whole(tmp_path / "old.h5", {}, DATASET, old, pieces=rows, times_seconds=np.zeros(30))
    with Store.open(tmp_path / "old.h5") as store:
        damage = damage_among(store.video_ids, store.sources)
    assert damage.unknown == 10 and list(damage.videos) == ["folder/video_0000006"]
