"""Decoded frames, counts, times and reasons are right; the reference is PyAV reading the file from
start to end."""

import contextlib
import ctypes
import itertools
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import testdata as real
from conftest import testdata_rows as real_rows

from reelbank.data.errors import InputError
from reelbank.data.video.clips import clip_grid
from reelbank.data.video.frames import DecodeError, decode, probe, write_sample
from reelbank.data.video.messages import Done, Frames, Restart, Start
from reelbank.data.video.sound import read_sound

NOT_VIDEOS = {
    "audio_only.mp3": "no video track (audio only)",
    "audio_only.mp4": "no video track (audio only)",
    "audio_only.webm": "no video track (audio only)",
    "empty.mp4": "empty file (0 bytes)",
    "html.mp4": "not a video file (text or a playlist)",
    "rand.mp4": "not a video file, or its header is damaged",
    "text.mp4": "not a video file (text or a playlist)",
    "zeros.mp4": "not a video file (nothing but zero bytes)",
}
# Declared lengths that make decord abort the process: only a worker may try them.
DEADLY_FOR_DECORD = {"avi_hugecount.avi", "huge_stts.mp4"}
# The burned-in number of each frame, where it is not the frame's own.
BURNED = {
    "copycut.mp4": 48 + np.arange(72),
    "editlist.mp4": 26 + np.arange(94),
    "opencut.mp4": 83 + np.arange(157),
}
BURNED |= {"reschange.ts": np.tile(np.arange(60), 2), "zero_delta.mp4": np.r_[0:58:2, 59]}
UNREADABLE = {
    "vfr.mp4",
    "s1x1.mkv",
    "s1x1h.mp4",
    "s3x5.mkv",
    "s3x5h.mp4",
    "s4097x2.mkv",
    "s4097x2.mp4",
}


def patterns(frames: int) -> dict[str, np.ndarray]:
    """Frame numbers as extraction may ask for them."""
    rng = np.random.default_rng(frames)
    return {
        "spread": clip_grid(frames, steps=25),
        "random": rng.integers(0, frames, size=(4, 5)),
        "strided": clip_grid(frames, clip_frames=5, stride_frames=7),
        "all": np.arange(frames),
        "last": np.array([frames - 1]),
    }


def read(path, numbers, decoder="auto", chunk_frames=32):
    """(info, numbers, seconds, pixels by number) of `numbers`, an array or a pattern's name; checks
    what decode promises."""

    def select(frames: int) -> np.ndarray:
        return patterns(frames)[numbers] if isinstance(numbers, str) else numbers

    messages = list(decode(path, select, decoder, chunk_frames=chunk_frames))
    kinds = [type(message) for message in messages]
    assert kinds[-1] is Done and kinds.count(Done) == 1 and kinds[0] is Start
    if Restart in kinds:
        begin = len(kinds) - kinds[::-1].index(Restart)
        messages = messages[begin:]
    assert messages[0] == Start(messages[-1].info.frames)
    got, seconds, pixels = [], [], {}
    for message in messages[1:-1]:
        assert isinstance(message, Frames)
        chunk, times, pictures = message.numbers, message.seconds, message.pixels
        assert len(chunk) == len(times) == len(pictures) <= chunk_frames
        assert (chunk.dtype, times.dtype, pictures.dtype) == (np.int64, np.float64, np.uint8)
        got += chunk.tolist()
        seconds += times.tolist()
        pixels.update(zip(chunk.tolist(), pictures, strict=True))
    assert got == sorted(set(np.ravel(select(messages[0].frames)).tolist()))
    assert np.all(np.isfinite(seconds)) and np.all(np.diff(seconds) >= 0)
    return messages[-1].info, got, np.array(seconds), pixels


def plain(path) -> list[np.ndarray]:
    """All frames of FFmpeg's best video stream by a plain loop, turned by the file's name."""
    with av.open(f"file:{path}") as container:
        frames = [
            frame.to_ndarray(format="rgb24")
            for frame in container.decode(container.streams.best("video"))
        ]
    turns = {"rot90.mp4": 1, "rot180.mp4": 2}.get(Path(path).name, 0)
    return [np.rot90(frame, turns) for frame in frames]


def burned(picture: np.ndarray) -> int:
    """The number in a 4x4 grid of blocks, row by row, lowest bit first."""
    height, width = picture.shape[:2]
    centres = np.arange(1, 8, 2)
    blocks = picture[centres * height // 8][:, centres * width // 8].mean(-1) > 127
    return int((blocks.ravel() << np.arange(16)).sum())


def odd_files() -> list[tuple[Path, dict[str, str]]]:
    return [(real("odd", row["file"]), row) for row in real_rows("odd.csv")]


REMARKS = {
    "avi_hugecount.avi": "its header claims that its last frame is shown for 85,899,344 s",
}


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.long)])
def test_odd_files_right_in_every_pattern(step):
    wrong = []
    for path, row in odd_files()[::step]:
        if not row["frames_pyav"]:
            continue
        right = plain(path)
        assert len(right) == int(row["frames_pyav"])
        for name in patterns(1):
            info, numbers, _, pixels = read(path, name, chunk_frames=7)
            assert info.frames == len(right), path.name
            assert (info.damaged_frames, info.promised_frames, info.damage, info.remark) == (
                0,
                len(right),
                "",
                REMARKS.get(path.name, ""),
            ), path.name
            assert (info.height, info.width) == right[0].shape[:2], path.name
            wrong += [
                (path.name, name, n) for n in numbers if not np.array_equal(pixels[n], right[n])
            ]
    assert wrong == []


def test_odd_files_show_their_burned_in_numbers():
    wrong, seen = [], 0
    for path, row in odd_files():
        if not row["frames_pyav"] or path.name in UNREADABLE:
            continue
        seen += 1
        _, numbers, _, pixels = read(path, "all")
        expected = BURNED.get(path.name, np.arange(len(numbers)))
        back = {"rot90.mp4": -1, "rot180.mp4": -2}.get(path.name, 0)
        wrong += [
            (path.name, n) for n in numbers if burned(np.rot90(pixels[n], back)) != expected[n]
        ]
    assert wrong == []
    assert seen == 68


@pytest.mark.parametrize("name", NOT_VIDEOS)
def test_files_that_are_not_videos_fail_with_a_reason(name):
    with pytest.raises(DecodeError) as raised:
        list(decode(real("odd", name), np.arange))
    assert str(raised.value) == NOT_VIDEOS[name]


def test_only_those_odd_files_fail():
    assert {path.name for path, row in odd_files() if not row["frames_pyav"]} == set(NOT_VIDEOS)


@pytest.mark.parametrize("step", [6, pytest.param(1, marks=pytest.mark.long)])
def test_real_clips_have_their_true_count_and_right_frames(step):
    wrong, seen = [], 0
    for row in real_rows("clips.csv")[::step]:
        path = real(*row["file"].split("/"))
        info, numbers, seconds, pixels = read(path, "spread")
        size = (info.frames, info.width, info.height)
        assert size == (int(row["frames"]), int(row["width"]), int(row["height"])), path.name
        assert info.fps == pytest.approx(float(row["fps"]), rel=1e-3) and info.audio == bool(
            row["audio"]
        )
        assert (info.damaged_frames, info.promised_frames, info.damage, info.remark) == (
            0,
            info.frames,
            "",
            "",
        )
        assert seconds[0] < 0.2 and abs(seconds[-1] - numbers[-1] / info.fps) < 0.3, path.name
        with av.open(str(path)) as container:
            right = {
                n: f.to_ndarray(format="rgb24")
                for n, f in enumerate(container.decode(video=0))
                if n in pixels
            }
        wrong += [(path.name, n) for n in numbers if not np.array_equal(pixels[n], right[n])]
        seen += 1
    assert wrong == []
    assert seen == -(-213 // step)


def test_clips_whose_packets_promise_too_many_frames_are_begun_again():
    """Some packets show nothing: these clips declare more frames than they have (decord believes
    them)."""
    basketball = [
        f"ucf101/Basketball/v_Basketball_{name}.avi" for name in ("g13_c01", "g16_c03", "g18_c05")
    ]
    tennis = [
        f"ucf101/TennisSwing/v_TennisSwing_{name}.avi"
        for name in ("g05_c04", "g09_c04", "g16_c06", "g18_c05")
    ]
    for path in [real("clips", *name.split("/")) for name in basketball + tennis] + list(
        real("clips", "hmdb51").glob("*/*")
    ):
        opening = itertools.islice(decode(path, lambda frames: np.zeros(0)), 2)
        assert [type(message) for message in opening] == [Start, Restart]
        right = plain(path)
        for name in ("random", "strided", "last"):
            _, numbers, _, pixels = read(path, name)
            assert all(np.array_equal(pixels[n], right[n]) for n in numbers), (path.name, name)


def test_other_kinds_of_file_in_every_pattern():
    for name in ("nasa_13013.mp4", "flipping_a_pancake.mkv", "v_biking_01_01.mpg"):
        path = real("clips", "other", name)
        right = plain(path)
        for pattern in patterns(1):
            info, numbers, _, pixels = read(path, pattern)
            assert info.frames == len(right)
            assert all(np.array_equal(pixels[n], right[n]) for n in numbers), (name, pattern)


REFUSED_BY_OPENCV = {"av1.mp4", "av1_aom.mkv", "interlaced.mp4", "reschange.ts", "twovideo.mp4"}
REFUSED_BY_DECORD = {"opencut.mp4", "opengop_start.ts", "reschange.ts", "zero_delta.mp4"}


@pytest.mark.parametrize("decoder", ["opencv", "decord"])
@pytest.mark.parametrize("step", [8, pytest.param(1, marks=pytest.mark.long)])
def test_other_decoders_are_right_or_refused(decoder, step, capfd):
    clips = [real(*row["file"].split("/")) for row in real_rows("clips.csv")[::45]][::step]
    odd = [path for path, row in odd_files() if row["frames_pyav"]]
    always = REFUSED_BY_OPENCV | REFUSED_BY_DECORD
    odd = [path for n, path in enumerate(odd) if n % step == 0 or path.name in always]
    good, refused = set(), {}
    for path in odd + clips:
        if decoder == "decord" and path.name in DEADLY_FOR_DECORD:
            continue
        right = plain(path)
        try:
            info, numbers, _, pixels = read(path, "spread" if path in clips else "all", decoder)
        except DecodeError as error:
            refused[path.name] = str(error)
            continue
        assert (info.decoder, info.frames) == (decoder, len(right))
        # more than 8 bits are rounded differently
        assert all(np.abs(pixels[n].astype(int) - right[n]).max() <= 3 for n in numbers), path.name
        good.add(path.name)
    assert all(decoder in reason and "DECODER=auto" in reason for reason in refused.values())
    if decoder == "opencv":
        # OpenCV before 4.13 gives the right frames of the interlaced file.
        assert set(refused) | {"interlaced.mp4"} == REFUSED_BY_OPENCV
    else:
        assert set(refused) >= REFUSED_BY_DECORD
    assert len(good) >= 60 // step
    assert capfd.readouterr().err == ""


def test_pictures_are_turned_and_mirrored_as_the_header_says(tmp_path):
    file = real("odd", "rot90.mp4").read_bytes()
    old = struct.pack(">9i", 0, -65536, 0, 65536, 0, 0, 0, 0, 1 << 30)
    at = file.index(b"tkhd") + 4 + 40
    coded = np.rot90(plain(real("odd", "rot90.mp4"))[37], -1)
    matrices = {
        (1, 0, 0, 1): coded,
        (-1, 0, 0, 1): coded[:, ::-1],
        (1, 0, 0, -1): coded[::-1],
        (-1, 0, 0, -1): coded[::-1, ::-1],
        (0, 1, 1, 0): coded.transpose(1, 0, 2),
        (0, 1, -1, 0): np.rot90(coded, -1),  # clockwise: what was at the top is at the right
        (0, -1, 1, 0): np.rot90(coded, 1),
        (0, -1, -1, 0): np.rot90(coded, 2).transpose(1, 0, 2),
    }
    assert len(old) == 36
    for (a, b, c, d), right in matrices.items():
        matrix = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
        path = tmp_path / "turned.mp4"
        path.write_bytes(file[:at] + matrix + file[at + 36 :])
        info, _, _, pixels = read(path, np.array([37]))
        assert np.array_equal(pixels[37], right), (a, b, c, d)
        assert (info.height, info.width) == right.shape[:2]


def test_times():
    def seconds(*parts):
        return read(real(*parts), "all")[2]

    for name in ("vfr.mp4", "bframes.mp4", "vfrmkv.mkv"):  # the file's own, frame by frame
        with av.open(str(real("odd", name))) as container:
            own = [frame.time for frame in container.decode(video=0)]
        np.testing.assert_allclose(seconds("odd", name), own, atol=1e-9)
    # AVI numbers packets in coding order: pictures come evenly all the same
    bframes = seconds("clips", "ucf101", "SkyDiving", "v_SkyDiving_g06_c01.avi")
    np.testing.assert_allclose(np.diff(bframes), 1 / 25, rtol=1e-6)
    # the clock starts with the file, wherever its time stamps do
    np.testing.assert_allclose(seconds("odd", "off100.mp4"), np.arange(120) / 25, atol=1e-9)
    assert seconds("clips", "other", "v_biking_01_01.mpg")[0] == 0
    # no time stamps at all, or ones that jump back: number / fps
    for name, frames in (("h264.h264", 60), ("reschange.ts", 120)):
        np.testing.assert_allclose(seconds("odd", name), np.arange(frames) / 25)


@pytest.mark.parametrize(
    "source",
    [
        "ucf101/Basketball/v_Basketball_g01_c04.avi",
        "other/flipping_a_pancake.mkv",
        "other/mmaction2_demo.mp4",
    ],
)
@pytest.mark.parametrize("kept", [0.01, 0.6, 0.97])
def test_a_truncated_file_is_refused(tmp_path, source, kept):
    whole = real("clips", *source.split("/")).read_bytes()
    path = tmp_path / Path(source).name
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(DecodeError, match=r"^truncated: \d+ of \d+ bytes are there$"):
        list(decode(path, np.arange))


def test_a_truncated_faststart_file_is_refused(tmp_path):
    whole = real("odd", "fast.mp4").read_bytes()
    path = tmp_path / "fast.mp4"
    path.write_bytes(whole[: len(whole) * 4 // 5])  # its index is all there
    with pytest.raises(DecodeError, match="^truncated: 4256 of 5321 bytes are there$"):
        list(decode(path, np.arange))


def test_damage_in_the_middle_is_a_failure_that_says_where(tmp_path):
    data = bytearray(real("clips", "other", "mmaction2_demo.mp4").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 20000] = bytes(20000)
    path = tmp_path / "hole.mp4"
    path.write_bytes(data)
    with pytest.raises(DecodeError, match=r"^damaged after \d+ of 280 frames: "):
        list(decode(path, np.arange))


def test_frames_that_had_to_be_mended_are_counted(tmp_path):
    data = bytearray(real("clips", "ucf101", "Basketball", "v_Basketball_g01_c04.avi").read_bytes())
    for at in range(20000, len(data) - 20000, 1000):
        data[at] ^= 0x55
    path = tmp_path / "bent.avi"
    path.write_bytes(data)
    info, *_ = read(path, "last")
    assert info.damaged_frames > 10


def write_shade(path: Path, shade: int, container="mpegts", name="") -> bytes:
    """A video of 10 grey pictures."""
    with av.open(f"file:{path}", "w", format=container) as file:
        pixel_format = "rgb8" if name == "gif" else "yuv420p"
        stream = file.add_stream(
            name or "mpeg2video", rate=25, width=64, height=64, pix_fmt=pixel_format
        )
        for _ in range(10):
            picture = av.VideoFrame.from_ndarray(
                np.full((64, 64, 3), shade, np.uint8), format="rgb24"
            )
            file.mux(stream.encode(picture))
        file.mux(stream.encode())
    return path.read_bytes()


class Opened:
    """Was a file opened, by whatever code of this process, within the block?"""

    def __init__(self, path: Path) -> None:
        self.libc, self.path = ctypes.CDLL(None, use_errno=True), path

    def __enter__(self) -> "Opened":
        self.inotify = self.libc.inotify_init1(os.O_NONBLOCK)
        assert (
            self.libc.inotify_add_watch(self.inotify, os.fsencode(self.path), 0x20) > 0
        )  # IN_OPEN
        return self

    def __bool__(self) -> bool:
        try:
            return bool(os.read(self.inotify, 4096))
        except BlockingIOError:
            return False

    def __exit__(self, *_: object) -> None:
        os.close(self.inotify)


def test_what_lies_in_a_file_makes_no_decoder_open_another(tmp_path):
    """Texts that FFmpeg takes for lists of files, alone and before a video of their own that is
    good."""
    secret = tmp_path / "secret.ts"
    write_shade(secret, 240)
    own = write_shade(tmp_path / "own.ts", 20)
    hls = f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{secret}\n#EXT-X-ENDLIST\n".encode()
    later = f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\ndata:,x\n#EXTINF:5,\n{secret}\n#EXT-X-ENDLIST\n".encode()
    tag = b"ID3\x04\0\0\0\0\0\x0a" + bytes(10)
    texts = {
        "hls": hls,
        "later": later,
        "tag": tag + hls,
        "concat": f"ffconcat version 1.0\nfile {secret}\n".encode(),
        "dash": f"<MPD profiles='urn:mpeg:dash:profile:isoff-on-demand:2011'><BaseURL>{secret}</BaseURL></MPD>".encode(),
        "sdp": b"v=0\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
        "vobsub": b"# VobSub index file, v7\nid: en, index: 0\n",
        "avs": f'AviSource("{secret}")\n'.encode(),
    }
    shutil.copy(secret, tmp_path / "vobsub.sub")
    with Opened(secret) as opened, Opened(tmp_path / "vobsub.sub") as opened_too:
        for (name, text), ending, rest in itertools.product(
            texts.items(), ("ts", "avi", "m3u8", "idx"), (b"", own)
        ):
            path = tmp_path / f"{name}.{ending}"
            path.write_bytes(text + rest)
            for decoder in ("pyav", "opencv", "decord"):
                try:
                    info, _, _, pixels = read(path, "all", decoder)
                except DecodeError as error:
                    assert (
                        rest
                        or name == "tag"
                        or str(error) == "not a video file (text or a playlist)"
                    )
                    continue
                assert (
                    rest
                    and info.frames == 10
                    and max(picture.mean() for picture in pixels.values()) < 30
                )
            with contextlib.suppress(DecodeError):
                assert hear(path) == "none"
        assert not opened and not opened_too
        secret.read_bytes()
        assert opened


def hear(path: Path) -> str:
    return list(read_sound(path, np.arange))[-1].info.state


def test_names_that_look_like_addresses_or_patterns_are_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in (0, 1):
        write_shade(tmp_path / f"a00{number}.gif", 240, "gif", "gif")
    names = [
        "-",
        "a%03d.gif",
        "a*.gif",
        "concat:a000.gif|a001.gif",
        "file:a000.gif",
        "subfile,,start,0,end,9,,:a000.gif",
        "@a",
    ]
    for name in names:
        write_shade(
            tmp_path / name,
            20,
            "avi" if "gif" not in name else "gif",
            "mpeg4" if "gif" not in name else "gif",
        )
        with Opened(tmp_path / "a000.gif") as opened:
            for decoder in (
                "auto",
                "opencv",
                *(["decord"] if "gif" not in name else []),
            ):  # decord cannot read GIF
                info, _, _, pixels = read(Path(name), "all", decoder)
                assert info.frames == 10 and all(
                    picture.mean() < 30 for picture in pixels.values()
                ), (name, decoder)
            assert hear(Path(name)) == "none"
            assert not opened


def test_a_video_behind_a_text_is_refused_by_decoders_that_cannot_be_told_what_it_is(tmp_path):
    path = tmp_path / "text.ts"
    path.write_bytes(b"#EXTM3U\n" + write_shade(tmp_path / "own.ts", 20))
    assert read(path, "all")[0].frames == 10
    for decoder in ("opencv", "decord"):
        with pytest.raises(
            DecodeError,
            match="does not begin like a file of the format 'mpegts'; use DECODER=auto",
        ):
            read(path, "all", decoder)


def test_unreadable_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        list(decode(tmp_path / "gone.avi", np.arange))
    with pytest.raises(DecodeError, match="a folder without numbered images, not a video file"):
        list(decode(tmp_path, np.arange))
    os.mkfifo(tmp_path / "pipe.avi")
    with pytest.raises(DecodeError, match="not a regular file"):
        list(decode(tmp_path / "pipe.avi", np.arange))


def test_a_selection_out_of_range_is_the_callers_error(tmp_path):
    sample = write_sample(tmp_path / "sample.avi")
    for numbers in ([8], [-1], [0, 100]):
        with pytest.raises(ValueError, match="must return frame numbers from 0 to 7 .got "):
            list(decode(sample, lambda frames, numbers=numbers: np.array(numbers)))
    info, numbers, *_ = read(sample, np.zeros((0, 3), dtype=int))
    assert (info.frames, numbers) == (8, [])


@pytest.mark.parametrize("name", ["a.avi", "a.mkv", "a.mp4"])
def test_metadata_that_cannot_be_decoded_as_text_are_ignored(tmp_path, name):
    """Old cameras and editors write titles in Latin-1; PyAV reads metadata as UTF-8."""
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "TITLE"
        stream = container.add_stream("mpeg4", rate=25, width=64, height=64, pix_fmt="yuv420p")
        for shade in range(8):
            container.mux(
                stream.encode(
                    av.VideoFrame.from_ndarray(
                        np.full((64, 64, 3), 30 * shade, np.uint8), format="rgb24"
                    )
                )
            )
        container.mux(stream.encode())
    written = path.read_bytes()
    assert b"TITLE" in written
    path.write_bytes(written.replace(b"TITLE", b"\xc9t\xe9\xff\xfe"))
    info, numbers, _, _ = read(path, "all")
    assert (info.frames, numbers) == (8, list(range(8)))
    (message,) = read_sound(path, np.arange)
    assert message.info.state == "none" and probe(path).frames == 8


def test_unknown_and_missing_decoders(tmp_path, monkeypatch):
    sample = write_sample(tmp_path / "sample.avi")
    with pytest.raises(InputError, match="DECODER=ffmpeg: choose from auto, pyav, opencv, decord"):
        list(decode(sample, np.arange, "ffmpeg"))
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.delitem(sys.modules, "reelbank.data.video.opencv", raising=False)
    with pytest.raises(
        InputError, match="OpenCV .* does not load: .*pip install --force-reinstall"
    ):
        list(decode(sample, np.arange, "opencv"))
    monkeypatch.setitem(sys.modules, "decord", None)
    with pytest.raises(InputError, match="DECODER=decord: .*pip install decord"):
        list(decode(sample, np.arange, "decord"))


def test_large_pictures_travel_in_small_chunks(tmp_path):
    path = tmp_path / "large.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, width=3840, height=2160, pix_fmt="yuv420p")
        for level in range(4):
            picture = np.full((2160, 3840, 3), 50 * level, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    sizes = [m.pixels.nbytes for m in decode(path, np.arange) if isinstance(m, Frames)]
    assert len(sizes) == 4  # 24 MiB each, above the limit of 16


def test_probe_is_near_and_decodes_nothing():
    for row in real_rows("clips.csv")[::10]:
        guess = probe(real(*row["file"].split("/")))
        assert abs(guess.frames - int(row["frames"])) <= 8
        assert (guess.width, guess.height, guess.audio) == (
            int(row["width"]),
            int(row["height"]),
            bool(row["audio"]),
        )
    for name in ("avi_hugecount.avi", "huge_stts.mp4", "theora.ogv", "h264.mkv", "h264.h264"):
        assert probe(real("odd", name)).frames >= 0
    assert probe(real("odd", "h264.ts")).frames == 120
    with pytest.raises(DecodeError, match="empty file"):
        probe(real("odd", "empty.mp4"))


def test_a_long_silence_is_told_from_a_hang():
    """`alive` is called while packets are scanned and while frames that nobody wants are
    decoded."""
    for name, least in (("gif.gif", 120), ("longgop.mp4", 600)):  # MP4: its tables are scanned
        calls = []
        list(
            decode(
                real("odd", name),
                lambda frames: np.zeros(0),
                alive=lambda calls=calls: calls.append(1),
                least_skipped_frames=1000,
            )
        )
        assert len(calls) >= least


def test_torch_is_not_imported():
    code = "import reelbank.data.video.pool, sys; assert not {'torch', 'cv2', 'decord'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
