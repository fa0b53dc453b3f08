"""The report's map of the bank and list of videos: the positions, what a browser shows, and that no
name is ever markup."""

import base64
import csv
import json
import os
import shutil
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from conftest import testdata
from in_browser import found_in_browser
from made_runs import made_run
from PIL import Image

from reelbank.data.datasets.types import Video
from reelbank.data.errors import InputError
from reelbank.data.scores import table as score_tables
from reelbank.data.scores.table import Scores
from reelbank.data.similarity.vectors import video_vectors
from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription, StoredVideo, identity
from reelbank.data.store.writer import StoreWriter
from reelbank.fusion.report.page import ReportOptions, report
from reelbank.fusion.report.videos.bank_map import read_vectors
from reelbank.fusion.report.videos.links import link
from reelbank.fusion.report.videos.packing import evenly, packed_numbers, packed_texts
from reelbank.fusion.report.videos.projection import project

EVIL = ("</script><script>alert(1)</script>", "<!--<script>", '"><img src=x onerror=alert(2)>')
CLASSES = ("dig", "fly", *EVIL)
RECIPE = {"stream": "rgb", "extractor": "net"}


def made_bank(
    bank: Path, videos: int = 40, classes: tuple[str, ...] = CLASSES, dataset: str = "made"
) -> Scores:
    """A bank with a store whose classes lie apart, and a run on it: every second video is a training
    video, every sixth one was held out for validation, and the others are tested, the first two of
    them wrongly. Returns the scores of the test part."""
    bank.mkdir(exist_ok=True)
    description = DatasetDescription(dataset, classes, ("1",))
    rng = np.random.default_rng(0)
    means = rng.normal(size=(len(classes), 6)) * 4
    listed, labels = [], []
    path = bank / "stores" / "made.h5"
    with StoreWriter(path, RECIPE, description) as writer:
        for number in range(videos):
            label = number % len(classes)
            part = ("test", "train")[number % 2]
            name = f"{classes[label]}/v{number:03d}é😀"
            listed.append(StoredVideo(name, classes[label], "", (part,), {"bytes": 1}))
            labels.append(label)
            rows = means[label] + rng.normal(size=(3, 6))
            writer.add(listed[-1], rows.astype(np.float32), np.arange(3.0))
        assert writer.finish(listed)
    store = identity(RECIPE, dataset)
    run = made_run(bank, store=store, dataset=dataset, classes=classes, videos=videos)
    for part, kept in (
        ("train", lambda n: n % 2 and n % 6 != 1),
        ("validation", lambda n: n % 6 == 1),
        ("test", lambda n: n % 2 == 0),
    ):
        rows = [number for number in range(videos) if kept(number)]
        logits = np.zeros((len(rows), len(classes)))
        logits[np.arange(len(rows)), [labels[row] for row in rows]] = 2
        logits[:2] = np.roll(logits[:2], 1, axis=1)
        facts = score_tables.load(run / f"scores-{part}.npz").about
        scores = Scores(
            tuple(listed[row].id for row in rows),
            [labels[row] for row in rows],
            classes,
            logits,
            facts,
        )
        score_tables.save(scores, run / f"scores-{part}.npz")
    return scores


def written(bank: Path, **options: object) -> str:
    options = {"figures": False, "out": str(bank / "page.html"), **options}
    assert report(ReportOptions(bank=str(bank), **options)) == 0
    return (bank / "page.html").read_text(encoding="utf-8")


def embedded(text: str, block: str) -> dict:
    """The data of the map or the list, as a browser reads it: up to the first end of the script."""
    after = text.split(f'<div class="{block}">')[1]
    return json.loads(after.split('<script type="application/json">')[1].split("</script>")[0])


def numbers(text: str) -> list[int]:
    bits, data = text.split(":")
    return np.frombuffer(base64.b64decode(data), f"<u{int(bits) // 8}").tolist()


def test_texts_and_numbers_are_packed() -> None:
    assert packed_texts(["a/v1", "a/v12", "b"]) == "00a/v1\n042\n00b"
    # counted as a browser does: up to the first character beyond U+FFFF
    assert packed_texts(["é😀1", "é😀2"]) == "00é😀1\n01😀2"
    assert packed_texts(["a\nb\u202e", "x" * 2000, "x" * 2000]).split("\n") == [
        "00a\ufffdb\ufffd",
        "00" + "x" * 2000,
        "zz" + "x" * (2000 - 36**2 + 1),
    ]
    for highest, bits in ((255, 8), (256, 16), (65536, 32)):
        packed = packed_numbers(np.array([0, highest]))
        assert packed.startswith(f"{bits}:") and numbers(packed) == [0, highest]
    for wrong in ([-1], [2**32]):
        with pytest.raises(ValueError, match="must be from 0 to 4294967295"):
            packed_numbers(np.array(wrong))
    assert evenly(10, 4).tolist() == [0, 2, 5, 7] and evenly(3, 5).tolist() == [0, 1, 2]


def test_the_projection_is_fitted_on_training_videos_only() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(50, 4)).astype(np.float32) * [3, 2, 0.5, 0.1]
    vectors = vectors.astype(np.float32)
    is_training = np.arange(50) < 30
    found = project("pca", vectors, is_training)
    training = vectors[:30].astype(np.float64)
    _, _, axes = np.linalg.svd(training - training.mean(axis=0))
    expected = (vectors - training.mean(axis=0)) @ axes[:2].T
    signs = np.sign((expected * found.positions).sum(axis=0))
    np.testing.assert_allclose(found.positions, expected * signs, atol=1e-4)
    assert "30 training videos, and not on others" in found.about
    moved = vectors.copy()
    moved[30:] *= 9  # other videos change nothing but their own places
    np.testing.assert_array_equal(
        project("pca", moved, is_training).positions[:30], found.positions[:30]
    )
    with pytest.raises(InputError, match=r"at least 3 training videos of the split \(got 2\)"):
        project("pca", vectors, np.arange(50) < 2)
    assert project("pca", np.ones((5, 1), np.float32), np.ones(5, bool)).positions.shape == (5, 2)


@pytest.mark.long  # umap-learn compiles itself
def test_umap_gives_the_same_map_again() -> None:
    pytest.importorskip("umap")
    vectors = np.random.default_rng(0).normal(size=(120, 5)).astype(np.float32)
    vectors[:60, 0] += 20
    vectors[60:, 1] += 20
    is_training = np.arange(120) % 4 != 0
    first, again = (project("umap", vectors, is_training).positions for _ in range(2))
    np.testing.assert_array_equal(first, again)
    middles = first[:60].mean(axis=0), first[60:].mean(axis=0)
    to_middle = [np.linalg.norm(first - middle, axis=1) for middle in middles]
    np.testing.assert_array_equal(to_middle[0] < to_middle[1], np.arange(120) < 60)
    assert np.isfinite(project("umap", vectors, np.arange(120) < 3).positions).all()  # the least


def test_without_umap_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_run(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"MAP=umap needs .*pip install 'reelbank\[umap\]'"):
        written(tmp_path, map="umap")


def test_the_map_holds_the_videos_of_the_store(tmp_path: Path) -> None:
    scores = made_bank(tmp_path)
    text = written(tmp_path, figures=True)
    data = embedded(text, "video-map")
    with Store.open(tmp_path / "stores" / "made.h5") as store:
        order = sorted(range(len(store)), key=store.video_ids.__getitem__)
        vectors = video_vectors(store).values[order]
    parts = numbers(data["colourings"]["part"]["numbers"])
    assert [parts.count(part) for part in range(4)] == [13, 7, 20, 0]
    places = np.array([numbers(data["x"]), numbers(data["y"])]).T
    expected = project("pca", vectors, np.array(parts) == 0).positions
    expected -= expected.min(axis=0)
    np.testing.assert_allclose(places, expected * 65535 / expected.max(), atol=0.6)
    states = numbers(data["states"])
    assert [states.count(state) for state in range(3)] == [20, 18, 2]
    assert {scores.classes[n - 1] for n in numbers(data["predicted"]) if n} == set(CLASSES)
    chance = np.exp(2) / (np.exp(2) + len(CLASSES) - 1)
    assert set(numbers(data["scores"])) == {0, round(1e4 * chance)}
    assert "fitted on 13 training videos" in text and data["frames"] == []
    with (tmp_path / "page-figures" / "map-part.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["part"] for row in rows].count("validation") == 7
    for name in ("class", "answer", "part"):
        picture = Image.open(tmp_path / "page-figures" / f"map-{name}.png").convert("RGB")
        assert (0x44, 0x77, 0xAA) in {colour for _, colour in picture.getcolors(1 << 20)}


def test_some_videos_of_a_large_store_are_drawn(tmp_path: Path) -> None:
    made_bank(tmp_path)
    with Store.open(tmp_path / "stores" / "made.h5") as store:
        vectors = video_vectors(store).values
        some = evenly(40, 7)
        ids = [store.video_ids[number] for number in some]
        np.testing.assert_allclose(read_vectors(store, ids), vectors[some], atol=1e-6)
        np.testing.assert_array_equal(read_vectors(store, store.video_ids), vectors)


def test_a_map_that_cannot_be_drawn_is_named_and_none_is_drawn_with_map_none(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    made_bank(tmp_path, videos=4)  # of which two are training videos
    assert '<div class="video-map">' not in written(tmp_path)
    reason = "the map of made, 5 classes is not drawn: the projection needs at least 3 training"
    assert f"note: {reason}" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "stores")
    assert "is not drawn: the feature store was not found" in written(tmp_path)
    assert "is not drawn" not in written(tmp_path, map="none")


def test_frames_are_those_of_the_videos_and_few_if_asked(tmp_path: Path) -> None:
    made_bank(tmp_path, classes=("Basketball", "SkyDiving"), dataset="folder-videos-0a1b2c")
    clips = sorted(testdata("clips", "ucf101", "Basketball").glob("*.avi"))[:4]
    root = tmp_path / "videos"
    for number in (0, 1, 2, 5):
        name = ("Basketball", "SkyDiving")[number % 2]
        (root / name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(clips[number % 4], root / name / f"v{number:03d}é😀.avi")
    (root / "SkyDiving" / "v005é😀.avi").write_bytes(b"no video")
    text = written(tmp_path, root=str(root))
    data = embedded(text, "video-map")
    assert (
        len(data["frames"]) == 3 and "1 frame could not be decoded, such as SkyDiving/v005" in text
    )
    frame = Image.open(BytesIO(base64.b64decode(data["frames"][0])))
    assert max(frame.size) == 120 and np.asarray(frame).std() > 10
    few = embedded(written(tmp_path, root=str(root), frames=2), "video-map")
    wrong = [i for i, state in enumerate(numbers(data["states"])) if state == 2]
    assert numbers(few["framed"]) == wrong  # the videos 0 and 2
    linked = embedded(text, "video-list")["links"].split("\n")
    assert linked[0] == "00videos/Basketball/v000%C3%A9%F0%9F%98%80.avi"  # the bank contains both
    assert [line[2:] for line in linked].count("") == 18


def test_links_are_encoded_and_relative_in_a_folder_that_may_be_moved(tmp_path: Path) -> None:
    def video(path: Path, span_seconds: tuple[float, float] | None = None) -> Video:
        return Video("id", path, "", "", (), span_seconds)

    bank = tmp_path / "bank"
    page_folder = bank / "reports"
    names = ("javascript:alert(1).mp4", '"><b>.mp4', "a%41#?é.mp4", os.fsdecode(b"\xff.mp4"))
    for name in names:
        for folder in (bank / "toy", tmp_path / "other"):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
    encoded = (
        "javascript%3Aalert%281%29.mp4",
        "%22%3E%3Cb%3E.mp4",
        "a%2541%23%3F%C3%A9.mp4",
        "%FF.mp4",
    )
    for name, address in zip(names, encoded, strict=True):
        assert (
            link(video(bank / "toy" / name), page_folder, [page_folder, bank])
            == f"../toy/{address}"
        )
        elsewhere = tmp_path / "other" / name
        address = link(video(elsewhere), page_folder, [page_folder, bank])
        assert address.startswith("file:///") and not set(address) & set('"<>#?')
        assert unquote_to_bytes(address.removeprefix("file://")) == os.fsencode(elsewhere)
    part = link(video(bank / "toy" / names[0], (1.5, 20)), page_folder, [bank])
    assert part == f"../toy/{encoded[0]}#t=1.5,20"
    assert link(video(bank / "gone.mp4"), page_folder, [bank]) == ""


def test_multi_label_videos_are_right_if_one_of_their_classes_is_predicted(tmp_path: Path) -> None:
    made_run(tmp_path, several=True, videos=30)
    data = embedded(written(tmp_path), "video-list")
    scores = score_tables.load(next((tmp_path / "runs").iterdir()) / "scores-test.npz")
    order = sorted(range(30), key=scores.video_ids.__getitem__)
    best = scores.logits[order].argmax(axis=1)
    labels = scores.labels[order]
    expected = np.where(labels[np.arange(30), best], 1, 2) * labels.any(axis=1)
    assert numbers(data["states"]) == expected.tolist()
    texts = [", ".join(scores.classes[n] for n in np.flatnonzero(row)) for row in labels]
    assert [data["labelNames"][n] for n in numbers(data["labels"])] == texts


def test_a_video_that_two_splits_test_has_a_row_for_each(tmp_path: Path) -> None:
    for split in ("1", "2"):
        for seed in (0, 1):
            run = made_run(tmp_path, split=split, seed=seed, videos=20)
            if split == "2":
                first = next(path for path in (tmp_path / "runs").iterdir() if path != run)
                scores = score_tables.load(run / "scores-test.npz")
                ids = score_tables.load(first / "scores-test.npz").video_ids
                moved = Scores(ids, scores.labels, scores.classes, scores.logits, scores.about)
                score_tables.save(moved, run / "scores-test.npz")
    text = written(tmp_path)
    data = embedded(text, "video-list")
    assert len(numbers(data["states"])) == 40 and data["splits"].count("\n") == 39
    assert "seed 0). A video that several splits test has a row for each" in text


LOOK = """
  const text = (selector) => document.querySelector(selector).textContent;
  const texts = (row) => [...row.children].map((cell) => cell.textContent);
  const rows = () => [...document.querySelectorAll(".video-list tbody tr")].map(texts);
  const list = document.querySelector(".video-list");
  const set = (element, value, kind) => {
    element.value = value;
    element.dispatchEvent(new Event(kind));
  };
  found.rows = rows();
  found.later = list.querySelector(".later").disabled;
  list.querySelector("[data-key=class]").click(); found.byClass = rows();
  list.querySelector("[data-key=class]").click(); found.byClassBack = rows();
  set(list.querySelector("select"), "2", "change"); found.wrong = rows();
  set(list.querySelector("select"), "0", "change");
  set(list.querySelector("input"), "DIG", "input"); found.dig = rows();
  found.count = text(".video-list output");
  const board = document.querySelector(".board canvas");
  const key = (name) => board.dispatchEvent(new KeyboardEvent("keydown", {key: name, cancelable: true}));
  const box = board.getBoundingClientRect();
  const at = (x, y) => ({clientX: box.left + x * box.width, clientY: box.top + y * box.height});
  const move = (x, y) => board.dispatchEvent(new PointerEvent("pointermove", at(x, y)));
  const id = () => text(".card .id");
  found.pointed = [];
  for (let x = 0; x <= 1; x += 0.02) for (let y = 0; y <= 1; y += 0.02) (move(x, y), found.pointed.push(id()));
  found.pointed = [...new Set(found.pointed)];
  found.card = text(".card dl");
  key("Escape"); found.escaped = id();
  key("ArrowRight"); found.first = id();
  for (let i = 0; i < 60; i++) key("ArrowRight");
  found.right = id();
  for (let i = 0; i < 60; i++) key("ArrowLeft");
  found.left = id();
  set(document.querySelector(".video-map select"), "answer", "change");
  const legend = [...document.querySelectorAll(".legend button")];
  found.legend = legend.map((button) => button.textContent);
  legend[2].click();
  found.pressed = legend.map((button) => button.getAttribute("aria-pressed"));
  found.wrongPoints = [];
  for (let x = 0; x <= 1; x += 0.02) for (let y = 0; y <= 1; y += 0.02) (move(x, y), found.wrongPoints.push(id()));
  found.wrongPoints = [...new Set(found.wrongPoints)];
  const pixels = document.querySelector(".board canvas").getContext("2d").getImageData(0, 0, 300, 300).data;
  found.ink = pixels.some((value) => value > 0);
  found.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  found.images = document.querySelectorAll("body > img, table img, b").length;
"""


@pytest.mark.parametrize("width_px", [1280, 390])
def test_in_a_browser_the_list_sorts_and_the_map_answers(tmp_path: Path, width_px: int) -> None:
    scores = made_bank(tmp_path)
    found = found_in_browser(tmp_path, written(tmp_path), LOOK, width_px)
    assert found["errors"] == [] and found["wide"] == 0 and found["images"] == 0
    ids = sorted(scores.video_ids)
    assert [row[0] for row in found["rows"]] == ids and found["later"]
    wrong = sorted(scores.video_ids[:2])
    label_of = dict(zip(scores.video_ids, scores.labels, strict=True))
    for video_id, answer, score, label, predicted in found["rows"]:
        true = label_of[video_id]
        given = (true + 1) % len(CLASSES) if video_id in wrong else true
        assert (label, predicted) == (CLASSES[true], CLASSES[given])
        assert (answer, score) == ("wrong" if video_id in wrong else "right", "0.649")
    by_class = [row[3] for row in found["byClass"]]
    assert sorted(by_class) == sorted(CLASSES * 4) and len(dict.fromkeys(by_class)) == len(CLASSES)
    assert [by_class.index(name) for name in dict.fromkeys(by_class)] == [0, 4, 8, 12, 16]
    assert [row[3] for row in found["byClassBack"]] == by_class[::-1]
    assert sorted(row[0] for row in found["wrong"]) == wrong
    dig = [row for row in found["rows"] if "dig" in (row[3], row[4]) or "dig" in row[0]]
    assert sorted(row[0] for row in found["dig"]) == [row[0] for row in dig]
    assert found["count"] == f"1–{len(dig)} of {len(dig)} videos"
    assert len(found["pointed"]) > 20 and found["card"].startswith("Class")
    assert found["escaped"] == "" and found["first"] != found["right"] != found["left"]
    assert found["legend"] == ["not evaluated (20)", "right (18)", "wrong (2)"]
    assert found["pressed"] == ["false", "false", "true"] and found["ink"]
    assert set(wrong) <= set(found["wrongPoints"]) <= {*wrong, found["left"]}
