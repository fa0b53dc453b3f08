"""Damage: files that lost frames are reported and intact files are not; contradictory timestamps
hide no frames. That real clips and valid unusual files are not reported is tested with their
frames, in test_decode.py."""

import random
import shutil
import struct
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import testdata as real
from tiny_networks import POOLED

import reelbank
from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter
from reelbank.data.video.frames import DecodeError, VideoInfo, decode
from reelbank.data.video.messages import Frames
from reelbank.data.video.sound import read_sound

SOURCES = (
    *(
        "clips/ucf101/TennisSwing/v_TennisSwing_g21_c01.avi",
        "odd/mpeg4.avi",
        "odd/h264.avi",
        "odd/rawvideo.avi",
    ),
    "odd/bframes.mp4",
    *(
        "odd/hevc.mp4",
        "odd/fast.mp4",
        "odd/prores.mov",
        "faults/video/fragmented.mp4",
        "odd/h264.mkv",
        "odd/ffv1.mkv",
    ),
    *(
        "odd/av1_aom.mkv",
        "odd/vp8.webm",
        "odd/alpha.webm",
        "odd/h264.ts",
        "odd/reschange.ts",
        "odd/mpeg2.mpg",
        "odd/flv.flv",
    ),
    *("odd/theora.ogv", "odd/gif.gif"),
)
LARGE = (
    *(
        "clips/other/example.avi",
        "clips/other/flipping_a_pancake.mkv",
        "clips/other/mmaction2_demo.mp4",
    ),
    *(
        "clips/other/v_biking_01_01.mpg",
        "clips/ucf101/SkyDiving/v_SkyDiving_g06_c01.avi",
        "odd/opengop_start.ts",
    ),
)


def look(path: Path, span_seconds: tuple[float, float] | None = None) -> VideoInfo:
    """What is found in a video, of which no picture is wanted."""
    return list(decode(path, lambda frames: np.zeros(0), span_seconds=span_seconds))[-1].info


def drawn(data: bytes, seed: str, times: int):
    """Cut off, and stretches set to zero: in the middle and up to the end."""
    rng = random.Random(seed)
    size = len(data)
    for _ in range(times):
        end = int(size * rng.uniform(0.05, 0.98))
        yield f"cut at {end}", data[:end]
        begin = int(size * rng.uniform(0.05, 0.95))
        length = min(size - begin, int(size * rng.choice((0.01, 0.05, 0.2)) + 200))
        yield f"{length} zeros from {begin}", data[:begin] + bytes(length) + data[begin + length :]
        begin = int(size * rng.uniform(0.1, 0.95))
        yield f"zeros from {begin}", data[:begin] + bytes(size - begin)


def is_cut_between_packets(name: str, data: bytes) -> bool:
    """Nothing in such a file says that it goes on: a limit, see docs/decoding.md."""
    if name.endswith(".ts"):
        return len(data) % 188 == 0
    length = int.from_bytes(data[-4:])  # of the last tag
    return name.endswith(".flv") and length < len(data) - 4 and data[-4 - length] in (8, 9, 18)


def unnoticed(source: str, folder: Path, times: int) -> list[str]:
    """The drawn damages of a file that lose two per cent of its frames without a word."""
    whole = real(*source.split("/"))
    frames = look(whole).frames
    path = folder / whole.name
    silent = []
    for what, data in drawn(whole.read_bytes(), source, times):
        if len(data) < whole.stat().st_size and is_cut_between_packets(whole.name, data):
            continue
        path.write_bytes(data)
        try:
            info = look(path)
        except DecodeError:
            continue
        if info.frames <= 0.98 * frames and not info.damage:
            silent.append(f"{source}, {what}: {info.frames} of {frames}")
    return silent


@pytest.mark.parametrize("source", SOURCES)
def test_drawn_damage_that_loses_frames_is_noticed(tmp_path, source):
    assert unnoticed(source, tmp_path, times=3) == []


@pytest.mark.long
@pytest.mark.parametrize("source", SOURCES + LARGE)
def test_much_drawn_damage_that_loses_frames_is_noticed(tmp_path, source):
    assert unnoticed(source, tmp_path, times=30) == []


def zeroed(source: Path, target: Path, kept: float) -> Path:
    """A copy that holds nothing but zeros behind a share of its bytes."""
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * kept)].ljust(len(data), b"\0"))
    return target


def test_the_frames_that_an_avi_promises_and_lost_are_counted(tmp_path):
    clip = zeroed(
        real("clips", "ucf101", "TennisSwing", "v_TennisSwing_g21_c01.avi"), tmp_path / "a.avi", 0.3
    )
    info = look(clip)
    assert (info.frames, info.promised_frames) == (28, 102)
    assert info.damage.startswith("28 of 102 frames could be decoded")
    beginning = look(clip, span_seconds=(0.0, 0.5))
    assert (beginning.frames, beginning.promised_frames, beginning.damaged_frames) == (15, 15, 0)
    assert beginning.damage == "its file lacks 74 frames"


def test_frames_that_show_nothing_new_are_not_lost(tmp_path):
    """Six of this clip's 131 packets say "as before": they give no frame, and none is missing. Of
    the cut file some are."""
    clip = real("clips", "ucf101", "Basketball", "v_Basketball_g16_c03.avi")
    assert (look(clip).frames, look(clip).promised_frames) == (125, 125)
    half = look(zeroed(clip, tmp_path / "a.avi", 0.5))
    assert half.frames < half.promised_frames <= 131


def test_a_wrong_checksum_of_ffv1_is_damage(tmp_path):
    data = bytearray(real("odd", "ffv1.mkv").read_bytes())
    data[len(data) // 2] ^= 0x10
    path = tmp_path / "a.mkv"
    path.write_bytes(data)
    info = look(path)
    assert (info.frames, info.damaged_frames, info.damage) == (
        60,
        1,
        "1 of its 60 frames had to be mended",
    )


def test_bytes_after_the_end_of_a_video_are_not_damage(tmp_path):
    for name in ("mpeg4.avi", "plain.mp4", "fast.mp4", "gif.gif", "h264.mkv"):
        path = tmp_path / name
        path.write_bytes(real("odd", name).read_bytes() + b"\nDownloaded by SomeTool 1.0\n" * 20)
        info = look(path)
        assert (info.promised_frames, info.damage) == (info.frames, ""), name
    assert look(real("faults", "video", "fragmented.mp4")).frames == 125
    assert look(real("faults", "video", "cutjunk.mp4")).frames == 77
    for name in ("fragmented.mp4", "cutjunk.mp4"):
        assert look(real("faults", "video", name)).damage == ""


def test_pictures_that_are_lost_within_a_pack_are_counted(tmp_path):
    """240 zeros in place of five pictures: the packs are whole, only the places of the pictures in
    their group tell."""
    data = real("odd", "mpeg2.mpg").read_bytes()
    path = tmp_path / "a.mpg"
    path.write_bytes(data[:3070] + bytes(240) + data[3310:])
    info = look(path)
    assert (info.frames, info.promised_frames, info.damage) == (
        55,
        59,
        "55 of about 59 frames could be decoded",
    )


def test_a_wrong_timestamp_does_not_count_as_a_lost_frame(tmp_path):
    """FFmpeg gives one picture of this file, whole as it is, a decoding time that is one picture
    too late."""
    path = tmp_path / "super.mpg"
    noise = np.random.default_rng(0).integers(0, 255, (80, 200, 3), dtype=np.uint8)
    with av.open(str(path), "w", format="svcd") as container:
        stream = container.add_stream("mpeg2video", 25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(60):
            picture = np.ascontiguousarray(noise[:64, number : number + 96])
            container.mux(
                stream.encode(
                    av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")
                )
            )
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        steps = np.diff([packet.dts for packet in container.demux(video=0) if packet.size])
    assert steps.max() == 7200 and steps.min() == 0
    assert (look(path).frames, look(path).damage) == (60, "")


def test_a_fragmented_file_that_is_cut_off_is_refused(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(real("faults", "video", "fragmented.mp4").read_bytes()[:20_000])
    with pytest.raises(DecodeError, match=r"^truncated: 20000 of 36038 bytes are there$"):
        look(path)


def test_a_damaged_index_of_one_of_two_tracks_is_noticed(tmp_path):
    """The larger track can no longer be read, so the other one is: a video all the same, but not
    the one that it was."""
    data = bytearray(real("clips", "other", "nasa_13013.mp4").read_bytes())
    second = data.index(b"trak", data.index(b"trak", data.index(b"moov")) + 4)
    data[second + 300 : second + 2300] = bytes(2000)
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    try:
        info = look(path)
    except DecodeError:
        return
    assert info.damage


def with_scale(source: Path, target: Path, box: bytes, scale: int) -> Path:
    """A copy whose mdhd or mvhd (of version 0) says another number of units a second."""
    data = bytearray(source.read_bytes())
    at = data.index(box) + 16
    data[at : at + 4] = struct.pack(">I", scale)
    target.write_bytes(data)
    return target


@pytest.mark.parametrize(
    ("box", "scale"), [(b"mdhd", 1), (b"mdhd", 1000), (b"mdhd", 12_800_000), (b"mvhd", 90_000)]
)
@pytest.mark.parametrize("name", ["full.mp4", "bframes.mp4", "h263.3gp"])
def test_a_time_scale_that_is_a_lie_hides_no_frame(tmp_path, name, box, scale):
    source = real("odd", name)
    right = look(source)
    path = with_scale(source, tmp_path / name, box, scale)
    messages = list(decode(path, np.arange))
    info = messages[-1].info
    assert (info.frames, info.fps, info.damage) == (right.frames, 25.0, "")
    assert info.duration_seconds == pytest.approx(right.frames / 25)
    assert "time scales contradict each other" in info.remark
    times = np.concatenate([message.seconds for message in messages if isinstance(message, Frames)])
    np.testing.assert_allclose(times, np.arange(right.frames) / 25, atol=1e-9)


def test_an_edit_list_that_is_meant_is_followed(tmp_path):
    """Slow pictures, and pictures that come unevenly, are no contradiction."""
    for name, frames, fps in (
        ("editlist.mp4", 94, 25.0),
        ("fps0p1.mp4", 20, 0.1),
        ("fps1000.mp4", 60, 1000.0),
    ):
        info = look(real("odd", name))
        assert (info.frames, info.fps, info.remark) == (frames, fps, "")
    assert look(real("odd", "vfr.mp4")).remark == ""


def test_a_rate_that_contradicts_the_time_stamps_gives_way(tmp_path):
    data = real("odd", "h264.mkv").read_bytes()
    at = data.index(b"\x23\xe3\x83") + 4  # DefaultDuration, nanoseconds
    path = tmp_path / "a.mkv"
    for claimed_nanoseconds in (1000, 1_000_000_000):
        path.write_bytes(data[:at] + struct.pack(">I", claimed_nanoseconds) + data[at + 4 :])
        info = look(path)
        assert (info.frames, info.fps) == (
            120,
            pytest.approx(25),
        ) and info.duration_seconds == pytest.approx(4.8)
        assert info.remark.startswith("its header claims ") and info.remark.endswith(
            "its time stamps 25"
        )


def test_a_rate_beyond_belief_is_not_believed(tmp_path):
    data = bytearray(real("odd", "mpeg4.avi").read_bytes())
    at = data.index(b"vids") + 20
    path = tmp_path / "a.avi"
    for units, rate in ((1, 10**9), (10**9, 1)):
        data[at : at + 8] = struct.pack("<II", units, rate)
        path.write_bytes(data)
        info = look(path)
        assert (info.frames, info.fps, info.duration_seconds) == (60, 25.0, 2.4)
        assert "taken for 25" in info.remark


def test_the_decoders_complaints_reach_nobodys_terminal(tmp_path, capfd):
    path = zeroed(
        real("clips", "ucf101", "TennisSwing", "v_TennisSwing_g21_c01.avi"), tmp_path / "a.avi", 0.8
    )
    assert look(path).damage
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) > 0
    assert capfd.readouterr() == ("", "")


# ---- the commands


@pytest.fixture
def ours(tmp_path, monkeypatch):
    """Three real clips in two classes, one of them damaged, a tiny network, and an empty bank as
    the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.py").write_text(POOLED)
    clips = real("clips", "ucf101")
    for name in ("Basketball/v_Basketball_g02_c04.avi", "TennisSwing/v_TennisSwing_g05_c04.avi"):
        (tmp_path / "videos" / name).parent.mkdir(parents=True)
        shutil.copy(clips / name, tmp_path / "videos" / name)
    name = "TennisSwing/v_TennisSwing_g21_c01.avi"
    zeroed(clips / name, tmp_path / "videos" / name, 0.3)
    return tmp_path


HURT = "TennisSwing/v_TennisSwing_g21_c01"
EXTRACT = ("extract", "DATASET=folder", "ROOT=videos", "EXTRACTOR=tiny.py:build", "CROPS=1", "T=2")


def only_store() -> Path:
    (path,) = Path("bank/stores").glob("*.h5")
    return path


def test_damage_is_shown_by_every_command(ours, capsys):
    assert reelbank.main([*EXTRACT]) == 0
    said = capsys.readouterr().out
    assert (
        "1 of 3 videos is damaged (give DAMAGED=refuse to leave them out; 'reelbank inspect' lists all):"
        in said
    )
    assert f"  {HURT}: 28 of 102 frames could be decoded" in said
    with Store.open(only_store()) as store:
        source = store.sources[store.video_ids.index(HURT)]
        assert (source["frames"], source["promised_frames"]) == (28, 102)
        assert [source["damage"] for source in store.sources].count("") == 2
    for command, line in (
        ("inspect", "28 of 102 frames could be decoded"),
        ("stores", "damaged videos: 1"),
        ("verify", f"1 of 3 videos is damaged: {HURT} (28 of 102 frames could be decoded"),
        (
            EXTRACT,
            f"  {HURT}: 28 of 102 frames could be decoded",
        ),  # again: nothing is extracted, and it is still said
    ):
        assert reelbank.main([command] if isinstance(command, str) else [*command]) == 0
        assert line in capsys.readouterr().out
    assert reelbank.main(["train", "HEAD=meanpool", "EPOCHS=1"]) == 0
    assert reelbank.main(["report", "FIGURES=0", "PART=train"]) == 0
    assert f"1 of 3 videos is damaged: {HURT}" in capsys.readouterr().out
    (page,) = Path("bank/reports").glob("*.html")
    assert "28 of 102 frames could be decoded" in page.read_text()
    run = next(Path("bank/runs").iterdir()).name
    words = ["predict", f"videos/{HURT}.avi", f"RUN={run}", "EXTRACTOR=tiny.py:build"]
    assert reelbank.main(words) == 0
    assert (
        "1 of 1 video is damaged: v_TennisSwing_g21_c01 (28 of 102 frames"
        in capsys.readouterr().err
    )
    assert reelbank.main([*words, "DAMAGED=refuse"]) == 1
    assert "refused as damaged: 28 of 102 frames" in capsys.readouterr().err
    assert reelbank.main(["predict", f"RUN={run}"]) == 0
    assert f"1 of 3 videos is damaged: {HURT}" in capsys.readouterr().out


def test_damaged_videos_are_refused_when_asked_and_taken_when_not(ours, capsys):
    assert reelbank.main([*EXTRACT, "DAMAGED=refuse"]) == 1
    said = capsys.readouterr().out
    assert (
        f"  {HURT}: refused as damaged: 28 of 102 frames could be decoded" in said
        and "videos is damaged" not in said
    )
    refused = only_store()
    with Store.open(refused) as store:
        assert set(store.failures) == {HURT} and len(store.video_ids) == 2
    assert reelbank.main([*EXTRACT, "DAMAGED=refuse"]) == 1
    assert "3 already extracted, 0 to extract" in capsys.readouterr().out
    assert reelbank.main([*EXTRACT]) == 0  # without RETRY: what was a wish is no longer one
    assert "2 already extracted, 1 to extract" in capsys.readouterr().out
    assert only_store() == refused  # the same store: DAMAGED is not in the recipe
    with Store.open(refused) as store:
        assert not store.failures and len(store.video_ids) == 3
    assert reelbank.main([*EXTRACT, "DAMAGED=refuse"]) == 0
    said = capsys.readouterr().out
    assert (
        "1 of 3 videos is damaged (kept, because an earlier run stored them or this stream is not damaged; "
        in said
    )


def test_a_store_that_does_not_know_of_damage_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    about = DatasetDescription(name="folder-x", classes=["a"], splits=[], coarse={})
    with StoreWriter(
        tmp_path / "bank" / "stores" / "x-rgb-00000000.h5", {"stream": "rgb"}, about
    ) as writer:
        for name, more in (
            ("old", {"damaged_frames": 0}),
            ("mended", {"damaged_frames": 3}),
            ("new", {"damage": ""}),
        ):
            source = {"bytes": 9, "frames": 30, **more}
            writer.add(
                StoredVideo(id=name, label="a", group="", parts=[], source=source),
                np.zeros((1, 4)),
                np.zeros(1),
            )
        writer.finish([])
    assert reelbank.main(["inspect"]) == 0
    said = capsys.readouterr().out
    assert "videos damaged: 1" in said and "3 of its 30 frames had to be mended" in said
    assert "videos whose damage is unknown, because an earlier version stored them: 2" in said


def test_damaged_sound_is_told_as_damaged_pictures_are(ours, capsys):
    """A clip with sound whose second half is zeros: its sound is shorter, and it is said."""
    whole = real("clips", "ucf101", "SkyDiving", "v_SkyDiving_g06_c01.avi")
    for path in (ours / "videos").rglob("*.avi"):
        path.unlink()
    zeroed(whole, ours / "videos" / "Basketball" / "v_Basketball_g01_c01.avi", 0.6)
    shutil.copy(whole, ours / "videos" / "TennisSwing" / "v_TennisSwing_g01_c01.avi")
    words = ("extract", "DATASET=folder", "ROOT=videos", "STREAM=audio", "WEIGHTS=random")
    assert reelbank.main([*words]) == 0
    said = capsys.readouterr().out
    assert "1 of 2 videos is damaged" in said
    assert (
        "  Basketball/v_Basketball_g01_c01: its structure breaks off at byte " in said
        and "so sound may be missing" in said
    )
    assert reelbank.main(["inspect"]) == 0
    assert "so sound may be missing" in capsys.readouterr().out
    both = (
        "STREAM=audio rgb",
        "EXTRACTOR=rgb=tiny.py:build",
        "WEIGHTS=audio=random",
        "CROPS=1",
        "T=2",
    )
    assert (
        reelbank.main([*words[:3], *both]) == 0
    )  # what one stream's store says does not hide what another's does
    (line,) = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith("  Basketball/")
    ]
    assert "frames could be decoded" in line and line.endswith("so sound may be missing")


def test_the_sound_of_whole_files_is_whole():
    for name in (
        "clips/ucf101/SkyDiving/v_SkyDiving_g06_c01.avi",
        "clips/other/nasa_13013.mp4",
        "odd/audio_longer.mp4",
    ):
        *_, done = read_sound(real(*name.split("/")), np.arange)
        info = done.info
        assert info.damage == "", name
    *_, done = read_sound(real("faults", "sound", "stopped.ts"), np.arange)
    info = done.info
    assert info.damage.endswith("so sound may be missing")
