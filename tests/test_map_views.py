"""Augmented views of feature maps: flips and crops of several sizes, each crop stored by itself."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import reelbank
from reelbank.data.store.reader import Store
from reelbank.extract.again import UserFiles, options_again
from reelbank.extract.pipeline.boxes import PLACES, crop_sizes
from reelbank.heads.recipe import Rule
from reelbank.heads.training.options import TrainOptions
from reelbank.heads.training.sequences import tables
from reelbank.heads.training.train import train_runs

HEIGHT, WIDTH, CROP = 96, 128, 84
# The network's maps are the means of the crop's 4 x 4 parts, so they show where it was cut.
NETWORK = """
import torch
from torch import nn

def build():
    model = nn.Sequential(
        nn.Conv2d(3, 3, 1, bias=False), nn.AdaptiveAvgPool2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)
    )
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(3)[:, :, None, None])
    model.input_size = (3, 84, 84)
    return model
"""
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of four folders of images, whose red is the column and whose green the row."""
    folder = tmp_path_factory.mktemp("gradients")
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[..., 0], picture[..., 1] = np.arange(WIDTH), np.arange(HEIGHT)[:, None]
    for number in range(8):
        video = folder / "videos" / "ab"[number % 2] / f"v{number}"
        video.mkdir(parents=True)
        for frame in range(24):
            Image.fromarray(picture).save(video / f"{frame:03d}.png")
    (folder / "net.py").write_text(NETWORK)
    return folder


def extracted(folder: Path, bank: str, *words: str) -> Path:
    words = [
        "extract",
        "DATASET=folder",
        f"ROOT={folder / 'videos'}",
        f"BANK={folder / bank}",
        f"EXTRACTOR={folder / 'net.py'}:build",
        "WEIGHTS=own",
        "AT=1",
        f"RESIZE={HEIGHT}",
        f"SIZE={CROP}",
        "SAMPLING=segments",
        "DEVICE=cpu",
        "IMAGE_FPS=25",
        *words,
    ]
    assert reelbank.main(words) == 0
    (path,) = (folder / bank / "stores").glob("*.h5")
    return path


@dataclasses.dataclass(frozen=True)
class Cut:
    """Where a crop was cut, in pixels; width below 0: mirrored."""

    top: float
    left: float
    height: float
    width: float


def cut_of(maps: np.ndarray) -> Cut:
    """From maps (3, 4, 4)."""
    pixels = (torch.from_numpy(maps.astype(np.float32)) * STD[:, None, None]) + MEAN[:, None, None]
    columns, rows = (255 * pixels[0].mean(0)).tolist(), (255 * pixels[1].mean(1)).tolist()
    width, height = (columns[3] - columns[0]) / 3 * 4, (rows[3] - rows[0]) / 3 * 4
    left = min(columns) - abs(width) / 8 + 0.5
    return Cut(min(rows) - height / 8 + 0.5, left, height, width)


def is_near(value: float, wanted: float) -> bool:
    return abs(value - wanted) < 1.5


def test_the_crops_of_views_have_the_sizes_and_places_of_tsn(folder: Path) -> None:
    path = extracted(folder, "jitter", "T=2", "CROPS=5", "KEEP_CROPS=1", "VIEWS=6", "JITTER=1")
    sizes = crop_sizes((HEIGHT, WIDTH), (CROP, CROP))
    found: list[Cut] = []
    with Store.open(path) as store:
        for number, name in enumerate(store.video_ids):
            values, views = store.features(name)[0], store.views(name)
            whole = store.load_views([name])[0]
            assert values.shape == (2, 5, 3, 4, 4)
            if store.parts[number][0] == "test":
                assert len(whole) == 2
                continue
            assert views.tolist() == [view for view in range(7) for _ in range(2)]
            corners = [cut_of(crop) for crop in whole[0]]
            for cut, place in zip(corners, ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2)), strict=True):
                assert is_near(cut.top, place[0] * (HEIGHT - CROP) / 4)
                assert is_near(cut.left, place[1] * (WIDTH - CROP) / 4)
                assert is_near(cut.width, CROP) and is_near(cut.height, CROP)
            for view in range(1, 7):
                first, second = whole[views == view]
                np.testing.assert_array_equal(first, second)  # one crop for all rows of a video
                found += [cut_of(crop) for crop in first]
    for cut in found:
        fitting = [
            (height, width)
            for height, width in sizes
            if is_near(cut.height, height) and is_near(abs(cut.width), width)
        ]
        assert fitting, cut
        places = [
            (down * ((HEIGHT - height) // 4), right * ((WIDTH - width) // 4))
            for height, width in fitting
            for down, right in PLACES
        ]
        assert any(is_near(cut.top, down) and is_near(cut.left, right) for down, right in places)
    mirrored = np.mean([cut.width < 0 for cut in found])
    assert 0.3 < mirrored < 0.7
    assert len({(round(cut.height / 4), round(abs(cut.width) / 4)) for cut in found}) >= 6
    assert len({round(cut.left / 3) for cut in found}) >= 5


def test_without_jitter_views_are_crops_of_one_size_anywhere(folder: Path) -> None:
    path = extracted(folder, "plain", "T=1", "CROPS=5", "KEEP_CROPS=1", "VIEWS=2")
    with Store.open(path) as store:
        train = [
            name
            for name, parts in zip(store.video_ids, store.parts, strict=True)
            if "train" in parts
        ]
        values = store.load_views(train)[0]
        cuts = [cut_of(crop) for row in values for crop in row]
        assert all(is_near(abs(cut.width), CROP) for cut in cuts)
        assert "jitter" not in store.recipe
        again = options_again(
            store.recipe,
            UserFiles(extractors=(f"{folder / 'net.py'}:build",), image_fps=25),
            str(folder / "plain"),
            "folder",
            "cpu",
        )
        assert (again.views, again.jitter, again.keep_crops) == (2, False, True)


def test_a_store_with_jitter_is_found_again_and_its_first_crop_does_not_depend_on_the_others(
    folder: Path,
) -> None:
    kept = extracted(folder, "kept", "T=1", "CROPS=5", "KEEP_CROPS=1", "VIEWS=2", "JITTER=1")
    mean = extracted(folder, "mean", "T=1", "CROPS=5", "VIEWS=2", "JITTER=1")
    with Store.open(kept) as store, Store.open(mean) as averaged:
        assert store.recipe["jitter"] is True
        again = options_again(
            store.recipe,
            UserFiles(extractors=(f"{folder / 'net.py'}:build",), image_fps=25),
            str(folder / "kept"),
            "folder",
            "cpu",
        )
        assert (again.views, again.jitter) == (2, True)
        for name in store.video_ids:
            crops, one = store.load_views([name])[0], averaged.load_views([name])[0]
            np.testing.assert_array_equal(crops[1:, 0], one[1:])  # a view has one crop there


def test_jitter_without_views_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["extract", "DATASET=folder", f"ROOT={folder / 'videos'}", "JITTER=1"]
    assert reelbank.main([*words, f"BANK={folder / 'none'}", "IMAGE_FPS=25"]) == 2
    assert (
        "JITTER=1 varies the crops of augmented copies (views), but VIEWS is not given"
        in capsys.readouterr().err
    )


def drawn_rows(rule: Rule, views: np.ndarray, epochs: int) -> set[tuple[int, int, int]]:
    """(segment, crop, row) of all that `epochs` epochs draw from one video."""
    learn, _ = tables([views], rule, ["video"])
    drawn = set()
    for epoch in range(epochs):
        generator = torch.Generator().manual_seed(epoch)
        table = learn.drawn(generator)
        (number,) = table.one_of_each(torch.arange(len(table.video)), generator).tolist()
        for segment, row in enumerate(table.rows[number].tolist()):
            drawn.add((segment, int(table.crop[number]), row))
    return drawn


def test_views_give_more_places_of_each_segment_than_the_clean_rows() -> None:
    rule = Rule(sampling="segments", steps=2, positions=4, crops=5)
    clean = drawn_rows(rule, np.zeros(8, np.uint8), 800)
    assert len({row for segment, _, row in clean if segment == 0}) == 4
    viewed = drawn_rows(rule, np.repeat([0, 1, 2], 8).astype(np.uint8), 2000)
    assert len({row for segment, _, row in viewed if segment == 0}) == 12
    assert len(viewed) == 2 * 12 * 5


def test_a_head_learns_from_the_views_of_maps(folder: Path) -> None:
    path = extracted(folder, "learn", "T=4", "CROPS=5", "KEEP_CROPS=1", "VIEWS=1", "JITTER=1")
    options: dict[str, Any] = {"bank": str(folder / "learn"), "store": str(path)}
    options |= {"head": "rlstm", "trunk": "pool", "sampling": "segments", "t": 2, "positions": 2}
    options |= {"crops": "each", "views": "one", "validation": 0.0, "refit": False, "epochs": 1}
    (run,) = train_runs(TrainOptions(batch=2, device="cpu", **options))
    assert run.recipe["views"] == "one"
    assert run.metrics.sequences["test"] == 2 * 5 * run.metrics.test.videos
