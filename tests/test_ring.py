"""Memory that decode processes share with their parent: what is lent stays as it is, whatever the
process does, and there is never more of it than the buffers."""

import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import testdata as real
from test_workers import wait_until

from reelbank.data.video.clips import clip_grid
from reelbank.data.video.frames import Reading, decode, write_sample
from reelbank.data.video.limits import Limits
from reelbank.data.video.messages import Done, Failed, Frames, Message
from reelbank.data.video.pool import DecodePool
from reelbank.data.video.process.ring import (
    LARGEST_SLOT_BYTES,
    SLOTS,
    SMALLEST_SLOT_BYTES,
    slot_bytes,
)

SPREAD = partial(clip_grid, steps=25)
PICTURE_BYTES = 64 * 64 * 3  # of the sample


def frames_of(messages: list[Message]) -> dict[int, np.ndarray]:
    """{number: pixels}"""
    pixels: dict[int, np.ndarray] = {}
    for message in messages:
        if isinstance(message, Frames):
            pixels.update(zip(message.numbers.tolist(), message.pixels.copy(), strict=True))
    return pixels


def read(pool: DecodePool, path: Path, select=np.arange) -> dict[int, np.ndarray]:
    """The frames of a video, each released as soon as it is copied."""
    pixels: dict[int, np.ndarray] = {}
    for _, message in pool.run([("video", path, Reading(select))]):
        pixels |= frames_of([message])
        if isinstance(message, Frames):
            message.release()
    return pixels


def same(one: dict[int, np.ndarray], other: dict[int, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[n], other[n]) for n in one)


def test_what_is_lent_outlives_a_killed_decoder_and_its_successor(tmp_path):
    """kill -9 while the consumer has frames: they stay as they are, that video fails, and all others
    are decoded, by the successor with the same buffers, too."""
    clip = real("odd", "bframes.mp4")
    expected = frames_of(list(decode(clip, np.arange)))
    held, ends, pixels = [], {}, {number: {} for number in range(4)}
    with DecodePool(1, chunk_frames=4) as pool:
        for key, message in pool.run((n, clip, Reading(np.arange)) for n in range(4)):
            if isinstance(message, Frames):
                pixels[key] |= frames_of([message])
                if not held:
                    held.append(message)
                    pool.workers[0].process.send_signal(signal.SIGKILL)
                else:
                    message.release()
            if isinstance(message, Done | Failed):
                ends[key] = message
        assert same(frames_of(held), {n: expected[n] for n in range(4)})
        held[0].release()
        assert same(read(pool, clip), expected)
    assert ends[0] == Failed("decoder process died (SIGKILL: out of memory?)", by_machine=True)
    assert all(isinstance(ends[key], Done) and same(pixels[key], expected) for key in (1, 2, 3))


@pytest.mark.parametrize("buffer_bytes", [4096, 3 * PICTURE_BYTES])
def test_a_picture_that_is_larger_than_a_buffer_has_memory_of_its_own(tmp_path, buffer_bytes):
    buffer_bytes = -(-buffer_bytes // 4096) * 4096
    sample = write_sample(tmp_path / "sample.avi")
    expected = frames_of(list(decode(sample, np.arange)))
    with DecodePool(1, limits=Limits(in_flight_mpx=0.001), buffer_bytes=buffer_bytes) as pool:
        files = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(3):
            assert same(read(pool, sample), expected)
        # Nothing is left behind. What other tests left may have been closed meanwhile.
        assert len(list(Path("/proc/self/fd").iterdir())) <= files
        chunks = [
            message
            for _, message in pool.run([("video", sample, Reading(SPREAD))])
            if isinstance(message, Frames) and [message.release()]
        ]
    sizes = {len(chunk.numbers) for chunk in chunks}
    assert sizes == ({1} if buffer_bytes < PICTURE_BYTES else {3, 2})


def test_a_slow_consumer_costs_no_memory(tmp_path):
    """The worker stops when its buffers are full, and goes on when one is released."""
    sample = write_sample(tmp_path / "sample.avi")
    with DecodePool(1, chunk_frames=1) as pool:
        run = pool.run([("video", sample, Reading(np.arange))])
        next(run)  # the start
        lent = [next(run)[1] for _ in range(SLOTS)]
        worker = pool.workers[0].process.pid
        stat = Path(f"/proc/{worker}/stat")
        assert wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "S")
        first = lent[0].pixels.copy()
        lent[1].release()
        _, following = next(run)
        assert np.array_equal(lent[0].pixels, first)  # it got the other one's memory
        assert [message.numbers.tolist() for message in (*lent, following)] == [[0], [1], [2]]
        with pytest.raises(RuntimeError, match="not released"):
            list(run)
        assert len(read(pool, sample)) == 8  # the next run has all buffers


class Copying:
    """A copy to a device that is complete after some questions."""

    def __init__(self, questions: int) -> None:
        self.questions, self.waited = questions, False

    def query(self) -> bool:
        self.questions -= 1
        return self.waited or self.questions < 0

    def synchronize(self) -> None:
        self.waited = True


@pytest.mark.parametrize("questions", [0, 3, 1_000_000])
def test_a_buffer_comes_back_when_its_copy_is_complete(tmp_path, questions):
    sample = write_sample(tmp_path / "sample.avi")
    expected = frames_of(list(decode(sample, np.arange)))
    pixels: dict[int, np.ndarray] = {}
    copies: list[Copying] = []
    with DecodePool(1, chunk_frames=1) as pool:
        for _, message in pool.run([("video", sample, Reading(np.arange))]):
            if isinstance(message, Frames):
                pixels |= frames_of([message])
                copies.append(Copying(questions))
                message.release(copies[-1])
    assert same(pixels, expected)
    if questions != 3:  # then it depends on the decoder's speed
        assert any(copy.waited for copy in copies) == (questions > 3)


def test_buffers_fit_into_the_memory_of_a_container():
    assert slot_bytes(16, 64 << 30) == LARGEST_SLOT_BYTES
    for workers, available_bytes in ((1, 2000 << 20), (16, 2000 << 20), (16, 4 << 30)):
        size = slot_bytes(workers, available_bytes)
        assert SMALLEST_SLOT_BYTES <= size <= LARGEST_SLOT_BYTES and size % 4096 == 0
        assert size * SLOTS * workers <= available_bytes / 8
    assert slot_bytes(64, 100 << 20) == SMALLEST_SLOT_BYTES


SMALL = """
import sys
sys.path.insert(0, sys.argv[1])
from test_ring import *
with DecodePool(2) as pool:
    print(len(read(pool, real("odd", "bframes.mp4"))))
"""


def test_dockers_shared_memory_is_not_used(tmp_path):
    """Nothing may be written to /dev/shm."""
    command = "mount -t tmpfs -o size=64k tmpfs /dev/shm && head -c 64k /dev/zero > /dev/shm/full"
    tried = subprocess.run(
        ["unshare", "-m", "sh", "-c", f'{command}; exec "$@"', "sh", "true"], capture_output=True
    )
    if tried.returncode:
        pytest.skip("no /dev/shm of its own can be mounted here")
    (tmp_path / "small.py").write_text(SMALL)
    words = [sys.executable, str(tmp_path / "small.py"), str(Path(__file__).parent)]
    ended = subprocess.run(
        ["unshare", "-m", "sh", "-c", f'{command}; exec "$@"', "sh", *words],
        capture_output=True,
        text=True,
    )
    assert ended.stdout == "120\n", ended.stderr[-2000:]
