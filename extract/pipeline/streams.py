"""Input and output of the extraction loop: streams with their networks, videos with the rows to
extract, and the results."""

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reelbank.data.video.frames import Reading, VideoInfo
from reelbank.data.video.sampling import Examples, Needed, Sampling
from reelbank.data.video.sound import SoundInfo
from reelbank.extract.networks.build import Network
from reelbank.extract.networks.preprocessing import Resize, pair
from reelbank.extract.pipeline.batches import ClipBatches
from reelbank.extract.pipeline.crops import box_crop, corners, view_corner
from reelbank.extract.pipeline.gather import Corners, gather, on_device
from reelbank.extract.pipeline.items import Items, Piece
from reelbank.extract.pipeline.tracks import Clip, Result, box_of_view, place_of_view
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

    def fill(
        self, inputs: Tensor, items: Items, clips: Sequence[Clip], rows: Sampling | Examples
    ) -> None:
        """Fill network inputs with the crops of as many clips, which are all clean, or all of
        views. inputs: (B, crops, C, s, h, w), or for image networks (B, crops, s * C, h, w)."""
        assert self.network is not None
        by_item = (  # (B, crops, s, C, h, w)
            inputs.transpose(2, 3)
            if self.network.is_video
            else inputs.unflatten(2, (-1, self.stream.channels))
        )
        for piece in items.pieces(np.stack([clip.numbers for clip in clips])):
            some = clips[piece.clips]
            if not some[0].view:
                self._fill_clean(by_item[piece.clips], piece)
                continue
            assert isinstance(rows, Sampling)
            fill = self._fill_jittered if self.jitter else self._fill_views
            fill(by_item[piece.clips], piece, some, rows)

    def _fill_clean(self, inputs: Tensor, piece: Piece) -> None:
        crops = inputs.shape[1]
        picture_px = (piece.block.items.shape[-2], piece.block.items.shape[-1])
        places = corners(picture_px, self._crop_px, crops)
        is_mirrored = np.arange(crops) >= len(places)
        places *= 1 + int(is_mirrored.any())
        self._gather(inputs, piece, (tuple(places),), is_mirrored[None])

    def _fill_views(
        self, inputs: Tensor, piece: Piece, clips: Sequence[Clip], rows: Sampling
    ) -> None:
        picture_px = (piece.block.items.shape[-2], piece.block.items.shape[-1])
        of_view: dict[int, list[tuple[float, float, bool]]] = {}
        for view in {clip.view for clip in clips}:
            of_view[view] = [place_of_view(rows, view, crop) for crop in range(inputs.shape[1])]
        places = []
        for clip in clips:
            offsets = [(down, right) for down, right, _ in of_view[clip.view]]
            places.append(tuple(view_corner(picture_px, self._crop_px, at) for at in offsets))
        is_mirrored = np.array([[place[2] for place in of_view[clip.view]] for clip in clips])
        self._gather(inputs, piece, tuple(places), is_mirrored)

    def _fill_jittered(
        self, inputs: Tensor, piece: Piece, clips: Sequence[Clip], rows: Sampling
    ) -> None:
        """Views whose crops have several sizes in the picture, and one after a resize."""
        crops = inputs.shape[1]
        pictures = piece.block.items
        picture_px = (pictures.shape[-2], pictures.shape[-1])
        how = dataclasses.replace(self.resize, size_px=self._crop_px, fill=None)
        cuts: list[Tensor] = []
        frames = np.empty((len(clips), crops, inputs.shape[2]), np.int64)
        view_of_clip = np.array([clip.view for clip in clips])
        for view in np.unique(view_of_clip).tolist():
            of_view = view_of_clip == view
            used, positions = np.unique(piece.positions[of_view], return_inverse=True)
            shown = pictures.index_select(0, on_device(used, pictures.device))
            for crop in range(crops):
                box = box_of_view(rows, view, crop, picture_px=picture_px, crop_px=self._crop_px)
                frames[of_view, crop] = sum(map(len, cuts)) + positions.reshape(-1, inputs.shape[2])
                cuts.append(box_crop(shown, box, how, self.stream.mirrored))
        gather(inputs, torch.cat(cuts), frames, (((0, 0),) * crops,))

    def _gather(
        self, inputs: Tensor, piece: Piece, places: Corners, is_mirrored: np.ndarray
    ) -> None:
        """is_mirrored: (B or 1, crops) bool."""
        frames = piece.positions[:, None]  # (B, 1, s)
        if is_mirrored.any():
            frames = frames + is_mirrored[..., None] * len(piece.block.items)  # (B, crops, s)
            pictures = piece.block.with_mirrored(self.stream.mirrored)
        else:
            # Lines of pictures as decoded have gaps; a single crop is copied faster as it is.
            pictures = piece.block.without_gaps() if inputs.shape[1] > 1 else piece.block.items
        gather(inputs, pictures, frames, places)

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
