"""Measures the CPU time of several ways to read 25 frames of a video, or 4 seconds at the end of a
long one, with one thread.

    python benchmarks/decoders.py [CLIPS_FOLDER [ROUNDS [LONG_FRAMES]]]

Also counts the frames that differ from PyAV's.

CLIPS_FOLDER: a folder of AVI videos (default: clips/ucf101 in $REELBANK_TESTDATA). ROUNDS: number of
measurements, of which the lowest counts (default: 1). LONG_FRAMES: length of the long H.264 files,
which are made by repeating one of the clips (default: 3000; 15000 are 10 minutes).
"""

import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import av
import cv2
import decord
import numpy as np

from reelbank.data.video.clips import clip_grid
from reelbank.data.video.frames import DecodeError, decode, probe
from reelbank.data.video.messages import Frames, Restart

STEPS = 25
SPAN_SECONDS = 4.0
Picked = dict[int, np.ndarray]


def ours(decoder: str, path: Path, *, in_order: bool = False, is_span: bool = False) -> Picked:
    """The frames by number, counted from the beginning of the file or of the span."""
    picked: Picked = {}
    messages = decode(
        path,
        np.arange if is_span else partial(clip_grid, steps=STEPS),
        decoder,
        span_seconds=end_of(path) if is_span else None,
        **({"least_skipped_frames": sys.maxsize} if in_order else {}),
    )
    for message in messages:
        if isinstance(message, Restart):
            picked = {}
        elif isinstance(message, Frames):
            picked.update(zip(message.numbers.tolist(), message.pixels, strict=True))
    return picked


def end_of(path: Path) -> tuple[float, float]:
    """The last SPAN_SECONDS of a video."""
    end = probe(path).duration_seconds
    return end - SPAN_SECONDS, end


def bare_opencv(path: Path) -> Picked:
    """Grab all frames and retrieve the wanted ones. Relies on the frame count in the header."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    wanted = set(
        clip_grid(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), steps=STEPS).ravel().tolist()
    )
    picked = {}
    for number in itertools.count():
        if not capture.grab():
            return picked
        if number in wanted:
            picked[number] = cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB)
    raise AssertionError


def bare_decord(path: Path) -> Picked:
    """Read the wanted frames with get_batch, as is usual."""
    video = decord.VideoReader(str(path), num_threads=1)
    wanted = clip_grid(len(video), steps=STEPS).ravel()
    return dict(zip(wanted.tolist(), video.get_batch(wanted).asnumpy(), strict=True))


def pyav_seeking(path: Path) -> Picked:
    """Seek by time stamp to a point before each wanted frame and decode from there. Frame numbers are
    computed from the average frame rate."""
    picked = {}
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        step = float(1 / stream.average_rate / stream.time_base)
        for number in clip_grid(stream.frames, steps=STEPS).ravel().tolist():
            target = round((stream.start_time or 0) + number * step)
            container.seek(target, stream=stream, backward=True)
            for frame in container.decode(stream):
                if frame.pts >= target - step / 2:
                    picked[number] = frame.to_ndarray(format="rgb24")
                    break
    return picked


def pyav_seeking_to_span(path: Path) -> Picked:
    """Seek by time stamp to a point before the span and decode to the end."""
    picked = {}
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        begin = round((stream.start_time or 0) + end_of(path)[0] / stream.time_base)
        container.seek(begin, stream=stream, backward=True)
        for frame in container.decode(stream):
            if frame.pts >= begin:
                picked[len(picked)] = frame.to_ndarray(format="rgb24")
    return picked


WAYS: dict[str, Callable[[Path], Picked]] = {
    "auto": partial(ours, "auto"),
    "auto, in order": partial(ours, "auto", in_order=True),
    "DECODER=opencv": partial(ours, "opencv"),
    "DECODER=decord": partial(ours, "decord"),
    "OpenCV, unchecked": bare_opencv,
    "decord get_batch, unchecked": bare_decord,
    "PyAV seeking, unchecked": pyav_seeking,
}
SPAN_WAYS: dict[str, Callable[[Path], Picked]] = {
    "auto": partial(ours, "auto", is_span=True),
    "auto, in order": partial(ours, "auto", in_order=True, is_span=True),
    "PyAV seeking, unchecked": pyav_seeking_to_span,
}


def loop(source: Path, target: Path, frames: int, key_frame_every: int, width: int) -> None:
    """Write a long H.264 file that repeats the frames of `source`, `width` pixels wide."""
    with av.open(str(source)) as container:
        pictures = []
        for frame in container.decode(video=0):
            height = frame.height * width // frame.width // 2 * 2
            sized = frame.reformat(width=width, height=height, format="yuv420p")
            pictures.append(sized.to_ndarray())
    height, width = pictures[0].shape[0] * 2 // 3, pictures[0].shape[1]
    with av.open(str(target), "w") as container:
        options = {
            "preset": "veryfast",
            "g": str(key_frame_every),
            "keyint_min": str(key_frame_every),
        }
        stream = container.add_stream(
            "libx264", rate=25, width=width, height=height, pix_fmt="yuv420p", options=options
        )
        for number in range(frames):
            container.mux(
                stream.encode(
                    av.VideoFrame.from_ndarray(pictures[number % len(pictures)], format="yuv420p")
                )
            )
        container.mux(stream.encode())


def measure(
    name: str, paths: list[Path], rounds: int, ways: dict[str, Callable[[Path], Picked]] = WAYS
) -> None:
    """Print the table of one kind of file."""
    print(f"\n{name}\n  {'CPU ms / video':>14} {'refused':>8} {'wrong frames':>13}")
    right = [ways["auto, in order"](path) for path in paths]
    cost = {way: [np.inf] * len(paths) for way in ways}
    wrong, refused = dict.fromkeys(ways, 0), dict.fromkeys(ways, 0)
    for turn in range(rounds):
        for (i, path), (way, run) in itertools.product(enumerate(paths), ways.items()):
            begin = time.process_time()
            try:
                picked = run(path)
            except (DecodeError, decord.DECORDError, av.FFmpegError, TypeError, ZeroDivisionError):
                refused[way] += turn == 0
                continue
            cost[way][i] = min(cost[way][i], 1000 * (time.process_time() - begin))
            if turn == 0:
                both = [
                    np.mean(np.abs(right[i][n].astype(int) - picked[n])) > 2
                    for n in right[i]
                    if n in picked
                ]
                wrong[way] += sum(both) + sum(n not in picked for n in right[i])
    for way in ways:
        done = [c for c in cost[way] if np.isfinite(c)]
        mean = f"{np.mean(done):.1f}" if done else "-"
        print(f"  {mean:>14} {refused[way]:>8} {wrong[way]:>13}  {way}")


def main() -> None:
    """Print one table for each kind of file."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    decord.logging.set_level(decord.logging.QUIET)
    cv2.setNumThreads(1)
    testdata = os.environ.get("REELBANK_TESTDATA", "")
    if len(sys.argv) < 2 and not testdata:
        sys.exit("decoders.py: give a folder of AVI videos, or set REELBANK_TESTDATA")
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(testdata) / "clips" / "ucf101"
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    long_frames = int(sys.argv[3]) if len(sys.argv) > 3 else 3000
    short = sorted(folder.rglob("*.avi"))
    if not short:
        sys.exit(f"decoders.py: {folder} contains no AVI videos")
    measure(f"{len(short[::8])} short AVI clips", short[::8], rounds)
    with tempfile.TemporaryDirectory() as temporary:
        for width, spacing in itertools.product((320, 640), (25, 250)):
            path = Path(temporary) / f"long{width}_{spacing}.mp4"
            loop(short[0], path, long_frames, spacing, width)
            kind = f"H.264, {width} pixels, {long_frames} frames, a key frame every {spacing}"
            measure(kind, [path], rounds)
            measure(f"{kind}: the last {SPAN_SECONDS:g} s", [path], rounds, SPAN_WAYS)


if __name__ == "__main__":
    main()
