"""A span of a video contains the frames whose times lie in it, whatever the file's packets
announce."""

import numpy as np
import pytest
from conftest import testdata as real
from conftest import testdata_rows as real_rows
from test_decode import burned

from reelbank.data.video.frames import DecodeError, decode
from reelbank.data.video.messages import Frames, Start


def last_reading(path, select=np.arange, **options):
    """(info, numbers, times, pictures) of the reading that counts."""
    messages = list(decode(path, select, **options))
    begin = max(i for i, message in enumerate(messages) if isinstance(message, Start))
    frames = [message for message in messages[begin:] if isinstance(message, Frames)]
    assert messages[begin].frames == messages[-1].info.frames
    numbers = np.concatenate([message.numbers for message in frames])
    times = np.concatenate([message.seconds for message in frames])
    return (
        messages[-1].info,
        numbers,
        times,
        [picture for message in frames for picture in message.pixels],
    )


def check_span(path, first, end):
    """The span from the time of frame `first` to that of `end`, against the whole reading."""
    whole, _, times, pictures = last_reading(path)
    span = (float(times[first]), float(times[end]))
    info, numbers, got_times, got = last_reading(path, span_seconds=span)
    inside = np.flatnonzero((times >= span[0]) & (times < span[1]))
    assert info.frames == len(inside) and numbers.tolist() == list(range(len(inside))), path.name
    np.testing.assert_array_equal(got_times, times[inside])
    assert all(np.array_equal(got[n], pictures[k]) for n, k in enumerate(inside)), path.name
    assert (info.height, info.width) == pictures[inside[0]].shape[:2] and info.fps == whole.fps


def test_every_odd_file_gives_the_frames_of_a_span():
    seen = 0
    for row in real_rows("odd.csv"):
        frames = int(row["frames_pyav"] or 0)
        if 3 < frames < 400 and row["file"] != "fps1000.mp4":
            check_span(real("odd", row["file"]), frames // 3, frames - frames // 4)
            seen += 1
    assert seen > 60


def test_burned_numbers_of_a_span():
    info, numbers, times, got = last_reading(real("odd", "bframes.mp4"), span_seconds=(1.0, 2.0))
    assert (info.frames, info.duration_seconds) == (25, pytest.approx(1.0))
    np.testing.assert_allclose(times, np.arange(25, 50) / 25)
    assert [burned(picture) for picture in got] == list(range(25, 50))
    _, numbers, _, got = last_reading(
        real("odd", "bframes.mp4"), lambda n: np.array([0, n - 1]), span_seconds=(3.2, 99.0)
    )
    assert (numbers.tolist(), [burned(picture) for picture in got]) == ([0, 39], [80, 119])


def test_clips_whose_packets_promise_too_many_frames():
    for name in ("Basketball/v_Basketball_g13_c01", "TennisSwing/v_TennisSwing_g05_c04"):
        path = real("clips", "ucf101", f"{name}.avi")
        frames = last_reading(path)[0].frames
        for first, end in ((0, 9), (frames // 2, frames - 10), (frames - 9, frames - 1)):
            check_span(path, first, end)


def test_what_comes_behind_a_span_is_not_decoded():
    path = real("odd", "longgop.mp4")

    def calls(**options):
        counted = []
        nothing = lambda frames: np.zeros(0)  # noqa: E731
        options["least_skipped_frames"] = 1 << 40  # in order; seeking: test_seeking.py
        list(decode(path, nothing, alive=lambda: counted.append(1), **options))
        return len(counted)

    assert calls() - calls(span_seconds=(0.0, 1.0)) > 0.9 * calls()


@pytest.mark.parametrize("span", [(3.201, 3.239), (500.0, 600.0), (-5.0, 0.0), (2.0, 1.0)])
def test_a_span_without_frames(span):
    with pytest.raises(DecodeError, match=rf"^no frame between {span[0]:.2f} and {span[1]:.2f} s$"):
        list(decode(real("odd", "bframes.mp4"), np.arange, span_seconds=span))
