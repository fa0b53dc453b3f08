"""The one loop: decode processes -> uint8 frames -> device: resize, crops, network, mean over crops -> a video's features.

Everything overlaps: workers decode ahead while the device computes, results are fetched one batch late, and batches are
filled across the borders of videos.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reelbank.data import clips
from reelbank.data.clips import Sampling
from reelbank.data.decode import VideoInfo
from reelbank.data.workers import DecodePool
from reelbank.extract.crops import UnfitPicture, resize, take_crops
from reelbank.extract.networks import Network


@dataclass(frozen=True)
class Views:
    """What the network is shown of each clip."""

    crops: int  # 1, 5 or 10
    keep_crops: bool  # rows (crops, D) instead of their mean (D,)


@dataclass
class _Clip:
    frames: np.ndarray  # (s,) frame numbers
    rows: np.ndarray  # the rows of the video that this clip fills: K < T repeats clips, computed once


@dataclass
class _Video:
    """One video on its way through: frames wait until their last clip has been sent off."""

    rows: int
    waiting: deque[_Clip]
    grid: np.ndarray  # (K, s)
    pixels: dict[int, torch.Tensor] = field(default_factory=dict)  # resized, (3, H, W) uint8 on the device
    seconds: dict[int, float] = field(default_factory=dict)
    values: list[np.ndarray] = field(default_factory=list)  # per node (K, ...) float32
    missing: int = 0  # clips whose features have not come back
    info: VideoInfo | None = None

    @classmethod
    def start(cls, grid: np.ndarray) -> "_Video":
        starts, first, inverse = np.unique(grid[:, 0], return_index=True, return_inverse=True)
        waiting = deque(_Clip(grid[first[i]], np.flatnonzero(inverse == i)) for i in range(len(starts)))
        return cls(rows=len(grid), waiting=waiting, grid=grid, missing=len(waiting))

    def times_seconds(self) -> np.ndarray:
        """Centres of the clips, (K,) float64."""
        return clips.clip_times(np.vectorize(self.seconds.__getitem__, otypes=[float])(self.grid))


class ClipBatches:
    """Gathers clips of any video into batches of one fixed shape and brings their features back.

    The shape is always the same (the last batch is filled up with zeros), so a clip's features do not depend on its
    neighbours. Each clip is `crops` network inputs; their mean is taken on the device in float32 (Res-LSTM paper, eq. 5).
    """

    def __init__(self, forward: Callable, network: Network, views: Views, clip_frames: int, batch: int, device: torch.device):
        crop_px = network.preprocessing.crop_px
        h, w = (crop_px, crop_px) if isinstance(crop_px, int) else crop_px
        shape = (views.crops, 3, clip_frames, h, w) if network.is_video else (views.crops, 3, h, w)
        self.capacity = max(1, batch // views.crops)  # whole clips
        self.buffer = torch.zeros((self.capacity, *shape), dtype=torch.uint8, device=device)
        self.forward, self.views = forward, views
        self.tags: list[tuple[_Video, np.ndarray]] = []
        self.flying: deque[tuple[list[tuple[_Video, np.ndarray]], list[torch.Tensor], torch.cuda.Event | None]] = deque()

    def add(self, video: _Video, rows: np.ndarray, pixels: torch.Tensor) -> None:
        """pixels: (crops, 3, [s,] h, w) uint8 of one clip."""
        self.buffer[len(self.tags)] = pixels
        self.tags.append((video, rows))
        if len(self.tags) == self.capacity:
            self._launch()

    def _launch(self) -> None:
        count = len(self.tags)
        self.buffer[count:] = 0
        outputs = self.forward(self.buffer.flatten(0, 1))  # (clips * crops, 3, [s,] h, w) -> tuple of (clips * crops, ...)
        results = []
        for output in outputs:
            per_crop = output.unflatten(0, (self.capacity, self.views.crops))[:count]  # (clips, crops, ...)
            features = per_crop if self.views.keep_crops else per_crop.mean(1)
            results.append(features.to("cpu", non_blocking=True))
        event = None
        if self.buffer.is_cuda:
            event = torch.cuda.Event()
            event.record(torch.cuda.current_stream(self.buffer.device))
        self.flying.append((self.tags, results, event))
        self.tags = []
        while len(self.flying) > 1:  # one batch late: the device computes the next while this one is put away
            self._land()

    def _land(self) -> None:
        tags, results, event = self.flying.popleft()
        if event is not None:
            event.synchronize()
        arrays = [result.numpy() for result in results]
        for i, (video, rows) in enumerate(tags):
            if not video.values:
                video.values = [np.empty((video.rows, *array.shape[1:]), np.float32) for array in arrays]
            for value, array in zip(video.values, arrays, strict=True):
                value[rows] = array[i]
            video.missing -= 1

    def finish(self) -> None:
        """Send off the batch that is not full and wait for everything."""
        if self.tags:
            self._launch()
        while self.flying:
            self._land()


def extract_videos(
    tasks: Iterable[tuple[Any, Path]],
    pool: DecodePool,
    sampling: Sampling,
    network: Network,
    batches: ClipBatches,
    decoder: str,
) -> Iterator[tuple[Any, list[np.ndarray] | str, np.ndarray, VideoInfo | None]]:
    """Features of each video as they are ready.

    tasks: (key, path). Yields (key, per node (K, ...) float32, times in seconds (K,), info), or (key, reason, [], None)
    for a video that could not be decoded. Memory is bounded: at most what the workers have in flight, the clips that wait
    for their last frame, two batches, and the features of the videos under way.
    """
    device = batches.buffer.device
    under_way: dict[Any, _Video] = {}  # decoding
    decoded: dict[Any, _Video] = {}  # features still on the device
    refused: set[Any] = set()

    def ready() -> Iterator[tuple[Any, list[np.ndarray] | str, np.ndarray, VideoInfo | None]]:
        for key in [key for key, video in decoded.items() if not video.missing]:
            video = decoded.pop(key)
            yield key, video.values, video.times_seconds(), video.info

    for key, message in pool.run((key, path, sampling, decoder) for key, path in tasks):
        kind = message[0]
        if key in refused:  # its other messages are still coming
            continue
        if kind == "start":
            under_way[key] = _Video.start(sampling(message[1]))
        elif kind == "restart":  # the file held another number of frames than its header says: begin again
            under_way.pop(key, None)
        elif kind == "frames":
            _, numbers, seconds, pixels = message
            video = under_way[key]
            try:
                frames = _to_device(pixels, network, device)
            except UnfitPicture as error:
                refused.add(key)
                under_way.pop(key)
                yield key, str(error), np.empty(0), None
                continue
            video.pixels.update(zip(numbers.tolist(), frames, strict=True))
            video.seconds.update(zip(numbers.tolist(), seconds.tolist(), strict=True))
            _send_off(video, int(numbers[-1]), network, batches)
        elif kind == "failed":
            under_way.pop(key, None)
            yield key, message[1], np.empty(0), None
        elif kind == "done":
            video = under_way.pop(key)
            video.info = message[1]
            decoded[key] = video
        yield from ready()
    batches.finish()
    yield from ready()


def _to_device(pixels: np.ndarray, network: Network, device: torch.device) -> torch.Tensor:
    """(n, H, W, 3) uint8 of the decoder -> (n, 3, H', W') uint8 on the device, resized."""
    frames = torch.from_numpy(pixels)
    if device.type == "cuda":
        frames = frames.pin_memory().to(device, non_blocking=True)
    frames = frames.permute(0, 3, 1, 2)  # (n, 3, H, W)
    return resize(frames, network.preprocessing.resize_px, network.preprocessing.interpolation)


def _send_off(video: _Video, last_number: int, network: Network, batches: ClipBatches) -> None:
    """Send every clip whose frames are all here; forget frames that no later clip needs."""
    while video.waiting and video.waiting[0].frames.max() <= last_number:
        clip = video.waiting.popleft()
        frames = [video.pixels[number] for number in clip.frames.tolist()]
        cut = take_crops(_one_size(frames), network.preprocessing.crop_px, batches.views.crops)  # (s, crops, 3, h, w)
        batches.add(video, clip.rows, cut.permute(1, 2, 0, 3, 4) if network.is_video else cut[0])
    needed_from = int(video.waiting[0].frames.min()) if video.waiting else last_number + 1
    for number in [number for number in video.pixels if number < needed_from]:
        del video.pixels[number]


def _one_size(frames: list[torch.Tensor]) -> torch.Tensor:
    """Frames of a clip as one tensor; where the picture's size changes within a clip, all take the first frame's."""
    first = frames[0]
    same = [f if f.shape == first.shape else resize(f[None], (first.shape[-2], first.shape[-1]), "bilinear")[0] for f in frames]
    return torch.stack(same)
