"""A folder of numbered images gives the frames of the video it was saved from, and data sets find
it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from conftest import testdata as real
from PIL import Image
from test_datasets import touch

from reelbank.data.datasets.discovery import find_videos
from reelbank.data.datasets.registry import load_dataset
from reelbank.data.errors import InputError
from reelbank.data.video import images as frames_folder
from reelbank.data.video.frames import DecodeError, VideoInfo, decode, probe
from reelbank.data.video.messages import Frames, Start


def read(path, select=np.arange, **options):
    """(info, numbers, times, {number: picture})."""
    messages = list(decode(path, select, **options))
    frames = [message for message in messages if isinstance(message, Frames)]
    numbers = np.concatenate([message.numbers for message in frames])
    times = np.concatenate([message.seconds for message in frames])
    return (
        messages[-1].info,
        numbers,
        times,
        {n: p for m in frames for n, p in zip(m.numbers.tolist(), m.pixels, strict=True)},
    )


def draw(folder: Path, *names: str, size=(6, 4)) -> Path:
    """Images whose red channel tells their place among the names, steps of 10."""
    folder.mkdir(parents=True, exist_ok=True)
    for place, name in enumerate(names):
        Image.new("RGB", size, (10 * place, 99, 200)).save(folder / name)
    return folder


def test_images_saved_from_a_clip_give_its_frames(tmp_path):
    clip = real(
        "clips", "ucf101", "Basketball", "v_Basketball_g16_c03.avi"
    )  # one that begins again
    info, numbers, _, _ = read(clip)
    messages = list(decode(clip, np.arange))
    begin = max(i for i, message in enumerate(messages) if isinstance(message, Start))
    pictures = {
        n: p
        for m in messages[begin:]
        if isinstance(m, Frames)
        for n, p in zip(m.numbers.tolist(), m.pixels, strict=True)
    }
    folder = tmp_path / "v_Basketball_g16_c03"
    folder.mkdir()
    for number, picture in pictures.items():
        Image.fromarray(picture).save(folder / f"img_{number + 1:05d}.png", compress_level=1)
    found, numbers, times, got = read(folder)
    right = VideoInfo(info.frames, 0.0, info.width, info.height, "pillow", info.frames / 25, False)
    assert found == dataclasses.replace(right, promised_frames=info.frames)
    np.testing.assert_array_equal(numbers, np.arange(info.frames))
    np.testing.assert_allclose(times, numbers / 25)
    assert all(np.array_equal(got[n], pictures[n]) for n in pictures)
    guess = probe(folder)
    assert (guess.frames, guess.width, guess.height, guess.fps) == (
        info.frames,
        info.width,
        info.height,
        0.0,
    )
    assert read(folder, lambda frames: np.array([[3, 1], [1, 3]]))[1].tolist() == [1, 3]
    info, numbers, times, got = read(folder, span_seconds=(0.2, 0.4))  # images 5 to 9
    assert (info.frames, numbers.tolist()) == (5, [0, 1, 2, 3, 4])
    np.testing.assert_allclose(times, np.arange(5, 10) / 25)
    assert all(np.array_equal(got[n], pictures[n + 5]) for n in range(5))
    assert sum(status.st_size for _, status in frames_folder.statuses(folder)) == sum(
        path.stat().st_size for path in folder.iterdir()
    )


@pytest.mark.parametrize(
    "names",
    [
        [f"{n}.png" for n in range(8, 12)],  # by number: 8, 9, 10, 11
        [f"img_{n:05d}.bmp" for n in range(4)],
        ["frame-1.PNG", "frame-2.png", "frame-3.Png"],
        [f"v_x_g01_c02_{n:06d}.webp" for n in (1, 2, 3)],
    ],
)
def test_order_is_by_number(tmp_path, names):
    folder = draw(tmp_path / "clip", *names)
    (folder / "cover.jpg").write_bytes(b"no number, so not looked at")
    (folder / "labels.txt").write_text("1 2 3")
    _, numbers, _, got = read(folder)
    reds = [int(np.median(got[n][..., 0])) for n in numbers]
    assert len(reds) == len(names) and np.allclose(reds, 10 * np.arange(len(names)), atol=3)


def test_every_kind_of_picture_becomes_rgb(tmp_path):
    folder = tmp_path / "clip"
    folder.mkdir()
    for place, mode in enumerate(("RGB", "L", "1", "P", "RGBA", "LA")):
        Image.new("RGB", (8, 2 + place), (255, 255, 255)).convert(mode).save(
            folder / f"{place}.png"
        )
    info, _, _, got = read(folder)
    assert (info.width, info.height) == (8, 2)
    assert [got[n].shape for n in range(6)] == [(2 + n, 8, 3) for n in range(6)]  # sizes may differ
    assert all((picture == 255).all() for picture in got.values())
    Image.fromarray(np.full((2, 2), 40000, dtype=np.uint16)).save(folder / "6.png")
    with pytest.raises(DecodeError, match="^image 6.png has more than 8 bits per channel$"):
        read(folder)


def test_what_is_wrong_with_a_folder_is_said(tmp_path):
    folder = draw(tmp_path / "clip", *(f"img_{n:03d}.jpg" for n in range(15, 20)))
    (folder / "img_017.jpg").unlink()
    with pytest.raises(DecodeError, match="^image 17 is missing$"):
        read(folder)
    draw(folder, "img_017.jpg", "img_17.jpg")
    with pytest.raises(
        DecodeError, match="^two images have the number 17: img_017.jpg and img_17.jpg$"
    ):
        read(folder)
    (folder / "img_17.jpg").unlink()
    image = (folder / "img_018.jpg").read_bytes()
    (folder / "img_018.jpg").write_bytes(image[: len(image) - 40])
    with pytest.raises(DecodeError, match=r"^image img_018\.jpg cannot be read: .*[Tt]runcated"):
        read(folder)
    (folder / "img_018.jpg").write_bytes(b"")
    with pytest.raises(DecodeError, match=r"^image img_018\.jpg is empty \(0 bytes\)$"):
        read(folder, lambda frames: np.zeros(0))
    (folder / "img_018.jpg").write_text("text")
    with pytest.raises(
        DecodeError,
        match=r"^image img_018\.jpg cannot be read: cannot identify image file 'img_018\.jpg'$",
    ):
        read(folder)
    draw(folder, "flow_x_1.jpg", "flow_x_2.jpg")
    with pytest.raises(DecodeError, match=r"several kinds: flow_x_\*\.jpg, img_\*\.jpg$"):
        read(folder)
    with pytest.raises(DecodeError, match="without numbered images"):
        read(tmp_path)
    with pytest.raises(DecodeError, match=r"^no frame between 3\.20 and 3\.90 s$"):
        read(draw(tmp_path / "short", "1.png", "2.png"), span_seconds=(3.2, 3.9))


def test_where_folders_of_images_count_as_videos(tmp_path):
    clip = ("img_1.jpg", "img_2.jpg")
    root = touch(
        tmp_path,
        *(
            f"{folder}/{name}"
            for folder in ("a/clip", "a/clip.v2", "flat", "a/both")
            for name in clip
        ),
        "a/both.avi",  # next to a folder of the same name: each keeps its own name
        "a/film.mp4",
        "a/thumb_1.jpg",  # images next to videos are ignored
        "a/thumb_2.jpg",
        "a/single/img_1.jpg",  # a single image is not a video
        "a/mixed/img_1.jpg",
        "a/mixed/img_2.jpg",
        "a/mixed/flow_1.jpg",
        "a/above/img_1.jpg",  # a folder below
        "a/above/img_2.jpg",
        "a/above/deep/1.png",
        "a/above/deep/2.png",
        "a/above/deep/.3.png",
    )
    (root / "link").symlink_to(root / "a" / "clip")
    found, notes = find_videos(root)
    assert list(found) == [
        "a/above/deep",
        "a/both",
        "a/both.avi",
        "a/clip",
        "a/clip.v2",
        "a/film",
        "flat",
        "link",
    ]
    assert found["a/clip"] == root / "a" / "clip" and found["a/both.avi"] == root / "a" / "both.avi"
    assert notes == [
        "folders left out because they contain several series of numbered images: a/mixed"
    ]
    with pytest.raises(
        InputError, match=f"contains no videos .*give its parent folder: ROOT={root / 'a'}"
    ):
        load_dataset("folder", str(root / "a" / "clip"))


def test_data_sets_take_them(tmp_path):
    images = ("img_00001.jpg", "img_00002.jpg")
    root = touch(
        tmp_path / "ucf", *(f"YoYo/v_YoYo_g{g:02d}_c01/{name}" for g in (3, 20) for name in images)
    )
    dataset = load_dataset("ucf101", str(root))
    assert [(v.id, v.label, v.group, v.parts) for v in dataset.videos] == [
        ("YoYo/v_YoYo_g03_c01", "YoYo", "YoYo/g03", ("test", "train", "train")),
        ("YoYo/v_YoYo_g20_c01", "YoYo", "YoYo/g20", ("train", "train", "test")),
    ]
    stem = (
        real("splits", "hmdb51", "wave_test_split1.txt").read_text().split()[0].removesuffix(".avi")
    )
    root = touch(tmp_path / "hmdb", *(f"wave/{stem}/{name}" for name in images))
    (video,) = load_dataset("hmdb51", str(root), splits_dir=str(real("splits", "hmdb51"))).videos
    assert (video.id, video.label, video.path) == (f"wave/{stem}", "wave", root / "wave" / stem)
    root = touch(
        tmp_path / "own",
        *(
            f"{folder}/{name}"
            for folder in ("run/x_1", "run/y_1", "jump/z_1", "flat_1")
            for name in images
        ),
    )
    labels = {video.id: video.label for video in load_dataset("folder", str(root)).videos}
    assert labels == {"run/x_1": "run", "run/y_1": "run", "jump/z_1": "jump", "flat_1": ""}
    table = tmp_path / "t.csv"
    table.write_text("path,label,split\nrun/x_1,fast,train\nrun/y_1/,fast,test\n")
    videos = load_dataset("folder", str(root), csv=str(table)).videos
    assert [(video.id, video.label, video.parts) for video in videos] == [
        ("run/x_1", "fast", ("train",)),
        ("run/y_1", "fast", ("test",)),
    ]


def test_a_known_rate_says_when_each_image_is_shown(tmp_path):
    """Charades' action from 4 to 8 s: at 24 frames a second images 96 to 191."""
    folder = draw(tmp_path / "clip", *(f"clip-{n + 1:06d}.jpg" for n in range(220)))
    info, numbers, times, got = read(folder, span_seconds=(4.0, 8.0), image_fps=24.0)
    assert (info.frames, info.fps) == (96, 24.0) and info.duration_seconds == pytest.approx(4.0)
    np.testing.assert_allclose(times, np.arange(96, 192) / 24)
    assert (
        probe(folder, 24.0).duration_seconds == pytest.approx(220 / 24) and probe(folder).fps == 0.0
    )


def test_data_sets_give_a_frame_rate_only_for_their_own_frames(tmp_path):
    images = ("img_00001.jpg", "img_00002.jpg")
    ucf = touch(tmp_path / "ucf", *(f"YoYo/v_YoYo_g03_c01/{name}" for name in images))
    stem = (
        real("splits", "hmdb51", "wave_test_split1.txt").read_text().split()[0].removesuffix(".avi")
    )
    hmdb = touch(tmp_path / "hmdb", *(f"wave/{stem}/{name}" for name in images))
    lists = {"splits_dir": str(real("splits", "hmdb51"))}
    assert (
        load_dataset("ucf101", str(ucf)).image_fps == 0.0
    )  # of its videos some have 25, some 29.97
    assert load_dataset("ucf101", str(ucf), image_fps=29.97).image_fps == 29.97
    dataset = load_dataset("hmdb51", str(hmdb), **lists)
    assert dataset.image_fps == 30.0 and dataset.notes[-1].startswith(
        "1 video is a folder of images, played at 30 frames per second"
    )
    touch(tmp_path / "own", "a/x.mp4")
    with pytest.raises(
        InputError, match="IMAGE_FPS=30: ROOT=.* contains no videos that are folders of images"
    ):
        load_dataset("folder", str(tmp_path / "own"), image_fps=30.0)
