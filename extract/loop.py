"""The one loop: decode processes -> uint8 frames -> device: resize, flow, crops, networks, mean over crops -> features.

Every video is decoded once, whatever streams want of it. Everything overlaps: workers decode ahead while the device computes,
results are fetched one batch late, and batches are filled across the borders of videos.
"""

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reelbank.data.decode import Reading, VideoInfo
from reelbank.data.index import ABSENT
from reelbank.data.machine import cores
from reelbank.data.sampling import Examples, Followed, Needed, Sampling
from reelbank.data.sound import SoundInfo
from reelbank.data.workers import DecodePool
from reelbank.extract.batches import ClipBatches
from reelbank.extract.crops import UnfitPicture, resize, take_crops, view_crop
from reelbank.extract.flow import FlowMethod, magnitude, to_uint8
from reelbank.extract.idt import TRACK_FRAMES
from reelbank.extract.logmel import logmel
from reelbank.extract.networks import Network
from reelbank.extract.tracks import Result, Track, place_of_view
from reelbank.extract.trajectory_rows import VideoTrajectories

NO_TRAJECTORY = "nothing in it moves by itself for 15 frames, so it has no trajectory"


@dataclass(frozen=True)
class Stream:
    """One network and what it looks at. `clean` gathers what is shown in `crops` crops, `augmented` the views' one crop.

    The streams "magnitude", whose rows are the mean lengths of flow, and "idt", whose rows are trajectories, have no network:
    network and batches are None.
    """

    name: str
    network: Network | None
    clean: ClipBatches | None
    augmented: ClipBatches | None
    resize_px: int | tuple[int, int]
    interpolation: str

    @property
    def is_flow(self) -> bool:
        return self.name in ("flow", "magnitude")


@dataclass(frozen=True)
class Task:
    """A video to extract: for each stream that lacks it, by number, which rows."""

    key: Any
    path: Path
    rows: dict[int, Sampling | Examples]
    span_seconds: tuple[float, float] | None = None


@dataclass
class _Pictures:
    """What several streams of one video look at: pictures of one size, or the flow between them, until all have used them."""

    is_flow: bool
    as_length: bool  # of flow only its mean length
    resize_px: int | tuple[int, int]
    interpolation: str
    needed: np.ndarray  # numbers of pictures, or of flow fields, ascending
    items: dict[int, Tensor] = field(default_factory=dict)
    last: tuple[int, Tensor] | None = None  # the picture before the next field

    def take(self, numbers: np.ndarray, frames: Tensor, flow: FlowMethod | None) -> None:
        """frames: (n, 3, H, W) uint8 on the device, as decoded."""
        wanted = np.isin(numbers, self.needed)
        if self.is_flow:
            wanted |= np.isin(numbers - 1, self.needed) | ((numbers == 0) & (0 in self.needed))
        if not wanted.any():
            return
        chosen = numbers[wanted].tolist()
        pictures = resize(frames[torch.from_numpy(wanted)], self.resize_px, self.interpolation)  # (n', 3, H', W')
        if not self.is_flow:
            self.items.update(zip(chosen, pictures, strict=True))
            return
        assert flow is not None
        row = [*([self.last] if self.last else []), *zip(chosen, pictures, strict=True)]
        self.last = row[-1]
        fields = set(self.needed.tolist())
        pairs = [(a, b) for a, b in zip(row, row[1:], strict=False) if b[0] == a[0] + 1 and a[0] in fields]
        if pairs:
            self._fields([a[0] for a, _ in pairs], [a[1] for a, _ in pairs], [b[1] for _, b in pairs], flow)

    def only_picture(self, flow: FlowMethod) -> None:
        """A video of one picture: its only field leads from the picture to itself."""
        if self.is_flow and self.last and not self.items and 0 in self.needed:
            self._fields([0], [self.last[1]], [self.last[1]], flow)

    def _fields(self, numbers: list[int], first: list[Tensor], second: list[Tensor], flow: FlowMethod) -> None:
        second = [b if b.shape == a.shape else _as_large(b, a) for a, b in zip(first, second, strict=True)]
        for shape in dict.fromkeys(a.shape for a in first):  # all one, unless the picture's size changes within the video
            at = [i for i, a in enumerate(first) if a.shape == shape]
            found = flow(torch.stack([first[i] for i in at]), torch.stack([second[i] for i in at]))  # (n, 2, H', W')
            values = magnitude(found).cpu() if self.as_length else to_uint8(found)
            self.items.update((numbers[i], value) for i, value in zip(at, values, strict=True))

    def forget(self, before: int) -> None:
        for number in [number for number in self.items if number < before]:
            del self.items[number]


@dataclass
class _Video:
    """One video on its way through."""

    task: Task
    tracks: dict[int, Track]  # by stream
    pictures: dict[tuple, _Pictures] = field(default_factory=dict)
    followed: dict[int, VideoTrajectories] = field(default_factory=dict)  # by stream
    seconds: dict[int, float] = field(default_factory=dict)
    sound: SoundInfo | None = None
    info: VideoInfo | None = None
    refused: str = ""


class Extraction:
    """Extracts features of videos for several streams. `videos` and `frames` count what was decoded; `again` the videos whose
    file promised another number of frames than it holds, so that they were read a second time."""

    def __init__(
        self,
        streams: list[Stream],
        flow: FlowMethod | None,
        device: torch.device,
        dtype: type[np.floating] = np.float16,
        wait_seconds: float = 30.0,
    ) -> None:
        """dtype: of the features given out. A video waits no longer than wait_seconds for its last batch to be filled."""
        self.streams, self.flow, self.device = streams, flow, device
        self.dtype, self.wait_seconds = np.dtype(dtype), wait_seconds
        self.frames, self.videos, self.again = 0, 0, 0
        self.threads: ThreadPoolExecutor | None = None  # while it runs: they follow trajectories

    def run(
        self, tasks: Iterable[Task], pool: DecodePool, decoder: str = "auto"
    ) -> Iterator[tuple[Any, dict[int, Result], VideoInfo | None, SoundInfo | None]]:
        """Yields (key, each wanted stream's Result, what was found in the file) as videos are ready, also those that fail.

        Memory is bounded: at most what the workers have in flight, the clips that wait for their last frame, two batches, and
        the features of the videos under way.
        """
        with ThreadPoolExecutor(cores().value, thread_name_prefix="reelbank-follow") as self.threads:
            yield from self._run(tasks, pool, decoder)

    def _run(
        self, tasks: Iterable[Task], pool: DecodePool, decoder: str
    ) -> Iterator[tuple[Any, dict[int, Result], VideoInfo | None, SoundInfo | None]]:
        under_way: dict[Any, _Video] = {}
        complete: dict[Any, _Video] = {}  # decoded, in that order; features may be on their way
        waiting_since = 0.0

        def readings() -> Iterator[tuple[Any, Path, Reading]]:
            for task in tasks:
                under_way[task.key] = _Video(task, {number: Track(self.dtype) for number in task.rows})
                yield task.key, task.path, reading(task, decoder)

        for key, message in pool.run(readings()):
            video = under_way[key]
            kind, *rest = message
            if kind in ("done", "failed"):
                self._end(video, kind, rest[0])
                waiting_since = waiting_since if complete else time.monotonic()
                complete[key] = under_way.pop(key)
            else:
                self._hear(video, kind, rest)
            if complete and time.monotonic() - waiting_since > self.wait_seconds:
                self._flush()  # some stream's batch fills slowly: few of the videos have sound, say
                waiting_since = time.monotonic()
            yield from self._ready(complete)
        self._flush()
        yield from self._ready(complete)
        assert not complete, f"features of {list(complete)[:3]} never came back"

    def _flush(self) -> None:
        for stream in self.streams:
            for batches in (stream.clean, stream.augmented):
                if batches:
                    batches.finish()

    def _ready(
        self, complete: dict[Any, _Video]
    ) -> Iterator[tuple[Any, dict[int, Result], VideoInfo | None, SoundInfo | None]]:
        for key in [key for key, video in complete.items() if not any(one.missing for one in video.tracks.values())]:
            video = complete.pop(key)
            yield key, {number: track.result() for number, track in video.tracks.items()}, video.info, video.sound

    def _hear(self, video: _Video, kind: str, rest: list[Any]) -> None:
        if kind == "start":
            self._start(video, rest[0])
        elif kind == "restart":  # the file held another number of frames than its header says: begin again
            for number, rows in video.task.rows.items():
                if isinstance(rows, Sampling):
                    video.tracks[number] = Track(self.dtype)
            video.seconds.clear()
            self.again += 1
        elif kind == "frames" and not video.refused:
            try:
                self._see(video, *rest)
            except UnfitPicture as error:
                video.refused = str(error)
        elif kind == "sound":
            self._listen(video, *rest)
        elif kind == "sound done":
            video.sound = rest[0]
            reason = absence(rest[0])
            for number in self._hearing(video) if reason else []:
                video.tracks[number].fail(reason)
        elif kind == "sound failed":
            for number in self._hearing(video):
                video.tracks[number].fail(rest[0])

    def _hearing(self, video: _Video) -> list[int]:
        return [number for number in video.tracks if self.streams[number].name == "audio"]

    def _start(self, video: _Video, frames: int) -> None:
        video.pictures.clear()
        for number, sampling in video.task.rows.items():
            if not isinstance(sampling, Sampling):
                continue
            if isinstance(sampling, Followed):
                assert self.threads is not None
                video.followed[number] = VideoTrajectories(sampling.most, sampling.seed, self.threads)
                continue
            stream = self.streams[number]
            video.tracks[number].start(*sampling.rows(frames), sampling.fields)
            key = (stream.is_flow, stream.name == "magnitude", stream.resize_px, stream.interpolation)
            needed = np.unique(video.tracks[number].grid)
            if key in video.pictures:
                needed = np.union1d(needed, video.pictures[key].needed)
            video.pictures[key] = _Pictures(*key, needed)
            video.tracks[number].pictures = key

    def _see(self, video: _Video, numbers: np.ndarray, seconds: np.ndarray, pixels: np.ndarray) -> None:
        """numbers (n,), seconds (n,), pixels (n, H, W, 3) uint8 of the decoder."""
        frames = torch.from_numpy(pixels)
        if self.device.type == "cuda":
            frames = frames.pin_memory().to(self.device, non_blocking=True)
        frames = frames.permute(0, 3, 1, 2)  # (n, 3, H, W)
        video.seconds.update(zip(numbers.tolist(), seconds.tolist(), strict=True))
        for pictures in video.pictures.values():
            pictures.take(numbers, frames, self.flow)
        for number, followed in video.followed.items():
            resized = resize(frames, self.streams[number].resize_px, self.streams[number].interpolation)  # (n, 3, H', W')
            followed.see(resized.permute(0, 2, 3, 1).contiguous().cpu().numpy())
        self._send_off(video, int(numbers[-1]))

    def _send_off(self, video: _Video, last_number: int) -> None:
        """Send every clip whose pictures are all here; forget pictures that no later clip needs."""
        needed_from: dict[tuple, int] = dict.fromkeys(video.pictures, last_number + 1)
        for number, track in video.tracks.items():
            stream = self.streams[number]
            if stream.name == "audio":
                continue
            last = last_number - stream.is_flow
            while track.waiting and track.waiting[0].numbers.max() <= last:
                clip = track.waiting.popleft()
                items = [video.pictures[track.pictures].items[i] for i in clip.numbers.tolist()]
                if stream.network is None:
                    track.put(clip.rows, [torch.stack(items).numpy()])
                else:
                    self._show(stream, video, track, clip.view, clip.rows, items)
            if track.waiting:
                first = int(track.waiting[0].numbers.min())
                needed_from[track.pictures] = min(needed_from[track.pictures], first)
        for key, pictures in video.pictures.items():
            pictures.forget(needed_from[key])

    def _show(self, stream: Stream, video: _Video, track: Track, view: int, rows: np.ndarray, items: list[Tensor]) -> None:
        """One clip's pictures or fields, (C, H, W) uint8 each, to the batch they belong in."""
        assert stream.network is not None and stream.clean is not None
        crop_px, is_flow = stream.network.preprocessing.crop_px, stream.is_flow
        clip = torch.stack([item if item.shape == items[0].shape else _as_large(item, items[0]) for item in items])
        batches: ClipBatches = stream.clean
        if view:
            assert stream.augmented is not None
            batches = stream.augmented
            sampling = video.task.rows[self.streams.index(stream)]
            assert isinstance(sampling, Sampling)
            cut = view_crop(clip, crop_px, place_of_view(sampling, view), is_flow)  # (s, 1, C, h, w)
        else:
            cut = take_crops(clip, crop_px, batches.crops, is_flow)  # (s, crops, C, h, w)
        # (crops, C, s, h, w), or for image networks (crops, s * C, h, w): of L fields x1 y1 x2 y2 ...
        inputs = cut.permute(1, 2, 0, 3, 4) if stream.network.is_video else cut.transpose(0, 1).flatten(1, 2)
        batches.add(track, rows, inputs)

    def _listen(self, video: _Video, numbers: np.ndarray, seconds: np.ndarray, waves: np.ndarray) -> None:
        """numbers (n,), seconds (n,) centres, waves (n, 15600) float32 of the decoder."""
        examples = logmel(torch.from_numpy(waves).to(self.device))  # (n, 96, 64)
        for number in self._hearing(video):
            batches = self.streams[number].clean
            assert batches is not None
            for example, centre in zip(examples, seconds.tolist(), strict=True):
                batches.add(video.tracks[number], video.tracks[number].append(centre), example[None])

    def _end(self, video: _Video, kind: str, found: Any) -> None:
        looking = [number for number, rows in video.task.rows.items() if isinstance(rows, Sampling)]
        if kind == "failed":
            for number in looking:
                video.tracks[number].fail(found)
            for number in self._hearing(video):
                if video.sound is None and not video.tracks[number].reason:  # the file could not be opened at all
                    video.tracks[number].fail(found)
            return
        video.info = found
        if looking:
            self.videos += 1
            self.frames += found.frames
        for number in looking:
            if video.refused:
                video.tracks[number].fail(video.refused)
        if looking and not video.refused:
            if self.flow is not None and found.frames == 1:
                for pictures in video.pictures.values():
                    pictures.only_picture(self.flow)
            self._send_off(video, found.frames)
            for number in looking:
                if number in video.followed:
                    self._fill(video, number)
                else:
                    video.tracks[number].times(video.seconds)
        video.pictures.clear()
        video.followed.clear()

    def _fill(self, video: _Video, number: int) -> None:
        rows, middles = video.followed[number].rows()
        if not len(rows):
            frames = len(video.seconds)
            short = f"has {frames} frames, and a trajectory goes through {TRACK_FRAMES + 1}"
            video.tracks[number].fail(NO_TRAJECTORY if frames > TRACK_FRAMES else short)
            return
        video.tracks[number].fill(rows, np.array([video.seconds[middle] for middle in middles.tolist()]))


def reading(task: Task, decoder: str) -> Reading:
    """What the decode process is asked for: the pictures that all streams need together, and the sound."""
    samplings = tuple(rows for rows in task.rows.values() if isinstance(rows, Sampling))
    examples = next((rows for rows in task.rows.values() if isinstance(rows, Examples)), None)
    return Reading(Needed(samplings) if samplings else None, decoder, examples, task.span_seconds)


def absence(sound: SoundInfo) -> str:
    """Why a file gives no audio rows although nothing is wrong with it; '' when it gives some."""
    if sound.state == "none":
        return f"{ABSENT}the file has no sound track"
    if sound.state == "short" or not sound.examples:
        return f"{ABSENT}its track of {sound.seconds:.2f} s is shorter than one example (0.975 s)"
    return ""


def _as_large(picture: Tensor, other: Tensor) -> Tensor:
    """Where the picture's size changes within a clip, all take the first one's."""
    return resize(picture[None], (other.shape[-2], other.shape[-1]), "bilinear")[0]
