"""`search` finds what comparing with every video in float64 finds, computes queries exactly as the
store's features, and shows hostile names as text."""

import base64
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import PIL.Image
import pytest
from made_stores import DATASET, RECIPE
from test_hostile import EVIL, check_nesting, harmless

import reelbank
from reelbank.data.datasets.registry import load_dataset
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter
from reelbank.fusion.search.result import time_text

ROWS, LENGTH = 5, 16


def made_bank(bank: Path, videos: int = 60, names: Sequence[str] = ()) -> np.ndarray:
    """A store of videos in clusters. Returns its features, (V, ROWS, LENGTH) float64."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(7, 1, LENGTH))[np.arange(videos) % 7]
    values = (centres + rng.normal(size=(videos, ROWS, LENGTH))).astype(np.float16)
    listed = [
        StoredVideo(name, DATASET.classes[number % 2], f"g{number // 4}", ("train", ""))
        for number, name in enumerate(names or [f"v{number:03}" for number in range(videos)])
    ]
    with StoreWriter(bank / "stores" / "made.h5", RECIPE, DATASET) as writer:
        for video, rows in zip(listed, values, strict=True):
            writer.add(video, rows, np.arange(ROWS) + 0.5)
        broken = StoredVideo("broken", parts=("", ""))
        writer.fail(broken, "no frames")
        writer.finish([*listed, broken])
    return values.astype(np.float64)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def found(capsys: pytest.CaptureFixture, *words: str) -> dict[str, Any]:
    """The JSON document of a search."""
    assert reelbank.main(["search", "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture, *words: str) -> str:
    """The one line of an error."""
    assert reelbank.main(["search", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_videos_are_those_of_all_cosines(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    means = unit(made_bank(tmp_path).mean(1))
    document = found(capsys, "v007", f"BANK={tmp_path}", "COUNT=12")
    cosines = means @ means[7]
    cosines[7] = -2  # the video itself is not a result
    order = np.argsort(-cosines)[:12]
    assert [match["video"] for match in document["results"]] == [f"v{n:03}" for n in order]
    similarities = [match["similarity"] for match in document["results"]]
    np.testing.assert_allclose(similarities, cosines[order], atol=1e-6)
    first = document["results"][0]
    label, group = DATASET.classes[order[0] % 2], f"g{order[0] // 4}"
    assert (first["rank"], first["label"], first["group"]) == (1, label, group)
    assert first["time_seconds"] is None
    assert (document["compared"], document["without_features"]) == (59, 1)


def test_moments_are_rows_nearer_than_their_neighbours(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    values = made_bank(tmp_path)
    document = found(capsys, "v007", f"BANK={tmp_path}", "COUNT=30", "MOMENTS=1")
    cosines = unit(values) @ unit(values[7].mean(0))  # (V, ROWS)
    cosines[7] = -2
    peaks = []
    for video, of_video in enumerate(cosines):
        around = np.concatenate([[-9], of_video, [-9]])
        for row in range(ROWS):
            if around[row] < around[row + 1] >= around[row + 2]:
                peaks.append((of_video[row], video, row + 0.5))
    expected = sorted(peaks, reverse=True)[:30]
    names = [(match["video"], match["time_seconds"]) for match in document["results"]]
    assert names == [(f"v{video:03}", time) for _, video, time in expected]


def test_the_function_and_the_table(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    made_bank(tmp_path)
    result = reelbank.search(video="v001", bank=tmp_path, count=2)
    assert reelbank.main(["search", "VIDEO=v001", f"BANK={tmp_path}", "COUNT=2"]) == 0
    out = capsys.readouterr().out
    assert out == f"{result}\n"
    heading, first = out.splitlines()[1:3]
    assert heading.split() == ["similarity", "video", "label"]
    assert first.split() == [
        f"{result.matches[0].similarity:.3f}",
        result.matches[0].video,
        result.matches[0].label,
    ]
    assert "compared with 59 videos of made.h5 (1 video without features)" in out
    assert result.records()[0]["video"] == result.matches[0].video


def test_a_query_without_direction_is_refused_and_an_empty_text_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    rows = {"black": np.zeros((2, 3)), "a": np.eye(3)[:2], "b": np.ones((2, 3))}
    with StoreWriter(tmp_path / "stores" / "made.h5", RECIPE, DATASET) as writer:
        for name, of_video in rows.items():
            writer.add(StoredVideo(name, parts=("", "")), of_video, np.arange(2.0))
        writer.finish([StoredVideo(name, parts=("", "")) for name in rows])
    bank = f"BANK={tmp_path}"
    assert "all its features are 0" in refused(capsys, bank, "VIDEO=black")
    results = found(capsys, bank, "VIDEO=a", "TEXT= ")["results"]
    assert [(match["video"], round(match["similarity"], 3)) for match in results] == [
        ("b", 0.816),
        ("black", 0.0),
    ]


def test_times_are_minutes_and_seconds() -> None:
    assert [time_text(seconds) for seconds in (0, 7.46, 59.96, 3723.04)] == [
        "0:00.0",
        "0:07.5",
        "1:00.0",
        "1:02:03.0",
    ]


def test_errors_name_what_to_give(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    bank = f"BANK={tmp_path}"
    assert "no store of features in" in refused(capsys, "VIDEO=v001", bank)
    made_bank(tmp_path)
    assert "expected one of them, got neither" in refused(capsys, bank)
    assert "expected one of them, got both" in refused(capsys, bank, "VIDEO=v001", "TEXT=a")
    assert "VIDEO=v999: there is no such file" in refused(capsys, bank, "VIDEO=v999")
    assert "which has no text tower" in refused(capsys, bank, "TEXT=a man")
    assert "PAGE=" in refused(capsys, bank, "VIDEO=v001", "PAGE=page.pdf")
    for option in ("ROOT", "LISTS", "DATASET"):
        assert f"{option}= is only used" in refused(capsys, bank, "VIDEO=v001", f"{option}=x")
    made = tmp_path / "stores" / "made.h5"
    made.with_name("copy.h5").write_bytes(made.read_bytes())
    (tmp_path / "clip.mp4").write_bytes(b"x")
    assert "2 stores match" in refused(capsys, bank, "VIDEO=v001")


@pytest.mark.parametrize(
    "recipe",
    [
        {"stream": 5, "extractor": ["hf:x"], "image_fps": "fast"},
        {"stream": "rgb", "extractor": "hf:a/b", "node": {}, "weights": 3, "image_fps": -1e9},
        {"stream": "rgb", "extractor": "hf:a/b", "flow": "x", "flow_method": 7, "crops": {}},
    ],
)
def test_a_hostile_recipe_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture, recipe: dict[str, object]
) -> None:
    with StoreWriter(tmp_path / "stores" / "made.h5", recipe, DatasetDescription("x")) as writer:
        for name in ("a", "b"):
            writer.add(StoredVideo(name), np.ones((2, 4)), np.arange(2.0))
        writer.finish([StoredVideo("a"), StoredVideo("b")])
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"x")
    words = [f"BANK={tmp_path}", "STORE=made", f"PAGE={tmp_path / 'page.html'}"]
    assert len(found(capsys, "VIDEO=a", *words)["results"]) == 1
    assert "made.h5" in refused(capsys, "TEXT=a", *words)
    assert "made.h5" in refused(capsys, f"VIDEO={path}", *words)


def test_the_page_shows_frames_and_plays_files(tmp_path: Path) -> None:
    """Frame n of the videos is grey n; a moment shows the frame at its time."""
    for name in ("one", "two #1"):
        path = tmp_path / "videos" / f"{name}.mkv"
        path.parent.mkdir(exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("ffv1", 4)
            stream.width, stream.height, stream.pix_fmt = 40, 30, "bgr0"
            for grey in range(0, 200, 10):
                picture = np.full((30, 40, 3), grey, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
    dataset = load_dataset("folder", tmp_path / "videos")
    described = DatasetDescription.of(dataset)
    rows = np.array([[1, 0, 0, 0], [1, 0, 0, 9], [0, 0, 3, 0]])  # the second is like that of "one"
    with StoreWriter(tmp_path / "bank" / "stores" / "made.h5", RECIPE, described) as writer:
        videos = [StoredVideo(video.id, parts=video.parts) for video in dataset.videos]
        writer.add(videos[0], np.array([[0, 0, 0, 1]]), np.array([0.0]))
        writer.add(videos[1], rows, np.array([1.0, 2.0, 3.0]))
        writer.finish(videos)
    page = tmp_path / "page.html"
    options = {"bank": tmp_path / "bank", "video": "one", "root": tmp_path / "videos", "page": page}
    result = reelbank.search(**options, moments=True, count=1)
    assert result.page == page and result.matches[0].time_seconds == 2.0
    text = page.read_text(encoding="utf-8")
    images = [
        np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(data))))
        for data in re.findall('src="data:image/jpeg;base64,([^"]+)"', text)
    ]
    # of 20 frames at 4 per second: the middle one of the query, and the one at 2 s
    assert [round(image.mean()) for image in images] == [100, 80]
    assert 'href="videos/one.mkv">one</a>' in text
    assert 'href="videos/two%20%231.mkv#t=2.0">two #1</a>' in text


def test_hostile_names_are_text_on_the_page(
    tmp_path: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    script = "</script><script>alert(1)</script>"
    names = [f"a{EVIL}", script, '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "plain"]
    described = DatasetDescription("made", (script, f"b{EVIL}"))
    rng = np.random.default_rng(0)
    videos = [
        StoredVideo(name, described.classes[n % 2], f"g{EVIL}", ()) for n, name in enumerate(names)
    ]
    with StoreWriter(tmp_path / "bank" / "stores" / "made.h5", RECIPE, described) as writer:
        for video in videos:
            writer.add(video, rng.normal(size=(3, 8)), np.arange(3.0))
        writer.finish(videos)
    for words in (["PAGE=page.html"], ["PAGE=page.html", "MOMENTS=1"], ["--json"]):
        assert reelbank.main(["search", f"VIDEO={script}", *words]) == 0
        harmless(*capfd.readouterr())
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page and "<img src=x" not in page and "{{ 7 * 7 }}" in page
    assert not set("\x1b\x07\x9b\u202e\x7f") & set(page)
    assert "http:" not in page and "https:" not in page
    check_nesting(page)
