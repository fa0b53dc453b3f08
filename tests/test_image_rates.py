"""Frame rates of folders of images: known for a data set's own release, required where times in
seconds are needed, optional otherwise."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_charades import HEADER, NAMES
from test_streams import run, stores
from tiny_networks import POOLED

from reelbank.data.store.reader import Store

WORDS = (
    "extract",
    "DATASET=charades",
    "ROOT=rgb",
    "LISTS=lists",
    "EXTRACTOR=tiny.py:build",
    "CROPS=1",
    "RESIZE=32",
    "SIZE=32",
)


def images(folder: Path, names: list[str]) -> None:
    """Images of as many greys as there are names, in their order."""
    folder.mkdir(parents=True)
    for place, name in enumerate(names):
        Image.new("RGB", (40, 32), (place, 255 - place, 99)).save(folder / name, compress_level=0)


def released(video: str, count: int) -> list[str]:
    return [f"{video}-{number:06d}.jpg" for number in range(1, count + 1)]


@pytest.fixture
def lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Charades' lists: a training video of 9 s with one action from 4 to 8 s, and a test video of 1
    s."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.py").write_text(POOLED)
    (tmp_path / "lists").mkdir()
    for part, row in (
        ("train", "AAAA1,S1,,,,,,,,c000 4 8,9\n"),
        ("test", "BBBB1,S9,,,,,,,,c000 0 1,1\n"),
    ):
        (tmp_path / "lists" / f"Charades_v1_{part}.csv").write_text(HEADER + row)
    (tmp_path / "lists" / "Charades_v1_classes.txt").write_text("\n".join(NAMES))
    return tmp_path


def of_action(path: Path) -> tuple[np.ndarray, dict]:
    """Times of the action's rows, and what the store says of its source."""
    with Store.open(path) as store:
        number = store.video_ids.index("AAAA1/c000-1")
        return store.times_seconds("AAAA1/c000-1"), store.sources[number] | {"recipe": store.recipe}


def test_charades_own_frames_are_24_a_second(lists: Path, capsys: pytest.CaptureFixture) -> None:
    images(lists / "rgb" / "AAAA1", released("AAAA1", 216))
    images(lists / "rgb" / "BBBB1", released("BBBB1", 24))
    every = (*WORDS, "T=0", "SAMPLING=sigma", "WINDOWS=1", "WINDOW=500")
    assert run(*every, "PLAN=1") == 0
    assert "120 rows" in capsys.readouterr().out  # 96 of the action, 24 of the whole video
    # what earlier versions made of them: as if they were 25 a second
    assert run(*every, "IMAGE_FPS=25") == 0
    older = stores()["rgb"]
    times, source = of_action(older)
    np.testing.assert_allclose(times, np.arange(100, 200) / 25)
    assert "image_fps" not in source["recipe"]
    capsys.readouterr()
    assert run(*every) == 0
    said = capsys.readouterr().out
    assert "2 videos are folders of images, played at 24 frames per second" in said
    assert (
        f"note: {older} was made with 25 frames per second for folders of images, which now have 24. Therefore"
        in said
    )
    (newer,) = set(Path("bank", "stores").glob("*.h5")) - {older}
    times, source = of_action(newer)
    np.testing.assert_allclose(times, np.arange(96, 192) / 24)
    assert (source["frames"], source["fps"], source["recipe"]["image_fps"]) == (96, 24.0, 24.0)
    assert run(*every) == 0
    assert "older one" not in capsys.readouterr().out  # said once: the new one is there


def test_frames_saved_by_somebody_else_need_a_rate(
    lists: Path, capsys: pytest.CaptureFixture
) -> None:
    images(lists / "rgb" / "AAAA1", [f"img_{number:05d}.png" for number in range(1, 121)])
    images(lists / "rgb" / "BBBB1", released("BBBB1", 24))
    assert run(*WORDS, "T=2", "WINDOWS=1", "WINDOW=8") == 2
    line = capsys.readouterr().err
    assert (
        "the labels of charades are in seconds" in line
        and "IMAGE_FPS=<frames per second>" in line
        and "AAAA1" in line
    )
    assert not Path("bank", "stores").exists()
    assert run(*WORDS, "T=0", "WINDOWS=1", "WINDOW=500", "IMAGE_FPS=12.5") == 0
    times, source = of_action(stores()["rgb"])
    np.testing.assert_allclose(times, np.arange(50, 100) / 12.5)
    assert source["recipe"]["image_fps"] == 12.5


def test_where_seconds_do_not_matter_frames_are_counted_as_ever(
    lists: Path, capsys: pytest.CaptureFixture
) -> None:
    images(lists / "own" / "a" / "clip", [f"{number}.png" for number in range(10)])
    words = (
        "extract",
        "DATASET=folder",
        "ROOT=own",
        "EXTRACTOR=tiny.py:build",
        "T=0",
        "CROPS=1",
        "FLOW=dis",
    )
    assert run(*words) == 0
    assert "at an unknown number of frames per second" in capsys.readouterr().out
    path = stores()["rgb"]
    with Store.open(path) as store:
        assert "image_fps" not in store.recipe and store.sources[0]["fps"] == 0.0
        np.testing.assert_allclose(store.times_seconds("a/clip"), np.arange(10) / 25)
    before = set(Path("bank", "stores").iterdir())
    assert run(*words, "IMAGE_FPS=25") == 0 and set(Path("bank", "stores").iterdir()) == before
    assert run(*words, "IMAGE_FPS=10") == 0
    (other,) = set(Path("bank", "stores").iterdir()) - before
    with Store.open(other) as store:
        np.testing.assert_allclose(store.times_seconds("a/clip"), np.arange(10) / 10)


def test_sampling_by_seconds_needs_a_rate(lists: Path, capsys: pytest.CaptureFixture) -> None:
    """Of 45 s, 90 images at 2 a second, the first 36 s are looked at: 72 images, one in five of
    them."""
    images(lists / "own" / "a" / "clip", [f"{number}.png" for number in range(90)])
    words = (
        "extract",
        "DATASET=folder",
        "ROOT=own",
        "EXTRACTOR=tiny.py:build",
        "CROPS=1",
        "FLOW=dis",
        "SAMPLING=adaptive",
    )
    assert run(*words) == 2
    assert "SAMPLING=adaptive measures time in seconds" in capsys.readouterr().err
    assert run(*words, "IMAGE_FPS=2") == 0
    found = stores()
    with Store.open(found["magnitude"]) as lengths, Store.open(found["rgb"]) as store:
        assert lengths.recipe["image_fps"] == store.recipe["image_fps"] == 2.0
        assert (
            len(lengths.times_seconds("a/clip")) == 71 and len(store.times_seconds("a/clip")) == 15
        )  # ceil(72 / 5)
        assert store.times_seconds("a/clip").max() < 36


@pytest.mark.parametrize("value", ["0", "-24", "nan", "inf", "24fps"])
def test_a_rate_is_a_number_above_0(lists: Path, capsys: pytest.CaptureFixture, value: str) -> None:
    images(lists / "own" / "a" / "clip", ["1.png", "2.png"])
    assert (
        run(
            "extract", "DATASET=folder", "ROOT=own", "EXTRACTOR=tiny.py:build", f"IMAGE_FPS={value}"
        )
        == 2
    )
    error = capsys.readouterr().err.lower()
    assert "image_fps" in error or "image-fps" in error
