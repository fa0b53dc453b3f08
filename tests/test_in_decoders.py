"""Flow of OpenCV and trajectories are computed in decode processes: the same features as in this
process, whatever the videos and the processes do."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import testdata as real
from conftest import writable_copy
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_functions import Sums, few

from reelbank.data.options import parse
from reelbank.data.store.reader import Store
from reelbank.data.video.frames import Reading, decode, write_sample
from reelbank.data.video.functions import UnfitPicture
from reelbank.data.video.limits import Limits
from reelbank.data.video.messages import Computed, Done, Failed, Frames, Message, NotComputed, Times
from reelbank.data.video.pool import DecodePool
from reelbank.data.video.sampling import Followed, Sampling
from reelbank.extract.flow.methods import build_flow
from reelbank.extract.in_decoders.fields import FlowFields
from reelbank.extract.in_decoders.resize import resize_picture
from reelbank.extract.in_decoders.trajectories import TrajectoryRows
from reelbank.extract.networks.preprocessing import Resize
from reelbank.extract.options import ExtractOptions
from reelbank.extract.pipeline.crops import resize
from reelbank.extract.run import extract
from reelbank.extract.trajectories.rows import VideoTrajectories

CLIP = ("clips", "ucf101", "HorseRiding", "v_HorseRiding_g01_c03.avi")
SIDES = st.integers(2, 90)


def received(pool: DecodePool, tasks) -> dict[str, list[Message]]:
    """The messages of each task; arrays are copied and released."""
    messages: dict[str, list[Message]] = {}
    for key, message in pool.run(tasks):
        if isinstance(message, Computed):
            lent, message = (
                message,
                Computed(message.function, message.numbers, message.values.copy()),
            )
            lent.release()
        elif isinstance(message, Frames):
            lent, message = (
                message,
                Frames(message.numbers, message.seconds, message.pixels.copy()),
            )
            lent.release()
        messages.setdefault(key, []).append(message)
    return messages


def results(messages: list[Message], function: int = 0) -> dict[int, np.ndarray]:
    """The results of a function by their numbers, each of which must come once."""
    values: dict[int, np.ndarray] = {}
    for message in messages:
        if isinstance(message, Computed) and message.function == function:
            assert not values.keys() & set(message.numbers.tolist())
            values |= dict(zip(message.numbers.tolist(), message.values, strict=True))
    return values


@settings(max_examples=60, deadline=None)
@given(
    old_px=st.tuples(SIDES, SIDES),
    new_px=st.one_of(SIDES, st.tuples(SIDES, SIDES)),
    interpolation=st.sampled_from(["bilinear", "bicubic", "nearest"]),
    antialias=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_a_decode_process_resizes_to_the_same_bytes(
    old_px, new_px, interpolation, antialias, seed
) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (*old_px, 3), dtype=np.uint8)
    how = Resize(new_px, interpolation, antialias)
    try:
        expected = resize(torch.from_numpy(picture).movedim(-1, 0)[None], how)[0].movedim(0, -1)
    except UnfitPicture as error:
        with pytest.raises(UnfitPicture, match=str(error)):
            resize_picture(picture, how)
        return
    np.testing.assert_array_equal(resize_picture(picture, how), expected.numpy())


@pytest.mark.parametrize("method", ["dis", "farneback"])
@pytest.mark.parametrize("buffer_bytes", [None, 4096])  # 4096: each field has memory of its own
def test_a_decode_process_returns_the_flow_of_the_resized_pictures(method, buffer_bytes) -> None:
    clip, how = real(*CLIP), Resize(70)
    frames = [message for message in decode(clip, np.arange) if isinstance(message, Frames)]
    pictures = resize(
        torch.from_numpy(np.concatenate([message.pixels for message in frames])).movedim(-1, 1), how
    )
    seconds = np.concatenate([message.seconds for message in frames])
    sampling = Sampling(clip_frames=3, steps=4, fields=True)
    numbers = np.unique(sampling.rows(len(pictures)).numbers)
    fields = build_flow(method, "cpu")(pictures[numbers], pictures[numbers + 1]).numpy()
    reading = Reading(None, functions=[FlowFields(method, how, (sampling,))])
    with DecodePool(1, buffer_bytes=buffer_bytes) as pool:
        messages = received(pool, [("video", clip, reading)])["video"]
    assert isinstance(messages[-1], Done) and messages[-1].info.frames == len(pictures)
    assert not any(isinstance(message, Frames) for message in messages)  # no picture is sent
    computed = results(messages)
    assert list(computed) == numbers.tolist()
    np.testing.assert_array_equal(np.stack([*computed.values()]), fields)
    times = [message for message in messages if isinstance(message, Times)]
    needed = np.union1d(numbers, numbers + 1)
    assert np.concatenate([message.numbers for message in times]).tolist() == needed.tolist()
    np.testing.assert_array_equal(
        np.concatenate([message.seconds for message in times]), seconds[needed]
    )


def test_pictures_and_several_functions_come_from_one_decoding() -> None:
    """Only the selected pictures are sent. The trajectories are those that this process follows."""
    clip = real(*CLIP)
    functions = [Sums(), TrajectoryRows(Followed(most=50, seed=1), Resize(36))]
    with DecodePool(1) as pool:
        messages = received(pool, [("video", clip, Reading(few, functions=functions))])
    sent = [message for message in messages["video"] if isinstance(message, Frames)]
    expected = [message for message in decode(clip, np.arange) if isinstance(message, Frames)]
    pixels = np.concatenate([message.pixels for message in expected])
    assert np.concatenate([message.numbers for message in sent]).tolist() == [0, 7, 40]
    np.testing.assert_array_equal(
        np.concatenate([message.pixels for message in sent]), pixels[[0, 7, 40]]
    )
    sums = results(messages["video"], 0)
    assert list(sums) == list(range(len(pixels)))
    assert [int(value[0]) for value in sums.values()] == pixels.sum((1, 2, 3)).tolist()
    followed = VideoTrajectories(50, 1)
    for picture in pixels:
        followed.see(resize_picture(picture, Resize(36)))
    rows, middles = followed.rows()
    computed = [
        message
        for message in messages["video"]
        if isinstance(message, Computed) and message.function == 1
    ]
    np.testing.assert_array_equal(np.concatenate([message.values for message in computed]), rows)
    np.testing.assert_array_equal(
        np.concatenate([message.numbers for message in computed]), middles
    )


def test_a_function_that_fails_costs_nothing_else(tmp_path) -> None:
    sample = write_sample(tmp_path / "sample.avi")
    functions = [Sums("fail"), Sums(), Sums("refuse"), Sums("refuse to begin")]
    with DecodePool(1) as pool:
        messages = received(pool, [("video", sample, Reading(np.arange, functions=functions))])
    failures = [message for message in messages["video"] if isinstance(message, NotComputed)]
    assert failures == [
        NotComputed(3, "too short"),
        NotComputed(0, "could not be computed: ValueError: no picture here"),
        NotComputed(2, "too plain"),
    ]
    assert list(results(messages["video"], 1)) == list(range(8))
    pictures = sum(
        len(message.numbers) for message in messages["video"] if isinstance(message, Frames)
    )
    assert pictures == 8 and isinstance(messages["video"][-1], Done)


def test_deadly_functions_harm_only_their_video(tmp_path) -> None:
    sample = write_sample(tmp_path / "sample.avi")
    doing = "while it decoded the video and computed optical flow or trajectories"
    ends = {
        "be killed": Failed(
            f"decoder process died (SIGKILL: out of memory?) {doing}", by_machine=True
        ),
        "crash": Failed(f"decoder process died (SIGSEGV) {doing}"),
        "sleep": Failed(f"decoder process hung: no sign of life for 10 s {doing}"),
    }
    tasks = []
    for number, deed in enumerate(ends):
        tasks.append((deed, sample, Reading(None, functions=[Sums(deed)])))
        tasks += [((number, i), sample, Reading(None, functions=[Sums()])) for i in range(3)]
    with DecodePool(2, timeout_seconds=10.0) as pool:
        messages = received(pool, tasks)
    assert {deed: messages[deed][-1] for deed in ends} == ends
    good = [key for key in messages if key not in ends]
    assert len(good) == 9
    assert all(isinstance(messages[key][-1], Done) for key in good)
    assert all(list(results(messages[key])) == list(range(8)) for key in good)


def test_a_decoder_that_is_killed_over_the_flow_of_a_video(tmp_path) -> None:
    """What it had computed stays as it is; other videos are complete, by its successor too."""
    clip = real(*CLIP)
    function = FlowFields("dis", Resize(64), (Sampling(fields=True),))
    held, ends, fields = [], {}, {number: {} for number in range(3)}
    with DecodePool(1, chunk_frames=4) as pool:
        for key, message in pool.run(
            (number, clip, Reading(None, functions=[function])) for number in range(3)
        ):
            if isinstance(message, Computed):
                fields[key] |= dict(
                    zip(message.numbers.tolist(), message.values.copy(), strict=True)
                )
                if not held:
                    held.append(message)
                    pool.workers[0].process.send_signal(signal.SIGKILL)
                else:
                    message.release()
            if isinstance(message, Done | Failed):
                ends[key] = message
        for number, field in zip(held[0].numbers.tolist(), held[0].values, strict=True):
            np.testing.assert_array_equal(field, fields[1][number])
        held[0].release()
    died = "decoder process died (SIGKILL: out of memory?)"
    doing = "while it decoded the video and computed optical flow or trajectories"
    assert ends[0] == Failed(f"{died} {doing}", by_machine=True)
    assert isinstance(ends[1], Done) and isinstance(ends[2], Done)
    assert len(fields[1]) == ends[1].info.frames - 1
    assert all(np.array_equal(fields[1][number], fields[2][number]) for number in fields[1])


def test_computing_is_not_slow_decoding(tmp_path) -> None:
    """SLOWNESS limits only the processor time of decoding."""
    sample = write_sample(tmp_path / "sample.avi")
    reading = Reading(None, functions=[Sums("compute")])
    with DecodePool(1, chunk_frames=1, limits=Limits(slowness=0.2)) as pool:  # 0.9 s
        messages = received(pool, [("video", sample, reading)])
    assert isinstance(messages["video"][-1], Done)


def test_decode_processes_do_not_import_torch() -> None:
    """It would take each of them seconds and much memory."""
    code = (
        "import sys; import reelbank.extract.in_decoders.fields, "
        "reelbank.extract.in_decoders.trajectories; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# The same streams, computed in this process.
HERE = """
from reelbank.data.video.sampling import Followed
from reelbank.extract.streams.flow import Flow
from reelbank.extract.streams.idt import ImprovedTrajectories
from reelbank.extract.streams.magnitude import Magnitude
from reelbank.extract.trajectories.rows import VideoTrajectories


class FlowHere(Flow):
    is_of_flow = False


class MagnitudeHere(Magnitude):
    is_of_flow = False


class Follower:
    def __init__(self, followed):
        self._trajectories = VideoTrajectories(followed.most, followed.seed)

    def see(self, pictures):
        for picture in pictures:
            self._trajectories.see(picture)

    def rows(self):
        return self._trajectories.rows()


class IdtHere(ImprovedTrajectories):
    def picture_function(self, samplings, resize, flow):
        return None

    def follower(self, clips, threads):
        assert isinstance(clips, Followed)
        return Follower(clips)
"""
NETWORK = (
    "EXTRACTOR=torchvision:resnet18",
    "WEIGHTS=random",
    "CROPS=5",
    "T=3",
    "RESIZE=48",
    "SIZE=40",
)
ODD = ("reschange.ts", "one.mp4", "two.mp4", "s4097x2.mp4", "s3x5.mkv", "rot90.mp4", "rand.mp4")


def stored(bank: Path, videos: Path, *words: str) -> dict[str, tuple]:
    """By video: its rows, or the reason of its failure; of the store that these options make."""
    given = (f"ROOT={videos}", f"BANK={bank}", "DATASET=folder", "DEVICE=cpu", *words)
    extract(parse(ExtractOptions, [*given], "extract"))
    (path,) = (bank / "stores").glob("*.h5")
    with Store.open(path) as store:
        features = {
            video_id: tuple(np.ravel(store.load([video_id])[0])) for video_id in store.video_ids
        }
        times = {video_id: tuple(store.times_seconds(video_id)) for video_id in store.video_ids}
        failures = {video_id: (str(failure),) for video_id, failure in store.failures.items()}
    return {video_id: (features[video_id], times[video_id]) for video_id in features} | failures


@pytest.mark.parametrize(
    ("name", "here", "words"),
    [
        ("flow", "FlowHere", ("FLOW=dis", *NETWORK)),
        pytest.param(
            *("flow", "FlowHere", ("FLOW=farneback", "VIEWS=1", *NETWORK)), marks=pytest.mark.long
        ),
        ("magnitude", "MagnitudeHere", ("FLOW=dis", "RESIZE=40")),
        pytest.param(
            *("idt", "IdtHere", ("RESIZE=48", "TRAJECTORIES=100")), marks=pytest.mark.long
        ),
    ],
)
def test_the_features_are_those_that_this_process_computes(tmp_path, name, here, words) -> None:
    """Of a real clip and odd videos: changing sizes, one picture, too flat, too small."""
    for folder in ("odd", "real"):
        (tmp_path / "videos" / folder).mkdir(parents=True)
    for file in ODD:
        writable_copy(real("odd", file), tmp_path / "videos" / "odd" / file)
    writable_copy(real(*CLIP), tmp_path / "videos" / "real" / "clip.avi")
    code = tmp_path / "here.py"
    code.write_text(HERE)
    by_decoders = stored(tmp_path / "a", tmp_path / "videos", f"STREAM={name}", "WORKERS=3", *words)
    by_this = stored(
        tmp_path / "b", tmp_path / "videos", f"STREAM={code}:{here}", "WORKERS=1", *words
    )
    assert len(by_decoders) == len(ODD) + 1
    assert by_decoders.keys() == by_this.keys()
    for video_id, expected in by_this.items():
        if name == "idt" and len(by_decoders[video_id]) == 1:
            continue  # its own reasons for a video without trajectories
        assert by_decoders[video_id] == expected
