"""Input and output of the extraction loop: streams with their networks, videos with the rows to
extract, and the results."""

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reelbank.data.store.records import NO_SOUND, Failure
from reelbank.data.video.frames import VideoInfo
from reelbank.data.video.sampling import Examples, Sampling
from reelbank.data.video.sound import SoundInfo
from reelbank.extract.networks.build import Network
from reelbank.extract.networks.preprocessing import Resize, pair
from reelbank.extract.pipeline.batches import ClipBatches
from reelbank.extract.pipeline.copying import copy_crops, on_device
from reelbank.extract.pipeline.crops import box_crop, corners, view_corner
from reelbank.extract.pipeline.items import Items, Piece
from reelbank.extract.pipeline.tracks import Clip, Result, Track, box_of_view, place_of_view
from reelbank.extract.streams.base import Stream


@dataclass(frozen=True)
class StreamPipeline:
    """One stream with one network.

    name: unique within an extraction
    clean: batches of the clean rows, with all of their crops
    augmented: batches of the views, which have one crop, or with KEEP_CROPS as many as clean rows
    jitter: whether the crops of views have several sizes, as in TSN's training
    A stream without a network has neither network nor batches.
    """

    name: str
    stream: Stream
    network: Network | None
    clean: ClipBatches | None
    augmented: ClipBatches | None
    resize: Resize
    jitter: bool = False

    @property
    def looks(self) -> bool:
        """Whether the stream reads pictures, not sound."""
        return self.stream.input == "pictures"

    @property
    def front_end(self) -> Hashable:
        """For sound: pipelines with the same front end share its examples."""
        waves = self.network.waves if self.network else None
        return (self.stream.name, id(waves) if waves else None)

    def examples(self, waves: np.ndarray, device: torch.device) -> Tensor:
        """For sound: the network inputs (n, ...) of examples (n, samples), on the device."""
        own = self.network.waves if self.network else None
        inputs = own.prepare(waves) if own else torch.from_numpy(waves)
        if device.type == "cuda":
            inputs = inputs.pin_memory().to(device, non_blocking=True)
        return inputs if own else self.stream.examples(inputs)

    def absence(self, sound: SoundInfo) -> str:
        """For sound: the reason why an undamaged file has no rows; "" if it has some."""
        own = self.network.waves if self.network else None
        if own and sound.state != "none" and not sound.examples:
            windows = own.windows
            least_seconds = (windows.least_samples or windows.window_samples) / windows.rate_hz
            reason = (
                f"its sound track of {sound.seconds:.2f} s is shorter than the shortest example of "
                f"the network ({least_seconds:g} s)"
            )
            return str(Failure(reason, kind=NO_SOUND))
        return self.stream.absence(sound)

    def fill(
        self, inputs: Tensor, items: Items, clips: Sequence[Clip], rows: Sampling | Examples
    ) -> None:
        """Fill network inputs with the crops of as many clips, which are all clean, or all of one
        view. inputs: (B, crops, C, s, h, w), or for image networks (B, crops, s * C, h, w)."""
        assert self.network is not None
        by_item = (  # (B, crops, s, C, h, w)
            inputs.transpose(2, 3)
            if self.network.is_video
            else inputs.unflatten(2, (-1, self.stream.channels))
        )
        for piece in items.pieces(np.stack([clip.numbers for clip in clips])):
            some = by_item[piece.clips]
            view = clips[piece.clips.start].view
            if not view:
                self._fill_clean(some, piece)
                continue
            assert isinstance(rows, Sampling)
            fill = self._fill_jittered_view if self.jitter else self._fill_view
            fill(some, piece, view, rows)

    def hear(self, track: Track, examples: Tensor, seconds: np.ndarray) -> None:
        """For sound: add examples (n, ...) of a video, with their centres (n,), to their batch."""
        if track.reason:
            return
        rows = track.append(seconds.tolist())
        if self.clean is None:
            track.put(rows, [examples.cpu().numpy()])
            return
        while rows:
            inputs = self.clean.free(len(rows))  # (n, 1, ...)
            inputs[:, 0] = examples[: len(inputs)]
            self.clean.add(track, rows[: len(inputs)])
            rows, examples = rows[len(inputs) :], examples[len(inputs) :]

    def _fill_clean(self, inputs: Tensor, piece: Piece) -> None:
        crops, block = inputs.shape[1], piece.block
        assert self.network is not None
        centre = self.network.preprocessing.centre
        places = corners(block.picture_px, self._crop_px, crops, centre)
        if crops == 1:
            pictures = block.items[None]  # a single crop is copied fastest as it was decoded
        elif crops == len(places):
            pictures = block.without_gaps()[None]
        else:
            pictures = block.with_mirrored(self.stream.mirrored)
        copy_crops(inputs.unflatten(1, (len(pictures), -1)), pictures, piece.positions, places)

    def _fill_view(self, inputs: Tensor, piece: Piece, view: int, rows: Sampling) -> None:
        """Fill inputs of one view."""
        for crop in range(inputs.shape[1]):
            down, right, is_mirrored = place_of_view(rows, view, crop)
            corner = view_corner(piece.block.picture_px, self._crop_px, (down, right))
            pictures = piece.block.items[None]
            if is_mirrored:
                pictures = piece.block.with_mirrored(self.stream.mirrored)[1:]
            copy_crops(inputs[:, None, crop : crop + 1], pictures, piece.positions, [corner])

    def _fill_jittered_view(self, inputs: Tensor, piece: Piece, view: int, rows: Sampling) -> None:
        """Fill inputs of one view whose crops have several sizes in the picture, and one after a
        resize."""
        block, how = piece.block, dataclasses.replace(self.resize, size_px=self._crop_px, fill=None)
        used, positions = np.unique(piece.positions, return_inverse=True)
        pictures = block.items.index_select(0, on_device(used, block.items.device))
        for crop in range(inputs.shape[1]):
            box = box_of_view(rows, view, crop, picture_px=block.picture_px, crop_px=self._crop_px)
            cut = box_crop(pictures, box, how, self.stream.mirrored)[None]
            frames = positions.reshape(piece.positions.shape)
            copy_crops(inputs[:, None, crop : crop + 1], cut, frames, [(0, 0)])

    @property
    def _crop_px(self) -> tuple[int, int]:
        assert self.network is not None
        return pair(self.network.preprocessing.crop_px)


@dataclass(frozen=True)
class Task:
    """A video to extract. rows: the rows to compute, by the name of the pipeline."""

    key: Hashable
    path: Path
    rows: Mapping[str, Sampling | Examples]
    span_seconds: tuple[float, float] | None = None
    image_fps: float = 0.0


@dataclass(frozen=True)
class Extracted:
    """The result of a task. results: by pipeline; info, sound: facts about the file, None if they
    could not be read or were not requested."""

    key: Hashable
    results: Mapping[str, Result]
    info: VideoInfo | None
    sound: SoundInfo | None
