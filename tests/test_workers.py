"""Decode processes that die, hang or meet bad files: the faulty videos are named and no other video
is affected."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import testdata as real
from conftest import testdata_rows as real_rows

from reelbank.data.errors import InputError
from reelbank.data.video import worker as workers
from reelbank.data.video.clips import clip_grid
from reelbank.data.video.frames import DecodeError, Reading, decode, probe, write_sample
from reelbank.data.video.limits import Limits
from reelbank.data.video.messages import (
    Done,
    Failed,
    Frames,
    Message,
    Restart,
    Sound,
    SoundDone,
    SoundFailed,
    SoundInfo,
    Start,
)
from reelbank.data.video.pool import DecodePool
from reelbank.data.video.sound import read_sound

SPREAD = partial(clip_grid, steps=25)


def kill_self(frames: int) -> np.ndarray:
    os.kill(os.getpid(), signal.SIGKILL)
    return np.arange(frames)


def sleep_forever(frames: int) -> np.ndarray:
    time.sleep(1e6)
    return np.arange(frames)


def stop_self(frames: int) -> np.ndarray:
    os.kill(os.getpid(), signal.SIGSTOP)
    return np.arange(frames)


def crash(frames: int) -> np.ndarray:
    os.kill(os.getpid(), signal.SIGSEGV)
    return np.arange(frames)


def take_all_memory(frames: int) -> np.ndarray:
    limit = 1 << 28
    resource.setrlimit(
        resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY)
    )  # less than the process has
    try:
        return np.empty(1 << 30)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def take_all_files(frames: int) -> np.ndarray:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        return np.asarray(Path(__file__).read_text())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def take_two_seconds(frames: int) -> np.ndarray:
    Path(os.environ["BEGUN"]).touch()
    time.sleep(2)
    return np.arange(frames)


def fail(frames: int) -> np.ndarray:
    raise RuntimeError(f"no selection\nof {frames}")


def outcomes(pool: DecodePool, tasks) -> tuple[dict, dict]:
    """({key: VideoInfo or Failed}, {key: {number: pixels}}); each key must end exactly once, with
    nothing after it."""
    ends, pixels = {}, {}
    for key, message in pool.run(tasks):
        assert key not in ends
        if isinstance(message, Start | Restart):
            pixels[key] = {}
        elif isinstance(message, Frames):
            pixels[key].update(zip(message.numbers.tolist(), message.pixels.copy(), strict=True))
            message.release()
        else:
            assert isinstance(message, Done | Failed)
            ends[key] = message.info if isinstance(message, Done) else message
    return ends, pixels


def taken(run) -> list[tuple]:
    """All messages of a run with their keys, with frames in memory of their own."""
    messages = []
    for key, message in run:
        if isinstance(message, Frames):
            lent, message = message, replace(message, pixels=message.pixels.copy(), loan=None)
            lent.release()
        messages.append((key, message))
    return messages


def same(one: Message, other: Message) -> bool:
    """Whether two messages are equal, arrays with their dtype."""
    if type(one) is not type(other):
        return False
    if not isinstance(one, Frames | Sound):
        return one == other
    names = [field.name for field in fields(one) if field.name != "loan"]
    pairs = [(getattr(one, name), getattr(other, name)) for name in names]
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


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
        assert {name for name, end in ends.items() if isinstance(end, Failed)} == {
            n for n, frames in rows.items() if not frames
        }
        for name, frames in rows.items():
            if frames:
                assert ends[name].frames == int(frames)
                assert sorted(pixels[name]) == sorted(set(SPREAD(int(frames)).ravel().tolist()))
        # what comes through the socket is what decode gives, a clip that is begun again included
        clip = real("clips", "ucf101", "Basketball", "v_Basketball_g16_c03.avi")
        ends, pixels = outcomes(pool, [("clip", clip, Reading(SPREAD))])
        messages = list(decode(clip, SPREAD))
        assert ends["clip"] == messages[-1].info
        own = {
            n: p
            for m in messages[[type(m) for m in messages].index(Restart) :]
            if isinstance(m, Frames)
            for n, p in zip(m.numbers, m.pixels, strict=True)
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
    with DecodePool(2, timeout_seconds=10.0) as pool:
        before = {worker.process.pid for worker in pool.workers}
        ends, pixels = outcomes(pool, mixed)
        assert all(ends[key].frames == 120 and len(pixels[key]) == 25 for key, *_ in good)
        assert {key: ends[key] for key, *_ in tasks} == {
            "abort": Failed("decoder process died (SIGABRT)"),
            "killed": Failed("decoder process died (SIGKILL: out of memory?)", by_machine=True),
            "hung": Failed("decoder process hung: no sign of life for 10 s"),
            "raises": Failed("RuntimeError: no selection of 8"),
            "gone": Failed("cannot be read: No such file or directory", by_machine=True),
            "killed too": Failed("decoder process died (SIGKILL: out of memory?)", by_machine=True),
        }
        after = {worker.process.pid for worker in pool.workers}
        assert len(after) == 2 and not any(alive(pid) for pid in before - after)
    assert not any(alive(pid) for pid in after)


def test_a_death_over_the_sound_costs_no_picture_and_one_over_the_pictures_no_sound(tmp_path):
    clip = real("clips", "ucf101", "SkyDiving", "v_SkyDiving_g22_c02.avi")
    tasks = [
        ("killed by sound", clip, Reading(SPREAD, sound=kill_self)),
        ("hung in sound", clip, Reading(SPREAD, sound=sleep_forever)),
        ("killed by pictures", clip, Reading(kill_self, sound=np.arange)),
        ("sound alone", clip, Reading(None, sound=kill_self)),
        ("by both", clip, Reading(kill_self, sound=kill_self)),
        ("surround", real("faults", "sound", "surround71.mp4"), Reading(SPREAD, sound=np.arange)),
    ]
    messages = {key: [] for key, *_ in tasks}
    with DecodePool(2, timeout_seconds=10.0) as pool:
        for key, message in taken(pool.run(tasks)):
            messages[key].append(message)
    died = ("decoder process died (SIGKILL: out of memory?)", True)
    hung = ("decoder process hung: no sign of life for 10 s", False)
    pictures = [message for message in decode(clip, SPREAD) if isinstance(message, Frames)]
    for key, reason in (("killed by sound", died), ("hung in sound", hung)):
        first, *others, last = messages[key]
        assert first == SoundFailed(*reason) and isinstance(last, Done)
        assert others[0] == Start(last.info.frames)
        for got, right in zip(others[1:], pictures, strict=True):
            assert same(got, right)
    kinds = [type(message) for message in messages["killed by pictures"]]
    assert kinds == [Sound, SoundDone, Start, Failed]
    assert messages["killed by pictures"][-1] == Failed(*died)
    assert messages["sound alone"] == [SoundFailed(*died), Done(probe(clip))]
    assert messages["by both"][0] == SoundFailed(*died)
    assert messages["by both"][-1] == Failed(*died)
    kinds = [type(message) for message in messages["surround"]]
    assert kinds[:3] == [Sound, SoundDone, Start] and kinds[-1] is Done


def test_faults_of_the_machine_are_told_from_those_of_a_video(tmp_path):
    """Real ones: an input/output error, memory and descriptors that have run out, signals from
    outside."""
    sample = write_sample(tmp_path / "sample.avi")
    (tmp_path / "torn.avi").symlink_to("/proc/self/mem")
    images = tmp_path / "images"
    images.mkdir()
    for number in (1, 2):
        (images / f"img_{number}.png").write_bytes(b"no image")
    torn = tmp_path / "torn images"
    torn.mkdir()
    (torn / "img_1.png").write_bytes(b"no image")
    (torn / "img_2.png").symlink_to("nowhere")
    tasks = [
        ("torn", tmp_path / "torn.avi", Reading(SPREAD)),
        ("memory", sample, Reading(take_all_memory)),
        ("files", sample, Reading(take_all_files)),
        ("stopped", sample, Reading(stop_self)),
        ("crash", sample, Reading(crash)),
        ("images", images, Reading(SPREAD)),
        ("torn images", torn, Reading(SPREAD)),
        ("torn sound", tmp_path / "torn.avi", Reading(None, sound=np.arange)),
        ("cut", real("odd", "text.mp4"), Reading(SPREAD)),
    ]
    kinds: dict[str, list] = {}
    with DecodePool(1, timeout_seconds=10.0) as pool:
        for key, message in taken(pool.run(tasks)):
            if isinstance(message, Failed | SoundFailed):
                kinds.setdefault(key, []).append((message.reason, message.by_machine))
    machine = {
        key: messages
        for key, messages in kinds.items()
        if any(by_machine for _, by_machine in messages)
    }
    assert machine == {
        "torn": [("cannot be read: Input/output error", True)],
        "memory": [(machine["memory"][0][0], True)],
        "files": [("cannot be read: Too many open files", True)],
        "stopped": [("decoder process was stopped: no sign of life for 10 s", True)],
        "torn images": [("cannot be read: No such file or directory", True)],
        "torn sound": [("cannot be read: Input/output error", True)] * 2,
    }
    assert {key: len(messages) for key, messages in kinds.items() if key not in machine} == {
        "crash": 1,
        "images": 1,
        "cut": 1,
    }


def test_when_even_a_good_video_fails_the_run_ends(tmp_path):
    text = tmp_path / "text.avi"
    text.write_text("no video")
    with DecodePool(1) as pool:
        ends, _ = outcomes(pool, [("text", text, Reading(SPREAD))])
        assert ends == {"text": Failed("not a video file (text or a playlist)")}
        pool.sample.write_bytes(b"broken")
        with pytest.raises(
            InputError,
            match="a video failed .*text.*, and then a video that is known to be good failed",
        ):
            outcomes(pool, [("text", text, Reading(SPREAD))])
    with DecodePool(1) as pool:
        pool.sample.write_bytes(b"broken")  # before the worker, which is starting, comes to it
        with pytest.raises(
            InputError,
            match="even for a video that is known to be good .*DecodeError: not a video file",
        ):
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
    given = []

    def tasks():
        for number in range(5):
            given.append(number)
            yield number, path, Reading(np.arange)

    with DecodePool(1) as pool:
        run = pool.run(tasks())
        assert next(run) == (0, Start(400))
        frames = 0
        while frames < 400:
            _, message = next(run)
            assert given == [0]
            frames += len(message.numbers)
            message.release()
        status = Path(f"/proc/{pool.workers[0].process.pid}/status").read_text()
        peak_kib = int(status.split("VmHWM:")[1].split()[0])
        assert peak_kib < 250_000  # all frames would be 1,080,000
        run.close()  # left before the end: the pool serves the next run all the same
        sample = write_sample(tmp_path / "sample.avi")
        ends, _ = outcomes(pool, [("sample", sample, Reading(SPREAD))])
        assert ends["sample"].frames == 8


def test_no_process_outlives_a_killed_parent(tmp_path):
    """kill -9 of the parent while one worker decodes, one hangs and one is idle; the script has no
    __main__ guard."""
    sample = write_sample(tmp_path / "sample.avi")
    script = tmp_path / "parent.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_workers import *\n"
        "pool = DecodePool(3)\n"
        "print(pool.folder, *[w.process.pid for w in pool.workers], flush=True)\n"
        f"tasks = [(1, {str(sample)!r}, Reading(sleep_forever)), (2, {str(sample)!r}, Reading(SPREAD))]\n"
        "for key, message in pool.run(tasks): print(type(message).__name__, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        folder, *words = parent.stdout.readline().split()
        pids = [int(word) for word in words]
        assert len(pids) == 3 and Path(folder).exists()
        said = sorted(parent.stdout.readline() for _ in range(4))
        assert said == [
            "Done\n",
            "Frames\n",
            "Start\n",
            "Start\n",
        ]  # one is idle, one is done, one hangs
        assert all(alive(pid) for pid in pids)
        parent.kill()
    assert wait_until(lambda: not any(alive(pid) for pid in pids))
    assert not Path(folder).exists()


def test_a_pause_of_the_whole_command_is_not_a_silent_worker(tmp_path):
    """As a laptop that sleeps, or a scheduler that suspends a job: the command wakes a moment
    before its worker."""
    sample = write_sample(tmp_path / "sample.avi")
    script = tmp_path / "parent.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_workers import *\n"
        "with DecodePool(1, timeout_seconds=3.0) as pool:\n"
        "    list(pool.run([]))\n"
        "    print(pool.workers[0].process.pid, flush=True)\n"
        f"    messages = [m for _, m in pool.run([(1, {str(sample)!r}, Reading(take_two_seconds))])]\n"
        "    print(messages[-1], flush=True)\n"
    )
    begun = tmp_path / "begun"
    env = os.environ | {"BEGUN": str(begun)}
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=env
    ) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert wait_until(begun.exists)
        for pid in (parent.pid, worker):
            os.kill(pid, signal.SIGSTOP)
        time.sleep(4)
        os.kill(parent.pid, signal.SIGCONT)
        time.sleep(0.5)
        os.kill(worker, signal.SIGCONT)
        assert parent.stdout.readline().startswith("Done(")


def test_a_selection_that_cannot_be_loaded_ends_the_run(tmp_path):
    """For example, when it is defined in a notebook or in the script itself: the run stops instead of
    counting every video as failed."""
    sample = write_sample(tmp_path / "sample.avi")
    script = tmp_path / "script.py"
    script.write_text(
        "from reelbank.data.video.frames import Reading\n"
        "from reelbank.data.video.pool import DecodePool\n"
        "def mine(frames): return range(frames)\n"
        "with DecodePool(1) as pool:\n"
        f"    try: list(pool.run([(1, {str(sample)!r}, Reading(mine))]))\n"
        "    except Exception as error: print(type(error).__name__, error)\n"
    )
    said = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False
    ).stdout
    assert said.startswith("InputError the frame selection cannot be loaded in a decoding process")


def test_workers_ignore_ctrl_c_and_leave_it_to_the_parent(tmp_path):
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
        workers.read_sample(real("odd", "two.mp4"), "auto")


def test_sound_comes_first_and_whatever_it_does_the_pictures_come(tmp_path):
    clip = real("clips", "ucf101", "SkyDiving", "v_SkyDiving_g22_c02.avi")
    damaged = tmp_path / "damaged.mkv"  # an AAC track of noise and intact video
    with av.open(str(damaged), "w") as container:
        picture = container.add_stream("mpeg4", rate=25, width=64, height=64, pix_fmt="yuv420p")
        voice = container.add_stream("aac", rate=16000, layout="mono")
        for number in range(10):
            black = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            container.mux(picture.encode(black))
            block = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            block.sample_rate, block.pts = 16000, 1024 * number
            for packet in voice.encode(block):
                noise = av.Packet(np.random.default_rng(number).bytes(200))
                noise.stream, noise.pts, noise.dts, noise.time_base = (
                    voice,
                    packet.pts,
                    packet.dts,
                    packet.time_base,
                )
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
        for key, message in taken(pool.run(tasks)):
            messages[key].append(message)
    kinds = {key: [type(message) for message in own] for key, own in messages.items()}
    assert kinds["both"][:3] == [Sound, SoundDone, Start] and kinds["both"][-1] is Done
    expected = list(read_sound(clip, np.arange, span_seconds=(1.0, 5.0)))
    expected += list(decode(clip, SPREAD, span_seconds=(1.0, 5.0)))
    for got, right in zip(
        messages["both"], expected, strict=True
    ):  # what comes through the socket is what was read
        assert same(got, right)
    assert kinds["sound"] == [Sound, SoundDone, Done]
    assert messages["sound"][-1].info == probe(clip) and len(messages["sound"][0].waves) == 13
    assert messages["mute"][0] == SoundDone(SoundInfo("none", 0.0, 0.0, 0))
    assert kinds["mute"][-1] is Done
    assert kinds["audio file"] == [Sound, SoundDone, Done]
    info = messages["audio file"][-1].info
    assert (info.frames, info.width, info.height, info.audio) == (0, 0, 0, True)
    assert messages["no picture"][-1] == Failed("no video track (audio only)")
    assert kinds["damaged"] == [SoundFailed, Start, Frames, Done]
    assert messages["damaged"][0].reason.startswith("sound damaged after ")
    assert messages["raises"][0] == SoundFailed("RuntimeError: no selection of 13")
    assert kinds["raises"][-1] is Done
    reason = "not a video file (text or a playlist)"
    assert messages["text"] == [SoundFailed(reason), Failed(reason)]


def ends_and_keys(pool: DecodePool, tasks) -> tuple[dict, list]:
    """({key: VideoInfo or reason}, keys in the order of their messages)."""
    ends, keys = {}, []
    for key, message in taken(pool.run(tasks)):
        keys.append(key)
        if isinstance(message, Done | Failed):
            ends[key] = message.info if isinstance(message, Done) else message.reason
    return ends, keys


def meet(folder: Path, own: str, other: str, frames: int) -> np.ndarray:
    """A selection that ends when the other video is being decoded as well."""
    (folder / own).touch()
    while not (folder / other).exists():
        time.sleep(0.01)
    return np.arange(frames)


def test_large_pictures_wait_for_room(tmp_path):
    """64 x 64 = 4,096 pixels each, for two workers."""
    path = write_sample(tmp_path / "video.avi")
    tasks = [(number, path, Reading(np.arange)) for number in range(4)]
    tasks.insert(1, ("dies", path, Reading(kill_self)))
    with DecodePool(2, chunk_frames=1, limits=Limits(in_flight_mpx=0.006)) as pool:
        ends, keys = ends_and_keys(pool, tasks)
        assert ends.pop("dies").startswith("decoder process died") and all(
            info.frames == 8 for info in ends.values()
        )
        keys.remove("dies")  # its start
        changes = sum(a != b for a, b in zip(keys, keys[1:], strict=False) if "dies" not in (a, b))
        assert changes <= 4  # one after the other: no video's messages come among another's
    with DecodePool(2, limits=Limits(in_flight_mpx=0.0085)) as pool:  # two at once
        both = [
            (a, path, Reading(partial(meet, tmp_path, a, b)))
            for a, b in (("one", "two"), ("two", "one"))
        ]
        ends, _ = ends_and_keys(pool, both)
        assert all(info.frames == 8 for info in ends.values())
    with DecodePool(
        2, limits=Limits(in_flight_mpx=0.001)
    ) as pool:  # too little even for one: then it goes alone
        assert len(ends_and_keys(pool, tasks[2:])[0]) == 3


def hold(folder: Path, frames: int) -> np.ndarray:
    """A selection that ends when the folder holds "go"."""
    while not (folder / "go").exists():
        time.sleep(0.01)
    return np.arange(frames)


@pytest.mark.usefixtures("no_waiting")
def test_a_video_that_waits_for_room_does_not_hang(tmp_path):
    """One of two videos waits for longer than TIMEOUT, and goes on when the other one is done."""
    path = write_sample(tmp_path / "video.avi")
    with DecodePool(
        2, timeout_seconds=8.0, chunk_frames=1, limits=Limits(in_flight_mpx=0.006)
    ) as pool:
        list(pool.run([]))  # until both processes are ready
        ends, heard = {}, []
        for key, message in pool.run(
            (number, path, Reading(partial(hold, tmp_path))) for number in range(2)
        ):
            if not heard:
                threading.Timer(
                    0.7, (tmp_path / "go").touch
                ).start()  # by then the other one asks for room
            elif len(heard) == 1:
                time.sleep(9)  # a slow consumer
            heard.append(key)
            if isinstance(message, Frames):
                message.release()
            if isinstance(message, Done | Failed):
                ends[key] = message.info
        assert heard == [heard[0]] * 10 + [1 - heard[0]] * 10
        assert all(info.frames == 8 for info in ends.values())
