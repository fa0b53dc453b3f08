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
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import av
import cv2
import decord
import numpy as np
from av.video.reformatter import VideoReformatter
from rows import Row

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


def pyav_in_order(path: Path) -> Picked:
    """Decode all frames in order and convert the wanted ones with one converter. Relies on the frame
    count in the header."""
    to_rgb = VideoReformatter()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        wanted = set(clip_grid(stream.frames, steps=STEPS).ravel().tolist())
        frames = enumerate(container.decode(stream))
        return {number: _rgb(to_rgb, frame) for number, frame in frames if number in wanted}


def pyav_as_usual(path: Path) -> Picked:
    """The same with a converter for each frame, as most scripts do it."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        wanted = set(clip_grid(stream.frames, steps=STEPS).ravel().tolist())
        frames = enumerate(container.decode(stream))
        return {n: frame.to_ndarray(format="rgb24") for n, frame in frames if n in wanted}


def _rgb(to_rgb: VideoReformatter, frame: av.VideoFrame) -> np.ndarray:
    return to_rgb.reformat(frame, format="rgb24", threads=1).to_ndarray()


def pyav_seeking(path: Path) -> Picked:
    """Seek by time stamp to a point before each wanted frame and decode from there. Frame numbers are
    computed from the average frame rate."""
    picked = {}
    to_rgb = VideoReformatter()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        step = float(1 / stream.average_rate / stream.time_base)
        for number in clip_grid(stream.frames, steps=STEPS).ravel().tolist():
            target = round((stream.start_time or 0) + number * step)
            container.seek(target, stream=stream, backward=True)
            for frame in container.decode(stream):
                if frame.pts >= target - step / 2:
                    picked[number] = _rgb(to_rgb, frame)
                    break
    return picked


def pyav_seeking_to_span(path: Path) -> Picked:
    """Seek by time stamp to a point before the span and decode to the end."""
    picked = {}
    to_rgb = VideoReformatter()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        begin = round((stream.start_time or 0) + end_of(path)[0] / stream.time_base)
        container.seek(begin, stream=stream, backward=True)
        for frame in container.decode(stream):
            if frame.pts >= begin:
                picked[len(picked)] = _rgb(to_rgb, frame)
    return picked


WAYS: dict[str, Callable[[Path], Picked]] = {
    "auto": partial(ours, "auto"),
    "auto, in order": partial(ours, "auto", in_order=True),
    "DECODER=opencv": partial(ours, "opencv"),
    "DECODER=decord": partial(ours, "decord"),
    "PyAV, unchecked": pyav_in_order,
    "PyAV with a converter for each frame, unchecked": pyav_as_usual,
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


@dataclass
class Measured:
    """One way on one kind of file. seconds: CPU time for all files in each round; refused: files
    that it could not read; wrong: frames that differ from those of PyAV in order."""

    seconds: list[float] = field(default_factory=list)
    refused: int = 0
    wrong: int = 0


def measure(paths: list[Path], rounds: int, ways: dict[str, Callable]) -> dict[str, Measured]:
    """Each way on the same files; the ways take turns."""
    right = [ours("auto", path, in_order=True, is_span=ways is SPAN_WAYS) for path in paths]
    found = {way: Measured() for way in ways}
    for turn in range(rounds):
        for measured in found.values():
            measured.seconds.append(0.0)
        for (i, path), (way, run) in itertools.product(enumerate(paths), ways.items()):
            begin = time.process_time()
            try:
                picked = run(path)
            except (DecodeError, decord.DECORDError, av.FFmpegError, TypeError, ZeroDivisionError):
                found[way].refused += turn == 0
                continue
            found[way].seconds[turn] += time.process_time() - begin
            if turn == 0:
                found[way].wrong += sum(_is_wrong(right[i][n], picked.get(n)) for n in right[i])
    return found


def _is_wrong(right: np.ndarray, picked: np.ndarray | None) -> bool:
    return picked is None or bool(np.mean(np.abs(right.astype(int) - picked)) > 2)


def show(name: str, found: dict[str, Measured], files: int) -> None:
    """Print the table of one kind of file."""
    print(f"\n{name}\n  {'CPU ms / video':>14} {'refused':>8} {'wrong frames':>13}")
    for way, measured in found.items():
        read = files - measured.refused
        mean = f"{1000 * min(measured.seconds) / read:.1f}" if read else "-"
        print(f"  {mean:>14} {measured.refused:>8} {measured.wrong:>13}  {way}")


def rows(folder: Path, rounds: int, long_frames: int) -> list[Row]:
    """The rows of `benchmarks/bench.py`. Also prints a table for each kind of file."""
    short = sorted(folder.rglob("*.avi"))[::8]
    found = measure(short, rounds, WAYS)
    name = f"{len(short)} UCF-101 clips"
    show(name, found, len(short))
    table = _rows("decoding 25 frames", name, found, {"PyAV, unchecked": "at least 0.91"})
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "long.mp4"
        loop(short[0], path, long_frames, key_frame_every=250, width=320)
        name = f"H.264 of {long_frames} frames, 320 pixels, a key frame every 250"
        target = {"PyAV seeking, unchecked": "at least 0.77"}
        few = {way: WAYS[way] for way in ("auto", "PyAV seeking, unchecked")}
        span_ways = {way: run for way, run in SPAN_WAYS.items() if way != "auto, in order"}
        for work, ways in (("25 frames", few), (f"the last {SPAN_SECONDS:g} s", span_ways)):
            found = measure([path], rounds, ways)
            show(f"{name}: {work}", found, 1)
            table += _rows(f"decoding {work}", name, found, target)
    return table


def _rows(work: str, on: str, found: dict[str, Measured], targets: dict[str, str]) -> list[Row]:
    mine = found["auto"].seconds
    table = []
    for way, measured in found.items():
        if way == "auto" or measured.refused:  # other files would be compared
            continue
        values = [peer / own for peer, own in zip(measured.seconds, mine, strict=True)]
        note = f"{measured.wrong} wrong frames" if measured.wrong else ""
        table.append(Row(work, way, on, values, targets.get(way, ""), note))
    return table


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
    some = short[::8]
    show(f"{len(some)} short AVI clips", measure(some, rounds, WAYS), len(some))
    with tempfile.TemporaryDirectory() as temporary:
        for width, spacing in itertools.product((320, 640), (25, 250)):
            path = Path(temporary) / f"long{width}_{spacing}.mp4"
            loop(short[0], path, long_frames, spacing, width)
            kind = f"H.264, {width} pixels, {long_frames} frames, a key frame every {spacing}"
            show(kind, measure([path], rounds, WAYS), 1)
            span = f"{kind}: the last {SPAN_SECONDS:g} s"
            show(span, measure([path], rounds, SPAN_WAYS), 1)


if __name__ == "__main__":
    main()
