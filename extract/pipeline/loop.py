"""The extraction loop: decode processes -> uint8 frames -> device: resize, flow, crops, networks,
mean over crops -> features.

Every video is decoded once for all streams. All steps overlap: workers decode ahead while the
device computes, results are fetched one batch late, and a batch may hold clips of several videos.
"""

import time
from collections.abc import Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reelbank.data.system.machine import cores
from reelbank.data.video.frames import Reading
from reelbank.data.video.functions import reason_of
from reelbank.data.video.messages import (
    Computed,
    Done,
    Failed,
    Frames,
    Message,
    NotComputed,
    Restart,
    Sound,
    SoundDone,
    SoundFailed,
    SoundRestart,
    Start,
    Times,
)
from reelbank.data.video.pool import DecodePool
from reelbank.data.video.sampling import Followed, Rows, Sampling
from reelbank.data.video.timeline import FrameCount, TooManyTicks
from reelbank.extract.flow.methods import FlowMethod
from reelbank.extract.networks.preprocessing import Resize
from reelbank.extract.pipeline.batches import ClipBatches
from reelbank.extract.pipeline.copying import (
    frames_on_device,
    lent_on_device,
    own_copy,
    pinned,
)
from reelbank.extract.pipeline.crops import resize
from reelbank.extract.pipeline.items import Items
from reelbank.extract.pipeline.progress import VideoInProgress
from reelbank.extract.pipeline.shares import reading_of, shares_of
from reelbank.extract.pipeline.streams import Extracted, StreamPipeline, Task
from reelbank.extract.pipeline.tracks import Clip, Track


class Extraction:
    """Extracts features of videos for several streams, decoding each video once.

    Counters: `videos` and `frames` that were decoded; `again`: videos that were decoded a second
    time because their header states a wrong number of frames; `read`: videos, damaged or not, whose
    file the machine could read.
    """

    def __init__(
        self,
        pipelines: Iterable[StreamPipeline],
        flow: FlowMethod | None,
        device: torch.device,
        dtype: type[np.floating] = np.float16,
        wait_seconds: float = 30.0,
    ) -> None:
        """dtype: of the returned features; wait_seconds: longest time that a decoded video waits
        until its last batch is full."""
        self.pipelines = {pipeline.name: pipeline for pipeline in pipelines}
        self.flow, self.device = flow, device
        self.dtype, self.wait_seconds = np.dtype(dtype), wait_seconds
        self.frames, self.videos, self.again, self.read = 0, 0, 0, 0
        self.threads: ThreadPoolExecutor | None = None  # for followers, while `run` runs

    def run(
        self, tasks: Iterable[Task], pool: DecodePool, decoder: str = "auto"
    ) -> Iterator[Extracted]:
        """Yield each video when its features are complete or it has failed.

        Memory is bounded by the frames in flight between the workers and the loop, the clips that
        wait for their last frame, two batches, and the features of unfinished videos.
        """
        threads = ThreadPoolExecutor(cores().value, thread_name_prefix="reelbank-follow")
        with threads as self.threads, pinned(pool.rings, self.device):
            yield from self._run(tasks, pool, decoder)

    def _run(self, tasks: Iterable[Task], pool: DecodePool, decoder: str) -> Iterator[Extracted]:
        under_way: dict[Hashable, VideoInProgress] = {}
        # Videos that are decoded, in that order; some of their features may still be computed.
        complete: dict[Hashable, VideoInProgress] = {}
        waiting_since = 0.0

        def readings() -> Iterator[tuple[Hashable, Path, Reading]]:
            for task in tasks:
                video = under_way[task.key] = VideoInProgress(
                    task,
                    {name: Track(self.dtype) for name in task.rows},
                    shares=shares_of(task, self.pipelines, self.flow),
                )
                yield task.key, task.path, reading_of(task, decoder, video.shares)

        for key, message in pool.run(readings()):
            video = under_way[key]
            if isinstance(message, Done | Failed):
                self._end(video, message)
                waiting_since = waiting_since if complete else time.monotonic()
                complete[key] = under_way.pop(key)
            else:
                self._receive(video, message)
            if complete and time.monotonic() - waiting_since > self.wait_seconds:
                # Some batch fills slowly, for example because few of the videos have sound.
                self._flush()
                waiting_since = time.monotonic()
            yield from self._ready(complete)
        self._flush()
        yield from self._ready(complete)
        assert not complete, f"features of {list(complete)[:3]} never came back"

    def _flush(self) -> None:
        """Compute all batches, also those that are not full."""
        for pipeline in self.pipelines.values():
            for batches in (pipeline.clean, pipeline.augmented):
                if batches:
                    batches.finish()

    def _ready(self, complete: dict[Hashable, VideoInProgress]) -> Iterator[Extracted]:
        """Remove the videos whose features are complete, and yield them."""
        ready = [
            key
            for key, video in complete.items()
            if not any(track.missing for track in video.tracks.values())
        ]
        for key in ready:
            video = complete.pop(key)
            results = {name: track.result() for name, track in video.tracks.items()}
            yield Extracted(key, results, video.info, video.sound)

    def _receive(self, video: VideoInProgress, message: Message) -> None:
        """Process a message of the decoder that does not end the video."""
        if isinstance(message, Start):
            self._start(video, message.frames)
        elif isinstance(message, Restart):
            # The header states a wrong number of frames, so the decoder begins again.
            for name in video.tracks:
                if self.pipelines[name].looks:
                    video.tracks[name] = Track(self.dtype)
            video.seconds.clear()
            video.rows.clear()
            self.again += 1
        elif isinstance(message, Frames):
            self._see(video, message)
        elif isinstance(message, Times):
            video.seconds.update(
                zip(message.numbers.tolist(), message.seconds.tolist(), strict=True)
            )
        elif isinstance(message, Computed):
            self._take(video, message)
        elif isinstance(message, NotComputed):
            for name in video.shares[message.function].names:
                video.tracks[name].fail(message.reason)
        elif isinstance(message, Sound):
            self._listen(video, message)
        elif isinstance(message, SoundRestart):
            for name in self._listening(video):
                video.tracks[name] = Track(self.dtype)
        elif isinstance(message, SoundDone):
            video.sound = message.info
            for name in self._listening(video):
                if reason := self.pipelines[name].absence(message.info):
                    video.tracks[name].fail(reason)
        elif isinstance(message, SoundFailed):
            for name in self._listening(video):
                video.tracks[name].fail(message.reason, by_machine=message.by_machine)

    def _listening(self, video: VideoInProgress) -> list[str]:
        """Names of the pipelines that read sound."""
        return [name for name in video.tracks if not self.pipelines[name].looks]

    def _looking(self, video: VideoInProgress) -> list[str]:
        """Names of the pipelines that read pictures and have not failed."""
        return [
            name
            for name, track in video.tracks.items()
            if self.pipelines[name].looks and not track.reason
        ]

    def _start(self, video: VideoInProgress, frames: FrameCount) -> None:
        """Choose the rows of a video with these frames, and prepare their items."""
        assert self.threads is not None
        video.items.clear()
        shared_names = video.shared_names
        shared: dict[tuple[str, Resize], Items] = {}
        for name, rows in video.task.rows.items():
            pipeline = self.pipelines[name]
            if not isinstance(rows, Sampling):
                continue
            if isinstance(rows, Followed) and name in shared_names:
                continue  # its rows come as they are
            if follower := pipeline.stream.follower(rows, self.threads):
                video.followers[name] = follower
                continue
            track = video.tracks[name]
            try:
                of_video = Rows(*rows.rows(frames))  # the class of a user may give a plain tuple
            except TooManyTicks as error:
                track.fail(reason_of(error))
                continue
            track.start(of_video, fields=rows.fields)
            key = (pipeline.stream.name, pipeline.resize)
            items = shared.setdefault(
                key,
                Items(pipeline.stream, pipeline.resize, np.empty(0, np.int64), of_video.pictures),
            )
            items.need(track.grid)
            video.items[name] = items

    def _see(self, video: VideoInProgress, message: Frames) -> None:
        """Process pictures that the decoder selected."""
        looking = [name for name in self._looking(video) if name not in video.shared_names]
        if not looking:
            message.release()
            return
        numbers = message.numbers
        video.seconds.update(zip(numbers.tolist(), message.seconds.tolist(), strict=True))
        with frames_on_device(message, self.device) as frames:  # (n, 3, H, W)
            for items, names in video.distinct_items():
                if users := [name for name in looking if name in names]:
                    with video.failing(users):
                        items.take(numbers, frames, self.flow)
            for name in looking:
                if name in video.followers:
                    with video.failing([name]):
                        self._follow(name, video, frames)
        for items, names in video.distinct_items():
            if not video.shared_names.intersection(names):
                self._send_off(video, items, names, items.complete_until(int(numbers[-1])))

    def _take(self, video: VideoInProgress, message: Computed) -> None:
        """Process what the decode process computed."""
        names = [
            name for name in video.shares[message.function].names if not video.tracks[name].reason
        ]
        if not names:
            message.release()
            return
        if names[0] not in video.items:  # rows
            video.rows.setdefault(names[0], []).append((message.values.copy(), message.numbers))
            message.release()
            return
        items = video.items[names[0]]
        fields_on_device = lent_on_device(message.values, message, self.device)
        with fields_on_device as fields, video.failing(names):
            items.take_fields(message.numbers, fields)
        self._send_off(video, items, names, int(message.numbers[-1]))

    def _follow(self, name: str, video: VideoInProgress, frames: Tensor) -> None:
        """Give pictures (n, 3, H, W) to the follower of a stream."""
        resized = resize(frames, self.pipelines[name].resize)  # (n, 3, H', W')
        pictures = own_copy(resized.movedim(1, -1).contiguous(), lent=frames)
        video.followers[name].see(pictures.cpu().numpy())

    def _send_off(
        self, video: VideoInProgress, items: Items, names: Sequence[str], last_number: int
    ) -> None:
        """Send off every clip whose items have all been computed, up to `last_number`, and drop the
        items that no later clip needs. names: of the pipelines that use the items."""
        needed_from = last_number + 1
        for name in names:
            track = video.tracks[name]
            if clips := track.ready(last_number):
                self._show(name, video, clips)
            if track.waiting:
                needed_from = min(needed_from, track.waiting[0].first)
        items.forget(needed_from)

    def _show(self, name: str, video: VideoInProgress, clips: Sequence[Clip]) -> None:
        """Add the items of clips to their batch; without a network they become the clips' rows."""
        pipeline, items = self.pipelines[name], video.items[name]
        if pipeline.network is None:
            with video.failing([name]):
                for piece in items.pieces(np.stack([clip.numbers for clip in clips])):
                    rows = piece.block.items.numpy()[piece.positions]  # (B, s) or (B, s, D)
                    of_clips = [clip.rows for clip in clips[piece.clips]]
                    video.tracks[name].put(of_clips, [rows.reshape(len(rows), -1)])
            return
        if self.device.type == "cuda":  # few groups are few operations
            clips = sorted(clips, key=attrgetter("view"))
        for view, of_view in groupby(clips, attrgetter("view")):
            batches = pipeline.augmented if view else pipeline.clean
            assert batches is not None
            self._fill(name, video, list(of_view), batches)

    def _fill(
        self,
        name: str,
        video: VideoInProgress,
        clips: Sequence[Clip],
        batches: ClipBatches,
    ) -> None:
        """Add the network inputs of clips of one view to batches."""
        pipeline, track = self.pipelines[name], video.tracks[name]
        while clips and not track.reason:
            inputs = batches.free(len(clips))
            some, clips = clips[: len(inputs)], clips[len(inputs) :]
            with video.failing([name]):
                pipeline.fill(inputs, video.items[name], some, video.task.rows[name])
            # A batch has clips of several videos, so an error inside the network is not the fault
            # of this video: it ends the run.
            if not track.reason:
                batches.add(track, [clip.rows for clip in some])

    def _listen(self, video: VideoInProgress, message: Sound) -> None:
        """Process sound examples that the decoder selected."""
        by_front_end: dict[Hashable, list[str]] = {}
        for name in self._listening(video):
            if not video.tracks[name].reason:
                by_front_end.setdefault(self.pipelines[name].front_end, []).append(name)
        for names in by_front_end.values():
            examples = None
            with video.failing(names):
                examples = self.pipelines[names[0]].examples(message.waves, self.device)
            if examples is None:
                continue
            for name in names:
                self.pipelines[name].hear(video.tracks[name], examples, message.seconds)

    def _end(self, video: VideoInProgress, message: Done | Failed) -> None:
        """Process the decoder's last message about a video."""
        if isinstance(message, Failed):
            self.read += not message.by_machine
            for name, track in video.tracks.items():
                # The sound may be complete although the pictures failed. If it is not, the file
                # could not be opened.
                sound_failed = video.sound is None and not track.reason
                if self.pipelines[name].looks or sound_failed:
                    track.fail(message.reason, by_machine=message.by_machine)
            return
        self.read += 1
        video.info = info = message.info
        if any(self.pipelines[name].looks for name in video.tracks):
            self.videos += 1
            self.frames += info.frames
        if info.frames == 1:
            for items, names in video.distinct_items():
                if video.shared_names.intersection(names):
                    continue  # the decode process has computed it
                users = [name for name in self._looking(video) if name in names]
                with video.failing(users):
                    items.only_picture(self.flow)
        for items, names in video.distinct_items():
            self._send_off(video, items, names, int(items.numbers.max(initial=info.frames)))
        for name in self._looking(video):
            with video.failing([name]):
                if name in video.rows or name in video.followers:
                    rows, middles = video.whole_rows(name)
                    times = [video.seconds[middle] for middle in middles.tolist()]
                    video.tracks[name].fill(rows, np.array(times))
                else:
                    video.tracks[name].times(video.seconds)
        video.items.clear()
        video.followers.clear()
