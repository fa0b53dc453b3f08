"""Sound is read from the file at its place on the file's clock; a video without usable sound gets
one of three reasons."""

import struct
import wave
from collections import Counter
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import testdata as real
from conftest import testdata_rows as real_rows

from reelbank.data.datasets import toy_drawing
from reelbank.data.video import sound
from reelbank.data.video.frames import DecodeError, decode
from reelbank.data.video.messages import Frames, Sound, SoundDone, SoundInfo
from reelbank.data.video.sampling import SoundWindows
from reelbank.data.video.sound import example_count, read_sound

NOTHING = SoundInfo("none", 0.0, 0.0, 0)


def hear(path, select=np.arange, **options):
    """(info, numbers, times, waves) of one reading; checks the order of messages."""
    *sounds, done = read_sound(path, select, **options)
    assert isinstance(done, SoundDone) and all(isinstance(message, Sound) for message in sounds)
    numbers, times, waves = (
        np.concatenate([getattr(message, name) for message in sounds]) if sounds else np.empty(0)
        for name in ("numbers", "seconds", "waves")
    )
    if sounds:
        assert (numbers.dtype, times.dtype, waves.dtype) == (np.int64, np.float64, np.float32)
    return done.info, numbers, times, waves


def whole(waves: np.ndarray) -> np.ndarray:
    """Examples overlap by 240 samples; put together again."""
    return np.concatenate([*(one[:15360] for one in waves[:-1]), waves[-1]])


def write_sound(
    path: Path,
    sound: np.ndarray,
    rate_hz: int,
    layout: str,
    codec="pcm_s16le",
    begin_seconds=0.0,
    picture=False,
):
    """sound: (channels, n) float; with `picture`, together with one second of black video that begins at 0."""
    bare = {"id3v2_version": "0", "write_xing": "0"} if codec == "libmp3lame" else {}
    with av.open(str(path), "w", options=bare) as container:
        if picture:
            black = container.add_stream("mpeg4", rate=25, width=64, height=64, pix_fmt="yuv420p")
        voice = container.add_stream(codec, rate=rate_hz, layout=layout)
        if picture:
            for _ in range(25):
                frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
                container.mux(black.encode(frame))
            container.mux(black.encode())
        for begin in range(0, sound.shape[1], 1024):
            block = np.ascontiguousarray(
                sound[:, begin : begin + 1024].T, dtype=np.float32
            ).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(block, format="flt", layout=layout)
            frame.sample_rate, frame.time_base = rate_hz, Fraction(1, rate_hz)
            frame.pts = begin + round(begin_seconds * rate_hz)
            container.mux(voice.encode(frame))
        container.mux(voice.encode())
    return path


def write_wave(path: Path, samples: np.ndarray, rate_hz: int = 16000) -> Path:
    """Mono, of as many bytes a sample as the samples have."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, samples.itemsize, rate_hz, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return path


def sine(rate_hz: int, seconds: float, hz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(rate_hz * seconds)) / rate_hz)


def test_examples_that_do_not_exist_cannot_be_selected(tmp_path):
    path = write_wave(tmp_path / "two.wav", np.full(30960, 1000, dtype=np.int16))
    with pytest.raises(ValueError, match=r"example numbers from 0 to 1 \(got 0 to 2\)"):
        hear(path, lambda count: np.arange(count + 1))


def test_examples_of_a_network_that_pads_by_hand() -> None:
    """Windows of 10 s at 1 kHz, one after the other: a last one of at least 5 s counts, and so does
    an only one of at least 0.5 s."""
    windows = SoundWindows(1000, 10_000, 10_000, least_samples=500)
    counts = {0: 0, 499: 0, 500: 1, 4000: 1, 14_999: 1, 15_000: 2, 20_000: 2, 24_999: 2, 25_000: 3}
    assert {samples: windows.count(samples) for samples in counts} == counts
    assert [windows.length(number, 25_000) for number in range(3)] == [10_000, 10_000, 5000]
    assert windows.length(0, 14_999) == 10_000 and windows.length(0, 700) == 700


def test_example_counts_by_hand():
    assert [example_count(n) for n in (0, 15599, 15600, 30959, 30960, 46319, 46320)] == [
        0,
        0,
        1,
        1,
        2,
        2,
        3,
    ]


def test_real_clips_have_the_tracks_that_the_table_says():
    states = Counter()
    for row in real_rows("clips.csv"):
        info, numbers, times, waves = hear(real(*row["file"].split("/")))
        states[info.state] += 1
        peak = float(row["audio_peak"] or 0)
        wanted = "none" if not row["audio"] else "heard" if peak else "silent"
        assert info.state == wanted, row["file"]
        if wanted == "heard":  # the table's is of the loudest channel, at its own rate
            assert 0.4 * peak < info.peak < 1.15 * peak
            seconds = int(row["frames"]) / float(row["fps"])
            assert abs(info.seconds - seconds) < 0.5, row["file"]
            assert (
                len(numbers)
                == len(waves)
                == info.examples
                == example_count(round(info.seconds * 16000))
                > 0
            )
            np.testing.assert_allclose(times, 0.4875 + 0.96 * numbers, atol=1e-9)
    assert states == {"none": 153, "heard": 59, "silent": 1}
    info, *_ = hear(real("clips", "ucf101", "WallPushups", "v_WallPushups_g01_c04.avi"))
    assert (info.state, info.examples) == ("silent", 7)


def test_a_wave_file_comes_through_bit_by_bit():
    path = real("references", "logmel_test.wav")
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
        right = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2") / 32768
    info, numbers, _, waves = hear(path)
    assert len(numbers) == example_count(len(right)) > 1
    assert all(
        np.array_equal(waves[i], right[15360 * i : 15360 * i + 15600].astype(np.float32))
        for i in numbers
    )
    assert info.peak == pytest.approx(np.abs(right).max()) and info.seconds == len(right) / 16000


def test_a_drawn_video_sounds_as_it_was_voiced(tmp_path):
    frames, sound = toy_drawing.render("sound_high", 1, 1, 0)
    toy_drawing.write_video(tmp_path / "toy.mp4", frames, sound)
    info, _, _, waves = hear(tmp_path / "toy.mp4")
    heard = whole(waves)
    right = np.interp(
        np.arange(len(heard)) / 16000, np.arange(len(sound)) / toy_drawing.RATE_HZ, sound
    )
    assert info.state == "heard" and info.seconds == pytest.approx(
        len(sound) / toy_drawing.RATE_HZ, abs=1 / 16000
    )
    assert np.corrcoef(heard, right)[0, 1] > 0.98  # and so at the right place
    assert hear(tmp_path / "toy.mp4")[0] == info


def ends_at(path: Path, seconds: float) -> Path:
    """Write another end into the only entry of an MP4's edit list."""
    data = bytearray(path.read_bytes())
    header = data.index(b"mvhd") + 16  # behind name, version, flags and two dates
    (units_a_second,) = struct.unpack(">I", data[header : header + 4])
    entry = data.rindex(b"elst", 0, data.index(b"soun")) + 8
    assert struct.unpack(">I", data[entry : entry + 4]) == (1,)
    data[entry + 4 : entry + 8] = struct.pack(">I", round(seconds * units_a_second))
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "aac"),
        ("a.mov", "aac"),
        ("a.mp4", "libmp3lame"),
        ("a.mp4", "libopus"),
        ("a.mp4", "flac"),
    ],
)
@pytest.mark.parametrize(
    "samples", [30_000, 30_944, 30_960]
)  # whole milliseconds; two examples need 30,960
def test_coded_sound_in_mp4_is_as_long_as_it_was(tmp_path, name, codec, samples):
    """These codecs pad the last frame. The padding is not decoded as sound, with any FFmpeg."""
    rate_hz = 48_000 if codec == "libopus" else 16_000
    path = write_sound(
        tmp_path / name, sine(rate_hz, samples / 16_000)[None], rate_hz, "mono", codec
    )
    info, *_ = hear(path)
    assert (info.seconds, info.examples) == (samples / 16_000, example_count(samples))


def test_what_is_kept_of_the_last_frame_is_what_was_decoded(tmp_path):
    noise = 0.3 * np.random.default_rng(0).standard_normal((1, 31_700))
    path = write_sound(tmp_path / "a.mp4", noise, 16_000, "mono", "aac")
    with av.open(str(path)) as container:
        decoded = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    info, _, _, waves = hear(path)
    assert info.seconds == 31_700 / 16_000
    np.testing.assert_array_equal(whole(waves), decoded[:30_960])


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "flac"), ("a.mov", "alac"), ("a.mov", "pcm_s16le")]
)
def test_an_edit_list_ends_the_sound_at_the_sample(tmp_path, name, codec):
    """Lossless codecs, channels interleaved and planar: 1.95 s of 3 are 31,200 samples."""
    samples = np.random.default_rng(1).integers(-9000, 9000, (2, 48_000)) / 32768
    path = write_sound(tmp_path / name, samples, 16_000, "stereo", codec, picture=True)
    assert hear(path)[0].seconds == 3.0
    info, _, _, waves = hear(ends_at(path, 1.95))
    assert (info.seconds, info.examples) == (1.95, 2)
    right = samples[:, :30_960].astype(np.float32).mean(0)
    np.testing.assert_allclose(whole(waves), right, atol=1e-7)
    assert hear(ends_at(path, 1.92))[0].examples == 1  # 30,720 samples


@pytest.mark.parametrize("name", ["a.mkv", "a.ts"])
def test_what_pads_the_sound_of_other_containers_stays(tmp_path, name):
    """AAC in frames of 1,024 samples: nothing says where the sound ended, with any FFmpeg."""
    path = write_sound(tmp_path / name, sine(16_000, 30_000 / 16_000)[None], 16_000, "mono", "aac")
    with av.open(str(path)) as container:
        decoded = sum(frame.samples for frame in container.decode(audio=0))
    assert hear(path)[0].seconds == decoded / 16_000 >= 30_000 / 16_000


@pytest.mark.parametrize("late_seconds", [0.005, 0.02, 0.04, 0.5])
@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "flac"), ("a.mov", "pcm_s16le"), ("a.mp4", "pcm_s16le")]
)
def test_a_late_track_in_mp4_is_not_cut(tmp_path, name, codec, late_seconds):
    """But what FFmpeg 9 cuts is cut: of coded sound that is late by less than a frame, as much at
    its end."""
    path = write_sound(
        tmp_path / name,
        sine(16_000, 3)[None],
        16_000,
        "mono",
        codec,
        begin_seconds=late_seconds,
        picture=True,
    )
    info, _, times, _ = hear(path)
    lost_seconds = late_seconds if codec == "flac" and late_seconds < 0.1 else 0
    assert info.seconds == 3.0 - lost_seconds
    np.testing.assert_allclose(times, late_seconds + 0.4875 + 0.96 * np.arange(3), atol=1e-3)


def test_real_mp4_sound_has_its_stated_length():
    assert hear(real("odd", "audio_longer.mp4"))[0].seconds == 10.0
    assert hear(real("odd", "audio_only.mp4"))[0].seconds == 2.0


@pytest.mark.parametrize("rate_hz", [8000, 16000, 44100, 48000])
def test_a_sine_keeps_its_amplitude_at_every_rate(tmp_path, rate_hz):
    path = write_sound(tmp_path / "sine.wav", sine(rate_hz, 2.5)[None], rate_hz, "mono")
    info, _, _, waves = hear(path)
    assert info.seconds == pytest.approx(2.5, abs=0.001) and info.examples == 2
    np.testing.assert_allclose(whole(waves)[800:], sine(16000, 2.5)[800 : 15360 + 15600], atol=2e-3)


def test_channels_are_averaged_without_weights(tmp_path):
    left = sine(44100, 2)
    for layout, rows, scale in (
        ("stereo", [left, left], 1.0),
        ("stereo", [left, 0 * left], 0.5),
        ("stereo", [left, -left], 0.0),
        ("5.1", [left, 0 * left, 0 * left, 0 * left, left, left], 0.5),
    ):
        info, _, _, waves = hear(write_sound(tmp_path / "x.wav", np.stack(rows), 44100, layout))
        np.testing.assert_allclose(waves[0][800:], scale * sine(16000, 2)[800:15600], atol=2e-3)
        assert info.state == ("heard" if scale else "silent")


@pytest.mark.parametrize("layout", ["7.1", "9 channels", "hexadecagonal", "22.2"])
@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_f32le"])
def test_many_channels_are_averaged_as_well(tmp_path, layout, codec):
    """PyAV reads behind the planes of a frame of 8 channels or more; a process dies of it."""
    channels = av.AudioLayout(layout).nb_channels
    rows = np.zeros((channels, 32_000))
    rows[0], rows[-1] = sine(16_000, 2), sine(16_000, 2)
    info, _, _, waves = hear(write_sound(tmp_path / "x.wav", rows, 16_000, layout, codec))
    assert (info.state, info.seconds) == ("heard", 2.0)
    np.testing.assert_allclose(waves[0], sine(16_000, 2)[:15_600] * 2 / channels, atol=1e-4)


def test_eight_channels_of_coded_sound_end_where_they_should(tmp_path):
    """AAC gives a plane for each channel; 30,000 samples end within its last frame."""
    tone = sine(16_000, 30_000 / 16_000)
    path = write_sound(tmp_path / "x.mp4", np.stack([tone] * 8), 16_000, "7.1", "aac")
    info, _, _, waves = hear(path)
    assert (info.seconds, info.examples) == (30_000 / 16_000, 1)
    assert np.abs(np.fft.rfft(waves[0])).argmax() == round(440 * 15_600 / 16_000)


def test_a_file_with_surround_sound_is_heard():
    info, numbers, _, _ = hear(real("faults", "sound", "surround71.mp4"))
    assert (info.state, info.seconds, len(numbers)) == ("heard", 5.0, 5)


def test_a_recording_that_stops_within_a_frame_keeps_all_frames_before():
    path = real("faults", "sound", "stopped.ts")
    samples = 0
    with (
        av.open(str(path)) as container,
        pytest.raises(av.error.InvalidDataError),
    ):  # of the last frame
        for frame in container.decode(audio=0):
            samples += frame.samples
    assert samples == 229 * 1024
    info, _, _, waves = hear(path)
    assert (round(info.seconds * 16_000), len(waves)) == (229 * 1024 // 3, 5)


@pytest.mark.parametrize("ending", ["ts", "aac"])
def test_a_stream_of_sound_may_stop_anywhere_but_damage_in_the_middle_is_damage(tmp_path, ending):
    noise = 0.3 * np.random.default_rng(0).standard_normal((1, 64_000))
    stream = write_sound(tmp_path / f"whole.{ending}", noise, 16_000, "mono", "aac").read_bytes()
    path = tmp_path / f"cut.{ending}"
    for kept in range(len(stream) // 2, len(stream) // 2 + 2000, 190):
        path.write_bytes(stream[:kept])
        assert 1.5 < hear(path)[0].seconds < 2.7
    if ending == "aac":  # transport streams find the next whole packet by themselves
        heads = [at for at in range(len(stream)) if stream[at : at + 2] == b"\xff\xf1"]
        first = heads[len(heads) // 2] + 7  # behind a frame's head
        path.write_bytes(
            stream[:first]
            + bytes(byte ^ 0x5A for byte in stream[first : first + 100])
            + stream[first + 100 :]
        )
        with pytest.raises(DecodeError, match=r"^sound damaged after [12]\.\d\d s: "):
            hear(path)


def test_short_empty_and_missing_sound_are_distinguished(tmp_path):
    def never(count):
        raise AssertionError("there is nothing to select from")

    short = write_sound(tmp_path / "short.wav", sine(16000, 0.9749)[None], 16000, "mono")
    assert hear(short, never)[0] == SoundInfo(
        "short", 15598 / 16000, pytest.approx(0.5, abs=1e-3), 0
    )
    empty = write_wave(tmp_path / "empty.wav", np.zeros(0, dtype="<i2"))
    assert hear(empty, never)[0] == SoundInfo("short", 0.0, 0.0, 0)
    still = write_sound(tmp_path / "still.wav", np.full((1, 8000), 3e-5), 16000, "mono")
    assert hear(still, never)[0].state == "silent"
    assert hear(real("odd", "bframes.mp4"), never)[0] == NOTHING


def test_sound_and_picture_share_the_files_clock(tmp_path):
    tone = sine(16000, 3)[None]
    late = write_sound(tmp_path / "late.mkv", tone, 16000, "mono", begin_seconds=0.5, picture=True)
    np.testing.assert_allclose(hear(late)[2], 0.5 + 0.4875 + 0.96 * np.arange(3), atol=1e-3)
    first = next(message for message in decode(late, np.arange) if isinstance(message, Frames))
    assert first.seconds[0] == 0
    alone = write_sound(
        tmp_path / "alone.mkv", tone, 16000, "mono", begin_seconds=100.0
    )  # its clock begins with it
    np.testing.assert_allclose(hear(alone)[2], 0.4875 + 0.96 * np.arange(3), atol=1e-3)


def test_a_span_holds_its_own_samples(tmp_path):
    ramp = np.arange(5 * 16000)[None] / (5 * 16000)
    path = write_sound(tmp_path / "ramp.mkv", ramp, 16000, "mono", begin_seconds=0.25, picture=True)
    _, _, _, all_waves = hear(path)
    info, numbers, times, waves = hear(path, span_seconds=(1.25, 3.5))
    assert (info.examples, info.seconds, numbers.tolist()) == (2, 2.25, [0, 1])
    np.testing.assert_array_equal(whole(waves), whole(all_waves)[16000 : 16000 + 15360 + 15600])
    np.testing.assert_allclose(times, 1.25 + 0.4875 + 0.96 * numbers, atol=1e-6)
    assert info.peak == pytest.approx((3.25 * 16000 - 1) / (5 * 16000), abs=1e-4)
    assert hear(path, span_seconds=(0.0, 1.0))[0].seconds == 0.75  # it begins at 0.25
    assert hear(path, span_seconds=(50.0, 60.0))[0] == SoundInfo("short", 0.0, 0.0, 0)
    packets = []
    hear(path, span_seconds=(0.0, 0.5), alive=lambda: packets.append(1))
    assert len(packets) < 40  # of 79: what comes behind is not read


def test_chunks_and_choices(tmp_path):
    path = real("clips", "ucf101", "SkyDiving", "v_SkyDiving_g22_c02.avi")
    info, numbers, times, waves = hear(path)
    assert info.examples == 13 and len(waves) == 13
    for chunk in (1, 5):
        sizes = [len(m.numbers) for m in read_sound(path, np.arange, chunk) if isinstance(m, Sound)]
        assert sizes == {1: [1] * 13, 5: [5, 5, 3]}[chunk]
        np.testing.assert_array_equal(hear(path, chunk_examples=chunk)[3], waves)
    _, some, at, few = hear(path, lambda count: np.array([[7, 2], [2, count - 1]]))
    assert some.tolist() == [2, 7, 12]
    np.testing.assert_array_equal(few, waves[some])
    np.testing.assert_array_equal(at, times[some])
    for wrong in ([13], [-1]):
        with pytest.raises(ValueError, match="from 0 to 12 "):
            hear(path, lambda count, wrong=wrong: np.array(wrong))


def test_long_sound_outgrows_memory_and_stays_right(tmp_path):
    """18 minutes, more than is kept in memory: sample i of the file is i mod 30000."""
    samples = (np.arange(18 * 60 * 16000) % 30000).astype("<i2")
    path = write_wave(tmp_path / "long.wav", samples)
    info, numbers, _, waves = hear(path, lambda count: np.array([0, count // 2, count - 1]))
    assert (info.examples, info.seconds) == (1124, 1080.0)
    for number, one in zip(numbers, waves, strict=True):
        np.testing.assert_array_equal(one * 32768, samples[15360 * number : 15360 * number + 15600])


def test_rate_and_channels_that_change_on_the_way(tmp_path):
    """Two MP3 files end to end, as streams are cut together."""
    first = write_sound(
        tmp_path / "a.mp3", np.stack([sine(44100, 2)] * 2), 44100, "stereo", "libmp3lame"
    )
    second = write_sound(
        tmp_path / "b.mp3", sine(24000, 2, 880.0)[None], 24000, "mono", "libmp3lame"
    )
    both = tmp_path / "both.mp3"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    info, _, _, waves = hear(both)
    assert info.seconds == pytest.approx(4.0, abs=0.15)
    loudest = [np.abs(np.fft.rfft(one)).argmax() * 16000 / 15600 for one in (waves[0], waves[3])]
    np.testing.assert_allclose(loudest, [440, 880], atol=2)
    np.testing.assert_allclose(
        [np.abs(waves[0][1000:-1000]).max(), np.abs(waves[3][4000:-4000]).max()], 0.5, atol=0.03
    )


def test_damaged_sound_says_so(tmp_path):
    path = tmp_path / "cut.wav"
    whole_file = real("references", "logmel_test.wav").read_bytes()
    path.write_bytes(whole_file[: len(whole_file) // 2])
    with pytest.raises(DecodeError, match=r"^truncated: \d+ of \d+ bytes are there$"):
        hear(path)
    path.write_bytes(
        whole_file[:4] + b"\xff" * 4 + whole_file[8:40] + b"\xff" * 4 + whole_file[44:]
    )  # written to a pipe
    assert hear(path)[0] == hear(real("references", "logmel_test.wav"))[0]
    data = bytearray(real("odd", "audio_only.mp4").read_bytes())
    at = data.index(b"mdat") + 4
    data[at + 6000 : at + 9000] = np.random.default_rng(0).bytes(3000)
    path = tmp_path / "hole.mp4"
    path.write_bytes(data)
    with pytest.raises(DecodeError, match=r"^sound damaged after [0-2]\.\d\d s: "):
        hear(path)
    nan = sine(16000, 2)[None]
    nan[0, 5000] = np.nan
    with pytest.raises(DecodeError, match="samples that are not numbers"):
        hear(write_sound(tmp_path / "nan.wav", nan, 16000, "mono", "pcm_f32le"))


def test_a_small_file_cannot_claim_hours_of_sound(tmp_path, monkeypatch):
    """At one sample a second 1,500 bytes would be 25 minutes, and 96 MB."""
    for rate_hz, claim in ((1, "1 sample"), (999, "999 samples")):
        path = write_wave(tmp_path / "slow.wav", np.full(1500, 200, np.uint8), rate_hz)
        with pytest.raises(
            DecodeError, match=f"^its sound has {claim} per second; at least 1,000 are needed$"
        ):
            hear(path)
    slowest = write_wave(tmp_path / "slowest.wav", np.full(1500, 200, np.uint8), 1000)
    info, _, _, waves = hear(slowest)
    assert (info.seconds, info.examples) == (
        pytest.approx(1.5, abs=1e-3),
        1,
    )  # 16 samples out of each
    assert waves[0][2000:-2000].mean() == pytest.approx((200 - 128) / 128, abs=0.01)
    # FLAC writes what stays the same in a few bytes a block, so the length has a limit of its own
    flac = write_sound(tmp_path / "still.flac", np.full((1, 40_000), 0.25), 8000, "mono", "flac")
    monkeypatch.setattr(sound, "_LONGEST_SECONDS", 4.5)
    with pytest.raises(DecodeError, match="^its sound is longer than "):
        hear(flac)
    assert hear(flac, span_seconds=(1.0, 3.0))[0].seconds == 2.0
    monkeypatch.setattr(sound, "_LONGEST_SECONDS", 5.0)
    assert hear(flac)[0].seconds == pytest.approx(5.0, abs=1e-3)


def test_what_cannot_be_opened_says_why(tmp_path):
    for name, reason in (
        ("empty.mp4", "empty file"),
        ("text.mp4", "text or a playlist"),
        ("rand.mp4", "not a video file"),
    ):
        with pytest.raises(DecodeError, match=reason):
            hear(real("odd", name))
    with pytest.raises(FileNotFoundError):
        hear(tmp_path / "gone.wav")
    assert hear(tmp_path)[0] == NOTHING
