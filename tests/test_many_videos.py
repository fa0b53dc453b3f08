"""Stores of many videos: what is done piece by piece gives what is done at once."""

import contextlib
import csv
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import reelbank
from reelbank.data.errors import InputError
from reelbank.data.identity import signature, signature_of
from reelbank.data.scores.likeliest import likeliest
from reelbank.data.scores.table import (
    Scores,
    TableFacts,
    load,
    load_ids,
    probabilities,
    save,
    save_in_pieces,
)
from reelbank.data.scores.top_k import best_classes
from reelbank.data.similarity.nearest import nearest
from reelbank.data.store.damage import damage_among
from reelbank.data.store.file.format import runs
from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter
from reelbank.data.text_files import csv_rows
from reelbank.fusion.bootstrap import resample_blocks
from reelbank.heads.predict import scorer
from reelbank.heads.recipe import Rule
from reelbank.heads.runs.folder import find_runs, load_run
from reelbank.heads.training.sequences import Table, tables

CLASSES = ("a", "b", "c", "d", "e", "f, g")


def make_store(
    bank: Path, videos: int, rows: int, dimensions: int, classes: tuple[str, ...] = CLASSES
) -> np.ndarray:
    """A store of short videos. Returns its features, (videos, rows, dimensions) float16."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(len(classes), dimensions))
    labels = np.arange(videos) % len(classes)
    features = np.empty((videos, rows, dimensions), np.float16)
    dataset = DatasetDescription("many", classes, ("1",))
    listed = []
    with StoreWriter(bank / "stores" / "many.h5", {"stream": "rgb"}, dataset) as writer:
        for number, label in enumerate(labels.tolist()):
            part = "test" if number % 20 < 4 else "train"
            listed.append(StoredVideo(f"v{number:06}", classes[label], f"g{number // 20}", (part,)))
            features[number] = means[label] + rng.normal(size=(rows, dimensions), scale=0.5)
            writer.add(listed[-1], features[number], np.arange(rows))
        assert writer.finish(listed)
    return features


def trained(bank: Path) -> Path:
    words = ["HEAD=meanpool", "EPOCHS=1", "DEVICE=cpu", "LR=0.01", "SPLIT=1"]
    assert reelbank.main(["train", f"BANK={bank}", *words]) == 0
    return find_runs(bank)[0].path


def logits_at_once(run: Path, features: np.ndarray) -> np.ndarray:
    model, _ = load_run(run)
    lengths = torch.full((len(features),), features.shape[1])
    with torch.inference_mode():
        return model(torch.from_numpy(features).float(), lengths)[0].numpy()


def test_the_damage_of_a_store_is_that_of_each_video(tmp_path: Path) -> None:
    plain = {"bytes": 5, "frames": 9, "damage": ""}
    notable = {
        7: {"bytes": 5, "frames": 9, "damage": "3 of 9 frames could be decoded"},
        4500: {"bytes": 5, "frames": 9, "damage": "", "remark": "times begin at 3 s"},
        4501: {"bytes": 5, "frames": 9},
        8199: {"bytes": 5, "damage": "", "sound": {"state": "cut", "damage": "the sound ends"}},
    }
    path = tmp_path / "facts.h5"
    listed = [
        StoredVideo(f"v{number:06}", source=notable.get(number, plain)) for number in range(8200)
    ]
    with StoreWriter(path, {"stream": "rgb"}, DatasetDescription("many")) as writer:
        for video in listed:
            writer.add(video, np.ones((1, 1), np.float16), np.zeros(1))
        assert writer.finish(listed)
    with Store.open(path) as store:
        whole = damage_among(store.video_ids, store.sources)
        assert whole == damage_among(store.video_ids, list(store.sources))
        assert list(whole.videos) == ["v000007", "v008199"]
        assert list(whole.remarks) == ["v004500"] and whole.unknown == 1


@pytest.mark.long
def test_predictions_in_pieces_are_those_of_all_videos(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A video has 512 KB, so that a piece has 256 of the 280 videos.
    features = make_store(tmp_path, 280, 64, 4096)
    run = trained(tmp_path)
    for ending in ("npz", "csv"):
        to = tmp_path / f"predicted.{ending}"
        words = ["predict", f"BANK={tmp_path}", f"RUN={run}", f"TO={to}", "TOP=2"]
        assert reelbank.main(words) == 0
    table = load(tmp_path / "predicted.npz")
    assert table.video_ids == tuple(f"v{number:06}" for number in range(280))
    np.testing.assert_allclose(table.logits, logits_at_once(run, features), atol=1e-4)
    np.testing.assert_array_equal(table.labels, np.arange(280) % len(CLASSES))
    in_test = [number % 20 < 4 for number in range(280)]
    assert [part == "test" for part in table.parts] == in_test
    with (tmp_path / "predicted.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    best = best_classes(table.logits, 2)
    assert [row["video"] for row in rows] == list(table.video_ids)
    assert [row["class2"] for row in rows] == [CLASSES[number] for number in best[:, 1]]
    highest = probabilities(table).max(axis=1)
    assert [row["probability1"] for row in rows] == [f"{chance:.6f}" for chance in highest]
    assert "were used to train or select a run" in capsys.readouterr().out


@pytest.mark.long
def test_a_piece_of_large_videos_is_not_held_in_memory(tmp_path: Path) -> None:
    make_store(tmp_path / "small", 20, 1, 4096)
    run = trained(tmp_path / "small")
    features = make_store(tmp_path, 258, 200, 4096)  # 1.6 MB each, of which a piece has 256
    store = tmp_path / "stores" / "many.h5"
    tracemalloc.start()
    try:
        with scorer(run, store) as opened:
            logits = np.concatenate([piece.scores.logits for piece in opened.pieces()])
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < features.nbytes // 2
    assert len(logits) == 258
    np.testing.assert_allclose(logits[-4:], logits_at_once(run, features[-4:]), atol=1e-3)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize("ending", ["csv", "npz"])
def test_only_a_file_that_cannot_be_written_is_blamed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    make_store(tmp_path, 20, 1, 4)
    run = trained(tmp_path)
    words = ["predict", f"BANK={tmp_path}", f"RUN={run}", f"TO={tmp_path / 'all'}.{ending}"]
    with (
        contextlib.suppress(OSError),
        Path("/dev/full").open("w", buffering=1) as full,
        contextlib.redirect_stdout(full),
    ):
        assert reelbank.main(words) == 2
    told = capsys.readouterr().err
    assert "No space left on device" in told and "TO=" not in told


def test_of_many_videos_a_thousand_are_printed_if_a_file_has_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_store(tmp_path, 1010, 1, 4)
    run = trained(tmp_path)
    capsys.readouterr()
    assert reelbank.main(["predict", f"BANK={tmp_path}", f"RUN={run}"]) == 0
    assert sum(line.startswith("v00") for line in capsys.readouterr().out.splitlines()) == 1010
    to = tmp_path / "all.csv"
    assert reelbank.main(["predict", f"BANK={tmp_path}", f"RUN={run}", f"TO={to}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("v00") for line in lines) == 1000
    assert f"... and 10 more videos; {to} contains all of them" in lines
    with to.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 1010


@pytest.mark.parametrize(
    "classes",
    [
        tuple(f"{number:03} {'x' * 200}" for number in range(250)),  # rows are written in parts
        ("short", "long" * 100, '=1,"', "caf\u00e9"),
        ("a", "a\0b", "a\nb"),
    ],
    ids=["many", "long", "odd"],
)
def test_a_csv_file_has_all_classes_of_all_videos(tmp_path: Path, classes: tuple[str, ...]) -> None:
    make_store(tmp_path, 300, 1, 4, classes)
    run = trained(tmp_path)
    for ending in ("npz", "csv"):
        words = ["predict", f"BANK={tmp_path}", f"RUN={run}", f"TO={tmp_path}/all.{ending}"]
        assert reelbank.main([*words, f"TOP={len(classes)}"]) == 0
    table = load(tmp_path / "all.npz")
    order = best_classes(table.logits, len(classes))
    chances = np.take_along_axis(probabilities(table), order, axis=1)
    heading, *rows = csv_rows((tmp_path / "all.csv").read_bytes().decode(), strict=True)
    assert heading[:3] == ["video", "class1", "probability1"] and heading[-1] == "error"
    assert [row[0] for row in rows] == list(table.video_ids)
    assert [row[1:-1:2] for row in rows] == [[classes[number] for number in row] for row in order]
    written = np.array([row[2:-1:2] for row in rows], float)
    np.testing.assert_allclose(written, chances, atol=1.1e-6)
    assert {row[-1] for row in rows} == {""}


def test_neighbours_are_loaded_without_reading_all_ids(tmp_path: Path) -> None:
    features = make_store(tmp_path, 2100, 1, 4)
    with Store.open(tmp_path / "stores" / "many.h5") as store:
        wanted = [f"v{number:06}" for number in range(50, 1150)]
        np.testing.assert_array_equal(store.load(wanted)[0], features[50:1150, 0])
        assert "video_ids" not in vars(store)
        for ids in (wanted[::-1], [*wanted[:-1], "v002099"], tuple(store.video_ids[-1100:])):
            numbers = [int(name[1:]) for name in ids]
            np.testing.assert_array_equal(store.load(ids)[0], features[numbers, 0])
        with pytest.raises(InputError, match="does not contain 1 of the 1100 requested videos"):
            store.load([*wanted[:-1], "other"])


@pytest.mark.parametrize("multilabel", [False, True])
def test_a_table_in_pieces_is_the_same_table(tmp_path: Path, multilabel: bool) -> None:
    rng = np.random.default_rng(0)
    shape = (50, len(CLASSES))
    labels = rng.integers(2, size=shape) if multilabel else rng.integers(6, size=50)
    ids, parts = tuple(f"v{number}" for number in range(50)), ("test", "none") * 25
    table = Scores(ids, labels, CLASSES, rng.normal(size=shape), {"head": "x"}, ids, parts)
    save(table, tmp_path / "whole.npz")
    facts = TableFacts(ids, table.labels, CLASSES, table.about, ids, parts)
    pieces = np.split(table.logits, [7, 7, 30])
    save_in_pieces(tmp_path / "pieces.npz", ids, len(CLASSES), iter(pieces), lambda: facts)
    whole, joined = load(tmp_path / "whole.npz"), load(tmp_path / "pieces.npz")
    for name in ("video_ids", "classes", "about", "groups", "parts"):
        assert getattr(whole, name) == getattr(joined, name)
    for name in ("labels", "logits"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(joined, name))
        assert getattr(whole, name).dtype == getattr(joined, name).dtype
    assert load_ids(tmp_path / "pieces.npz") == ids


def test_scores_in_pieces_must_be_finite(tmp_path: Path) -> None:
    ids = ("a", "b", "c")
    facts = TableFacts(ids, np.zeros(3, np.int64), CLASSES)
    logits = np.zeros((3, len(CLASSES)), np.float32)
    logits[2, 0] = np.nan
    path = tmp_path / "x.npz"
    with pytest.raises(InputError, match="finite.*'c'"):
        save_in_pieces(path, ids, len(CLASSES), [logits[:2], logits[2:]], lambda: facts)
    assert not path.exists()


@pytest.mark.parametrize("multilabel", [False, True])
def test_the_likeliest_classes_have_the_highest_scores_and_their_probabilities(
    multilabel: bool,
) -> None:
    rng = np.random.default_rng(0)
    logits = rng.integers(4, size=(2000, 23)).astype(np.float32) * 300  # with ties and zeros
    labels = np.zeros((2000, 23), np.uint8) if multilabel else np.zeros(2000, np.int64)
    ids = [f"v{number}" for number in range(2000)]
    table = Scores(tuple(ids), labels, tuple(map(str, range(23))), logits)
    chances = probabilities(table)
    for k in (1, 5, 8, 12, 23, 40):
        order = np.argsort(-logits, axis=1, kind="stable")[:, :k]
        found = likeliest(table, k)
        np.testing.assert_array_equal(found.numbers, order)
        expected = np.take_along_axis(chances, order, axis=1)
        np.testing.assert_allclose(found.chances, expected, rtol=1e-12, atol=0)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 500), st.floats(0.01, 30))
def test_probabilities_of_the_likeliest_classes_have_six_digits(
    seed: int, classes: int, spread: float
) -> None:
    drawn = np.random.default_rng(seed).normal(scale=spread, size=(3, classes))
    ids, names = ("a", "b", "c"), tuple(map(str, range(classes)))
    table = Scores(ids, np.zeros(3, np.int64), names, drawn.astype(np.float32))
    found = likeliest(table, 5)
    expected = np.take_along_axis(probabilities(table), found.numbers, axis=1)
    np.testing.assert_allclose(found.chances, expected, rtol=1e-6, atol=0)
    assert found.chances.max() <= 1


def test_probabilities_of_scores_at_the_limit_of_float32() -> None:
    limit = np.finfo(np.float32).max
    logits = np.array([[-limit, limit, 0]], np.float32)
    found = likeliest(Scores(("a",), np.zeros(1, np.int64), ("x", "y", "z"), logits), 3)
    assert found.numbers.tolist() == [[1, 2, 0]]
    assert found.chances.tolist() == [[1, 0, 0]]


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), max_size=20), st.integers(0, 12), st.integers(0, 99))
def test_runs_hold_as_many_neighbours_as_fit(counts: list[int], most: int, first: int) -> None:
    offsets = np.cumsum([7, *counts])
    ranges = list(runs(first, offsets, most))
    numbers = [number for begin, end in ranges for number in range(begin, end)]
    assert numbers == list(range(first, first + len(counts)))
    for begin, end in ranges:
        held = counts[begin - first : end - first]
        assert sum(held) <= most or len(held) == 1
        following = counts[end - first : end - first + 1]
        assert not following or sum(held + following) > most


@pytest.mark.parametrize(
    "rule",
    [
        Rule(),
        Rule(steps=2),
        Rule(sampling="windows", steps=2, stride=1, most=3),
        Rule(sampling="segments", steps=2, positions=3),
        Rule(clips=2, crops=3),
    ],
)
def test_tables_of_many_videos_are_those_of_each_video(rule: Rule) -> None:
    drawn = np.random.default_rng(0)
    lengths = (2 * drawn.integers(1, 4, size=40)).tolist()
    names = [f"v{number}" for number in range(40)]
    views: list[np.ndarray | int] = list(lengths)
    for number in range(0, 40, 3):  # some with augmented views
        views[number] = np.repeat(np.arange(3, dtype=np.uint8), lengths[number])
    cut_out = set(names[::5])
    whole = tables(views, rule, names, cut_out)
    for kind in (0, 1):
        clips = places = 0
        rows: list[tuple[int, ...]] = []
        for number, (of_video, name) in enumerate(zip(views, names, strict=True)):
            alone = tables([of_video], rule, [name], cut_out)
            for row in described(alone[kind]):
                rows.append((number, row[1] + clips, row[2] + places, *row[3:]))
            clips += 1 + max(table.clip.max().item() for table in alone)
            places += 1 + max(table.place.max().item() for table in alone)
        assert described(whole[kind]) == rows
        assert whole[kind].draws == (
            rule.steps if rule.sampling == "segments" and not kind else None
        )


def described(table: Table) -> list[tuple[int, ...]]:
    """Each sequence: video, clip, place, view, crop and its rows."""
    columns = [table.video, table.clip, table.place, table.view, table.crop]
    facts = zip(*(column.tolist() for column in columns), strict=True)
    rows = zip(table.rows.tolist(), table.lengths.tolist(), strict=True)
    return [
        (*of_sequence, *taken[:length])
        for of_sequence, (taken, length) in zip(facts, rows, strict=True)
    ]


def test_the_nearest_of_more_videos_than_are_compared_at_once() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(140_000, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    videos = np.arange(0, 140_000, 20_000)
    among = np.setdiff1d(np.arange(140_000), videos)
    # In the first tile, at both ends of others (after 5 and 7 videos that are no candidates), and
    # in the last.
    copies = [5, 1024 + 20 * 4096 + 5, 70_001, 1023 + 31 * 4096 + 7, 139_999, 99_999, 3]
    vectors[copies] = vectors[videos]
    found = nearest(vectors, videos.tolist(), among.tolist())
    assert found.numbers[:, 0].tolist() == copies
    groups = np.arange(140_000)
    groups[copies[0]] = groups[videos[0]]
    of_others = nearest(vectors, videos.tolist(), among.tolist(), groups)
    assert of_others.numbers[0, 0] != copies[0] and of_others.numbers[1:, 0].tolist() == copies[1:]


def test_resamples_in_blocks_are_those_of_one_draw() -> None:
    groups = [f"g{number // 3}" if number % 2 else "" for number in range(60_001)]
    blocks = list(resample_blocks(groups, 200, seed=3))
    assert len(blocks) > 2
    count = len({group for group in groups if group}) + groups.count("")
    chances = np.full(count, 1 / count)
    whole = np.random.default_rng(3).multinomial(count, chances, size=200)
    drawn = np.concatenate(blocks)
    numbers: dict[str, int] = {}
    columns = [
        numbers.setdefault(group or str(row), len(numbers)) for row, group in enumerate(groups)
    ]
    np.testing.assert_array_equal(drawn, whole[:, columns])


def test_a_signature_of_streamed_values_is_that_of_the_dictionary() -> None:
    values = {"b": [1, "é", None, True], "a": {"y": 0.1, "x": []}, 'ü\n"': "z"}
    assert signature_of((name, values[name]) for name in sorted(values)) == signature(values)
    assert signature_of(iter(())) == signature({})


@pytest.mark.long
def test_a_training_on_more_videos_than_a_piece(tmp_path: Path) -> None:
    """The scores and the validation of a training on 100,000 videos are made in two pieces."""
    features = make_store(tmp_path, 100_000, 1, 4)
    run = trained(tmp_path)
    (read,) = find_runs(tmp_path)
    scores = read.scores("train")
    assert len(scores.video_ids) > 1 << 16
    rows = [int(name[1:]) for name in scores.video_ids]
    expected = logits_at_once(run, features[rows])
    np.testing.assert_allclose(scores.logits, expected, atol=1e-5)
    right = (expected.argmax(1) == scores.labels).mean()
    assert read.metrics.train is not None
    assert read.metrics.train.top1 == pytest.approx(right, abs=1e-4)
