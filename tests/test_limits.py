"""Limits for each video: pixels of a frame, pixels of all videos in flight, and time. A small file
can require much of each."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import testdata as real
from PIL import Image
from test_decode import read, write_shade

from reelbank.data.errors import InputError
from reelbank.data.video.frames import DecodeError, Reading, decode, probe
from reelbank.data.video.limits import Limits
from reelbank.data.video.messages import Done, Failed, Frames
from reelbank.data.video.pool import DecodePool
from reelbank.data.video.sound import read_sound


def write_gif(path: Path, width: int, height: int, frames: int = 13) -> Path:
    """Each picture is one pixel on a screen of this size: 300 bytes, whatever the size."""
    data = (
        b"GIF89a"
        + struct.pack("<HHBBB", width, height, 0x80, 0, 0)
        + bytes([0, 0, 0, 255, 255, 255])
    )
    one = (
        b"\x21\xf9\x04"
        + struct.pack("<BHB", 0, 10, 0)
        + b"\0\x2c"
        + struct.pack("<HHHHB", 0, 0, 1, 1, 0)
    )
    path.write_bytes(data + (one + b"\x02\x02\x44\x01\x00") * frames + b"\x3b")
    return path


def write_png_header(path: Path, width: int, height: int) -> None:
    """A picture that says its size and nothing else."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + head
        + chunk(b"IDAT", zlib.compress(bytes(100)))
        + chunk(b"IEND", b"")
    )


def outcomes(pool: DecodePool, tasks) -> tuple[dict, list]:
    """({key: VideoInfo or reason}, keys in the order of their messages)."""
    ends, keys = {}, []
    for key, message in pool.run(tasks):
        keys.append(key)
        if isinstance(message, Frames):
            message.release()
        if isinstance(message, Done | Failed):
            ends[key] = message.info if isinstance(message, Done) else message.reason
    return ends, keys


def test_a_small_file_with_gigantic_pictures_costs_neither_memory_nor_time(tmp_path):
    gif = write_gif(tmp_path / "large.gif", 16_000, 16_000)
    assert gif.stat().st_size < 350
    tasks = [
        (decoder, gif, Reading(np.arange, decoder, sound=np.arange))
        for decoder in ("auto", "opencv", "decord")
    ]
    with DecodePool(1) as pool:
        ends, _ = outcomes(pool, tasks)
        status = Path(f"/proc/{pool.workers[0].process.pid}/status").read_text()
    assert set(ends.values()) == {"its pictures have more than PICTURE_MPX=64 million pixels"}
    assert int(status.split("VmHWM:")[1].split()[0]) < 250_000  # KiB; one picture is 1,000,000
    with pytest.raises(DecodeError, match="PICTURE_MPX=64 million"):
        list(decode(gif, np.arange))


def test_a_picture_of_unknown_size_is_not_taken_for_a_gigantic_one(tmp_path):
    """FFmpeg knows moving WebP from its version 9 on; before, its own message tells the reason."""
    pictures = [Image.fromarray(np.full((40, 50, 3), grey, np.uint8)) for grey in (0, 255)]
    pictures[0].save(tmp_path / "moving.webp", save_all=True, append_images=pictures[1:])
    try:
        frames = list(decode(tmp_path / "moving.webp", np.arange))[-1].info.frames
    except DecodeError as error:
        assert str(error).startswith("damaged after 0 of 1 frames: ")
    else:
        assert frames == 2


@pytest.mark.parametrize("container", ["avi", "mp4", "matroska"])
def test_pictures_are_measured_to_the_pixel(tmp_path, container):
    path = tmp_path / "video"
    write_shade(path, 20, container, "mpeg4")
    assert read(path, "all")[0].frames == 10  # of 64 x 64
    enough, too_little = Limits(picture_mpx=0.004096), Limits(picture_mpx=0.004095)
    assert (
        list(decode(path, np.arange, limits=enough))[-1].info.frames
        == probe(path, limits=enough).frames
        == 10
    )
    reason = "^its pictures of 64 x 64 have more than PICTURE_MPX=0.004095 million pixels$"
    with pytest.raises(DecodeError, match=reason):
        list(decode(path, np.arange, limits=too_little))
    with pytest.raises(DecodeError, match=reason):
        probe(path, limits=too_little)


@pytest.mark.parametrize("decoder", ["auto", "opencv"])
def test_pictures_that_grow_on_the_way_are_measured(decoder):
    """Two streams of 60 frames, one behind the other: 64 x 64, then larger."""
    path = real("odd", "reschange.ts")
    sizes = [m.pixels.shape[1:3] for m in decode(path, np.arange) if isinstance(m, Frames)]
    small, large = np.prod(sizes[0]), np.prod(sizes[-1])
    assert small < large
    height, width = sizes[-1]
    with pytest.raises(
        DecodeError, match=f"^its pictures of {width} x {height} have more than PICTURE_MPX="
    ):
        list(decode(path, np.arange, decoder, limits=Limits(picture_mpx=float(large - 1) / 1e6)))


def test_images_are_measured_before_they_are_decoded(tmp_path):
    for number in range(3):
        Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / f"img_{number}.png")
    assert list(decode(tmp_path, np.arange, limits=Limits(picture_mpx=0.002)))[-1].info.frames == 3
    with pytest.raises(
        DecodeError,
        match="^its pictures of 50 x 40 have more than PICTURE_MPX=0.0019 million pixels$",
    ):
        probe(tmp_path, limits=Limits(picture_mpx=0.0019))
    for size in (30_000, 9000):  # beyond, and below, what Pillow itself refuses
        write_png_header(tmp_path / "img_3.png", size, size)
        with pytest.raises(
            DecodeError,
            match=f"^its pictures of {size} x {size} have more than PICTURE_MPX=64 million",
        ):
            list(decode(tmp_path, np.arange))
    with pytest.raises(DecodeError, match="^image img_3.png cannot be read"):
        list(decode(tmp_path, np.arange, limits=Limits(picture_mpx=1000)))
    assert (
        list(decode(tmp_path, lambda frames: np.arange(3)))[-1].info.frames == 4
    )  # what nobody wants is not read


def test_a_video_that_takes_too_long_for_its_length_fails(tmp_path):
    clip = real("clips", "ucf101", "SkyDiving", "v_SkyDiving_g22_c02.avi")
    with pytest.raises(
        DecodeError,
        match=r"^decoding is too slow; 0\.0 s of video took .* s, more than SLOWNESS=1e-09 allows$",
    ):
        list(decode(clip, np.arange, limits=Limits(slowness=1e-9)))
    with pytest.raises(DecodeError, match="SLOWNESS=1e-09 allows$"):
        list(read_sound(clip, np.arange, limits=Limits(slowness=1e-9)))
    for number in range(2):
        Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / f"{number}.png")
    with pytest.raises(DecodeError, match="SLOWNESS=1e-09 allows$"):
        list(decode(tmp_path, np.arange, limits=Limits(slowness=1e-9)))
    with DecodePool(
        1, limits=Limits(slowness=1e-9)
    ) as pool:  # which each frame's sign of life does not hinder
        ends, _ = outcomes(pool, [("clip", clip, Reading(np.arange))])
    assert ends["clip"].endswith("more than SLOWNESS=1e-09 allows")


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), 1e10])
def test_invalid_limits_are_refused(value):
    for name in ("picture_mpx", "in_flight_mpx", "slowness"):
        with pytest.raises(InputError, match=f"^{name.upper()}="):
            Limits(**{name: value})
