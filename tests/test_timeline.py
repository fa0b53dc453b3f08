"""Clips that are measured in time: the same times whatever the frame rates, and for sound and
pictures."""

import dataclasses
import json
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_streams import run, stores
from tiny_networks import POOLED

from reelbank.data.errors import InputError
from reelbank.data.options import parse
from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter
from reelbank.data.video.frames import Reading, decode
from reelbank.data.video.messages import (
    Done,
    Frames,
    PictureMessage,
    Sound,
    SoundDone,
    SoundMessage,
    Start,
)
from reelbank.data.video.pool import DecodePool
from reelbank.data.video.sampling import Needed, Sampling, TimedExamples
from reelbank.data.video.sound import read_sound
from reelbank.data.video.timed_sound import Centres, TimedSound
from reelbank.data.video.timeline import FrameCount, Ticks, TooManyTicks, timeline
from reelbank.extract.fill import with_defaults
from reelbank.extract.flow.methods import build_flow, to_uint8
from reelbank.extract.networks.preprocessing import Resize
from reelbank.extract.options import ExtractOptions
from reelbank.extract.pipeline.crops import resize
from reelbank.extract.plan import plan_streams

RATE_HZ = 16_000
# A picture is as bright as its time is late, or white.
Brightness = "dict[int, int]"


def draw(
    path: Path, times_ms: list[int], levels: list[int], end_ms: int, wave: np.ndarray | None = None
) -> Path:
    """A video of grey pictures (levels) at these times, without B frames, and its sound."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, width=64, height=48, pix_fmt="yuv420p")
        stream.options = {"bf": "0", "preset": "ultrafast", "crf": "10"}
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = Fraction(1, 1000)
        sound = (
            container.add_stream("aac", rate=RATE_HZ, layout="mono") if wave is not None else None
        )
        ends = dict(zip(times_ms, [*times_ms[1:], end_ms], strict=True))
        packets = []
        for time_ms, level in zip(times_ms, levels, strict=True):
            picture = np.full((48, 64, 3), level, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            packets += stream.encode(frame)
        for packet in packets + stream.encode():
            if packet.pts is not None:
                packet.duration = ends[packet.pts] - packet.pts
            container.mux(packet)
        for begin in range(0, 0 if sound is None else len(wave), 1024):
            block = np.ascontiguousarray(wave[None, begin : begin + 1024], np.float32)
            heard = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
            heard.sample_rate, heard.pts, heard.time_base = RATE_HZ, begin, Fraction(1, RATE_HZ)
            container.mux(sound.encode(heard))
        if sound is not None:
            container.mux(sound.encode())
    return path


def steady_ms(fps: float, seconds: float = 4.0) -> list[int]:
    """The times of frames of a constant rate, rounded to milliseconds."""
    return [round(1000 * number / fps) for number in range(round(seconds * fps))]


def slow(time_ms: int) -> int:
    """A level that changes every 0.4 s."""
    return 20 + 20 * (time_ms // 400)


def at_rate(path: Path, fps: float, wave: np.ndarray | None = None) -> Path:
    """4 s of a constant rate."""
    times = steady_ms(fps)
    return draw(path, times, [slow(time) for time in times], 4000, wave)


def seconds_of(path: Path) -> dict[str, list[float]]:
    """The times of the rows of each video of a store."""
    with Store.open(path) as store:
        return {name: store.times_seconds(name).tolist() for name in store.video_ids}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.py").write_text(POOLED)
    return tmp_path


EXTRACT = ("extract", "DATASET=folder", "ROOT=videos", "CROPS=1", "T=0", "BATCH=20")
TINY = "EXTRACTOR=tiny.py:build"

# ---------------------------------------------------------------------- the arithmetic, by hand


@pytest.mark.parametrize(
    ("fps", "pictures"),
    [  # of ticks at 0, 0.1 ... 0.9 s: the frame on screen is floor(t fps)
        (15, [0, 1, 3, 4, 6, 7, 9, 10, 12, 13]),
        (25, [0, 2, 5, 7, 10, 12, 15, 17, 20, 22]),
        (30, [0, 3, 6, 9, 12, 15, 18, 21, 24, 27]),
        (60, [0, 6, 12, 18, 24, 30, 36, 42, 48, 54]),
        (4, [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]),  # each is shown several times
    ],
)
def test_ten_ticks_a_second_of_steady_videos_by_hand(fps: int, pictures: list[int]) -> None:
    line = timeline(FrameCount.steady(fps, fps, 7.0), 10)
    assert line.pictures.tolist() == pictures
    np.testing.assert_allclose(line.seconds(np.arange(10)), 7 + np.arange(10) / 10)


def test_ticks_of_a_variable_rate_by_hand() -> None:
    frames = FrameCount(np.array([1.0, 1.04, 1.35, 1.4, 2.0]), 2.25)
    # 1.0 1.1 1.2 1.3 | 1.4 ... 1.9 | 2.0 2.1 2.2: 1.35 is never on screen at a tick
    assert timeline(frames, 10).pictures.tolist() == [0, 1, 1, 1, 3, 3, 3, 3, 3, 3, 4, 4, 4]
    assert timeline(frames, 2).pictures.tolist() == [0, 3, 4]
    # the average rate is 4 frames in 1 s
    assert timeline(frames).fps == 4 and timeline(frames).pictures.tolist() == [0, 1, 3, 3, 4]


@given(
    fps=st.sampled_from(
        [5.0, 12.5, 15.0, 23.976, 24000 / 1001, 25.0, 29.97, 30.0, 50.0, 59.94, 60.0]
    ),
    frames=st.integers(1, 600),
    first=st.floats(0, 100),
    in_milliseconds=st.booleans(),
)
def test_at_the_rate_of_the_file_ticks_are_its_frames(
    fps: float, frames: int, first: float, in_milliseconds: bool
) -> None:
    steady = FrameCount.steady(frames, fps, first)
    if in_milliseconds:  # as in Matroska
        steady = FrameCount(np.round(steady.seconds, 3), round(steady.end_seconds, 3))
    for asked in (fps, 0.0):
        assert timeline(steady, asked).pictures.tolist() == list(range(frames))


@given(
    gaps=st.lists(st.floats(0.01, 3.0), min_size=1, max_size=40),
    fps=st.floats(0.1, 120) | st.just(0.0),
)
@settings(deadline=None)
def test_the_picture_of_a_tick_is_the_last_one_that_has_begun(
    gaps: list[float], fps: float
) -> None:
    seconds = np.cumsum(gaps)
    line = timeline(FrameCount(seconds[:-1] if len(gaps) > 1 else seconds, seconds[-1] + 0.04), fps)
    assert (np.diff(line.pictures) >= 0).all() and line.pictures[0] == 0
    at = line.seconds(np.arange(line.ticks))
    begun = np.searchsorted(seconds, at + 0.0016, "right") - 1
    assert (line.pictures <= begun).all()
    shown = seconds[line.pictures]
    assert (shown <= at + 0.0015 + 1e-9).all() and at[-1] < seconds[-1] + 0.04


def test_a_stride_in_seconds_does_not_drift() -> None:
    of_25, of_30 = (
        Sampling(stride_frames=0, ticks=Ticks(stride_seconds=0.5)).rows(
            FrameCount.steady(2 * fps, fps)
        )
        for fps in (25, 30)
    )
    assert of_25.numbers[:, 0].tolist() == [0, 12, 25, 37]  # 12.5 and 37.5 are on screen until then
    assert of_30.numbers[:, 0].tolist() == [0, 15, 30, 45]
    assert of_25.seconds.tolist() == of_30.seconds.tolist() == [0, 0.5, 1, 1.5]


def test_a_clip_in_seconds_spreads_its_pictures() -> None:
    frames = FrameCount.steady(100, 25)
    spread = Sampling(4, 25, grid_frames=50, ticks=Ticks(25, clip_seconds=2.0)).rows(frames)
    # the centres of four equal parts of 50 frames: 6.25, 18.75, 31.25, 43.75
    assert spread.numbers.tolist() == [[6, 18, 31, 43], [31, 43, 56, 68], [56, 68, 81, 93]]
    assert spread.seconds.tolist() == [0.98, 1.98, 2.98]  # (0 + 49 / 25) / 2
    single = Sampling(1, 25, grid_frames=50, ticks=Ticks(25, clip_seconds=2.0)).rows(frames)
    assert (
        single.numbers.tolist() == [[25], [50], [75]] and (single.seconds == spread.seconds).all()
    )
    # a clip of as many frames as the span has is the clip of old
    whole = Sampling(50, 25, grid_frames=50, ticks=Ticks(25, clip_seconds=2.0)).rows(frames)
    assert whole.numbers[0].tolist() == list(range(50))
    own_rate = Sampling(4, 25, grid_frames=1, ticks=Ticks(0, 0, 2.0, 2.0)).rows(frames)
    assert own_rate.numbers.tolist() == spread.numbers.tolist()


def test_fields_lie_between_ticks_and_all_streams_have_the_same_times() -> None:
    frames = FrameCount.steady(60, 30)
    ticks = Ticks(10)
    flow = Sampling(3, 2, fields=True, grid_frames=6, ticks=ticks)
    rows = flow.rows(frames)
    assert rows.pictures.tolist() == list(range(0, 60, 3))
    assert rows.numbers[:2].tolist() == [[1, 2, 3], [3, 4, 5]]  # the middle of 6: ticks 1 to 4
    assert flow.needed(frames).tolist() == list(range(3, 60, 3))[: rows.numbers.max() + 1]
    rgb = Sampling(1, 2, grid_frames=6, ticks=ticks)
    sound = TimedExamples(None, rgb)
    for other in (rgb.rows(frames).seconds, sound.centres(frames, 0, 9)):
        np.testing.assert_array_equal(rows.seconds, other)
    assert rows.seconds[:2].tolist() == [0.25, 0.45]
    # without pictures the grid lies over the sound: of 10.05 s, 100 whole ticks
    np.testing.assert_allclose(
        TimedExamples(None, Sampling(ticks=ticks)).centres(None, 1.0, 11.05),
        1 + np.arange(100) / 10,
    )


def test_a_video_shorter_than_a_clip_and_one_of_a_single_picture() -> None:
    rows = Sampling(8, ticks=Ticks(10), grid_frames=8).rows(FrameCount.steady(6, 20))
    assert rows.numbers.tolist() == [[0, 2, 4, 0, 2, 4, 0, 2]] and rows.seconds.tolist() == [0.1]
    one = Sampling(2, fields=True, ticks=Ticks(25)).rows(FrameCount.steady(1, 25))
    assert one.numbers.tolist() == [[0, 0]] and one.pictures.tolist() == [0, 0]


def test_a_picture_that_is_shown_for_a_year_is_refused() -> None:
    with pytest.raises(TooManyTicks, match=r"31,536,000 s would be more than 10,000,000 frames"):
        timeline(FrameCount(np.array([0.0]), 365 * 86_400.0), 25)
    with pytest.raises(TooManyTicks, match=r"its 1e\+18 s|its 1,000,000,000,000,000,000 s"):
        TimedExamples(None, Sampling(ticks=Ticks(1000))).centres(None, 0.0, 1e18)


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_a_last_picture_that_claims_hours_lasts_as_long_as_the_others(
    tmp_path: Path, ending: str
) -> None:
    """A few bytes could otherwise fill a store with rows. An hour is believed, as for other frames."""
    ends = {}
    for name, shown_ms in (("hour", 3_500_000), ("hours", 7_200_000)):
        path = draw(tmp_path / f"{name}.{ending}", [0, 40, 80], [20, 40, 60], 80 + shown_ms)
        start, *_, done = decode(path, np.arange)
        assert isinstance(start, Start) and isinstance(done, Done)
        ends[name] = start.frames.end_seconds
        assert ("last frame is shown for 7,2" in done.info.remark) == (name == "hours")
    assert ends["hour"] == pytest.approx(3500.08, abs=0.01)
    assert ends["hours"] < 80


def test_clips_that_begin_too_often_are_refused() -> None:
    """1000 frames, one an hour, as a damaged file may claim: 3.6e9 clips."""
    selection = Sampling(steps=2, ticks=Ticks(stride_seconds=0.001))
    with pytest.raises(TooManyTicks, match="it would have more than 10,000,000 clips"):
        selection.rows(FrameCount.steady(1000, 1 / 3600))
    assert len(selection.rows(FrameCount.steady(1000, 1)).numbers) == 2


def test_a_flow_clip_shorter_than_a_field_is_one_field() -> None:
    """10 frames a second, clips of 0.1 s: the last field is from 28 to 29, and no row begins again
    at field 0. Pictures of the same grid have the same times."""
    frames = FrameCount.steady(30, 10.0)
    ticks = Ticks(fps=10, clip_seconds=0.1)
    flow = Sampling(clip_frames=1, fields=True, grid_frames=1, ticks=ticks).rows(frames)
    assert flow.numbers.ravel().tolist() == list(range(29))
    of_file = Ticks(grid_seconds=0.1)  # at the rate of the file
    rgb = Sampling(ticks=of_file).rows(frames)
    own = dataclasses.replace(of_file, clip_seconds=0.1)
    flow = Sampling(fields=True, grid_frames=1, ticks=own).rows(frames)
    assert flow.numbers.ravel().tolist() == rgb.numbers.ravel().tolist() == list(range(29))
    np.testing.assert_array_equal(rgb.seconds, flow.seconds)


@pytest.mark.parametrize("rate", [[], ["FPS=10"]])
def test_streams_with_a_flow_clip_shorter_than_a_field_share_a_grid(rate: list[str]) -> None:
    words = [
        "DATASET=folder",
        "ROOT=videos",
        "FLOW=dis",
        "STREAM=rgb flow",
        "CLIP=flow=0.1s",
        "WEIGHTS=random",
    ]
    options = with_defaults(parse(ExtractOptions, [*words, *rate], "extract"))
    plans = plan_streams(options, "made", build_flow("dis", torch.device("cpu")))
    rows = [plan.sampling.rows(FrameCount.steady(30, 10.0)) for plan in plans]
    assert all(np.ptp(row.numbers, axis=1).max() < 10 for row in rows)
    np.testing.assert_array_equal(rows[0].seconds, rows[1].seconds)


# ------------------------------------------------------------------------------- files


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_a_variable_rate_and_its_constant_copy_have_equal_rows(work: Path, ending: str) -> None:
    """Of the frames at 25 a second, the variable copy keeps those that change, and some others. The
    constant one repeats each until the next begins."""
    kept = sorted({*range(0, 4000, 400), 40, 120, 760, 1040, 1080, 1120, 2520, 3960})
    draw(work / "videos" / "a" / f"variable.{ending}", kept, list(map(slow, kept)), 4000)
    at_rate(work / "videos" / "a" / f"constant.{ending}", 25)
    for words in (["FPS=10"], ["FPS=25", "STRIDE=7"], ["STRIDE=0.4s", "CLIP=2s", "FPS=12.5"]):
        bank = f"BANK={''.join(words)}"
        assert run(*EXTRACT, "EXTRACTOR=pixels", "RESIZE=16", bank, *words) == 0
        with Store.open(stores(bank[5:])["rgb"]) as store:
            (constant, times), (variable, other_times) = map(store.features, store.video_ids)
            np.testing.assert_array_equal(times, other_times)
            assert len(times) >= 6 and np.ptp(np.diff(times)) < 1e-9
            # the same pictures, coded twice
            assert np.abs(constant.astype(int) - variable.astype(int)).max() <= 4
            at = {"FPS=10": 0}.get(words[0])
            if at == 0:
                levels = constant.reshape(len(times), -1).mean(1)
                shown = [slow(round(1000 * time)) for time in times]
                np.testing.assert_allclose(levels, shown, atol=4)


def test_all_frame_rates_of_a_collection_have_equal_steps(work: Path) -> None:
    for fps in (15, 25, 29.97, 30, 60):
        at_rate(work / "videos" / "a" / f"of_{fps}.mp4", fps)
    for words, step in ((["FPS=5"], 0.2), (["STRIDE=0.5s"], 0.5), (["STRIDE=0.7s", "FPS=25"], 0.7)):
        bank = f"BANK={''.join(words)}"
        assert run(*EXTRACT, TINY, bank, *words) == 0
        times = seconds_of(stores(bank[5:])["rgb"])
        assert len(times) == 5
        for of_video in times.values():
            np.testing.assert_allclose(of_video, np.arange(len(of_video)) * step, atol=1e-9)
            assert 0 <= 4.0 - of_video[-1] <= step + 0.02
    assert run(*EXTRACT, TINY, "BANK=plain") == 0
    assert len({len(of_video) for of_video in seconds_of(stores("plain")["rgb"]).values()}) == 4


def test_flow_is_computed_between_ticks(work: Path) -> None:
    """At 10 ticks a second of a moving texture at 20: between every second picture, by the decode
    process and by this one. At 40, every other field is of a picture and itself."""
    rng = np.random.default_rng(0)
    texture = np.kron(rng.integers(0, 255, (12, 24)), np.ones((4, 4))).astype(np.uint8)
    path = work / "videos" / "a" / "moving.mkv"
    path.parent.mkdir(parents=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=20, width=64, height=48, pix_fmt="bgr0")
        for number in range(20):
            picture = np.stack([texture[:, number : number + 64]] * 3, -1)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    pictures = torch.cat(
        [torch.from_numpy(m.pixels) for m in decode(path, np.arange) if isinstance(m, Frames)]
    ).movedim(-1, 1)
    small = resize(pictures, Resize(48))
    method = build_flow("dis", torch.device("cpu"))
    words = (*EXTRACT, "STREAM=flow", "EXTRACTOR=pixels", "RESIZE=48", "CLIP=1")
    for fps, step in ((10, 2), (40, 0.5)):
        assert run(*words, "FLOW=dis", f"FPS={fps}", f"BANK={fps}") == 0
        numbers = (np.arange(round(fps)) * step).astype(int)
        expected = to_uint8(method(small[numbers[:-1]], small[numbers[1:]])).numpy()
        with Store.open(stores(str(fps))["flow"]) as store:
            values, times = store.features(store.video_ids[0])
        assert values.reshape(len(values), -1).shape[0] == len(expected) == fps - 1
        np.testing.assert_allclose(times, (np.arange(fps - 1) + 0.5) / fps, atol=1e-9)
        wanted = to_uint8(method(small[numbers[:-1]], small[numbers[1:]]))
        wanted = torch.nn.functional.interpolate(wanted.float(), values.shape[-2:])
        if values.shape[-2:] == expected.shape[-2:]:
            np.testing.assert_array_equal(values.reshape(expected.shape), expected)
        if fps == 40:  # 128 means zero motion
            assert (values[0] == 128).all() and not (values[1] == 128).all()


@pytest.mark.long
def test_flow_on_a_timeline_is_the_same_in_the_main_process(work: Path) -> None:
    """TV-L1 is computed by the main process, from chunks of pictures."""
    times = steady_ms(20, 2.0)
    draw(work / "videos" / "a" / "clip.mp4", times, [20 + 5 * (t // 50) for t in times], 2000)
    for name, words in {"few": ["FPS=8"], "many": ["FPS=50"], "all": ["FPS=20"], "old": []}.items():
        assert (
            run(
                *EXTRACT,
                "STREAM=flow",
                TINY,
                "FLOW=tvl1",
                "CLIP=2",
                "RESIZE=32",
                *words,
                f"BANK={name}",
            )
            == 0
        )
    found = {name: stores(name)["flow"] for name in ("few", "many", "all", "old")}
    assert {name: len(seconds_of(path)["a/clip"]) for name, path in found.items()} == {
        "few": 14, "many": 98, "all": 38, "old": 38,
    }  # fmt: skip
    with Store.open(found["all"]) as one, Store.open(found["old"]) as other:
        np.testing.assert_array_equal(one.features("a/clip")[0], other.features("a/clip")[0])
        np.testing.assert_allclose(one.times_seconds("a/clip"), other.times_seconds("a/clip"))
        assert one.recipe == other.recipe | {"fps": 20.0}


def test_clips_that_begin_with_the_same_picture_are_kept_apart(work: Path) -> None:
    """Of 20 pictures a second, each is on screen at two or three of 50 ticks."""
    levels = [16 + 10 * number for number in range(20)]
    draw(work / "videos" / "a" / "clip.mp4", steady_ms(20, 1.0), levels, 1000)
    words = ("EXTRACTOR=clip_pixels", "RESIZE=16", "CLIP=4", "FPS=50", "STRIDE=1")
    assert run(*EXTRACT, *words) == 0
    with Store.open(stores()["rgb"]) as store:
        values, times = store.features("a/clip")  # (47, 3, 4, 16, 22)
    shown = np.round((values.mean((1, 3, 4), dtype=np.float64) - 16) / 10).astype(int)
    assert shown.tolist() == [[(first + i) * 2 // 5 for i in range(4)] for first in range(47)]
    np.testing.assert_allclose(times, (np.arange(47) + 1.5) / 50, atol=1e-9)


# ------------------------------------------------------------------------------- sound

LOUDNESS = """
import torch
from torch import nn

class Level(nn.Module):
    mean = std = (0.5, 0.5, 0.5)
    input_size = (3, 32, 32)

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1, bias=False)
        nn.init.ones_(self.conv.weight)

    def forward(self, x):
        return self.conv(x).mean((2, 3))

def build():
    return Level()
"""


def flash_and_beep(path: Path, fps: float, *, sound_seconds: float = 4.0) -> Path:
    """Black and silent, but from 2.0 to 2.2 s white and loud."""
    clock = np.arange(round(sound_seconds * RATE_HZ)) / RATE_HZ
    beep = np.where((clock >= 2.0) & (clock < 2.2), 0.8 * np.sin(2 * np.pi * 1000 * clock), 0)
    times = steady_ms(fps)
    levels = [235 if 2000 <= time < 2200 else 16 for time in times]
    return draw(path, times, levels, 4000, beep.astype(np.float32))


def centre(times: np.ndarray, levels: np.ndarray) -> float:
    """The middle of the rows that are nearer to the highest than to the lowest level."""
    above = times[levels > (levels.min() + levels.max()) / 2]
    return (above[0] + above[-1]) / 2


@pytest.mark.parametrize("fps", [15, 25, 60])
def test_a_flash_and_a_beep_are_found_in_the_same_step(work: Path, fps: int) -> None:
    (work / "tiny.py").write_text(LOUDNESS)
    flash_and_beep(work / "videos" / "a" / "clip.mp4", fps)
    assert run(*EXTRACT, TINY, "STREAM=rgb audio", "FPS=10") == 0
    found = stores()
    with Store.open(found["rgb"]) as rgb, Store.open(found["audio"]) as audio:
        times = rgb.times_seconds("a/clip")
        np.testing.assert_array_equal(times, audio.times_seconds("a/clip"))
        np.testing.assert_allclose(times, np.arange(40) / 10, atol=1e-9)
        seen, heard = (store.features("a/clip")[0].mean(1) for store in (rgb, audio))
    assert abs(centre(times, seen) - 2.05) <= 0.1  # the flash is at 2.0 and 2.1
    assert abs(centre(times, heard) - 2.1) <= 0.1
    assert abs(centre(times, seen) - centre(times, heard)) <= 0.1


def test_examples_at_given_times_by_hand(tmp_path: Path) -> None:
    """A click in every sample of a second; beyond the sound there is silence."""
    path = tmp_path / "clicks.wav"
    wave = np.zeros(RATE_HZ, np.int16)
    wave[[100, 8000, 15_999]] = 32_767
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE_HZ, layout="mono")
        frame = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
        frame.sample_rate = RATE_HZ
        container.mux(stream.encode(frame))
    asked = np.array([0.5, 0.0, 0.5, 1.2, 9.0])
    begin_and_end = []

    def centres(begin: float, end: float) -> np.ndarray:
        begin_and_end.append((begin, end))
        return asked

    *sounds, done = read_sound(path, np.arange, 2, centres=centres)
    assert begin_and_end == [(0.0, 1.0)] and isinstance(done, SoundDone)
    assert (done.info.state, done.info.examples) == ("heard", 5)
    assert np.concatenate([one.numbers for one in sounds]).tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(np.concatenate([one.seconds for one in sounds]), asked)
    waves = np.concatenate([one.waves for one in sounds])
    # an example begins 7800 samples before its centre: at 200, -7800, 200, 11400 and 136200
    for of_example, places in zip(waves, ([7800], [7900], [7800], [4599], []), strict=True):
        # the last click, sample 15799 of the first example, lies beyond its 15600 samples
        assert np.flatnonzero(of_example > 0.9).tolist() == places


def test_sound_alone_has_the_rows_of_sound_with_pictures(work: Path) -> None:
    """Also where the pictures' packets promise other frames than there are, and without pictures."""
    (work / "tiny.py").write_text(LOUDNESS)
    flash_and_beep(work / "videos" / "a" / "clip.mp4", 25)
    flash_and_beep(work / "videos" / "a" / "short.mkv", 30, sound_seconds=0.5)
    words = (*EXTRACT, TINY, "STRIDE=0.25s")
    assert run(*words, "STREAM=rgb audio") == 0 and run(*words, "STREAM=audio", "BANK=alone") == 0
    together, alone = stores(), stores("alone")
    assert together["audio"].name == alone["audio"].name
    assert (
        seconds_of(together["rgb"]) == seconds_of(together["audio"]) == seconds_of(alone["audio"])
    )
    with Store.open(together["audio"]) as one, Store.open(alone["audio"]) as other:
        for name in one.video_ids:
            np.testing.assert_array_equal(one.features(name)[0], other.features(name)[0])


def with_empty_packets(path: Path, fps: int, empty: int) -> Path:
    """MPEG-4 in AVI with sound, whose last packets show nothing (N-VOP)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps, width=64, height=48, pix_fmt="yuv420p")
        voice = container.add_stream("pcm_s16le", rate=RATE_HZ, layout="mono")
        packets = []
        for number in range(2 * fps):
            picture = np.full((48, 64, 3), 4 * number, np.uint8)
            packets += stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24"))
        packets += stream.encode()
        for number in range(len(packets), len(packets) + empty):
            # vop_coded is 0: the picture before is repeated
            packet = av.Packet(b"\0\0\1\xb6\x50\x9f")
            packet.stream, packet.time_base = stream, packets[-1].time_base
            packet.pts = packet.dts = number
            packets.append(packet)
        for packet in packets:
            container.mux(packet)
        wave = (8000 * np.sin(np.arange(3 * RATE_HZ) / 3)).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
        frame.sample_rate = RATE_HZ
        container.mux(voice.encode(frame))
    return path


def test_sound_follows_the_decoded_pictures_where_packets_promise_more(work: Path) -> None:
    """The packets promise 25 frames in 2.5 s, and there are 21. Clips of half a second at every frame of
    the average rate (20 frames in 2.4 s) are 21 - 4 + 1."""
    (work / "tiny.py").write_text(LOUDNESS)
    path = with_empty_packets(work / "videos" / "a" / "clip.avi", 10, 5)
    counts = [m.frames for m in decode(path, lambda frames: np.arange(0)) if isinstance(m, Start)]
    assert counts == [25, 21]
    words = (*EXTRACT, TINY, "GRID=0.5s")
    assert run(*words, "STREAM=rgb audio") == 0 and run(*words, "STREAM=audio", "BANK=alone") == 0
    for audio in (stores()["audio"], stores("alone")["audio"]):
        assert seconds_of(audio) == seconds_of(stores()["rgb"])
    with Store.open(stores()["audio"]) as one, Store.open(stores("alone")["audio"]) as other:
        assert len(one.features("a/clip")[0]) == 18
        np.testing.assert_array_equal(one.features("a/clip")[0], other.features("a/clip")[0])


def test_pictures_are_not_counted_for_a_file_without_sound(tmp_path: Path) -> None:
    counted: list[Path] = []

    def count(path: Path, reading: Reading) -> Generator[PictureMessage]:
        counted.append(path)
        yield from decode(path, lambda frames: np.empty(0, np.int64))

    def read(path: Path, reading: Reading, centres: Centres | None) -> Iterator[SoundMessage]:
        assert reading.sound is not None
        return read_sound(path, reading.sound, centres=centres)

    reading = Reading(None, sound=TimedExamples(None, Sampling(ticks=Ticks(10))))
    silent = at_rate(tmp_path / "silent.mp4", 25)
    (done,) = TimedSound(read, count, silent, reading).messages()
    assert isinstance(done, SoundDone) and done.info.state == "none"
    assert counted == []
    heard = flash_and_beep(tmp_path / "heard.mp4", 25)
    *sounds, done = TimedSound(read, count, heard, reading).messages()
    assert isinstance(done, SoundDone) and counted == [heard]
    assert sum(len(one.numbers) for one in sounds if isinstance(one, Sound)) == 40


def test_streams_of_sound_with_different_examples_are_refused(work: Path) -> None:
    """The sound of a file is decoded once, so that one of them would get the examples of the other."""
    (work / "own.py").write_text(
        "from reelbank.data.video.sampling import Examples\n"
        "from reelbank.extract.streams.audio import Audio\n"
        "class Few(Audio):\n"
        "    def clips(self, options, grid):\n"
        "        return Examples(2)\n"
        "class Same(Audio):\n"
        "    pass\n"
    )

    def plan(*streams: str) -> None:
        words = ["DATASET=folder", f"STREAM={' '.join(streams)}", "EXTRACTOR=vggish", "T=3"]
        options = with_defaults(parse(ExtractOptions, [*words, "WEIGHTS=random"], "extract"))
        plan_streams(options, "folder", None)

    plan("audio", "own.py:Same")
    with pytest.raises(InputError, match="choose different examples of the sound; extract each"):
        plan("audio", "own.py:Few")


def test_the_fps_of_another_tool_is_not_the_rate_of_a_timeline(
    work: Path, capsys: pytest.CaptureFixture
) -> None:
    """Imported recipes may contain any key, also those of our clips, with any value."""
    dataset = DatasetDescription("made", ("a", "b"), ("1",))
    videos = [
        StoredVideo(f"{'ab'[number % 2]}/v{number}", "ab"[number % 2], parts=("train",))
        for number in range(4)
    ]
    paths = []
    for stream, late_seconds in (("rgb", 0.0), ("flow", 1.0)):
        recipe = {"stream": stream, "extractor": "other", "imported": {"file": "x"}}
        recipe |= {"fps": "PAL", "stride_seconds": "auto", "stride_frames": "8"}
        paths.append(Path("bank", "stores", f"made-{stream}.h5"))
        with StoreWriter(paths[-1], recipe, dataset) as writer:
            for video in videos:
                writer.add(video, np.ones((3, 2)), np.arange(3) * 4.0 + late_seconds)
            assert writer.finish(videos)
    words = ("train", "HEAD=meanpool", "EPOCHS=1", "MID=concat", "SPLIT=1", "VALIDATION=0")
    # The rows are 4 s apart, so that a second is less than half of it.
    assert run(*words, f"STORE={paths[0]}+{paths[1]}", "DEVICE=cpu") == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    "how", [["WORKERS=2"], pytest.param(["DEVICE=cpu cpu", "WORKERS=2"], marks=pytest.mark.long)]
)
def test_several_processes_extract_the_same_rows(work: Path, how: list[str]) -> None:
    (work / "tiny.py").write_text(LOUDNESS)
    for number, fps in enumerate((15, 25, 30, 60)):
        flash_and_beep(work / "videos" / "a" / f"clip{number}.mp4", fps, sound_seconds=3.0)
    words = (*EXTRACT, TINY, "FPS=10", "STRIDE=0.5s", "CLIP=0.4s")
    assert run(*words, "STREAM=rgb audio", "BANK=one", "WORKERS=1", "DEVICE=cpu") == 0
    assert run(*words, "STREAM=rgb audio", "BANK=several", *how) == 0
    one, several = stores("one"), stores("several")
    assert one.keys() == several.keys() == {"rgb", "audio"}
    for stream, path in one.items():
        assert seconds_of(path) == seconds_of(several[stream])
        with Store.open(path) as alone, Store.open(several[stream]) as other:
            assert len(alone) == 4 and alone.identity == other.identity
            for name in alone.video_ids:
                np.testing.assert_allclose(alone[name], other[name], atol=2e-3)


def test_a_head_joins_pictures_and_sound_and_predicts_files(
    work: Path, capsys: pytest.CaptureFixture
) -> None:
    (work / "tiny.py").write_text(LOUDNESS)
    for number in range(6):
        for label, fps in (("a", 15), ("b", 30)):
            path = work / "videos" / label / f"v_g{number:02d}_c01.mp4"
            flash_and_beep(path, fps + number, sound_seconds=3.0 + number / 5)
    words = ("extract", "DATASET=folder", "ROOT=videos", "CROPS=1", TINY, "STREAM=rgb audio")
    train = ("train", "HEAD=meanpool", "EPOCHS=1", "SPLIT=1", "STREAM=rgb+audio", "MID=concat")
    assert run(*words, "T=0", "BANK=old") == 0
    assert run(*train, "BANK=old") == 2
    assert "with FPS or with STRIDE in seconds" in capsys.readouterr().err
    assert run(*words, "T=0", "FPS=10", "STRIDE=0.5s") == 0
    assert run(*train) == 0
    capsys.readouterr()
    name = next(Path("bank", "runs").iterdir()).name
    assert (
        run("predict", "videos/a/v_g00_c01.mp4", "videos/b/v_g03_c01.mp4", f"RUN={name}", f"{TINY}")
        == 0
    )
    said = capsys.readouterr().out
    assert "v_g00_c01.mp4: " in said and "v_g03_c01.mp4: " in said
    assert run("predict", f"RUN={name}", TINY, f"STORE={stores()['rgb']}+{stores()['audio']}") == 0


# ------------------------------------------------------------------------------- images, options


def test_images_need_a_rate_and_are_placed_by_it(work: Path, capsys: pytest.CaptureFixture) -> None:
    folder = work / "videos" / "a" / "clip"
    folder.mkdir(parents=True)
    for number in range(40):
        Image.new("RGB", (64, 48), (number * 6,) * 3).save(folder / f"{number}.png")
    words = (*EXTRACT, "EXTRACTOR=pixels", "RESIZE=16", "STRIDE=0.5s")
    assert run(*words) == 2
    assert "choose frames by time" in capsys.readouterr().err
    assert run(*words, "IMAGE_FPS=20") == 0
    with Store.open(stores()["rgb"]) as store:
        values, times = store.features("a/clip")
    assert times.tolist() == [0, 0.5, 1, 1.5]
    assert values.reshape(4, -1)[:, 0].tolist() == [0, 60, 120, 180]  # images 0, 10, 20, 30


def planned(*words: str) -> dict[str, dict]:
    """The recipes of the streams."""
    line = [
        "DATASET=folder",
        "DEVICE=cpu",
        "EXTRACTOR=torchvision:resnet18",
        "WEIGHTS=random",
        *words,
    ]
    options = with_defaults(parse(ExtractOptions, line, "extract"))
    flow = build_flow("dis", torch.device("cpu")) if "flow" in options.stream else None
    plans = plan_streams(options, "made", flow)
    return {plan.stream.name: json.loads(json.dumps(plan.recipes[0].to_json())) for plan in plans}


def test_recipes_record_only_what_is_set_and_equal_lengths_are_one_recipe() -> None:
    plain = planned("STREAM=rgb audio", "T=0")
    assert not {"fps", "stride_seconds", "clip_seconds", "grid_seconds"} & (
        plain["rgb"].keys() | plain["audio"].keys()
    )
    assert "stride_frames" not in plain["audio"]
    assert planned("FPS=10", "STRIDE=0.5s") == planned("FPS=10", "STRIDE=5")
    timed = planned("STREAM=rgb audio", "FPS=25", "STRIDE=0.5s", "T=0")
    for recipe, before in ((timed["rgb"], plain["rgb"]), (timed["audio"], plain["audio"])):
        # 12.5 frames
        times = {"fps": 25.0, "stride_seconds": 0.5, "stride_frames": 0}
        assert recipe == before | {"clip_frames": 1, "grid_frames": 1} | times


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["STREAM=rgb flow", "FLOW=dis", "CLIP=rgb=2s"], "clips of 2s cannot be combined with clips of 11 frames"),
        (["STRIDE=0.01s", "FPS=25"], "STRIDE=0.01s: must be at least the time from one frame to the next"),
        (["STRIDE=2m"], "STRIDE=2m: must be at least 1 frame, or a time in seconds, such as 0.5s"),
        (["STRIDE=0s"], "STRIDE=0s: must be at least 0.001 and at most 86,400 seconds"),
        (["CLIP=twos"], "CLIP=twos: must be a number of frames"),
        (["CLIP=2s", "GRID=1s"], "GRID=1s: must be at least the length of the longest clip, 2s"),
        (["CLIP=2s", "GRID=100"], "GRID=100: the clips are given in seconds"),
        (["SAMPLING=adaptive", "FPS=10"], "SAMPLING=adaptive chooses frames by their motion"),
        (["STREAM=idt", "FPS=10"], "FPS=10.0: STREAM=idt does not use this option"),
        (["STREAM=audio", "STRIDE=8"], "STRIDE=8: STREAM=audio does not use this option"),
        (["FPS=0"], "FPS=0.0: must be above 0"),
    ],
)  # fmt: skip
def test_lengths_that_cannot_be_meant_are_refused(words: list[str], line: str) -> None:
    if "STREAM=idt" in words:
        with pytest.raises(InputError, match=line):
            with_defaults(parse(ExtractOptions, words, "extract"))
        return
    with pytest.raises(InputError) as refused:
        planned(*words)
    assert line in str(refused.value)


def test_numbers_of_frames_may_be_numbers_in_python() -> None:
    for number in (int, np.int64, np.uint8):
        options = ExtractOptions(stride=number(8), grid=number(16))
        assert options == ExtractOptions(stride="8", grid="16")
        assert type(options.stride) is str
    assert ExtractOptions(stride=None, grid=0) == ExtractOptions()


def test_decode_processes_choose_by_time_and_tell_the_times(tmp_path: Path) -> None:
    """The pool receives the selection and sends the times with which it chose."""
    path = flash_and_beep(tmp_path / "clip.mkv", 29.97)
    grid = Sampling(stride_frames=5, ticks=Ticks(10))
    reading = Reading(Needed((grid,)), sound=TimedExamples(None, grid))
    with DecodePool(1) as pool:
        messages = [message for _, message in pool.run([("clip", path, reading)])]
    (start,) = [message for message in messages if isinstance(message, Start)]
    assert start.frames == 120 and start.frames.end_seconds == pytest.approx(4.0, abs=0.04)
    np.testing.assert_allclose(start.frames.seconds, np.arange(120) / 29.97, atol=1e-3)
    rows = grid.rows(start.frames)
    chosen = np.concatenate([m.numbers for m in messages if isinstance(m, Frames)])
    np.testing.assert_array_equal(chosen, rows.numbers[:, 0])
    heard = np.concatenate([m.seconds for m in messages if isinstance(m, Sound)])
    np.testing.assert_array_equal(heard, rows.seconds)
    assert isinstance(messages[-1], Done)
    assert dataclasses.asdict(messages[-1].info)["frames"] == 120
