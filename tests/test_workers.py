"""Decode processes that die, hang or meet bad files: the guilty are named and nothing else is touched."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import testdata as real
from conftest import testdata_rows as real_rows

from reelbank.data import workers
from reelbank.data.clips import clip_grid
from reelbank.data.decode import DecodeError, Reading, decode, probe, write_sample
from reelbank.data.errors import InputError
from reelbank.data.sound import SoundInfo, read_sound
from reelbank.data.workers import DecodePool

SPREAD = partial(clip_grid, steps=25)


def kill_self(frames: int) -> np.ndarray:
    os.kill(os.getpid(), signal.SIGKILL)
    return np.arange(frames)


def sleep_forever(frames: int) -> np.ndarray:
    time.sleep(1e6)
    return np.arange(frames)


def fail(frames: int) -> np.ndarray:
    raise RuntimeError(f"no selection\nof {frames}")


def outcomes(pool: DecodePool, tasks) -> tuple[dict, dict]:
    """({key: VideoInfo or reason}, {key: {number: pixels}}); each key must end exactly once, with nothing after it."""
    ends, pixels = {}, {}
    for key, message in pool.run(tasks):
        assert key not in ends
        if message[0] in ("start", "restart"):
            pixels[key] = {}
        elif message[0] == "frames":
            pixels[key].update(zip(message[1].tolist(), message[3], strict=True))
        else:
            assert message[0] in ("done", "failed")
            ends[key] = message[1]
    return ends, pixels


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def wait_until(condition, seconds: float = 30.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def test_every_odd_file_ends_as_it_should_and_none_ends_the_run():
    rows = {row["file"]: row["frames_pyav"] for row in real_rows("odd.csv")}
    with DecodePool(2) as pool:
        ends, pixels = outcomes(pool, ((name, real("odd", name), Reading(SPREAD)) for name in rows))
        assert ends.keys() == rows.keys()
        assert {name for name, end in ends.items() if isinstance(end, str)} == {n for n, frames in rows.items() if not frames}
        for name, frames in rows.items():
            if frames:
                assert ends[name].frames == int(frames)
                assert sorted(pixels[name]) == sorted(set(SPREAD(int(frames)).ravel().tolist()))
        # what comes through the socket is what decode gives, a clip that is begun again included
        clip = real("clips", "ucf101", "Basketball", "v_Basketball_g16_c03.avi")
        ends, pixels = outcomes(pool, [("clip", clip, Reading(SPREAD))])
        messages = list(decode(clip, SPREAD))
        assert ends["clip"] == messages[-1][1]
        own = {
            n: p
            for m in messages[[m[0] for m in messages].index("restart") :]
            if m[0] == "frames"
            for n, p in zip(m[1], m[3], strict=True)
        }
        assert pixels["clip"].keys() == own.keys()
        assert all(np.array_equal(pixels["clip"][n], own[n]) for n in own)


def test_deadly_videos_harm_only_themselves(tmp_path):
    sample = write_sample(tmp_path / "sample.avi")
    tasks = [
        ("abort", real("odd", "avi_hugecount.avi"), Reading(SPREAD, "decord")),
        ("killed", sample, Reading(kill_self)),
        ("hung", sample, Reading(sleep_forever)),
        ("raises", sample, Reading(fail)),
        ("gone", tmp_path / "gone.avi", Reading(SPREAD)),
        ("killed too", sample, Reading(kill_self)),
    ]
    good = [(f"good {i}", real("odd", "bframes.mp4"), Reading(SPREAD)) for i in range(12)]
    mixed = [task for pair in zip(good[::2], tasks, good[1::2], strict=True) for task in pair]
    with DecodePool(2, timeout_seconds=4.0) as pool:
        before = {worker.process.pid for worker in pool.workers}
        ends, pixels = outcomes(pool, mixed)
        assert all(ends[key].frames == 120 and len(pixels[key]) == 25 for key, *_ in good)
        assert {key: ends[key] for key, *_ in tasks} == {
            "abort": "decoder process died (SIGABRT)",
            "killed": "decoder process died (SIGKILL: out of memory?)",
            "hung": "decoder process hung: no sign of life for 4 s",
            "raises": "RuntimeError: no selection of 8",
            "gone": "cannot be read: No such file or directory",
            "killed too": "decoder process died (SIGKILL: out of memory?)",
        }
        after = {worker.process.pid for worker in pool.workers}
        assert len(after) == 2 and not any(alive(pid) for pid in before - after)
    assert not any(alive(pid) for pid in after)


def test_when_even_a_good_video_fails_the_run_ends(tmp_path):
    text = tmp_path / "text.avi"
    text.write_text("no video")
    with DecodePool(1) as pool:
        ends, _ = outcomes(pool, [("text", text, Reading(SPREAD))])
        assert ends == {"text": "not a video file (text or a playlist)"}
        pool.sample.write_bytes(b"broken")
        with pytest.raises(InputError, match="a video failed .*text.*, then a known-good one"):
            outcomes(pool, [("text", text, Reading(SPREAD))])
    with DecodePool(1) as pool:
        pool.sample.write_bytes(b"broken")  # before the worker, which is starting, comes to it
        with pytest.raises(InputError, match="even of a known-good video: .*DecodeError: not a video file"):
            outcomes(pool, [("text", text, Reading(SPREAD))])


def test_an_unknown_decoder_ends_the_run(tmp_path):
    sample = write_sample(tmp_path / "sample.avi")
    with DecodePool(1) as pool, pytest.raises(InputError, match="DECODER=ffmpeg"):
        outcomes(pool, [("sample", sample, Reading(SPREAD, "ffmpeg"))])
    with pytest.raises(InputError, match="WORKERS=0"):
        DecodePool(0)


def test_tasks_are_taken_only_when_a_worker_is_free_and_memory_is_bounded(tmp_path):
    path = tmp_path / "large.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, width=1280, height=720, pix_fmt="yuv420p")
        blank = av.VideoFrame.from_ndarray(np.zeros((720, 1280, 3), dtype=np.uint8), format="rgb24")
        for _ in range(400):
            container.mux(stream.encode(blank))
        container.mux(stream.encode())
    taken = []

    def tasks():
        for number in range(5):
            taken.append(number)
            yield number, path, Reading(np.arange)

    with DecodePool(1) as pool:
        run = pool.run(tasks())
        messages = [next(run) for _ in range(5)]
        assert taken == [0]
        assert messages[0] == (0, ("start", 400))
        frames = sum(len(message[1]) for _, message in messages[1:])
        while frames < 400:
            _, message = next(run)
            frames += len(message[1])
        status = Path(f"/proc/{pool.workers[0].process.pid}/status").read_text()
        peak_kib = int(status.split("VmHWM:")[1].split()[0])
        assert peak_kib < 250_000  # all frames would be 1,080,000
        run.close()  # left before the end: the pool serves the next run all the same
        sample = write_sample(tmp_path / "sample.avi")
        ends, _ = outcomes(pool, [("sample", sample, Reading(SPREAD))])
        assert ends["sample"].frames == 8


def test_no_process_outlives_a_killed_parent(tmp_path):
    """kill -9 of the parent while one worker decodes, one hangs and one is idle; the script has no __main__ guard."""
    sample = write_sample(tmp_path / "sample.avi")
    script = tmp_path / "parent.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_workers import *\n"
        "pool = DecodePool(3)\n"
        "print(pool.folder, *[w.process.pid for w in pool.workers], flush=True)\n"
        f"tasks = [(1, {str(sample)!r}, Reading(sleep_forever)), (2, {str(sample)!r}, Reading(SPREAD))]\n"
        "for key, message in pool.run(tasks): print(message[0], flush=True)\n"
    )
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        folder, *words = parent.stdout.readline().split()
        pids = [int(word) for word in words]
        assert len(pids) == 3 and Path(folder).exists()
        said = sorted(parent.stdout.readline() for _ in range(4))
        assert said == ["done\n", "frames\n", "start\n", "start\n"]  # one is idle, one is done, one hangs
        assert all(alive(pid) for pid in pids)
        parent.kill()
    assert wait_until(lambda: not any(alive(pid) for pid in pids))
    assert not Path(folder).exists()


def test_a_selection_that_cannot_be_loaded_ends_the_run(tmp_path):
    """As when it is written in a notebook or in the script itself: it is no video's fault."""
    sample = write_sample(tmp_path / "sample.avi")
    script = tmp_path / "script.py"
    script.write_text(
        "from reelbank.data.decode import Reading\n"
        "from reelbank.data.workers import DecodePool\n"
        "def mine(frames): return range(frames)\n"
        "with DecodePool(1) as pool:\n"
        f"    try: list(pool.run([(1, {str(sample)!r}, Reading(mine))]))\n"
        "    except Exception as error: print(type(error).__name__, error)\n"
    )
    said = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False).stdout
    assert said.startswith("InputError the frame selection cannot be loaded in a decode process")


def test_ctrl_c_is_the_parents_alone(tmp_path):
    sample = write_sample(tmp_path / "sample.avi")
    with DecodePool(1) as pool:
        list(pool.run([]))
        pool.workers[0].process.send_signal(signal.SIGINT)
        ends, _ = outcomes(pool, [("sample", sample, Reading(SPREAD))])
        assert ends["sample"].frames == 8


def test_a_worker_that_died_idle_costs_no_video(tmp_path):
    sample = write_sample(tmp_path / "sample.avi")
    with DecodePool(2) as pool:
        list(pool.run([]))
        for worker in pool.workers:
            worker.process.kill()
            worker.process.wait()
        ends, _ = outcomes(pool, [(number, sample, Reading(SPREAD)) for number in range(4)])
    assert all(ends[number].frames == 8 for number in range(4))


def test_a_sample_that_decodes_wrongly_is_noticed(tmp_path):
    with pytest.raises(DecodeError):
        workers._read_sample(real("odd", "two.mp4"), "auto")


def test_sound_comes_first_and_whatever_it_does_the_pictures_come(tmp_path):
    clip = real("clips", "ucf101", "SkyDiving", "v_SkyDiving_g22_c02.avi")
    damaged = tmp_path / "damaged.mkv"  # an AAC track of noise beside good pictures
    with av.open(str(damaged), "w") as container:
        picture = container.add_stream("mpeg4", rate=25, width=64, height=64, pix_fmt="yuv420p")
        voice = container.add_stream("aac", rate=16000, layout="mono")
        for number in range(10):
            black = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            container.mux(picture.encode(black))
            block = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            block.sample_rate, block.pts = 16000, 1024 * number
            for packet in voice.encode(block):
                noise = av.Packet(np.random.default_rng(number).bytes(200))
                noise.stream, noise.pts, noise.dts, noise.time_base = voice, packet.pts, packet.dts, packet.time_base
                container.mux(noise)
        container.mux(picture.encode())
    tasks = [
        ("both", clip, Reading(SPREAD, sound=np.arange, span_seconds=(1.0, 5.0))),
        ("sound", clip, Reading(None, sound=np.arange)),
        ("mute", real("odd", "bframes.mp4"), Reading(SPREAD, sound=np.arange)),
        ("audio file", real("odd", "audio_only.mp3"), Reading(None, sound=np.arange)),
        ("no picture", real("odd", "audio_only.mp3"), Reading(SPREAD, sound=np.arange)),
        ("damaged", damaged, Reading(SPREAD, sound=np.arange)),
        ("raises", clip, Reading(SPREAD, sound=fail)),
        ("text", real("odd", "text.mp4"), Reading(None, sound=np.arange)),
    ]
    messages = {key: [] for key, *_ in tasks}
    with DecodePool(2) as pool:
        for key, message in pool.run(tasks):
            messages[key].append(message)
    kinds = {key: [message[0] for message in own] for key, own in messages.items()}
    assert kinds["both"][:3] == ["sound", "sound done", "start"] and kinds["both"][-1] == "done"
    expected = list(read_sound(clip, np.arange, span_seconds=(1.0, 5.0)))
    expected += list(decode(clip, SPREAD, span_seconds=(1.0, 5.0)))
    for got, right in zip(messages["both"], expected, strict=True):  # what comes through the socket is what was read
        assert all(
            np.array_equal(a, b) and getattr(a, "dtype", 0) == getattr(b, "dtype", 0) for a, b in zip(got, right, strict=True)
        )
    assert kinds["sound"] == ["sound", "sound done", "done"]
    assert messages["sound"][-1][1] == probe(clip) and len(messages["sound"][0][3]) == 13
    assert messages["mute"][0] == ("sound done", SoundInfo("none", 0.0, 0.0, 0)) and kinds["mute"][-1] == "done"
    assert kinds["audio file"] == ["sound", "sound done", "done"]
    info = messages["audio file"][-1][1]
    assert (info.frames, info.width, info.height, info.audio) == (0, 0, 0, True)
    assert messages["no picture"][-1] == ("failed", "no video track (audio only)")
    assert messages["damaged"][0][0] == "sound failed" and messages["damaged"][0][1].startswith("sound damaged after ")
    assert kinds["damaged"][1:] == ["start", "frames", "done"]
    assert messages["raises"][0] == ("sound failed", "RuntimeError: no selection of 13") and kinds["raises"][-1] == "done"
    reason = "not a video file (text or a playlist)"
    assert messages["text"] == [("sound failed", reason), ("failed", reason)]
