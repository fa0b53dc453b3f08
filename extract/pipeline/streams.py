"""Input and output of the extraction loop: streams with their networks, videos with the rows to
extract, and the results."""

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from reelbank.data.video.frames import Reading, VideoInfo
from reelbank.data.video.sampling import Examples, Needed, Sampling
from reelbank.data.video.sound import SoundInfo
from reelbank.extract.networks.build import Network
from reelbank.extract.networks.preprocessing import Resize, pair
from reelbank.extract.pipeline.batches import ClipBatches
from reelbank.extract.pipeline.crops import box_crop, take_crops, view_crop
from reelbank.extract.pipeline.items import as_large
from reelbank.extract.pipeline.tracks import Result, box_of_view, place_of_view
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

    def inputs_of_clip(
        self, items: Sequence[Tensor], rows: Sampling | Examples, *, view: int
    ) -> Tensor:
        """The network inputs of a clip, from its items (C, H, W) uint8: (crops, C, s, h, w), or for
        image networks (crops, s * C, h, w). view: number of the augmented view, 0 for clean
        rows."""
        assert self.network is not None and self.clean is not None
        crop_px, mirrored = self.network.preprocessing.crop_px, self.stream.mirrored
        clip = torch.stack([as_large(item, items[0]) for item in items])
        if view:
            assert isinstance(rows, Sampling) and self.augmented is not None
            crops = [self._view_crop(clip, rows, view, n) for n in range(self.augmented.crops)]
            cut = torch.cat(crops, 1)  # (s, crops, C, h, w)
        else:
            cut = take_crops(clip, crop_px, self.clean.crops, mirrored)  # (s, crops, C, h, w)
        if self.network.is_video:
            return cut.permute(1, 2, 0, 3, 4)
        return cut.transpose(0, 1).flatten(1, 2)  # of L flow fields: x1 y1 x2 y2 ...

    def _view_crop(self, clip: Tensor, rows: Sampling, view: int, number: int) -> Tensor:
        """One crop of a view of a clip (s, C, H, W) uint8: (s, 1, C, h, w)."""
        assert self.network is not None
        crop_px, mirrored = self.network.preprocessing.crop_px, self.stream.mirrored
        if not self.jitter:
            return view_crop(clip, crop_px, place_of_view(rows, view, number), mirrored)
        picture_px = (clip.shape[-2], clip.shape[-1])
        size_px = pair(crop_px)
        box = box_of_view(rows, view, number, picture_px=picture_px, crop_px=size_px)
        how = dataclasses.replace(self.resize, size_px=size_px, fill=None)
        return box_crop(clip, box, how, mirrored)


@dataclass(frozen=True)
class Task:
    """A video to extract. rows: the rows to compute, by the name of the pipeline."""

    key: Hashable
    path: Path
    rows: Mapping[str, Sampling | Examples]
    span_seconds: tuple[float, float] | None = None
    image_fps: float = 0.0

    def reading(self, decoder: str) -> Reading:
        """The request to the decode process: the pictures that the streams need together, and the
        sound."""
        samplings = tuple(rows for rows in self.rows.values() if isinstance(rows, Sampling))
        examples = next((rows for rows in self.rows.values() if isinstance(rows, Examples)), None)
        return Reading(
            Needed(samplings) if samplings else None,
            decoder,
            examples,
            self.span_seconds,
            self.image_fps,
        )


@dataclass(frozen=True)
class Extracted:
    """The result of a task. results: by pipeline; info, sound: facts about the file, None if they
    could not be read or were not requested."""

    key: Hashable
    results: Mapping[str, Result]
    info: VideoInfo | None
    sound: SoundInfo | None
